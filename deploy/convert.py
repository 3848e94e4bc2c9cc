"""Turn core graphs and spikes from one file format into another, without loss or not at all.

python -m deploy.convert models/Pong/chip.npz pong.json                         to IBM's model JSON
python -m deploy.convert pong.json back.npz --as-chip models/Pong/chip.npz      and back to a chip that plays
python -m deploy.convert grid.input.json grid.npz                               from RANC, grid.config.json beside it
python -m deploy.convert grid.npz grid.ranc.json --spikes spikes.npz            to RANC with these packets
python -m deploy.convert input.sfti.gz spikes.npz                               spikes alone
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from deploy.chip import CompileError
from deploy.compiled import load_compiled, save_compiled, with_graph
from deploy.emulator import EmulationError
from deploy.files import FormatError
from deploy.formats import SPIKES, Loaded, kind_at, kind_of_name, load, load_spikes, save, save_spikes
from deploy.spikes import AxonSpikes, LineSpikes, on_axons

TARGETS = {"ours": "graph", "ibm": "ibm", "ranc": "ranc"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 where the files are written; else 1, one error, and nothing written."""
    args = _parser().parse_args(arguments)
    try:
        made = convert(args)
    except (FormatError, CompileError, EmulationError, OSError) as error:
        print(f"convert: {error}", file=sys.stderr)
        return 1
    print(f"wrote {', '.join(map(str, made))}")
    return 0


def convert(args: argparse.Namespace) -> list[Path]:
    """The files made of `source`."""
    kind = TARGETS.get(args.to) or kind_of_name(args.target)
    if kind is None:
        raise FormatError(
            f"{args.target}: the name tells no format, allowed .npz, .json, .ranc.json; or name one by --to"
        )
    found = kind_at(args.source)
    if problems := list(unused(args, found, kind)):
        raise FormatError("\n".join(problems))
    if found in SPIKES or (found == "ranc" and kind in SPIKES):
        save_spikes(load_spikes(args.source, args.config), args.target, kind)
        return [args.target]
    loaded = load(args.source, args.config)
    if args.as_chip is not None:
        return _as_chip(loaded, args.as_chip, args.target)
    if args.spikes is not None:
        loaded = replace(loaded, spikes=_packets(loaded, args.spikes))
    elif found == "ranc":
        loaded = replace(loaded, spikes=None)  # its own packets, as they stood, ride in `extra`
    return save(loaded, args.target, kind)


def unused(args: argparse.Namespace, found: str, kind: str) -> Iterator[str]:
    """Options that a conversion from `found` to `kind` has no use for, as complaints."""
    spikes = f"{args.source} holds spikes ({found})" if found in SPIKES else None
    for option, given, wanted, allowed in (
        ("--spikes", args.spikes, "ranc", "a RANC input, .ranc.json"),
        ("--as-chip", args.as_chip, "graph", "a chip of ours, .npz"),
    ):
        if given is not None and (spikes or kind != wanted):
            what = spikes or f"{args.target} is to be of kind {kind}"
            yield f"{option}: {what}, allowed is a graph that becomes {allowed}; leave {option} out"


def _packets(loaded: Loaded, path: Path) -> AxonSpikes:
    spikes = load_spikes(path)
    if isinstance(spikes, LineSpikes):
        return on_axons(loaded.graph, spikes)
    if not isinstance(spikes, AxonSpikes):
        raise FormatError(f"{path}: spikes of pins, must be of axons or lines; name an input")
    return spikes


def _as_chip(loaded: Loaded, like: Path, target: Path) -> list[Path]:
    """Put the graph into a compiled student in place of its own, which has to fit all its rules."""
    chip, origin = load_compiled(like)
    save_compiled(with_graph(chip, loaded.graph, str(like)), target, origin)
    return [target]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deploy.convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="a graph, a chip, an IBM model, a RANC input, or spikes")
    parser.add_argument(
        "target", type=Path, help=".npz ours, .json IBM, .ranc.json RANC; for spikes .npz .csv .sfti .sfri"
    )
    parser.add_argument("--to", choices=sorted(TARGETS), help="the target's format where its name does not tell it")
    parser.add_argument("--config", type=Path, help="RANC's config of the source; by default beside it")
    parser.add_argument("--spikes", type=Path, help="spikes that a RANC target gets as packets")
    parser.add_argument("--as-chip", type=Path, metavar="CHIP", help="write this compiled student with the new graph")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

"""Run a core graph of any file format on spikes of any file format and write what leaves it.

    python -m deploy.run grid.input.json --ticks 226 --output out.txt               RANC's packets in, its text out
    python -m deploy.run mnist_neil2.json --input input.sfti.gz --ticks 1000 --output out.csv
    python -m deploy.run models/Pong/chip.npz --input lines.npz --ticks 500 --output out.npz --engine plain

Without --input a RANC input file runs on its own packets and any other graph on silence. Spikes of axons may name any
axon, spikes of lines only the graph's own lines. In text, cores of IBM's models go by the ids of their file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.emulator import EmulationError
from deploy.engines import ENGINES, engine_named
from deploy.files import FormatError, write_whole
from deploy.formats import Loaded, kind_at, kind_of_name, load, load_spikes, save_spikes
from deploy.ranc import output_text
from deploy.spikes import AxonSpikes, LineSpikes, PinSpikes, Spikes, addressed, all_pins, run

FORMATS = {"npz": "spikes", "csv": "csv", "ranc": "ranc_output"}
NAMED_CORES = ("sfti", "sfri", "csv")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 where the output is written; else 1, one error, and nothing written."""
    args = _parser().parse_args(arguments)
    try:
        count = _run(args)
    except (FormatError, EmulationError, OSError) as error:
        print(f"run: {error}", file=sys.stderr)
        return 1
    print(f"{count} output spikes in {args.ticks} ticks, written to {args.output}")
    return 0


def _run(args: argparse.Namespace) -> int:
    if not 1 <= args.ticks < 1 << 31:
        raise EmulationError(f"ticks: found {args.ticks}, allowed 1..{(1 << 31) - 1}; name one of these")
    kind = FORMATS.get(args.format) or _output_kind(args.output)
    loaded = load(args.graph, args.config)
    ids = core_ids(loaded)
    found = output(loaded, _input(args, loaded, ids), args.ticks, args.engine, args.seed)
    if kind == "ranc_output":
        bits = found.bits(args.ticks, all_pins(loaded.graph))
        write_whole(args.output, output_text(bits).encode())
    else:
        named = replace(found, core=ids[found.core].astype(np.int32)) if kind == "csv" else found
        save_spikes(named, args.output, kind)
    return len(found.tick)


def output(loaded: Loaded, spikes: Spikes, ticks: int, engine: str, seed: int | None = None) -> PinSpikes:
    """What leaves a graph while spikes enter it; raises EmulationError where these are none of its input."""
    graph = loaded.graph
    if isinstance(spikes, PinSpikes):
        raise EmulationError("input: spikes of pins, must be of axons or lines; name an input file")
    if isinstance(spikes, AxonSpikes):
        graph, spikes = addressed(graph, spikes)
    return run(engine_named(engine)(graph, seed=seed), spikes, ticks)


def core_ids(loaded: Loaded) -> NDArray[np.int64]:
    """[C] what the graph's file calls its cores."""
    facts: Mapping[str, Any] = loaded.extra.get("ibm") or {}
    ids = [core["id"] for core in facts.get("cores", ())]
    cores = loaded.graph.shape[0]
    return np.array(ids, np.int64) if len(ids) == cores else np.arange(cores)


def _input(args: argparse.Namespace, loaded: Loaded, ids: NDArray[np.int64]) -> Spikes:
    if args.input is None:
        none = np.zeros(0, np.int32)
        return loaded.spikes or LineSpikes(none, none.copy())
    spikes = load_spikes(args.input, args.config)
    if isinstance(spikes, AxonSpikes) and kind_at(args.input) in NAMED_CORES:
        return _by_index(spikes, ids)
    return spikes


def _by_index(spikes: AxonSpikes, ids: NDArray[np.int64]) -> AxonSpikes:
    """Cores of a model's file by their place in the graph."""
    order = np.argsort(ids)
    place = np.minimum(np.searchsorted(ids[order], spikes.core), len(ids) - 1)
    unknown = spikes.core[ids[order][place] != spikes.core]
    if unknown.size:
        raise EmulationError(
            f"input: {unknown.size} spikes to cores that are none, first {unknown[0]}; name the spikes of this graph"
        )
    return replace(spikes, core=order[place].astype(np.int32))


def _output_kind(path: Path) -> str:
    kind = {"graph": "spikes", "csv": "csv", "ranc_output": "ranc_output"}.get(kind_of_name(path) or "")
    if kind is None:
        raise FormatError(
            f"{path}: the name tells no format, allowed .npz, .csv, .csv.gz, .txt; or name one by --format"
        )
    return kind


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deploy.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("graph", type=Path, help="a graph or chip of ours, an IBM model, or a RANC input")
    parser.add_argument(
        "--input", type=Path, help="spikes: .npz, .csv, .sfti, .sfri, also gzipped, or a RANC input's packets"
    )
    parser.add_argument("--ticks", type=int, required=True, help="how many to run")
    parser.add_argument("--output", type=Path, required=True, help=".npz ours, .csv tick,pin,core,neuron, .txt RANC's")
    parser.add_argument("--format", choices=sorted(FORMATS), help="the output's format where its name does not tell it")
    parser.add_argument("--engine", choices=sorted(ENGINES), default="lazy")
    parser.add_argument("--seed", type=int, help="of stochastic neurons; a graph that has any needs one")
    parser.add_argument("--config", type=Path, help="RANC's config; by default beside the input file")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

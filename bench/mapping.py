"""Cores that students take: published networks beside IBM's own counts, and the student that plays Pong.

Weights of the published shapes are random. Each is compiled with every input spike split on the chip, with some and
with all copies injected by the host, with and without exact reductions; places are left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.chips import DATA, GAME, published_students
from bench.report import FOLDER, write_report
from deploy.chip import Chip, chip_named
from deploy.compiler import unplaced
from deploy.cores import graph_arrays
from deploy.reduce import REDUCTIONS
from deploy.spec import StudentSpec, load_spec
from rl.settings import SettingsError
from rl.stages import STUDENT, find

EVERY_COPY = 1 << 16  # beyond what any chip reads of one line
PARTS = ("cores", "naive cores", "layer cores", "input fan-out cores", "interior splitter cores", "crossbars")


def students(root: str = "runs", folder: Path = DATA) -> Iterator[tuple[str, StudentSpec, int | None]]:
    """(name, student, cores that IBM reports or None)."""
    yield from published_students(folder)
    try:
        path = find(STUDENT, GAME, root)
    except SettingsError:  # nobody has made one yet
        return
    yield GAME, load_spec(path)[0], None


def row(
    name: str,
    spec: StudentSpec,
    reported: int | None,
    chip: Chip,
    copies: int,
    reduced: bool,
    splitters: bool = True,
) -> dict[str, Any]:
    """One compilation: cores by kind and by layer, seconds, bytes of the graph's arrays."""
    start = time.perf_counter()
    made, use = unplaced(spec, chip, copies, REDUCTIONS if reduced else (), splitters=splitters)
    wall_s = time.perf_counter() - start
    return {
        "network": name,
        "host_copies": "all" if copies >= EVERY_COPY else copies,
        "reduced": reduced,
        "splitters_allowed": splitters,
        "reported": reported,
        **{part.replace(" ", "_").replace("-", "_"): use.total[part][0] for part in PARTS},
        "ticks": use.total["ticks to the votes"][0],
        "saved": use.saved,
        "stages": [asdict(stage) for stage in use.stages],
        "array_bytes": int(np.sum([array.nbytes for array in graph_arrays(made.graph).values()])),
        "compile_s": wall_s,
    }


def measure(
    nets: Iterator[tuple[str, StudentSpec, int | None]], chip: Chip, copies: Sequence[int]
) -> list[dict[str, Any]]:
    """Every network with each number of copies, plain and reduced; last with the most copies and no splitters."""
    ways = [(host, reduced, True) for host in copies for reduced in (False, True)] + [(max(copies), False, False)]
    return [row(*net, chip, *way) for net in nets for way in ways]


def table(rows: Sequence[dict[str, Any]], chip: Chip) -> Table:
    """The rows for people."""
    heads = ("network", "IBM", "naive", "host copies", "reduced", "cores", "layers", "input", "splitters", "ticks", "s")
    shown = Table(*heads, title=f"cores on {chip.name}")
    for r in rows:
        cores = (f"{r[key]:,}" for key in ("cores", "layer_cores", "input_fan_out_cores", "interior_splitter_cores"))
        ibm = f"{r['reported']:,}" if r["reported"] else ""
        plain = (r["network"], ibm, f"{r['naive_cores']:,}", str(r["host_copies"]), _how(r))
        shown.add_row(*plain, *cores, str(r["ticks"]), f"{r['compile_s']:.1f}")
    return shown


def _how(found: dict[str, Any]) -> str:
    return ("yes" if found["reduced"] else "no") + ("" if found["splitters_allowed"] else ", whole")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chip", default="ns1e")
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 2, EVERY_COPY], help="host copies of each line")
    parser.add_argument("--root", default="runs")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    own = parser.parse_args()
    chip = chip_named(own.chip)
    rows = measure(students(own.root, own.data), chip, own.copies)
    path = write_report("mapping", rows, {"chip": asdict(chip), "reductions": dict(REDUCTIONS)}, own.folder)
    Console().print(table(rows, chip), f"written to {path}")


if __name__ == "__main__":
    main()

"""Ticks a second of the plain emulator and of the fast engine, beside the memory bandwidth of the same minute.

dense: a new random picture in every tick. held: one picture for as many ticks as it takes to the votes, as play does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.chips import measured_chip
from bench.report import FOLDER, write_report
from deploy.compiled import Compiled
from deploy.cores import CoreGraph
from deploy.emulator import Bits, Emulator
from deploy.engine import LazyEngine
from deploy.engines import Engine
from deploy.runner import ChipRunner

COPY_BYTES = 1 << 28  # far beyond any cache


def summary(name: str, unit: str, values: Sequence[float]) -> dict[str, Any]:
    """Median and spread of several runs."""
    low, median, high = (float(value) for value in np.percentile(values, (0, 50, 100)))
    return {"what": name, "unit": unit, "median": median, "low": low, "high": high, "runs": len(values)}


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def pictures(n_inputs: int, count: int) -> Bits:
    """Random lines [count, I], half of them set."""
    return np.random.default_rng(1).random((count, n_inputs)) < 0.5


def ticks_a_second(engine: Engine, lines: Bits, ticks_each: int) -> float:
    """Hold each row of lines so many ticks."""

    def work() -> None:
        for row in lines:
            engine.hold(row, ticks_each)

    return len(lines) * ticks_each / seconds(work)


def ms_a_decision(runner: ChipRunner, lines: Bits) -> float:
    """From bits to votes, mean over the pictures."""

    def work() -> None:
        for row in lines:
            runner.answer(row)

    return 1000 * seconds(work) / len(lines)


def copied_gb_a_second(source: NDArray[np.uint8], target: NDArray[np.uint8]) -> float:
    """Bytes read and written by one copy."""
    return 2 * source.nbytes / seconds(lambda: np.copyto(target, source)) / 1e9


def engine_rows(
    name: str, make: Callable[[CoreGraph], Engine], compiled: Compiled, ticks: int, runs: int
) -> list[dict[str, Any]]:
    """What one engine does: dense, held, and from bits to votes."""
    runner, wait = ChipRunner(compiled, make), compiled.latency_ticks
    lines = pictures(compiled.graph.n_inputs, ticks)
    few = lines[: max(1, ticks // wait)]
    runner.answer(lines[0])  # loads the kernels
    dense = [ticks_a_second(runner.engine, lines, 1) for _ in range(runs)]
    held = [ticks_a_second(runner.engine, few, wait) for _ in range(runs)]
    decision = [ms_a_decision(runner, few) for _ in range(runs)]
    return [
        summary(f"{name}, dense", "ticks/s", dense),
        summary(f"{name}, held", "ticks/s", held),
        summary(f"{name}, a decision", "ms", decision),
    ]


def measure(compiled: Compiled, runs: int, ticks: int, plain_ticks: int, copy_bytes: int) -> list[dict[str, Any]]:
    """All rows of the report."""
    source, target = np.ones((2, copy_bytes), np.uint8)
    return [
        *engine_rows("plain emulator", Emulator, compiled, plain_ticks, runs),
        *engine_rows("lazy engine", LazyEngine, compiled, ticks, runs),
        summary("limit: memory copy", "GB/s", [copied_gb_a_second(source, target) for _ in range(runs)]),
    ]


def table(rows: Sequence[dict[str, Any]], title: str) -> Table:
    """Rows of `summary` for people."""
    shown = Table("what", "median", "lowest", "highest", "unit", "runs", title=title)
    for row in rows:
        values = (f"{row[key]:,.2f}" for key in ("median", "low", "high"))
        shown.add_row(row["what"], *values, row["unit"], str(row["runs"]))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--ticks", type=int, default=2000, help="of the fast engine, in each run")
    parser.add_argument("--plain-ticks", type=int, default=100)
    parser.add_argument("--copy-bytes", type=int, default=COPY_BYTES)
    parser.add_argument("--root", default="runs")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    own = parser.parse_args()
    _, compiled, which = measured_chip(own.root)
    rows = measure(compiled, own.runs, own.ticks, own.plain_ticks, own.copy_bytes)
    cores, _, neurons = compiled.graph.shape
    extra: dict[str, Any] = {
        "chip": which,
        "graph": compiled.digest,
        "cores": cores,
        "latency_ticks": compiled.latency_ticks,
    }
    extra["real_chip_ticks_per_s"] = 1000  # by design, not measured here
    path = write_report("emulator", rows, extra, own.folder)
    title = f"{which}: {cores:,} cores of {neurons} neurons, {compiled.latency_ticks} ticks to the votes"
    Console().print(table(rows, title), f"written to {path}")


if __name__ == "__main__":
    main()

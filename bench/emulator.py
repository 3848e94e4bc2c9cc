"""The engines side by side, from one core to NS16e's sixty thousand, beside what the memory and the processor allow.

dense: a new random picture in every tick. held: one picture for as many ticks as it takes to the votes, as play does.
full chip: 4,096 cores with nothing in common, a fifth of all axons active. frame: one picture through a levelled graph.
like RANC's: a network of trinary weights, of the size and kind that RANC's simulator was measured on, one thread, every
spike of every tick recorded. With `--ranc PATH` that simulator takes its turn on the same graph and input, its output
checked.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.chips import measured_chip
from bench.graphs import busy_graph, layered_graph
from bench.limits import counted_gwords_a_second, processors, read_gb_a_second
from bench.ranc import output_of, processor_s, ranc_core_tick_s, write_case
from bench.report import FOLDER, write_report
from deploy.batch import BatchRunner
from deploy.compiled import Compiled
from deploy.cores import CoreGraph
from deploy.damage import no_damage
from deploy.dense import DenseEngine
from deploy.dense_layout import layout_of
from deploy.emulator import Bits, Emulator
from deploy.engine import LazyEngine
from deploy.engines import Engine
from deploy.runner import ChipRunner
from deploy.wave import Wave, WaveRunner

LEVELS = 15  # of the frame graphs: as many as IBM's one-chip networks have
# RANC's simulator, Release build, on one core of a two-core AVX-512 Xeon: quoted where no --ranc gives one to measure.
RANC_MS_A_CORE_TICK = (0.35, 0.5)
BESIDE_RANC = "beside RANC's simulator"
PASSES = 50  # of an engine in its turn beside RANC's simulator, whose ticks take so much longer


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    runs: int = 5
    ticks: int = 500  # of the fast engines in each run
    plain_ticks: int = 20
    full_ticks: int = 50
    read_bytes: int = 1 << 28  # far beyond any cache
    count_rounds: int = 200_000
    full: int = 4096  # cores, as are those below
    frames: tuple[int, ...] = (4095, 62_400)  # one chip; NS16e, of which 62,375 cores have run in real time
    line: tuple[int, ...] = (64, 512, 4096, 65_536)
    batches: tuple[int, ...] = (64, 512)  # pictures
    like_ranc: tuple[int, ...] = (8, 16)  # levels, cores of each
    like_ranc_ticks: int = 40


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


def ms_a_decision(answer: Callable[[Bits], object], lines: Bits) -> float:
    """From bits to votes, mean over the pictures."""

    def work() -> None:
        for row in lines:
            answer(row)

    return 1000 * seconds(work) / len(lines)


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
    decision = [ms_a_decision(runner.answer, few) for _ in range(runs)]
    return [
        summary(f"{name}, dense", "ticks/s", dense),
        summary(f"{name}, held", "ticks/s", held),
        summary(f"{name}, a decision", "ms", decision),
    ]


def once_rows(compiled: Compiled, effort: Effort) -> list[dict[str, Any]]:
    """Engines that evaluate each core once a picture: one picture at a time, and batches."""
    wave, batch = WaveRunner(compiled), BatchRunner(compiled)
    lines = pictures(compiled.graph.n_inputs, max(effort.batches))
    few = lines[: max(1, effort.ticks // 20)]
    wave.answer(lines[0])
    batch.answers(lines[:1])
    rows = [summary("wave, a decision", "ms", [ms_a_decision(wave.answer, few) for _ in range(effort.runs)])]
    for size in effort.batches:
        part = lines[:size]
        rates = [size / seconds(partial(batch.answers, part)) for _ in range(effort.runs)]
        rows.append(summary(f"batches of {size}", "decisions/s", rates))
    return rows


def full_rows(effort: Effort) -> list[dict[str, Any]]:
    """A full chip, ms a tick: best of the lot is the lowest, since whatever else runs only adds."""
    rows = []
    for memory, words in ((False, "no neuron with memory"), (True, "all neurons with memory")):
        graph = busy_graph(effort.full, memory, distinct=effort.full)
        for name, make in (("dense engine", DenseEngine), ("lazy engine", LazyEngine)):
            times = ms_a_tick(make(graph), effort.full_ticks, effort.runs)
            rows.append(summary(f"full chip of {effort.full:,} cores, {words}, {name}", "ms/tick", times))
    return rows


def ms_a_tick(engine: Engine, ticks: int, runs: int) -> list[float]:
    """Of a busy graph, once it is in its stride."""
    on = np.array([True])
    engine.hold(on, 30)
    return [1000 * seconds(lambda: engine.hold(on, ticks)) / ticks for _ in range(runs)]


def frame_rows(effort: Effort) -> list[dict[str, Any]]:
    """One picture through levelled graphs, ms."""
    rows = []
    for cores in effort.frames:
        levels = min(LEVELS, cores)
        graph, level = layered_graph(levels, cores // levels)
        lines = pictures(graph.n_inputs, 3)
        for name, show in _shown(graph, level):
            show(lines[-1])
            times = [1000 * seconds(partial(show, lines[i % len(lines)])) for i in range(effort.runs)]
            rows.append(summary(f"frame through {graph.shape[0]:,} cores, {name}", "ms", times))
    return rows


def _shown(graph: CoreGraph, level: NDArray[np.int32]) -> list[tuple[str, Callable[[Bits], object]]]:
    wave, lazy = Wave(graph, level), LazyEngine(graph)
    ticks = int(level.max()) + 1
    return [("wave", wave.run), ("lazy engine, held", lambda lines: lazy.hold(lines, ticks))]


def line_rows(effort: Effort) -> list[dict[str, Any]]:
    """ns a core and tick, dense, from a few cores to many."""
    rows = []
    for cores in effort.line:
        ticks = max(2, effort.full_ticks * 4096 // max(cores, 4096))
        times = ms_a_tick(DenseEngine(busy_graph(cores)), ticks, effort.runs)
        rows.append(summary(f"dense engine, a core and tick of {cores:,}", "ns", [1e6 * ms / cores for ms in times]))
    return rows


def like_ranc_rows(effort: Effort) -> list[dict[str, Any]]:
    """ns a core and tick of a graph like those that RANC was measured on, with new lines in every tick."""
    graph, _ = layered_graph(*effort.like_ranc)
    lines = pictures(graph.n_inputs, effort.like_ranc_ticks)
    rows = []
    for name, engine in (("dense engine", DenseEngine(graph, threads=1)), ("lazy engine", LazyEngine(graph))):
        engine.spikes(lines)
        times = [seconds(partial(engine.spikes, lines)) / len(lines) / graph.shape[0] for _ in range(effort.runs)]
        what = f"a graph like RANC's of {graph.shape[0]:,} cores, a core and tick, {name}"
        rows.append(summary(what, "ns", [1e9 * s for s in times]))
    return rows


def beside_ranc_rows(program: Path, effort: Effort) -> list[dict[str, Any]]:
    """RANC's simulator and two engines in turn: processor ns a core and tick, and how often ours goes into RANC's.

    One graph and input, one thread each. RANC's ticks count from when spikes have reached the last level.
    """
    graph, _ = layered_graph(*effort.like_ranc)
    lines = pictures(graph.n_inputs, effort.like_ranc_ticks)
    engines: dict[str, Engine] = {"dense": DenseEngine(graph, threads=1), "lazy": LazyEngine(graph)}
    taken: dict[str, list[float]] = {name: [] for name in ("RANC", *engines)}
    with tempfile.TemporaryDirectory() as folder:
        case = write_case(graph, lines, output_of(Emulator(graph), lines), Path(folder))
        for engine in engines.values():
            assert np.array_equal(output_of(engine, lines), case.expected)
        for _ in range(effort.runs):
            taken["RANC"].append(ranc_core_tick_s(program, case, effort.like_ranc[0]))
            for name, engine in engines.items():
                taken[name].append(_core_tick_s(engine, lines))
    rows = [summary(f"{BESIDE_RANC}, {name}", "ns", [1e9 * s for s in times]) for name, times in taken.items()]
    for name in engines:
        times = [theirs / ours for theirs, ours in zip(taken["RANC"], taken[name], strict=True)]
        rows.append(summary(f"{BESIDE_RANC}, RANC / {name}", "times", times))
    return rows


def _core_tick_s(engine: Engine, lines: Bits) -> float:
    def work() -> None:
        for _ in range(PASSES):
            engine.spikes(lines)

    return processor_s(work) / PASSES / len(lines) / engine.graph.shape[0]


def limit_rows(effort: Effort) -> list[dict[str, Any]]:
    threads = processors()
    arrays = list(np.ones((threads, effort.read_bytes // 8), np.uint64))
    read = [read_gb_a_second(arrays) for _ in range(effort.runs)]
    counted = [counted_gwords_a_second(threads, effort.count_rounds) for _ in range(effort.runs)]
    return [
        summary(f"limit: memory read, {threads} threads", "GB/s", read),
        summary(f"limit: words counted in cache, {threads} threads", "10^9/s", counted),
    ]


def roofline(rows: Sequence[dict[str, Any]], effort: Effort) -> dict[str, float]:
    """The full chip's dense tick against what it must read and count; best runs on both sides."""
    best = {row["what"]: row["low" if row["unit"] in ("ms", "ns", "ms/tick") else "high"] for row in rows}
    graph = busy_graph(effort.full, distinct=effort.full)
    layout = layout_of(graph, no_damage(graph))
    own = (layout.lanes, layout.weight, layout.threshold, layout.segments, layout.wire)
    must_read = sum(array.nbytes for array in own)
    words = layout.lanes.nbytes / 8
    memory = next(value for name, value in best.items() if name.startswith("limit: memory"))
    counting = next(value for name, value in best.items() if name.startswith("limit: words"))
    bound = max(must_read / memory / 1e6, words / counting / 1e6)
    dense = next(
        value for name, value in best.items() if name.startswith("full chip") and name.endswith("dense engine")
    )
    like_ranc = next(row["median"] for row in rows if row["what"].startswith("a graph like RANC's"))
    return {
        "megabytes_a_tick": must_read / 1e6,
        "memory_ms": must_read / memory / 1e6,
        "counting_ms": words / counting / 1e6,
        "bound_ms": bound,
        "dense_ms": dense,
        "times_the_bound": dense / bound,
        "ticks_per_s": 1000 / dense,
        "times_faster_than_ranc_quoted_low": RANC_MS_A_CORE_TICK[0] * effort.full / dense,
        "times_faster_than_ranc_quoted_high": RANC_MS_A_CORE_TICK[1] * effort.full / dense,
        "like_ranc_ns": like_ranc,
        "like_ranc_times_faster_low": RANC_MS_A_CORE_TICK[0] * 1e6 / like_ranc,
        "like_ranc_times_faster_high": RANC_MS_A_CORE_TICK[1] * 1e6 / like_ranc,
    }


def measure(compiled: Compiled, effort: Effort, ranc: Path | None = None) -> list[dict[str, Any]]:
    """All rows of the report; `ranc` is RANC's simulator, built."""
    return [
        *engine_rows("plain emulator", Emulator, compiled, effort.plain_ticks, effort.runs),
        *engine_rows("lazy engine", LazyEngine, compiled, effort.ticks, effort.runs),
        *engine_rows("dense engine", DenseEngine, compiled, effort.ticks, effort.runs),
        *once_rows(compiled, effort),
        *full_rows(effort),
        *frame_rows(effort),
        *line_rows(effort),
        *like_ranc_rows(effort),
        *(beside_ranc_rows(ranc, effort) if ranc else []),
        *limit_rows(effort),
    ]


def table(rows: Sequence[dict[str, Any]], title: str) -> Table:
    """Rows of `summary` for people."""
    shown = Table("what", "median", "lowest", "highest", "unit", "runs", title=title)
    for row in rows:
        values = (f"{row[key]:,.2f}" for key in ("median", "low", "high"))
        shown.add_row(row["what"], *values, row["unit"], str(row["runs"]))
    return shown


def in_words(roof: dict[str, float]) -> str:
    """What the roofline says; RANC's simulator is quoted."""
    low, high = RANC_MS_A_CORE_TICK
    more, most = roof["times_faster_than_ranc_quoted_low"], roof["times_faster_than_ranc_quoted_high"]
    return (
        f"dense tick of a full chip: {roof['dense_ms']:.2f} ms at best, {roof['times_the_bound']:.1f} times what "
        f"reading {roof['megabytes_a_tick']:.0f} MB takes here ({roof['memory_ms']:.2f} ms; counting "
        f"{roof['counting_ms']:.2f} ms). RANC's simulator, quoted at {low}..{high} ms a core and tick, would take "
        f"{more:,.0f}..{most:,.0f} times as long; on graphs like those that this was measured on, where a core and "
        f"tick takes one of our threads {roof['like_ranc_ns']:.0f} ns, {roof['like_ranc_times_faster_low']:,.0f}.."
        f"{roof['like_ranc_times_faster_high']:,.0f} times."
    )


def ranc_in_words(rows: Sequence[dict[str, Any]]) -> str:
    """What `beside_ranc_rows` measured; nothing without them."""
    found = {row["what"].removeprefix(f"{BESIDE_RANC}, "): row["median"] for row in rows}
    if "RANC" not in found:
        return ""
    return (
        f"RANC's simulator, measured in this run on the same graph with equal output: {found['RANC'] / 1e6:.3f} ms a "
        f"core and tick, {found['RANC / dense']:,.0f} times the dense engine's {found['dense']:.0f} ns on one thread "
        f"and {found['RANC / lazy']:,.0f} times the lazy one's {found['lazy']:.0f} ns (medians, processor time)."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    usual = Effort()
    for name in ("runs", "ticks", "plain_ticks", "full_ticks", "read_bytes", "count_rounds", "full", "like_ranc_ticks"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(usual, name))
    for name in ("frames", "line", "batches", "like_ranc"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, nargs="+", default=getattr(usual, name))
    parser.add_argument("--ranc", type=Path, help="RANC's simulator, built: it takes its turn; else it is quoted")
    parser.add_argument("--root", default="runs")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    own = vars(parser.parse_args())
    root, folder, ranc = own.pop("root"), own.pop("folder"), own.pop("ranc")
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in own.items()}
    effort = Effort(**given)
    _, compiled, which = measured_chip(root)
    rows = measure(compiled, effort, ranc)
    cores, _, neurons = compiled.graph.shape
    roof = roofline(rows, effort)
    extra: dict[str, Any] = {
        "chip": which,
        "graph": compiled.digest,
        "cores": cores,
        "latency_ticks": compiled.latency_ticks,
        "roofline": roof,
        "quoted": {"ranc_ms_a_core_tick": list(RANC_MS_A_CORE_TICK)},
        "real_chip_ticks_per_s": 1000,  # by design, not measured here
    }
    path = write_report("emulator", rows, extra, folder)
    title = f"{which}: {cores:,} cores of {neurons} neurons, {compiled.latency_ticks} ticks to the votes"
    said = [text for text in (in_words(roof), ranc_in_words(rows)) if text]
    Console().print(table(rows, title), *said, f"written to {path}")


if __name__ == "__main__":
    main()

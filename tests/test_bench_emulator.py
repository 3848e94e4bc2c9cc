"""The benchmarks of emulator and loop run, and measure what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from run_cases import small_chip, small_student, write_run

from bench import chips, emulator, graphs, limits, loop
from deploy.checks import count_drivers, graph_violations
from deploy.chip import CHIPS
from deploy.dense import DenseEngine
from deploy.engine import memoryless_cores
from deploy.levels import check_levels
from deploy.players import ChipPlayer
from deploy.wave import Wave
from rl.stages import CHIP

TINY = emulator.Effort(
    runs=3,
    ticks=6,
    plain_ticks=3,
    full_ticks=2,
    read_bytes=1 << 16,
    count_rounds=9,
    full=5,
    frames=(30,),
    line=(3, 4),
    batches=(2, 5),
    like_ranc=(2, 3),
    like_ranc_ticks=4,
)
ARGUMENTS = ["--runs=1", "--ticks=3", "--plain-ticks=1", "--full-ticks=2", "--read-bytes=4096", "--count-rounds=2"]
ARGUMENTS += ["--full=3", "--frames", "15", "--line", "2", "--batches", "3", "--like-ranc", "2", "2"]


def test_every_engine_is_measured_beside_the_limits_of_the_machine():
    rows = emulator.measure(small_chip(), TINY)
    asked = ("dense", "ticks/s"), ("held", "ticks/s"), ("a decision", "ms")
    engines = [
        (f"{name}, {what}", unit) for name in ("plain emulator", "lazy engine", "dense engine") for what, unit in asked
    ]
    threads = limits.processors()
    assert [(row["what"], row["unit"]) for row in rows] == [
        *engines,
        ("wave, a decision", "ms"),
        ("batches of 2", "decisions/s"),
        ("batches of 5", "decisions/s"),
        ("full chip of 5 cores, no neuron with memory, dense engine", "ms/tick"),
        ("full chip of 5 cores, no neuron with memory, lazy engine", "ms/tick"),
        ("full chip of 5 cores, all neurons with memory, dense engine", "ms/tick"),
        ("full chip of 5 cores, all neurons with memory, lazy engine", "ms/tick"),
        ("frame through 30 cores, wave", "ms"),
        ("frame through 30 cores, lazy engine, held", "ms"),
        ("dense engine, a core and tick of 3", "ns"),
        ("dense engine, a core and tick of 4", "ns"),
        ("a graph like RANC's of 6 cores, a core and tick, dense engine", "ns"),
        ("a graph like RANC's of 6 cores, a core and tick, lazy engine", "ns"),
        (f"limit: memory read, {threads} threads", "GB/s"),
        (f"limit: words counted in cache, {threads} threads", "10^9/s"),
    ]
    assert all(0 < row["low"] <= row["median"] <= row["high"] and row["runs"] == 3 for row in rows)
    assert emulator.table(rows, "small").row_count == len(rows)


def test_the_bound_is_the_slower_of_reading_and_counting():
    def row(what, unit, value):
        return emulator.summary(what, unit, [value, value])

    rows = [
        row("full chip of 5 cores, no neuron with memory, dense engine", "ms/tick", 3.0),
        row("full chip of 5 cores, all neurons with memory, dense engine", "ms/tick", 9.0),
        row("a graph like RANC's of 6 cores, a core and tick, dense engine", "ns", 700.0),
        row("limit: memory read, 2 threads", "GB/s", 1e-3),
        row("limit: words counted in cache, 2 threads", "10^9/s", 1e-6),
    ]
    roof = emulator.roofline(rows, TINY)
    crossbars, kept_apart = 5 * 256 * 256 / 8 / 1e6, 5 * 256 * (4 * 2 + 2 + 4) / 1e6  # weights, thresholds, wires
    assert crossbars + kept_apart < roof["megabytes_a_tick"] < 1.02 * (crossbars + kept_apart)
    assert roof["memory_ms"] == pytest.approx(roof["megabytes_a_tick"] * 1e3)
    assert roof["counting_ms"] == pytest.approx(5 * 1024 / 1000 * 1000)  # words, at a thousand a second, in ms
    assert roof["bound_ms"] == max(roof["memory_ms"], roof["counting_ms"])
    assert roof["times_the_bound"] == pytest.approx(3.0 / roof["bound_ms"])
    assert roof["times_faster_than_ranc_quoted_low"] == pytest.approx(0.35 * 5 / 3.0)
    assert roof["like_ranc_times_faster_low"] == pytest.approx(500)
    assert "takes one of our threads 700 ns, 500..714 times." in emulator.in_words(roof)
    assert "RANC's simulator, quoted at 0.35..0.5 ms" in emulator.in_words(roof)


@pytest.mark.parametrize("memory", [False, True])
def test_a_busy_graph_keeps_about_a_fifth_of_its_axons_active(memory):
    graph = graphs.busy_graph(40, memory, longest_delay=3, distinct=7)
    assert np.array_equal(graph.crossbar_of, np.arange(40) % 7)
    assert count_drivers(graph).max() == count_drivers(graph).min() == 1
    engine = DenseEngine(graph, threads=1)
    engine.hold(np.array([True]), 60)
    active = [engine.step(np.array([True])).mean() for _ in range(20)]
    assert 0.1 < np.mean(active) < 0.3
    assert bool(memoryless_cores(graph).all()) is not memory


def test_a_layered_graph_is_levelled_has_pairs_and_one_driver_an_axon():
    graph, level = graphs.layered_graph(levels=3, width=4, prototypes=5)
    check_levels(graph, level, 3)
    assert count_drivers(graph).max() == count_drivers(graph).min() == 1
    assert not list(graph_violations(graph, CHIPS["ns1e"]))
    wave = Wave(graph, level)
    wave.run(np.ones(graph.n_inputs, bool))
    assert 0 < wave.pins().sum() < len(graph.output_pin)


def test_held_lines_stay_and_dense_lines_change():
    class Taped:
        def __init__(self):
            self.held = []

        def hold(self, lines, ticks):
            self.held.append(ticks)

    engine, lines = Taped(), emulator.pictures(50, 4)
    emulator.ticks_a_second(engine, lines, 3)
    assert engine.held == [3, 3, 3, 3]
    assert len(np.unique(lines, axis=0)) == 4


def test_the_median_is_not_the_mean():
    row = emulator.summary("x", "ms", [1.0, 2.0, 9.0])
    assert row == {"what": "x", "unit": "ms", "median": 2.0, "low": 1.0, "high": 9.0, "runs": 3}


def test_the_chip_of_a_run_is_measured_where_there_is_one(tmp_path):
    write_run(tmp_path)
    _, compiled, which = chips.measured_chip(str(tmp_path))
    assert (compiled.digest, which) == (small_chip().digest, "the chip of Pong")


def test_without_one_a_random_student_of_the_same_kind_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr("rl.stages.find.__defaults__", (tmp_path,))
    layers = tmp_path / "tiny.yaml"
    layers.write_text(
        "front_features: 2\nlayers:\n"
        "  - {features: 18, groups: 1, kernel: 7, stride: 7, padding: 0, shuffle: false}\n"
        "  - {features: 12, groups: 1, kernel: 2, stride: 2, padding: 0, shuffle: false}\n"
    )
    spec, compiled, which = chips.measured_chip(str(tmp_path), layers)
    assert which == "a random student of tiny.yaml"
    assert compiled.spec_digest == spec.digest
    assert chips.measured_chip(str(tmp_path), layers)[1].digest == compiled.digest
    assert not (tmp_path / "Pong" / CHIP).exists()


def test_the_loop_is_measured_with_both_screens_at_both_rates(tmp_path):
    player = ChipPlayer(small_student(), small_chip(), "Pong")
    rows = loop.measure(player, 0.2, tmp_path)
    assert [row["pictures"] for row in rows] == [6, 6, 6, 6]
    assert [row["what"].split(",")[0] for row in rows] == ["no screen", "video", "no screen", "video"]
    assert all(0 < row["work_p50_ms"] <= row["work_p99_ms"] <= row["work_max_ms"] for row in rows)


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        (emulator, ARGUMENTS),
        (loop, ["--seconds", "0.1"]),
    ],
    ids=["emulator", "loop"],
)
def test_a_benchmark_prints_a_table_and_writes_its_report(program, arguments, tmp_path, monkeypatch, capsys):
    write_run(tmp_path)
    monkeypatch.setattr("sys.argv", ["bench", *arguments, "--root", str(tmp_path), "--folder", str(tmp_path)])
    program.main()
    name = program.__name__.split(".")[-1]
    report = json.loads((tmp_path / f"{name}.json").read_text())
    assert report["graph"] == small_chip().digest
    assert report["chip"] == "the chip of Pong"
    assert report["rows"]
    assert "the chip of Pong" in capsys.readouterr().out

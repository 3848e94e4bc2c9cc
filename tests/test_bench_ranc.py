"""RANC's simulator beside the engines: its files, its output, its time. A script stands in for it."""

from __future__ import annotations

import json
import subprocess
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from run_cases import write_run
from test_bench_emulator import ARGUMENTS, TINY

from bench import emulator, ranc
from bench.graphs import layered_graph
from deploy.dense import DenseEngine
from deploy.emulator import Bits, Emulator
from deploy.engine import LazyEngine
from deploy.ranc import output_text, read_config, read_input
from deploy.ranc_graph import ranc_graph
from deploy.spikes import addressed, all_pins, run

ANSWER = 'echo "$@" > "$0.args"; head -n "$4" "$0.txt" > "$2"\n'


def program(folder: Path, expected: Bits, script: str = ANSWER) -> Path:
    """A stand-in that knows the output by heart."""
    path = folder / "ranc_sim"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    path.with_name("ranc_sim.txt").write_text(output_text(expected))
    return path


def small(levels: int = 2, width: int = 3, ticks: int = 7) -> tuple[Bits, Bits]:
    """(lines, output) of a graph as `beside_ranc_rows` makes it."""
    graph, _ = layered_graph(levels, width)
    lines = emulator.pictures(graph.n_inputs, ticks)
    return lines, ranc.output_of(Emulator(graph), lines)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator's time is what it was asked for: a stand-in's own is lost in the noise of a busy machine."""

    def taken(work: partial[None]) -> float:
        work()
        return 1 + 0.01 * work.args[2]

    monkeypatch.setattr(ranc, "processor_s", taken)


@pytest.fixture
def case(tmp_path: Path) -> ranc.RancCase:
    lines, output = small()
    return ranc.write_case(layered_graph(2, 3)[0], lines, output, tmp_path)


# ---- files and output


def test_the_files_are_the_graph_and_its_input(case: ranc.RancCase) -> None:
    model = read_input(case.input, read_config(case.config))
    graph, spikes, _ = ranc_graph(model, case.input)
    driven, lines = addressed(graph, spikes)
    assert np.array_equal(run(Emulator(driven), lines, 7).bits(7, all_pins(graph)), case.expected)
    assert 0 < case.expected[1:].sum() < case.expected.size
    assert case.cores == 3 * 3 - 1  # six of ours, one cell for targets that are none, and what makes it a rectangle


@pytest.mark.parametrize("make", [Emulator, DenseEngine, LazyEngine])
def test_the_output_of_an_engine_is_what_its_pins_showed(make: type) -> None:
    graph, _ = layered_graph(2, 3)
    lines, engine = small()[0], make(graph)
    shown = []
    for row in lines:
        engine.step(row)
        shown.append(engine.pins())
    assert np.array_equal(ranc.output_of(make(graph), lines), np.array(shown))


def test_the_simulator_is_asked_for_one_tick_more_and_no_reports(case: ranc.RancCase, tmp_path: Path) -> None:
    ranc.simulate(program(tmp_path, case.expected), case, 5)
    said = (tmp_path / "ranc_sim.args").read_text().split()
    assert said == [str(case.input), str(tmp_path / "output.txt"), str(case.config), "6", "--report_freq", "60"]


@pytest.mark.parametrize("tick", [0, 6])
def test_a_spike_that_is_not_ours_is_told(case: ranc.RancCase, tmp_path: Path, tick: int) -> None:
    other = case.expected.copy()
    other[tick, 9] ^= True
    with pytest.raises(ranc.RancError, match=rf"ranc_sim: 1 of {7 * 768} spikes .*first tick {tick}, output 9; find"):
        ranc.simulate(program(tmp_path, other), case, 7)


def test_an_output_of_another_size_is_told(case: ranc.RancCase, tmp_path: Path) -> None:
    with pytest.raises(ranc.RancError, match=r"\(7, 5\) ticks and outputs, must be \(7, 768\); is it RANC's"):
        ranc.simulate(program(tmp_path, case.expected[:, :5]), case, 7)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo no such bus >&2; exit 3", "ranc_sim: status 3 and no output, allowed 0 and an output; .*no such bus"),
        (ANSWER + "exit 1", "ranc_sim: status 1 and an output, allowed 0 and an output"),
        ("echo '[ERROR] Config file'", r"status 0 and no output, .*it said: \[ERROR\] Config file"),
    ],
)
def test_a_run_that_fails_is_told(case: ranc.RancCase, tmp_path: Path, script: str, message: str) -> None:
    (tmp_path / "output.txt").write_text(output_text(case.expected))  # of an earlier run, which does not count
    with pytest.raises(ranc.RancError, match=message):
        ranc.simulate(program(tmp_path, case.expected, script), case, 7)


def test_a_simulator_that_is_not_there_is_told(case: ranc.RancCase, tmp_path: Path) -> None:
    with pytest.raises(ranc.RancError, match=r"absent: can not be run \(No such file .*; give RANC's simulator, built"):
        ranc.simulate(tmp_path / "absent", case, 7)


# ---- time


def test_loading_does_not_count(case: ranc.RancCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def taken(work: partial[None]) -> float:
        asked.append(work.args[2])
        return 100 + 0.5 * asked[-1]

    monkeypatch.setattr(ranc, "processor_s", taken)
    assert ranc.ranc_core_tick_s(tmp_path, case, 2) == pytest.approx(0.5 / case.cores)
    assert asked == [2, 7]


def test_ticks_that_take_no_time_are_no_measure(
    case: ranc.RancCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranc, "processor_s", lambda work: 1.0)
    with pytest.raises(ranc.RancError, match=r"7 ticks took 1\.000 s and 2 took 1\.000 s.*; run more ticks"):
        ranc.ranc_core_tick_s(tmp_path, case, 2)


@pytest.mark.parametrize("skipped", [0, 7])
def test_some_ticks_are_left_out_and_some_remain(case: ranc.RancCase, tmp_path: Path, skipped: int) -> None:
    with pytest.raises(ranc.RancError, match=f"{skipped} ticks to leave out of 7, allowed 1..6; run more ticks"):
        ranc.ranc_core_tick_s(tmp_path, case, skipped)


def test_processor_time_is_ours_and_our_programs_and_not_waiting() -> None:
    def burn() -> None:
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass

    work = "i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done"
    waiting = ranc.processor_s(lambda: time.sleep(0.2))
    assert waiting < ranc.processor_s(burn)
    assert waiting < ranc.processor_s(lambda: subprocess.run(["sh", "-c", work], check=True))


# ---- the benchmark


@pytest.mark.usefixtures("clock")
def test_the_simulator_takes_its_turn_beside_the_engines(tmp_path: Path) -> None:
    standin = program(tmp_path, small(ticks=TINY.like_ranc_ticks)[1])
    rows = emulator.beside_ranc_rows(standin, TINY)
    names = ("RANC", "dense", "lazy", "RANC / dense", "RANC / lazy")
    assert [row["what"] for row in rows] == [f"beside RANC's simulator, {name}" for name in names]
    assert [row["unit"] for row in rows] == ["ns", "ns", "ns", "times", "times"]
    assert all(0 < row["low"] <= row["median"] <= row["high"] and row["runs"] == 3 for row in rows)
    theirs, ours, _, times, _ = rows
    assert [theirs["low"], theirs["high"]] == pytest.approx([0.01e9 / 8] * 2)  # ns, of 8 cores
    least, most = theirs["low"] / ours["high"], theirs["high"] / ours["low"]
    assert least * (1 - 1e-9) <= times["low"] <= times["high"] <= most * (1 + 1e-9)  # quotients are rounded twice


def test_what_was_measured_is_said_and_nothing_else() -> None:
    values = {"RANC": 400_000.0, "dense": 320.0, "lazy": 600.0, "RANC / dense": 1250.0, "RANC / lazy": 666.6}
    rows = [emulator.summary(f"beside RANC's simulator, {name}", "ns", [value]) for name, value in values.items()]
    said = emulator.ranc_in_words(rows)
    assert "0.400 ms a core and tick, 1,250 times the dense engine's 320 ns on one thread and 667 times" in said
    assert emulator.ranc_in_words([emulator.summary("dense", "ns", [1.0])]) == ""


@pytest.mark.usefixtures("clock")
def test_the_benchmark_takes_a_simulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path)
    standin = program(tmp_path, small(2, 2, 40)[1])
    arguments = [*ARGUMENTS, "--ranc", str(standin), "--root", str(tmp_path), "--folder", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    emulator.main()
    rows = json.loads((tmp_path / "emulator.json").read_text())["rows"]
    assert sum(row["what"].startswith("beside RANC's simulator") for row in rows) == 5
    assert "measured in this run on the same graph" in " ".join(capsys.readouterr().out.split())

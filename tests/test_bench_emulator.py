"""The benchmarks of emulator and loop run, and measure what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from run_cases import small_chip, small_student, write_run

from bench import chips, emulator, loop
from deploy.players import ChipPlayer
from rl.stages import CHIP


def test_the_emulator_is_measured_dense_and_held_beside_the_memory():
    rows = emulator.measure(small_chip(), runs=3, ticks=6, plain_ticks=3, copy_bytes=1 << 16)
    assert [(row["what"], row["unit"]) for row in rows] == [
        ("plain emulator, dense", "ticks/s"),
        ("plain emulator, held", "ticks/s"),
        ("plain emulator, a decision", "ms"),
        ("lazy engine, dense", "ticks/s"),
        ("lazy engine, held", "ticks/s"),
        ("lazy engine, a decision", "ms"),
        ("limit: memory copy", "GB/s"),
    ]
    assert all(0 < row["low"] <= row["median"] <= row["high"] and row["runs"] == 3 for row in rows)
    assert emulator.table(rows, "small").row_count == len(rows)


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
        (emulator, ["--runs", "1", "--ticks", "3", "--plain-ticks", "1", "--copy-bytes", "4096"]),
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

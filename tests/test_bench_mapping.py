"""The mapping benchmark counts what the compiler makes, network by network."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from run_cases import small_student, write_run

from bench import chips, mapping
from deploy.chip import chip_named
from deploy.compiler import compile_spec
from deploy.reduce import REDUCTIONS

NET = {
    "name": "small",
    "input": {"map": [6, 5], "features": 4},
    "reported_cores": 17,
    "layers": [
        {"kind": "S", "features": 8, "groups": 2, "kernel": 3, "stride": 1, "pad": 1, "map": [6, 5]},
        {"features": 6, "groups": 1, "kernel": 2, "stride": 2, "pad": 0, "map": [3, 2]},
    ],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "eedn_networks.json").write_text(json.dumps({"networks": [NET]}))
    return tmp_path


def test_a_published_shape_becomes_a_student_of_that_shape(data: Path) -> None:
    ((name, spec, reported),) = chips.published_students(data)
    assert (name, reported) == ("small", 17)
    assert [layer.name for layer in spec.layers] == ["00-S-8", "01-C-6"]
    assert spec.front.out_shape == (4, 6, 5)
    assert [layer.out_shape for layer in spec.layers] == [(8, 6, 5), (6, 3, 2)]
    assert list(chips.published_students(data / "absent")) == []


def test_each_row_is_what_the_compiler_makes(data: Path) -> None:
    chip, (net,) = chip_named("tiny"), list(chips.published_students(data))
    rows = mapping.measure(iter([net]), chip, [1, mapping.EVERY_COPY])
    ways = [(1, False), (1, True), ("all", False), ("all", True), ("all", False)]
    assert [(r["host_copies"], r["reduced"]) for r in rows] == ways
    assert [r["splitters_allowed"] for r in rows] == [True, True, True, True, False]
    for r in rows:
        host = mapping.EVERY_COPY if r["host_copies"] == "all" else 1
        made = compile_spec(net[1], chip, host_copies=host, reduce=r["reduced"], splitters=r["splitters_allowed"])
        assert r["cores"] == made.graph.shape[0]
        assert r["cores"] == r["layer_cores"] + r["input_fan_out_cores"] + r["interior_splitter_cores"]
        assert r["cores"] == sum(stage["cores"] for stage in r["stages"])
        assert (r["ticks"], r["reported"], r["compile_s"] > 0) == (made.latency_ticks, 17, True)
        assert set(r["saved"]) == (set(REDUCTIONS) if r["reduced"] else set())
    assert rows[0]["cores"] - sum(rows[1]["saved"].values()) == rows[1]["cores"]
    assert mapping.table(rows, chip).row_count == 5


def test_the_command_writes_a_report_with_the_student_of_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "runs"
    write_run(root)
    options = ["--root", str(root), "--data", str(data), "--folder", str(tmp_path / "bench"), "--copies", "1"]
    monkeypatch.setattr(sys, "argv", ["mapping", *options])
    mapping.main()
    report = json.loads((tmp_path / "bench" / "mapping.json").read_text())
    assert [r["network"] for r in report["rows"]] == ["small"] * 3 + ["Pong"] * 3
    assert report["rows"][3]["reported"] is None
    assert report["chip"]["name"] == "ns1e"
    assert len(report["rows"][3]["stages"]) >= len(small_student().layers)
    assert "cores on ns1e" in capsys.readouterr().out


def test_without_a_student_the_published_shapes_are_measured(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl.stages.find.__defaults__", (data / "none",))
    assert [name for name, _, _ in mapping.students(str(data / "none"), data)] == ["small"]

"""The benchmark of compile times measures what it says, on networks of the sizes it names."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench import compiling
from bench.compiling import NETWORKS, measure, table, widened
from bench.placement import Network, layers_of, random_network
from deploy.chip import CHIPS
from deploy.compiler import compile_spec
from deploy.tiling import naive_cores

SMALL = Network("small", layers_of("S-4(1) S-24(2) N-40(1) P-20(4)"), (1, 10, 8), 4, "ns1e")


def test_a_widened_network_keeps_its_inputs_a_neuron() -> None:
    plain, wide = (random_network(n) for n in (SMALL, Network("wide", widened(SMALL.layers, 3), (1, 10, 8), 4, "ns1e")))
    assert [layer.fan_in for layer in wide.layers] == [layer.fan_in for layer in plain.layers]
    assert [layer.out_shape[0] for layer in wide.layers] == [3 * layer.out_shape[0] for layer in plain.layers]


def test_the_board_holds_more_than_60_000_cores_and_fits_ns16e() -> None:
    board = random_network(NETWORKS["board"])
    assert 55_000 < sum(naive_cores(board, CHIPS["ns16e"])) < CHIPS["ns16e"].cores
    assert sum(naive_cores(random_network(NETWORKS["chip"]), CHIPS["ns1e"])) == 3680


def test_a_row_is_what_the_compiler_makes() -> None:
    rows = [measure(SMALL, reduced) for reduced in (False, True)]
    made = compile_spec(random_network(SMALL), CHIPS["ns1e"])
    assert (rows[0]["cores"], rows[0]["ticks"]) == (made.graph.shape[0], made.latency_ticks)
    for row in rows:
        assert min(row[key] for key in ("compile_s", "processor_s", "peak_bytes", "file_bytes", "load_s")) > 0
    assert table(rows).row_count == 2


def test_the_command_writes_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiling, "NETWORKS", {"small": SMALL})
    monkeypatch.setattr(
        sys, "argv", ["compiling", "--networks", "small", "--reduced", "no", "--cores", "7", "--folder", str(tmp_path)]
    )
    compiling.main()
    report = json.loads((tmp_path / "compiling.json").read_text())
    (row,), whole = report["rows"], report["nothing_shared"]
    assert (whole["cores"], whole["load_s"] > 0) == (7, True) and whole["file_bytes"] > 7 * 8192, "bits of 7 crossbars"
    assert (row["what"], row["reduced"]) == ("small", False)
    assert "written to" in capsys.readouterr().out

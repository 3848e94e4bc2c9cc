"""A report says what was measured, on what, and can be read back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench.report import machine, write_report


def test_a_report_holds_rows_machine_and_whatever_else_matters(tmp_path):
    path = write_report("speed", [{"engine": "fast", "ms": 0.5}], {"limit_ms": 0.25}, tmp_path)
    report = json.loads(path.read_text())
    assert path == tmp_path / "speed.json"
    assert report["rows"] == [{"engine": "fast", "ms": 0.5}] and report["limit_ms"] == 0.25
    assert report["machine"]["versions"]["numpy"] == np.__version__ and report["machine"]["cores"] >= 1


def test_the_machine_names_its_processor():
    assert machine()["cpu"]


def test_what_is_no_number_is_not_reported(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report("speed", [{"ms": float("nan")}], {}, tmp_path)
    assert not list(tmp_path.iterdir())

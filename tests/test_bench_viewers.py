"""The soak's rows are what shows and viewers gave: rates by the second, memory at both ends, nothing made up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from rich.console import Console

from bench.viewers import Run, Tally, resident, row_of, seen, spent, tables

REPORT = {
    "pictures": 300,
    "late": 3,
    "pictures_per_s": 30.0,
    "work_p50_s": 0.004,
    "work_p99_s": 0.02,
    "work_max_s": 0.05,
}


def a_run():
    memory = [9_000_000] * 5 + [400_000_000] * 10 + [401_000_000] * 80 + [404_000_000] * 10
    return Run(Path("x"), SimpleNamespace(pid=1), 0.0, "http://127.0.0.1:1/", 0.5, memory, cpu_s=2.0)


def test_a_row_holds_work_in_ms_processor_time_a_picture_and_memory_at_both_ends():
    row = row_of(a_run(), REPORT, "calm", [Tally("calm", 50_000, 250, 2, [0.25, 0.75, 0.5])], seconds=10.0)
    assert (row["work_p50_ms"], row["work_p99_ms"], row["work_max_ms"], row["late"]) == (4.0, 20.0, 50.0, 3)
    assert row["cpu_ms"] == 2000 / 300
    assert (row["memory_first_mb"], row["memory_last_mb"], len(row["memory_mb"])) == (400.0, 404.0, 100)
    assert row["each"] == [{"kind": "calm", "bytes_a_s": 5000.0, "messages_a_s": 25.0, "connections": 2,
                            "first_picture_p50_s": 0.5}]  # fmt: skip


def test_a_viewer_who_never_saw_a_picture_claims_no_first_one():
    assert "first_picture_p50_s" not in seen(Tally("stalled", connections=3), 10.0)


def test_the_tables_show_every_row_and_viewer(capsys):
    rows = [row_of(a_run(), REPORT, "none", [], 10.0), row_of(a_run(), REPORT, "stalled", [Tally("stalled")], 10.0)]
    Console(width=160).print(*tables(rows, {"address_s": 1.25, "first_picture_s": 1.5}))
    told = capsys.readouterr().out
    assert told.count("400 to 404") == 2 and "first picture at a viewer after 1.5 s" in told


def test_what_the_system_does_not_say_is_zero():
    assert resident(0) == 0 and spent(0) == 0.0

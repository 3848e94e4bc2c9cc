"""The bench of distillation counts what a student computes and measures every preset against the machine."""

from __future__ import annotations

import json

import pytest
from distill_cases import prepared, student, tiny_run

from bench import distill as bench
from bench import teacher
from distill.distiller import WARM
from distill.export import export
from distill.memo import Memo


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Students and products too small to measure anything by."""
    monkeypatch.setattr(teacher, "SIDE", 32)
    monkeypatch.setattr(bench, "run_of", lambda preset, game, root: tiny_run(prepared(tmp_path, game)))
    return tmp_path


def test_multiply_adds_are_those_of_the_integers():
    made = student()
    spec = export(made)
    convs = (spec.front, *spec.layers)
    assert bench.multiply_adds(made) == sum(c.weights.size * c.out_shape[1] * c.out_shape[2] for c in convs)


@pytest.mark.parametrize("preset", bench.PRESETS)
def test_a_preset_is_measured_as_its_files_set_it(preset):
    run = bench.run_of(preset, "Breakout", "somewhere")
    assert (run.games, run.root) == (("Breakout",), "somewhere")
    assert run.student.front_features == {"slim": 16, "middle": 32, "short": 32, "half": 48, "full": 64}[preset]


def test_a_report_has_every_row_and_what_follows_from_the_medians(tiny):
    rows, extra = bench.measure(("slim",), "Pong", str(tiny), bench.Effort(1, 2))
    assert [row["unit"] for row in rows] == ["samples/s", "samples/s", "samples/s", "10^9 MAC/s"]
    facts = extra["presets"]["slim"]
    updates, steps, _, limit = (row["median"] for row in rows)
    macs = bench.multiply_adds(student())
    assert facts["share_of_limit"] == pytest.approx(updates * 3 * macs / 1e9 / limit)
    assert facts["minutes_for_the_budget"] == pytest.approx(6 * 8 / steps / 60)


def test_the_command_writes_its_report(tiny, monkeypatch):
    monkeypatch.setattr(bench, "alone", lambda config, updates: 2.0 * updates)
    bench.main(["--presets", "slim", "--runs=1", "--updates=3", "--root", str(tiny / "none"), f"--folder={tiny}"])
    report = json.loads((tiny / "distill.json").read_text())
    assert report["name"] == "distill" and report["rows"][0]["median"] == 6


def test_a_whole_step_is_measured_while_the_student_plays(tmp_path, monkeypatch):
    config = tiny_run(prepared(tmp_path, "Pong"), online_start_updates=50)
    seen = []
    kind = bench.Distiller

    class Watched(kind):
        def close(self):
            seen.append(self.online[0].seen)
            super().close()

    monkeypatch.setattr(bench, "Distiller", Watched)
    assert bench.whole(config, 2, still=False) > 0
    assert seen == [2 * (WARM + bench.FEW + 2)]


@pytest.mark.parametrize(("levels", "minutes"), [(2, 4 / 100 + 2 / 400), (0, 6 / 100)])
def test_the_budget_counts_updates_of_all_levels_and_those_while_some_stand_still(tmp_path, levels, minutes):
    config = tiny_run(tmp_path, updates=6, still_levels=levels, still_updates=4)
    medians = {"updates": 900, "with lessons and play": 100, "with still levels": 400}
    rows = [{"what": f"own, {what}", "median": value} for what, value in medians.items()]
    facts = bench.told("own", config, [*rows, {"what": "limit: bf16 products", "median": 5}])
    assert facts["minutes_for_the_budget"] == pytest.approx(minutes * config.distill.batch / 60)


def test_levels_stand_still_where_that_is_measured_and_as_much_less_is_remembered(tmp_path, monkeypatch):
    config = tiny_run(prepared(tmp_path, "Pong"), still_levels=2, still_updates=2, still_decisions=8, updates=12)
    seen = []
    step = bench.Distiller.step

    def watched(made):
        told = step(made)
        own = made._own
        seen.append((made.student.still, own.still_decisions))
        return told

    monkeypatch.setattr(bench.Distiller, "step", watched)
    for still in (False, True):
        bench.whole(config, 5, still)
    steps = WARM + bench.FEW + 5
    assert seen == [(0, 4)] * steps + [(2, 4)] * steps


def test_as_large_a_share_of_recorded_pictures_is_new_in_the_timed_window_as_in_a_whole_run(tmp_path, monkeypatch):
    plan = {"still_levels": 2, "still_updates": 15, "still_decisions": 80, "updates": 55}
    config = tiny_run(prepared(tmp_path, "Pong"), online_start_updates=0, **plan)
    drawn, look = [], Memo.look

    def watched(memo, rows, find):
        drawn.append((len(memo._known), len(rows), len(set(rows[~memo._known[rows]].tolist()))))
        return look(memo, rows, find)

    def share(places):
        rows = [(count, new) for memo, count, new in drawn if memo == places]
        return sum(new for _, new in rows) / sum(count for count, _ in rows), {count for count, _ in rows}

    monkeypatch.setattr(Memo, "look", watched)
    distiller = bench.Distiller(config)
    for _ in range(55):
        distiller.step()
    distiller.close()
    whole, counts = share(80)
    assert counts == {4}, "half of a batch is recorded"
    clock = bench.updates_a_second
    monkeypatch.setattr(bench, "updates_a_second", lambda *own: drawn.clear() or clock(*own))
    bench.whole(config, 20, still=True)
    assert share(40) == (pytest.approx(whole, abs=0.05), {4})
    assert 0.3 < whole < 0.6

"""Distillation as a run: goes on where it stopped, repeats itself, keeps the best, refuses what does not fit."""

from __future__ import annotations

import json
import math
import re
from dataclasses import MISSING, asdict, replace
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distill_cases import SMALL, TINY, linked, prepared, record, teacher, tiny_run

from deploy.spec import load_spec, save_spec
from distill.distiller import Distiller, heads_of
from distill.judge import exam, read_alone, share_of
from distill.settings import DistillRun, rate_at, temperature_at
from distill.sources import Online
from distill.student import StudentSettings
from distill.train import command, distil
from rl.board import Board
from rl.files import write_json
from rl.games import SEEDS
from rl.scores import Score, protocol
from rl.settings import SettingsError
from rl.stages import CARD, PLAIN_STUDENT
from rl.statistics import geometric_mean


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher and a dataset of two games."""
    return prepared(tmp_path_factory.mktemp("ready"), "Pong", "Breakout")


@pytest.fixture
def root(ready: Path, tmp_path: Path) -> Path:
    """The same in a root of its own, to write in."""
    return linked(ready, tmp_path)


class After:
    """A stop that comes after so many looks."""

    def __init__(self, looks: int) -> None:
        self._left = looks

    def __bool__(self) -> bool:
        self._left -= 1
        return self._left < 0


NEVER = 10**9


def go(config: DistillRun, looks: int = NEVER) -> Distiller:
    """Run, or go on, as the command does."""
    distiller = Distiller(config)
    state = config.folder / "state.safetensors"
    if state.exists():
        distiller.resume(state)
    with Board(config.folder) as board:
        try:
            assert distil(config, distiller, board, After(looks)) == (looks == NEVER)  # type: ignore[arg-type]
        finally:
            distiller.close()
    return distiller


def digest(config: DistillRun) -> str:
    return load_spec(config.folder / "student.npz")[0].digest


def lines(config: DistillRun) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (config.folder / "metrics.jsonl").read_text().splitlines()]


def test_the_command_leaves_a_student_its_state_its_metrics_and_a_report(root, capsys):
    config = tiny_run(root)
    assert command(config, "settings") == 0
    spec, origin = load_spec(config.folder / "student.npz")
    report = json.loads((config.folder / "report.json").read_text())
    assert [head.game for head in spec.heads] == ["Pong"] and len(spec.layers) == len(SMALL)
    assert report["spec"] == spec.digest and report["updates"] == 6 and report["settings"]["distill"]["loss"] == "kl"
    assert len(report["scores"]["Pong"]["returns"]) == 2
    own = config.distill
    assert report["scores"]["Pong"]["protocol"]["seed"] == 2_000_003 * own.seed + own.eval_episodes, (
        "none that chose it"
    )
    assert set(origin) == {"teachers", "datasets", "env", "update", "wall_s", "exam", "versions"}
    tags = {tag for line in lines(config) for tag in line}
    assert {"train/loss", "train/agreement", "train/flips", "eval/Pong", "eval/share", "rate/front"} <= tags
    assert {"distill/kl", "distill/agreement", "distill/folded_disagreement", "distill/vote_margin"} <= tags
    assert "Pong student: " in capsys.readouterr().out


def test_a_finished_run_is_not_run_again(root):
    config = tiny_run(root, mode="offline")
    command(config, "")
    before, count = digest(config), len(lines(config))
    told = json.loads((config.folder / "report.json").read_text())["settings"]
    assert command(replace(config, distill=replace(config.distill, learning_rate=0.5)), "") == 0
    assert digest(config) == before and len(lines(config)) == count
    assert json.loads((config.folder / "report.json").read_text())["settings"] == told, "it learned by none of these"


def test_a_run_goes_on_where_it_stopped(root):
    config = tiny_run(root)
    stopped = go(config, looks=2)
    assert stopped.update == 2 and not (config.folder / "student.npz").exists()
    ended = go(config)
    assert ended.update == 6 and ended.wall_s > stopped.wall_s
    assert [line["at"] for line in lines(config) if "train/loss" in line] == [2, 4, 6]
    assert ended.learner.optimiser.param_groups[0]["lr"] == rate_at(5, config.distill)


def test_a_run_that_is_told_to_end_where_it_stands_judges_the_student_of_then(root):
    config = tiny_run(root, mode="offline")
    go(config, looks=2)
    shorter = replace(config, distill=replace(config.distill, updates=2))
    assert command(shorter, "") == 0 and load_spec(config.folder / "student.npz")[1]["update"] == 2
    count = len(lines(config))
    assert command(shorter, "") == 0 and len(lines(config)) == count, "and is judged once"


def test_a_run_that_goes_on_plays_games_that_it_has_not_played(root, monkeypatch):
    config, seeds = tiny_run(root), []
    monkeypatch.setattr("distill.distiller.Online", lambda *own: seeds.append(own[5]) or Online(*own))
    go(config, looks=2)
    go(config, looks=1)
    fresh, _, going_on = seeds
    assert fresh == config.distill.seed != going_on


def test_seeds_may_be_large(root):
    config = tiny_run(root, mode="offline", seed=2_000, updates=1)
    assert command(config, "") == 0
    told = json.loads((config.folder / "report.json").read_text())["scores"]["Pong"]["protocol"]["seed"]
    assert told == (2_000_003 * 2_000 + config.distill.eval_episodes) % SEEDS < 2_000_003 * 2_000


def test_a_student_that_learned_on_by_play_is_not_replaced_by_distilling_on(root):
    config = tiny_run(root, mode="offline", updates=2)
    assert command(config, "") == 0
    path = config.folder / "student.npz"
    spec, origin = load_spec(path)
    save_spec(spec, path, origin | {"finetuned_from": "another"})
    longer = replace(config, distill=replace(config.distill, updates=4))
    with pytest.raises(SettingsError, match=r"student.npz: learned on by play .*, distilling on for 2 updates would"):
        command(longer, "")


@pytest.mark.parametrize("looks", [2, pytest.param(4, marks=pytest.mark.slow)])  # before and after a judgement
def test_an_offline_run_that_was_stopped_ends_as_one_that_was_not(ready, tmp_path, looks):
    whole, parted = (tiny_run(linked(ready, tmp_path / name), mode="offline") for name in ("whole", "parted"))
    one = go(whole)
    go(parted, looks)
    other = go(parted)
    assert digest(whole) == digest(parted) and one.best == other.best
    for name, value in one.student.state_dict().items():
        assert torch.equal(value, other.student.state_dict()[name]), name


@pytest.mark.parametrize("mode", ["both", pytest.param("online", marks=pytest.mark.slow)])
def test_equal_seeds_make_equal_students_and_other_seeds_do_not(ready, tmp_path, mode):
    found = []
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        config = tiny_run(linked(ready, tmp_path / folder), mode=mode, seed=seed, updates=14, eval_updates=14)
        go(config)
        found.append(digest(config))
    assert found[0] == found[1] != found[2]


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_student(root, monkeypatch):
    config = tiny_run(root)
    monkeypatch.setattr(Distiller, "_lesson", _poisoned(Distiller._lesson, at=4))
    message = (
        r"^distill: update 4: the values of Pong holds numbers that are not finite, .*the last state saved is whole"
    )
    with pytest.raises(ValueError, match=message):
        go(config)
    kept = load_spec(config.folder / "student.npz")
    assert kept[1]["update"] == 3
    monkeypatch.undo()
    assert go(config).update == 6  # from the state beside it


def _poisoned(lesson: Any, at: int) -> Any:
    def poisoned(self: Distiller, game: int, sources: Any, rng: Any) -> Any:
        found = lesson(self, game, sources, rng)
        if self.update == at - 1:  # a lesson is drawn while the one before is learnt
            found.q[0, 0] = math.nan
        return found

    return poisoned


def test_other_layers_games_or_teachers_do_not_go_on_with_a_run(root):
    config = tiny_run(root, mode="offline")
    go(config, looks=1)
    wider = replace(config, student=replace(config.student, layers=(*SMALL[:2], replace(SMALL[2], features=24))))
    with pytest.raises(SettingsError, match=r"begun with other layers; use another root"):
        go(wider)
    (root / "Pong" / "teacher").unlink()
    (root / "Pong" / "rollouts").unlink()
    record(teacher("Pong", root, seed=8), root)
    with pytest.raises(SettingsError, match=r"begun with other teachers; use another root"):
        go(config)


def test_the_best_student_is_kept(root, monkeypatch):
    config = tiny_run(root, mode="offline")
    means = iter([5.0, 5.0, 2.0])

    def score(config: DistillRun, spec: Any, game: str, episodes: int) -> Score:
        return Score("Pong", "student", protocol("nature", 1, 0), (next(means),))

    monkeypatch.setattr("distill.judge.score", score)
    monkeypatch.setattr("distill.judge.REFERENCE", {"Pong": (1.0, 2.0)})
    go(replace(config, distill=replace(config.distill, eval_updates=2)))
    # A tie goes to the later one; the teacher's mean is 1.5, half a point above random: a span of at least 1.
    assert load_spec(config.folder / "student.npz")[1]["update"] == 4
    assert [line["eval/share"] for line in lines(config) if "eval/share" in line] == [4, 4, 1]


def test_judging_begins_where_it_is_set_and_the_end_is_always_judged(root):
    config = tiny_run(root, mode="offline")
    go(replace(config, distill=replace(config.distill, updates=7, eval_updates=2, eval_start_updates=4)))
    assert [line["at"] for line in lines(config) if "eval/share" in line] == [4, 6, 7]


def test_a_share_is_measured_between_random_play_and_the_teacher(root):
    policy = replace(teacher("Pong", root / "other"), training={"score": {"mean": 19.3}})
    rules = protocol("nature", 2, 0)
    assert share_of(Score("Pong", "student", rules, (19.3, 19.3)), policy) == pytest.approx(1)
    assert share_of(Score("Pong", "student", rules, (-20.7, -20.7)), policy) == 0
    assert share_of(Score("Unknown", "student", rules, (19.3,)), policy) == pytest.approx(1)


def test_two_games_share_one_student(root):
    config = tiny_run(root, games=("Pong", "Breakout"))
    distiller = go(config)
    spec, origin = load_spec(config.folder / "student.npz")
    assert [(head.game, len(head.actions), head.start) for head in spec.heads] == [("Pong", 6, 0), ("Breakout", 4, 6)]
    assert set(origin["teachers"]) == {"Pong", "Breakout"} and len(distiller.online) == 2
    assert config.folder.parent.name == "Pong-Breakout"
    tags = {tag for line in lines(config) for tag in line}
    assert {"eval/Pong", "eval/Breakout"} <= tags


def test_heads_follow_one_another(root):
    policies = [teacher(game, root / "other") for game in ("Breakout", "Pong")]
    assert [(head.game, head.start, head.stop) for head in heads_of(policies)] == [("Breakout", 0, 4), ("Pong", 4, 10)]


def test_offline_the_student_does_not_play(root):
    distiller = Distiller(tiny_run(root, mode="offline"))
    distiller.step()
    assert distiller.online == [] and distiller.own_scores() == {}
    assert distiller.recorded[0].size > 0


def test_online_it_plays_from_the_start_update_and_learns_from_it_once_there_is_enough(root):
    distiller = Distiller(tiny_run(root, mode="online", online_start_updates=2, updates=20))
    seen = []
    for _ in range(15):
        distiller.step()
        seen.append(distiller.online[0].seen)
    distiller.close()
    assert seen == [0, 0, *range(2, 28, 2)]
    assert set(distiller.own_scores()) == {"online/Pong"}


def test_the_learning_rate_warms_up_and_falls_to_zero_along_a_cosine():
    own = replace(TINY, learning_rate=1.0, warmup_updates=4, updates=16)
    assert [rate_at(update, own) for update in (0, 8, 16)] == pytest.approx([0.25, 0.5, 0.0])
    assert rate_at(3, own) == pytest.approx(0.5 * (1 + math.cos(math.pi * 3 / 16)))
    assert rate_at(0, replace(own, warmup_updates=0)) == 1


def test_the_temperature_falls_along_a_geometric_row_and_stays():
    own = replace(TINY, temperature_start=0.8, temperature=0.1, cool_updates=30)
    assert [temperature_at(update, own) for update in (0, 10, 20, 30, 99)] == pytest.approx([0.8, 0.4, 0.2, 0.1, 0.1])
    assert temperature_at(17, replace(own, temperature_start=0.1)) == pytest.approx(0.1)


WRONG = [
    ("mode", "sometimes", "offline, online, both"),
    ("temperature", 0.0, "above 0"),
    ("temperature_start", -0.5, "above 0"),
    ("cool_updates", 0, "1 or more"),
    ("eval_start_updates", -1, "0 or more"),
    ("updates", 0, "1 or more"),
    ("batch", 1, "2 or more"),
    ("envs", 0, "1 or more"),
    ("online_rows", 9, "10 or more, 5 of each of the 2 envs"),
    ("log_updates", 0, "1 or more"),
    ("eval_episodes", 0, "1 or more"),
    ("online_epsilon", 1.5, "0 to 1"),
    ("calibrate_batches", 0, "1 or more"),
    ("exam_updates", 0, "1 or more"),
    ("threads", 0, "1 or more"),
    ("unit", "metres", "spread, value"),
    ("schedule", "linear", "cosine, steps, constant"),
    ("surrogate_width", 0.0, "above 0"),
    ("hysteresis", 0.5, "0 to below 0.5"),
    ("shift", -1, "0 or more"),
    ("seed", -1, "0 or more"),
    ("decisions", -1, "0 or more"),
    ("shares", (0.0,), "each above 0"),
    ("shares", (2.0, 1.0), "none, or 1"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_settings_that_cannot_be_are_refused_by_name(tmp_path, name, value, allowed):
    with pytest.raises(SettingsError, match=rf"distill.{name}: found {re.escape(repr(value))}, allowed {allowed}"):
        tiny_run(tmp_path, **{name: value})


def test_games_are_named_once_and_there_is_one(tmp_path):
    with pytest.raises(SettingsError, match=r"games: found .*, allowed each game once"):
        tiny_run(tmp_path, games=("Pong", "Pong"))
    with pytest.raises(SettingsError, match=r"games: found .*, allowed one or more"):
        tiny_run(tmp_path, games=())
    with pytest.raises(SettingsError, match=r"distill.batch: found 8, allowed 10 or more"):
        tiny_run(tmp_path, games=tuple("ABCDE"))
    with pytest.raises(SettingsError, match=r"distill.batch: found 8, allowed 12 or more"):
        tiny_run(tmp_path, games=("Pong", "Breakout"), shares=(1.0, 5.0))


def test_a_share_that_floats_make_a_little_less_than_whole_rows_loses_none(tmp_path):
    assert tiny_run(tmp_path, games=("Pong", "Breakout"), batch=12, shares=(0.3, 1.5)).rows == (2, 10)
    assert tiny_run(tmp_path, games=("Pong", "Breakout"), batch=13, shares=(0.3, 1.5)).rows == (2, 10)


def test_what_is_missing_is_named_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(SettingsError, match=r"run make teacher GAME=Asteroids"):
        Distiller(tiny_run(tmp_path, games=("Asteroids",)))
    teacher("Pong", tmp_path)
    with pytest.raises(SettingsError, match=r"holds no dataset; run make rollouts GAME=Pong"):
        Distiller(tiny_run(tmp_path))


def test_of_every_game_equally_many_rows_are_learnt_however_much_was_recorded(ready, tmp_path):
    root = tmp_path / "root"
    linked(ready, root)
    (root / "Breakout" / "rollouts").unlink()
    record(teacher("Breakout", ready), root, count=3)
    distiller = Distiller(tiny_run(root, games=("Pong", "Breakout"), mode="offline", batch=9))
    assert distiller.recorded[0].size > 2 * distiller.recorded[1].size
    assert [len(lesson.q) for lesson in distiller._lessons(0)] == [4, 4]
    shared = Distiller(tiny_run(root, games=("Pong", "Breakout"), batch=11, shares=(0.5, 1.5)))
    assert [len(lesson.q) for lesson in shared._lessons(0)] == [2, 8]


def test_an_exam_tells_the_health_of_every_level_and_of_every_game(root):
    distiller = Distiller(tiny_run(root, games=("Pong", "Breakout"), mode="offline"))
    distiller.step()
    told = exam(distiller, distiller.folded(), 32)
    for kind in ("firing", "dead", "always", "synapses", "used", "zero"):
        assert all(told[f"{kind}/{level}"] >= 0 for level in ("front", "01-P4-8(2)", "02-N-12(2)", "03-S-21(1)"))
    for kind in ("kl", "agreement", "vote_margin", "folded_disagreement"):
        both = [told[f"distill/{kind}/{game}"] for game in ("Pong", "Breakout")]
        assert told[f"distill/{kind}"] == pytest.approx(sum(both) / 2)
    assert told["distill/folded_disagreement"] == 0, "thresholds are whole numbers while it trains, too"
    assert told["chip/cores"] >= 1 and told["chip/energy_j"] > 0
    assert exam(distiller, distiller.folded(), 32) == told, "an exam is repeatable and changes nothing"


def test_exams_come_between_judgements(root):
    config = tiny_run(root, mode="offline", exam_updates=2, eval_updates=6)
    go(config)
    assert [line["at"] for line in lines(config) if "dead/front" in line] == [2, 4, 6]
    assert [line["at"] for line in lines(config) if "eval/share" in line] == [6]


@pytest.mark.slow
def test_a_student_of_two_games_is_measured_by_equal_students_of_one(root, capsys):
    for game in ("Pong", "Breakout"):
        alone = tiny_run(linked(root, root.parent / f"{root.name}-{game}"), games=(game,), mode="offline")
        command(alone, "")
        (root / "alone" / game).mkdir(parents=True)
        (root / "alone" / game / "student").symlink_to(alone.folder)
    capsys.readouterr()
    config = tiny_run(root, games=("Pong", "Breakout"), mode="offline")
    assert command(config, "") == 0
    facts = json.loads((config.folder / "report.json").read_text())
    assert set(facts["alone"]) == set(facts["shares_alone"]) == {"Pong", "Breakout"}
    assert facts["shares_alone_geometric"] == pytest.approx(geometric_mean(list(facts["shares_alone"].values())))
    said = capsys.readouterr().out
    assert "geometric mean of the shares: " in said and "of an equal student of one game: Pong " in said
    wider = replace(config, student=replace(config.student, front_features=5))
    assert read_alone(wider, "Pong") is None and read_alone(config, "Pong") is not None


def test_without_a_run_a_student_is_measured_by_an_equal_one_that_ships(root, tmp_path):
    config = tiny_run(root, games=("Pong", "Breakout"), mode="offline")
    assert read_alone(config, "Pong", tmp_path) is None
    layers = json.loads(json.dumps(asdict(config.student)))
    for front, found in ((layers["front_features"], 12.5), (99, None)):
        shown = {"settings": {"student": layers | {"front_features": front}}}
        write_json(tmp_path / "Pong" / CARD, {"student": shown, "scores": {"student": {"mean": 12.5}}})
        assert read_alone(config, "Pong", tmp_path) == found
    for towers, found in ((1, 12.5), (2, None)):
        older = {name: own for name, own in layers.items() if name not in PLAIN_STUDENT}
        shown = {"settings": {"student": older | ({"towers": 2} if towers == 2 else {})}}
        write_json(tmp_path / "Pong" / CARD, {"student": shown, "scores": {"student": {"mean": 12.5}}})
        assert read_alone(config, "Pong", tmp_path) == found, "a card of before there was a choice"
    write_json(tmp_path / "Pong" / CARD, {"scores": {"teacher": {"mean": 12.5}}})
    assert read_alone(config, "Pong", tmp_path) is None


def test_what_an_older_record_of_a_student_does_not_say_is_what_a_student_has_by_default():
    assert {name: getattr(StudentSettings, name) for name in PLAIN_STUDENT} == PLAIN_STUDENT
    fields = {own.name for own in dataclass_fields(StudentSettings) if own.default is not MISSING}
    assert fields == set(PLAIN_STUDENT)


@pytest.mark.parametrize("change", [{"signs": "shared"}, {"transduction": "thresholds"}, {"history": 4}])
def test_every_kind_of_student_trains_goes_on_and_says_what_it_is(root, change):
    layers = (replace(SMALL[0], groups=4, shuffle=True), *SMALL[1:]) if "history" in change else SMALL
    plain = tiny_run(root, mode="offline")
    config = replace(plain, student=replace(plain.student, layers=layers, **change))
    go(config, looks=3)
    ended = go(config)
    spec, _ = load_spec(config.folder / "student.npz")
    assert ended.update == 6
    if "signs" in change:
        for layer in spec.layers:
            by_group = layer.weights.reshape(layer.groups, -1, *layer.weights.shape[1:])
            assert not ((by_group > 0).any(axis=(1, 3, 4)) & (by_group < 0).any(axis=(1, 3, 4))).any()
    if "transduction" in change:
        assert set(np.unique(spec.front.weights)) == {0, 127}
        assert ((spec.front.weights != 0).any(axis=(2, 3)).sum(axis=1) == 1).all(), "each compares one picture"
    with pytest.raises(SettingsError, match=r"begun with other [a-z, ]+; use another root"):
        go(plain)


def test_the_steps_of_a_schedule_are_a_tenth_and_a_hundredth():
    own = replace(TINY, learning_rate=1.0, warmup_updates=0, updates=10, schedule="steps")
    assert [rate_at(update, own) for update in (0, 7, 8, 9)] == pytest.approx([1, 1, 0.1, 0.01])
    assert rate_at(9, replace(own, schedule="constant")) == 1

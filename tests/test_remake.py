"""What a card says of commands: with it the same settings come about again."""

from __future__ import annotations

from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from deploy import publish_many
from deploy.publish import commands, composed
from deploy.remake import ELSEWHERE, arguments, distilling, fine_tuning, recording, remembered, teaching
from deploy.student_card import trainings
from rl.command import CONF
from rl.files import read_json
from rl.gather import leaves
from rl.stages import MODELS, SEVERAL, labelled

SAID = ["distill.mode=offline", "distill.shift=3", "distill.updates=12000"]


def said(line: str) -> list[str]:
    return line.partition(' ARGS="')[2].rstrip('"').split()


def check_makes(made: dict[str, Any], told: dict[str, Any]) -> None:
    """Settings that a command gives are those a card tells, but for where and on what it ran."""
    own = dict(leaves(made))
    differs = {key for key, value in leaves(told) if own.get(key, value) != value and (own[key], value) != ([], None)}
    assert {key.rpartition(".")[2] for key in differs} <= ELSEWHERE


def test_only_what_differs_is_said_and_not_where_or_on_what_it_ran():
    own = {"root": "runs", "student": {"x": 1}, "distill": {"updates": 5, "threads": 2, "bf16": True, "score": None}}
    found = {"root": "here", "student": {"x": 1}, "distill": {"updates": 7, "threads": 1, "bf16": False, "score": 2.5}}
    assert arguments(found, own, {"small": {"x": 1}}) == "distill.updates=7 distill.bf16=false distill.score=2.5"


def test_a_student_is_said_by_its_name_where_it_has_one_and_else_by_what_differs():
    own = {"student": {"x": 1, "layers": [{"k": 2}]}}
    found = {"student": {"x": 3, "layers": [{"k": 4}]}}
    assert arguments(found, own, {"small": own["student"], "large": found["student"]}) == "student=large"
    assert arguments(found, own, {}) == 'student.x=3 student.layers=[{"k":4}]'


def test_integers_say_what_differs_from_those_of_so_many_bits():
    found = composed("integers", "game=Pong", "name=Pong", "bits=int4", "integers.epochs=7", "integers.torch_threads=2")
    assert fine_tuning("Pong", found, composed) == 'make integers GAME=Pong BITS=4 ARGS="integers.epochs=7"'


def test_what_was_not_there_yet_is_said_as_it_was_then():
    own = {"student": {"x": 1, "signs": "free"}, "distill": {"hints": 2.0, "unit": "spread"}}
    old = {"student": {"x": 1}, "distill": {"unit": "spread"}}
    assert arguments(old, own, {}) == "distill.hints=0.0"
    large = {"student": {"x": 2}, "distill": {"unit": "value", "hints": 2.0}}
    assert arguments(large, own, {"large": {"x": 2, "signs": "free"}}) == "student=large distill.unit=value"


@pytest.mark.parametrize("path", sorted(MODELS.glob("*/card.json")), ids=lambda path: path.parent.name)
def test_the_commands_on_a_card_give_the_settings_that_it_tells(path):
    facts = read_json(path)
    again = list(commands(facts))
    assert facts["commands"] == again, "conf/ is another now: deploy.publish.retell writes the cards anew"
    assert f"Made by: `{again[0]}`" in path.with_name("card.md").read_text()
    game, students = facts["game"], list(trainings(facts["student"])) if "student" in facts else []
    for stage, named, made in (
        ("teacher", [f"game={game}", f"name={game}"], [facts["teacher"]]),
        ("distill", [f"games=[{game}]"], students),
    ):
        lines = [line for line in again if line.startswith(f"make {stage} ")]
        for line, told in zip(lines, made, strict=True):
            check_makes(composed(stage, *named, *said(line)), told["settings"])


INTEGERS = [
    (path, player) for path in sorted(MODELS.glob("*/card.json")) for player in read_json(path).get("integers", ())
]


@pytest.mark.parametrize(("path", "player"), INTEGERS)
def test_the_commands_of_integers_on_a_card_give_the_settings_that_it_tells(path, player):
    facts = read_json(path)
    game, own = facts["game"], facts["integers"][player]
    (line,) = (line for line in facts["commands"] if line.startswith(f"make integers GAME={game} BITS={own['bits']}"))
    named = (f"game={game}", f"name={game}", f"bits={player}")
    check_makes(composed("integers", *named, *said(line)), own["settings"])


@pytest.mark.parametrize("path", sorted(MODELS.glob(f"*/{SEVERAL}")), ids=lambda path: path.parent.name)
def test_the_commands_on_a_card_of_several_games_give_the_settings_that_it_tells(path):
    facts, games = read_json(path), labelled(path.parent.name)
    rows = {game: facts["games"][game] for game in games}
    again = publish_many.commands(rows, facts["student"], facts["protocol"]["episodes"])
    assert facts["commands"] == again, "conf/ is another now: deploy.publish_many.retell writes the cards anew"
    lines = [line for line in again if line.startswith("make distill ")]
    for line, own in zip(lines, trainings(facts["student"]), strict=True):
        check_makes(composed("distill", f"games=[{','.join(games)}]", *said(line)), own["settings"])


def test_none_that_is_an_empty_list_now_is_not_said_and_names_in_a_list_are_said_bare():
    own: dict[str, Any] = {"student": 1, "distill": {"start": []}}
    assert arguments({"student": 1, "distill": {"start": None}}, own, {}) == ""
    begun = {"student": 1, "distill": {"start": ["a.npz", "b.npz"]}}
    assert arguments(begun, own, {}) == "distill.start=[a.npz,b.npz]"


def test_a_setting_that_is_no_longer_known_is_left_out():
    assert arguments({"student": 1, "distill": {"gone": 3}}, {"student": 1, "distill": {"new": 4}}, {}) == ""


@pytest.mark.parametrize("more", [[], SAID, ["student=middle", *SAID], ["student.front_features=40"]])
def test_a_distillation_said_again_has_the_settings_that_it_had(more):
    found = composed("distill", "games=[Pong]", *more)
    line = distilling("GAME=Pong", found, composed)
    assert line.startswith("make distill GAME=Pong")
    assert sorted(said(line)) == sorted(more)
    assert composed("distill", "games=[Pong]", *said(line)) == found


def test_a_students_games_are_named_as_they_were():
    found = composed("distill", "games=[Pong,Breakout]", "student=many")
    assert distilling("GAMES=Pong,Breakout", found, composed) == 'make distill GAMES=Pong,Breakout ARGS="student=many"'


@pytest.mark.parametrize("game", ["Pong", "Freeway", "Alien"])
def test_what_a_games_own_file_says_need_not_be_said_of_its_teacher(game):
    named = (f"game={game}", f"name={game}")
    assert teaching(game, composed("teacher", *named), composed) == f"make teacher GAME={game}"
    found = composed("teacher", *named, "teacher.train_frames=20_000_000", "teacher.network.channels=[8,8,8]")
    line = teaching(game, found, composed)
    assert sorted(said(line)) == ["teacher.network.channels=[8,8,8]", "teacher.train_frames=20000000"]
    assert composed("teacher", *named, *said(line)) == found


@pytest.mark.parametrize(
    "more", [[], ["teacher.train_frames=5000000"], ["teacher.envs=128", "teacher.agent.batch=128"]]
)
def test_a_teacher_of_another_algorithm_is_named_by_its_preset(more):
    named = ("game=Pong", "name=Pong", "algo=pqn")
    found = composed("teacher", *named, *more)
    line = teaching("Pong", found, composed)
    assert sorted(said(line)) == sorted(["algo=pqn", *more])
    assert composed("teacher", *named[:2], *said(line)) == found


def test_a_fall_of_the_learning_rate_is_said_only_where_it_does_not_follow_the_frames():
    for more in (["teacher.train_frames=20000000"],
                 ["teacher.rate_decay_frames=10000000", "teacher.train_frames=20000000"]):  # fmt: skip
        found = composed("teacher", "game=Pong", "name=Pong", *more)
        assert sorted(said(teaching("Pong", found, composed))) == more


def test_a_dataset_said_again_has_the_settings_that_its_report_tells_else_its_size():
    named = ("game=Pong", "name=Pong")
    told = {"settings": composed("rollouts", *named, "rollouts.envs=16", "rollouts.threads=1"), "decisions": 540_017}
    assert recording("Pong", told, composed) == 'make rollouts GAME=Pong ARGS="rollouts.envs=16"'
    untold = {"decisions": 200_000}
    assert recording("Pong", untold, composed) == 'make rollouts GAME=Pong ARGS="rollouts.decisions=200000"'
    assert recording("Pong", {"decisions": 540_000}, composed) == "make rollouts GAME=Pong"


def test_students_have_names_apart():
    with initialize_config_dir(str(CONF), version_base=None):
        shapes = [str(compose("distill", [f"student={path.stem}"]).student) for path in (CONF / "student").glob("*")]
    assert len(set(shapes)) == len(shapes)


def test_conf_is_read_alike_where_hydra_has_begun_the_command():
    plain = composed("distill", "games=[Pong]")
    with initialize_config_dir(str(CONF), version_base=None):
        assert composed.__wrapped__("distill", "games=[Pong]") == plain


def test_what_is_remembered_is_asked_once_and_not_met_changed():
    asked = []

    def stage_of(stage, *named):
        asked.append((stage, *named))
        return {"named": list(named)}

    told = remembered(stage_of)
    told("a", "b")["named"].append("c")
    assert told("a", "b") == {"named": ["b"]} and told("a") == {"named": []}
    assert asked == [("a", "b"), ("a",)]

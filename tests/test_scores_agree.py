"""Scoring all episodes at once equals scoring them one by one, episode by episode, on the same seeds."""

from __future__ import annotations

import re

import pytest
from run_cases import ACTIONS, write_run

from deploy.reports import share_of, table
from deploy.score import GameRun, ScoreSettings, Worker, score_at_once, score_one_by_one
from rl.games import EnvSettings
from rl.scores import Protocol, Score
from rl.settings import SettingsError

# Long enough for some points; so many strays that episodes and seeds come out differently.
ENVS = {
    "plain": EnvSettings(4, 0.0, 30, False, 400),
    "sticky, all actions": EnvSettings(4, 0.25, 1, True, 400),
}
SEEDS = {"plain": 68, "sticky, all actions": 50}  # whose episodes differ, short as they are


def rules(env="plain", seed=50, episodes=3, epsilon=0.7):
    return Protocol("short", ENVS[env], epsilon, episodes, seed)


def config(root, processes=1, players=("teacher",)):
    return GameRun("Breakout", str(root), ScoreSettings(players, "nature", 4, 50, processes, 0.0, again=False))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, "Breakout")
    return folder


def alone(player, root, own):
    """Episode by episode through the one interface, in this process."""
    Worker.begin(player, "Breakout", str(root), own)
    return tuple(Worker.play(index) for index in range(own.episodes))


@pytest.mark.parametrize("env", ENVS)
@pytest.mark.parametrize("player", ["teacher", "student", "chip"])
def test_at_once_equals_one_by_one(player, env, root):
    own = rules(env, seed=SEEDS[env])
    at_once = score_at_once(player, config(root), own)
    assert at_once.returns == alone(player, root, own)
    assert len(set(at_once.returns)) > 1, "episodes that all end alike prove little"


def test_chip_and_student_score_alike(root):
    assert alone("chip", root, rules(episodes=2)) == alone("student", root, rules(episodes=2))


def test_the_same_seeds_give_the_same_score_and_others_another(root):
    first, again, other = (score_at_once("student", config(root), rules(seed=seed)).returns for seed in (50, 50, 90))
    assert first == again != other


def test_an_episode_depends_on_its_seed_and_not_on_those_before_it(root):
    whole = score_at_once("student", config(root), rules(seed=50)).returns
    assert whole[1:] == score_at_once("student", config(root), rules(seed=51, episodes=2)).returns


def test_a_random_player_scores_an_episode_alike_whatever_its_process_played_before(root):
    own = rules(epsilon=0.0)
    Worker.begin("random", "Breakout", str(root), own)
    last_first = [Worker.play(index) for index in (2, 1, 0)]
    assert tuple(reversed(last_first)) == alone("random", root, own)
    assert len(set(last_first)) > 1


@pytest.mark.slow
def test_processes_share_the_episodes_out_and_keep_their_order(root):
    for player in ("teacher", "random"):
        expected = alone(player, root, rules())
        assert score_one_by_one(player, config(root, processes=2), rules()).returns == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 0}, "score.episodes: found 0, allowed 1 or more"),
        ({"players": ()}, "score.players: found (), allowed at least one player"),
        (
            {"players": ("chip", "human")},
            "score.players: found 'human', allowed chip, spec, student, int8, int4, teacher, random",
        ),
        ({"processes": 0}, "score.processes: found 0, allowed 1 or more"),
        ({"video_seconds": -1.0}, "score.video_seconds: found -1.0, allowed 0 (no video) or more"),
    ],
)
def test_settings_that_cannot_be_scored_are_refused_at_once(changes, message):
    own = {"players": ("chip",), "protocol": "nature", "episodes": 1, "seed": 1, "processes": 1}
    with pytest.raises(SettingsError, match=f"^{re.escape(message)}$"):
        ScoreSettings(**{**own, "video_seconds": 0.0, "again": False, **changes})


def test_the_share_of_the_teacher_is_counted_from_random_play():
    teacher, student, no_better = (Score("Pong", who, rules(), (value,)) for who, value in
                                   (("teacher", 19.3), ("student", -0.7), ("weak", -21.0)))  # fmt: skip
    assert share_of(student, teacher) == pytest.approx(0.5)
    assert share_of(teacher, teacher) == 1.0
    assert share_of(student, None) is None
    assert share_of(student, no_better) is None  # nothing to have a share of
    assert share_of(Score("AirRaid", "student", rules(), (5.0,)), teacher) is None  # random play is not published


def test_the_table_has_a_row_a_player():
    teacher, chip = Score("Pong", "teacher", rules(), (14.6, 14.6)), Score("Pong", "chip", rules(), (-20.7, -20.7))
    assert table([teacher, chip], teacher).splitlines()[2:] == [
        "| teacher | 14.60 | 14.60 .. 14.60 | 14.60 | 1.00 | 1.000 | 2 |",
        "| chip | -20.70 | -20.70 .. -20.70 | -20.70 | 0.00 | 0.000 | 2 |",
    ]
    assert table([chip], None).splitlines()[2] == "| chip | -20.70 | -20.70 .. -20.70 | -20.70 | 0.00 | - | 2 |"


def test_all_eighteen_actions_are_offered_under_machado(root):
    Worker.begin("random", "Breakout", str(root), rules("sticky, all actions"))
    assert len(Worker.actions) == 18
    assert set(ACTIONS["Breakout"]) < set(Worker.actions)

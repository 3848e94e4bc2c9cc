"""make score of many games: what is missing is said first, what is finished stays, and nothing is played twice."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from run_cases import ENV, ROOM, files_in, small_teacher, write_run

from deploy import score
from deploy.score import GameRun, ScoreRun, ScoreSettings, command, score_game
from rl.checkpoint import save_policy
from rl.command import only_one
from rl.files import FormatError
from rl.scores import Score
from rl.settings import SettingsError
from rl.stages import CHIP, STUDENT, TEACHER

GAMES = ("Pong", "Breakout")
MEANS = {"teacher": 12.0, "student": 9.0, "chip": 9.0, "random": -15.0}


@pytest.fixture(autouse=True)
def nothing_ships(tmp_path_factory, monkeypatch):
    monkeypatch.setattr("rl.stages.find.__defaults__", (tmp_path_factory.mktemp("models"),))


@pytest.fixture
def root(tmp_path):
    for game in GAMES:
        write_run(tmp_path, game)
    return tmp_path


@pytest.fixture
def played(monkeypatch):
    """Episodes are invented from their seeds instead of played; what was asked for is noted."""
    asked = []

    def play(player, job, rules):
        asked.append((job.root, job.name, player, rules.seed, rules.episodes))
        seeds = range(rules.seed, rules.seed + rules.episodes)
        return Score(job.name, player, rules, tuple(MEANS[player] + seed % 7 for seed in seeds))

    monkeypatch.setattr(score, "score_at_once", play)
    monkeypatch.setattr(score, "score_one_by_one", play)
    return asked


def settings(players=("teacher", "student", "chip"), episodes=4, **changes):
    own = {"protocol": "nature", "seed": 50, "processes": 1, "video_seconds": 0.0, "again": False} | changes
    return ScoreSettings(players=players, episodes=episodes, **own)


def config(root, games=GAMES, runs=(), **changes):
    return ScoreRun(games, str(root), tuple(map(str, runs)), None, settings(**changes))


def report(root, game="Pong"):
    return json.loads((root / game / "score/nature/report.json").read_text())


def test_games_are_scored_in_turn_and_then_together(root, played, capsys):
    assert command(config(root)) == 0
    assert [call[1:3] for call in played] == [(game, player) for game in GAMES for player in settings().players]
    for game in GAMES:
        assert report(root, game)["scores"]["chip"]["returns"] == [10.0, 11.0, 12.0, 13.0]
    folder = root / "Pong-Breakout/score/nature"
    facts = json.loads((folder / "aggregate.json").read_text())
    assert (facts["games"], facts["runs"]) == (list(GAMES), [str(root)])
    assert [json.loads(Path(path).read_text())["game"] for path in facts["reports"]] == list(GAMES)
    assert (folder / "aggregate.md").read_text() in capsys.readouterr().out
    assert (folder / "aggregate.svg").read_text().startswith("<svg ")


def test_one_game_is_not_put_together_with_itself(root, played):
    command(config(root, ("Pong",)))
    assert not [name for name in files_in(root) if "aggregate" in name]


def test_what_is_finished_is_not_played_again(root, played, capsys):
    command(config(root))
    before = (root / "Pong/score/nature/report.json").read_bytes()
    lines = (root / "Pong/teacher/metrics.jsonl").read_text()
    played.clear()
    command(config(root))
    assert played == []
    assert (root / "Pong/score/nature/report.json").read_bytes() == before
    assert (root / "Pong/teacher/metrics.jsonl").read_text() == lines, "the board hears of a score once"
    assert "Breakout: chip keeps its 4 episodes" in capsys.readouterr().out


def test_of_more_episodes_only_the_missing_are_played(root, played):
    command(config(root, ("Pong",)))
    first = report(root)
    played.clear()
    command(config(root, ("Pong",), episodes=9))
    assert played == [(str(root), "Pong", player, 54, 5) for player in settings().players]
    later = report(root)
    assert later["protocol"] == first["protocol"] | {"episodes": 9}
    whole = [MEANS["teacher"] + seed % 7 for seed in range(50, 59)]
    assert later["scores"]["teacher"]["returns"] == whole
    assert later["scores"]["teacher"]["protocol"]["seed"] == 50
    assert later["wall_s"] > first["wall_s"]
    told = [json.loads(line) for line in (root / "Pong/teacher/metrics.jsonl").read_text().splitlines()]
    shown = [line["score/episode_return"] for line in told if "score/episode_return" in line]
    assert shown == whole, "the board hears of each episode once"


def test_asking_for_fewer_episodes_loses_none(root, played):
    command(config(root, ("Pong",)))
    played.clear()
    command(config(root, ("Pong",), episodes=2))
    assert played == []
    assert report(root)["protocol"]["episodes"] == 4


def test_another_player_joins_the_report(root, played):
    command(config(root, ("Pong",)))
    played.clear()
    command(config(root, ("Pong",), players=("random",), episodes=2))
    assert [call[2:] for call in played] == [("random", 50, 2)]
    facts = report(root)
    assert set(facts["scores"]) == {"teacher", "student", "chip", "random"}
    assert facts["protocol"]["episodes"] == 2, "what every player has"
    assert facts["scores"]["chip"]["protocol"]["episodes"] == 4
    assert set(facts["models"]) == {TEACHER, STUDENT, CHIP}


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"again": True}, {"teacher", "student", "chip"}),
        ({"seed": 51}, {"teacher", "student", "chip"}),
        ({"protocol": "v5"}, {"teacher", "student", "chip"}),
        ({}, set()),
    ],
)
def test_other_rules_are_played_anew(root, played, change, again):
    command(config(root, ("Pong",)))
    played.clear()
    command(config(root, ("Pong",), **change))
    assert {call[2] for call in played} == again
    assert all(call[4] == 4 for call in played)


def test_another_model_is_played_anew_and_the_others_stay(root, played, capsys):
    command(config(root, ("Pong",)))
    save_policy(small_teacher(seed=2), root / "Pong" / TEACHER)
    played.clear()
    command(config(root, ("Pong",)))
    assert [call[2] for call in played] == ["teacher"]
    assert "teacher of another model or other rules, not kept" in capsys.readouterr().out


def test_a_model_that_is_gone_takes_its_score_out_of_the_report(root, played):
    command(config(root, ("Pong",)))
    (root / "Pong" / TEACHER).unlink()
    command(config(root, ("Pong",), players=("chip",), episodes=5))
    assert set(report(root)["scores"]) == {"student", "chip"}


def test_a_stop_leaves_what_is_finished_and_the_same_command_goes_on(root, played, monkeypatch):
    whole = score.score_at_once

    def stopped(player, job, rules):
        if len(played) == 4:
            raise KeyboardInterrupt
        return whole(player, job, rules)

    monkeypatch.setattr(score, "score_at_once", stopped)
    with pytest.raises(KeyboardInterrupt):
        command(config(root))
    assert set(report(root)["scores"]) == {"teacher", "student", "chip"}
    assert set(report(root, "Breakout")["scores"]) == {"teacher"}
    monkeypatch.setattr(score, "score_at_once", whole)
    played.clear()
    command(config(root))
    assert [call[1:3] for call in played] == [("Breakout", "student"), ("Breakout", "chip")]


def test_episodes_that_are_joined_equal_those_played_in_one_go(root, monkeypatch):
    """Real games, cut short: two episodes and then three more, or five at once."""
    whole = score.protocol

    def short(name, episodes, seed):
        return replace(whole(name, episodes, seed), env=replace(ENV, max_frames=400), epsilon=0.7)

    monkeypatch.setattr(score, "protocol", short)
    apart, once = (GameRun("Breakout", str(root), settings(("teacher",), n, seed=68)) for n in (2, 5))
    score_game(apart)
    joined = score_game(once)["teacher"].returns
    again = score_game(replace(once, score=replace(once.score, again=True)))["teacher"].returns
    assert joined == again
    assert len(set(joined)) > 1, "episodes that all end alike prove little"


# Several trainings


@pytest.fixture
def three(tmp_path):
    """Folders of trainings apart from each other."""
    for seed in (1, 2, 3):
        for game in GAMES:
            write_run(tmp_path / f"seed{seed}", game)
            save_policy(small_teacher(seed=seed, game=game), tmp_path / f"seed{seed}" / game / TEACHER)
    return [tmp_path / f"seed{seed}" for seed in (1, 2, 3)]


def test_a_training_counts_once_and_a_player_without_a_model_plays_once(three, tmp_path, played):
    assert command(config(tmp_path, runs=three, players=("teacher", "random"))) == 0
    assert [call[:3] for call in played if call[2] == "random"] == [(str(three[0]), game, "random") for game in GAMES]
    facts = json.loads((tmp_path / "Pong-Breakout/score/nature/aggregate.json").read_text())
    assert facts["counts"] == {"teacher": {"unit": "trainings", "n": 3}, "random": {"unit": "episodes", "n": 4}}
    assert facts["runs"] == [str(run) for run in three]
    assert set(report(three[2])["scores"]) == {"teacher"}


def test_one_model_does_not_pass_for_two_trainings(three, tmp_path, played):
    message = (
        rf"^runs: {re.escape(str(three[0]))} and {re.escape(str(three[1]))} have the same student/student\.npz of "
        r"Pong, must be trained apart; name folders with models of their own$"
    )
    with pytest.raises(SettingsError, match=message):
        command(config(tmp_path, runs=three, players=("teacher", "student")))
    assert played == []


# What it refuses, before anything is played


def test_all_that_is_missing_is_said_at_once_and_nothing_is_played(root, played):
    (root / "Breakout" / CHIP).unlink()
    (root / "Pong" / TEACHER).unlink()
    before = files_in(root)
    with pytest.raises(SettingsError) as found:
        command(config(root))
    assert [line.split("run ")[1] for line in str(found.value).splitlines()] == [
        "make teacher GAME=Pong",
        "make compile GAMES=Breakout",
    ]
    assert (played, files_in(root)) == ([], before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"games": ()}, r"^games: found \(\), allowed one or more$"),
        ({"games": ("Pong", "Pong")}, r"^games: found \('Pong', 'Pong'\), allowed each game once$"),
        ({"runs": ("a", "a")}, r"^runs: found \('a', 'a'\), allowed each folder once$"),
    ],
)
def test_sets_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        ScoreRun(**{"games": ("Pong",), "root": "x", "runs": (), "several": None, "score": settings()} | changes)


@pytest.mark.parametrize(
    "harm",
    [
        lambda facts: facts.pop("scores"),
        lambda facts: facts.update(scores=3),
        lambda facts: facts["scores"]["chip"].update(returns=["many"]),
        lambda facts: facts["scores"]["chip"].update(returns=[]),
        lambda facts: facts["scores"]["chip"].pop("protocol"),
        lambda facts: facts.update(wall_s=None),
    ],
    ids=["no scores", "no players", "no numbers", "no episodes", "no rules", "no time"],
)
def test_a_report_that_cannot_be_read_is_named_and_left_alone(root, played, harm):
    command(config(root, ("Pong",)))
    path = root / "Pong/score/nature/report.json"
    facts = report(root)
    harm(facts)
    path.write_text(json.dumps(facts))
    with pytest.raises(FormatError, match=rf"^{re.escape(str(path))}: field .* delete the file to play again$"):
        command(config(root, ("Pong",)))
    assert json.loads(path.read_text()) == facts


def test_two_programs_do_not_score_one_game_at_once(root, played):
    with only_one(root / "Pong/score/nature"), pytest.raises(SettingsError, match="another program is at work there"):
        command(config(root, ("Pong",)))


def test_a_games_file_says_nothing_of_scores_since_a_set_has_one_protocol():
    for path in (ROOM / "conf" / "game").glob("*.yaml"):
        assert "score" not in (yaml.safe_load(path.read_text()) or {}), path.name

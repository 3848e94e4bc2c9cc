"""Scores of many games together: scales from published scores, and what is left out and drawn from is said."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from deploy.aggregate import aggregate, aggregate_text, raw_scores, sheet
from deploy.panels import panels_svg
from deploy.reports import share_of
from rl.scores import REFERENCE, Score, protocol

RULES = protocol("nature", 8, 5000)
GAMES = ("Pong", "Breakout", "AirRaid")  # the last has no published scores
TEACHER = {"Pong": 19.0, "Breakout": 350.0, "AirRaid": 4000.0}


def scores(game, share, seed, episodes=8, spread=0.1):
    """Returns around a share of the teacher's gain over random play."""
    low, high = REFERENCE.get(game, (400.0, 0.0))[0], TEACHER[game]
    drawn = np.random.default_rng(seed).normal(share, spread, episodes)
    return tuple((low + (high - low) * drawn).tolist())


def a_run(seed=0, games=GAMES, episodes=8, **shares):
    """game -> player -> score."""
    shares = shares or {"teacher": 1.0, "student": 0.8, "chip": 0.8}
    draws = {"teacher": seed, "student": seed + 100, "chip": seed + 100, "random": seed + 200}
    return {
        game: {
            player: Score(game, player, replace(RULES, episodes=episodes), scores(game, share, draws[player], episodes))
            for player, share in shares.items()
        }
        for game in games
    }


def values(estimates):
    return {name: own["value"] for name, own in estimates.items()}


def test_the_human_scale_is_0_at_random_play_and_1_at_a_human():
    run = a_run()
    facts = aggregate([run], RULES)["human"]
    table = [[(value - REFERENCE[game][0]) / (REFERENCE[game][1] - REFERENCE[game][0]) for game, value in row.items()]
             for row in ({game: run[game]["teacher"].returns[i] for game in GAMES[:2]} for i in range(8))]  # fmt: skip
    means = np.mean(table, axis=0)
    found = values(facts["players"]["teacher"])
    assert found["mean"] == pytest.approx(means.mean())
    assert found["median"] == pytest.approx(np.median(means))
    assert found["iqm"] == pytest.approx(np.sort(np.ravel(table))[4:12].mean())
    assert facts["games"] == list(GAMES[:2])
    assert facts["left_out"] == {"AirRaid": "random and human play are not published"}


def test_the_share_of_the_teacher_is_that_of_the_reports_averaged_over_games():
    run = a_run()
    facts = aggregate([run], RULES)["teacher"]
    shares = [share_of(run[game]["student"], run[game]["teacher"]) for game in GAMES[:2]]
    assert facts["players"]["student"]["mean"]["value"] == pytest.approx(np.mean(shares))
    assert "teacher" not in facts["players"], "it has all of itself by definition"
    assert facts["left_out"] == {"AirRaid": "random play is not published"}


def test_both_players_are_resampled_for_a_share():
    """A teacher known from few, scattered episodes makes the share less certain, whatever the student does."""
    run = a_run()
    for game in GAMES:
        own = run[game]["teacher"]
        run[game]["student"] = replace(run[game]["student"], returns=(own.mean,) * 8)
    low, high = (aggregate([run], RULES)["teacher"]["players"]["student"]["mean"][key] for key in ("low", "high"))
    assert low < 1 < high and high - low > 0.02


def test_a_teacher_that_may_be_no_better_than_random_play_is_no_scale():
    run = a_run(teacher=0.0, student=0.5)
    facts = aggregate([run], RULES)["teacher"]
    assert facts["left_out"]["Pong"] == "the teacher does not beat random play for certain"
    assert (facts["games"], facts["players"]) == ([], {})
    assert "Over no game." in aggregate_text(aggregate([run], RULES))


def test_without_a_teacher_there_is_no_share_and_without_published_scores_no_human_scale():
    facts = aggregate([a_run(student=0.5)], RULES)
    assert (facts["teacher"], facts["better_than_teacher"]) == (None, {})
    assert "teacher" not in aggregate_text(facts)
    bare = aggregate([a_run(games=("AirRaid",), student=0.5)], RULES)
    assert (bare["human"]["games"], bare["human"]["players"]) == ([], {})
    assert panels_svg(sheet(bare)).count("AirRaid") == 1


def test_the_chance_to_beat_the_teacher_needs_no_scale():
    run = a_run(games=("AirRaid",), teacher=0.5, student=5.0, chip=0.5)
    run["AirRaid"]["chip"] = replace(run["AirRaid"]["teacher"], player="chip")
    facts = aggregate([run], RULES)["better_than_teacher"]
    assert (facts["student"]["value"], facts["chip"]["value"]) == (1.0, 0.5)


def test_equal_returns_give_equal_facts_and_equal_calls_equal_ones():
    facts = aggregate([a_run()], RULES)
    assert facts == aggregate([a_run()], RULES)
    for scale in ("human", "teacher"):
        assert facts[scale]["players"]["student"] == facts[scale]["players"]["chip"]
    assert facts != aggregate([a_run(seed=1)], RULES)


def test_of_one_run_episodes_are_drawn_as_many_as_every_game_has():
    run = a_run()
    run["Pong"]["student"] = replace(run["Pong"]["student"], returns=run["Pong"]["student"].returns[:5])
    own = raw_scores("student", [run], GAMES)
    assert (own.unit, own.scores.shape) == ("episodes", (5, 3))
    assert own.scores[:, 1].tolist() == list(run["Breakout"]["student"].returns[:5])


def test_of_several_runs_each_counts_once():
    runs = [a_run(seed=seed) for seed in range(3)]
    own = raw_scores("teacher", runs, GAMES)
    assert own.unit == "trainings"
    assert own.scores.tolist() == [[run[game]["teacher"].mean for game in GAMES] for run in runs]


def test_a_player_without_a_model_plays_in_the_first_run_alone():
    runs = [a_run(teacher=1.0, random=0.0), a_run(seed=1, teacher=1.0)]
    facts = aggregate(runs, RULES)
    assert facts["counts"] == {"teacher": {"unit": "trainings", "n": 2}, "random": {"unit": "episodes", "n": 8}}
    assert "teacher: 2 trainings, random: 8 episodes of each game" in aggregate_text(facts)


def test_a_profile_falls_from_all_to_none():
    own = aggregate([a_run()], RULES)["human"]["profile"]
    shares = own["players"]["teacher"]
    assert len(shares) == len(own["above"]) and shares == sorted(shares, reverse=True)
    assert shares[0] == 1.0


def test_facts_are_json_and_the_text_and_the_drawing_are_made_of_them():
    facts = json.loads(json.dumps(aggregate([a_run()], RULES), allow_nan=False))
    text = aggregate_text(facts)
    own = facts["teacher"]["players"]["chip"]["iqm"]
    assert f"{own['value']:.2f} ({own['low']:.2f} .. {own['high']:.2f})" in text
    assert text.startswith(
        "# 3 games, protocol nature\n\nPong, Breakout, AirRaid. 8 episodes of each game and player; "
    )
    assert "Over Pong, Breakout. Left out: AirRaid, random play is not published." in text
    lengths = {
        line.count("|") for line in text.splitlines() if line.startswith("| AirRaid") or line.startswith("| Pong")
    }
    assert lengths == {5}
    drawn = ElementTree.fromstring(panels_svg(sheet(facts)))
    words = {node.text for node in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {
        "teacher, student, chip: 3 games",
        "Human-normalised score, 2 games",
        "IQM",
        "optimality gap",
        *GAMES,
    } <= words


def test_nothing_is_shown_as_minus_zero():
    run = a_run(games=("Pong", "Breakout"), random=0.0)
    for game in run:
        run[game]["random"] = replace(run[game]["random"], returns=(REFERENCE[game][0] - 1e-6,) * 8)
    assert "-0.00" not in aggregate_text(aggregate([run], RULES))

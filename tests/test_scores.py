"""Scores: raw returns of full games, one env an episode, with an honest interval."""

from __future__ import annotations

import dataclasses
import itertools

import ale_py
import gymnasium
import numpy as np
import pytest

from rl.frames import blocks
from rl.games import ScalarGame, rom_id
from rl.scores import PROTOCOLS, REFERENCE, Protocol, Score, bootstrap, evaluate, points, protocol, rules_of
from rl.settings import SettingsError
from tests.training_cases import NATURE

RULES = Protocol("short", dataclasses.replace(NATURE, max_frames=600), epsilon=0.0, episodes=3, seed=21)


def a_score(returns=(1.0, 2.0, 6.0), game="Pong"):
    return Score(game, "teacher", RULES, returns)


def test_the_interval_of_the_mean_equals_all_resamples_of_a_small_sample():
    values = [0.0, 1.0, 5.0, 9.0]
    every = [np.mean(picks) for picks in itertools.product(values, repeat=4)]
    exact = np.percentile(every, [2.5, 97.5])
    assert bootstrap(values, samples=40_000) == pytest.approx(exact, abs=0.3)


def test_the_interval_is_reproducible_and_follows_its_seed():
    values = np.random.default_rng(0).normal(size=30)
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values) != bootstrap(values, seed=1)


@pytest.mark.parametrize("count", [1, 7, 30, 1500])
def test_an_interval_is_to_the_last_digit_that_of_published_cards(count):
    values = np.random.default_rng(count).normal(900, 250, count)
    picks = np.random.default_rng(0).integers(count, size=(2000, count))
    assert bootstrap(values.tolist()) == tuple(np.percentile(values[picks].mean(axis=1), [2.5, 97.5]))


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0, 3.0]])
def test_equal_returns_leave_no_interval(values):
    assert bootstrap(values) == (3.0, 3.0)


@pytest.mark.parametrize(
    ("score", "text"),
    [(-20.5, "-20.50"), (999.994, "999.99"), (999.996, "1,000"), (13582.5, "13,582"), (-1234.0, "-1,234"), (0, "0.00")],
)
def test_large_scores_are_told_in_whole_points(score, text):
    assert points(score) == text


def test_human_normalised_is_0_for_random_and_1_for_human_play():
    random, human = REFERENCE["Pong"]
    found = [a_score((value,)).human_normalised for value in (random, human, 2 * human - random)]
    assert found == pytest.approx([0.0, 1.0, 2.0])
    assert a_score(game="AirRaid").human_normalised is None


def test_a_score_says_all_of_itself():
    facts = a_score().to_json()
    assert (facts["mean"], facts["median"], facts["std"]) == (3.0, 2.0, pytest.approx(14**0.5 / 3**0.5))
    assert facts["returns"] == [1.0, 2.0, 6.0]
    assert facts["iqm"] == 3.0, "a quarter of three is none"
    assert facts["low"] <= 3.0 <= facts["high"]
    assert facts["protocol"]["env"]["noop_max"] == 30


RULES_BY_NAME = {  # epsilon, sticky, no-ops below, all actions
    "nature": (0.01, 0.0, 30, False),
    "rusu": (0.05, 0.0, 30, False),
    "machado": (0.0, 0.25, 1, True),
    "dopamine": (0.001, 0.25, 1, False),
    "v5": (0.0, 0.25, 1, False),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocols_go_by_name(name):
    own = protocol(name, 5, 3)
    assert (own.epsilon, own.env.sticky, own.env.noop_max, own.env.full_actions) == RULES_BY_NAME[name]
    assert (own.env.max_frames, own.env.frames_per_step) == (108_000, 4)
    assert (own.name, own.episodes, own.seed) == (name, 5, 3)


def test_a_runs_own_rules_have_the_name_of_a_protocol_only_where_they_are_one():
    for name in PROTOCOLS:
        own = protocol(name, 5, 3)
        assert rules_of(own.env, own.epsilon, 5, 3) == own
        other = rules_of(dataclasses.replace(own.env, sticky=0.125), own.epsilon, 4, 2)
        assert (other.name, other.env.sticky, other.episodes, other.seed) == ("own", 0.125, 4, 2)
        assert rules_of(own.env, 0.3, 5, 3).name == "own"


def test_v5_is_gymnasiums_environment_of_that_name():
    """Settings as ale-py registers them, not as somebody remembers them."""
    gymnasium.register_envs(ale_py)
    told, env = gymnasium.spec("ALE/Breakout-v5").kwargs, protocol("v5", 1, 1).env
    assert (told["frameskip"], told["repeat_action_probability"]) == (env.frames_per_step, env.sticky)
    assert told["full_action_space"] == env.full_actions
    assert told["max_num_frames_per_episode"] == env.max_frames


def test_references_are_of_games_that_there_are_and_the_human_beats_random_play():
    assert len(REFERENCE) == 57
    assert all(rom_id(game) for game in REFERENCE)
    assert all(random < human for random, human in REFERENCE.values())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: protocol("natur", 1, 1), r"^protocol: found 'natur', allowed nature, rusu, machado, dopamine, v5$"),
        (lambda: protocol("nature", 0, 1), r"^protocol\.episodes: found 0, allowed 1 or more$"),
        (lambda: dataclasses.replace(RULES, epsilon=1.5), r"^protocol\.epsilon: found 1\.5, allowed 0 to 1$"),
    ],
)
def test_impossible_protocols_are_refused(make, message):
    with pytest.raises(SettingsError, match=message):
        make()


def by_brightness(cells):
    """A policy of the newest picture alone, [B, 21, 21, 16]: its grey sum decides."""
    return cells.astype(np.int64).sum(axis=(1, 2, 3)) // 7 % 6


def played_alone(seed):
    """(raw return, steps) of one episode."""
    game = ScalarGame("SpaceInvaders", RULES.env, seed)
    obs, total, steps, ended = game.reset(), 0.0, 0, False
    while not ended:
        step = game.step(int(by_brightness(blocks(obs[-1:]))[0]))
        total, obs, steps, ended = total + step.reward, step.obs, steps + 1, step.ended
    return total, steps


def test_every_episode_counts_once_from_its_own_seed_over_the_whole_game():
    def act(stacks):
        asked.append(len(stacks))
        return by_brightness(stacks[..., 48:])

    asked = []
    score = evaluate(act, "SpaceInvaders", RULES, 1, "test")
    alone = [played_alone(RULES.seed + i) for i in range(3)]
    assert score.returns == tuple(total for total, _ in alone)
    assert len(set(score.returns)) > 1
    assert sum(asked) == sum(steps for _, steps in alone), "only open games are asked"
    assert (score.game, score.player, score.protocol) == ("SpaceInvaders", "test", RULES)


def test_the_same_protocol_gives_the_same_score_and_another_seed_another():
    rules = dataclasses.replace(RULES, epsilon=1.0, episodes=2)
    one, two, other = (
        evaluate(lambda stacks: np.zeros(len(stacks), np.int64), "SpaceInvaders", each, 1, "x").returns
        for each in (rules, rules, dataclasses.replace(rules, seed=500))
    )
    assert one == two
    assert one != other

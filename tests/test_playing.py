"""Recorded play: grouping changes the order of episodes alone, labels are exact, nothing that was played is lost."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from rl import playing
from rl.checkpoint import PolicyCheckpoint, half
from rl.frames import stack_blocks
from rl.network import QNetwork
from rl.playing import Cast, Lanes, best, episodes
from rl.recorder import teacher_cast
from tests.rollout_cases import plain_stack
from tests.training_cases import NATURE, TINY_NET

ENV = dataclasses.replace(NATURE, max_frames=120)  # 30 decisions an episode
ACTIONS = ("NOOP", "FIRE", "RIGHT", "LEFT")


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    params = half(QNetwork(len(ACTIONS), TINY_NET).state_dict())
    return PolicyCheckpoint("Breakout", ACTIONS, ENV, TINY_NET, params, {"score": {"mean": 1.0}})


def played(cast, lanes, decisions=160, seed=3, going=lambda count: True, epsilon=0.25):
    return list(episodes(cast, "Breakout", ENV, lanes, epsilon, seed, decisions, going))


def contents(found):
    """All of the episodes but q, whatever their order."""
    keys = ("frames", "action", "reward", "life_lost")
    flags = [(one.terminated, one.truncated) for one in found]
    rows = [(one.env, one.seed, *(getattr(one, key).tobytes() for key in keys)) for one in found]
    return sorted(zip(rows, flags, strict=True))


def in_order(found):
    return sorted(found, key=lambda one: (one.env, not one.truncated))


@pytest.fixture(scope="module")
def whole(policy):
    return played(teacher_cast(policy), Lanes(4, 1, 1))


def test_groups_change_nothing_within_the_episodes(policy, whole):
    for lanes in (Lanes(4, 2, 2), Lanes(4, 3, 1)):
        found = played(teacher_cast(policy), lanes)
        assert contents(found) == contents(whole)
        for one, other in zip(in_order(found), in_order(whole), strict=True):
            assert np.abs(one.q - other.q).max() < 1e-6, "the last bit of q is the batch's"


def test_the_same_seed_plays_the_same_and_another_seed_another(policy, whole):
    found = [played(teacher_cast(policy), Lanes(4, 1, 1), 20, seed) for seed in (3, 3, 4)]
    assert contents(found[0]) == contents(found[1]) != contents(found[2])
    for one, longer in zip(found[0], whole, strict=False):
        assert np.array_equal(one.frames, longer.frames[:6]) and np.array_equal(one.q, longer.q[:5])


def test_every_decision_is_recorded_those_of_open_episodes_too(whole):
    assert sum(len(one.action) for one in whole) == 160
    assert [len(one.action) for one in whole] == [30] * 4 + [10] * 4
    assert [(one.terminated, one.truncated) for one in whole] == [(False, True)] * 4 + [(False, False)] * 4
    assert {one.env: one.seed for one in whole} == {env: 3 + env for env in range(4)}


def test_labels_are_the_float32_of_the_network_bit_for_bit(policy, whole):
    network, first = policy.build(), whole[:4]
    assert [one.env for one in first] == list(range(4)), "all end at the cap, in one round"
    for i in range(30):
        stacks = np.stack([plain_stack(one, i) for one in first])
        with torch.no_grad():
            expected = network(torch.from_numpy(stack_blocks(stacks))).numpy()
        assert expected.dtype == np.float32 and np.array_equal(np.stack([one.q[i] for one in first]), expected)


def test_a_share_of_actions_is_random_and_the_others_are_the_players(policy, whole):
    action, q = (np.concatenate([getattr(one, name) for one in whole]) for name in ("action", "q"))
    assert 0.6 < (q.argmax(axis=1) == action).mean() < 0.98
    calm = played(teacher_cast(policy), Lanes(4, 2, 1), 80, epsilon=0.0)
    assert all(one.greedy.all() for one in calm)


def test_a_player_hears_where_episodes_begin_and_without_labels_q_is_zero():
    heard = []

    def act(stacks, first, q):
        heard.append(first.copy())
        assert stacks.shape == (3, 21, 21, 64) and not q.any()
        return np.full(3, 2)

    cast = Cast({"name": "two"}, {"digest": None}, ACTIONS, None, lambda n: act)
    found = played(cast, Lanes(3, 1, 1), 99, epsilon=0.0)
    assert [i for i, first in enumerate(heard) if first.any()] == [0, 30] and len(heard) == 33
    assert all((one.action == 2).all() and not one.greedy.any() and not one.q.any() for one in found)


def test_pieces_of_an_open_episode_come_back_whole(policy, whole, monkeypatch):
    monkeypatch.setattr(playing, "PIECE", 10)  # 30 decisions, 10 decisions: both end with a piece; 256 ends within
    found = played(teacher_cast(policy), Lanes(4, 1, 1))
    assert contents(found) == contents(whole)
    assert [one.q.tobytes() for one in found] == [one.q.tobytes() for one in whole]


def test_play_stops_between_two_rounds_and_keeps_what_was_played(policy):
    counts = []

    def going(count):
        counts.append(count)
        return count < 20

    found = played(teacher_cast(policy), Lanes(4, 3, 1), going=going)
    assert counts == [0, 4, 8, 12, 16, 20] and [len(one.action) for one in found] == [5] * 4


def test_nothing_is_played_where_nothing_is_wanted(policy):
    assert played(teacher_cast(policy), Lanes(2, 2, 1), decisions=0) == []


@pytest.mark.parametrize(
    ("lanes", "sizes"), [(Lanes(7, 2, 1), [4, 3]), (Lanes(2, 5, 1), [1, 1]), (Lanes(3, 1, 1), [3])]
)
def test_games_are_shared_out_evenly_and_no_group_is_empty(lanes, sizes):
    assert lanes.sizes() == sizes


def test_best_takes_the_lowest_action_on_a_tie():
    q = np.array([[1, 3, 3], [0, 0, 0]], np.float32)
    assert best(np.zeros((2, 21, 21, 64), np.uint8), np.zeros(2, bool), q).tolist() == [1, 0]

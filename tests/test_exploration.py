"""Random actions come as often, last as long and are spread as they are said to be."""

from __future__ import annotations

import numpy as np
import pytest

from rl.exploration import Exploration, epsilon_at

GREEDY = np.full(3, 9)  # no random action is this one


def played(steps, epsilon, most, seed=1):
    """Actions [steps, 3] where nothing greedy is done by chance."""
    own, rng = Exploration(3, 4, most), np.random.default_rng(seed)
    return np.stack([own.choose(GREEDY, epsilon, rng) for _ in range(steps)])


@pytest.mark.parametrize(("frames", "wanted"), [(0, 1.0), (250, 0.8125), (1000, 0.25), (5000, 0.25)])
def test_epsilon_falls_linearly_and_stays(frames, wanted):
    assert epsilon_at(frames, 0.25, 1000) == wanted


@pytest.mark.parametrize("most", [1, 50])
def test_without_epsilon_all_is_greedy_and_with_one_nothing_is(most):
    assert (played(200, 0.0, most) == 9).all()
    assert (played(200, 1.0, most) < 4).all()


def test_the_greedy_actions_that_were_given_do_not_change():
    given = GREEDY.copy()
    Exploration(3, 4, 5).choose(given, 1.0, np.random.default_rng(0))
    assert (given == GREEDY).all()


def test_one_step_at_most_is_plain_epsilon_greedy():
    actions = played(20_000, 0.25, 1)
    stray = actions < 4
    assert stray.mean() == pytest.approx(0.25, abs=0.01)
    assert (stray[1:] & stray[:-1]).mean() == pytest.approx(0.0625, abs=0.01)
    assert np.bincount(actions[stray]) / stray.sum() == pytest.approx([0.25] * 4, abs=0.02)


def lengths(actions):
    """Of the runs of one random action in one env, each ended by a greedy one."""
    found, before = [], 9
    for action in actions:
        if action == 9:
            before = 9
            continue
        if before == 9:
            found.append(0)
        found[-1] += 1
        before = action
    return np.array(found)


def test_random_actions_last_by_the_law_and_no_longer_than_allowed():
    # Seldom enough that two hardly ever follow on each other.
    found = np.concatenate([lengths(env) for env in played(120_000, 0.01, 6).T])
    share = np.bincount(np.minimum(found, 7), minlength=8)[1:] / len(found)
    law = 6 / np.pi**2 / np.arange(1, 6) ** 2.0
    assert share[:5] == pytest.approx(law, abs=0.03)
    assert share[5] == pytest.approx(1 - law.sum(), abs=0.03)
    assert share[6] < 0.03


def test_envs_stray_apart_and_a_seed_repeats_them():
    one = played(300, 0.5, 20)
    assert (one == played(300, 0.5, 20)).all()
    assert (one != played(300, 0.5, 20, seed=2)).any()
    assert (one[:, 0] != one[:, 1]).any()

"""Predicted values against realised returns: the running sums equal returns computed backwards, life by life."""

from __future__ import annotations

import numpy as np
import pytest

from rl.predictions import LIVES, Predictions
from rl.trainer import Trainer
from tests.training_cases import teacher

GAMMA = 0.75


def plain(steps, gamma):
    """(predicted, realised) means of the last lives, [(value, reward, over, cut) of every env] a step, backwards."""
    lives, open_ = [], [[] for _ in steps[0]]
    for step in steps:
        for env, (value, reward, over, cut) in enumerate(step):
            open_[env].append((float(value), min(1.0, max(-1.0, float(reward)))))
            if over:
                ahead, returns = 0.0, []
                for _, clipped in reversed(open_[env]):
                    ahead = clipped + gamma * ahead
                    returns.append(ahead)
                lives.append((sum(q for q, _ in open_[env]), sum(returns), len(returns)))
            if over or cut:
                open_[env] = []
    predicted, realised, states = map(sum, zip(*lives[-LIVES:], strict=True))
    return {"value/predicted": pytest.approx(predicted / states), "value/realised": pytest.approx(realised / states)}


@pytest.mark.parametrize("steps", [20, 300])  # fewer lives than are told of, and more
def test_the_running_sums_equal_returns_computed_backwards(steps):
    rng = np.random.default_rng(4)
    seen, predictions = [], Predictions(3, GAMMA)
    for _ in range(steps):
        value, reward = rng.normal(size=3).astype(np.float32), rng.integers(-3, 4, 3).astype(np.float32) / 2
        over = rng.random(3) < 0.15
        cut = ~over & (rng.random(3) < 0.05)
        predictions.note(value, reward, over, cut)
        seen.append(list(zip(value, reward, over, cut, strict=True)))
    assert predictions.means() == plain(seen, GAMMA)


def test_one_life_by_hand():
    predictions = Predictions(1, 0.5)
    over, goes_on = np.array([True]), np.array([False])
    for value, reward, ends in ((1.0, 0.0, goes_on), (2.0, 7.0, goes_on), (4.5, -0.5, over)):
        predictions.note(np.array([value], np.float32), np.array([reward], np.float32), ends, goes_on)
    # Returns 0.375, 0.75 (7 counts as 1) and -0.5 of the three states.
    assert predictions.means() == {"value/predicted": 2.5, "value/realised": 0.625 / 3}


def test_nothing_is_told_before_a_life_has_ended_and_nothing_of_one_that_was_cut_off():
    predictions = Predictions(2, GAMMA)
    ones, no = np.ones(2, np.float32), np.zeros(2, bool)
    predictions.note(ones, ones, no, no)
    assert predictions.means() == {}
    predictions.note(ones, ones, no, ~no)
    assert predictions.means() == {}
    predictions.note(3 * ones, ones, ~no, no)
    assert predictions.means() == {"value/predicted": 3.0, "value/realised": 1.0}, "the cut one left nothing behind"


def test_a_trainer_tells_of_the_values_it_acted_on(tmp_path, monkeypatch):
    config = teacher(tmp_path)
    made = Trainer(config, tmp_path)
    tape, acted, recv, send = [], made._agent.values, made._games.recv, made._games.send
    monkeypatch.setattr(made._agent, "values", lambda stacks: tape.append([acted(stacks)]) or tape[-1][0])
    monkeypatch.setattr(made._games, "send", lambda actions: tape[-1].append(actions) or send(actions))
    monkeypatch.setattr(made._games, "recv", lambda: tape[-1].append(recv()) or tape[-1][2])
    for _ in range(150):
        made.step()
    made.close()
    seen = [
        [
            (values[e, actions[e]], step.reward[e], step.terminated[e] | step.life_lost[e], step.truncated[e])
            for e in (0, 1)
        ]
        for values, actions, step in tape
    ]
    assert sum(over for step in seen for _, _, over, _ in step) > 3
    assert any(cut for step in seen for *_, cut in step)
    assert made.predictions.means() == plain(seen, config.teacher.agent.gamma)

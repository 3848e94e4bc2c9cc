"""PQN: its returns against a scalar recursion, its rollouts against what was played, its learning."""

from __future__ import annotations

import dataclasses
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rl.frames import BlockStacks, blocks
from rl.pqn import Pqn, PqnSettings, Rollouts, Samples, lambda_returns
from rl.settings import SettingsError
from rl.trainer import Trainer, _need_start
from tests.training_cases import TINY_AGENT, TINY_NET, Tape
from tests.training_cases import teacher as tiny_run

SETTINGS = PqnSettings(rollout_steps=5, epochs=2, trace=0.5)


def by_hand(reward, best, terminal, cut, gamma, trace, t):
    """The return of one env's step t, forwards: every horizon's own return, weighted."""
    if terminal[t]:
        return reward[t]
    if cut[t]:
        return reward[t] + gamma * best[t]
    if t == len(reward) - 1:
        return reward[t] + gamma * best[t + 1]
    further = by_hand(reward, best, terminal, cut, gamma, trace, t + 1)
    return reward[t] + gamma * ((1 - trace) * best[t + 1] + trace * further)


@pytest.mark.parametrize("trace", [0.0, 0.65, 1.0])
def test_returns_equal_a_scalar_recursion_whatever_ends_inside(trace):
    rng = np.random.default_rng(3)
    reward, best = rng.normal(size=(7, 4)).astype(np.float32), rng.normal(size=(8, 4)).astype(np.float32)
    ends = rng.integers(0, 4, (7, 4))
    terminal, cut = ends == 0, ends == 1
    found = lambda_returns(reward, best, terminal, cut, 0.9, trace)
    for env in range(4):
        columns = (part[:, env] for part in (reward, best, terminal, cut))
        hand = [by_hand(*columns_, 0.9, trace, t) for columns_ in [list(columns)] for t in range(7)]
        assert found[:, env] == pytest.approx(hand, abs=1e-5)


def test_trace_0_looks_one_step_ahead_and_1_to_the_end():
    reward, best = np.array([[1.0], [2.0], [4.0]], np.float32), np.array([[9.0], [8.0], [16.0], [32.0]], np.float32)
    no = np.zeros((3, 1), bool)
    assert lambda_returns(reward, best, no, no, 0.5, 0.0)[:, 0].tolist() == [1 + 4, 2 + 8, 4 + 16]
    assert lambda_returns(reward, best, no, no, 0.5, 1.0)[:, 0].tolist() == [1 + 1 + 1 + 4, 2 + 2 + 8, 4 + 16]


def played(steps, envs=3, seed=0):
    """Rollouts that have seen so many steps of a tape, and what was put in."""
    tape, rollouts, rng = Tape(envs, seed), Rollouts(envs, SETTINGS, 0.75), np.random.default_rng(1)
    stacks = BlockStacks(blocks(tape.first))
    seen = []
    for at in range(steps):
        actions, step = tape.step()
        best = np.arange(envs, dtype=np.float32) + 10 * at
        seen.append((stacks.now, best, actions, step))
        rollouts.add(stacks.now, best, actions, step, rng)
        stacks.push(blocks(step.first), step.ended)
    return rollouts, seen


def test_nothing_is_learnt_until_the_values_behind_a_rollout_are_known():
    assert played(5)[0].waiting == 0
    assert played(6)[0].waiting == SETTINGS.epochs * 5 * 3


def test_every_sample_of_a_rollout_is_learnt_once_an_epoch_with_its_own_return():
    rollouts, seen = played(6)
    reward = np.clip([step.reward for *_, step in seen[:5]], -1, 1)
    terminal = np.array([step.terminated | step.life_lost for *_, step in seen[:5]])
    cut = np.array([step.truncated for *_, step in seen[:5]])
    best = np.array([best for _, best, _, _ in seen])
    returns = lambda_returns(reward.astype(np.float32), best, terminal, cut, 0.75, SETTINGS.trace)
    put = sorted(
        (stacks[e].tobytes(), int(actions[e]), float(returns[t, e]))
        for t, (stacks, _, actions, _) in enumerate(seen[:5])
        for e in range(3)
    )
    for _ in range(SETTINGS.epochs):
        drawn = [rollouts.sample(4), rollouts.sample(4), rollouts.sample(7)]
        got = sorted(
            (obs.tobytes(), int(action), float(value))
            for part in drawn
            for obs, action, value in zip(part.obs, part.action, part.returns, strict=True)
        )
        assert got == put
    assert rollouts.waiting == 0
    with pytest.raises(AssertionError, match="1 samples of 0"):
        rollouts.sample(1)


def test_playing_on_does_not_touch_what_is_being_learnt():
    rollouts, seen = played(6)
    one = rollouts.sample(15)
    again, _ = played(10)
    other = again.sample(15)
    assert np.array_equal(one.obs, other.obs)
    assert np.array_equal(one.returns, other.returns)
    assert len(seen) == 6


def test_learning_brings_values_to_the_returns():
    torch.manual_seed(1)
    rng = np.random.default_rng(2)
    agent = Pqn(4, TINY_NET, TINY_AGENT, threads=2)
    obs = rng.integers(0, 256, (6, 21, 21, 64), dtype=np.uint8)
    batch = Samples(obs, rng.integers(4, size=6), rng.integers(-2, 3, 6).astype(np.float32))
    losses = [agent.learn(batch, 0.01)["train/loss"] for _ in range(160)]
    assert losses[-1] < losses[0] / 8


def pqn_run(root, batch=6, **changes):
    agent = dataclasses.replace(TINY_AGENT, batch=batch)
    return tiny_run(root, algo="pqn", agent=agent, updates_per_step=1, **changes)


def weights(trainer):
    return torch.cat([value.flatten() for value in trainer._agent.online.state_dict().values()])


def test_a_run_learns_and_goes_on_from_what_it_saved(tmp_path):
    trainer = Trainer(pqn_run(tmp_path), tmp_path)
    metrics = [trainer.step() for _ in range(14)]
    trainer.save()
    assert [bool(seen) for seen in metrics] == [False] * 6 + [True] * 8
    again = Trainer(pqn_run(tmp_path), tmp_path)
    assert again.resumed
    assert again.frames == trainer.frames
    assert torch.equal(weights(again), weights(trainer))
    trainer.close(), again.close()


def test_equal_seeds_learn_equally_and_others_do_not(tmp_path):
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trainer = Trainer(pqn_run(tmp_path / name, seed=seed), tmp_path / name)
        for _ in range(12):
            trainer.step()
        found.append(weights(trainer))
        trainer.close()
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_run_does_not_go_on_as_another_algorithm(tmp_path):
    trainer = Trainer(pqn_run(tmp_path), tmp_path)
    trainer.save()
    trainer.close()
    with pytest.raises(SettingsError, match="begun with another"):
        Trainer(tiny_run(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rollout_steps": 1}, "pqn.rollout_steps: found 1, allowed 2 or more"),
        ({"epochs": 0}, "pqn.epochs: found 0, allowed 1 or more"),
        ({"trace": 1.5}, "pqn.trace: found 1.5, allowed 0 to 1"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        dataclasses.replace(SETTINGS, **change)


def test_a_batch_that_does_not_use_up_a_rollout_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=re.escape("teacher.agent.batch: found 6, allowed envs * epochs")):
        pqn_run(tmp_path, pqn=dataclasses.replace(SETTINGS, epochs=7))
    with pytest.raises(SettingsError, match=re.escape("teacher.algo: found 'sarsa', allowed ddqn or pqn")):
        tiny_run(tmp_path, algo="sarsa")


@pytest.mark.parametrize("processes", [1, 2])
def test_what_a_replay_needs_is_not_asked_of_a_run_that_has_none(tmp_path, processes):
    many = {"envs": 120, "replay_rows": 1, "learn_start_frames": 1}
    run = pqn_run(tmp_path, batch=360, **many)
    _need_start(run, SimpleNamespace(size=processes))
    with pytest.raises(SettingsError, match=r"^teacher\.replay_rows: found 1, allowed 1680 or more for so many envs$"):
        tiny_run(tmp_path, **many)

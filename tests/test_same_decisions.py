"""The same seed decides the same on the same machine, however many threads play and learn; another seed does not."""

from __future__ import annotations

import hashlib

import pytest

from rl.trainer import Trainer
from tests.training_cases import teacher

ENVS = 4


def decided(folder, steps, **changes):
    """A digest of all that the envs showed and gave, of every action, and of the weights in the end."""
    run = Trainer(teacher(folder, envs=ENVS, replay_rows=1_200, learn_start_frames=400, **changes), folder)
    seen, note = hashlib.sha256(), run._replay.add

    def add(actions, step):
        for array in (actions, step.frames, step.first, step.reward, step.ended):
            seen.update(array.tobytes())
        note(actions, step)

    run._replay.add = add
    for _ in range(steps):
        run.step()
    assert run._agent.updates > 0.9 * steps - 100
    for value in run._agent.state().values():
        seen.update(value.numpy().tobytes())
    run.close()
    return seen.hexdigest()


def check(tmp_path, steps):
    one = decided(tmp_path / "a", steps)
    assert decided(tmp_path / "b", steps) == one
    assert decided(tmp_path / "c", steps, env_threads=2) == one
    assert decided(tmp_path / "d", steps, seed=6) != one


def test_the_first_400_decisions_are_the_same_bit_for_bit(tmp_path):
    check(tmp_path, 400 // ENVS)


@pytest.mark.slow
def test_the_first_20000_decisions_are_the_same_bit_for_bit(tmp_path):
    check(tmp_path, 20_000 // ENVS)

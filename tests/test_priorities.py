"""Prioritised replay against plain sums: what is drawn, how often, and how much it weighs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rl.agent import DoubleDqn
from rl.priorities import LEAST, Priorities
from rl.replay import Replay
from rl.trainer import Trainer
from tests.test_replay import drawable, key_of
from tests.training_cases import TINY_AGENT, TINY_NET, Tape, taped_replay, teacher


def prioritised(steps, envs=3, capacity=150, n=3, **rates):
    tape = Tape(envs, **rates)
    replay = Replay(envs, capacity, tape.first, prioritised_steps=n)
    for _ in range(steps):
        replay.add(*tape.step())
    return tape, replay


def rows_of(tape, batch):
    """(env, row) of each transition, found by its newest frame."""
    newest = {row[0].tobytes(): (e, r) for e, rows in enumerate(tape.rows) for r, row in enumerate(rows)}
    frames = batch.obs[..., -16:].reshape(-1, 21, 21, 4, 4).transpose(0, 1, 3, 2, 4).reshape(-1, 84, 84)
    return [newest[frame.tobytes()] for frame in frames]


@pytest.mark.parametrize("n", [1, 3, 5])
@pytest.mark.parametrize("steps", [7, 41, 130], ids=["part", "nearly full", "wrapped"])
def test_unlearnt_rows_are_drawn_evenly_and_all_that_may_be_and_no_other(steps, n):
    tape, replay = prioritised(steps, n=n, end=0.2)
    every = sorted(drawable(tape, replay, n))
    batch = replay.sample(np.random.default_rng(1), 4 * len(every), n, 0.75)
    drawn = rows_of(tape, batch)
    assert sorted(set(drawn)) == every
    assert max(map(drawn.count, every)) <= 5  # one from each equal part: four and a bit
    assert batch.weight.tolist() == [1.0] * len(drawn)


def test_what_is_drawn_is_what_an_even_replay_holds():
    _, replay = prioritised(60)
    _, plain = taped_replay(60)
    batch = replay.sample(np.random.default_rng(0), 40, 3, 0.75)
    even = plain.sample(np.random.default_rng(0), 4000, 3, 0.75)
    by_key = {key_of(even.obs[i]): i for i in range(4000)}
    for i in range(40):
        j = by_key[key_of(batch.obs[i])]
        for name in ("obs", "next_obs", "action", "returns", "discount"):
            assert np.array_equal(getattr(batch, name)[i], getattr(even, name)[j]), name


def test_chances_follow_the_square_root_of_the_loss_and_weights_undo_half_of_it():
    priorities, flags = Priorities(2, 8, 1, 3), np.zeros((2, 8), np.uint8)
    priorities.renew(flags, np.array([5, 4]), idle=4)  # rows 0..3 and 0..2: seven leaves
    losses = np.array([4.0, 1.0, 0.25, 0.01, 9.0, 1.0, 1.0], np.float32)
    leaves = np.array([0, 1, 2, 3, 8, 9, 10])
    priorities.learnt(leaves, losses)
    drawn, weight = priorities.draw(np.random.default_rng(0), 85_000)
    shares = np.bincount(drawn, minlength=16) / 85_000
    wanted = np.sqrt(losses) + LEAST
    assert np.flatnonzero(shares).tolist() == leaves.tolist()
    assert shares[leaves] == pytest.approx(wanted / wanted.sum(), abs=1e-4)
    assert weight == pytest.approx(np.sqrt(wanted.min() / wanted[np.searchsorted(leaves, drawn)]), rel=1e-5)


def test_rows_that_were_overwritten_are_not_ranked_again_by_a_late_loss():
    priorities, flags = Priorities(1, 8, 1, 3), np.zeros((1, 8), np.uint8)
    priorities.renew(flags, np.array([8]), idle=4)
    priorities.renew(flags, np.array([10]), idle=4)  # rows 0 and 1 are gone, 2 to 4 have no whole stack
    priorities.learnt(np.arange(8), np.full(8, 4.0, np.float32))
    drawn, _ = priorities.draw(np.random.default_rng(0), 800)
    assert sorted(set(drawn.tolist())) == [0, 5, 6, 7]  # rows 5, 6, 7 and 8; of row 9 nothing is known yet


@pytest.mark.parametrize("steps", [9, 41, 130], ids=["part", "nearly full", "wrapped"])
def test_priorities_come_back_with_the_rows_that_can_still_be_drawn(steps):
    tape, replay = prioritised(steps, end=0.2)
    for seed in range(6):
        batch = replay.sample(np.random.default_rng(seed), 16, 3, 0.75)
        replay.learnt(np.linspace(0.0, 9.0, len(batch.action), dtype=np.float32) + seed)
    marks, begin = replay.marks(), np.zeros(3, np.int64)
    again = Replay(3, 150, tape.first, prioritised_steps=3)
    again.head[:] = 0
    again.restore(replay.rows(begin))
    again.start(tape.first)
    even = again.marks()["priorities"]
    again.remark(marks)
    found, before = again.marks(), marks["priorities"]
    assert found["top"] == marks["top"] > 3
    assert np.array_equal(found["priorities"], np.where(even > 0, before, 0.0))
    assert len(set(found["priorities"])) > 5 and set(even) == {0.0, 1.0}
    again.remark({})
    assert np.array_equal(again.marks()["priorities"], found["priorities"]), "a state of before says nothing"
    assert Replay(3, 150, tape.first).marks() == {}


def test_a_run_that_goes_on_draws_by_the_priorities_that_it_had(tmp_path):
    before = Trainer(teacher(tmp_path, agent=dataclasses.replace(TINY_AGENT, prioritised=True)), tmp_path)
    for _ in range(60):
        before.step()
    before.save()
    marks = before._replay.marks()
    before.close()
    after = Trainer(teacher(tmp_path, agent=dataclasses.replace(TINY_AGENT, prioritised=True)), tmp_path)
    found = after._replay.marks()
    after.close()
    both = (found["priorities"] > 0) & (marks["priorities"] > 0)
    assert found["top"] == marks["top"] and len(set(marks["priorities"][both])) > 5
    assert np.array_equal(found["priorities"][both], marks["priorities"][both])


def test_new_rows_have_the_highest_priority_met_so_far():
    priorities, flags = Priorities(1, 16, 1, 3), np.zeros((1, 16), np.uint8)
    priorities.renew(flags, np.array([3]), idle=4)
    priorities.learnt(np.array([0, 1]), np.array([9.0, 1.0], np.float32))
    priorities.renew(flags, np.array([4]), idle=4)
    drawn, _ = priorities.draw(np.random.default_rng(0), 7_000)
    assert np.bincount(drawn)[:3] / 1000 == pytest.approx([3, 1, 3], abs=0.01)


def test_rows_with_an_idle_flag_are_never_drawn():
    priorities, flags = Priorities(1, 8, 1, 3), np.zeros((1, 8), np.uint8)
    flags[0, 2] = 4
    priorities.renew(flags, np.array([6]), idle=4)
    drawn, _ = priorities.draw(np.random.default_rng(0), 400)
    assert sorted(set(drawn.tolist())) == [0, 1, 3, 4]


def test_the_same_generator_draws_the_same_and_another_another():
    _, replay = prioritised(60)
    one, two, other = (replay.sample(np.random.default_rng(seed), 20, 3, 0.75) for seed in (1, 1, 2))
    assert np.array_equal(one.obs, two.obs)
    assert not np.array_equal(one.obs, other.obs)


def test_a_run_learns_by_priority_and_goes_on(tmp_path):
    changes = {"agent": dataclasses.replace(TINY_AGENT, prioritised=True)}
    run = Trainer(teacher(tmp_path, **changes), tmp_path)
    for _ in range(80):
        run.step()
    leaves = run._replay._priorities._tree
    assert len(np.unique(leaves[len(leaves) // 2 :])) > 10  # losses have come back
    run.save()
    run.close()
    after = Trainer(teacher(tmp_path, **changes), tmp_path)
    assert after.resumed
    assert after.step()
    after.close()


def test_an_update_weighs_its_losses():
    agent = DoubleDqn(18, TINY_NET, TINY_AGENT)
    _, replay = prioritised(40)
    batch = replay.sample(np.random.default_rng(0), 6, 3, 0.75)
    half = dataclasses.replace(batch, weight=np.full(6, 0.5, np.float32))
    whole, halved = (agent._gradient(one, 6) for one in (batch, half))
    assert halved[2] == pytest.approx(whole[2] / 2)
    assert halved[1].tolist() == whole[1].tolist()  # priorities are of the losses themselves

"""The replay against plain Python lists of the same rows."""

from __future__ import annotations

import numpy as np
import pytest

from rl import memory
from rl.frames import blocks, stack_blocks
from rl.replay import END, ROW_BYTES, Replay
from tests.training_cases import Tape, taped_replay


def plain_stack(rows, at):
    """[4, 84, 84]: frames back to the episode's first one, zeros before."""
    stack = np.zeros((4, 84, 84), np.uint8)
    for k in range(4):
        stack[3 - k] = rows[at - k][0]
        if rows[at - k][4]:
            break
    return stack


def plain_transition(rows, at, n, gamma):
    """(returns, discount, row of the bootstrap), the slow way."""
    total, scale, ahead = 0.0, 1.0, at
    for _ in range(n):
        _, action, reward, terminal, _ = rows[ahead]
        if action is None:  # an episode's last frame: cut off, so that its value counts
            return total, scale, ahead
        total += scale * min(1.0, max(-1.0, reward))
        scale, ahead = scale * gamma, ahead + 1
        if terminal:
            return total, 0.0, ahead
    return total, scale, ahead


def key_of(cells):
    return cells[..., -16:].tobytes()


def compare(tape, replay, n, gamma=0.75, batch=400, seed=0):
    """Sample and find every transition again among the plain rows; returns (env, row) of each."""
    newest = {
        key_of(stack_blocks(np.stack([row[0]] * 4)[None])[0]): (e, r)
        for e, rows in enumerate(tape.rows)
        for r, row in enumerate(rows)
    }
    drawn = []
    got = replay.sample(np.random.default_rng(seed), batch, n, gamma)
    for i in range(batch):
        e, r = newest[key_of(got.obs[i])]
        rows = tape.rows[e]
        total, discount, ahead = plain_transition(rows, r, n, gamma)
        assert got.action[i] == rows[r][1]
        assert (got.returns[i], got.discount[i]) == (np.float32(total), np.float32(discount))
        assert np.array_equal(got.obs[i], stack_blocks(plain_stack(rows, r)[None])[0])
        assert np.array_equal(got.next_obs[i], stack_blocks(plain_stack(rows, ahead)[None])[0])
        drawn.append((e, r))
    return drawn


def drawable(tape, replay, n):
    """All decisions whose stack is held and whose n steps are known."""
    for e, rows in enumerate(tape.rows):
        oldest = len(rows) - replay.length + 3 if len(rows) > replay.length else 0
        yield from ((e, r) for r in range(oldest, len(rows) - n) if rows[r][1] is not None)


@pytest.mark.parametrize("n", [1, 3, 5])
@pytest.mark.parametrize("steps", [17, 41, 130], ids=["part", "nearly full", "wrapped"])
def test_samples_equal_plain_lists(steps, n):
    tape, replay = taped_replay(steps)
    assert [len(rows) for rows in tape.rows] == replay.head.tolist()
    compare(tape, replay, n)


def test_every_decision_held_is_drawn_and_no_other():
    tape, replay = taped_replay(60, envs=2, capacity=62, end=0.3)
    assert set(compare(tape, replay, 3, batch=3000)) == set(drawable(tape, replay, 3))


def test_the_last_decision_of_an_episode_is_drawn_as_often_as_any_other():
    tape, replay = taped_replay(20, envs=1, capacity=100, end=0.4, seed=3)
    every = list(drawable(tape, replay, 1))
    drawn = compare(tape, replay, 1, batch=4000)
    counts = np.array([drawn.count(one) for one in every])
    mean = 4000 / len(every)
    assert abs(counts - mean).max() < 5 * np.sqrt(mean)


def hand_worked(reward, kind):
    """(returns, discount) of the first decision: three steps of one env, the third of a kind, then four more."""
    tape = Tape(1, end=0.0, life=0.0)
    replay = Replay(1, 40, tape.first)
    for t in range(7):
        actions, step = tape.step()
        step.reward[:] = reward[t] if t < 3 else 100.0
        if t == 2 and kind:
            getattr(step, kind)[:] = True
        replay.add(actions, step)
    got = replay.sample(np.random.default_rng(0), 64, 4, 0.5)
    first = [key_of(obs) for obs in got.obs].index(blocks(tape.first[0]).tobytes())
    return float(got.returns[first]), float(got.discount[first])


@pytest.mark.parametrize(
    ("kind", "returns", "discount"),
    [
        (None, 1.0 - 0.125 - 0.25 + 0.125, 0.0625),  # the fourth reward is clipped to 1 too
        ("life_lost", 1.0 - 0.125 - 0.25, 0.0),
        ("terminated", 1.0 - 0.125 - 0.25, 0.0),
        ("truncated", 1.0 - 0.125 - 0.25, 0.125),  # gamma**3: cut off is not terminal
    ],
)
def test_a_hand_worked_return(kind, returns, discount):
    assert hand_worked([7.0, -0.25, -1.5], kind) == (returns, discount)


def test_the_same_generator_draws_the_same_batch_and_another_another():
    _, replay = taped_replay(50)
    one, two, three = (replay.sample(np.random.default_rng(seed), 9, 3, 0.9) for seed in (1, 1, 2))
    assert np.array_equal(one.obs, two.obs)
    assert np.array_equal(one.returns, two.returns)
    assert not np.array_equal(one.obs, three.obs)


def test_rows_go_to_another_replay_and_come_back():
    tape, replay = taped_replay(130)
    other = Replay(3, 150, tape.first)
    other.head[:] = 0
    other.restore(replay.rows(np.zeros(3, np.int64)))
    other.head += 1  # the newest row, which awaits its action, is not saved
    assert_equal_rows(other.rows(np.zeros(3, np.int64)), replay.rows(np.zeros(3, np.int64)))


def assert_equal_rows(one, two):
    for name in vars(one):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name


@pytest.mark.parametrize("between", [7, 20, 90], ids=["few", "some", "more than the ring holds"])
def test_segments_put_back_in_order_are_the_whole(between):
    tape, replay = taped_replay(0)
    other = Replay(3, 150, tape.first)
    other.head[:], begin = 0, np.zeros(3, np.int64)
    for _ in range(4):
        for _ in range(between):
            replay.add(*tape.step())
        part = replay.rows(begin)
        other.restore(part)
        begin = part.stop
    other.head += 1
    assert_equal_rows(other.rows(np.zeros(3, np.int64)), replay.rows(np.zeros(3, np.int64)))


@pytest.mark.parametrize("most", [1, 3, 20, 62, 1000])
@pytest.mark.parametrize("steps", [0, 4, 130], ids=["none", "few", "wrapped"])
def test_rows_some_at_a_time_are_the_rows_at_once(steps, most):
    tape, replay = taped_replay(steps)
    other, begin = Replay(3, 150, tape.first), np.zeros(3, np.int64)
    other.head[:] = 0
    while (begin < replay.head - 1).any():
        part = replay.rows(begin, most)
        assert 0 < len(part.action) <= max(3, most)  # a row of each env at least
        other.restore(part)
        begin = part.stop
    other.head += 1
    assert_equal_rows(other.rows(np.zeros(3, np.int64)), replay.rows(np.zeros(3, np.int64)))


def test_a_resumed_run_never_joins_two_episodes_also_after_a_second_resume():
    tape, replay = taped_replay(12, end=0.05)
    parts = []
    for steps in (9, 1, 2, 14):
        parts.append(replay.rows(parts[-1].stop if parts else np.zeros(3, np.int64)))
        resumed = Replay(3, 150, tape.first)
        resumed.head[:] = 0
        for part in parts:
            resumed.restore(part)
        resumed.start(tape.begin_anew())
        replay = resumed
        for _ in range(steps):
            replay.add(*tape.step())
    for n in (1, 4):
        assert set(compare(tape, replay, n, batch=2500)) == set(drawable(tape, replay, n))


def test_a_broken_off_episode_is_no_terminal():
    tape, replay = taped_replay(5, envs=1, end=0.0, life=0.0)
    replay.start(tape.first)
    assert replay._flags[0, :7].tolist()[-2] & END
    for _ in range(8):
        replay.add(*tape.step())
    assert (replay.sample(np.random.default_rng(0), 300, 6, 0.5).discount > 0).all()


def test_rows_held_are_counted():
    tape, replay = taped_replay(0, envs=3, capacity=31)  # 10 rows an env, one is left over
    assert (replay.length, replay.size) == (10, 3)
    for step in range(1, 30):
        replay.add(*tape.step())
        assert replay.size == sum(min(10, len(rows)) for rows in tape.rows), step
    assert replay.size == 30


def test_a_row_takes_the_bytes_it_says():
    replay = Replay(2, 10, np.zeros((2, 84, 84), np.uint8))
    parts = (replay._cells, replay._action, replay._reward, replay._flags)
    assert sum(part.nbytes for part in parts) == 10 * ROW_BYTES


def test_too_large_a_replay_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: memory.RESERVE + 10 * ROW_BYTES)
    first = np.zeros((2, 84, 84), np.uint8)
    Replay(2, 10, first)
    with pytest.raises(MemoryError, match=r"^replay: needs .* GB of memory, .*; lower teacher.replay_rows$"):
        Replay(2, 12, first)


def test_a_batch_is_described_by_shapes():
    _, replay = taped_replay(20)
    assert "obs uint8 [5, 21, 21, 64], next_obs" in repr(replay.sample(np.random.default_rng(0), 5, 2, 0.9))

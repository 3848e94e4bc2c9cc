"""A recorded dataset, read back: stacks, samples, splits; and the growing buffer of online distillation."""

from __future__ import annotations

import os

import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_cases import ACTIONS, FACTS, SMALL, episode, plain_stack, record

from rl import memory
from rl.files import FormatError
from rl.recording import RolloutWriter
from rl.rollouts import Rollouts
from rl.shards import END, FIRST, UNKNOWN_LIVES, Codec
from rl.stacks import StackBuffer


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(1, 40), st.integers(1, 7), st.randoms())
def test_stacks_equal_the_plain_reference(tmp_path_factory, lengths, shard_rows, chunk_rows, random):
    folder = tmp_path_factory.mktemp("set")
    episodes = record(folder, lengths, shard_rows, Codec(chunk_rows, 1))
    data = Rollouts.open(folder)
    expected = [plain_stack(one, i) for one in episodes for i in range(len(one.frames))]
    rows = list(range(len(expected)))
    random.shuffle(rows)
    assert np.array_equal(data.stacks(np.array(rows)), np.stack([expected[i] for i in rows]))


def test_columns_and_table_come_back_across_shards(tmp_path):
    episodes = record(tmp_path, [7, 2, 11, 3, 1])
    data = Rollouts.open(tmp_path)
    assert len(data.manifest.shards) == 3
    for one, start, length in zip(episodes, data.episodes.start, data.episodes.length, strict=True):
        rows = slice(start, start + length)
        for name in ("action", "reward", "q"):
            assert np.array_equal(getattr(data, name)[rows], getattr(one, name)), name
        assert np.array_equal(data.columns.lives[start : start + length + 1], one.lives)
        assert data.flags[start] & FIRST and data.flags[start + length] == END
    assert data.episodes.returns.tolist() == [one.reward.sum() for one in episodes]
    assert data.episodes.seed.tolist() == [12, 11, 12, 11, 12] and data.episodes.env.tolist() == [1, 0, 1, 0, 1]
    assert data.episodes.end.tolist() == [1, 1, 0, 1, 1] and set(data.episodes.epsilon) == {0.05}


def test_decisions_leave_out_the_terminal_pictures(tmp_path):
    record(tmp_path, [2, 3])
    data = Rollouts.open(tmp_path)
    assert data.decisions.tolist() == [0, 1, 3, 4, 5] and len(data.frames) == 7


def test_samples_are_decisions_in_one_order(tmp_path):
    record(tmp_path, [7, 2, 11])
    data = Rollouts.open(tmp_path)
    drawn = data.sample(np.random.default_rng(5), 64)
    assert set(drawn.rows) == set(data.decisions) and drawn.obs.shape == (64, 4, 84, 84)
    assert np.array_equal(drawn.obs, data.stacks(drawn.rows)) and np.array_equal(drawn.q, data.q[drawn.rows])
    assert np.array_equal(drawn.action, data.action[drawn.rows])
    assert np.array_equal(drawn.reward, data.reward[drawn.rows])


def test_a_seed_decides_the_samples(tmp_path):
    record(tmp_path, [7, 2, 11])
    data = Rollouts.open(tmp_path)
    first, same, other = (data.sample(np.random.default_rng(seed), 33).rows for seed in (3, 3, 4))
    assert np.array_equal(first, same) and not np.array_equal(first, other)


def test_samples_keep_to_the_rows_they_are_given(tmp_path):
    record(tmp_path, [7, 2, 11])
    data = Rollouts.open(tmp_path)
    among, out = np.array([1, 9]), np.empty((32, 4, 84, 84), np.uint8)
    drawn = data.sample(np.random.default_rng(5), 32, among, out)
    assert set(drawn.rows) == {1, 9} and drawn.obs is out


def test_rows_outside_the_dataset_are_refused(tmp_path):
    record(tmp_path, [2, 3])
    data = Rollouts.open(tmp_path)
    for row in (-1, 7):
        with pytest.raises(IndexError, match=rf"^Rollouts.stacks: rows {row}\.\.{row}, allowed 0\.\.6$"):
            data.stacks(np.array([row]))


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 0.99), st.integers(0, 9))
def test_a_split_divides_decisions_by_episode(tmp_path_factory, held_out, seed):
    folder = tmp_path_factory.getbasetemp() / "split"
    if not folder.exists():
        record(folder, [7, 2, 11, 3, 1])
    data = Rollouts.open(folder)
    train, test = data.split(held_out, seed)
    of = np.searchsorted(data.episodes.start, data.decisions, "right")
    assert sorted([*train, *test]) == data.decisions.tolist() and len(train) and len(test)
    owner = dict(zip(data.decisions.tolist(), of.tolist(), strict=True))
    assert not {owner[row] for row in train.tolist()} & {owner[row] for row in test.tolist()}


def test_a_split_is_decided_by_its_seed(tmp_path):
    record(tmp_path, [1, 2, 3, 4, 5, 6, 7])
    data = Rollouts.open(tmp_path)
    tests = [data.split(0.3, seed)[1].tolist() for seed in (1, 1, 2)]
    assert tests[0] == tests[1] != tests[2]


def test_one_episode_cannot_be_split(tmp_path):
    record(tmp_path, [9])
    with pytest.raises(ValueError, match=r"^Rollouts.split: 1 episodes, held_out 0\.1; needs 2 or more"):
        Rollouts.open(tmp_path).split()


def test_a_spilled_dataset_equals_one_in_memory_and_leaves_no_file(tmp_path):
    record(tmp_path / "set", [7, 2, 11])
    kept, spilled = Rollouts.open(tmp_path / "set"), Rollouts.open(tmp_path / "set", spill=tmp_path / "spill")
    assert isinstance(spilled.frames, np.memmap) and np.array_equal(kept.frames, spilled.frames)
    assert np.array_equal(kept.stacks(kept.decisions), spilled.stacks(kept.decisions))
    assert not list((tmp_path / "spill").iterdir())


def test_too_little_memory_is_said_before_anything_is_read(tmp_path, monkeypatch):
    record(tmp_path, [7])
    (tmp_path / "shard-00000.spk").unlink()
    monkeypatch.setattr(memory, "available_bytes", lambda: memory.RESERVE + 7)
    with pytest.raises(MemoryError, match=r"needs 0\.00 GB of memory, 0\.00 GB are available; open it with spill="):
        Rollouts.open(tmp_path)


@pytest.mark.parametrize(("share", "spilled"), [(1.0, False), (0.49, True)])
def test_large_frames_are_left_in_a_file_so_that_memory_stays_bounded(tmp_path, monkeypatch, share, spilled):
    record(tmp_path, [7, 2])
    wanted = 11 * 84 * 84
    monkeypatch.setattr("rl.rollouts.available_bytes", lambda: 2 * wanted)
    before = sorted(tmp_path.iterdir())
    data, plain = Rollouts.open_bounded(tmp_path, share), Rollouts.open(tmp_path)
    assert isinstance(data.frames, np.memmap) is spilled and sorted(tmp_path.iterdir()) == before
    first, other = (one.sample(np.random.default_rng(1), 50) for one in (data, plain))
    assert np.array_equal(first.obs, other.obs) and np.array_equal(first.q, other.q)


def test_a_disk_without_room_for_the_frames_is_said(tmp_path, monkeypatch):
    record(tmp_path / "set", [7])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        MemoryError, match=r"spill: needs 0\.00 GB of disk \(No space left on device\); spill elsewhere$"
    ):
        Rollouts.open(tmp_path / "set", spill=tmp_path / "spill")


def test_stacks_equal_what_the_environment_showed(tmp_path):
    # A cap of 60 frames after reset ends each episode by truncation: 15 decisions, then an explicit reset.
    options = {"reward_clipping": False, "life_loss_info": True, "max_num_frames_per_episode": 60, "num_threads": 1}
    env = AtariVectorEnv("breakout", num_envs=2, **options)
    obs, _ = env.reset(seed=5)
    rng, tapes, shown = np.random.default_rng(5), [[], []], []
    with RolloutWriter(tmp_path, FACTS, 20, SMALL) as writer:
        for _ in range(36):
            action = rng.integers(3, size=2)
            after, reward, terminated, truncated, _ = env.step(action)
            ended = truncated.copy()
            for i in range(2):
                tapes[i].append((obs[i], action[i], reward[i], bool(terminated[i])))
                if ended[i]:
                    stacks = [*(row[0] for row in tapes[i]), after[i]]
                    writer.add_episode(taped(stacks, tapes[i], env=i))
                    shown += stacks
                    tapes[i] = []
            obs = env.reset(options={"reset_mask": ended})[0] if ended.any() else after
    env.close()
    data = Rollouts.open(tmp_path)
    assert len(data.episodes) == 4 and len(data.manifest.shards) == 2
    assert np.array_equal(data.stacks(np.arange(len(data.frames))), np.stack(shown))


def taped(stacks, tape, env):
    """An episode as a recorder makes it: the newest picture of each stack."""
    changes = {
        "frames": np.stack([stack[-1] for stack in stacks]),
        "action": np.array([row[1] for row in tape], np.uint8),
        "reward": np.array([row[2] for row in tape], np.float32),
        "life_lost": np.array([row[3] for row in tape], bool),
        "greedy": np.zeros(len(tape), bool),
    }
    return episode(len(tape), 1, lives=None, env=env, terminated=False, truncated=True, **changes)


def test_lives_may_be_unknown(tmp_path):
    with RolloutWriter(tmp_path, FACTS) as writer:
        writer.add_episode(episode(3, 1, lives=None))
    assert set(Rollouts.open(tmp_path).columns.lives) == {UNKNOWN_LIVES}


def test_an_empty_recording_cannot_be_opened(tmp_path):
    with RolloutWriter(tmp_path, FACTS):
        pass
    with pytest.raises(FormatError, match="field shards is empty; record into it first"):
        Rollouts.open(tmp_path)


def test_nothing_read_can_be_changed(tmp_path):
    record(tmp_path, [2, 3])
    data = Rollouts.open(tmp_path)
    for array in (data.frames, data.q, data.action, data.reward, data.flags, data.episodes.start):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_reprs_are_short(tmp_path):
    record(tmp_path, [2, 3])
    data = Rollouts.open(tmp_path)
    assert repr(data) == "Rollouts(Pong, 5 decisions, 2 episodes)"
    assert repr(data.take(np.array([0, 4]))).startswith("Sample(rows int64 [2], obs uint8 [2, 4, 84, 84], ")


class PlainLane:
    """One environment of a StackBuffer, the slow way: every row ever added."""

    def __init__(self) -> None:
        self.frames: list[np.ndarray] = []
        self.firsts: list[int] = []

    def add(self, frame: np.ndarray, first: bool) -> None:
        self.firsts.append(len(self.frames) if first or not self.frames else self.firsts[-1])
        self.frames.append(frame)

    def stack(self, i: int) -> np.ndarray:
        black = np.zeros((84, 84), np.uint8)
        return np.stack([self.frames[j] if j >= self.firsts[i] else black for j in range(i - 3, i + 1)])

    def whole(self, i: int, oldest: int) -> bool:
        return max(i - 3, self.firsts[i]) >= oldest


@settings(max_examples=25, deadline=None)
@given(st.integers(5, 9), st.integers(1, 3), st.integers(0, 30), st.integers(0, 1000))
def test_a_ring_gives_the_stacks_that_are_whole(slots, envs, added, seed):
    rng, ring, lanes = np.random.default_rng(seed), StackBuffer(slots, envs, 3), [PlainLane() for _ in range(envs)]
    decided = np.zeros((added, envs), bool)
    for step in range(added):
        frames = rng.integers(1, 256, (envs, 84, 84), dtype=np.uint8)
        first, decided[step] = rng.random(envs) < 0.25, rng.random(envs) < 0.75
        ring.add(frames, first, np.full((envs, 3), step, np.float32), np.full(envs, step, np.uint8), decided[step])
        for lane, frame, begins in zip(lanes, frames, first, strict=True):
            lane.add(frame, bool(begins))
    oldest = max(0, added - slots)
    wanted = {
        i % slots * envs + e: lanes[e].stack(i)
        for i in range(oldest, added)
        for e in range(envs)
        if decided[i, e] and lanes[e].whole(i, oldest)
    }
    assert ring.decisions.tolist() == sorted(wanted)
    for row, stack in wanted.items():
        assert np.array_equal(ring.stacks(np.array([row]))[0], stack)


def test_a_ring_draws_decisions_with_their_labels():
    ring = StackBuffer(7, 2, 3)
    for step in range(10):
        frames = np.full((2, 84, 84), step + 1, np.uint8)
        ring.add(frames, np.array([step == 0] * 2), np.full((2, 3), step, np.float32), np.full(2, step, np.uint8))
    rows = ring.sample(np.random.default_rng(1), 50)
    assert np.array_equal(ring.stacks(rows)[:, -1, 0, 0], ring.action[rows] + 1)
    assert np.array_equal(ring.q[rows][:, 2], ring.action[rows]) and set(ring.action[rows]) == {6, 7, 8, 9}


def test_an_empty_ring_cannot_be_drawn_from():
    with pytest.raises(ValueError, match=r"^StackBuffer.sample: no decisions, one is needed; add rows first$"):
        StackBuffer(7, 2, 3).sample(np.random.default_rng(1), 5)


def test_a_ring_checks_its_size_and_rows():
    with pytest.raises(ValueError, match=r"^StackBuffer: 4 slots of 2 environments, allowed more than 4"):
        StackBuffer(4, 2, 3)
    good = {
        "frames": np.zeros((2, 84, 84), np.uint8),
        "first": np.zeros(2, bool),
        "q": np.zeros((2, 3), np.float32),
        "action": np.zeros(2, np.uint8),
    }
    for name, array in good.items():
        with pytest.raises(ValueError, match=rf"^StackBuffer.{name}: shape \[1.*\], must be \[2"):
            StackBuffer(7, 2, len(ACTIONS)).add(**{**good, name: array[:1]})

"""Picture stacks rebuilt from single pictures: index arithmetic, zero before an episode's first picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rl.memory import need_memory
from rl.shards import FRAME, FRAME_BYTES

STACK = 4  # pictures in an observation
BACK = np.arange(STACK - 1, -1, -1)  # how many rows back each picture of a stack lies, oldest first


def ages(starts: NDArray[np.int64], rows: int) -> NDArray[np.uint8]:
    """[rows] u8: how many earlier pictures of its own episode a row sees, at most STACK - 1."""
    lengths = np.diff(np.append(starts, rows))
    since = np.arange(rows) - np.repeat(starts, lengths)
    return np.minimum(since, STACK - 1).astype(np.uint8)


def gather(
    frames: NDArray[np.uint8],
    picks: NDArray[np.int64],
    seen: NDArray[np.bool_],
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """[B, 4, 84, 84] u8 of `frames` [N, 84, 84]: picture picks[b, k] where seen[b, k], else zeros.

    `out` saves an allocation. Frames are read in place: a memmap stays on disk but for what is picked.
    """
    # Clipping is faster than checking; what it moves is zeroed in the next line.
    stacks = np.take(frames, picks, axis=0, out=out, mode="clip")
    stacks[~seen] = 0
    return stacks


def stacks_of(
    frames: NDArray[np.uint8], age: NDArray[np.uint8], rows: NDArray[np.int64], out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """[B, 4, 84, 84] u8 of rows [B] in consecutive `frames` of those `ages`: newest picture last."""
    return gather(frames, rows[:, None] - BACK, age[rows][:, None] >= BACK, out)


def need_rows(rows: NDArray[np.int64], below: int, where: str) -> NDArray[np.int64]:
    """The row numbers as a flat array; raises IndexError outside 0..below-1."""
    rows = np.atleast_1d(np.asarray(rows, np.int64))
    if rows.size and not (rows.min() >= 0 and rows.max() < below):
        raise IndexError(f"{where}: rows {rows.min()}..{rows.max()}, allowed 0..{below - 1}")
    return rows


class StackBuffer:
    """The newest decisions of B environments in lockstep, with the teacher's Q, as a ring in memory.

    A row is slot * B + environment. It can be drawn while its whole stack is still there.
    """

    def __init__(self, slots: int, envs: int, actions: int) -> None:
        if slots <= STACK or envs < 1:
            raise ValueError(
                f"StackBuffer: {slots} slots of {envs} environments, allowed more than {STACK} and 1 or more"
            )
        need_memory(slots * envs * FRAME_BYTES, "StackBuffer", "take fewer slots")
        self._slots, self._envs, self._added = slots, envs, 0
        self._frames = np.zeros((slots * envs, *FRAME), np.uint8)
        self._age = np.zeros((slots, envs), np.uint8)
        self._decision = np.zeros((slots, envs), np.bool_)
        self.q = np.zeros((slots * envs, actions), np.float32)  # [rows, A]
        self.action = np.zeros(slots * envs, np.uint8)  # [rows]

    def __repr__(self) -> str:
        return f"StackBuffer({self._slots} slots of {self._envs} environments, {len(self.decisions)} decisions)"

    def add(
        self,
        frames: NDArray[np.uint8],
        first: NDArray[np.bool_],
        q: NDArray[np.float32],
        action: NDArray[np.uint8],
        decision: NDArray[np.bool_] | None = None,
    ) -> None:
        """One row for each environment: newest picture [B, 84, 84], is_first [B], Q [B, A], action [B].

        `decision` [B] is False for a terminal picture, which only later stacks' arithmetic needs.
        """
        given = {"frames": (frames, FRAME), "first": (first, ()), "q": (q, self.q.shape[1:]), "action": (action, ())}
        for name, (array, rest) in given.items():
            if array.shape != (self._envs, *rest):
                raise ValueError(f"StackBuffer.{name}: shape {list(array.shape)}, must be {[self._envs, *rest]}")
        slot, before = self._added % self._slots, (self._added - 1) % self._slots
        start = first | (self._added == 0)
        self._age[slot] = np.where(start, 0, np.minimum(self._age[before] + 1, STACK - 1))
        self._decision[slot] = True if decision is None else decision
        rows = slice(slot * self._envs, (slot + 1) * self._envs)
        self._frames[rows], self.q[rows], self.action[rows] = frames, q, action
        self._added += 1

    @property
    def decisions(self) -> NDArray[np.int64]:
        """[D] rows that can be drawn."""
        # Slot s holds the newest addition whose number is s modulo the ring; below 0 where nothing was added yet.
        newest = self._added - 1
        number = (newest - (newest - np.arange(self._slots)) % self._slots)[:, None]
        whole = number - self._age >= max(0, self._added - self._slots)
        return np.flatnonzero(whole & self._decision)

    def stacks(self, rows: NDArray[np.int64], out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """[B, 4, 84, 84] u8, newest picture last, zero before an episode's first picture."""
        rows = need_rows(rows, len(self._frames), "StackBuffer.stacks")
        picks = (rows[:, None] - BACK * self._envs) % len(self._frames)
        return gather(self._frames, picks, self._age.ravel()[rows][:, None] >= BACK, out)

    def sample(self, rng: np.random.Generator, batch: int) -> NDArray[np.int64]:
        """[batch] rows, uniform with replacement; raises ValueError while the buffer is empty."""
        decisions = self.decisions
        if not len(decisions):
            raise ValueError("StackBuffer.sample: no decisions, one is needed; add rows first")
        return rng.choice(decisions, batch)

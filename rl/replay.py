"""The replay ring: single frames once, stacks and n-step returns built when sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from rl.frames import BLOCK, CELLS, CHANNELS, STACK, Frames, blocks, described
from rl.games import VectorStep
from rl.memory import need_memory
from rl.priorities import Priorities

ROW_BYTES = 7062  # a frame, its action, reward and flags
FIRST, DONE, END = 1, 2, 4  # flags of a row: episode begins; learner's terminal; last frame, no decision follows


@dataclass(frozen=True, eq=False, repr=False)
class Transitions:
    """A batch of n-step transitions."""

    obs: Frames  # [B, 21, 21, 64]  block layout
    next_obs: Frames  # [B, 21, 21, 64]  n steps on, or where the episode was cut off
    action: NDArray[np.int64]  # [B]
    returns: NDArray[np.float32]  # [B]  discounted sum of clipped rewards
    discount: NDArray[np.float32]  # [B]  gamma**n, 0 behind a terminal
    weight: NDArray[np.float32]  # [B]  of its loss, 1 at most

    __repr__ = described


@dataclass(frozen=True, eq=False, repr=False)
class Rows:
    """Consecutive rows of every env, env after env: what a checkpoint adds to those before it."""

    begin: NDArray[np.int64]  # [E]  first row of each env, counted from the start of the run
    stop: NDArray[np.int64]  # [E]
    cells: Frames  # [R, 21, 21, 16]
    action: NDArray[np.uint8]  # [R]
    reward: NDArray[np.float32]  # [R]  raw
    flags: NDArray[np.uint8]  # [R]

    __repr__ = described


class Replay:
    """Rings of E envs. A row: a frame, the action chosen on it, the reward that followed.

    An episode's last frame has a row of its own (END): nothing is decided there, but a cut-off episode (frame cap)
    bootstraps from it.
    """

    def __init__(self, n_envs: int, capacity: int, first: Frames, prioritised_steps: int = 0) -> None:
        """`capacity` rows in all; `first` frames [E, 84, 84] of every env. Raises MemoryError before it takes any.

        prioritised_steps: 0 draws evenly; otherwise by priority, of decisions of which so many steps are known.
        """
        self.length = capacity // n_envs
        self._room(n_envs)
        self._action: NDArray[np.uint8] = np.zeros((n_envs, self.length), np.uint8)
        self._reward: NDArray[np.float32] = np.zeros((n_envs, self.length), np.float32)
        self._flags: NDArray[np.uint8] = np.zeros((n_envs, self.length), np.uint8)
        self.head: NDArray[np.int64] = np.zeros(n_envs, np.int64)  # rows ever begun; the newest awaits its action
        self.age = 0.0  # rows since what was sampled last, on average
        rings = n_envs, self.length
        self._priorities = Priorities(*rings, prioritised_steps, STACK - 1) if prioritised_steps else None
        self._drawn: NDArray[np.int64] = np.zeros(0, np.int64)  # leaves of the last sample
        self.start(first)

    def _room(self, n_envs: int) -> None:
        need_memory(n_envs * self.length * ROW_BYTES, "replay", "lower teacher.replay_rows")
        self._cells: Frames = np.zeros((n_envs, self.length, CELLS, CELLS, BLOCK * BLOCK), np.uint8)

    def _put(self, envs: NDArray[np.int64] | int, at: NDArray[np.int64], cells: Frames) -> None:
        """Frames [N, 21, 21, 16] into rows `at` of those envs."""
        self._cells[envs, at] = cells

    def _take(self, envs: NDArray[np.int64], at: NDArray[np.int64]) -> Frames:
        return self._cells[envs, at]

    @property
    def size(self) -> int:
        """Rows held."""
        return int(np.minimum(self.head, self.length).sum())

    def start(self, first: Frames) -> None:
        """Begin an episode in every env: at the start, and where a resumed run begins anew."""
        for env in np.flatnonzero(self.head):
            self._break_off(int(env), int(self.head[env]))
        self._append(np.arange(len(self.head)), blocks(first), FIRST)
        self._rank()

    def _rank(self) -> None:
        if self._priorities:
            self._priorities.renew(self._flags, self.head, END)

    def learnt(self, losses: NDArray[np.float32]) -> None:
        """Losses [B] of what was sampled last."""
        if self._priorities:
            self._priorities.learnt(self._drawn, losses)

    def _break_off(self, env: int, row: int) -> None:
        """An episode begins at a row because the run was resumed: close the one before, without a terminal."""
        self._flags[env, (row - 1) % self.length] |= END

    def add(self, actions: NDArray[np.int64], step: VectorStep) -> None:
        """One step of every env."""
        envs = np.arange(len(self.head))
        newest = (self.head - 1) % self.length
        self._action[envs, newest] = actions
        self._reward[envs, newest] = step.reward
        self._flags[envs, newest] |= (DONE * (step.terminated | step.life_lost)).astype(np.uint8)
        ended = np.flatnonzero(step.ended)
        self._append(ended, blocks(step.frames[ended]), END)
        self._append(envs, blocks(step.first), np.where(step.ended, FIRST, 0))
        self._rank()

    def _append(self, envs: NDArray[np.int64], cells: Frames, flags: NDArray[np.int64] | int) -> None:
        at = self.head[envs] % self.length
        self._put(envs, at, cells)
        self._flags[envs, at] = flags
        self._action[envs, at], self._reward[envs, at] = 0, 0
        self.head[envs] += 1

    def sample(self, rng: np.random.Generator, batch: int, n: int, gamma: float) -> Transitions:
        """Decisions held whose n steps are known, evenly or by priority; reward clipped to [-1, 1] here and only here.

        Every env must have n + 1 rows or more.
        """
        if self._priorities:
            self._drawn, weight = self._priorities.draw(rng, batch)
            envs, place = np.divmod(self._drawn, self.length)
            rows = self.head[envs] - 1 - (self.head[envs] - 1 - place) % self.length
        else:
            (envs, rows), weight = self._draw(rng, batch, n), np.ones(batch, np.float32)
        self.age = float((self.head[envs] - 1 - rows).mean())
        return self._transitions(envs, rows, weight, n, gamma)

    def _actions(self, envs: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._action[envs, rows % self.length].astype(np.int64)

    def _transitions(
        self, envs: NDArray[np.int64], rows: NDArray[np.int64], weight: NDArray[np.float32], n: int, gamma: float
    ) -> Transitions:
        batch = len(envs)
        obs, next_obs = (np.empty((batch, CELLS, CELLS, CHANNELS), np.uint8) for _ in range(2))
        returns, discount = np.empty(batch, np.float32), np.empty(batch, np.float32)
        words = _words(self._cells, 2), _words(obs, 1), _words(next_obs, 1)
        _gather(words[0], self._reward, self._flags, envs, rows, n, gamma, *words[1:], returns, discount)
        return Transitions(obs, next_obs, self._actions(envs, rows), returns, discount, weight)

    def _draw(self, rng: np.random.Generator, batch: int, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        oldest = np.where(self.head > self.length, self.head - self.length + STACK - 1, 0)  # its stack is held whole
        envs = rng.integers(len(self.head), size=batch)
        rows = rng.integers(oldest[envs], self.head[envs] - n)
        while len(wrong := np.flatnonzero(self._flags[envs, rows % self.length] & END)):  # nothing was decided there
            envs[wrong] = rng.integers(len(self.head), size=len(wrong))
            rows[wrong] = rng.integers(oldest[envs[wrong]], self.head[envs[wrong]] - n)
        return envs, rows

    def rows(self, begin: NDArray[np.int64], most: int | None = None) -> Rows:
        """Rows from `begin` [E] (or the oldest held) to the newest complete one, the first `most` in all."""
        begin = np.maximum(begin, np.maximum(self.head - self.length, 0))
        stop = self.head - 1
        if most is not None:
            stop = np.minimum(stop, begin + max(1, most // len(begin)))
        envs = np.repeat(np.arange(len(begin)), stop - begin)
        spans = [np.arange(a, b) for a, b in zip(begin, stop, strict=True)]
        at = np.concatenate(spans) % self.length
        parts = (self._action, self._reward, self._flags)
        return Rows(begin, stop, self._take(envs, at), *(part[envs, at] for part in parts))

    def restore(self, rows: Rows) -> None:
        """Put back rows taken with `rows`, oldest first; the next call must be `start`, for envs begin anew."""
        done = 0
        for env, (begin, stop) in enumerate(zip(rows.begin, rows.stop, strict=True)):
            count = int(stop - begin)
            if count and begin and rows.flags[done] & FIRST:
                self._break_off(env, int(begin))
            kept = slice(done + max(0, count - self.length), done + count)
            at = np.arange(stop - (kept.stop - kept.start), stop) % self.length
            self._put(env, at, rows.cells[kept])
            self._action[env, at] = rows.action[kept]
            self._reward[env, at], self._flags[env, at] = rows.reward[kept], rows.flags[kept]
            self.head[env] = stop
            done += count

    def marks(self) -> dict[str, NDArray[np.float64]]:
        """What is known of rows beside what they hold: their priorities, if they have any."""
        own = self._priorities
        return {"priorities": own.leaves, "top": np.array(own.top)} if own else {}

    def remark(self, marks: Mapping[str, NDArray[np.float64]]) -> None:
        """Put back what `marks` gave, after `start`; nothing where a state of before knows nothing."""
        if self._priorities and marks:
            self._priorities.restore(marks["priorities"], float(marks["top"]))


def _words(cells: Frames, lead: int) -> NDArray[np.uint64]:
    """The same memory, [..., 21, 21, C] u8 seen as [..., 441, C / 8] u64; `lead` axes come before."""
    return cells.reshape(*cells.shape[:lead], CELLS * CELLS, cells.shape[-1]).view(np.uint64)


@numba.njit(cache=True, nogil=True)
def _gather(words, reward, flags, envs, rows, n, gamma, obs, next_obs, returns, discount):  # type: ignore[no-untyped-def]
    for b in range(len(envs)):
        e, row = envs[b], rows[b]
        returns[b], discount[b], ahead = ahead_of(reward[e], flags[e], row, n, gamma)
        _stack(words[e], flags[e], row, obs[b])
        _stack(words[e], flags[e], ahead, next_obs[b])


@numba.njit(cache=True, nogil=True)
def ahead_of(reward, flags, row, n, gamma):  # type: ignore[no-untyped-def]
    """(discounted sum of clipped rewards, discount, row of the bootstrap) of a decision in one env's ring."""
    length = len(flags)
    total, scale, ahead, live = 0.0, 1.0, row, True
    for _ in range(n):
        flag = flags[ahead % length]
        if flag & END:
            break
        total += scale * min(1.0, max(-1.0, reward[ahead % length]))
        scale *= gamma
        ahead += 1
        if flag & DONE:
            live = False
            break
    return total, scale if live else 0.0, ahead


@numba.njit(cache=True, nogil=True)
def stacked(flags, row, at):  # type: ignore[no-untyped-def]
    """Places in the ring of the frames whose stack ends at a row, into at [4]; how many before its episode are none."""
    length, unseen = len(flags), STACK
    alive = True
    for back in range(STACK):
        if alive:
            unseen -= 1
            at[unseen] = (row - back) % length
            alive = not flags[at[unseen]] & FIRST
    return unseen


@numba.njit(cache=True, nogil=True)
def _stack(words, flags, row, out):  # type: ignore[no-untyped-def]
    """The stack that ends at a row, words [L, 441, 2] -> [441, 8]: frames before its episode's first are zero.

    Cell by cell, so that a cache line of the stack is written once, and in words: bytes take three times as long.
    """
    at = np.empty(STACK, np.int64)
    unseen = stacked(flags, row, at)
    for cell in range(words.shape[1]):
        for k in range(unseen):
            out[cell, 2 * k] = out[cell, 2 * k + 1] = 0
        for k in range(unseen, STACK):
            out[cell, 2 * k] = words[at[k], cell, 0]
            out[cell, 2 * k + 1] = words[at[k], cell, 1]

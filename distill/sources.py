"""Where the student's lessons come from: the recorded dataset, and its own play with the teacher's labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl.checkpoint import PolicyCheckpoint
from rl.frames import STACK, BlockStacks, Frames, blocks, stack_blocks
from rl.games import PREPROCESSING, EnvSettings, VectorGame
from rl.manifest import Facts
from rl.rollouts import Rollouts
from rl.settings import SettingsError
from rl.stacks import StackBuffer

PARTS = "cells", "q", "hints", "known"  # of a lesson
AHEAD, DEPTH = 12, 4.0  # decisions within which a value falls, and how far, in units of the lessons


@dataclass(frozen=True, eq=False)
class Lesson:
    """Stacks with the teacher's values."""

    cells: Tensor  # [B, 21, 21, 64] u8, block layout
    q: Tensor  # [B, A] float32
    unit: float = 1.0  # that temperatures and squared errors are counted in
    hints: Tensor | None = field(default=None, kw_only=True)  # [B, K] of the teacher's hidden units, for readouts
    known: Tensor | None = field(default=None, kw_only=True)  # [B, N] u8: bits of a still level, in place of cells

    def cut(self, start: int, stop: int) -> Lesson:
        """Some of its rows."""
        hints, known = (None if part is None else part[start:stop] for part in (self.hints, self.known))
        return Lesson(self.cells[start:stop], self.q[start:stop], self.unit, hints=hints, known=known)


def spread(q: NDArray[np.float32]) -> float:
    """How far apart a teacher's values of one state lie: their mean deviation over states [T, A]; never 0.

    What divides one game's values from another's: the same temperature in these units makes labels alike.
    """
    return max(float(q.std(axis=1).mean(dtype=np.float64)), 1e-6)


def shifted(obs: Frames, rng: np.random.Generator, most: int) -> Frames:
    """Picture stacks [B, 4, 84, 84], each moved by up to so many pixels; what comes in repeats the edge."""
    if not most:
        return obs
    height, width = obs.shape[2:]
    padded = np.pad(obs, ((0, 0), (0, 0), (most, most), (most, most)), mode="edge")
    moves = rng.integers(2 * most + 1, size=(len(obs), 2)).tolist()
    return np.stack([own[:, y : y + height, x : x + width] for own, (y, x) in zip(padded, moves, strict=True)])


class Recorded:
    """The offline dataset of one game; uniform over its decisions, in bounded memory (`Rollouts.open_bounded`)."""

    def __init__(
        self,
        folder: Path,
        teacher: PolicyCheckpoint,
        held_out: float,
        env: EnvSettings | None = None,
        decisions: int = 0,
        unit: str = "value",
        shift: int = 0,
    ) -> None:
        """`env`: how the student will see; `decisions`: how many are used, 0: all; `unit` of the lessons.

        `shift`: pixels by which pictures may move.
        """
        self._rollouts = Rollouts.open_bounded(folder)
        facts = self._rollouts.facts
        teacher.require(facts.game, facts.actions, str(folder))
        if env:
            need_same_preprocessing(folder, facts, env)
        if not facts.labelled:
            raise SettingsError(f"{folder}: recorded without a teacher's values; run make teacher, then make rollouts")
        if facts.teacher["digest"] != teacher.digest:
            raise SettingsError(
                f"{folder}: recorded from teacher {facts.teacher['digest'][:12]}, this one is {teacher.digest[:12]}; "
                "run make rollouts again, into an empty folder"
            )
        train, self._held_out = self._rollouts.split(held_out)
        self._train, self._shift = train[: decisions or len(train)], shift
        self.unit = spread(self._rollouts.q[self._train]) if unit == "spread" else 1.0
        self.digest = self._rollouts.manifest.digest
        self.size = len(self._train)

    def lesson(self, rng: np.random.Generator, batch: int) -> Lesson:
        rows = self.draw(rng, batch)
        cells = stack_blocks(shifted(self._rollouts.stacks(rows), rng, self._shift))
        return Lesson(torch.from_numpy(cells), self.labels(rows), self.unit)

    def exam(self, rng: np.random.Generator, batch: int) -> Lesson:
        """From episodes that no lesson comes from."""
        rows = self._held_out[rng.integers(len(self._held_out), size=batch)]
        return Lesson(self.pictures(rows), self.labels(rows), self.unit)

    def draw(self, rng: np.random.Generator, batch: int) -> NDArray[np.int64]:
        """Rows of lessons [B], uniform with replacement."""
        return self._train[rng.integers(self.size, size=batch)]

    def some(self, rng: np.random.Generator, most: int) -> NDArray[np.int64]:
        """At most so many rows of lessons, each once; all of them in their own order."""
        return self._train if most >= self.size else rng.choice(self._train, most, replace=False)

    def pictures(self, rows: NDArray[np.int64]) -> Tensor:
        """Stacks [B, 21, 21, 64], not moved."""
        return torch.from_numpy(stack_blocks(self._rollouts.stacks(rows)))

    def labels(self, rows: NDArray[np.int64]) -> Tensor:
        """The teacher's values [B, A]."""
        return torch.from_numpy(self._rollouts.q[rows])


def need_same_preprocessing(folder: Path, facts: Facts, env: EnvSettings) -> None:
    """Raise SettingsError where a dataset's pictures were made otherwise than those that the student will see."""
    apart = [
        f"env.{name} {facts.env.get(name)!r}, here {getattr(env, name)!r}"
        for name in PREPROCESSING
        if facts.env.get(name) != getattr(env, name)
    ]
    if apart:
        raise SettingsError(
            f"{folder}: recorded with {'; '.join(apart)}: its pictures are not those that the student will see; "
            "run make rollouts again, into an empty folder, or distil with the same env"
        )


class Falls:
    """Which rows of a ring lie shortly before the teacher thought much less of where the student had got itself.

    Where all labels are equally sure of themselves, only that tells which mistakes were the ones that counted.
    """

    def __init__(self, rows: int, envs: int, depth: float) -> None:
        """`depth`: how far a state's value must fall, in points, within AHEAD decisions of the same episode."""
        self.marked = np.zeros(rows, np.bool_)
        self._envs, self._depth = envs, depth
        self._values: NDArray[np.float32] = np.full((AHEAD, envs), -np.inf, np.float32)  # newest last; before: none

    def note(self, rows: NDArray[np.int64], values: NDArray[np.float32], first: NDArray[np.bool_]) -> None:
        """The newest rows [B], the values of their states [B], which of them begin an episode [B]."""
        self._values[:, first] = -np.inf
        back, env = np.nonzero(self._values - values > self._depth)
        size = len(self.marked)
        self.marked[(rows[env] - (AHEAD - back) * self._envs) % size] = True
        # Other pictures come here next, and stacks reach back over some more.
        self.marked[(rows + np.arange(STACK + 1)[:, None] * self._envs) % size] = False
        self._values = np.concatenate([self._values[1:], values[None]])

    def draw(self, rng: np.random.Generator, most: int) -> NDArray[np.int64]:
        """So many rows, uniform with replacement; none where none is marked."""
        found = np.flatnonzero(self.marked)
        return rng.choice(found, most) if len(found) else found


class Online:
    """The student plays, the teacher says what it would have done, a ring keeps the newest of it (DAgger-like)."""

    def __init__(
        self,
        teacher: PolicyCheckpoint,
        env: EnvSettings,
        envs: int,
        rows: int,
        epsilon: float,
        seed: int,
        unit: float = 1.0,
        shift: int = 0,
        falls: float = 0.0,
    ) -> None:
        """`falls`: share of what is drawn that lies shortly before the value of a state fell."""
        self._teacher, self._epsilon, self.unit, self._shift = teacher.build(), epsilon, unit, shift
        self._share, self._falls = falls, Falls(rows // envs * envs, envs, DEPTH * unit)
        self._games = VectorGame(teacher.game, env, envs, seed, 1)
        teacher.require(teacher.game, self._games.actions, "distill")
        self._rng = np.random.default_rng(seed)
        self._stacks = BlockStacks(blocks(self._games.first))
        self._newest, self._first = self._games.first, np.ones(envs, np.bool_)
        self._buffer = StackBuffer(rows // envs, envs, len(teacher.actions))
        self.rows = rows // envs * envs
        self._open, self.returns = np.zeros(envs), list[float]()
        self.seen = 0

    @property
    def stacks(self) -> Frames:
        """What is seen now [B, 21, 21, 64]."""
        return self._stacks.now

    def begin(self, actions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Begin a step of every env by the student's actions [B], a share of them random; the rows [B] that hold it.

        Others can be begun before its `end`: games play meanwhile.
        """
        with torch.no_grad():
            q = self._teacher(torch.from_numpy(self._stacks.now)).numpy()
        actions = actions.copy()
        stray = self._rng.random(len(actions)) < self._epsilon
        actions[stray] = self._rng.integers(q.shape[1], size=int(stray.sum()))
        first = self._first
        self._games.send(actions)
        self._buffer.add(self._newest, first, q, actions.astype(np.uint8))
        rows = (self.seen + np.arange(len(actions))) % self.rows
        self.seen += len(actions)
        if self._share:
            self._falls.note(rows, q.max(axis=1), first)
        return rows

    def end(self) -> None:
        """Wait for the step that was begun."""
        step = self._games.recv()
        self._newest, self._first = step.first, step.ended
        self._stacks.push(blocks(step.first), step.ended)
        self._open += step.reward
        self.returns = [*self.returns, *self._open[step.ended]][-20:]
        self._open[step.ended] = 0

    def lesson(self, rng: np.random.Generator, batch: int) -> Lesson:
        rows = self.draw(rng, batch)
        cells = stack_blocks(shifted(self._buffer.stacks(rows), rng, self._shift))
        return Lesson(torch.from_numpy(cells), self.labels(rows), self.unit)

    def draw(self, rng: np.random.Generator, batch: int) -> NDArray[np.int64]:
        """Rows of the ring [B], with replacement: some from before falls, where there are any, the rest uniform."""
        before = self._falls.draw(rng, round(self._share * batch))
        return np.concatenate([before, self._buffer.sample(rng, batch - len(before))])

    def pictures(self, rows: NDArray[np.int64]) -> Tensor:
        """Stacks [B, 21, 21, 64], not moved."""
        return torch.from_numpy(stack_blocks(self._buffer.stacks(rows)))

    def labels(self, rows: NDArray[np.int64]) -> Tensor:
        """The teacher's values [B, A]."""
        return torch.from_numpy(self._buffer.q[rows])

    def close(self) -> None:
        self._games.close()


def joined(lessons: list[Lesson]) -> Lesson:
    """Lessons of one game, in one unit and alike in what they hold, as one."""
    cells, q, hints, known = (_together([getattr(own, part) for own in lessons]) for part in PARTS)
    assert cells is not None
    assert q is not None
    return Lesson(cells, q, lessons[0].unit, hints=hints, known=known)


def _together(parts: list[Tensor | None]) -> Tensor | None:
    held = [part for part in parts if part is not None]
    return torch.cat(held) if held else None

"""Where the student's lessons come from: the recorded dataset, and its own play with the teacher's labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl.checkpoint import PolicyCheckpoint
from rl.frames import BlockStacks, Frames, blocks, stack_blocks
from rl.games import EnvSettings, VectorGame
from rl.manifest import Facts
from rl.rollouts import Rollouts
from rl.settings import SettingsError
from rl.stacks import StackBuffer

Act = Callable[[Frames], NDArray[np.int64]]  # stacks [B, 21, 21, 64] -> actions [B]


@dataclass(frozen=True, eq=False)
class Lesson:
    """Stacks with the teacher's values."""

    cells: Tensor  # [B, 21, 21, 64] u8, block layout
    q: Tensor  # [B, A] float32
    unit: float = 1.0  # that temperatures and squared errors are counted in
    hints: Tensor | None = field(default=None, kw_only=True)  # [B, K] of the teacher's hidden units, for readouts

    def cut(self, start: int, stop: int) -> Lesson:
        """Some of its rows."""
        hints = None if self.hints is None else self.hints[start:stop]
        return Lesson(self.cells[start:stop], self.q[start:stop], self.unit, hints=hints)


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
        return self._of(rng, batch, self._train, self._shift)

    def exam(self, rng: np.random.Generator, batch: int) -> Lesson:
        """From episodes that no lesson comes from."""
        return self._of(rng, batch, self._held_out)

    def _of(self, rng: np.random.Generator, batch: int, rows: NDArray[np.int64], shift: int = 0) -> Lesson:
        sample = self._rollouts.sample(rng, batch, rows)
        cells = stack_blocks(shifted(sample.obs, rng, shift))
        return Lesson(torch.from_numpy(cells), torch.from_numpy(sample.q), self.unit)


# What decides how a picture and its actions come about; frame caps and no-op starts only decide where play begins.
PREPROCESSING = ("frames_per_step", "full_actions")


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
    ) -> None:
        self._teacher, self._epsilon, self._unit, self._shift = teacher.build(), epsilon, unit, shift
        self._games = VectorGame(teacher.game, env, envs, seed, 1)
        teacher.require(teacher.game, self._games.actions, "distill")
        self._rng = np.random.default_rng(seed)
        self._stacks = BlockStacks(blocks(self._games.first))
        self._newest, self._first = self._games.first, np.ones(envs, np.bool_)
        self._buffer = StackBuffer(rows // envs, envs, len(teacher.actions))
        self._open, self.returns = np.zeros(envs), list[float]()
        self.seen = 0

    def play(self, act: Act) -> None:
        """One step of every env: the student acts, with a share of random actions."""
        with torch.no_grad():
            q = self._teacher(torch.from_numpy(self._stacks.now)).numpy()
        actions = act(self._stacks.now)
        stray = self._rng.random(len(actions)) < self._epsilon
        actions[stray] = self._rng.integers(q.shape[1], size=int(stray.sum()))
        self._buffer.add(self._newest, self._first, q, actions.astype(np.uint8))
        step = self._games.step(actions)
        self._newest, self._first = step.first, step.ended
        self._stacks.push(blocks(step.first), step.ended)
        self._open += step.reward
        self.returns = [*self.returns, *self._open[step.ended]][-20:]
        self._open[step.ended] = 0
        self.seen += len(actions)

    def lesson(self, rng: np.random.Generator, batch: int) -> Lesson:
        rows = self._buffer.sample(rng, batch)
        cells = stack_blocks(shifted(self._buffer.stacks(rows), rng, self._shift))
        return Lesson(torch.from_numpy(cells), torch.from_numpy(self._buffer.q[rows]), self._unit)

    def close(self) -> None:
        self._games.close()


def joined(lessons: list[Lesson]) -> Lesson:
    """Lessons of one game, in one unit, as one."""
    cells, q = torch.cat([lesson.cells for lesson in lessons]), torch.cat([lesson.q for lesson in lessons])
    return Lesson(cells, q, lessons[0].unit)

"""Where the student's lessons come from: the recorded dataset, and its own play with the teacher's labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl.checkpoint import PolicyCheckpoint
from rl.frames import BlockStacks, Frames, blocks, stack_blocks
from rl.games import EnvSettings, VectorGame
from rl.rollouts import Rollouts
from rl.settings import SettingsError
from rl.stacks import StackBuffer

Act = Callable[[Frames], NDArray[np.int64]]  # stacks [B, 21, 21, 64] -> actions [B]


@dataclass(frozen=True, eq=False)
class Lesson:
    """Stacks with the teacher's values."""

    cells: Tensor  # [B, 21, 21, 64] u8, block layout
    q: Tensor  # [B, A] float32


class Recorded:
    """The offline dataset of one game; uniform over its decisions, in bounded memory (`Rollouts.open_bounded`)."""

    def __init__(self, folder: Path, teacher: PolicyCheckpoint, held_out: float) -> None:
        self._rollouts = Rollouts.open_bounded(folder)
        facts = self._rollouts.facts
        teacher.require(facts.game, facts.actions, str(folder))
        if not facts.labelled:
            raise SettingsError(f"{folder}: recorded without a teacher's values; run make teacher, then make rollouts")
        if facts.teacher["digest"] != teacher.digest:
            raise SettingsError(
                f"{folder}: recorded from teacher {facts.teacher['digest'][:12]}, this one is {teacher.digest[:12]}; "
                "run make rollouts again, into an empty folder"
            )
        self._train, self._held_out = self._rollouts.split(held_out)
        self.digest = self._rollouts.manifest.digest
        self.size = len(self._train)

    def lesson(self, rng: np.random.Generator, batch: int) -> Lesson:
        return self._of(rng, batch, self._train)

    def exam(self, rng: np.random.Generator, batch: int) -> Lesson:
        """From episodes that no lesson comes from."""
        return self._of(rng, batch, self._held_out)

    def _of(self, rng: np.random.Generator, batch: int, rows: NDArray[np.int64]) -> Lesson:
        sample = self._rollouts.sample(rng, batch, rows)
        return Lesson(torch.from_numpy(stack_blocks(sample.obs)), torch.from_numpy(sample.q))


class Online:
    """The student plays, the teacher says what it would have done, a ring keeps the newest of it (DAgger-like)."""

    def __init__(self, teacher: PolicyCheckpoint, env: EnvSettings, envs: int, rows: int, epsilon: float, seed: int):
        self._teacher, self._epsilon = teacher.build(), epsilon
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
        cells = torch.from_numpy(stack_blocks(self._buffer.stacks(rows)))
        return Lesson(cells, torch.from_numpy(self._buffer.q[rows]))

    def close(self) -> None:
        self._games.close()


def joined(lessons: list[Lesson]) -> Lesson:
    """Lessons of one game as one."""
    return Lesson(torch.cat([lesson.cells for lesson in lessons]), torch.cat([lesson.q for lesson in lessons]))

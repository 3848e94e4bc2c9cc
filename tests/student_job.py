"""One process of a team that distils, as torchrun starts it: what it saw goes into a file of its own, to compare."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from distill_cases import SMALL, heads, stacks

from distill.learner import Goal, Learner, imitation
from distill.sources import Lesson
from distill.student import Student, StudentSettings
from rl.frames import stack_blocks
from rl.parallel import ALONE, Team, team

ROWS = (10, 6)  # of each game
GOAL = Goal(imitation("kl", 0.5), 0.0625, 0)


def lessons() -> list[Lesson]:
    rng = torch.Generator().manual_seed(4)
    pictures = torch.from_numpy(stack_blocks(stacks(sum(ROWS), 3))).split(ROWS)
    return [Lesson(own, torch.randn(len(own), n, generator=rng)) for own, n in zip(pictures, (3, 4), strict=True)]


def one_update(given: list[Lesson], threads: int, us: Team = ALONE) -> dict[str, np.ndarray]:
    """Gradient, statistics and weights after an update of a student that is always the same."""
    torch.manual_seed(5)
    learner = Learner(Student(StudentSettings(4, SMALL), heads(3, 4)), 0.0625, threads, False, us)
    learner.finish(learner.begin(given, GOAL), GOAL)
    made = learner.student
    statistics = [part for level in made.normalised for part in (level.mean, level.variance)]
    parts = {"gradient": [own.grad for own in made.parameters()], "statistics": statistics}
    return {name: flat(part) for name, part in (parts | {"weights": list(made.parameters())}).items()}


def flat(tensors) -> np.ndarray:
    return torch.cat([tensor.detach().flatten().double() for tensor in tensors]).numpy()


def main(out: Path) -> None:
    with team() as us:
        part = [own.cut(us.rank * len(own.q) // 2, (us.rank + 1) * len(own.q) // 2) for own in lessons()]
        np.savez(out / f"seen-{us.rank}.npz", own=one_update(part, 1)["gradient"], **one_update(part, 1, us))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

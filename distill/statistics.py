"""What levels see on average, measured: for folding anew, and for a folded student that learns on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from distill.fire import F64, moments_of
from distill.sharing import WHOLE
from distill.student import MOMENTUM, Normalised, Student


def recalibrate(student: Student, batches: Iterable[Tensor]) -> None:
    """Replace running statistics by plain means over batches of stacks u8 [B, 21, 21, 64], in float32."""
    student.train()
    with torch.no_grad():
        for index, cells in enumerate(batches):
            for level in student.normalised:
                level.momentum = 1 / (index + 1)
            student.votes(cells)
    for level in student.normalised:
        level.momentum = MOMENTUM
    student.eval()


def measure(student: Student, batches: Iterable[Tensor]) -> None:
    """Statistics of every level over stacks u8 [B, 21, 21, 64], by bits as they are; what is computed stays the same.

    Biases move along: in deviations of sums that vary, a threshold is where its gradient can find it.
    """
    seen: dict[Normalised, list[tuple[F64, F64]]] = {level: [] for level in student.normalised}

    def note(level: Normalised, given: tuple[Tensor, Any]) -> None:
        mean, variance, _ = moments_of(level.sums(given[0]), WHOLE)
        seen[level].append((mean, variance + mean**2))

    hooks = [level.register_forward_pre_hook(note) for level in seen]  # type: ignore[arg-type]
    try:
        with torch.no_grad():
            for cells in batches:
                list(student.levels(cells, None))
    finally:
        for hook in hooks:
            hook.remove()
    for level, found in seen.items():
        mean, square = (torch.from_numpy(sum(part) / len(found)) for part in zip(*found, strict=True))
        _restate(level, mean, square - mean**2)


@torch.no_grad()
def _restate(level: Normalised, mean: Tensor, variance: Tensor) -> None:
    """Other statistics, and biases by which it fires where it did."""
    least = level.bias.double() * level.deviation - level.mean.double()
    level.mean.copy_(mean)
    level.variance.copy_(variance.clamp(min=0))
    level.bias.copy_((least + level.mean.double()) / level.deviation)

"""A folded student learns on: the inverse of distill/export.py, and what folding dropped measured or chosen anew."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deploy.spec import Conv, StudentSpec, load_spec
from distill.export import convs, export
from distill.fire import EPSILON, F64, moments_of
from distill.front import block_kernel
from distill.sharing import WHOLE
from distill.sources import Lesson
from distill.student import FRONT_PEAK, Normalised, Student
from rl.settings import SettingsError

# Of hidden weights that are not 0: beyond 0.6, where they settle, so that not every update moves them.
HIDDEN = 0.8
SCALES = tuple(2 ** (step / 2) for step in range(-4, 13))  # times those that a fresh student has


def load_start(path: Path) -> tuple[StudentSpec, dict[str, Any]]:
    """(spec, where it comes from) of a student to go on from; raises SettingsError where there is none."""
    if not path.exists():
        raise SettingsError(f"distill.start: {path} does not exist; name a student.npz, or null to begin from nothing")
    return load_spec(path)


def unfold(student: Student, spec: StudentSpec) -> None:
    """Make a student that computes in evaluation mode what the spec does; its statistics say nothing until `measure`.

    Raises SettingsError where games, actions or layers are others.
    """
    _need_same(student, spec)
    with torch.no_grad():
        student.front.hidden.copy_(block_kernel(torch.tensor(spec.front.weights).float()) / FRONT_PEAK)
        for layer, conv in zip(student.chip_layers, spec.layers, strict=True):
            weights = torch.tensor(conv.weights).float()
            layer.hidden.copy_(weights * HIDDEN)
            layer.trinary.copy_(weights)
        for level, conv in zip(student.normalised, convs(spec), strict=True):
            level.mean.zero_()
            level.variance.fill_(1 - EPSILON)
            level.bias.copy_(torch.tensor(conv.leak).float() - 0.5)  # s + leak >= 1, halfway to the next sum
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


@torch.no_grad()
def be_sure(student: Student, lessons: Sequence[Lesson], loss: Callable[[Tensor, Lesson], Tensor]) -> None:
    """The scale of each head's votes, which a spec does not hold: of SCALES the one with the least loss."""
    begun = student.log_scale.clone()
    for head, lesson in enumerate(lessons):
        *_, last = student.levels(lesson.cells, None)
        told = partial(_loss_at, student, head, student.count(last.permute(0, 3, 1, 2)), lesson, loss)
        student.log_scale[head] = min((begun[head] + math.log(scale) for scale in SCALES), key=told)


def _loss_at(
    student: Student,
    head: int,
    votes: Tensor,
    lesson: Lesson,
    loss: Callable[[Tensor, Lesson], Tensor],
    log_scale: Tensor,
) -> float:
    student.log_scale[head] = log_scale
    return loss(student.logits(votes, head), lesson).item()


def _need_same(student: Student, spec: StudentSpec) -> None:
    own = export(student)
    pairs = {
        "games and actions": (spec.heads, own.heads),
        "layers": (list(map(_shape, convs(spec))), list(map(_shape, convs(own)))),
        "votes": (spec.vote.tolist(), own.vote.tolist()),
        "pictures of a history": (spec.history, own.history),
    }
    other = [what for what, (found, allowed) in pairs.items() if found != allowed]
    if other:
        raise SettingsError(
            f"distill.start: a student of other {', '.join(other)}; name one of these games and of this student=..."
        )


def _shape(conv: Conv) -> tuple[Any, ...]:
    return conv.name, conv.weights.shape, conv.order.tolist(), conv.groups, conv.stride, conv.padding

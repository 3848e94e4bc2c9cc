"""A folded student learns on: the inverse of distill/export.py, and what folding dropped measured or chosen anew."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deploy.spec import Conv, StudentSpec, load_spec
from distill.export import convs, export
from distill.fire import EPSILON
from distill.front import block_kernel
from distill.sources import Lesson
from distill.student import FRONT_PEAK, Student, TrinaryConv
from rl.files import read_json
from rl.settings import SettingsError

# Of hidden weights that are not 0: beyond 0.6, where they settle, so that not every update moves them.
HIDDEN = 0.8
SCALES = tuple(2 ** (step / 2) for step in range(-4, 13))  # times those that a fresh student has


def load_start(path: Path) -> tuple[StudentSpec, dict[str, Any]]:
    """(spec, where it comes from) of a student to go on from; raises SettingsError where there is none."""
    if not path.exists():
        raise SettingsError(f"distill.start: {path} does not exist; name a student.npz, or [] to begin from nothing")
    return load_spec(path)


def updates_behind(made: Mapping[str, Any]) -> int:
    """Updates that a student has seen, by where it comes from: its own, by play too, and those of what it began as."""
    behind = int(made["update"]) + int(made.get("finetuned", {}).get("update", 0))
    return behind + max((int(own["updates"]) for own in made.get("start", [])), default=0)


def begun_as(path: Path, spec: StudentSpec, made: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a student to go on from: digest, updates, and its settings where its run's report lies beside."""
    own = {"spec": spec.digest, "updates": updates_behind(made)}
    report = path.parent / "report.json"
    facts = read_json(report) if report.exists() else {}
    return own | ({"settings": facts["settings"]} if facts.get("spec") == spec.digest else {})


def unfold(student: Student, specs: Sequence[StudentSpec]) -> None:
    """Make a student that computes in evaluation mode what specs do, one in each tower, their votes added up.

    Its statistics say nothing until `distill.statistics.measure`. Raises SettingsError where games, actions or layers
    are others.
    """
    own = export(student)
    spec = specs[0] if len(specs) == 1 else side_by_side(own, specs)
    _need_same(own, spec)
    with torch.no_grad():
        student.front.hidden.copy_(block_kernel(torch.tensor(spec.front.weights).float()) / FRONT_PEAK)
        for layer, conv in zip(student.chip_layers, spec.layers, strict=True):
            weights = torch.tensor(conv.weights).float()
            need_signs(layer, weights)
            layer.hidden.copy_(weights * HIDDEN)
            layer.trinary.copy_(weights)
        for level, conv in zip(student.normalised, convs(spec), strict=True):
            level.mean.zero_()
            level.variance.fill_(1 - EPSILON)
            level.bias.copy_(torch.tensor(conv.leak).float() - 0.5)  # s + leak >= 1, halfway to the next sum
    student.eval()


def need_signs(layer: TrinaryConv, weights: Tensor) -> None:
    """Raise SettingsError where a layer of shared signs would take weights of others."""
    if (weights * layer.sign < 0).any():
        raise SettingsError(
            f"distill.start: {layer.name} has weights of other signs; name a student of student.signs=free"
        )


def side_by_side(like: StudentSpec, specs: Sequence[StudentSpec]) -> StudentSpec:
    """Specs of equal heads and layers as one with all their features, whose votes are added up, named as in `like`.

    Raises SettingsError where they are not equal.
    """
    first, *others = specs
    if any(_outline(spec) != _outline(first) for spec in others):
        raise SettingsError(
            "distill.start: students of different games or layers, must be alike; name one for each tower"
        )
    levels = [
        _joined_conv(name.name, parts, apart=index > 0)
        for index, (name, *parts) in enumerate(zip(convs(like), *map(convs, specs), strict=True))
    ]
    vote = np.concatenate([spec.vote for spec in specs])
    return StudentSpec(levels[0], tuple(levels[1:]), vote, first.heads, first.history)


def _joined_conv(name: str, parts: Sequence[Conv], apart: bool) -> Conv:
    """One level of all; `apart`: each reads its own part of the level before, else all the same."""
    first, count = parts[0], len(parts) if apart else 1
    channels, height, width = first.in_shape
    order = np.concatenate([part.order + index * channels for index, part in enumerate(parts[:count])])
    return Conv(
        name,
        np.concatenate([part.weights for part in parts]),
        np.concatenate([part.leak for part in parts]),
        order.astype(np.int32),
        first.groups * count,
        first.stride,
        first.padding,
        (channels * count, height, width),
    )


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


def _need_same(own: StudentSpec, spec: StudentSpec) -> None:
    other = [what for what, outline in _outline(spec).items() if outline != _outline(own)[what]]
    if other:
        raise SettingsError(
            f"distill.start: a student of other {', '.join(other)}; name one of these games and of this student=..., "
            "or as many as it has towers"
        )


def _outline(spec: StudentSpec) -> dict[str, Any]:
    """What students have in common that may take each other's place."""
    return {
        "games and actions": spec.heads,
        "layers": list(map(_shape, convs(spec))),
        "votes": spec.vote.tolist(),
        "pictures of a history": spec.history,
    }


def _shape(conv: Conv) -> tuple[Any, ...]:
    return conv.weights.shape, conv.order.tolist(), conv.groups, conv.stride, conv.padding

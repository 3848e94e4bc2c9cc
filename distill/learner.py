"""A student and its optimiser: an update on lessons of every game, its batch shared out to threads and processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from threading import BrokenBarrierError

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.loss import agreement, chosen
from distill.readouts import Reading, Readouts
from distill.sharing import Sharing, Table
from distill.sources import Lesson
from distill.student import Student
from rl.network import copy_parameters, rounded
from rl.parallel import ALONE, Team


@dataclass(frozen=True, eq=False)
class Goal:
    """What an update is for."""

    loss: Callable[[Tensor, Lesson], Tensor]  # of logits [B, A], averaged over the batch
    rate: float  # of the hidden weights
    update: int  # its number, for messages
    readouts: float = 0.0  # weight of each readout's loss beside that of the votes
    hints: float = 0.0  # weight of what a readout says of the teacher's hints, beside its own loss


def imitation(loss: str, temperature: float) -> Callable[[Tensor, Lesson], Tensor]:
    """A loss of distillation by name, in each lesson's own unit."""
    own = chosen(loss, temperature)
    return lambda logits, lesson: own(logits, lesson.q / lesson.unit)


@dataclass(frozen=True, eq=False)
class Part:
    """What part of a batch adds to the whole."""

    gradients: tuple[Tensor, ...]
    loss: float
    agreement: float
    readouts: float  # their mean loss


Parts = list[Future[Part]]


class Learner:
    """Gradients come from threads of one operator thread each, which meet at every level's statistics.

    As fast as two OpenMP threads on an idle machine and not several times slower on a busy one, as in rl/agent.py.
    """

    def __init__(
        self,
        student: Student,
        rate: float,
        threads: int,
        bf16: bool,
        team: Team = ALONE,
        readouts: Readouts | None = None,
    ) -> None:
        self.student, self._bf16, self._team = student, bf16, team
        self.readouts = readouts or Readouts(student, ())
        self._rounded = rounded(self.readouts, bf16)
        groups = [*student.groups(), *self.readouts.groups()]
        self.optimiser = torch.optim.Adam(groups, lr=rate, fused=True)
        self._pool = ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1))
        self._threads = threads
        self._table = Table(threads, team)
        named = [(name, own) for name, own in student.named_parameters() if own.requires_grad]
        self._taught = len(named)  # what lies behind these is in training alone
        named += [(f"readout {name}", own) for name, own in self.readouts.named_parameters()]
        self._names, self._parameters = [name for name, _ in named], [own for _, own in named]
        self._fired: list[Tensor] = []  # bits of every level, of the first part of the last batch

    def begin(self, lessons: Sequence[Lesson], goal: Goal) -> Parts:
        """Start on the gradients; until `finish` the student may play, but not change."""
        if goal.readouts:
            copy_parameters(self.readouts, self._rounded)
        parts = shared_out(lessons, self._threads)
        if len(parts) != len(self._table.seats):  # as many as there are rows
            self._table = Table(len(parts), self._team)
        rows, seats = sum(len(lesson.q) for lesson in lessons), self._table.seats
        return [self._pool.submit(self._part, own, rows, goal, seat) for own, seat in zip(parts, seats, strict=True)]

    def finish(self, parts: Parts, goal: Goal) -> dict[str, float]:
        """The update that was begun; what it saw. Raises ValueError, having changed nothing, where a number is none."""
        found = gathered(parts)
        self.optimiser.zero_grad()
        read = self._parameters[self._taught :] if goal.readouts else []
        for index, parameter in enumerate([*self._learning(), *read]):
            # Fused optimisers want the parameter's own order; gradients of readouts are rounded, too.
            parameter.grad = torch.empty_like(parameter).copy_(found[0].gradients[index])
            for part in found[1:]:
                parameter.grad += part.gradients[index]
        self._team.average([own.grad for own in self._parameters if own.grad is not None])
        for name, own in zip(self._names, self._parameters, strict=True):
            if own.grad is not None and not finite(own.grad):
                raise ValueError(unsound(goal.update, f"the gradient of {name}"))
        for group in self.optimiser.param_groups:
            group["lr"] = goal.rate * group["scale"]
        self.optimiser.step()
        self.student.keep()
        flips = self.student.settle()
        told = {"loss": sum(part.loss for part in found), "agreement": sum(part.agreement for part in found)}
        if goal.readouts:
            told["readouts"] = sum(part.readouts for part in found)
        return {f"train/{tag}": value for tag, value in told.items()} | {"train/flips": flips}

    def _learning(self) -> list[nn.Parameter]:
        """What an update changes of the student: all but levels that stand still."""
        levels = islice(self.student.normalised, self.student.still)
        still = {id(own) for level in levels for own in level.parameters()}
        return [own for own in self._parameters[: self._taught] if id(own) not in still]

    def health(self) -> dict[str, float]:
        """What the field looks at, by level: how much fires, and which weights are zero."""
        return self.student.health(self._fired)

    def _part(self, lessons: Sequence[Lesson], rows: int, goal: Goal, seat: Sharing) -> Part:
        try:
            return self._gradient(lessons, rows, goal, seat)
        except BaseException:
            self._table.leave()
            raise

    def _gradient(self, lessons: Sequence[Lesson], rows: int, goal: Goal, seat: Sharing) -> Part:
        """What these lessons add, where whole ones have so many rows, which all weigh alike."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            levels = self._levels(lessons, seat)
        if seat is self._table.seats[0]:
            self._fired = [level.detach() for level in levels]
        parts = torch.split(self.student.count(levels[-1].permute(0, 3, 1, 2)), [len(own.q) for own in lessons])
        losses, same = [], 0.0
        for head, (votes, lesson) in enumerate(zip(parts, lessons, strict=True)):
            logits, share = self.student.logits(votes, head), len(votes) / rows
            losses.append(goal.loss(logits, lesson) * share)
            if not torch.isfinite(losses[-1]):
                labels = not torch.isfinite(lesson.q).all()
                what = "values" if labels else "loss"
                raise ValueError(unsound(goal.update, f"the {what} of {self.student.heads[head].game}"))
            same += agreement(logits, lesson.q).item() * share
        loss, taught = torch.stack(losses).sum(), self._learning()
        if not goal.readouts:
            return Part(torch.autograd.grad(loss, taught), loss.item(), same, 0.0)
        read = self._read(levels, lessons, rows, goal)
        learnt = [*taught, *self._rounded.parameters()]
        gradients = torch.autograd.grad(loss + goal.readouts * read, learnt)
        return Part(gradients, loss.item(), same, read.item() / len(self.readouts.levels))

    def _levels(self, lessons: Sequence[Lesson], seat: Sharing) -> list[Tensor]:
        known = [lesson.known for lesson in lessons if lesson.known is not None]
        if known:
            return list(self.student.above(torch.cat(known), seat))
        return list(self.student.levels(torch.cat([lesson.cells for lesson in lessons]), seat))

    def _read(self, levels: Sequence[Tensor], lessons: Sequence[Lesson], rows: int, goal: Goal) -> Tensor:
        """Summed loss of the readouts, as these rows add to it."""
        losses = []
        for readings in self._rounded(levels, [len(own.q) for own in lessons]):
            for own, lesson in zip(readings, lessons, strict=True):
                losses.append(reading_loss(own, lesson, goal) * (len(lesson.q) / rows))
        return torch.stack(losses).sum()


def reading_loss(reading: Reading, lesson: Lesson, goal: Goal) -> Tensor:
    """Of one readout and game, averaged over rows: the lesson's own, and the squared error of the hints."""
    loss = goal.loss(reading.logits, lesson)
    if reading.hints is None or lesson.hints is None:
        return loss
    return loss + goal.hints * F.mse_loss(reading.hints, lesson.hints)


def finite(x: Tensor) -> bool:
    """Whether every number is. Their norm tells, in one pass, but for numbers so large that it overflows."""
    return bool(torch.linalg.vector_norm(x).isfinite()) or bool(torch.isfinite(x).all())


def unsound(update: int, where: str) -> str:
    return (
        f"distill: update {update:,}: {where} holds numbers that are not finite, and was not taken; the last state "
        "saved is whole; lower distill.learning_rate, or record the dataset again if the values are the teacher's"
    )


def shared_out(lessons: Sequence[Lesson], parts: int) -> list[list[Lesson]]:
    """At most so many parts, each with rows of every lesson."""
    parts = min(parts, *(len(lesson.q) for lesson in lessons))
    bounds = [np.linspace(0, len(lesson.q), parts + 1).astype(int).tolist() for lesson in lessons]
    cuts = zip(*(pairwise(own) for own in bounds), strict=True)
    return [[lesson.cut(*ends) for lesson, ends in zip(lessons, cut, strict=True)] for cut in cuts]


def gathered(parts: Parts) -> list[Part]:
    """All results, or the error that stopped one of them; not that of the others, who waited for it."""
    errors = [error for part in parts if (error := part.exception())]
    for error in sorted(errors, key=lambda error: isinstance(error, BrokenBarrierError)):
        raise error
    return [part.result() for part in parts]

"""Readouts of levels in the middle of a student, in training alone (deeply supervised nets, Lee et al. 2015).

What reaches the early levels through a dozen surrogate gradients is coarse; a linear readout of a level's bits, which
learns the same lessons beside the votes, says more exactly what is missing. Nothing of it is folded or compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.student import Student
from rl.network import QNetwork

# Share of the hidden weights' learning rate. Thousands of bits move together: at 0.025 what Breakout's readouts said of
# hidden units was worse than saying nothing once the student played.
RATE = 0.004
FIRST_SPREAD = 0.5  # of the logits at the start, where half of the bits are 1


def level_sizes(student: Student) -> list[int]:
    """Bits of every level for one stack, the front's first."""
    features = [student.front.bias.numel() * student.history, *(layer.own.features for layer in student.chip_layers)]
    return [height * width * own for (height, width), own in zip(student.maps(), features, strict=True)]


def shrinking(student: Student) -> list[int]:
    """The last three layers whose maps are smaller than those before; never the very last one, which votes."""
    layers = list(student.chip_layers)[:-1]
    return [number for number, layer in enumerate(layers, start=1) if layer.own.stride > 1][-3:]


@torch.no_grad()
def hints(teacher: QNetwork, cells: Tensor) -> Tensor:
    """The teacher's hidden units [B, H] for stacks u8 [B, 21, 21, 64], of mean 0 and deviation 1, before their ReLU."""
    sums = teacher.sums(cells).float()
    return F.layer_norm(sums, sums.shape[1:])


@dataclass(frozen=True, eq=False)
class Reading:
    """What a readout says of one game's rows."""

    logits: Tensor  # [B, A]
    hidden: Tensor | None  # [B, H] of the teacher's hidden units


class Readouts(nn.Module):
    """Linear maps from the bits of each of some levels to the answers of all games and to their teachers' hidden units.

    The latter are hints (Romero et al. 2015): hundreds of numbers a picture, where its label is one choice of a few.
    """

    def __init__(self, student: Student, levels: Sequence[int], hidden: Sequence[int] = ()) -> None:
        """`levels`: numbers of layers, the first is 1; `hidden`: units of each game's teacher, none: no hints."""
        super().__init__()
        sizes, self.levels, self._heads = level_sizes(student), tuple(levels), student.heads
        self.answers = nn.ModuleList(_linear(sizes[level], student.heads[-1].stop) for level in levels)
        self.hidden = nn.ModuleList(nn.ModuleList(_linear(sizes[level], own) for own in hidden) for level in levels)

    def groups(self) -> list[dict[str, Any]]:
        """Parameters with their share of the learning rate."""
        return [{"params": list(self.parameters()), "scale": RATE}] if self.levels else []

    def forward(self, bits: Sequence[Tensor], rows: Sequence[int]) -> list[list[Reading]]:
        """Bits [B, H, W, C] of every level, rows of each game in them -> what is read, by readout and game."""
        return [self._read(index, _signs(bits[level]), list(rows)) for index, level in enumerate(self.levels)]

    def _read(self, index: int, signs: Tensor, rows: list[int]) -> list[Reading]:
        answers, own = torch.split(self.answers[index](signs), rows), torch.split(signs, rows)
        hidden = self.hidden[index]
        assert isinstance(hidden, nn.ModuleList)
        told = [linear(part) for linear, part in zip(hidden, own, strict=True)] if len(hidden) else [None] * len(own)
        return [
            Reading(answer[:, head.start : head.stop].float(), units if units is None else units.float())
            for answer, head, units in zip(answers, self._heads, told, strict=True)
        ]


def _linear(size: int, answers: int) -> nn.Linear:
    made = nn.Linear(size, answers)
    nn.init.normal_(made.weight, std=FIRST_SPREAD / size**0.5)
    return made


def _signs(bits: Tensor) -> Tensor:
    """Bits [B, H, W, C] -> [B, H*W*C], -1 and 1."""
    return bits.flatten(1).mul(2).sub(1)

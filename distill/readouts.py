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
MOST_BITS = 40_000  # that a readout reads
FIRST_SPREAD = 0.5  # of the logits at the start, where half of the bits are 1


def level_sizes(student: Student) -> list[int]:
    """Bits of every level for one stack, the front's first."""
    features = [student.front.bias.numel() * student.history, *(layer.own.features for layer in student.chip_layers)]
    return [height * width * own for (height, width), own in zip(student.maps(), features, strict=True)]


def shrinking(student: Student) -> list[int]:
    """The last three layers whose maps are smaller than those before; never the very last one, which votes.

    Nor one of so many bits that reading them would take longer than the student does.
    """
    layers, bits = list(student.chip_layers)[:-1], level_sizes(student)
    found = [number for number, layer in enumerate(layers, start=1) if layer.own.stride > 1]
    return [number for number in found if bits[number] <= MOST_BITS][-3:]


@torch.no_grad()
def hidden_units(teacher: QNetwork, cells: Tensor) -> Tensor:
    """The teacher's hidden units [B, H] for stacks u8 [B, 21, 21, 64], of mean 0 and deviation 1, before their ReLU."""
    sums = teacher.sums(cells).float()
    return F.layer_norm(sums, sums.shape[1:])


def axes_of(units: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(mean [H], axes [H, K]) of hidden units [N, H]: `(units - mean) @ axes` keeps most of how they vary.

    K is `count`, or H where that is less. The numbers have mean 0 and on average deviation 1.
    """
    mean, count = units.mean(dim=0), min(count, units.shape[1])
    centred = (units - mean).double()
    variances, main = torch.linalg.eigh(centred.T @ centred / len(units))  # rising
    # Main axes, turned at random so that all vary alike: what moves at one rate would learn the largest ones last.
    turn = torch.linalg.qr(torch.randn(count, count, dtype=torch.double, generator=torch.Generator().manual_seed(0))).Q
    spread = variances[-count:].mean().clamp(min=1e-6).sqrt()
    return mean, (main[:, -count:] @ turn / spread).float()


@dataclass(frozen=True, eq=False)
class Hinter:
    """What a teacher hints: its hidden units along the axes of `axes_of`, an eighth of the numbers."""

    teacher: QNetwork
    mean: Tensor  # [H]
    axes: Tensor  # [H, K]

    def __call__(self, cells: Tensor) -> Tensor:
        """Hints [B, K] for stacks u8 [B, 21, 21, 64]."""
        return (hidden_units(self.teacher, cells) - self.mean) @ self.axes


@dataclass(frozen=True, eq=False)
class Reading:
    """What a readout says of one game's rows."""

    logits: Tensor  # [B, A]
    hints: Tensor | None  # [B, K] of the teacher's hidden units


class Readouts(nn.Module):
    """Linear maps from the bits of each of some levels to the answers of all games and to what their teachers hint.

    Hints (Romero et al. 2015) are dozens of numbers a picture, where its label is one choice of a few.
    """

    def __init__(self, student: Student, levels: Sequence[int], hints: Sequence[int] = ()) -> None:
        """`levels`: numbers of layers, the first is 1; `hints`: how many numbers each game's teacher hints, if any."""
        super().__init__()
        sizes, self.levels, self._heads = level_sizes(student), tuple(levels), student.heads
        self.answers = nn.ModuleList(_linear(sizes[level], student.heads[-1].stop) for level in levels)
        self.hints = nn.ModuleList(nn.ModuleList(_linear(sizes[level], own) for own in hints) for level in levels)

    def groups(self) -> list[dict[str, Any]]:
        """Parameters with their share of the learning rate."""
        return [{"params": list(self.parameters()), "scale": RATE}] if self.levels else []

    def forward(self, bits: Sequence[Tensor], rows: Sequence[int]) -> list[list[Reading]]:
        """Bits [B, H, W, C] of every level, rows of each game in them -> what is read, by readout and game."""
        return [self._read(index, _signs(bits[level]), list(rows)) for index, level in enumerate(self.levels)]

    def _read(self, index: int, signs: Tensor, rows: list[int]) -> list[Reading]:
        answers, own = torch.split(self.answers[index](signs), rows), torch.split(signs, rows)
        hints = self.hints[index]
        assert isinstance(hints, nn.ModuleList)
        told = [linear(part) for linear, part in zip(hints, own, strict=True)] if len(hints) else [None] * len(own)
        return [
            Reading(answer[:, head.start : head.stop].float(), hint if hint is None else hint.float())
            for answer, head, hint in zip(answers, self._heads, told, strict=True)
        ]


def _linear(size: int, answers: int) -> nn.Linear:
    made = nn.Linear(size, answers)
    nn.init.normal_(made.weight, std=FIRST_SPREAD / size**0.5)
    return made


def _signs(bits: Tensor) -> Tensor:
    """Bits [B, H, W, C] -> [B, H*W*C], -1 and 1."""
    return bits.flatten(1).mul(2).sub(1)

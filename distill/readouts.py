"""Readouts of levels in the middle of a student, in training alone (deeply supervised nets, Lee et al. 2015).

What reaches the early levels through a dozen surrogate gradients is coarse; a linear readout of a level's bits, which
learns the same lessons beside the votes, says more exactly what is missing. Nothing of it is folded or compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from deploy.spec import Head
from distill.convolve import sides
from distill.student import Student
from rl.frames import CELLS

RATE = 0.025  # share of the hidden weights' learning rate: these are plain floats
FIRST_SPREAD = 0.5  # of the logits at the start, where half of the bits are 1


def level_sizes(student: Student) -> list[int]:
    """Bits of every level for one stack, the front's first."""
    side = (CELLS - 1, CELLS - 1)
    found = [side[0] * side[1] * student.front.bias.numel() * student.history]
    for layer in student.chip_layers:
        side = sides(layer.shape, *side)
        found.append(side[0] * side[1] * layer.own.features)
    return found


def shrinking(student: Student) -> list[int]:
    """The last three layers whose maps are smaller than those before; never the very last one, which votes."""
    layers = list(student.chip_layers)[:-1]
    return [number for number, layer in enumerate(layers, start=1) if layer.own.stride > 1][-3:]


class Readouts(nn.Module):
    """A linear map from the bits of each of some levels to the answers of all games."""

    def __init__(self, student: Student, levels: Sequence[int]) -> None:
        """`levels`: numbers of layers, the first is 1; the last one votes and needs no readout."""
        super().__init__()
        sizes, self.levels, self._heads = level_sizes(student), tuple(levels), student.heads
        self.maps = nn.ModuleList(nn.Linear(sizes[level], student.heads[-1].stop) for level in levels)
        for own in self.maps:
            assert isinstance(own, nn.Linear)
            nn.init.normal_(own.weight, std=FIRST_SPREAD / own.in_features**0.5)

    def groups(self) -> list[dict[str, Any]]:
        """Parameters with their share of the learning rate."""
        return [{"params": list(self.parameters()), "scale": RATE}] if self.levels else []

    def forward(self, bits: Sequence[Tensor], rows: Sequence[int]) -> list[list[Tensor]]:
        """Bits [B, H, W, C] of every level, rows of each game in them -> logits [B_g, A_g], by readout and game."""
        read = [own(_signs(bits[level])).split(list(rows)) for own, level in zip(self.maps, self.levels, strict=True)]
        return [[_of(own, head) for own, head in zip(parts, self._heads, strict=True)] for parts in read]


def _signs(bits: Tensor) -> Tensor:
    """Bits [B, H, W, C] -> [B, H*W*C], -1 and 1."""
    return bits.flatten(1).float().mul(2).sub(1)


def _of(answers: Tensor, head: Head) -> Tensor:
    return answers[:, head.start : head.stop]

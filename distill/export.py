"""Folding: a trained student becomes integers. What is exported is the student from then on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deploy.spec import Conv, StudentSpec
from distill.fire import fired
from distill.front import pixel_kernel
from distill.quantise import fold
from distill.student import Normalised, Student
from rl.frames import SIDE


def leaks(layer: Normalised, peak: int) -> Tensor:
    """The integer leak [O] of every neuron of a layer whose inputs lie in 0..peak."""
    reach = layer.quantised().detach().abs().flatten(1).sum(dim=1) * peak
    return fold(layer.mean, layer.deviation, layer.bias.detach(), reach)


def export(student: Student) -> StudentSpec:
    """The folded student as integers; the student stays as it is."""
    weights = _whole(pixel_kernel(student.front.quantised().detach()), np.int8)
    pictures, features = weights.shape[1], weights.shape[0]
    front = Conv(
        "front",
        weights,
        leaks(student.front, 255).numpy().astype(np.int32),
        np.arange(pictures, dtype=np.int32),
        groups=1,
        stride=4,
        padding=0,
        in_shape=(pictures, SIDE, SIDE),
    )
    layers, shape = [], (student.history * features, *front.out_shape[1:])
    for layer in student.chip_layers:
        own = layer.own
        weights = _whole(layer.trinary, np.int8)
        order = layer.order.numpy().astype(np.int32)
        leak = leaks(layer, 1).numpy().astype(np.int32)
        layers.append(Conv(layer.name, weights, leak, order, own.groups, own.stride, own.padding, shape))
        shape = layers[-1].out_shape
    vote = student.vote.numpy().astype(np.int16)
    return StudentSpec(front, tuple(layers), vote, student.heads, student.history)


def _whole(tensor: Tensor, kind: type[Any]) -> NDArray[Any]:
    return tensor.detach().numpy().astype(kind)


class Folded(torch.nn.Module):
    """A spec on torch's convolutions: the same integers as `StudentSpec.run`, in batches and fast.

    Behind the front all sums are of at most 128 signs, whole numbers that bfloat16 holds.
    """

    def __init__(self, spec: StudentSpec) -> None:
        super().__init__()
        self._spec = spec
        self._convs = [
            _turned(conv, torch.bfloat16 if level else torch.float32) for level, conv in enumerate(convs(spec))
        ]
        member = spec.vote[:, None] == np.arange(spec.n_answers)
        self._member = torch.from_numpy(member.astype(np.float32))

    @torch.no_grad()
    def levels(self, obs: Tensor) -> Iterator[Tensor]:
        """Picture stacks u8 [B, 4, 84, 84] -> the bits of every level [B, O, H, W] as 0.0 and 1.0, the front first."""
        pixels = obs.float()  # all sums are whole and below 2**24: exact
        seen = self._spec.front.in_shape[0]
        lasts = range(obs.shape[1], obs.shape[1] - self._spec.history, -1)
        x = torch.cat([self._level(0, pixels[:, last - seen : last]) for last in lasts], dim=1)
        yield x.float()
        for index in range(1, len(self._convs)):
            x = self._level(index, x)
            yield x.float()

    def _level(self, index: int, x: Tensor) -> Tensor:
        weights, threshold, conv, order = self._convs[index]
        x = x if order is None else x[:, order]
        total = torch.nn.functional.conv2d(x, weights, None, conv.stride, conv.padding, 1, conv.groups)
        batch, features, height, width = total.shape
        bits = fired(total.permute(0, 2, 3, 1).reshape(1, -1, features), threshold, torch.bfloat16)
        return bits.view(batch, height, width, features).permute(0, 3, 1, 2)

    @torch.no_grad()
    def forward(self, obs: Tensor) -> Tensor:
        """Picture stacks u8 [B, 4, 84, 84] -> votes [B, answers], whole numbers in float32."""
        *_, last = self.levels(obs)
        return self.count(last)

    def count(self, last: Tensor) -> Tensor:
        """Bits of the last level [B, O, H, W] -> votes [B, answers]."""
        return last.flatten(1) @ self._member


def convs(spec: StudentSpec) -> tuple[Conv, ...]:
    """Every level, the front first."""
    return (spec.front, *spec.layers)


def _turned(conv: Conv, kind: torch.dtype) -> tuple[Tensor, NDArray[np.float32], Conv, Tensor | None]:
    """(weights, sums from which on it fires [O], the level, how channels come in if not as they are)."""
    weights = torch.from_numpy(conv.weights.astype(np.float32)).to(kind).contiguous(memory_format=torch.channels_last)
    plain = np.array_equal(conv.order, np.arange(len(conv.order)))
    return (
        weights,
        (1 - conv.leak).astype(np.float32),
        conv,
        None if plain else torch.from_numpy(conv.order.astype(np.int64)),
    )

"""Folding: a trained student becomes integers. What is exported is the student from then on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deploy.spec import Conv, StudentSpec
from distill.quantise import fold
from distill.student import Normalised, Student, pixel_kernel
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
    """A spec on torch's convolutions: the same integers as `StudentSpec.run`, in batches and fast."""

    def __init__(self, spec: StudentSpec) -> None:
        super().__init__()
        self._spec = spec
        self._convs = [(_tensor(c.weights), _tensor(c.leak)[:, None, None], c) for c in (spec.front, *spec.layers)]
        self._orders = [torch.from_numpy(c.order.astype(np.int64)) for c in (spec.front, *spec.layers)]
        member = spec.vote[:, None] == np.arange(spec.n_answers)
        self._member = torch.from_numpy(member.astype(np.float32))

    @torch.no_grad()
    def levels(self, obs: Tensor) -> Iterator[Tensor]:
        """Picture stacks u8 [B, 4, 84, 84] -> the bits of every level, the front's first, as 0.0 and 1.0."""
        pixels = obs.float()  # all sums are whole and below 2**24: exact
        seen = self._spec.front.in_shape[0]
        lasts = range(obs.shape[1], obs.shape[1] - self._spec.history, -1)
        x = torch.cat([self._level(0, pixels[:, last - seen : last]) for last in lasts], dim=1)
        yield x
        for index in range(1, len(self._convs)):
            x = self._level(index, x)
            yield x

    def _level(self, index: int, x: Tensor) -> Tensor:
        (weights, leak, conv), order = self._convs[index], self._orders[index]
        x = x if torch.equal(order, torch.arange(len(order))) else x[:, order]
        total = torch.nn.functional.conv2d(x, weights, None, conv.stride, conv.padding, 1, conv.groups)
        return (total + leak >= 1).float()

    @torch.no_grad()
    def forward(self, obs: Tensor) -> Tensor:
        """Picture stacks u8 [B, 4, 84, 84] -> votes [B, answers], whole numbers in float32."""
        *_, last = self.levels(obs)
        return self.count(last)

    def count(self, last: Tensor) -> Tensor:
        """Bits of the last level [B, O, H, W] -> votes [B, answers]."""
        return last.flatten(1) @ self._member


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))

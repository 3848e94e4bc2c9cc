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
from distill.student import PIXELS, Normalised, Student, pixel_kernel


def leaks(layer: Normalised, peak: int) -> Tensor:
    """The integer leak [O] of every neuron of a layer whose inputs lie in 0..peak."""
    reach = layer.quantised().detach().abs().flatten(1).sum(dim=1) * peak
    return fold(layer.mean, layer.deviation, layer.bias.detach(), reach)


def export(student: Student) -> StudentSpec:
    """The folded student as integers; the student stays as it is."""
    front = Conv(
        "front",
        _whole(pixel_kernel(student.front.quantised().detach()), np.int8),
        leaks(student.front, 255).numpy().astype(np.int32),
        np.arange(PIXELS[0], dtype=np.int32),
        groups=1,
        stride=4,
        padding=0,
        in_shape=PIXELS,
    )
    layers, shape = [], front.out_shape
    for layer in student.chip_layers:
        own = layer.own
        weights = _whole(layer.trinary, np.int8)
        order = layer.order.numpy().astype(np.int32)
        leak = leaks(layer, 1).numpy().astype(np.int32)
        layers.append(Conv(layer.name, weights, leak, order, own.groups, own.stride, own.padding, shape))
        shape = layers[-1].out_shape
    return StudentSpec(front, tuple(layers), student.vote.numpy().astype(np.int16), student.heads)


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
        x = obs.float()  # all sums are whole and below 2**24: exact
        for (weights, leak, conv), order in zip(self._convs, self._orders, strict=True):
            x = x if torch.equal(order, torch.arange(len(order))) else x[:, order]
            total = torch.nn.functional.conv2d(x, weights, None, conv.stride, conv.padding, 1, conv.groups)
            x = (total + leak >= 1).float()
            yield x

    @torch.no_grad()
    def forward(self, obs: Tensor) -> Tensor:
        """Picture stacks u8 [B, 4, 84, 84] -> votes [B, answers], whole numbers in float32."""
        *_, last = self.levels(obs)
        return last.flatten(1) @ self._member


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))

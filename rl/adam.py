"""Adam (Kingma & Ba 2015) with clipped gradients, for nets that compute in another type than they learn in.

Two passes over memory, one for the norm, one that steps and rounds. Torch makes six (widening, adding up, norm,
scaling, step, rounding): with nearly all parameters in one layer that was a third of an update of 32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl.compiled import F32, Array, bits_of, loose_kernel, narrow, widen

BLOCK = 4096  # numbers that are widened at once, in the nearest cache
MOMENTS = "exp_avg", "exp_avg_sq"  # torch's names: its checkpoints are ours


@dataclass(frozen=True, eq=False)
class Slot:
    """One parameter and what goes with it: flat views [N] in the parameter's own order in memory."""

    own: F32
    mean: F32  # of gradients, running
    square: F32  # of their squares
    rounded: Array


class ClippedAdam(torch.optim.Optimizer):
    """Parameters of float32; each has a copy that computes, in float32 or bfloat16, laid out alike."""

    def __init__(
        self, parameters: Iterable[Tensor], rounded: Iterable[Tensor], lr: float, eps: float, max_norm: float
    ) -> None:
        own = list(parameters)
        super().__init__(own, {"lr": lr, "betas": (0.9, 0.999), "eps": eps})
        self._max_norm, self._rounded = max_norm, list(rounded)
        for parameter in own:
            moments = {name: torch.zeros_like(parameter) for name in MOMENTS}
            self.state[parameter] = {"step": torch.tensor(0.0)} | moments
        self._slots = self._views()

    def _views(self) -> list[Slot]:
        owns = self.param_groups[0]["params"]
        return [self._slot(own, rounded) for own, rounded in zip(owns, self._rounded, strict=True)]

    def _slot(self, own: Tensor, rounded: Tensor) -> Slot:
        mean, square = (_flat(self.state[own][name]) for name in MOMENTS)
        return Slot(_flat(own), mean, square, _flat(rounded))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As of every optimiser; other tensors hold the moments from now on."""
        super().load_state_dict(state_dict)
        self._slots = self._views()

    def advance(self, parts: Sequence[Sequence[Tensor]], pool: Executor, shares: int) -> float:
        """One step by the sum of so many gradients of every parameter; their norm before it was clipped.

        `shares` of the work go to the pool at once; the sums, and so the step, depend on how many.
        """
        owns = self.param_groups[0]["params"]
        gradients = [tuple(_flat(_laid(part[i], own)) for part in parts) for i, own in enumerate(owns)]
        spans = list(pairwise(np.linspace(0, 1, shares + 1)))
        norm = float(np.sqrt(sum(pool.map(lambda span: _squares_of(gradients, *span), spans))))
        scale = min(1.0, self._max_norm / (norm + 1e-6))  # as torch's clip_grad_norm_
        numbers = self._numbers(scale)
        list(pool.map(lambda span: self._share(gradients, numbers, *span), spans))
        return norm

    def _numbers(self, scale: float) -> F32:
        """Of this step, what `_step` wants; counts the step."""
        group, told = self.param_groups[0], list(self.state.values())
        for state in told:
            state["step"] += 1
        steps, (first, second) = float(told[0]["step"]), group["betas"]
        rate, root = group["lr"] / (1 - first**steps), (1 - second**steps) ** 0.5
        return np.array([scale, first, second, rate, root, group["eps"]], np.float32)

    def _share(self, gradients: Sequence[tuple[Array, ...]], numbers: F32, a: float, b: float) -> None:
        for slot, parts in zip(self._slots, gradients, strict=True):
            begin, end = int(a * len(slot.own)), int(b * len(slot.own))
            _step(parts, slot.own, slot.mean, slot.square, slot.rounded, begin, end, numbers)


def _squares_of(gradients: Sequence[tuple[Array, ...]], a: float, b: float) -> float:
    """Sum of squares of a share of all gradients."""
    sizes = [len(parts[0]) for parts in gradients]
    return float(
        sum(_squares(parts, int(a * size), int(b * size)) for parts, size in zip(gradients, sizes, strict=True))
    )


def _laid(gradient: Tensor, like: Tensor) -> Tensor:
    """A gradient in its parameter's order in memory."""
    if gradient.stride() == like.stride():
        return gradient
    return torch.empty_like(like, dtype=gradient.dtype).copy_(gradient)


def _flat(tensor: Tensor) -> Array:
    """A dense tensor's numbers in its own order in memory."""
    return bits_of(tensor.detach().as_strided((tensor.numel(),), (1,)))


# Loops over whole arrays: with an offset in every index they take seven times as long.


@loose_kernel
def _add(part: Array, total: F32) -> None:
    for i in range(len(part)):
        total[i] += widen(part[i])


@loose_kernel
def _sum(parts: tuple[Array, ...], begin: int, block: F32) -> None:
    """The sum of a gradient's parts from `begin` on, into block [N]."""
    block[:] = 0
    for part in parts:
        _add(part[begin : begin + len(block)], block)


@loose_kernel
def _squares(parts: tuple[Array, ...], begin: int, end: int) -> float:
    block, total = np.empty(BLOCK, np.float32), 0.0
    for at in range(begin, end, BLOCK):
        size = min(BLOCK, end - at)
        _sum(parts, at, block[:size])
        total += float(_square(block[:size]))
    return total


@loose_kernel
def _square(values: F32) -> np.float32:
    total = np.float32(0)
    for i in range(len(values)):
        total += values[i] * values[i]
    return total


@loose_kernel
def _step(
    parts: tuple[Array, ...], own: F32, mean: F32, square: F32, rounded: Array, begin: int, end: int, numbers: F32
) -> None:
    block = np.empty(BLOCK, np.float32)
    for at in range(begin, end, BLOCK):
        to = min(at + BLOCK, end)
        _sum(parts, at, block[: to - at])
        _adam(block[: to - at], own[at:to], mean[at:to], square[at:to], numbers)
        _round(own[at:to], rounded[at:to])


@loose_kernel
def _adam(gradient: F32, own: F32, mean: F32, square: F32, numbers: F32) -> None:
    scale, first, second, rate, root, eps = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]
    fresh, newest = np.float32(1) - first, np.float32(1) - second
    for i in range(len(gradient)):
        g = gradient[i] * scale
        mean[i] += fresh * (g - mean[i])
        square[i] = second * square[i] + newest * g * g
        own[i] -= rate * mean[i] / (np.sqrt(square[i]) / root + eps)


@loose_kernel
def _round(own: F32, rounded: Array) -> None:
    for i in range(len(own)):
        rounded[i] = narrow(own[i], rounded[i])

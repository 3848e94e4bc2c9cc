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

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 4096  # numbers that are widened at once, in the nearest cache
Words = NDArray[np.uint32] | NDArray[np.uint16]  # bits of float32 or of bfloat16, which is its upper half
SHIFTS = {2: 16, 4: 0}  # by bytes of a word: how far its bits lie below those of a float32
MOMENTS = "exp_avg", "exp_avg_sq"  # torch's names: its checkpoints are ours
FAST = {"reassoc", "contract", "arcp"}  # sums in any fixed order; infinities and NaN stay what they are


@dataclass(frozen=True, eq=False)
class Slot:
    """One parameter and what goes with it: flat views [N] in the parameter's own order in memory."""

    own: NDArray[np.float32]
    mean: NDArray[np.float32]  # of gradients, running
    square: NDArray[np.float32]  # of their squares
    rounded: Words


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
        mean, square = (_words(self.state[own][name]).view(np.float32) for name in MOMENTS)
        return Slot(_words(own).view(np.float32), mean, square, _words(rounded))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As of every optimiser; other tensors hold the moments from now on."""
        super().load_state_dict(state_dict)
        self._slots = self._views()

    def advance(self, parts: Sequence[Sequence[Tensor]], pool: Executor, shares: int) -> float:
        """One step by the sum of so many gradients of every parameter; their norm before it was clipped.

        `shares` of the work go to the pool at once; the sums, and so the step, depend on how many.
        """
        owns = self.param_groups[0]["params"]
        gradients = [tuple(_words(_laid(part[i], own)) for part in parts) for i, own in enumerate(owns)]
        spans = list(pairwise(np.linspace(0, 1, shares + 1)))
        norm = float(np.sqrt(sum(pool.map(lambda span: _squares_of(gradients, *span), spans))))
        scale = min(1.0, self._max_norm / (norm + 1e-6))  # as torch's clip_grad_norm_
        numbers = self._numbers(scale)
        list(pool.map(lambda span: self._share(gradients, numbers, *span), spans))
        return norm

    def _numbers(self, scale: float) -> NDArray[np.float32]:
        """Of this step, what `_step` wants; counts the step."""
        group, told = self.param_groups[0], list(self.state.values())
        for state in told:
            state["step"] += 1
        steps, (first, second) = float(told[0]["step"]), group["betas"]
        rate, root = group["lr"] / (1 - first**steps), (1 - second**steps) ** 0.5
        return np.array([scale, first, second, rate, root, group["eps"]], np.float32)

    def _share(self, gradients: Sequence[tuple[Words, ...]], numbers: NDArray[np.float32], a: float, b: float) -> None:
        for slot, parts in zip(self._slots, gradients, strict=True):
            begin, end = int(a * len(slot.own)), int(b * len(slot.own))
            shifts = SHIFTS[parts[0].itemsize], SHIFTS[slot.rounded.itemsize]
            _step(parts, slot.own, slot.mean, slot.square, slot.rounded, *shifts, begin, end, numbers)


def _squares_of(gradients: Sequence[tuple[Words, ...]], a: float, b: float) -> float:
    """Sum of squares of a share of all gradients."""
    sizes = [len(parts[0]) for parts in gradients]
    return float(
        sum(
            _squares(parts, SHIFTS[parts[0].itemsize], int(a * size), int(b * size))
            for parts, size in zip(gradients, sizes, strict=True)
        )
    )


def _laid(gradient: Tensor, like: Tensor) -> Tensor:
    """A gradient in its parameter's order in memory."""
    if gradient.stride() == like.stride():
        return gradient
    return torch.empty_like(like, dtype=gradient.dtype).copy_(gradient)


def _words(tensor: Tensor) -> Words:
    """The bits of a dense tensor, flat, in its own order in memory."""
    flat = tensor.detach().as_strided((tensor.numel(),), (1,))
    if flat.dtype == torch.bfloat16:
        return flat.view(torch.int16).numpy().view(np.uint16)
    return flat.numpy().view(np.uint32)


_compiled = numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")  # errors would be branches


# Loops over whole arrays: with an offset in every index they take seven times as long.


@_compiled
def _add(part, shift, words, values, total):  # type: ignore[no-untyped-def]
    """Bits of a gradient's part, through `words` and their other view `values`, onto a total; all [N]."""
    for i in range(len(part)):
        words[i] = np.uint32(part[i]) << shift
    for i in range(len(part)):
        total[i] += values[i]


@_compiled
def _widen(parts, shift, begin, words, block):  # type: ignore[no-untyped-def]
    """The sum of a gradient's parts from `begin` on, into block [N]."""
    block[:] = 0
    for part in parts:
        _add(part[begin : begin + len(block)], np.uint32(shift), words, words.view(np.float32), block)


@_compiled
def _squares(parts, shift, begin, end):  # type: ignore[no-untyped-def]
    words, block, total = np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.float32), 0.0
    for at in range(begin, end, BLOCK):
        size = min(BLOCK, end - at)
        _widen(parts, shift, at, words[:size], block[:size])
        total += _square(block[:size])
    return total


@_compiled
def _square(values):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for i in range(len(values)):
        total += values[i] * values[i]
    return total


@_compiled
def _step(parts, own, mean, square, rounded, shift, out_shift, begin, end, numbers):  # type: ignore[no-untyped-def]
    words, block = np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.float32)
    for at in range(begin, end, BLOCK):
        to = min(at + BLOCK, end)
        size = to - at
        _widen(parts, shift, at, words[:size], block[:size])
        _adam(block[:size], own[at:to], mean[at:to], square[at:to], numbers)
        _round(own[at:to].view(np.uint32), rounded[at:to], np.uint32(out_shift))


@_compiled
def _adam(gradient, own, mean, square, numbers):  # type: ignore[no-untyped-def]
    scale, first, second, rate, root, eps = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]
    fresh, newest = np.float32(1) - first, np.float32(1) - second
    for i in range(len(gradient)):
        g = gradient[i] * scale
        mean[i] += fresh * (g - mean[i])
        square[i] = second * square[i] + newest * g * g
        own[i] -= rate * mean[i] / (np.sqrt(square[i]) / root + eps)


@_compiled
def _round(bits, rounded, shift):  # type: ignore[no-untyped-def]
    """To the nearest that fits, of two that are equally near the even one."""
    half = ((np.uint32(1) << shift) - np.uint32(1)) >> np.uint32(1)
    tie = np.uint32(shift > 0)
    for i in range(len(bits)):
        rounded[i] = (bits[i] + half + ((bits[i] >> shift) & tie)) >> shift

"""Quantisers of Eedn (Esser et al. 2016): pure functions with their gradients beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

HYSTERESIS = 0.1  # h: a weight keeps its value between 1/2 - h and 1/2 + h


@njit(cache=True, nogil=True)
def settle(
    hidden: NDArray[np.float32],
    trinary: NDArray[np.float32],
    sign_of: NDArray[np.int8],
    hysteresis: float = HYSTERESIS,
) -> int:
    """Clip hidden weights [W] to [-1, 1] and move their trinary values [W], in place; how many of those moved.

    0 up to |0.4|, the sign from |0.6| on, in between what it was (h = 0.1). `sign_of` [W]: the one sign that a weight
    may have, clipped to 0 on its other side; 0: either. One pass over memory, where torch takes eight.
    """
    low, high = np.float32(0.5 - hysteresis), np.float32(0.5 + hysteresis)
    moved = 0
    for i in range(hidden.size):
        if hidden[i] * sign_of[i] < 0:
            hidden[i] = 0
        size = abs(hidden[i])
        sign = np.float32(1) if hidden[i] > 0 else np.float32(-1)
        if size > 1:
            hidden[i] = sign
        after = sign if size >= high else np.float32(0)
        if (size >= high or size <= low) and after != trinary[i]:
            trinary[i] = after
            moved += 1
    return moved


def integers(hidden: Tensor, peak: int) -> Tensor:
    """Hidden weights in [-1, 1] -> integers -peak..peak as floats."""
    return (hidden * peak).round()


class StraightThrough(torch.autograd.Function):
    """Forward: the quantised tensor. Backward: its gradient goes to the hidden one unchanged."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, quantised: Tensor) -> Tensor:
        return quantised.view_as(quantised)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class Step(torch.autograd.Function):
    """Forward: 1 where r >= 0, else 0. Backward: the triangle max(0, 1 - |r|)."""

    @staticmethod
    def forward(ctx: Any, response: Tensor) -> Tensor:
        ctx.save_for_backward(response)
        # Compared straight into numbers, and below in place: both are bound by memory, not by arithmetic.
        return torch.ge(response, 0, out=torch.empty_like(response))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        response: Tensor = ctx.saved_tensors[0]
        return response.abs().neg_().add_(1).clamp_min_(0).mul_(grad)


def fold(mean: Tensor, deviation: Tensor, bias: Tensor, reach: Tensor) -> Tensor:
    """One integer leak a neuron in place of (s - mean) / deviation + bias >= 0, exactly.

    s + x >= 0 with x = bias * deviation - mean, for whole s, is s + floor(x) >= 0, i.e. s + leak >= 1 with
    leak = floor(x) + 1. Sums lie within +-reach, so a leak beyond [-reach, reach + 1] says no more than its end.
    All inputs [O]; returns [O] int64. Raises ValueError for numbers that are not finite.
    """
    x = bias.double() * deviation.double() - mean.double()
    if not torch.isfinite(x).all():
        raise ValueError(f"fold: {int((~torch.isfinite(x)).sum())} neurons have no finite threshold; lower the rate")
    ends = reach.double()
    return torch.minimum(torch.maximum(x.floor() + 1, -ends), ends + 1).long()


def shared(shape: tuple[int, int, int, int], groups: int) -> Tensor:
    """Signs [O, C/G, k, k] i8: in every group one for each input channel, plus and minus in turn.

    All neurons that read an input then weigh it alike, and one axon carries it (Dale's rule; chip.md 4.7 is the same
    with one type). Groups begin in turn too, so that none reads an input as another one does throughout.
    """
    out, own, _, _ = shape
    group = torch.arange(groups).repeat_interleave(out // groups)
    sign = 1 - 2 * ((group[:, None] + torch.arange(own)) % 2)
    return sign.to(torch.int8)[:, :, None, None].expand(shape).contiguous()

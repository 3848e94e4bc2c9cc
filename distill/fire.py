"""Normalisation, bias and step of a layer in training, with its gradient (Esser et al. 2016): sums -> bits.

r = (s - mean) / sqrt(variance + eps) + bias, fires where r >= 0; the step's gradient is the triangle
max(0, 1 - |r| / width).
Mean and variance are those of the whole batch, wherever its parts are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.kernels import add_up, descend, fire, slopes
from distill.sharing import Sharing
from rl.compiled import bits_of

EPSILON = 1e-4  # added to the variance
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def moments_of(sums: Tensor, sharing: Sharing) -> tuple[F64, F64, float]:
    """Mean and variance [O] of sums [G, R, O/G] over the rows of all parts, and how many those are."""
    groups, rows, features = sums.shape
    found = np.empty((2, groups, features))
    add_up(bits_of(sums), found[0], found[1])
    total = sharing.total(np.append(found.ravel(), rows))
    count, size = float(total[-1]), groups * features
    mean = total[:size] / count
    return mean, np.maximum(total[size:-1] / count - mean**2, 0), count


def thresholds(mean: F64, variance: F64, bias: F64) -> F32:
    """[O] whole numbers from which on a sum fires: s + x >= 0 with x = bias * deviation - mean is s >= -floor(x)."""
    least: F32 = (-np.floor(bias * np.sqrt(variance + EPSILON) - mean)).astype(np.float32)
    return least


class Fire(torch.autograd.Function):
    """Sums [G, R, O/G] -> bits [R, O], whole numbers as `kind`, in training."""

    @staticmethod
    def forward(
        ctx: Any,
        sums: Tensor,
        bias: Tensor,
        moments: tuple[F64, F64, float],
        kind: torch.dtype,
        sharing: Sharing,
        width: float = 1.0,
    ) -> Tensor:
        mean, variance, ctx.count = moments
        ctx.save_for_backward(sums, bias)
        ctx.steep = np.float32(1 / width)
        ctx.sharing, ctx.kind, ctx.mean, ctx.variance = sharing, kind, mean, variance
        return fired(sums, thresholds(mean, variance, bias.detach().double().numpy()), kind)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        sums, bias = ctx.saved_tensors
        groups, _, features = shape = sums.shape
        mean, inverse, offset = (
            part.astype(np.float32).reshape(groups, features)
            for part in (ctx.mean, 1 / np.sqrt(ctx.variance + EPSILON), bias.detach().numpy())
        )
        own, given = bits_of(sums), bits_of(grad.to(ctx.kind).contiguous())
        found = np.empty((2, groups, features))
        slopes(own, given, mean, inverse, offset, ctx.steep, found[0], found[1])
        level, spread = (ctx.sharing.total(found) / ctx.count).astype(np.float32)
        out = torch.empty(shape, dtype=ctx.kind)
        descend(own, given, mean, inverse, offset, ctx.steep, level, spread, bits_of(out))
        return out, torch.from_numpy(found[0].astype(np.float32).ravel()), None, None, None, None


def fired(sums: Tensor, threshold: F32, kind: torch.dtype) -> Tensor:
    """Sums [G, R, O/G] -> bits [R, O] as `kind`: 1 from the threshold [O] on."""
    groups, rows, features = sums.shape
    bits = torch.empty((rows, groups * features), dtype=kind)
    fire(bits_of(sums), threshold.reshape(groups, features), bits_of(bits))
    return bits

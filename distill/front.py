"""Sums of the front in training: integer weights over pixels, exact, and the gradient of the weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.convolve import Shape, of_weights, rows_of
from rl.frames import BLOCK

KERNEL = 2  # cells
OFFSET = 128  # pixels less this fit eight signed bits


def has_byte_products() -> bool:
    """Whether this processor adds products of bytes up in 32 bits; others do it in 16, which overflow."""
    return torch.cpu._is_vnni_supported()


class _Bytes(torch.autograd.Function):
    """Products of bytes, added up in 32 bits: a fifth of the time of float32."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, weights: Tensor, kind: torch.dtype) -> Tensor:
        ctx.save_for_backward(cells, weights)
        ctx.kind = kind
        features, channels, _, _ = weights.shape
        shape = Shape(channels, features, 1, KERNEL, 1, 0)
        rows, columns = rows_of(cells.contiguous(), shape)[0], shape.turned(weights)[0]
        sums = torch._int_mm(rows.bitwise_xor(OFFSET).view(torch.int8), columns.to(torch.int8).t())
        return (sums + OFFSET * columns.sum(dim=1).to(torch.int32)).float()[None]  # autograd knows no whole numbers

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        cells, weights = ctx.saved_tensors
        batch, height, width, _ = cells.shape
        places = grad.to(ctx.kind).view(batch, height - 1, width - 1, -1)  # pixels are exact in bfloat16
        return None, of_weights(places, cells.to(ctx.kind), weights.shape, 1, 0, 1).float(), None


def front_sums(cells: Tensor, weights: Tensor) -> Tensor:
    """Blocks u8 [B, H, W, C], whole weights -127..127 [F, C, 2, 2] -> whole sums [1, B*(H-1)*(W-1), F] float32."""
    if has_byte_products():
        kind = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
        return _Bytes.apply(cells, weights, kind)  # type: ignore[no-any-return, no-untyped-call]
    return plain_sums(cells, weights)


def plain_sums(cells: Tensor, weights: Tensor) -> Tensor:
    """The same in float32: sums of u8 x s8 over 256 taps stay below 2**24 and so exact, which bfloat16 is not."""
    with torch.autocast("cpu", enabled=False):
        sums = F.conv2d(cells.permute(0, 3, 1, 2).float(), weights.contiguous(memory_format=torch.channels_last))
    return sums.permute(0, 2, 3, 1).reshape(1, -1, len(weights))


def pixel_kernel(weights: Tensor) -> Tensor:
    """Front weights over blocks of P pictures [F, 16 P, 2, 2] -> the same over pixels [F, P, 8, 8]."""
    features = len(weights)
    parts = weights.reshape(features, -1, BLOCK, BLOCK, 2, 2)  # picture, row in block, column in block, cell
    return parts.permute(0, 1, 4, 2, 5, 3).reshape(features, -1, 2 * BLOCK, 2 * BLOCK)


def block_kernel(weights: Tensor) -> Tensor:
    """The inverse of `pixel_kernel`: weights over pixels [F, P, 8, 8] -> over blocks [F, 16 P, 2, 2]."""
    features, pictures, _, _ = weights.shape
    parts = weights.reshape(features, pictures, 2, BLOCK, 2, BLOCK)  # picture, cell and row in it, cell and column
    return parts.permute(0, 1, 3, 5, 2, 4).reshape(features, -1, 2, 2)

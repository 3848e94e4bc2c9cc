"""Sums of the front in training: integer weights over pixels, exact, and the gradient of the weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

KERNEL = 2  # cells
OFFSET = 128  # pixels less this fit eight signed bits


def has_byte_products() -> bool:
    """Whether this processor adds products of bytes up in 32 bits; others do it in 16, which overflow."""
    return torch.cpu._is_vnni_supported()


class _Bytes(torch.autograd.Function):
    """Products of bytes, added up in 32 bits: a fifth of the time of float32."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, weights: Tensor, kind: torch.dtype) -> Tensor:
        rows, columns = _patches(cells), weights.permute(0, 2, 3, 1).flatten(1)
        ctx.save_for_backward(rows)
        ctx.shape, ctx.kind = weights.shape, kind
        sums = torch._int_mm(rows.bitwise_xor(OFFSET).view(torch.int8), columns.to(torch.int8).t())
        return (sums + OFFSET * columns.sum(dim=1).to(torch.int32)).float()[None]  # autograd knows no whole numbers

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        (rows,) = ctx.saved_tensors
        found = grad[0].to(ctx.kind).t() @ rows.to(ctx.kind)
        features, channels, _, _ = ctx.shape
        return None, found.reshape(features, KERNEL, KERNEL, channels).permute(0, 3, 1, 2).float(), None


def _patches(cells: Tensor) -> Tensor:
    """Cells [B, H, W, C] -> [B*(H-1)*(W-1), 4*C], by row and column of the kernel."""
    height, width = cells.shape[1] - 1, cells.shape[2] - 1
    corners = [cells[:, y : y + height, x : x + width] for y in range(KERNEL) for x in range(KERNEL)]
    return torch.cat(corners, dim=-1).flatten(0, 2)


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

"""The weighted sums of a layer in training: torch's grouped convolution, or a product a group where that is faster.

Sums are kept as the product gives them, [G, B*H*W, O/G]; what fires puts them back in the order of places.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from distill.kernels import gather, put_back

WORD = 8  # bytes that move at a time


@dataclass(frozen=True)
class Shape:
    """A layer: `channels` come in, dealt out over the groups of the level before if it has `mixed` of more than 1."""

    channels: int
    features: int
    groups: int
    kernel: int
    stride: int
    padding: int
    mixed: int = 1

    @property
    def patches(self) -> bool:
        """Patches do not overlap: they are a re-ordering of the input, and deal channels out on the way."""
        return self.stride == self.kernel and self.groups > 1

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """[C] input channel i is channel order[i] of the level before."""
        return np.arange(self.channels).reshape(self.mixed, -1).T.reshape(-1)

    @cached_property
    def runs(self) -> tuple[NDArray[np.int64], int]:
        """(first channel of each run that a group reads [G, M], channels in a run).

        A group that is dealt a share of every group before it reads whole runs of them, and its weights are re-ordered
        to match; otherwise it reads channel by channel.
        """
        own, before = self.channels // self.groups, self.channels // self.mixed
        if self.mixed == 1:
            return np.arange(0, self.channels, own)[:, None], own
        if before % self.groups:
            return self.order.reshape(self.groups, own), 1
        width = before // self.groups
        return width * np.arange(self.groups)[:, None] + before * np.arange(self.mixed), width

    def turned(self, weights: Tensor) -> Tensor:
        """Weights [O, C/G, k, k] -> [G, O/G, k*k*C/G] in the order of the runs."""
        (start, width), (out, own, k, _) = self.runs, weights.shape
        parts = weights.reshape(out, own // width // start.shape[1], width, start.shape[1], k, k)
        if width == 1 or self.mixed == 1:
            parts = weights.reshape(out, 1, own, 1, k, k)
        return parts.permute(0, 4, 5, 1, 3, 2).reshape(self.groups, out // self.groups, -1)

    def turned_back(self, weights: Tensor) -> Tensor:
        """The inverse of `turned`."""
        (start, width), own, k = self.runs, self.channels // self.groups, self.kernel
        runs, width = (1, own) if width == 1 or self.mixed == 1 else (start.shape[1], width)
        parts = weights.reshape(self.features, k, k, runs, width).permute(0, 4, 3, 1, 2)
        return parts.reshape(self.features, own, k, k)


class Patches(torch.autograd.Function):
    """Sums [G, B*H'*W', O/G] of places x [B, H, W, C] and weights [O, C/G, k, k], patch by patch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, shape: Shape) -> Tensor:
        p, k = shape.padding, shape.kernel
        padded = F.pad(x, (0, 0, p, p, p, p)) if p else x
        batch, height, width, _ = padded.shape
        size = shape.groups, batch * (height // k) * (width // k), k * k * shape.channels // shape.groups
        rows, columns = x.new_empty(size), shape.turned(weights).contiguous()
        _move(gather, padded, rows, shape)
        ctx.save_for_backward(rows, columns)
        ctx.shape, ctx.padded = shape, padded.shape
        return torch.bmm(rows, columns.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None]:
        rows, columns = ctx.saved_tensors
        shape, p, k = ctx.shape, ctx.shape.padding, ctx.shape.kernel
        of_weights = shape.turned_back(torch.bmm(grad.transpose(1, 2), rows))
        if not ctx.needs_input_grad[0]:
            return None, of_weights, None
        whole = ctx.padded[1] % k == ctx.padded[2] % k == 0
        x = grad.new_empty(ctx.padded) if whole else grad.new_zeros(ctx.padded)
        _move(put_back, x, torch.bmm(grad, columns), shape)
        return x[:, p : x.shape[1] - p, p : x.shape[2] - p] if p else x, of_weights, None


def _move(loop: Any, x: Tensor, rows: Tensor, shape: Shape) -> None:
    """Between places and rows, several channels at a time where runs are made of whole words."""
    (start, width), size = shape.runs, x.element_size()
    each = WORD // size if width * size % WORD == 0 and not (start * size % WORD).any() else 1
    kind = np.uint64 if each > 1 else {2: np.uint16, 4: np.uint32}[size]
    arrays = [bits_of(part).view(kind) for part in (x, rows)]
    source = arrays if loop is gather else arrays[::-1]
    loop(*source, start // each, width // each, shape.kernel)


def bits_of(tensor: Tensor) -> NDArray[Any]:
    """A tensor's memory as numpy sees it: bfloat16 as u16."""
    plain = tensor.detach()
    return (plain.view(torch.uint16) if plain.dtype == torch.bfloat16 else plain).numpy()


def convolve(x: Tensor, weights: Tensor, shape: Shape) -> Tensor:
    """Places [B, H, W, C] with weights [O, C/G, k, k] -> sums [G, B*H'*W', O/G], or one group of all features."""
    if shape.patches:
        return Patches.apply(x.contiguous(), weights, shape)  # type: ignore[no-any-return, no-untyped-call]
    turned = x.permute(0, 3, 1, 2)
    if shape.mixed > 1:
        turned = F.channel_shuffle(turned, shape.mixed)
    own = weights.contiguous(memory_format=torch.channels_last)
    sums = F.conv2d(turned, own, None, shape.stride, shape.padding, 1, shape.groups)
    return sums.permute(0, 2, 3, 1).reshape(1, -1, shape.features)


def sides(shape: Shape, height: int, width: int) -> tuple[int, int]:
    """H' and W' of a layer over a map of H and W."""
    span = 2 * shape.padding - shape.kernel
    return (height + span) // shape.stride + 1, (width + span) // shape.stride + 1

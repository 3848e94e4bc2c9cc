"""The weighted sums of a layer in training: torch's grouped convolution, or a product a group where that is faster.

Sums are kept as the product gives them, [G, B*H*W, O/G]; what fires puts them back in the order of places.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.grad import conv2d_weight

from distill.kernels import add_back, gather, put_back
from rl.compiled import bits_of

WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}  # by bytes that move at a time
U64 = NDArray[np.uint64]
KNOWN = 64  # layouts that are kept: what a student's few layers read is the same in every update


@dataclass(frozen=True)
class Shape:
    """A layer: `channels` come in, dealt out over the groups of the level before if it has `mixed` of more than 1.

    Its groups, and those before, belong to `towers` in equal shares, and read from their own tower alone.
    """

    channels: int
    features: int
    groups: int
    kernel: int
    stride: int
    padding: int
    mixed: int = 1
    towers: int = 1

    @property
    def patches(self) -> bool:
        """Patches do not overlap: they are a re-ordering of the input, and deal channels out on the way."""
        return self.stride == self.kernel and self.groups > 1

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """[C] input channel i is channel order[i] of the level before."""
        if self.mixed == 1:
            return np.arange(self.channels)
        dealt = np.arange(self.channels).reshape(self.towers, self.mixed // self.towers, -1)
        return dealt.transpose(0, 2, 1).reshape(-1)

    @cached_property
    def runs(self) -> tuple[NDArray[np.int64], int]:
        """(first channel of each run that a group reads [G, M], channels in a run).

        A group that is dealt a share of every group before it reads whole runs of them, and its weights are re-ordered
        to match; otherwise it reads channel by channel.
        """
        own, before = self.channels // self.groups, self.channels // self.mixed
        if self.mixed == 1:
            return np.arange(0, self.channels, own)[:, None], own
        groups, towers = self.groups // self.towers, np.arange(self.towers)[:, None, None]  # groups of one tower
        if before % groups:
            return self.order.reshape(self.groups, own), 1
        width = before // groups
        first = towers * (self.channels // self.towers) + width * np.arange(groups)[:, None]
        return (first + before * np.arange(self.mixed // self.towers)).reshape(self.groups, -1), width

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


@lru_cache(maxsize=KNOWN)
def reading(shape: Shape, map_: tuple[int, ...], each: int = 1) -> tuple[U64, U64]:
    """(where each patch of a map [B, H, W, C] begins [R], where from there each group's runs begin [G, k*k*M]).

    Both in words of `each` channels; the map is padded already.
    """
    (batch, height, across, channels), k, start = map_, shape.kernel, shape.runs[0]
    ys, xs = (np.arange(0, size - k + 1, shape.stride) for size in (height, across))
    first = (height * np.arange(batch)[:, None, None] + ys[:, None]) * across + xs
    inside = across * np.arange(k)[:, None] + np.arange(k)
    runs = (channels * inside.reshape(1, -1, 1) + start[:, None]).reshape(len(start), -1)
    return (first.ravel() * channels // each).astype(np.uint64), (runs // each).astype(np.uint64)


class Patches(torch.autograd.Function):
    """Sums [G, B*H'*W', O/G] of places x [B, H, W, C] and weights [O, C/G, k, k], by patches that do not overlap."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, shape: Shape) -> Tensor:
        p = shape.padding
        padded = F.pad(x, (0, 0, p, p, p, p)) if p else x
        rows, columns = rows_of(padded, shape), shape.turned(weights).contiguous()
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
        places_of(torch.bmm(grad, columns), x, shape)
        return x[:, p : x.shape[1] - p, p : x.shape[2] - p] if p else x, of_weights, None


def rows_of(x: Tensor, shape: Shape) -> Tensor:
    """What each neuron reads of places x [B, H, W, C], padded already: [G, B*H'*W', k*k*C/G]."""
    first, order, kind = _words(shape, tuple(x.shape), x.element_size())
    rows = x.new_empty((shape.groups, len(first), order.shape[1] * np.dtype(kind).itemsize // x.element_size()))
    gather(bits_of(x).reshape(-1).view(kind), bits_of(rows).view(kind), first, order)
    return rows


def places_of(rows: Tensor, x: Tensor, shape: Shape) -> None:
    """The inverse, into places x, where patches do not overlap."""
    first, order, kind = _words(shape, tuple(x.shape), x.element_size())
    put_back(bits_of(rows).view(kind), bits_of(x).reshape(-1).view(kind), first, order)


@lru_cache(maxsize=KNOWN)
def _words(shape: Shape, map_: tuple[int, ...], size: int) -> tuple[U64, U64, type]:
    """(where patches begin, what groups read from there, a word), of numbers of `size` bytes: up to eight at once."""
    start, width = shape.runs
    each = next(n for n in (8 // size, 4 // size, 1) if not width % n and not (start % n).any())
    first, runs = reading(shape, map_, each)
    order = (runs[:, :, None] + np.arange(width // each)).astype(np.uint64).reshape(len(start), -1)
    return first, order, WORDS[each * size]


class Overlapping(torch.autograd.Function):
    """Sums [1, B*H'*W', O] of places x [B, H, W, C] and weights [O, C/G, k, k], where patches may overlap.

    Forward and the gradient of the weights are torch's, at the limit of its products; that of the places took thrice as
    long as a product a group and the adding up of its rows.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, shape: Shape) -> Tensor:
        ctx.save_for_backward(x, weights)
        ctx.shape = shape
        own = weights.contiguous(memory_format=torch.channels_last)
        sums = F.conv2d(x.permute(0, 3, 1, 2), own, None, shape.stride, shape.padding, 1, shape.groups)
        return sums.permute(0, 2, 3, 1).reshape(1, -1, shape.features)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (x, weights), shape = ctx.saved_tensors, ctx.shape
        height, width = sides(shape, x.shape[1], x.shape[2])
        places = grad.view(len(x), height, width, shape.features)
        own = of_weights(places, x, weights.shape, shape.stride, shape.padding, shape.groups)
        return _of_places(grad, weights, shape, x) if ctx.needs_input_grad[0] else None, own, None


def of_weights(grad: Tensor, x: Tensor, size: torch.Size, stride: int, padding: int, groups: int) -> Tensor:
    """The gradient of weights [O, C/G, k, k] by that of their sums [B, H', W', O] over places x [B, H, W, C]."""
    kind = grad.dtype
    if kind == torch.bfloat16 and any(blind(side, size[2], stride, padding) for side in x.shape[1:3]):
        x, grad = x.float(), grad.float()  # torch leaves such taps' gradients as it found that memory in bfloat16
    turned = x.permute(0, 3, 1, 2), size, grad.permute(0, 3, 1, 2)
    return conv2d_weight(*turned, stride, padding, 1, groups).to(kind)  # type: ignore[no-any-return, no-untyped-call]


@lru_cache(maxsize=KNOWN)
def blind(side: int, kernel: int, stride: int, padding: int) -> bool:
    """Whether some tap along a side of the map reads padding alone, wherever the kernel stands."""
    first = np.arange(-padding, side + padding - kernel + 1, stride)
    read = first[:, None] + np.arange(kernel)
    return not ((read >= 0) & (read < side)).any(axis=0).all()


def _of_places(grad: Tensor, weights: Tensor, shape: Shape, x: Tensor) -> Tensor:
    """The gradient of places x, like x."""
    (_, height, width, channels), p = x.shape, shape.padding
    by_group = grad.view(-1, shape.groups, shape.features // shape.groups).transpose(0, 1)
    rows, own = torch.bmm(by_group, shape.turned(weights)), torch.empty_like(x)
    first, runs = reading(shape, (1, height + 2 * p, width + 2 * p, channels))
    add_back(bits_of(rows), bits_of(own), first, runs, shape.runs[1], p)
    return own


def convolve(x: Tensor, weights: Tensor, shape: Shape) -> Tensor:
    """Places [B, H, W, C] with weights [O, C/G, k, k] -> sums [G, B*H'*W', O/G], or one group of all features."""
    if shape.patches:
        return Patches.apply(x.contiguous(), weights, shape)  # type: ignore[no-any-return, no-untyped-call]
    if shape.mixed > 1:
        x, shape = x[..., torch.from_numpy(shape.order)], replace(shape, mixed=1)
    return Overlapping.apply(x.contiguous(), weights, shape)  # type: ignore[no-any-return, no-untyped-call]


def sides(shape: Shape, height: int, width: int) -> tuple[int, int]:
    """H' and W' of a layer over a map of H and W."""
    span = 2 * shape.padding - shape.kernel
    return (height + span) // shape.stride + 1, (width + span) // shape.stride + 1

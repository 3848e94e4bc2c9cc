"""Arithmetic of integer networks: 8-bit weights, 32-bit sums, a norm and a requantisation in whole numbers alone.

A layer sums weights over unsigned activations. Its norm (group norm with one group; Wu and He 2018) depends on the
picture, so it cannot be folded away: it is executed. Of n sums a with mean m and variance v, gain g and offset b in
units of an output, an output is round(g (a - m) / sqrt(v + eps) + b), clipped to 0..peak; a norm does not care in which
unit its inputs are, so no scale of weights or inputs is left in it. One integer root and one division a picture make
the multiplier of every channel, as fixed-point requantisation has it (Jacob et al. 2018, section 2.2); then a
multiplication, an addition and a shift an output. These functions are the definition: nothing is rounded but where it
is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

EXACT = 1 << 24  # float32 holds every integer up to here; float64 up to 2**53, beyond any sum of 32 bits
BITS = (4, 8)  # of weights, and of the activations that a layer reads
TOP = 1 << 62  # nothing that is summed, multiplied or shifted may reach it
INVERSE = 61  # bits of the numerator that a root divides
Shape = tuple[int, int, int]  # channels, height, width


@dataclass(frozen=True, eq=False)
class Norm:
    """A group norm of one group, ReLU and requantisation; all integers but `step`, which says what an output is."""

    gain: NDArray[np.int32]  # [O]  g * sqrt(n) * 2**gain_shift, at most 2**30 in size
    gain_shift: int
    offset: NDArray[np.int64]  # [O]  b * 2**shift, and half of 2**shift so that what is cut off rounds
    shift: int  # bits cut off at the end
    guard: int  # bits that sums are raised by first, so that means and squares of small ones keep digits enough
    epsilon: int  # n * eps in units of a squared raised sum, at least 1: equal sums divide by it
    peak: int  # largest output: 15 or 255
    step: float  # real value of one unit of output: for floating-point programs, decides nothing here


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution without padding, and its norm; a fully connected layer is one whose kernel is all of its input."""

    name: str
    weights: NDArray[np.int8]  # [O, C, k, k]
    bias: NDArray[np.int32]  # [O]  in units of the sum
    stride: int
    in_shape: Shape
    bits: int  # of weights: they lie within +-(2**(bits - 1) - 1)
    step: float  # real value of one unit of weight: decides nothing here
    norm: Norm | None  # None: the sums are the answers

    @property
    def out_shape(self) -> Shape:
        _, height, width = self.in_shape
        out, _, k, _ = self.weights.shape
        return out, (height - k) // self.stride + 1, (width - k) // self.stride + 1

    @property
    def multiply_adds(self) -> int:
        """Of one picture."""
        return math.prod(self.out_shape) * math.prod(self.weights.shape[1:])

    @cached_property
    def columns(self) -> NDArray[Any]:
        """Weights [k*k*C, O] in a floating type that is exact for them, turned once."""
        turned = self.weights.transpose(2, 3, 1, 0).reshape(-1, len(self.bias))
        return np.ascontiguousarray(turned, np.float32 if reach(self, 255) < EXACT else np.float64)

    def __repr__(self) -> str:
        normed = "no norm" if self.norm is None else f"outputs 0..{self.norm.peak}"
        return (
            f"Layer({self.name}: {self.in_shape} -> {self.out_shape}, stride {self.stride}, {self.bits} bits, {normed})"
        )


def reach(layer: Layer, peak: int) -> int:
    """The largest size that a sum can have, and any part of it, over activations 0..peak."""
    sizes = np.abs(layer.weights.astype(np.int64)).reshape(len(layer.bias), -1).sum(axis=1) * peak
    return int((sizes + np.abs(layer.bias.astype(np.int64))).max())


def sums(layer: Layer, x: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Activations [B, H, W, C] -> sums with bias [B, h, w, O].

    The products run in floating point, of whole numbers and in a type that holds every part of a sum: exact in any
    order, and many times faster than numpy's own integers.
    """
    k = layer.weights.shape[2]
    values = np.ascontiguousarray(x, layer.columns.dtype)  # before the windows, in which each stands several times
    windows = sliding_window_view(values, (k, k), axis=(1, 2))[:, :: layer.stride, :: layer.stride]
    b, height, width = windows.shape[:3]
    rows = windows.transpose(0, 1, 2, 4, 5, 3).reshape(b * height * width, -1)
    total: NDArray[np.int32] = (rows @ layer.columns).astype(np.int32) + layer.bias
    return total.reshape(b, height, width, len(layer.bias))


def normalise(norm: Norm, total: NDArray[Any]) -> NDArray[np.uint8]:
    """Sums [B, h, w, O] of any integer type -> outputs 0..peak [B, h, w, O]."""
    a = total.reshape(len(total), -1, total.shape[-1]).astype(np.int64)
    a <<= norm.guard
    n = a.shape[1] * a.shape[2]
    whole = a.sum(axis=(1, 2))
    mean = (2 * whole + n) // (2 * n)  # to the nearest, so that the rest stays small
    rest = whole - n * mean
    a -= mean[:, None, None]
    square = np.einsum("bpo,bpo->b", a, a) - rest * rest // n + norm.epsilon  # n * (v + eps)
    root, up = root_of(square)
    inverse = (1 << INVERSE) // root
    multiplier = (norm.gain * inverse[:, None]) >> (INVERSE + norm.gain_shift - norm.shift - up)[:, None]
    a *= multiplier[:, None]
    a += (norm.offset - rest[:, None] * multiplier // n)[:, None]
    a >>= norm.shift
    return a.clip(0, norm.peak).astype(np.uint8).reshape(total.shape)


def root_of(square: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(root, up) of whole numbers 1 .. 2**62 - 1, any shape: root = floor(sqrt(square * 4**up)), 2**30 <= root < 2**31.

    A root with 31 bits whatever the size of its square, as a floating-point number has its mantissa.
    """
    length = np.frexp(square.astype(np.float64))[1].astype(np.int64)
    length -= square >> (length - 1) == 0  # a float rounds up to the next power of two
    up = (62 - length) // 2
    raised = square << 2 * up
    root = np.sqrt(raised.astype(np.float64)).astype(np.int64)
    root -= root * root > raised  # the float may be off by one
    root += (root + 1) * (root + 1) <= raised
    return root, up


def guard_of(n: int, fan_in: int, weight_peak: int, peak: int) -> int:
    """Bits by which n sums of fan_in products of that size can be raised and squared, and still be summed."""
    largest = 2 * fan_in * weight_peak * peak  # twice: a bias is no product
    return max(0, (60 - (n * largest**2).bit_length()) // 2)


def layer_violations(layer: Layer, peak: int) -> Iterator[str]:
    """Every rule that a layer breaks over inputs 0..peak, as text."""
    shapeless = list(_shape_violations(layer))
    if shapeless:  # nothing more can be said of such arrays
        yield from shapeless
        return
    limit = (1 << (layer.bits - 1)) - 1
    largest = int(np.abs(layer.weights.astype(np.int64)).max())
    if largest > limit:
        yield f"{layer.name}: weights up to {largest}, allowed {limit} of {layer.bits} bits"
    if min(layer.out_shape) < 1:
        yield f"{layer.name}: no output left of {layer.in_shape} with kernel {layer.weights.shape[2]}"
    elif reach(layer, peak) >= 1 << 31:
        yield f"{layer.name}: sums may reach 2**31; try fewer bits or a smaller layer"
    elif layer.norm is not None:
        yield from _norm_violations(layer.name, layer.norm, math.prod(layer.out_shape), reach(layer, peak))


def _shape_violations(layer: Layer) -> Iterator[str]:
    norm = layer.norm
    arrays: list[tuple[str, NDArray[Any], type, int]]
    arrays = [("weights", layer.weights, np.int8, 4), ("bias", layer.bias, np.int32, 1)]
    if norm is not None:
        arrays += [("gain", norm.gain, np.int32, 1), ("offset", norm.offset, np.int64, 1)]
    for part, array, kind, axes in arrays:
        if array.dtype != kind or array.ndim != axes or not array.size:
            found = f"{array.dtype} {list(array.shape)}"
            yield f"{layer.name}: {part} is {found}, must be {np.dtype(kind)} of {axes} axes, not empty"
        elif len(array) != len(layer.weights):
            yield f"{layer.name}: {part} has {len(array)} entries, must have one an output, {len(layer.weights)}"
    if layer.weights.ndim == 4 and layer.weights.shape[2] != layer.weights.shape[3]:
        yield f"{layer.name}: a kernel of {layer.weights.shape[2:]}, must be as high as wide"
    numbers = [layer.stride, *layer.in_shape]
    if not all(isinstance(number, int) and number >= 1 for number in numbers) or len(numbers) != 4:
        yield f"{layer.name}: stride and in_shape are {numbers}, must be four whole numbers, 1 or more"
    if layer.bits not in BITS:
        yield f"{layer.name}: {layer.bits} bits, allowed {', '.join(map(str, BITS))}"
    for what, step in [("step", layer.step)] + ([] if norm is None else [("output step", norm.step)]):
        if not (isinstance(step, float) and 0 < step < math.inf):
            yield f"{layer.name}: {what} is {step!r}, must be a number above 0"


def _norm_violations(name: str, norm: Norm, n: int, largest: int) -> Iterator[str]:
    numbers = (norm.gain_shift, norm.shift, norm.guard, norm.epsilon, norm.peak)
    if not all(isinstance(number, int) for number in numbers):
        yield f"{name}: gain_shift, shift, guard, epsilon, peak are {numbers}, must be whole numbers"
        return
    if norm.peak not in {(1 << bits) - 1 for bits in BITS}:
        yield f"{name}: outputs up to {norm.peak}, allowed 15, 255"
    down = INVERSE + norm.gain_shift - norm.shift
    guarded = 0 <= norm.guard < 31 and 1 <= norm.epsilon < TOP // 2
    if not (1 <= norm.shift < 62 and 30 <= down < 64 and guarded):
        yield f"{name}: gain_shift, shift, guard, epsilon, peak are {numbers}: out of range"
        return
    if n * ((largest << norm.guard) + 1) ** 2 >= TOP // 2:
        yield f"{name}: the sum of {n:,} squares of sums may reach 2**61; try fewer bits or a smaller layer"
    gain, offset = (int(np.abs(array.astype(object)).max()) for array in (norm.gain, norm.offset))
    # A multiplier is gain * 2**(61 - down) / sqrt(square) at most, and what it multiplies sqrt(n * square): the rest.
    if gain > 1 << 30 or (gain * (math.isqrt(n) + 1) << INVERSE >> down) + offset >= TOP:
        yield f"{name}: gain up to {gain}, offset up to {offset} may pass 2**62; try a larger step"

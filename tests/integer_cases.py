"""Shared cases of integer students: small ones of any shape, and plain whole-number rules to judge by."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from deploy.integer import Layer, Norm, guard_of
from deploy.integer_spec import IntegerSpec
from distill.integers import norm_of

ACTIONS = ("NOOP", "FIRE", "LEFT")


def norm(out: int, n: int, fan_in: int, weight_peak: int, in_peak: int, peak: int, rng: np.random.Generator) -> Norm:
    """A norm whose outputs use their range, with gains of both signs."""
    gain = rng.normal(size=out) * peak / 4
    offset = rng.normal(size=out) * peak / 8
    return norm_of(gain, offset, 0.5, n, guard_of(n, fan_in, weight_peak, in_peak), peak, 0.25)


def integers(bits: int = 4, seed: int = 0) -> IntegerSpec:
    """Three layers over stacks [2, 11, 11]."""
    rng, shape = np.random.default_rng(seed), (2, 11, 11)
    rows = [("one", 5, 3, 2, 8), ("two", 7, 2, 1, bits), ("three", len(ACTIONS), 4, 1, 8)]
    layers, in_peak = [], 255
    for index, (name, out, k, stride, width) in enumerate(rows):
        limit = (1 << (width - 1)) - 1
        whole = rng.integers(-limit, limit + 1, (out, shape[0], k, k)).astype(np.int8)
        bias = rng.integers(-500, 500, out).astype(np.int32)
        made = Layer(name, whole, bias, stride, shape, width, 0.125, None)
        if index + 1 < len(rows):
            peak = (1 << rows[index + 1][4]) - 1
            own = norm(out, math.prod(made.out_shape), shape[0] * k * k, limit, in_peak, peak, rng)
            made, in_peak = replace(made, norm=own), peak
        layers.append(made)
        shape = made.out_shape
    return IntegerSpec("Pong", ACTIONS, bits, tuple(layers))


def pictures(spec: IntegerSpec, count: int, seed: int = 0) -> np.ndarray:
    """Stacks [count, C, H, W] u8; the first is black, the second white."""
    drawn = np.random.default_rng(seed).integers(0, 256, (count, *spec.layers[0].in_shape), dtype=np.uint8)
    drawn[:2] = np.array([0, 255], np.uint8)[:count, None, None, None]
    return drawn


def plain_sums(layer: Layer, x: Any) -> dict[tuple[int, int, int], int]:
    """Sums by (row, column, output) of inputs x[row][column][channel], one product at a time."""
    out, height, width = layer.out_shape
    _, channels, k, _ = layer.weights.shape
    found = {}
    for y in range(height):
        for z in range(width):
            for o in range(out):
                total = int(layer.bias[o])
                for c in range(channels):
                    for i in range(k):
                        for j in range(k):
                            value = int(x[y * layer.stride + i][z * layer.stride + j][c])
                            total += int(layer.weights[o, c, i, j]) * value
                found[y, z, o] = total
    return found


def plain_norm(own: Norm, totals: dict[tuple[int, int, int], int]) -> dict[tuple[int, int, int], int]:
    """The norm in Python's integers, which have no size to overflow."""
    raised = {at: total << own.guard for at, total in totals.items()}
    n, whole = len(raised), sum(raised.values())
    mean = (2 * whole + n) // (2 * n)
    rest = whole - n * mean
    square = sum((a - mean) ** 2 for a in raised.values()) - rest * rest // n + own.epsilon
    up = (62 - square.bit_length()) // 2
    inverse = (1 << 61) // math.isqrt(square << 2 * up)
    found = {}
    for (y, z, o), a in raised.items():
        multiplier = int(own.gain[o]) * inverse >> 61 + own.gain_shift - own.shift - up
        answer = (a - mean) * multiplier + int(own.offset[o]) - rest * multiplier // n >> own.shift
        found[y, z, o] = min(max(answer, 0), own.peak)
    return found


def plain_levels(spec: IntegerSpec, obs: np.ndarray) -> list[np.ndarray]:
    """Every level [h, w, O] of one stack [C, H, W]."""
    x, levels = obs.transpose(1, 2, 0).tolist(), []
    for layer in spec.layers:
        found = plain_sums(layer, x)
        found = found if layer.norm is None else plain_norm(layer.norm, found)
        out, height, width = layer.out_shape
        level = np.array([[[found[y, z, o] for o in range(out)] for z in range(width)] for y in range(height)])
        levels.append(level)
        x = level.tolist()
    return levels

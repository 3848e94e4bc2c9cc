"""The inner loops of a student in training, compiled: bits to rows and back, statistics, steps and their gradients.

Each goes over memory once, where torch takes a pass an operator. Bits lie place by place [B, H, W, C]; sums group by
group [G, B*H*W, O/G], as products give them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rl.compiled import F32, F64, Array, kernel, narrow, widen

U64 = NDArray[np.uint64]


@kernel
def gather(places: Array, rows: Array, first: U64, order: U64) -> None:
    """Numbers in a row [N] -> rows [G, R, K]: number k of row r of group g is the one at first[r] + order[g, k]."""
    for r in range(len(first)):
        for g in range(len(order)):
            row, own = rows[g, r], order[g]
            for k in range(len(row)):
                row[k] = places[first[r] + own[k]]


@kernel
def put_back(rows: Array, places: Array, first: U64, order: U64) -> None:
    """The inverse of `gather` where no place is read twice, and so its gradient; what is not read is left as it is."""
    for r in range(len(first)):
        for g in range(len(order)):
            row, own = rows[g, r], order[g]
            for k in range(len(row)):
                places[first[r] + own[k]] = row[k]


@kernel
def add_back(rows: Array, x: Array, first: U64, run: U64, width: int, padding: int) -> None:
    """`put_back` where places are read more than once: adds up, into x [B, H, W, C].

    `first` are the patches of one padded map, `run` [G, M] says where runs of `width` begin in each.
    """
    batch, height, across, channels = x.shape
    padded = np.empty((height + 2 * padding, across + 2 * padding, channels), np.float32)
    places, count = padded.reshape(-1), len(first)
    for b in range(batch):
        places[:] = 0
        for r in range(count):
            for g in range(len(run)):
                row = rows[g, b * count + r]
                for m in range(run.shape[1]):
                    at = first[r] + run[g, m]
                    for n in range(width):
                        places[at + np.uint64(n)] += widen(row[m * width + n])
        for y in range(height):
            for z in range(across):
                for c in range(channels):
                    value = padded[y + padding, z + padding, c]
                    x[b, y, z, c] = narrow(value, x[b, y, z, c])


@kernel
def add_up(sums: Array, total: F64, square: F64) -> None:
    """Of sums [G, R, O]: their total and their squares' [G, O], whole numbers and so exact in any order."""
    groups, count, features = sums.shape
    total[:], square[:] = 0, 0
    for g in range(groups):
        for r in range(count):
            for f in range(features):
                value = np.float64(widen(sums[g, r, f]))
                total[g, f] += value
                square[g, f] += value * value


@kernel
def fire(sums: Array, threshold: F32, bits: Array) -> None:
    """Sums [G, R, O] -> bits [R, G*O]: 1 from the threshold [G, O] on."""
    groups, count, features = sums.shape
    for r in range(count):
        for g in range(groups):
            first = g * features
            for f in range(features):
                fires = np.float32(widen(sums[g, r, f]) >= threshold[g, f])
                bits[r, first + f] = narrow(fires, bits[r, first + f])


@kernel
def slopes(
    sums: Array, grad: Array, mean: F32, inverse: F32, bias: F32, steep: np.float32, of_bias: F64, of_spread: F64
) -> None:
    """What the triangle max(0, 1 - steep |r|) lets through of the gradient [R, G*O], added up over rows [G, O].

    Plain, and times the norm.
    """
    groups, count, features = sums.shape
    of_bias[:], of_spread[:] = 0, 0
    one = np.float32(1)
    for g in range(groups):
        first = g * features
        for r in range(count):
            for f in range(features):
                normed = (widen(sums[g, r, f]) - mean[g, f]) * inverse[g, f]
                slope = max(np.float32(0), one - steep * abs(normed + bias[g, f])) * widen(grad[r, first + f])
                of_bias[g, f] += slope
                of_spread[g, f] += slope * normed


@kernel
def descend(
    sums: Array,
    grad: Array,
    mean: F32,
    inverse: F32,
    bias: F32,
    steep: np.float32,
    level: F32,
    spread: F32,
    out: Array,
) -> None:
    """The gradient of the sums, out [G, R, O]: `level` and `spread` [G, O] are the means over all rows of `slopes`."""
    groups, count, features = sums.shape
    one = np.float32(1)
    for g in range(groups):
        first = g * features
        for r in range(count):
            for f in range(features):
                normed = (widen(sums[g, r, f]) - mean[g, f]) * inverse[g, f]
                slope = max(np.float32(0), one - steep * abs(normed + bias[g, f])) * widen(grad[r, first + f])
                value = (slope - level[g, f] - normed * spread[g, f]) * inverse[g, f]
                out[g, r, f] = narrow(value, out[g, r, f])

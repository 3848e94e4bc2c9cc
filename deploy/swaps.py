"""What swaps of cores are made of: draws in compiled loops, and what a move saves."""

from __future__ import annotations

import numpy as np
from numba import njit

from deploy.flows import F64, I32, Neighbours

EMPTY, FORBIDDEN = -1, -2  # cells without a core
_ALL = (1 << 64) - 1


def mixed(seed: int) -> np.uint64:
    """The first state of a generator, never 0, for any seed: near seeds give far states."""
    return np.uint64((seed * 0x9E3779B97F4A7C15 + 0x2545F4914F6CDD1D) & _ALL or 1)


@njit(cache=True)
def next_state(state: np.uint64) -> np.uint64:
    """The next state of a 64-bit xorshift generator (Marsaglia 2003), which is the draw itself."""
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    return state ^ (state << np.uint64(17))


@njit(cache=True)
def below(state: np.uint64, bound: int) -> int:
    """0..bound-1 from the top bits of a state; bound < 2**20."""
    return int(np.int64(((state >> np.uint64(20)) * np.uint64(bound)) >> np.uint64(44)))


@njit(cache=True)
def cell_near(state: np.uint64, middle: int, radius: int, side: int) -> int:
    """A coordinate within the radius and the mesh."""
    low, high = max(middle - radius, 0), min(middle + radius, side - 1)
    return low + below(state, high - low + 1)


def total_cost(near: Neighbours, xy: I32, x: F64, y: F64) -> float:
    """Distance of all spikes from cells xy [C, 2], in coordinates x [width] and y [height]."""
    source = np.repeat(np.arange(len(xy)), np.diff(near.start))
    away = np.abs(x[xy[source, 0]] - x[xy[near.other, 0]]) + np.abs(y[xy[source, 1]] - y[xy[near.other, 1]])
    return float((away * near.sent).sum())


@njit(cache=True)
def gain(near: Neighbours, xy: I32, x: F64, y: F64, core: int, ax: int, ay: int, bx: int, by: int, skip: int) -> float:
    """What moving a core from cell (ax, ay) to (bx, by) saves, its edge to the core `skip` left out.

    `x`, `y`: the coordinates that distances count in. Two cores that swap cells stay as far apart as they were.
    """
    fx, fy, tx, ty, saved = x[ax], y[ay], x[bx], y[by], 0.0
    for e in range(near.start[core], near.start[core + 1]):
        o = near.other[e]
        if o != skip:
            ox, oy = x[xy[o, 0]], y[xy[o, 1]]
            saved += near.weight[e] * (abs(ox - fx) + abs(oy - fy) - abs(ox - tx) - abs(oy - ty))
    return saved


@njit(cache=True)
def swap_gain(near: Neighbours, xy: I32, x: F64, y: F64, a: int, b: int, to_x: int, to_y: int) -> float:
    """What core a moving to (to_x, to_y), and core b (negative: nobody) from there to a's cell, saves."""
    ax, ay = xy[a, 0], xy[a, 1]
    saved = gain(near, xy, x, y, a, ax, ay, to_x, to_y, b)
    if b >= 0:
        saved += gain(near, xy, x, y, b, to_x, to_y, ax, ay, a)
    return saved


@njit(cache=True)
def swap(xy: I32, owner: I32, a: int, b: int, to_x: int, to_y: int) -> None:
    """Carry the swap out: xy [C, 2] and owner [width, height] change."""
    ax, ay = xy[a, 0], xy[a, 1]
    owner[ax, ay], owner[to_x, to_y] = b, a
    if b >= 0:
        xy[b, 0], xy[b, 1] = ax, ay
    xy[a, 0], xy[a, 1] = to_x, to_y

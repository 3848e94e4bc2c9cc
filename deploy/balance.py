"""Swaps on a board that relieve its busiest chip edges and leave the paths about as short as they were.

Rows 0-31 of a chip side share one link and rows 32-63 the other (assumed: which 32 do is not published), and packets
travel x before y: an edge between two columns of chips is crossed in the sender's row, one between two rows of chips
in the target's column. Moving a core to the other half of its chip moves its spikes to the other link.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deploy.chip import Chip
from deploy.flows import F64, I32, Neighbours
from deploy.swaps import FORBIDDEN, below, cell_near, mixed, next_state, swap, swap_gain, total_cost

SLACK = 0.05  # the cost may rise by this part
TRIES_A_CORE = 200
Shape = tuple[int, int, int, int]  # cores of a chip in x and y, chips in x and y


def balance(near: Neighbours, xy: I32, owner: I32, chip: Chip, x: F64, y: F64, seed: int) -> None:
    """Lower the sum of the fourth powers of all link loads, which the busiest rule; changes xy and owner."""
    if not len(near.other):
        return
    shape = (chip.width, chip.height, chip.chips_x, chip.chips_y)
    loads = np.zeros(4 * 2 * chip.chips_x * chip.chips_y)
    for core in range(len(xy)):
        _carry(near, xy, loads, shape, core, -1, 1.0, True)
    _relieve(
        near, xy, owner, x, y, loads, shape, len(xy) * TRIES_A_CORE, total_cost(near, xy, x, y) * SLACK, mixed(seed)
    )


@njit(cache=True)
def _add(loads: F64, link: int, spikes: float) -> float:
    """Put spikes on a link; returns by how much the fourth power of its load grows."""
    before = loads[link]
    loads[link] = before + spikes
    return float(loads[link] ** 4 - before**4)


@njit(cache=True)
def _route(loads: F64, shape: Shape, ax: int, ay: int, bx: int, by: int, spikes: float) -> float:
    """Put the spikes from (ax, ay) to (bx, by) on the links of every chip edge that they cross."""
    width, height, chips_x, _ = shape
    grown = 0.0
    chip, last, row = ax // width, bx // width, ay // height
    while chip != last:
        east = chip < last
        edge = chip if east else chip - 1
        grown += _add(loads, ((row * chips_x + edge) * 2 + (2 * (ay % height) >= height)) * 4 + east, spikes)
        chip += 1 if east else -1
    chip, last, column = ay // height, by // height, bx // width
    while chip != last:
        north = chip < last
        edge = chip if north else chip - 1
        grown += _add(loads, ((edge * chips_x + column) * 2 + (2 * (bx % width) >= width)) * 4 + 2 + north, spikes)
        chip += 1 if north else -1
    return grown


@njit(cache=True)
def _carry(
    near: Neighbours,
    xy: I32,
    loads: F64,
    shape: Shape,
    core: int,
    skip: int,
    sign: float,
    out: bool,
) -> float:
    """Put what a core sends, and unless `out` alone what it gets, on the links; neighbour `skip` left out."""
    grown, x, y = 0.0, xy[core, 0], xy[core, 1]
    for e in range(near.start[core], near.start[core + 1]):
        o = near.other[e]
        if o == skip:
            continue
        if near.sent[e] > 0.0:
            grown += _route(loads, shape, x, y, xy[o, 0], xy[o, 1], sign * near.sent[e])
        if not out and near.got[e] > 0.0:
            grown += _route(loads, shape, xy[o, 0], xy[o, 1], x, y, sign * near.got[e])
    return grown


@njit(cache=True)
def _carry_both(near: Neighbours, xy: I32, loads: F64, shape: Shape, a: int, b: int, sign: float) -> float:
    grown = _carry(near, xy, loads, shape, a, -1, sign, False)
    return grown + _carry(near, xy, loads, shape, b, a, sign, False) if b >= 0 else grown


@njit(cache=True)
def _relieve(
    near: Neighbours,
    xy: I32,
    owner: I32,
    x: F64,
    y: F64,
    loads: F64,
    shape: Shape,
    trials: int,
    budget: float,
    state: np.uint64,
) -> None:
    """Take every swap that lowers the sum of powers and keeps the cost within the budget; trials in random order."""
    width, height = owner.shape
    for _ in range(trials):
        state = next_state(state)
        a = below(state, len(xy))
        state = next_state(state)
        to_x = cell_near(state, xy[a, 0], shape[0] // 2, width)
        state = next_state(state)
        to_y = cell_near(state, xy[a, 1], shape[1] // 2, height)
        b = owner[to_x, to_y]
        if b in (a, FORBIDDEN):
            continue
        rise = -swap_gain(near, xy, x, y, a, b, to_x, to_y)
        if rise > budget:
            continue
        ax, ay = xy[a, 0], xy[a, 1]
        grown = _carry_both(near, xy, loads, shape, a, b, -1.0)
        swap(xy, owner, a, b, to_x, to_y)
        grown += _carry_both(near, xy, loads, shape, a, b, 1.0)
        if grown < 0.0:
            budget -= rise
            continue
        _carry_both(near, xy, loads, shape, a, b, -1.0)
        swap(xy, owner, a, b, ax, ay)
        _carry_both(near, xy, loads, shape, a, b, 1.0)

"""A core graph on the mesh of a chip: a Hilbert curve first, then swaps that shorten the paths of spikes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deploy.chip import Chip
from deploy.cores import CoreGraph

I32 = NDArray[np.int32]
F64 = NDArray[np.float64]
SWAPS_A_CORE = 400
HEAT = 0.3  # first temperature, as a share of the mean cost of a core


@dataclass(frozen=True, eq=False)
class Placement:
    """Where each core lies, and what its spikes travel."""

    place: NDArray[np.int16]  # [C, 3]  chip, x, y
    hops_before: float  # mean hops a spike on the curve alone
    hops: float  # mean hops a spike as placed


def place(graph: CoreGraph, chip: Chip, seed: int = 0, spikes: F64 | None = None) -> Placement:
    """Place every core; equal arguments give equal places. The graph must fit the mesh.

    `spikes` [C, N] weighs the path of each neuron, measured or not given: then every neuron counts alike.
    """
    width, height = chip.mesh
    start, other, weight = adjacency(graph, spikes)
    cells = hilbert_cells(width, height)
    xy = cells[: len(start) - 1].copy()
    before = _mean_hops(start, other, weight, xy)
    owner = np.full((width, height), -1, np.int32)
    owner[xy[:, 0], xy[:, 1]] = np.arange(len(xy))
    _anneal(start, other, weight, xy, owner, len(xy) * SWAPS_A_CORE, HEAT, seed)
    return Placement(_on_chips(xy, chip), before, _mean_hops(start, other, weight, xy))


def adjacency(graph: CoreGraph, spikes: F64 | None = None) -> tuple[I32, I32, F64]:
    """Neighbours of each core both ways, as (start [C+1], other core [E], weight [E]); self loops left out."""
    c = graph.shape[0]
    source, neuron = np.nonzero(graph.target_core >= 0)
    target = graph.target_core[source, neuron]
    weight = np.ones(len(source)) if spikes is None else spikes[source, neuron]
    apart = source != target
    ends = np.concatenate([source * c + target, target * c + source])[np.tile(apart, 2)]
    pairs, which = np.unique(ends, return_inverse=True)
    total = np.bincount(which, np.tile(weight[apart], 2), minlength=len(pairs))
    start = np.searchsorted(pairs, np.arange(c + 1) * c)
    return start.astype(np.int32), (pairs % c).astype(np.int32), total.astype(np.float64)


def hilbert_cells(width: int, height: int) -> I32:
    """Every cell [width*height, 2] of a mesh along a Hilbert curve, cells outside the mesh skipped."""
    bits = max(int(max(width, height) - 1).bit_length(), 1)
    index = np.arange(1 << (2 * bits))
    x, y = np.zeros_like(index), np.zeros_like(index)
    for level in range(bits):
        side = 1 << level
        right, up = (index >> (2 * level + 1)) & 1, ((index >> (2 * level)) ^ (index >> (2 * level + 1))) & 1
        flip = (up == 0) & (right == 1)
        x, y = np.where(flip, side - 1 - x, x), np.where(flip, side - 1 - y, y)
        x, y = np.where(up == 0, y, x), np.where(up == 0, x, y)
        x, y = x + side * right, y + side * up
    inside = (x < width) & (y < height)
    return np.stack([x[inside], y[inside]], axis=1).astype(np.int32)


def _mean_hops(start: I32, other: I32, weight: F64, xy: I32) -> float:
    source = np.repeat(np.arange(len(start) - 1), np.diff(start))
    hops = np.abs(xy[source] - xy[other]).sum(axis=1)
    return float((hops * weight).sum() / max(weight.sum(), 1.0))


def _on_chips(xy: I32, chip: Chip) -> NDArray[np.int16]:
    """Cells of the whole mesh [C, 2] -> (chip, x, y) [C, 3]."""
    number = xy[:, 1] // chip.height * chip.chips_x + xy[:, 0] // chip.width
    return np.stack([number, xy[:, 0] % chip.width, xy[:, 1] % chip.height], axis=1).astype(np.int16)


@njit(cache=True)
def _cost_of(start: I32, other: I32, weight: F64, xy: I32, core: int, x: int, y: int) -> float:
    """Weighted hops of one core if it lay at (x, y)."""
    total = 0.0
    for e in range(start[core], start[core + 1]):
        total += weight[e] * (abs(xy[other[e], 0] - x) + abs(xy[other[e], 1] - y))
    return total


@njit(cache=True)
def _between(start: I32, other: I32, weight: F64, a: int, b: int) -> float:
    """Weight of the edge between two cores."""
    for e in range(start[a], start[a + 1]):
        if other[e] == b:
            return float(weight[e])
    return 0.0


@njit(cache=True)
def _random(state: np.uint64) -> np.uint64:
    """The next state of a 64-bit xorshift generator."""
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    return state ^ (state << np.uint64(17))


@njit(cache=True)
def _swap_gain(start: I32, other: I32, weight: F64, xy: I32, a: int, b: int, x: int, y: int) -> float:
    """What moving core a to (x, y), and core b (-1: an empty cell) to a's place, saves."""
    ax, ay = xy[a, 0], xy[a, 1]
    gain = _cost_of(start, other, weight, xy, a, ax, ay) - _cost_of(start, other, weight, xy, a, x, y)
    if b >= 0:
        gain += _cost_of(start, other, weight, xy, b, x, y) - _cost_of(start, other, weight, xy, b, ax, ay)
        # Each cost took the other core to stand still; swapped, their distance stays as it was.
        gain -= 2.0 * _between(start, other, weight, a, b) * (abs(ax - x) + abs(ay - y))
    return gain


@njit(cache=True)
def _anneal(start: I32, other: I32, weight: F64, xy: I32, owner: I32, trials: int, heat: float, seed: int) -> None:
    """Pairwise swaps with cells at hand, cooling linearly to none; changes xy [C, 2] and owner [W, H]."""
    cores, (width, height) = len(xy), owner.shape
    state = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x2545F4914F6CDD1D)
    first = heat * weight.sum() / max(cores, 1)
    for trial in range(trials):
        left = 1.0 - trial / trials
        radius = 1 + int(left * 0.25 * max(width, height))
        state = _random(state)
        a = int((state >> np.uint64(33)) % np.uint64(cores))
        state = _random(state)
        x = xy[a, 0] + int((state >> np.uint64(40)) % np.uint64(2 * radius + 1)) - radius
        y = xy[a, 1] + int((state >> np.uint64(12)) % np.uint64(2 * radius + 1)) - radius
        if x < 0 or y < 0 or x >= width or y >= height:
            continue
        b = owner[x, y]
        if b == a:
            continue
        gain = _swap_gain(start, other, weight, xy, a, b, x, y)
        state = _random(state)
        chance = float(state >> np.uint64(11)) / 9007199254740992.0
        if gain >= 0.0 or (left > 0.05 and chance < np.exp(gain / (first * left * left))):
            owner[xy[a, 0], xy[a, 1]] = b
            if b >= 0:
                xy[b, 0], xy[b, 1] = xy[a, 0], xy[a, 1]
            owner[x, y], xy[a, 0], xy[a, 1] = a, x, y

"""A core graph on the mesh of a chip or a board: a curve first, then swaps that shorten the paths of spikes.

The cost is that of Akopyan et al. 2015: the sum over spikes of |dx| + |dy| + E x chip edges crossed. On a board the
load of the busiest chip edge comes second, see `balance`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deploy.balance import balance
from deploy.cells import I32, Mask, curve_cells, on_chips, stretched
from deploy.chip import Chip, CompileError
from deploy.cores import CoreGraph
from deploy.flows import F64, Neighbours, flows, neighbours
from deploy.swaps import EMPTY, FORBIDDEN, below, cell_near, mixed, next_state, swap, swap_gain, total_cost

EDGE_HOPS = 400.0  # a chip edge in hops: (832 + 128 pJ) / 2.3 pJ rounded, which makes the cost an energy
SWAPS_A_CORE = 800
MOST_SWAPS = 24_000_000  # in all: about a minute on the largest board
# First temperature, for the spikes of a mean core: so many of their paths on the curve, on a board so many chip edges
# as well; the last one in paths.
HOT, HOT_EDGES, COLD = 2.0, 4.0, 0.002
NEAR = 4  # tries reach this part of a chip's side at first
# Logarithms of the middles of 4,096 equal parts of 0..1, rounded so that every machine has the same.
_LOG = np.array([round(math.log((i + 0.5) / 4096), 6) for i in range(4096)])


@dataclass(frozen=True, eq=False)
class Placement:
    """Where each core lies, and what its spikes travel."""

    place: NDArray[np.int16]  # [C, 3]  chip, x, y
    hops_before: float  # mean hops a spike on the curve alone
    hops: float  # mean hops a spike as placed
    cost_before: float  # hops + edge x crossings, of all spikes
    cost: float


def place(
    graph: CoreGraph,
    chip: Chip,
    seed: int = 0,
    spikes: NDArray[np.floating] | None = None,
    *,
    edge: float = EDGE_HOPS,
    forbidden: Mask | None = None,
    swaps_a_core: int = SWAPS_A_CORE,
) -> Placement:
    """Place every core; equal arguments give equal places.

    `spikes` [C, N] or [C] weigh the paths, measured or not given: then every neuron counts alike. `edge`: hops that a
    chip edge counts for. `forbidden` [width, height] of the mesh: cells to leave free. As few chips are used as
    hold the cores. Raises CompileError where the graph does not fit the cells that are left.
    """
    near = neighbours(flows(graph, spikes))
    cells = _free(curve_cells(chip), chip, forbidden, graph.shape[0])
    xy, owner = cells[: graph.shape[0]].copy(), _owners(cells, chip, graph.shape[0])
    far, plain = stretched(chip, edge), stretched(chip, 0.0)
    before = total_cost(near, xy, *plain), total_cost(near, xy, *far)
    sent = max(float(near.sent.sum()), 1e-300)
    if len(near.other):
        _cool(near, xy, owner, chip, edge, far, min(len(xy) * swaps_a_core, MOST_SWAPS), seed)
    if chip.chips_x * chip.chips_y > 1:
        balance(near, xy, owner, chip, *far, seed + 1)
    hops, cost = total_cost(near, xy, *plain), total_cost(near, xy, *far)
    return Placement(on_chips(xy, chip), before[0] / sent, hops / sent, before[1], cost)


def _cool(
    near: Neighbours, xy: I32, owner: I32, chip: Chip, edge: float, far: tuple[F64, F64], trials: int, seed: int
) -> None:
    """Anneal between temperatures that suit these spikes."""
    boards = HOT_EDGES * edge if chip.chips_x * chip.chips_y > 1 else 0.0
    path = total_cost(near, xy, *stretched(chip, 0.0)) / len(xy)
    hot = HOT * path + boards * float(near.sent.sum()) / len(xy)
    if hot > 0.0:
        radius = max(max(chip.width, chip.height) // NEAR, 1)
        _anneal(near, xy, owner, *far, trials, hot, COLD * path, radius, mixed(seed), _LOG)


def _free(cells: I32, chip: Chip, forbidden: Mask | None, cores: int) -> I32:
    """The cells that may be used, in their order: those of as few chips as hold the cores, the first ones."""
    if forbidden is not None and forbidden.shape != chip.mesh:
        raise CompileError(
            f"forbidden: found {list(forbidden.shape)}, allowed {list(chip.mesh)} on {chip.name}; give one flag a cell"
        )
    free = cells if forbidden is None else cells[~forbidden[cells[:, 0], cells[:, 1]]]
    if len(free) < cores:
        raise CompileError(
            f"place: {cores} cores, {len(free)} cells are free on {chip.name}; try a larger board or fewer features"
        )
    # Spread over more chips than needed, cores would cross edges for nothing while the swaps are still hot.
    number = on_chips(free, chip)[:, 0]
    return free[np.isin(number, number[:cores])]


def _owners(cells: I32, chip: Chip, cores: int) -> I32:
    """[width, height]: the core on each cell, the first cells taken."""
    owner = np.full(chip.mesh, FORBIDDEN, np.int32)
    owner[cells[:, 0], cells[:, 1]] = EMPTY
    owner[cells[:cores, 0], cells[:cores, 1]] = np.arange(cores)
    return owner


@njit(cache=True)
def _anneal(
    near: Neighbours,
    xy: I32,
    owner: I32,
    x: F64,
    y: F64,
    trials: int,
    hot: float,
    cold: float,
    reach: int,
    state: np.uint64,
    log: F64,
) -> None:
    """Swaps of a core with a cell near it or near a neighbour of its, cooling geometrically; changes xy and owner."""
    width, height = owner.shape
    radius, heat = reach, hot
    for trial in range(trials):
        if trial % 1024 == 0:
            done = trial / trials
            radius, heat = max(1, int(reach * (1.0 - done))), hot * (cold / hot) ** done
        state = next_state(state)
        a = below(state, len(xy))
        state = next_state(state)
        degree, middle = near.start[a + 1] - near.start[a], a
        if degree > 0 and state & np.uint64(1):
            middle = near.other[near.start[a] + below(state, degree)]
        state = next_state(state)
        to_x = cell_near(state, xy[middle, 0], radius, width)
        state = next_state(state)
        to_y = cell_near(state, xy[middle, 1], radius, height)
        b = owner[to_x, to_y]
        if b in (a, FORBIDDEN):
            continue
        saved = swap_gain(near, xy, x, y, a, b, to_x, to_y)
        state = next_state(state)
        if saved >= heat * log[state >> np.uint64(52)]:
            swap(xy, owner, a, b, to_x, to_y)

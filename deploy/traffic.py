"""What the spikes of a placed graph do to the mesh: hops, links, and the ports that join chips.

A packet travels in x first, then in y (Akopyan et al. 2015). Spikes between the host and the mesh are not routed: how
they enter and leave a board is not published. Those within one core stay there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deploy.activity import Activity
from deploy.cells import I32, curve_cells, on_mesh, row_major_cells
from deploy.chip import Chip
from deploy.cores import CoreGraph
from deploy.flows import F64, Flows, flows
from deploy.place import EDGE_HOPS

EAST, WEST, NORTH, SOUTH = range(4)  # +x, -x, +y, -y
DIRECTIONS = ("+x", "-x", "+y", "-y")
# Of a merge-split link, in one direction and tick of 1 ms. 2,500 ran in real time on a 4x4 board (Akopyan et al. 2015);
# some 10,000 is what over 160 M spikes a second through 16 link directions come to (Merolla et al. 2014, second-hand).
PORT_SEEN, PORT_LIMIT = 2_500, 10_000


@dataclass(frozen=True)
class Busiest:
    """The most loaded link or port, in spikes a tick; of several equal ones the first."""

    spikes: float
    where: str


@dataclass(frozen=True)
class Traffic:
    """One placement, for mean ticks of one activity."""

    order: str  # of the places, in words
    spikes: float  # a tick from core to core
    hops: float  # a tick
    crossings: float  # chip edges, a tick
    cost: float  # hops + edge x crossings
    link: Busiest  # between two cells
    port: Busiest  # between two chips, 2 links a side

    @property
    def mean_hops(self) -> float:
        return self.hops / self.spikes if self.spikes else 0.0


def link_loads(sent: Flows, xy: I32, mesh: tuple[int, int]) -> F64:
    """Spikes that leave each cell [4, width, height] to the east, west, north and south, for cells xy [C, 2]."""
    loads = np.zeros((4, *mesh))
    _travel(sent, xy, loads)
    return loads


@njit(cache=True)
def _travel(sent: Flows, xy: I32, loads: F64) -> None:
    for core in range(len(sent.start) - 1):
        for e in range(sent.start[core], sent.start[core + 1]):
            x, y = xy[core, 0], xy[core, 1]
            to_x, to_y = xy[sent.other[e], 0], xy[sent.other[e], 1]
            while x != to_x:
                loads[EAST if x < to_x else WEST, x, y] += sent.weight[e]
                x += 1 if x < to_x else -1
            while y != to_y:
                loads[NORTH if y < to_y else SOUTH, x, y] += sent.weight[e]
                y += 1 if y < to_y else -1


def port_loads(loads: F64, chip: Chip) -> tuple[F64, F64]:
    """Spikes through the merge-split links, of which each joins half a side of two chips, both ways.

    Returns those between columns of chips [2, chips_x - 1, chips_y, 2] (east and west; edge, row of chips, half) and
    between rows of chips [2, chips_x, chips_y - 1, 2] (north and south; column of chips, edge, half).
    """
    last_x = np.arange(1, chip.chips_x) * chip.width - 1
    last_y = np.arange(1, chip.chips_y) * chip.height - 1
    east_west = np.stack([loads[EAST, last_x], loads[WEST, last_x + 1]])
    north_south = np.stack([loads[NORTH][:, last_y], loads[SOUTH][:, last_y + 1]])
    columns = east_west.reshape(2, len(last_x), chip.chips_y, chip.height)
    rows = north_south.reshape(2, chip.chips_x, chip.width, len(last_y)).transpose(0, 1, 3, 2)
    return _halves(columns), _halves(rows)


def _halves(side: F64) -> F64:
    """Sum the first half of the last axis and the second, the first one longer where it is odd."""
    middle = -(-side.shape[-1] // 2)
    return np.stack([side[..., :middle].sum(axis=-1), side[..., middle:].sum(axis=-1)], axis=-1)


def traffic(order: str, sent: Flows, xy: I32, chip: Chip, edge: float = EDGE_HOPS) -> Traffic:
    """Everything about cells xy [C, 2] of the mesh."""
    loads, source = link_loads(sent, xy, chip.mesh), sent.source
    hops = float((sent.weight * np.abs(xy[source] - xy[sent.other]).sum(axis=1)).sum())
    on = xy // np.array([chip.width, chip.height])
    crossings = float((sent.weight * np.abs(on[source] - on[sent.other]).sum(axis=1)).sum())
    link, port = _busiest_link(loads), busiest_port(*port_loads(loads, chip), chip)
    return Traffic(order, float(sent.weight.sum()), hops, crossings, hops + edge * crossings, link, port)


def _busiest_link(loads: F64) -> Busiest:
    way, x, y = np.unravel_index(int(loads.argmax()), loads.shape)
    return Busiest(float(loads[way, x, y]), f"{DIRECTIONS[int(way)]} from ({x}, {y})" if loads.any() else "nowhere")


def busiest_port(columns: F64, rows: F64, chip: Chip) -> Busiest:
    """The most loaded of the ports that `port_loads` gives."""
    found = Busiest(0.0, "nowhere")
    for loads, first, across_x in ((columns, EAST, True), (rows, NORTH, False)):
        if not loads.size or loads.max() <= found.spikes:
            continue
        way, column, row, half = (int(i) for i in np.unravel_index(int(loads.argmax()), loads.shape))
        # The way back leaves the chip on the other side of the edge.
        number = (row + (way if not across_x else 0)) * chip.chips_x + column + (way if across_x else 0)
        name = f"chip {number}, {DIRECTIONS[first + way]} side, half {half}"
        found = Busiest(float(loads[way, column, row, half]), name)
    return found


def port_warnings(one: Traffic, activity: Activity) -> list[str]:
    """What is to be said about the busiest port: nothing up to what ran in real time."""
    if one.port.spikes <= PORT_SEEN:
        return []
    limit = "beyond the 10,000 of a link" if one.port.spikes > PORT_LIMIT else "beyond the 2,500 seen in real time"
    return [f"{_port_found(one, activity)}, {limit}; a slower tick may be needed"]


def port_violations(one: Traffic, activity: Activity) -> list[str]:
    """A port that measured spikes overload; an upper bound breaks nothing."""
    if not activity.measured or one.port.spikes <= PORT_LIMIT:
        return []
    return [
        f"{_port_found(one, activity)}, allowed {PORT_LIMIT:,}; use a slower tick, fewer chips or a sparser student"
    ]


def _port_found(one: Traffic, activity: Activity) -> str:
    basis = "measured" if activity.measured else "as if every neuron fired"
    return f"port: {one.port.spikes:,.0f} spikes a tick through {one.port.where} ({basis})"


def compare(
    graph: CoreGraph,
    chip: Chip,
    place: NDArray[np.int16],
    spikes: F64 | None = None,
    seed: int = 0,
    edge: float = EDGE_HOPS,
) -> tuple[Traffic, ...]:
    """The places [C, 3] beside the same cores row by row, at random, and along the curve, for spikes [C, N] a tick.

    Row-major, random and curve take as few chips as hold the cores, in the order of each.
    """
    sent, cores = flows(graph, spikes), graph.shape[0]
    room = min(-(-cores // (chip.width * chip.height)) * chip.width * chip.height, chip.cores)
    rows = row_major_cells(chip)
    mixed = rows[np.random.default_rng(seed).permutation(room)]
    orders = (("row-major", rows), ("random", mixed), ("curve", curve_cells(chip)), ("as placed", on_mesh(place, chip)))
    return tuple(traffic(name, sent, np.ascontiguousarray(xy[:cores]), chip, edge) for name, xy in orders)


def traffic_text(rows: Sequence[Traffic], activity: Activity) -> str:
    """A table: one line a placement."""
    lines = [f"spikes a tick: {activity.source}"]
    lines.append(
        f"{'places':12} {'spikes':>10} {'hops':>13} {'mean':>7} {'crossings':>11} {'cost':>15}"
        f" {'worst link':>11} {'worst port':>11}"
    )
    for row in rows:
        lines.append(
            f"{row.order:12} {row.spikes:10,.0f} {row.hops:13,.0f} {row.mean_hops:7.2f} {row.crossings:11,.0f}"
            f" {row.cost:15,.0f} {row.link.spikes:11,.1f} {row.port.spikes:11,.1f}"
        )
    placed = rows[-1]
    lines.append(f"worst link {placed.link.where}; worst port {placed.port.where}")
    return "\n".join(lines) + "\n"

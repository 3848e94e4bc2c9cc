"""Packets on the mesh: every link and every port carries what a packet-by-packet router puts on it."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from cases import SPECS, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.activity import EVERY_NEURON, Activity, every_neuron
from deploy.balance import _carry
from deploy.cells import on_mesh, row_major_cells
from deploy.chip import CHIPS, Chip, CompileError, refuse
from deploy.compiler import compile_spec
from deploy.flows import flows, neighbours
from deploy.traffic import (
    PORT_LIMIT,
    PORT_SEEN,
    Busiest,
    Traffic,
    busiest_port,
    compare,
    link_loads,
    port_loads,
    port_violations,
    port_warnings,
    traffic,
    traffic_text,
)

BOARD = Chip("board", width=5, height=3, axons=67, neurons=71, chips_x=3, chips_y=2)
SIDES = ("+x", "-x", "+y", "-y")
TINY, TINY4 = CHIPS["tiny"], CHIPS["tiny4"]


def scattered(seed: int, cores: int = 17) -> tuple[Any, Any]:
    """(flows, cells) of a random graph at random on the board."""
    rng = np.random.default_rng(seed)
    graph = random_graph(seed, cores=cores)
    cells = row_major_cells(BOARD)[rng.permutation(BOARD.cores)[:cores]]
    return flows(graph, rng.random(graph.neuron_type.shape)), np.ascontiguousarray(cells)


def routed(sent: Any, xy: Any, chip: Chip) -> tuple[Any, dict[tuple[str, int, int, int], float]]:
    """Link loads [4, width, height] and port loads by (side, chip, ...), one packet route after another."""
    loads = np.zeros((4, *chip.mesh))
    ports: dict[tuple[str, int, int, int], float] = {}
    for a, b, weight in zip(sent.source, sent.other, sent.weight, strict=True):
        (x, y), (to_x, to_y) = xy[a].tolist(), xy[b].tolist()
        while (x, y) != (to_x, to_y):
            step_x = (to_x > x) - (to_x < x)
            step_y = 0 if step_x else (to_y > y) - (to_y < y)
            side = {(1, 0): 0, (-1, 0): 1, (0, 1): 2, (0, -1): 3}[step_x, step_y]
            loads[side, x, y] += weight
            chip_here = (x // chip.width, y // chip.height)
            chip_next = ((x + step_x) // chip.width, (y + step_y) // chip.height)
            if chip_here != chip_next:
                along, long = (y % chip.height, chip.height) if step_x else (x % chip.width, chip.width)
                key = (SIDES[side], *chip_here, int(along >= (long + 1) // 2))
                ports[key] = ports.get(key, 0.0) + weight
            x, y = x + step_x, y + step_y
    return loads, ports


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_links_carry_what_a_scalar_router_puts_on_them(seed: int) -> None:
    sent, xy = scattered(seed)
    assert np.allclose(link_loads(sent, xy, BOARD.mesh), routed(sent, xy, BOARD)[0])


def test_a_packet_travels_in_x_first() -> None:
    graph = random_graph(1, cores=2)
    sent = flows(graph, (graph.target_core == 1) * (np.arange(2) == 0)[:, None] * 1.0)
    loads = link_loads(sent, np.array([[1, 0], [3, 2]], np.int32), BOARD.mesh)
    weight = sent.weight.max()
    assert {tuple(map(int, at)) for at in np.argwhere(loads)} == {(0, 1, 0), (0, 2, 0), (2, 3, 0), (2, 3, 1)}
    assert loads.max() == weight > 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_ports_carry_what_crosses_their_half_of_an_edge(seed: int) -> None:
    sent, xy = scattered(seed)
    columns, rows = port_loads(link_loads(sent, xy, BOARD.mesh), BOARD)
    assert (columns.shape, rows.shape) == ((2, 2, 2, 2), (2, 3, 1, 2))
    expected = routed(sent, xy, BOARD)[1]
    for way, edge, row, half in np.ndindex(columns.shape):
        key = (("+x", "-x")[way], edge + way, row, half)
        assert math.isclose(columns[way, edge, row, half], expected.pop(key, 0.0), abs_tol=1e-9)
    for way, column, edge, half in np.ndindex(rows.shape):
        key = (("+y", "-y")[way], column, edge + way, half)
        assert math.isclose(rows[way, column, edge, half], expected.pop(key, 0.0), abs_tol=1e-9)
    assert not expected


@pytest.mark.parametrize("seed", range(8))
def test_the_busiest_port_is_named_by_the_chip_that_sends(seed: int) -> None:
    sent, xy = scattered(seed)
    port = busiest_port(*port_loads(link_loads(sent, xy, BOARD.mesh), BOARD), BOARD)
    ports = routed(sent, xy, BOARD)[1]
    side, column, row, half = max(ports, key=lambda key: ports[key])
    assert port.where == f"chip {row * 3 + column}, {side} side, half {half}"
    assert math.isclose(port.spikes, max(ports.values()))


@pytest.mark.parametrize("seed", range(4))
def test_balancing_counts_the_same_ports(seed: int) -> None:
    graph = random_graph(seed, cores=17)
    _, xy = scattered(seed)
    shape = (BOARD.width, BOARD.height, BOARD.chips_x, BOARD.chips_y)
    loads = np.zeros(8 * BOARD.chips_x * BOARD.chips_y)
    near = neighbours(flows(graph))
    powers = sum(_carry(near, xy, loads, shape, core, -1, 1.0, True) for core in range(17))
    columns, rows = port_loads(link_loads(flows(graph), xy, BOARD.mesh), BOARD)
    ports = np.concatenate([columns.ravel(), rows.ravel()])
    assert np.allclose(np.sort(loads[loads > 0]), np.sort(ports[ports > 0]))
    assert math.isclose(powers, (ports**4).sum())
    for core in range(17):
        _carry(near, xy, loads, shape, core, -1, -1.0, True)
    assert not loads.any(), "what is taken away is what was put there"


@pytest.mark.parametrize("seed", range(4))
def test_totals_follow_from_the_links(seed: int) -> None:
    sent, xy = scattered(seed)
    found, (loads, ports) = traffic("here", sent, xy, BOARD, edge=50.0), routed(sent, xy, BOARD)
    assert math.isclose(found.hops, loads.sum())
    assert math.isclose(found.crossings, sum(ports.values()))
    assert math.isclose(found.cost, loads.sum() + 50.0 * sum(ports.values()))
    assert math.isclose(found.mean_hops, loads.sum() / sent.weight.sum())
    assert math.isclose(found.link.spikes, loads.max())
    way, x, y = (int(i) for i in np.unravel_index(loads.argmax(), loads.shape))
    assert found.link.where == f"{SIDES[way]} from ({x}, {y})"


def test_without_spikes_nothing_travels() -> None:
    graph = random_graph(0)
    found = traffic("here", flows(graph, np.zeros(5)), row_major_cells(BOARD)[:5], BOARD)
    assert (found.mean_hops, found.link, found.port) == (0.0, Busiest(0.0, "nowhere"), Busiest(0.0, "nowhere"))


def one(spikes: float) -> Traffic:
    return Traffic("as placed", 1.0, 1.0, 1.0, 1.0, Busiest(1.0, "here"), Busiest(spikes, "chip 2, +x side, half 1"))


def some_activity(ticks: int) -> Activity:
    return Activity(np.zeros((1, 1)), np.zeros(1), np.zeros(1), ticks, "taped" if ticks else EVERY_NEURON)


@pytest.mark.parametrize(
    ("spikes", "ticks", "said"),
    [
        (PORT_SEEN, 5, None),
        (PORT_SEEN + 1, 5, r"2,501 spikes a tick through chip 2, \+x side, half 1 \(measured\), beyond the 2,500 seen"),
        (PORT_LIMIT, 5, r"10,000 spikes .* beyond the 2,500 seen in real time"),
        (PORT_LIMIT + 1, 0, r"10,001 spikes .* \(as if every neuron fired\), beyond the 10,000 of a link; a slower"),
    ],
)
def test_busy_ports_are_warned_of(spikes: float, ticks: int, said: str | None) -> None:
    found = port_warnings(one(spikes), some_activity(ticks))
    assert len(found) == (said is not None)
    for warning in found:
        assert re.search(said or "", warning)


def test_more_measured_spikes_than_a_port_carries_are_refused() -> None:
    expected = r"^1 limits broken\nport: 10,001 spikes a tick through chip 2, \+x side, half 1 \(measured\), allowed"
    with pytest.raises(CompileError, match=expected):
        refuse(port_violations(one(PORT_LIMIT + 1), some_activity(5)))
    refuse(port_violations(one(PORT_LIMIT), some_activity(5)))
    refuse(port_violations(one(PORT_LIMIT + 1), some_activity(0)))


def test_places_are_compared_with_other_orders() -> None:
    made = compile_spec(SPECS["conv_net"](), TINY4)
    rows = compare(made.graph, TINY4, made.place, seed=1)
    assert [row.order for row in rows] == ["row-major", "random", "curve", "as placed"]
    assert len({row.spikes for row in rows}) == 1
    assert rows[3].cost < 0.7 * rows[0].cost < 0.7 * rows[1].cost
    assert rows[3] == traffic("as placed", flows(made.graph), on_mesh(made.place, TINY4), TINY4)
    assert rows == compare(made.graph, TINY4, made.place, seed=1)
    other = compare(made.graph, TINY4, made.place, seed=2)
    assert other[1] != rows[1]
    assert (other[0], other[2], other[3]) == (rows[0], rows[2], rows[3])


def test_the_table_says_what_was_counted() -> None:
    made = compile_spec(SPECS["conv_net"](), TINY)
    rows = compare(made.graph, TINY, made.place)
    text = traffic_text(rows, every_neuron(made.graph))
    assert text.startswith("spikes a tick: every neuron in every tick, an upper bound\n")
    firsts = [line.split()[0] for line in text.splitlines()[1:]]
    assert firsts == ["places", "row-major", "random", "curve", "as", "worst"]
    assert f"worst link {rows[3].link.where}; worst port nowhere" in text

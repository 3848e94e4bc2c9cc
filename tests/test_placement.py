"""Cores on the mesh: orders of cells, who talks to whom, what swaps save, boards, broken routers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cases import SPECS, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.balance import balance
from deploy.cells import broken_routers, curve_cells, hilbert_cells, on_chips, on_mesh, row_major_cells, stretched
from deploy.chip import CHIPS, Chip, CompileError
from deploy.compiled import Compiled
from deploy.compiler import compile_spec
from deploy.cores import CoreGraph
from deploy.flows import flows, neighbours
from deploy.place import place
from deploy.swaps import below, cell_near, mixed, next_state, swap, swap_gain, total_cost
from deploy.traffic import busiest_port, link_loads, port_loads, traffic

TINY, TINY4 = CHIPS["tiny"], CHIPS["tiny4"]
BOARD = Chip("board", width=5, height=4, axons=70, neurons=44, axon_types=3, chips_x=3, chips_y=2)
LOOSE = Chip("loose", width=4, height=3, axons=67, neurons=71, chips_x=3, chips_y=2)


def compiled(chip: Chip = TINY, seed: int = 0) -> Compiled:
    return compile_spec(SPECS["conv_net"](), chip, seed)


def scalar_flows(graph: CoreGraph, spikes: Any) -> dict[tuple[int, int], float]:
    """Spikes from core to other core, one neuron after another."""
    sums: dict[tuple[int, int], float] = {}
    for core in range(graph.shape[0]):
        for neuron in range(graph.shape[2]):
            target = int(graph.target_core[core, neuron])
            if target >= 0 and target != core:
                sums[core, target] = sums.get((core, target), 0.0) + float(spikes[core, neuron])
    return sums


def scalar_cost(graph: CoreGraph, cells: Any, spikes: Any, chip: Chip, edge: float) -> float:
    """Spikes x (hops + edge x chip edges crossed), one flow after another."""
    total = 0.0
    for (a, b), weight in scalar_flows(graph, spikes).items():
        (ax, ay), (bx, by) = (tuple(map(int, cells[c])) for c in (a, b))
        edges = abs(ax // chip.width - bx // chip.width) + abs(ay // chip.height - by // chip.height)
        total += weight * (abs(ax - bx) + abs(ay - by) + edge * edges)
    return total


@pytest.mark.parametrize("size", [(8, 8), (11, 13), (1, 5), (1, 1)])
def test_the_curve_visits_every_cell_once(size: tuple[int, int]) -> None:
    cells = hilbert_cells(*size)
    assert len(np.unique(cells, axis=0)) == len(cells) == size[0] * size[1]


def test_the_curve_steps_to_a_neighbour() -> None:
    assert (np.abs(np.diff(hilbert_cells(16, 16), axis=0)).sum(axis=1) == 1).all()


@pytest.mark.parametrize("order", [curve_cells, row_major_cells])
def test_every_order_fills_one_chip_after_another(order: Any) -> None:
    cells = order(BOARD)
    assert len(np.unique(cells, axis=0)) == len(cells) == BOARD.cores
    chips = on_chips(cells, BOARD)[:, 0]
    assert (np.diff(chips) != 0).sum() == 5, "a chip is left once"


def test_on_chips_whose_sides_are_powers_of_two_the_curve_is_that_of_the_mesh() -> None:
    board = CHIPS["ns16e"]
    assert np.array_equal(curve_cells(board), hilbert_cells(*board.mesh))


def test_row_major_goes_along_x_first() -> None:
    assert row_major_cells(BOARD)[[0, 1, 5, 20, 60]].tolist() == [[0, 0], [1, 0], [0, 1], [5, 0], [0, 4]]


def test_boards_are_tiled_chips() -> None:
    assert (CHIPS["ns16e"].mesh, CHIPS["ns16e4"].mesh) == ((256, 256), (512, 512))
    assert (CHIPS["ns16e"].cores, CHIPS["ns16e4"].cores) == (65_536, 262_144)
    assert TINY4.mesh == (14, 18)


def test_chips_are_numbered_row_by_row_and_cells_within_them() -> None:
    cells = np.array([[0, 0], [5, 3], [14, 0], [0, 4], [13, 7]], np.int32)
    assert on_chips(cells, BOARD).tolist() == [[0, 0, 0], [1, 0, 3], [2, 4, 0], [3, 0, 0], [5, 3, 3]]


@given(st.integers(0, 14), st.integers(0, 7))
def test_places_and_cells_are_the_same_thing(x: int, y: int) -> None:
    cells = np.array([[x, y]], np.int32)
    assert np.array_equal(on_mesh(on_chips(cells, BOARD), BOARD), cells)


def test_places_are_cells_of_the_mesh_one_core_each() -> None:
    made = compiled(BOARD)
    chip, x, y = made.place.T
    assert len(np.unique(made.place, axis=0)) == len(made.place)
    assert (chip.max(), x.max(), y.max()) == (5, 4, 3)
    assert (made.place >= 0).all()


@pytest.mark.parametrize("seed", range(6))
def test_flows_are_the_sums_over_neurons(seed: int) -> None:
    graph = random_graph(seed, cores=9)
    spikes = np.random.default_rng(seed).random(graph.neuron_type.shape)
    found = flows(graph, spikes)
    pairs = dict(zip(zip(found.source.tolist(), found.other.tolist(), strict=True), found.weight, strict=True))
    expected = scalar_flows(graph, spikes)
    assert pairs.keys() == expected.keys()
    assert all(math.isclose(pairs[pair], expected[pair]) for pair in pairs)
    assert all((np.diff(found.other[a:b]) > 0).all() for a, b in zip(found.start[:-1], found.start[1:], strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_neighbours_see_each_flow_from_both_ends(seed: int) -> None:
    graph = random_graph(seed, cores=9)
    expected = scalar_flows(graph, graph.neuron_type > 0)
    near = neighbours(flows(graph))
    for core in range(9):
        for e in range(near.start[core], near.start[core + 1]):
            o = int(near.other[e])
            assert near.sent[e] == expected.get((core, o), 0.0)
            assert near.got[e] == expected.get((o, core), 0.0)
            assert near.weight[e] == near.sent[e] + near.got[e]
    assert near.sent.sum() == near.got.sum() == sum(expected.values())


def test_spikes_of_a_core_are_shared_by_its_neurons() -> None:
    graph = compiled().graph
    per_core = np.arange(graph.shape[0], dtype=float)
    used = graph.neuron_type > 0
    assert np.allclose(
        flows(graph, per_core).weight, flows(graph, used * (per_core / used.sum(axis=1))[:, None]).weight
    )


def test_spikes_that_fit_no_graph_are_refused() -> None:
    graph = compiled().graph
    with pytest.raises(CompileError, match=r"^spikes: found \[3, 2\], allowed \[112\] or \[112, 44\]; record them"):
        flows(graph, np.zeros((3, 2)))
    with pytest.raises(CompileError, match=r"^spikes: found negative or infinite counts, allowed 0 and more; record"):
        flows(graph, np.full(112, -1.0))


@pytest.mark.parametrize("edge", [0.0, 7.5])
def test_the_cost_of_a_placement_is_that_of_a_scalar_sum(edge: float) -> None:
    graph = random_graph(3, cores=20)
    spikes = np.random.default_rng(5).random(graph.neuron_type.shape)
    found = place(graph, LOOSE, 1, spikes, edge=edge)
    cells, curve = on_mesh(found.place, LOOSE), curve_cells(LOOSE)
    assert math.isclose(found.cost, scalar_cost(graph, cells, spikes, LOOSE, edge))
    assert math.isclose(found.cost_before, scalar_cost(graph, curve, spikes, LOOSE, edge))
    sent = sum(scalar_flows(graph, spikes).values())
    assert math.isclose(found.hops, scalar_cost(graph, cells, spikes, LOOSE, 0.0) / sent)
    assert math.isclose(found.hops_before, scalar_cost(graph, curve, spikes, LOOSE, 0.0) / sent)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 5), st.integers(0, 17), st.integers(0, 23))
def test_a_swap_saves_what_it_is_said_to(seed: int, a: int, cell: int) -> None:
    graph = random_graph(seed, cores=18)
    near, (x, y) = neighbours(flows(graph)), stretched(LOOSE, 3.0)
    cells = row_major_cells(LOOSE)
    xy, owner = cells[:18].copy(), np.full(LOOSE.mesh, -1, np.int32)
    owner[xy[:, 0], xy[:, 1]] = np.arange(18)
    to_x, to_y = (int(at) for at in cells[cell])
    b = int(owner[to_x, to_y])
    if b == a:
        return
    before = total_cost(near, xy, x, y)
    saved = swap_gain(near, xy, x, y, a, b, to_x, to_y)
    swap(xy, owner, a, b, to_x, to_y)
    assert math.isclose(before - total_cost(near, xy, x, y), saved, abs_tol=1e-6)
    assert owner[to_x, to_y] == a
    assert all(owner[tuple(xy[core])] == core for core in range(18))


@given(st.integers(1, (1 << 64) - 1), st.integers(1, 1 << 18), st.integers(0, 500), st.integers(1, 300))
def test_draws_stay_in_bounds(state: int, bound: int, middle: int, radius: int) -> None:
    assert 0 <= below(np.uint64(state), bound) < bound
    side = middle + 3
    assert (
        max(0, middle - radius) <= cell_near(np.uint64(state), middle, radius, side) <= min(side - 1, middle + radius)
    )


def test_no_seed_gives_the_state_that_draws_nothing_else() -> None:
    # xorshift maps 0 to 0; this seed would be mixed to it.
    dead = (-0x2545F4914F6CDD1D * pow(0x9E3779B97F4A7C15, -1, 1 << 64)) % (1 << 64)
    assert mixed(dead) == 1
    assert len({int(mixed(seed)) for seed in range(-50, 50)}) == 100
    assert next_state(np.uint64(1)) != 1


@pytest.mark.parametrize("chip", [TINY, BOARD], ids=["chip", "board"])
def test_the_seed_decides_the_places(chip: Chip) -> None:
    graph = compiled().graph
    first, again, other = (place(graph, chip, seed).place for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_swaps_shorten_the_paths() -> None:
    before, after = compiled().mean_hops
    assert after < 0.6 * before


def test_reported_hops_are_those_of_the_places() -> None:
    made = compiled()
    core, neuron = np.nonzero(made.graph.target_core >= 0)
    here, there = made.place[core, 1:], made.place[made.graph.target_core[core, neuron], 1:]
    assert math.isclose(np.abs(here - there).sum(axis=1).mean(), made.mean_hops[1])


def test_measured_spikes_weigh_the_paths() -> None:
    graph = compiled().graph
    spikes = np.zeros(graph.neuron_type.shape)
    core, neuron = np.argwhere(graph.target_core >= 0)[-1]
    spikes[core, neuron] = 3.0
    near = neighbours(flows(graph, spikes))
    assert near.weight.sum() == 6.0
    assert place(graph, TINY, seed=3, spikes=spikes).hops == 1.0, "the one pair that talks ends side by side"
    assert {int(core), int(graph.target_core[core, neuron])} >= set(near.other[near.weight > 0].tolist())


def test_silence_costs_nothing_and_is_placed() -> None:
    graph = compiled().graph
    quiet = place(graph, BOARD, 1, np.zeros(graph.shape[0]))
    assert (quiet.hops, quiet.cost) == (0.0, 0.0)
    assert len(np.unique(quiet.place, axis=0)) == graph.shape[0]


def test_dearer_edges_are_crossed_less() -> None:
    graph = compiled().graph
    crossings = {}
    for edge in (0.0, 400.0):
        found = place(graph, BOARD, 1, edge=edge)
        crossings[edge] = traffic("", flows(graph), on_mesh(found.place, BOARD), BOARD).crossings
    assert crossings[400.0] < 0.9 * crossings[0.0]


def test_no_more_chips_are_used_than_hold_the_cores() -> None:
    graph = compiled().graph
    assert len(np.unique(place(graph, TINY4).place[:, 0])) == 2, "112 cores on chips of 63"
    forbidden = np.zeros(TINY4.mesh, bool)
    forbidden[:7, :9] = forbidden[5, 7] = True
    assert set(place(graph, TINY4, forbidden=forbidden).place[:, 0].tolist()) < {1, 2, 3}


def test_forbidden_cells_stay_free() -> None:
    graph = compiled().graph
    forbidden = np.random.default_rng(1).random(TINY4.mesh) < 0.3
    cells = on_mesh(place(graph, TINY4, 1, forbidden=forbidden).place, TINY4)
    assert not forbidden[cells[:, 0], cells[:, 1]].any()
    assert len(np.unique(cells, axis=0)) == graph.shape[0]


def test_no_packet_passes_a_broken_router() -> None:
    graph = compiled().graph
    routers = [(3, 11), (9, 2)]
    forbidden = broken_routers(TINY4, routers)
    assert forbidden.sum() == 2 * (14 + 18) - 4, "two rows and two columns, which meet in four cells"
    cells = on_mesh(place(graph, TINY4, 1, forbidden=forbidden).place, TINY4)
    loads = link_loads(flows(graph), cells, TINY4.mesh)
    assert loads.sum() > 0
    for x, y in routers:
        assert loads[:, x, y].sum() == 0.0
        assert loads[0, x - 1, y] == loads[1, x + 1, y] == loads[2, x, y - 1] == loads[3, x, y + 1] == 0.0


def test_a_student_compiles_around_broken_routers() -> None:
    spec, routers = SPECS["conv_net"](), [(3, 11), (9, 2)]
    made, whole = compile_spec(spec, TINY4, seed=1, broken=routers), compile_spec(spec, TINY4, seed=1)
    used, forbidden = on_mesh(made.place, TINY4), broken_routers(TINY4, routers)
    assert not forbidden[used[:, 0], used[:, 1]].any()
    elsewhere = on_mesh(whole.place, TINY4)
    assert forbidden[elsewhere[:, 0], elsewhere[:, 1]].any() and made.digest == whole.digest


def test_what_can_not_be_placed_is_refused() -> None:
    graph = compiled().graph
    with pytest.raises(
        CompileError, match=r"^place: 112 cores, 77 cells are free on tiny; try a larger board or fewer"
    ):
        place(graph, TINY, forbidden=np.arange(143).reshape(11, 13) >= 77)
    with pytest.raises(CompileError, match=r"^forbidden: found \[13, 11\], allowed \[11, 13\] on tiny; give one flag"):
        place(graph, TINY, forbidden=np.zeros((13, 11), bool))
    expected = r"^broken routers: found \(11, 0\), \(0, -1\), allowed 0..10 in x and 0..12 in y on tiny; count cells"
    with pytest.raises(CompileError, match=expected):
        broken_routers(TINY, [(11, 0), (3, 4), (0, -1)])


def test_balancing_relieves_the_busiest_port_and_keeps_the_cost() -> None:
    graph = compiled().graph
    near, (x, y) = neighbours(flows(graph)), stretched(TINY4, 40.0)
    cells = curve_cells(TINY4)[: graph.shape[0]]
    xy, owner = cells.copy(), np.full(TINY4.mesh, -1, np.int32)
    owner[xy[:, 0], xy[:, 1]] = np.arange(len(xy))
    balance(near, xy, owner, TINY4, x, y, seed=1)
    before, after = (
        busiest_port(*port_loads(link_loads(flows(graph), c, TINY4.mesh), TINY4), TINY4) for c in (cells, xy)
    )
    assert after.spikes < 0.9 * before.spikes
    assert total_cost(near, xy, x, y) <= 1.01 * total_cost(near, cells, x, y)
    assert len(np.unique(xy, axis=0)) == len(xy)


def test_a_graph_that_talks_to_nobody_is_placed_along_the_curve() -> None:
    graph = random_graph(1, cores=4)
    mute = replace(graph, target_core=np.where(graph.target_core >= 0, -1, graph.target_core), delay=graph.delay * 0)
    assert np.array_equal(on_mesh(place(mute, LOOSE).place, LOOSE), curve_cells(LOOSE)[:4])

"""The dense engine: what the contract of tests/test_engines.py cannot see: its own layout, threads and widths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cases import one_neuron, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.cores import CoreGraph, NeuronTypes
from deploy.damage import no_damage, random_damage
from deploy.dense import DenseEngine
from deploy.dense_kernels import CHUNK, MEMORY, MEMORYLESS, SCALAR
from deploy.dense_layout import NARROW, distinct_rows, layout_of, order_axons, ways
from deploy.emulator import EmulationError, Emulator
from deploy.engines import record
from deploy.team import FEW, Team, threads_for


def lines_of(graph: CoreGraph, ticks: int, seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).random((ticks, graph.n_inputs)) < 0.4


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("cores", [5, 2 * CHUNK + 3])
def test_spikes_do_not_depend_on_the_number_of_threads(threads: int, cores: int) -> None:
    graph = random_graph(11, cores=cores)
    lines = lines_of(graph, 25, 1)
    engine = DenseEngine(graph, threads=threads)
    assert record(engine, lines).digest == record(Emulator(graph), lines).digest
    assert record(engine, lines).digest != record(Emulator(graph), lines_of(graph, 25, 2)).digest


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 256), st.integers(1, 300), st.integers(1, 6))
def test_any_shape_of_core_equals_the_plain_emulator(seed: int, axons: int, neurons: int, cores: int) -> None:
    graph = random_graph(seed, cores=cores, axons=axons, neurons=neurons)
    lines, plain, dense = lines_of(graph, 8, seed), Emulator(graph), DenseEngine(graph, threads=1 + seed % 2)
    for row in lines:
        assert np.array_equal(plain.step(row), dense.step(row))
        assert np.array_equal(plain.potential, dense.potential)


@pytest.mark.parametrize("lost", [0.0, 0.3])
def test_damage_is_that_of_the_plain_emulator_with_two_threads(lost: float) -> None:
    graph = random_graph(4, cores=2 * CHUNK + 1)
    damage = random_damage(graph, cores=0.1, neurons=0.1, silent=0.1, stuck=0.1, lost=lost, seed=3)
    plain, dense = Emulator(graph, damage=damage), DenseEngine(graph, damage=damage, threads=2)
    for row in lines_of(graph, 20, 5):
        assert np.array_equal(plain.step(row), dense.step(row))
        assert np.array_equal(plain.pins(), dense.pins())
        assert np.array_equal(plain.potential, dense.potential)


def test_each_way_of_evaluation_is_used_where_it_holds() -> None:
    memoryless = one_neuron(np.zeros(5), 5)
    with_memory = one_neuron(np.zeros(5), 5, gamma=1)
    drawing = one_neuron(np.zeros(5), 5, random_leak=1)
    wide = one_neuron(np.zeros(5), 5, weight=[[8000]])
    found = [int(ways(graph)[0]) for graph in (memoryless, with_memory, drawing, wide)]
    assert found == [MEMORYLESS, MEMORY, SCALAR, SCALAR]


@pytest.mark.parametrize(("weights", "way"), [((NARROW - 1) // 2, MEMORYLESS), ((NARROW + 1) // 2, SCALAR)])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_at_the_edge_of_16_bits_are_exact(weights: int, way: int, sign: int) -> None:
    leak = min(1 - sign * 2 * weights, (1 << 15) - 1)
    graph = one_neuron(np.zeros(2), 2, weight=[[sign * weights]], leak=leak)
    assert ways(graph)[0] == way
    for lines in ([True, True], [True, False], [False, False]):
        fires = sign * weights * sum(lines) + leak >= 1
        for engine in (Emulator(graph), DenseEngine(graph)):
            assert bool(engine.step(np.array(lines))[0, 0]) is fires


def test_a_sum_counts_only_what_the_crossbar_connects() -> None:
    """Otherwise no core of 256 axons could have weights of 255 and be evaluated in 16 bits."""
    graph = one_neuron(np.zeros(256), 256, weight=[[255]])
    few = replace(graph, crossbar=np.full((1, 4, 1), 0xFFFF, np.uint64))
    assert (ways(graph)[0], ways(few)[0]) == (SCALAR, MEMORYLESS)


def test_axons_are_kept_by_type_and_unused_ones_nowhere() -> None:
    graph = one_neuron(np.zeros(5), 5, weight=[[1, 2]])
    mixed = replace(graph, axon_type=np.array([[1, 0, CoreGraph.UNUSED_AXON, 1, 0]], np.uint8))
    axons = order_axons(mixed, np.zeros(1, bool))
    assert axons.place.tolist() == [[2, 0, -1, 3, 1]]
    assert axons.segments.tolist() == [[1, 0, 0b0011, 0, 0b1100]]  # one group; (group, its axons) of both types
    assert axons.starts.tolist() == [[0, 1, 2]]
    assert axons.words(np.array([[True, False, True, False, True]])).tolist() == [[0b0110]]


def test_a_core_whose_axons_are_all_unused_only_leaks() -> None:
    graph = replace(one_neuron(np.zeros(3), 3, leak=1), axon_type=np.full((1, 3), CoreGraph.UNUSED_AXON, np.uint8))
    engine = DenseEngine(graph)
    assert engine.step(np.ones(3, bool))[0, 0] and engine.step(np.zeros(3, bool))[0, 0]


def test_cores_of_equal_tables_share_them() -> None:
    graph = random_graph(3, cores=7)
    same = replace(
        graph,
        crossbar_of=np.zeros(7, np.int32),
        axon_type=np.repeat(graph.axon_type[:1], 7, axis=0),
        neuron_type=np.repeat(graph.neuron_type[:1], 7, axis=0),
    )
    layout = layout_of(same, no_damage(same))
    assert len(np.unique(layout.lanes_at)) == len(layout.weight) == len(layout.segments) == 1
    assert len(layout_of(graph, no_damage(graph)).segments) == 7


def test_distinct_rows_are_named_in_order_of_appearance() -> None:
    first, of = distinct_rows(np.array([[5, 1], [2, 2], [5, 1], [0, 1]]))
    assert (first, of.tolist()) == ([0, 1, 3], [0, 1, 0, 2])


def test_the_lowest_core_is_blamed_whichever_thread_meets_it() -> None:
    cores = 4 * CHUNK
    graph = random_graph(1, cores=cores, axons=3, neurons=2, lines=1)
    runaway = NeuronTypes.of(np.zeros((1, 1)), [200], alpha=1 << 20, gamma=2, initial=393_100)
    bad = np.zeros((cores, 2), np.uint16)
    bad[[CHUNK + 1, 3 * CHUNK], 1] = 1
    graph = replace(graph, axon_type=np.zeros((cores, 3), np.uint8), types=runaway, neuron_type=bad)
    for threads in (1, 2):
        for odd in (False, True):
            engine = DenseEngine(graph, threads=threads)
            engine.tick = int(odd)  # cores run in another order in odd ticks
            message = rf"^tick {int(odd)}, core {CHUNK + 1}, neuron 1: potential beyond"
            with pytest.raises(EmulationError, match=message):
                engine.step(np.zeros(1, bool))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_fault_amid_many_ticks_stops_the_whole_team_there(threads: int) -> None:
    """And the team runs again afterwards: no thread is left waiting for another."""
    cores = 3 * CHUNK
    graph = random_graph(1, cores=cores, axons=3, neurons=2, lines=1)
    runaway = NeuronTypes.of(np.zeros((1, 1)), [200], alpha=1 << 20, gamma=2, initial=391_500)
    bad = np.zeros((cores, 2), np.uint16)
    bad[-2, 1] = 1
    graph = replace(graph, axon_type=np.zeros((cores, 3), np.uint8), types=runaway, neuron_type=bad)
    engine, lines = DenseEngine(graph, threads=threads), np.zeros(1, bool)
    for _ in range(3):
        engine.reset()
        with pytest.raises(EmulationError, match=rf"^tick 8, core {cores - 2}, neuron 1: potential beyond"):
            engine.hold(lines, 30)
        engine.reset()
        engine.hold(lines, 8)
        assert engine.tick == 8 and engine.potential[-2, 1] == 391_500 + 8 * 200


def test_helpers_go_home_where_the_first_thread_never_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph(2)
    engine, lines = DenseEngine(graph, threads=3), lines_of(graph, 6, 1)
    expected = record(DenseEngine(graph, threads=1), lines).digest
    part = Team._part

    def interrupted(team: Team, plan: Any, first: int, thread: int) -> int:
        if thread == 0:
            raise KeyboardInterrupt
        return part(team, plan, first, thread)

    with monkeypatch.context() as patched:
        patched.setattr(Team, "_part", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.hold(lines[0], 5)
    assert engine.tick == 0
    assert record(engine, lines).digest == expected


def two_halves(seed: int, memory: bool) -> CoreGraph:
    """Full cores whose second half repeats the first, but for a synapse of core 1 and a neuron of core 3."""
    graph = random_graph(seed, cores=8, neurons=256)
    kinds = len(graph.types.leak) // 2
    neuron_type = 1 + (graph.neuron_type % kinds) + np.uint16(kinds if memory else 0)
    neuron_type[:, 128:] = neuron_type[:, :128]
    crossbar = graph.crossbar.copy()
    crossbar[:, :, 128:] = crossbar[:, :, :128]
    crossbar[1, 0, 200] ^= np.uint64(2)
    neuron_type[3, 255] = 0
    of = np.arange(8, dtype=np.int32)
    return replace(graph, crossbar=crossbar, crossbar_of=of, neuron_type=neuron_type.astype(np.uint16))


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_cores_of_two_equal_halves_are_evaluated_by_half(seed: int, memory: bool) -> None:
    graph = two_halves(seed, memory)
    found = layout_of(graph, no_damage(graph))
    expected = [] if memory else [0, 2, 4, 5, 6, 7]
    assert np.flatnonzero(found.twin).tolist() == expected
    assert found.blocks.tolist() == [1 if core in expected else 2 for core in range(8)]
    damage = random_damage(graph, neurons=0.002, lost=0.2, seed=seed)
    for harm in (no_damage(graph), damage):
        plain, dense = Emulator(graph, damage=harm), DenseEngine(graph, damage=harm, threads=2)
        for row in lines_of(graph, 12, seed):
            assert np.array_equal(plain.step(row), dense.step(row))
            assert np.array_equal(plain.potential, dense.potential)
            assert np.array_equal(plain.pins(), dense.pins())


def test_small_graphs_run_on_one_thread() -> None:
    assert threads_for(FEW - 1) == 1
    assert 1 <= threads_for(10 * FEW) <= 10

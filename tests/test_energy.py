"""Energy: numbers equal hand calculations on counted spikes; the published chip is met."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from cases import DATA, SPECS, needs_networks, one_neuron, pictures, random_graph, student

from deploy.activity import Activity, every_neuron, record_held, record_ticks, synapses_of_axons
from deploy.cells import on_mesh
from deploy.chip import CHIPS, Chip
from deploy.compiled import Compiled
from deploy.compiler import compile_spec
from deploy.cores import RING, CoreGraph
from deploy.emulator import EmulationError, Emulator
from deploy.energy import STATIC, Counts, EnergyError, core_counts, energy_text, estimate, part, static_power
from deploy.engine import LazyEngine
from deploy.traffic import compare

TINY, TINY4, NS1E = CHIPS["tiny"], CHIPS["tiny4"], CHIPS["ns1e"]


def compiled(chip: Chip = TINY4) -> Compiled:
    return compile_spec(SPECS["conv_net"](), chip, seed=2)


def lines_of(count: int) -> Any:
    return pictures(SPECS["conv_net"](), count).reshape(count, -1)


def bits_of(graph: CoreGraph) -> Any:
    """[C, N, A] set synapses, bit by bit."""
    words = graph.crossbar[graph.crossbar_of]
    axons = range(graph.shape[1])
    return np.stack([(words[:, a // 64] >> np.uint64(a % 64)) & np.uint64(1) for a in axons], axis=-1).astype(bool)


def scalar_events(graph: CoreGraph, lines: Any) -> tuple[Any, Any]:
    """(synaptic events [C], spikes [C, N]) of a run, axon by axon and tick by tick, on the definition of the chip."""
    engine, synapses = Emulator(graph), bits_of(graph)
    arriving: dict[int, set[tuple[int, int]]] = {}
    events, spikes = np.zeros(graph.shape[0]), np.zeros(graph.neuron_type.shape)
    for tick, row in enumerate(lines):
        for line in np.flatnonzero(row):
            for e in range(graph.input_start[line], graph.input_start[line + 1]):
                at = (int(graph.input_core[e]), int(graph.input_axon[e]))
                arriving.setdefault(tick + int(graph.input_delay[e]), set()).add(at)
        for core, axon in arriving.pop(tick, set()):
            events[core] += synapses[core, :, axon].sum()
        fired = engine.step(row)
        spikes += fired
        for core, neuron in np.argwhere(fired & (graph.target_core >= 0)):
            at = (int(graph.target_core[core, neuron]), int(graph.target_axon[core, neuron]))
            arriving.setdefault(tick + int(graph.delay[core, neuron]), set()).add(at)
    return events, spikes


@pytest.mark.parametrize("seed", range(4))
def test_synapses_of_axons_are_the_bits_of_their_rows(seed: int) -> None:
    graph = random_graph(seed)
    assert np.array_equal(synapses_of_axons(graph), bits_of(graph).sum(axis=1))


@pytest.mark.parametrize("seed", range(4))
def test_every_tick_is_counted_as_a_scalar_count_does(seed: int, kind: Any) -> None:
    graph = random_graph(seed)
    lines = np.random.default_rng(seed).random((2 * RING + 3, graph.n_inputs)) < 0.3
    found = record_ticks(kind(graph), lines)
    events, spikes = scalar_events(graph, lines)
    assert np.allclose(found.events * len(lines), events)
    assert np.allclose(found.spikes * len(lines), spikes)
    assert np.allclose(found.lines, lines.mean(axis=0))
    assert (found.ticks, found.measured, found.source) == (35, True, "35 ticks")


def test_a_held_picture_repeats_its_counts(kind: Any) -> None:
    made, lines = compiled(), lines_of(3)
    found = record_held(kind(made.graph), lines, made.latency_ticks)
    one_by_one = []
    for row in lines:
        wait = made.latency_ticks
        long, short = (scalar_events(made.graph, np.tile(row, (n, 1))) for n in (wait + 2, wait + 1))
        one_by_one.append([long[i] - short[i] for i in (0, 1)])
    assert np.allclose(found.events, np.mean([events for events, _ in one_by_one], axis=0))
    assert np.allclose(found.spikes, np.mean([spikes for _, spikes in one_by_one], axis=0))
    assert found.source == "3 held pictures"


def test_a_long_run_does_what_the_settled_ticks_do() -> None:
    made, lines = compiled(), lines_of(3)
    settled = record_held(LazyEngine(made.graph), lines, made.latency_ticks)
    # Round and round, each picture for as long as the others: from the second round on, a mean tick is the settled one.
    rounds = [record_ticks(LazyEngine(made.graph), np.tile(np.repeat(lines, 20, axis=0), (n, 1))) for n in (3, 2)]
    events = rounds[0].events * rounds[0].ticks - rounds[1].events * rounds[1].ticks
    assert np.allclose(events / 60, settled.events)


def test_nothing_does_more_than_every_neuron_firing() -> None:
    made = compiled()
    bound, found = every_neuron(made.graph), record_held(LazyEngine(made.graph), lines_of(5), made.latency_ticks)
    assert not bound.measured
    assert (found.events <= bound.events).all() and found.events.sum() < bound.events.sum()
    assert (found.spikes <= bound.spikes).all()
    used = made.graph.axon_type != CoreGraph.UNUSED_AXON
    assert bound.events.sum() == (synapses_of_axons(made.graph) * used).sum()


def test_what_can_not_be_counted_is_refused() -> None:
    made = compiled()
    with pytest.raises(
        EmulationError, match=r"^activity: found float64 \[2, 3\], allowed bool \[1 or more, \d+\]; give"
    ):
        record_held(Emulator(made.graph), np.zeros((2, 3)), 4)  # type: ignore[arg-type]
    with pytest.raises(EmulationError, match=r"^activity: found bool \[0, "):
        record_ticks(Emulator(made.graph), lines_of(1)[:0])
    keeps = one_neuron(np.zeros(2), 2, gamma=1, alpha=5)
    with pytest.raises(
        EmulationError, match=r"^record_held: found neurons that keep a potential, allowed none; record"
    ):
        record_held(Emulator(keeps), np.ones((1, 2), bool), 4)


def test_counts_of_the_cores_are_those_of_a_scalar_sum() -> None:
    made = compiled()
    found = record_held(LazyEngine(made.graph), lines_of(4), made.latency_ticks)
    counts, cells = core_counts(made.graph, TINY4, made.place, found), on_mesh(made.place, TINY4)
    for core in range(made.graph.shape[0]):
        hops = edges = 0.0
        for neuron in np.flatnonzero(made.graph.target_core[core] >= 0):
            target, spikes = made.graph.target_core[core, neuron], found.spikes[core, neuron]
            (ax, ay), (bx, by) = cells[core].tolist(), cells[target].tolist()
            hops += spikes * (abs(ax - bx) + abs(ay - by))
            edges += spikes * (abs(ax // 7 - bx // 7) + abs(ay // 9 - by // 9))
        assert np.allclose(counts[core], [found.events[core], found.spikes[core].sum(), hops, edges])
    placed = compare(made.graph, TINY4, made.place, found.spikes)[-1]
    assert np.allclose(counts[:, 2:].sum(axis=0), [placed.hops, placed.crossings])


def test_active_energy_equals_the_hand_calculation() -> None:
    counts = Counts(events=1e6, spikes=12_345.0, hops=2e5, crossings=300.0)
    assert math.isclose(counts.active_a(0.8), 2.297e-6)
    assert math.isclose(counts.active_a(1.0), 3.5890625e-6)
    assert math.isclose(counts.active_b(0.8), 1.48e-6 + 0.49e-6 + 0.2496e-6)
    assert math.isclose(counts.active_b(1.0), (1.48e-6 + 0.49e-6) * 1.5625 + 0.2496e-6)


@pytest.mark.parametrize(("voltage", "watts"), [(1.0, 0.0352), (0.8, 0.0157), (0.7, 0.01025)])
def test_static_power_is_that_of_the_cores_used(voltage: float, watts: float) -> None:
    assert math.isclose(static_power(1000, voltage), watts)
    assert STATIC[voltage].voltage == voltage


def test_a_voltage_without_a_published_figure_is_refused() -> None:
    with pytest.raises(EnergyError, match=r"^voltage: found 0.9, allowed 0.7, 0.8, 1; static power is published at"):
        static_power(10, 0.9)


def test_an_estimate_adds_up() -> None:
    made = compiled()
    found = record_held(LazyEngine(made.graph), lines_of(4), made.latency_ticks)
    args = (made.graph, TINY4, made.place, made.usage.stages, made.latency_ticks, found)
    e = estimate(*args, voltage=0.8)
    assert sum(p.cores for p in e.parts) == e.whole.cores == made.graph.shape[0]
    for name in ("events", "spikes", "hops", "crossings"):
        parts = sum(getattr(p.counts, name) for p in e.parts)
        assert math.isclose(parts, getattr(e.whole.counts, name)), name
    assert math.isclose(e.whole.counts.events, found.events.sum())
    assert math.isclose(e.whole.static_w, 112 * 15.7e-6)
    assert math.isclose(e.whole.active_a_w, 1000 * found.events.sum() * 2.297e-12)
    assert math.isclose(e.pass_a_j * 1000, e.whole.active_a_w)
    assert math.isclose(e.pass_b_j * 1000, e.whole.active_b_w)
    assert (e.total_a_w, e.total_b_w) == (e.whole.static_w + e.whole.active_a_w, e.whole.static_w + e.whole.active_b_w)
    assert 1 < e.chips == len({int(number) for number in made.place[:, 0]})
    assert math.isclose(e.static_all_cores_w, e.chips * 63 * 15.7e-6)
    assert [r.decisions_a_second for r in e.rates] == [30.0, 60.0]
    assert math.isclose(e.rates[0].static_j, e.whole.static_w / 30)
    assert math.isclose(e.rates[1].active_b_j, e.whole.active_b_w / 60)
    assert (e.latency_ticks, e.latency_s) == (made.latency_ticks, made.latency_ticks / 1000)
    fewer = estimate(*args[:3], made.usage.stages[:-1], *args[4:], voltage=0.8)
    assert fewer.parts[-1].name == "repeaters", "cores behind the last stage"
    assert (fewer.parts[-1].counts, fewer.whole) == (e.parts[-1].counts, e.whole)
    fast = estimate(*args, voltage=0.8, ticks_a_second=2000.0)
    assert math.isclose(fast.whole.active_a_w, 2 * e.whole.active_a_w)
    assert (fast.pass_a_j, fast.whole.static_w) == (e.pass_a_j, e.whole.static_w)


def test_an_estimate_is_json_and_says_what_it_rests_on() -> None:
    made = compiled()
    e = estimate(made.graph, TINY4, made.place, made.usage.stages, 7, every_neuron(made.graph), 1.0)
    facts = json.loads(json.dumps(e.as_dict))
    assert facts["constants"][0]["name"] == "static power a core"
    assert {k["voltage"] for k in facts["constants"]} == {1.0, 0.8, 1.8}
    assert facts["measured"] is False
    text = energy_text(e)
    assert "an upper bound" in text and "an estimate at 1 V" in text and "which is assumed" in text
    for constant in e.constants:
        assert constant.certainty in text
    assert "latency 7 ticks, 7.0 ms to the votes" in text
    mute = estimate(made.graph, TINY4, made.place, made.usage.stages, 0, every_neuron(made.graph), 1.0)
    assert "latency" not in energy_text(mute)


def test_events_are_never_priced_at_total_power_over_events() -> None:
    made = compiled()
    e = estimate(made.graph, TINY4, made.place, made.usage.stages, 7, every_neuron(made.graph), 1.0)
    assert all(k.value < 5e-12 for k in e.constants if "event" in k.name)


def test_the_published_one_chip_network_is_met_from_its_active_energy() -> None:
    # Esser et al. 2016: CIFAR10 on one chip, 4,042 cores, 1,249 frames/s at 1.0 V, 204.4 mW, 50 uJ active a frame.
    events = 50e-6 / (2.297e-12 * 1.5625)
    assert math.isclose(events, 14e6, rel_tol=0.02), "about a quarter of its 52 M synapses"
    per_core = np.tile([events / 4042, 0.0, 0.0, 0.0], (4042, 1))
    whole = part("all", per_core, 1.0, ticks_a_second=1249.0)
    assert math.isclose(whole.static_w, 0.142, rel_tol=0.01)
    assert math.isclose(whole.static_w + whole.active_a_w, 0.2044, rel_tol=0.25)


@pytest.mark.slow
@pytest.mark.ground_truth
@needs_networks
def test_the_published_network_with_random_weights_draws_more_for_it_fires_more() -> None:
    network = json.loads((DATA / "eedn_networks.json").read_text())["networks"][0]
    fields = ("features", "kernel", "stride", "pad", "groups")
    layers = [tuple(layer[field] for field in fields) for layer in network["layers"]]
    made = compile_spec(student(layers, (16, 3, 1, 1, 1), (3, 32, 32), (10,), seed=0), NS1E)
    lines = np.random.default_rng(1).random((5, made.graph.n_inputs)) < 0.5
    found = record_held(LazyEngine(made.graph), lines, made.latency_ticks)
    e = estimate(made.graph, NS1E, made.place, made.usage.stages, made.latency_ticks, found, 1.0, 1249.0)
    assert math.isclose(e.whole.static_w, 0.142, rel_tol=0.01)
    assert 1 < e.total_b_w / 0.2044 < e.total_a_w / 0.2044 < 1.25
    # Training with the sparsity cost lets about a quarter of the synapses see a spike; random weights let half.
    share = found.events.sum() / every_neuron(made.graph).events.sum()
    assert 0.4 < share < 0.6
    for total in (e.total_a_w, e.total_b_w):
        trained = e.whole.static_w + (total - e.whole.static_w) * 0.25 / share
        assert 0.9 < trained / 0.2044 < 1.0


def test_activity_shows_shapes_and_no_arrays() -> None:
    shown = repr(Activity(np.zeros((3, 4)), np.zeros(5), np.zeros(3), 6, "taped"))
    assert shown == "Activity(spikes float64 [3, 4], lines float64 [5], events float64 [3], ticks 6, source 'taped')"

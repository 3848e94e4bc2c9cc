"""Stochastic neurons: the published rules, our own draws, the same in every engine, and only where a seed asks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cases import equal_runs, one_neuron, random_graph, stream_of, tick_of_one_neuron, word_of
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.cores import CoreGraph, NeuronTypes
from deploy.emulator import EmulationError, Emulator, drawing_cores
from deploy.engine import memoryless_cores
from deploy.engines import ENGINES, Engine, record

NEURONS = st.fixed_dictionaries(
    {
        "leak": st.integers(-255, 255),
        "alpha": st.integers(0, 90),
        "beta": st.integers(0, 90),
        "gamma": st.integers(0, 2),
        "kappa": st.integers(0, 1),
        "epsilon": st.integers(0, 1),
        "reset": st.integers(-30, 30),
        "initial": st.integers(-90, 90),
        "random_weight": st.integers(0, 3),
        "random_leak": st.integers(0, 1),
        "random_mask": st.integers(0, 8),
    }
)
SEEDS = st.integers(0, (1 << 32) - 1)
WEIGHTS = st.tuples(st.integers(-300, 300), st.integers(-300, 300))


def alone(inputs: int = 1, **parameters: Any) -> CoreGraph:
    """One neuron on so many lines, all of axon type 0, in the last of three cores, whose seeds are equal."""
    graph = one_neuron(np.zeros(inputs), inputs, **parameters)
    three = {
        name: np.repeat(getattr(graph, name), 3, axis=0)
        for name in ("axon_type", "neuron_type", "target_core", "target_axon", "delay", "seed", "crossbar_of")
    }
    return replace(graph, **three, input_core=np.full(inputs, 2, np.int32))


def drawn(seed: int, own_seed: int, core: int, tick: int, use: int) -> int:
    return word_of(stream_of(seed, core, own_seed), tick, 0, use) >> 56


@settings(max_examples=80, deadline=None)
@given(
    NEURONS, WEIGHTS, st.booleans(), SEEDS, SEEDS, st.lists(st.tuples(*[st.booleans()] * 3), min_size=1, max_size=12)
)
def test_one_neuron_follows_the_scalar_rule(
    p: dict[str, int], weights: tuple[int, int], inclusive: bool, seed: int, own: int, inputs: list[Any]
) -> None:
    kinds = np.array([0, 1, 0])
    graph = one_neuron(kinds, 3, inclusive, weight=[weights], **p)
    graph = replace(graph, seed=np.array([own], np.uint32))
    engines: list[Engine] = [kind(graph, seed=seed) for kind in ENGINES.values()]
    v = p["initial"]
    for tick, lines in enumerate(inputs):
        total = 0
        for axon in np.flatnonzero(lines):
            s = weights[kinds[axon]]
            rho = drawn(seed, own, 0, tick, int(axon))
            total += int(np.sign(s)) * (abs(s) >= rho) if p["random_weight"] >> int(kinds[axon]) & 1 else s
        v, fires = tick_of_one_neuron(v, total, inclusive, p, lambda use, t=tick: drawn(seed, own, 0, t, use))
        for engine in engines:
            assert bool(engine.step(np.array(lines))[0, 0]) is fires
            assert int(engine.potential[0, 0]) == v


@pytest.mark.parametrize("seed", range(8))
def test_fast_equals_plain_on_random_graphs_spike_for_spike(seed: int, fast: Any) -> None:
    graph = random_graph(seed, stochastic=True)
    assert equal_runs(Emulator(graph, seed=seed), fast(graph, seed=seed), ticks=40, seed=seed + 200) > 0


def test_random_graphs_have_every_stochastic_part() -> None:
    graphs = [random_graph(seed, stochastic=True) for seed in range(8)]
    for name in ("random_weight", "random_leak", "random_mask"):
        used = {bool(getattr(g.types, name)[t - 1]) for g in graphs for t in np.unique(g.neuron_type) if t}
        assert used == {True, False}, name
    assert {bool(flag) for g in graphs for flag in drawing_cores(g)} == {True, False}
    assert not any((drawing_cores(g) & memoryless_cores(g)).any() for g in graphs)
    assert any(g.axon_type.max() == CoreGraph.UNUSED_AXON for g in graphs)


def test_a_stochastic_neuron_is_never_memoryless() -> None:
    for name in ("random_weight", "random_leak", "random_mask"):
        types = NeuronTypes.of(np.ones((2, 1)), np.zeros(2), **{name: [0, 1]})
        assert types.memoryless.tolist() == [True, False], name


def test_equal_seeds_give_equal_runs_and_others_differ(kind: Any) -> None:
    graph = random_graph(2, stochastic=True)
    lines = np.random.default_rng(1).random((25, graph.n_inputs)) < 0.5
    first, again, other = (record(kind(graph, seed=seed), lines).digest for seed in (4, 4, 5))
    assert first == again
    assert first != other
    own = replace(graph, seed=graph.seed + np.uint32(1))
    assert record(kind(own, seed=4), lines).digest != first, "the cores' own seeds count too"


def test_reset_begins_the_same_draws_again(kind: Any) -> None:
    graph = random_graph(2, stochastic=True)
    engine = kind(graph, seed=4)
    lines = np.random.default_rng(1).random((25, graph.n_inputs)) < 0.5
    first = record(engine, lines).digest
    engine.reset()
    assert record(engine, lines).digest == first


def test_a_seed_changes_nothing_where_nobody_draws(kind: Any) -> None:
    graph = random_graph(2)
    lines = np.random.default_rng(1).random((25, graph.n_inputs)) < 0.5
    assert record(kind(graph, seed=9), lines).digest == record(kind(graph), lines).digest


def test_cores_of_one_seed_draw_independently(kind: Any) -> None:
    """Three cores alike but for their place: a leak of 127 acts in half of the ticks, in each when it likes."""
    engine = kind(alone(leak=127, random_leak=1), seed=1)
    fired = np.array([engine.step(np.array([False]))[:, 0] for _ in range(400)]).astype(float)
    between = np.corrcoef(fired.T)[np.triu_indices(3, 1)]
    assert np.abs(between).max() < 0.25, "400 ticks: one standard deviation is .05"


@pytest.mark.parametrize("magnitude", [1, 63, 127, 254])
@pytest.mark.parametrize("part", ["synapse", "leak", "threshold"])
def test_a_part_acts_as_often_as_its_draws_say(kind: Any, part: str, magnitude: int) -> None:
    """(s + 1) / 256 for a weight or a leak of s, since s >= rho; the same for a potential that stays s."""
    graph = {
        "synapse": alone(weight=[[magnitude]], random_weight=1),
        "leak": alone(weight=[[0]], leak=magnitude, random_leak=1),
        "threshold": alone(weight=[[0]], initial=magnitude, alpha=0, gamma=2, random_mask=8),
    }[part]
    engine, ticks = kind(graph, seed=3), 1200
    hits = sum(int(engine.step(np.array([True]))[2, 0]) for _ in range(ticks))
    p = (magnitude + 1) / 256
    assert abs(hits - ticks * p) < 5 * np.sqrt(ticks * p * (1 - p)), "five standard deviations"


def test_255_always_acts_and_0_never(kind: Any) -> None:
    always, never = kind(alone(leak=255, random_leak=1), seed=1), kind(alone(weight=[[0]], random_weight=1), seed=1)
    for _ in range(600):
        assert always.step(np.array([True]))[2, 0]
        assert not never.step(np.array([True]))[2, 0]


def test_synapses_of_a_neuron_draw_one_by_one(kind: Any) -> None:
    """100 axons that act in half of the ticks: their sum spreads as independent draws do, not all or none."""
    graph = alone(100, weight=[[127]], random_weight=1, alpha=1 << 20, gamma=2, kappa=0, beta=1 << 20)
    engine, before, sums = kind(graph, seed=8), 0, []
    for _ in range(400):
        engine.step(np.ones(100, bool))
        after = int(engine.potential[2, 0])
        sums.append(after - before)
        before = after
    assert abs(np.mean(sums) - 50) < 1.25, "five standard deviations of the mean"
    assert 4 < np.std(sums) < 6.2, "5 is right"


@pytest.mark.parametrize("seed", [-1, 1 << 32])
def test_a_seed_out_of_range_is_refused(kind: Any, seed: int) -> None:
    with pytest.raises(EmulationError, match=rf"^seed: {seed}, allowed 0\.\.4294967295; give another$"):
        kind(alone(), seed=seed)


def test_cores_too_wide_to_draw_for_are_refused(kind: Any) -> None:
    graph = one_neuron(np.array([0]), 1, random_leak=1, leak=1)
    wide = {
        name: np.repeat(getattr(graph, name), 1025, axis=1)
        for name in ("neuron_type", "target_core", "target_axon", "delay")
    }
    graph = replace(graph, **wide, crossbar=np.repeat(graph.crossbar, 1025, axis=2))
    with pytest.raises(EmulationError, match=r"^graph: 1025 neurons a core, allowed 1024 with stochastic.*; split"):
        kind(graph, seed=0)

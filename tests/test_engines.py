"""The contract of everything that runs a core graph. The emulator is the definition, the others equal it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cases import equal_runs, one_neuron, random_graph, tick_of_one_neuron
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.cores import CoreGraph, NeuronTypes
from deploy.emulator import MAX_POTENTIAL, EmulationError, Emulator
from deploy.engine import memoryless_cores
from deploy.engines import ENGINES, Engine, record


def with_types(graph: CoreGraph, **columns: Any) -> CoreGraph:
    """The graph with other columns in its neuron table."""
    made = {name: np.asarray(value, getattr(graph.types, name).dtype) for name, value in columns.items()}
    return replace(graph, types=replace(graph.types, **made))


NEURONS = st.fixed_dictionaries(
    {
        "leak": st.integers(-4, 4),
        "alpha": st.integers(0, 6),
        "beta": st.integers(0, 6),
        "gamma": st.integers(0, 2),
        "kappa": st.integers(0, 1),
        "epsilon": st.integers(0, 1),
        "reset": st.integers(-3, 3),
        "initial": st.integers(-5, 5),
    }
)


@settings(max_examples=60, deadline=None)
@given(NEURONS, st.booleans(), st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_one_neuron_follows_the_scalar_rule(p: dict[str, int], inclusive: bool, inputs: list[Any]) -> None:
    weights = (3, -2)
    graph = one_neuron(np.array([0, 1]), 2, inclusive, weight=[weights], **p)
    engines: list[Engine] = [kind(graph) for kind in ENGINES.values()]
    v = p["initial"]
    for lines in inputs:
        total = sum(weight for weight, line in zip(weights, lines, strict=True) if line)
        v, fires = tick_of_one_neuron(v, total, inclusive, p)
        for engine in engines:
            assert bool(engine.step(np.array(lines))[0, 0]) is fires
            assert int(engine.potential[0, 0]) == v
            assert bool(engine.pins()[0]) is fires


@pytest.mark.parametrize("seed", range(12))
def test_fast_equals_plain_on_random_graphs_spike_for_spike(seed: int, fast: Any) -> None:
    graph = random_graph(seed)
    equal_runs(Emulator(graph), fast(graph), ticks=60, seed=seed + 100)


def test_random_graphs_have_what_they_claim() -> None:
    graphs = [random_graph(seed) for seed in range(12)]
    assert {bool(m) for g in graphs for m in memoryless_cores(g)} == {True, False}
    assert {g.negative_inclusive for g in graphs} == {True, False}
    assert any((g.target_core == np.arange(len(g.target_core))[:, None]).any() for g in graphs)
    assert {int(d) for g in graphs for d in np.unique(g.delay)} == set(range(16))


def test_hold_equals_steps(kind: Any) -> None:
    graph = random_graph(7)
    held, stepped = kind(graph), kind(graph)
    lines = np.random.default_rng(1).random(graph.n_inputs) < 0.5
    held.hold(lines, 13)
    for _ in range(13):
        stepped.step(lines)
    assert np.array_equal(held.fired, stepped.fired)
    assert held.tick == stepped.tick == 13


def test_reset_forgets_everything(kind: Any) -> None:
    graph = random_graph(3)
    lines = np.random.default_rng(2).random((40, graph.n_inputs)) < 0.5
    engine = kind(graph)
    first = record(engine, lines)
    engine.reset()
    assert engine.tick == 0
    assert record(engine, lines).digest == first.digest
    assert record(engine, lines).digest != first.digest, "without a reset the past still counts"


def test_a_trace_lists_every_spike(kind: Any) -> None:
    graph = one_neuron(np.array([0]), 1)
    trace = record(kind(graph), np.array([[True], [False], [True]]))
    assert trace.tick.tolist() == [0, 2]
    assert trace.core.tolist() == [0, 0]
    assert trace.neuron.tolist() == [0, 0]
    assert repr(trace) == "Trace(tick int32 [2], core int32 [2], neuron int32 [2])"


def test_blank_is_not_silence(kind: Any) -> None:
    engine = kind(one_neuron(np.array([0]), 1, leak=1))
    assert engine.step(np.array([False]))[0, 0]
    assert engine.step(np.array([False]))[0, 0]


def test_an_input_delay_postpones_the_line(kind: Any) -> None:
    graph = one_neuron(np.array([0]), 1)
    engine = kind(replace(graph, input_delay=np.array([15], np.uint8)))
    fired = [bool(engine.step(np.array([tick == 0]))[0, 0]) for tick in range(34)]
    assert [tick for tick, fire in enumerate(fired) if fire] == [15]


@pytest.mark.parametrize("delay", [1, 2, 15])
def test_a_spike_is_integrated_after_its_delay(kind: Any, delay: int) -> None:
    graph = one_neuron(np.array([0, 0]), 2)
    loop = replace(
        graph,
        target_core=np.zeros((1, 1), np.int32),
        target_axon=np.ones((1, 1), np.uint8),
        delay=np.full((1, 1), delay, np.uint8),
    )
    engine = kind(loop)
    fired = [bool(engine.step(np.array([tick == 0, False]))[0, 0]) for tick in range(40)]
    assert [tick for tick, fire in enumerate(fired) if fire] == list(range(0, 40, delay))


def test_spikes_that_meet_on_an_axon_count_once(kind: Any) -> None:
    graph = one_neuron(np.array([0]), 1, alpha=2)
    twice = replace(
        graph,
        input_start=np.array([0, 1, 2], np.int32),
        input_core=np.zeros(2, np.int32),
        input_axon=np.zeros(2, np.uint8),
        input_delay=np.zeros(2, np.uint8),
    )
    assert not kind(twice).step(np.array([True, True]))[0, 0]


@pytest.mark.parametrize(("flag", "value"), [("random_weight", 1), ("random_leak", 1), ("random_mask", 3)])
def test_stochastic_neurons_are_refused(kind: Any, flag: str, value: int) -> None:
    graph = with_types(one_neuron(np.array([0]), 1), **{flag: [value]})
    with pytest.raises(EmulationError, match=r"^neuron type 1: stochastic flags set.*; only deterministic.*clear"):
        kind(graph)


def test_a_stochastic_type_that_no_neuron_has_is_no_obstacle(kind: Any) -> None:
    graph = with_types(one_neuron(np.array([0]), 1), random_leak=[1])
    kind(replace(graph, neuron_type=np.zeros((1, 1), np.uint16))).step(np.array([True]))


@pytest.mark.parametrize("lines", [np.zeros(2, bool), np.zeros(1, np.uint8)], ids=["too many", "no bool"])
def test_wrong_input_is_refused(kind: Any, lines: np.ndarray[Any, Any]) -> None:
    with pytest.raises(EmulationError, match=r"^input: \w+ \[\d\], must be bool \[1\]; give one value a line$"):
        kind(one_neuron(np.array([0]), 1)).step(lines)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_potential_out_of_range_is_refused_in_its_tick(kind: Any, sign: int) -> None:
    graph = one_neuron(np.array([0]), 1, leak=200 * sign, alpha=1 << 20, beta=1 << 20, gamma=2, kappa=0)
    engine = kind(graph)
    last = MAX_POTENTIAL // 200
    engine.hold(np.array([False]), last)
    assert engine.potential[0, 0] == 200 * sign * last
    with pytest.raises(EmulationError, match=rf"^tick {last}, core 0, neuron 0: potential beyond \+-393215; use a"):
        engine.hold(np.array([False]), 5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 2), st.integers(9, 15))
def test_graphs_that_overflow_do_so_in_the_same_tick_and_neuron_everywhere(seed: int, gamma: int, bits: int) -> None:
    """20 bits: no engine wraps, clamps or goes on. Imported graphs are not bounded by the compiler."""
    graph = random_graph(seed, cores=4, axons=21, neurons=23)
    rng, kinds = np.random.default_rng(seed), len(graph.types.leak)
    wide = rng.integers(-(1 << bits), 1 << bits, graph.types.weight.shape)
    graph = with_types(
        graph, weight=wide, gamma=np.full(kinds, gamma), beta=np.full(kinds, 1 << 17), kappa=np.zeros(kinds)
    )
    lines = rng.random((40, graph.n_inputs)) < 0.5
    ends = [_until_it_overflows(kind(graph), lines) for kind in ENGINES.values()]
    assert ends[0] == ends[1] == ends[2]


def _until_it_overflows(engine: Engine, lines: np.ndarray[Any, Any]) -> tuple[int, str, bytes]:
    """(ticks done, how it ended, every spike until then)"""
    spikes = b""
    for tick, row in enumerate(lines):
        try:
            spikes += engine.step(row).tobytes()
        except EmulationError as error:
            return tick, str(error), spikes
        assert np.abs(engine.potential).max() <= MAX_POTENTIAL + (1 << 18), "after a reset by 18 bits at most"
    return len(lines), "within 20 bits", spikes


def test_many_ticks_at_once_are_the_ticks_one_by_one(kind: Any) -> None:
    graph = random_graph(5, neurons=130)
    rng = np.random.default_rng(1)
    one, many, lines = kind(graph), kind(graph), rng.random((17, graph.n_inputs)) < 0.4
    for engine in (one, many):
        engine.hold(lines[0], 3)
    expected = np.stack([one.step(row) for row in lines])
    found = many.spikes(lines)
    assert (found.dtype, found.shape) == (np.uint64, (17, 5, 3))
    bits = np.unpackbits(found.view(np.uint8), axis=2, count=130, bitorder="little").astype(bool)
    assert np.array_equal(bits, expected) and expected.any(axis=(1, 2)).all()
    assert many.tick == one.tick == 20 and np.array_equal(many.potential, one.potential)
    assert np.array_equal(many.fired, one.fired) and np.array_equal(many.pins(), one.pins())
    assert many.spikes(lines[:0]).shape == (0, 5, 3) and many.tick == 20
    assert np.array_equal(many.spikes(np.asfortranarray(lines)), one.spikes(lines))
    message = rf"^input: uint8 \[17, {graph.n_inputs}\], must be bool \[T, {graph.n_inputs}\]; give one value a line$"
    with pytest.raises(EmulationError, match=message):
        many.spikes(lines.astype(np.uint8))


def test_a_potential_out_of_range_is_refused_in_its_tick_of_many(kind: Any) -> None:
    graph = one_neuron(np.array([0]), 1, leak=200, alpha=1 << 20, gamma=2)
    with pytest.raises(EmulationError, match=rf"^tick {MAX_POTENTIAL // 200}, core 0, neuron 0: potential beyond"):
        kind(graph).spikes(np.zeros((2000, 1), bool))


def test_a_long_record_is_that_of_its_parts(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph(7)
    lines = np.random.default_rng(1).random((23, graph.n_inputs)) < 0.4
    whole = record(kind(graph), lines)
    monkeypatch.setattr("deploy.engines.AT_ONCE", 5 * 71 * 4)  # four ticks
    assert record(kind(graph), lines).digest == whole.digest
    assert record(kind(graph), lines[:0]).tick.shape == (0,) and whole.tick.max() == 22


def test_wide_weights_are_watched_even_without_memory(kind: Any) -> None:
    inputs = 13
    graph = one_neuron(np.zeros(inputs), inputs, weight=[[32_000]])
    engine = kind(graph)
    assert engine.step(np.arange(inputs) < 12)[0, 0]
    with pytest.raises(EmulationError, match=r"^tick 1, core 0, neuron 0: potential beyond"):
        engine.step(np.ones(inputs, bool))


def test_memoryless_is_exactly_the_rule() -> None:
    same = {"weight": np.ones((9, 1)), "leak": np.arange(9)}
    alpha, beta, gamma = np.ones(9, int), np.zeros(9, int), np.zeros(9, int)
    alpha[1], beta[2], gamma[3] = 2, 1, 1
    columns = {name: np.zeros(9, int) for name in ("reset", "initial", "epsilon", "random_leak", "kappa")}
    for row, name in enumerate(columns, start=4):
        columns[name][row] = 1
    types = NeuronTypes.of(**same, alpha=alpha, beta=beta, gamma=gamma, **columns)
    assert types.memoryless.tolist() == [True, *[False] * 7, True]

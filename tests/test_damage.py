"""Broken neurons, axons and routes: what they do, in every engine alike, and what is not broken goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cases import SPECS, equal_runs, one_neuron, pictures, random_graph, stream_of, word_of
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.chance import DROP
from deploy.chip import chip_named
from deploy.compiler import compile_spec
from deploy.cores import CoreGraph
from deploy.damage import SILENT, STUCK, WHOLE, Damage, no_damage, random_damage
from deploy.emulator import EmulationError, Emulator
from deploy.engines import ENGINES, record
from deploy.runner import ChipRunner

SHARES = st.sampled_from([0.0, 0.1, 0.4])


def some(graph: CoreGraph, **shares: Any) -> Damage:
    return random_damage(graph, **{"neurons": 0.1, "silent": 0.1, "stuck": 0.1, "lost": 0.2} | shares)


def relay(lines: int = 2) -> CoreGraph:
    """A neuron that fires where any of its lines does, and drives pin 0."""
    return one_neuron(np.zeros(lines), lines)


def spikes(engine: Any, lines: list[list[int]]) -> list[int]:
    return [int(engine.step(np.array(row, bool))[0, 0]) for row in lines]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), SHARES, SHARES, SHARES, SHARES, st.booleans())
def test_engines_agree_on_damaged_graphs_spike_for_spike(
    seed: int, neurons: float, silent: float, stuck: float, lost: float, stochastic: bool
) -> None:
    graph = random_graph(seed, stochastic=stochastic)
    damage = random_damage(graph, 0.1, neurons, silent, stuck, lost, seed=seed)
    for name, kind in ENGINES.items():
        if name != "plain":
            plain, other = Emulator(graph, seed=seed, damage=damage), kind(graph, seed=seed, damage=damage)
            equal_runs(plain, other, ticks=25, seed=seed + 300)


def test_no_damage_changes_nothing(kind: Any) -> None:
    graph = random_graph(6)
    equal_runs(Emulator(graph), kind(graph, damage=no_damage(graph)), ticks=30, seed=1)


@pytest.mark.parametrize("what", ["cores", "neurons", "silent", "stuck", "lost"])
def test_each_kind_of_damage_shows(kind: Any, what: str) -> None:
    graph = random_graph(4)
    lines = np.random.default_rng(3).random((30, graph.n_inputs)) < 0.5
    whole, broken = kind(graph), kind(graph, damage=random_damage(graph, **{what: 0.3}, seed=5))
    assert record(whole, lines).digest != record(broken, lines).digest


def test_a_dead_neuron_never_fires_and_keeps_its_initial_potential(kind: Any) -> None:
    graph = one_neuron(np.array([0]), 1, initial=7, leak=3, alpha=2)
    dead = replace(no_damage(graph), dead=np.ones((1, 1), bool))
    engine = kind(graph, damage=dead)
    for _ in range(5):
        assert not engine.step(np.array([True])).any()
        assert not engine.pins().any()
        assert engine.potential[0, 0] == 7
    assert kind(graph).step(np.array([True]))[0, 0]


def test_a_silent_axon_carries_nothing_and_the_others_work(kind: Any) -> None:
    graph = relay()
    damage = replace(no_damage(graph), axon=np.array([[SILENT, WHOLE]], np.uint8))
    assert spikes(kind(graph, damage=damage), [[1, 0], [0, 1], [1, 1], [0, 0], [1, 0]]) == [0, 1, 1, 0, 0]


def test_a_stuck_axon_carries_a_spike_in_every_tick(kind: Any) -> None:
    graph = one_neuron(np.zeros(2), 2, leak=-1)
    damage = replace(no_damage(graph), axon=np.array([[STUCK, WHOLE]], np.uint8))
    assert spikes(kind(graph, damage=damage), [[0, 0], [0, 1], [1, 0], [1, 1]]) == [0, 1, 0, 1]


def test_a_stuck_axon_without_a_type_reaches_nobody(kind: Any) -> None:
    graph = replace(relay(), axon_type=np.array([[CoreGraph.UNUSED_AXON, 0]], np.uint8))
    damage = replace(no_damage(graph), axon=np.array([[STUCK, WHOLE]], np.uint8))
    assert spikes(kind(graph, damage=damage), [[0, 0], [0, 1], [1, 0]]) == [0, 1, 0]


def lossy(graph: CoreGraph, lost: float, seed: int = 0) -> Damage:
    return replace(no_damage(graph), lost=lost, seed=seed)


def test_lost_spikes_were_fired_and_are_missing_at_the_pins(kind: Any) -> None:
    """Each as the plain draws say."""
    graph = replace(relay(1), seed=np.array([77], np.uint32))
    engine, arrived = kind(graph, damage=lossy(graph, 0.3, seed=12)), []
    for tick in range(300):
        assert engine.step(np.array([True]))[0, 0], "it fires whatever becomes of its spike"
        assert engine.spikes_per_core[0] == 1
        arrived.append(bool(engine.pins()[0]))
        assert arrived[-1] is (word_of(stream_of(12, 0, 77), tick, 0, DROP) >> 32 >= round(0.3 * (1 << 32)))
    assert 0.6 < np.mean(arrived) < 0.8


def test_spikes_are_lost_on_the_way_to_an_axon(kind: Any) -> None:
    """Neuron 0 fires in every tick at neuron 1, with a delay of 3, both without memory."""
    graph = one_neuron(np.zeros(2), 2)
    two = {name: np.repeat(getattr(graph, name), 2, axis=1) for name in ("neuron_type", "target_core", "target_axon")}
    two["target_core"][0, 0], two["target_axon"][0, 0] = 0, 1
    crossbar = np.array([[[1, 2]]], np.uint64)
    pair = replace(graph, **two, crossbar=crossbar, delay=np.array([[3, 1]], np.uint8))
    engine, ticks = kind(pair, damage=lossy(pair, 0.5, seed=1)), 200
    fired = np.array([engine.step(np.array([True, False]))[0] for _ in range(ticks)])
    kept = [word_of(stream_of(1, 0, 0), tick, 0, DROP) >> 32 >= 1 << 31 for tick in range(ticks)]
    assert fired[:, 0].all()
    assert fired[:, 1].tolist() == [False] * 3 + kept[: ticks - 3]
    assert 60 < sum(kept) < 140


def test_inputs_are_not_lost_and_nothing_comes_through_where_all_is(kind: Any) -> None:
    graph = relay(1)
    engine = kind(graph, damage=lossy(graph, 1.0))
    for _ in range(20):
        assert engine.step(np.array([True]))[0, 0]
        assert not engine.pins().any()


def test_losses_of_one_seed_are_equal_and_of_another_differ(kind: Any) -> None:
    graph = random_graph(4)
    lines = np.random.default_rng(3).random((30, graph.n_inputs)) < 0.5
    first, again, other = (record(kind(graph, damage=lossy(graph, 0.2, seed=s)), lines).digest for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_hold_equals_steps_where_spikes_are_lost(kind: Any) -> None:
    graph = random_graph(8)
    lines = np.random.default_rng(1).random(graph.n_inputs) < 0.5
    held, stepped = (kind(graph, damage=some(graph)) for _ in range(2))
    held.hold(lines, 17)
    for _ in range(17):
        stepped.step(lines)
    assert np.array_equal(held.fired, stepped.fired)
    assert np.array_equal(held.pins(), stepped.pins())


def test_reset_begins_the_same_damaged_run_again(kind: Any) -> None:
    graph = random_graph(8)
    engine = kind(graph, damage=some(graph))
    lines = np.random.default_rng(2).random((30, graph.n_inputs)) < 0.5
    first = record(engine, lines).digest
    engine.reset()
    assert record(engine, lines).digest == first


def test_a_compiled_student_answers_until_its_chip_breaks(kind: Any) -> None:
    spec = SPECS["conv_net"]()
    compiled = compile_spec(spec, chip_named("tiny"))
    shown = pictures(spec, 4)

    def answers(neurons: float) -> Any:
        damage = random_damage(compiled.graph, neurons=neurons, seed=3)
        return ChipRunner(compiled, lambda graph: kind(graph, damage=damage)).answers(shown)

    assert np.array_equal(answers(0.0), spec.run(shown))
    assert not np.array_equal(answers(0.1), spec.run(shown))
    assert not answers(1.0).any()


@pytest.mark.parametrize("what", ["cores", "neurons", "silent", "stuck"])
def test_more_damage_breaks_the_same_parts_and_others(what: str) -> None:
    graph = random_graph(1, cores=40)
    few, many = (random_damage(graph, **{what: share}, seed=3) for share in (0.2, 0.5))
    assert (many.dead | ~few.dead).all()
    assert ((many.axon == few.axon) | (few.axon == WHOLE)).all()
    share = {"cores": many.dead.all(axis=1).mean(), "neurons": many.dead.mean()}.get(what, (many.axon > 0).mean())
    assert 0.25 < share < 0.75


def test_damage_of_one_seed_is_equal_and_of_another_differs() -> None:
    graph = random_graph(1)
    first, again, other = (some(graph, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.dead, again.dead) and np.array_equal(first.axon, again.axon)
    assert not np.array_equal(first.dead, other.dead) and not np.array_equal(first.axon, other.axon)


def test_damage_of_another_chip_is_refused_with_all_that_is_wrong(kind: Any) -> None:
    wrong = no_damage(random_graph(1))
    message = (
        r"^damage\.dead: shape \[5, 71\], must be \[1, 1\]; make it for this graph\n"
        r"damage\.axon: shape \[5, 67\], must be \[1, 2\]; make it for this graph$"
    )
    with pytest.raises(EmulationError, match=message):
        kind(relay(), damage=wrong)


@pytest.mark.parametrize("lost", [-0.1, 1.1, float("nan")])
def test_a_share_of_losses_beyond_0_to_1_is_refused(lost: float) -> None:
    with pytest.raises(ValueError, match=rf"^damage\.lost: {lost}, allowed 0\.\.1$"):
        lossy(relay(), lost)


@pytest.mark.parametrize("seed", [-1, 1 << 32])
def test_a_seed_of_losses_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=rf"^damage\.seed: {seed}, allowed 0\.\.4294967295$"):
        lossy(relay(), 0.1, seed)


def test_an_unknown_fault_of_an_axon_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^damage\.axon: values 0\.\.3, allowed 0\.\.2$"):
        replace(no_damage(relay()), axon=np.array([[0, 3]], np.uint8))


def test_damage_shows_its_shapes_and_no_contents() -> None:
    assert repr(no_damage(relay())) == "Damage(dead bool [1, 1], axon uint8 [1, 2], lost 0.0, seed 0)"

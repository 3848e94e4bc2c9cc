"""Spikes that must go farther than a packet travels are repeated on the way, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from cases import SPECS, pictures, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.cells import curve_cells, on_chips, on_mesh, row_major_cells
from deploy.checks import compiled_violations, graph_violations, reach_violations
from deploy.chip import CHIPS, Chip, CompileError
from deploy.compiled import Compiled
from deploy.compiler import compile_spec
from deploy.cores import CoreGraph, NeuronTypes, graph_arrays
from deploy.emulator import Emulator
from deploy.engine import LazyEngine
from deploy.repeat import Repeated, far_spikes, repeat
from deploy.verification import first_difference

TINY4 = CHIPS["tiny4"]
WIDE = replace(TINY4, name="wide", width=9, height=11)


@cache
def compiled(name: str = "conv_net") -> Compiled:
    return compile_spec(SPECS[name](), CHIPS["tiny4"] if name != "conv_net" else WIDE, seed=1)


def scattered(made: Compiled, seed: int) -> Any:
    """Places at random on the wide board, where many targets are out of reach."""
    cells = row_major_cells(WIDE)[np.random.default_rng(seed).permutation(WIDE.cores)[: made.graph.shape[0]]]
    return on_chips(cells, WIDE)


def votes(graph: CoreGraph, bits: Any, ticks: int, answers: int, engine: Any = LazyEngine) -> Any:
    """[B, answers] after each picture was held for so many ticks."""
    runs, counted = engine(graph), []
    for row in bits.reshape(len(bits), -1):
        runs.hold(row, ticks)
        said = graph.output_answer[runs.pins()]
        counted.append(np.bincount(said[said >= 0], minlength=answers))
    return np.array(counted)


@pytest.mark.parametrize(("name", "reach"), [("conv_net", 16), ("conv_net", 11), ("two_heads", 9), ("one_layer", 7)])
def test_the_votes_are_the_same_one_tick_later_for_each_repeated_stage(name: str, reach: int) -> None:
    spec, made, chip = SPECS[name](), compiled(name), replace(WIDE, reach=reach)
    placed = scattered(made, seed=5)
    assert len(far_spikes(made.graph, placed, chip)) > 0
    found = repeat(made.graph, made.level, placed, chip)
    latency = int(found.shifted[made.layer_levels[-1]]) + 1
    assert latency > made.latency_ticks
    bits = pictures(spec, 5)
    assert np.array_equal(votes(found.graph, bits, latency, made.n_answers), spec.run(bits))
    assert np.array_equal(votes(found.graph, bits, latency, made.n_answers, Emulator), spec.run(bits))
    early = votes(found.graph, bits, latency - 1, made.n_answers)
    assert not np.array_equal(early, spec.run(bits)), "the votes of a picture are not out a tick before"


def test_a_picture_may_enter_in_every_tick() -> None:
    spec, made = SPECS["conv_net"](), compiled()
    found = repeat(made.graph, made.level, scattered(made, 3), replace(WIDE, reach=12))
    bits, wait = pictures(spec, 6), int(found.shifted[made.layer_levels[-1]])
    engine, counted = Emulator(found.graph), []
    for tick in range(len(bits) + wait):
        engine.step(bits[min(tick, 5)].reshape(-1))
        said = found.graph.output_answer[engine.pins()]
        counted.append(np.bincount(said[said >= 0], minlength=made.n_answers))
    assert np.array_equal(counted[wait:], spec.run(bits))


def check(made: Compiled, found: Repeated, chip: Chip) -> None:
    """Everything that a placed graph of ours must be."""
    assert not len(far_spikes(found.graph, found.place, chip))
    assert not [*reach_violations(found.graph, found.place, chip)]
    assert not [*graph_violations(found.graph, chip), *compiled_violations(found.graph, found.level)]
    old = made.graph.shape[0]
    assert found.graph.shape[0] == old + found.repeaters == len(found.level) == len(found.place)
    assert len(np.unique(found.place, axis=0)) == len(found.place)
    assert np.array_equal(found.level[:old], found.shifted[made.level])
    assert (np.diff(found.shifted) >= 1).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(10, 21))
def test_whatever_is_repeated_is_legal(seed: int, reach: int) -> None:
    made, chip = compiled(), replace(WIDE, reach=reach, max_delay=15)
    placed = scattered(made, seed)
    found = repeat(made.graph, made.level, placed, chip)
    assert np.array_equal(found.place[: len(placed)], placed), "places stay"
    check(made, found, chip)


def test_far_targets_take_as_many_relays_as_the_way_needs() -> None:
    made, chip = compiled("one_layer"), Chip("row", 40, 4, 70, 44, axon_types=3, max_delay=9, reach=10)
    cells = np.zeros((made.graph.shape[0], 2), np.int32)
    cells[:, 0] = np.linspace(0, 39, len(cells))
    far_apart = on_chips(cells, chip)
    found = repeat(made.graph, made.level, far_apart, chip)
    check(made, found, chip)
    # 39 cells in steps of at most 10 need three relays one behind another, hence three ticks more.
    assert found.shifted[-1] - (len(found.shifted) - 1) == 3


def test_near_graphs_come_back_as_they_are() -> None:
    made = compiled()
    found = repeat(made.graph, made.level, scattered(made, 3), replace(WIDE, reach=22))
    assert found.graph is made.graph
    assert (found.repeaters, found.shifted.tolist()) == (0, list(range(made.latency_ticks)))


def test_equal_arguments_give_equal_repeaters() -> None:
    made, chip = compiled(), replace(WIDE, reach=9)
    first, again, other = (repeat(made.graph, made.level, scattered(made, seed), chip) for seed in (1, 1, 2))
    assert first.graph.digest == again.graph.digest != other.graph.digest
    assert np.array_equal(first.place, again.place)


def test_repeaters_leave_forbidden_cells_free() -> None:
    made, chip = compiled(), replace(WIDE, reach=9)
    forbidden = np.random.default_rng(1).random(chip.mesh) < 0.5
    found = repeat(made.graph, made.level, scattered(made, 4), chip, forbidden)
    old = made.graph.shape[0]
    x, y = on_mesh(found.place, chip)[old:].T
    assert found.repeaters > 0 and not forbidden[x, y].any()


def test_a_table_without_a_relay_gets_one() -> None:
    made, chip = compiled(), replace(WIDE, reach=9)
    kinds = made.graph.types
    # The relay's number, 1, stays in use: its splitters read axons of type 0 alone.
    weight = kinds.weight.copy()
    weight[0] = (1, 0, 0)
    changed = NeuronTypes(**{**vars(kinds), "weight": weight})
    found = repeat(replace(made.graph, types=changed), made.level, scattered(made, 3), chip)
    assert len(found.graph.types.leak) == len(kinds.leak) + 1
    assert found.graph.types.weight[-1].tolist() == [1, 1, 1]
    bits, spec = pictures(SPECS["conv_net"](), 3), SPECS["conv_net"]()
    latency = int(found.shifted[made.layer_levels[-1]]) + 1
    assert np.array_equal(votes(found.graph, bits, latency, made.n_answers), spec.run(bits))


def test_only_what_must_change_does() -> None:
    made, chip = compiled(), replace(WIDE, reach=14)
    placed = scattered(made, 3)
    found, old = repeat(made.graph, made.level, placed, chip), made.graph.shape[0]
    far = far_spikes(made.graph, placed, chip)
    moved = np.argwhere(found.graph.target_core[:old] != made.graph.target_core)
    assert np.array_equal(moved, far), "near spikes keep their targets"
    for name, array in graph_arrays(found.graph).items():
        if name in ("neuron_type", "axon_type", "seed", "crossbar_of"):
            assert np.array_equal(array[:old], graph_arrays(made.graph)[name]), name
    assert found.repeaters <= len(far)


def test_far_means_beyond_reach_in_x_or_in_y() -> None:
    made = compiled()
    placed, chip = scattered(made, 3), replace(WIDE, reach=13)
    cells = on_mesh(placed, chip)
    expected = [
        (core, neuron)
        for core, neuron in np.argwhere(made.graph.target_core >= 0).tolist()
        if np.abs(cells[core] - cells[made.graph.target_core[core, neuron]]).max() > 13
    ]
    assert list(map(tuple, far_spikes(made.graph, placed, chip).tolist())) == expected


def test_what_can_not_be_repeated_is_refused() -> None:
    made = compiled()
    placed, chip = scattered(made, 3), replace(WIDE, reach=12)
    imported = random_graph(1, cores=8)
    apart = on_chips(curve_cells(WIDE)[np.linspace(0, WIDE.cores - 1, 8).astype(int)], WIDE)
    with pytest.raises(CompileError, match=r"^repeat: found imported graph, allowed compiled; place it within reach$"):
        repeat(imported, np.zeros(8, np.int32), apart, chip)
    full = np.ones(WIDE.mesh, bool)
    with pytest.raises(
        CompileError, match=r"^repeat: no free cell on the way from \(\d+, \d+\) to .*, allowed up to 12"
    ):
        repeat(made.graph, made.level, placed, chip, full)
    with pytest.raises(CompileError, match=r"core \d+, neuron \d+: delay 2 with repeaters, allowed 1..1; try another"):
        repeat(made.graph, made.level, placed, replace(chip, max_delay=1))


def test_inputs_that_would_enter_too_late_are_refused() -> None:
    made, chip = compiled(), replace(WIDE, reach=14)
    level = made.level + 9
    last = int(np.argmax(level))
    core = made.graph.input_core.copy()
    core[-1] = last  # a line that enters on the last level, as lines of an imported student may
    graph = replace(made.graph, input_core=core, input_delay=level[core].astype(np.uint8))
    assert graph.input_delay.max() == 14
    with pytest.raises(
        CompileError, match=r"^repeat: an input enters at level \d+ with repeaters, allowed up to 15; try"
    ):
        repeat(graph, level, scattered(made, 3), chip)


@pytest.mark.parametrize(("reduce", "reach"), [(False, 6), (False, 11), (True, 4)])
def test_the_compiler_repeats_what_its_places_leave_out_of_reach(reduce: bool, reach: int) -> None:
    spec, chip = SPECS["conv_net"](), replace(WIDE, reach=reach)
    made, near = compile_spec(spec, chip, seed=1, reduce=reduce), compile_spec(spec, WIDE, seed=1, reduce=reduce)
    added = made.graph.shape[0] - near.graph.shape[0]
    assert added == made.usage.total["repeater cores"][0] > 0
    assert "repeater cores" not in near.usage.total
    assert made.usage.stages[-1].name == "repeaters"
    assert made.usage.stages[-1].cores == added
    assert made.latency_ticks > near.latency_ticks
    assert first_difference(spec, made, pictures(spec, 6)) is None

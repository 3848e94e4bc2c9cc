"""Whole batches and waves through a compiled chip give the votes that holding each picture gives."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from cases import SPECS, pictures
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.adders import EIGHT, FLIP, NOWHERE
from deploy.batch import TOGETHER, BatchRunner, _column
from deploy.chip import chip_named
from deploy.compiled import Compiled
from deploy.compiler import compile_spec
from deploy.cores import CoreGraph, NeuronTypes
from deploy.emulator import EmulationError
from deploy.levels import check_levels
from deploy.runner import ChipRunner
from deploy.wave import Wave, WaveRunner


@cache
def chip(name: str) -> Compiled:
    return compile_spec(SPECS[name](), chip_named("tiny"))


def held(compiled: Compiled, bits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    runner = ChipRunner(compiled)
    return np.stack([runner.answer(picture) for picture in bits])


def with_graph(compiled: Compiled, **changes: Any) -> Compiled:
    return replace(compiled, graph=replace(compiled.graph, **changes))


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("count", [2, 67])
def test_a_batch_equals_single_pictures(name: str, count: int) -> None:
    bits = pictures(SPECS[name](), count)
    votes = BatchRunner(chip(name)).answers(bits)
    assert votes.dtype == np.int32
    assert np.array_equal(votes, held(chip(name), bits))
    assert not np.array_equal(votes, held(chip(name), pictures(SPECS[name](), count, seed=9)))


@pytest.mark.parametrize("count", [0, TOGETHER, TOGETHER + 1])
def test_batches_of_any_size_are_taken(count: int) -> None:
    bits = pictures(SPECS["two_heads"](), TOGETHER + 3)[:count]
    one, two = (BatchRunner(chip("two_heads"), threads).answers(bits) for threads in (1, 2))
    assert one.shape == (count, chip("two_heads").n_answers)
    assert np.array_equal(one, two)
    for index in range(0, count, 60):
        assert np.array_equal(one[index], held(chip("two_heads"), bits[index : index + 1])[0])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_any_weights_and_leaks_in_the_cores_tables_are_followed(seed: int) -> None:
    """More than a compiler would write: the batch reads crossbars, types and leaks, not the spec."""
    rng = np.random.default_rng(seed)
    compiled = chip("one_layer")
    kinds, axon_types = compiled.graph.types.weight.shape
    types = NeuronTypes.of(
        rng.integers(-300, 301, (kinds, axon_types)) >> rng.integers(0, 9), rng.integers(-255, 256, kinds)
    )
    bits = rng.integers(0, 1 << 63, compiled.graph.crossbar.shape, np.uint64)
    other = with_graph(compiled, types=types, crossbar=bits, origin="imported")
    shown = pictures(SPECS["one_layer"](), 5, seed)
    assert np.array_equal(BatchRunner(other).answers(shown), held(other, shown))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", SPECS)
def test_a_wave_equals_a_held_picture_in_votes_and_spikes(name: str, threads: int) -> None:
    wave, runner = WaveRunner(chip(name), threads), ChipRunner(chip(name))
    for picture in pictures(SPECS[name](), 6):
        assert np.array_equal(wave.answer(picture), runner.answer(picture))
        assert np.array_equal(wave.spikes_per_core, runner.spikes_per_core)


def test_the_same_neurons_are_summed_once() -> None:
    graph = chip("conv_net").graph
    programs = BatchRunner(chip("conv_net"))._programs
    assert len(programs.copy) == programs.copies[-1] > len(programs.threshold)
    assert len(programs.copy) <= int((graph.neuron_type > 0).sum())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-40, 40), min_size=1, max_size=30), st.integers(-50, 50), st.integers(0, 1000))
def test_a_column_is_the_scalar_rule_in_magnitudes(weights: list[int], leak: int, seed: int) -> None:
    column = _column(np.array(weights), leak, 6, (0,))
    x = np.random.default_rng(seed).integers(0, 2, len(weights))
    total = 0
    for power, entries in enumerate(column.powers):
        assert len(entries) % EIGHT == 0
        for i, entry in enumerate(entries):
            flipped = bool(entries[i - i % EIGHT] & FLIP)
            axon = entry & NOWHERE
            total += ((0 if axon == NOWHERE else int(x[axon])) ^ flipped) << power
    assert total < 1 << column.planes
    assert max(column.threshold, 0) < 1 << column.planes
    assert (total >= column.threshold) is (int(np.dot(weights, x)) + leak >= 1)


@pytest.mark.parametrize("bits", [np.zeros((3, 5), bool), np.zeros((1, 126), np.uint8)], ids=["too few", "no bool"])
def test_wrong_pictures_are_refused(bits: np.ndarray[Any, Any]) -> None:
    with pytest.raises(
        EmulationError, match=r"^input: \w+ \[\d+, \d+\], must be bool \[B, \d+\]; give one value a line$"
    ):
        BatchRunner(chip("one_layer")).answers(bits)


def remembering(graph: CoreGraph) -> dict[str, Any]:
    gamma = graph.types.gamma.copy()
    gamma[:] = 1
    return {"types": replace(graph.types, gamma=gamma)}


def hurried(graph: CoreGraph) -> dict[str, Any]:
    return {"delay": np.where(graph.target_core >= 0, graph.delay + 1, graph.delay).astype(np.uint8)}


def late(graph: CoreGraph) -> dict[str, Any]:
    return {"input_delay": graph.input_delay + np.uint8(1)}


@pytest.mark.parametrize("kind", [BatchRunner, WaveRunner])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remembering, r"^core 0: neurons with a memory, allowed none in a wave; run it tick by tick"),
        (hurried, r"core \d+, neuron \d+: delay 2, must be 1 between levels; run it tick by tick"),
        (late, r"input entry 0: delay 1, must be 0, the level of its core; run it tick by tick"),
    ],
)
def test_graphs_that_do_not_settle_level_by_level_are_refused(kind: Any, change: Any, message: str) -> None:
    compiled = chip("conv_net")
    with pytest.raises(EmulationError, match=message):
        kind(with_graph(compiled, **change(compiled.graph)))


def test_every_violation_is_listed() -> None:
    compiled = chip("conv_net")
    graph = replace(compiled.graph, **remembering(compiled.graph), **late(compiled.graph))
    with pytest.raises(
        EmulationError, match=r"core \d+: level \d+, allowed 0\.\.1 in 2 ticks; run more ticks"
    ) as found:
        check_levels(graph, compiled.level, 2)
    assert len(str(found.value).splitlines()) == 3


def test_a_wave_alone_needs_levels_and_no_votes() -> None:
    compiled = chip("conv_net")
    wave, runner = Wave(compiled.graph, compiled.level), ChipRunner(compiled)
    picture = pictures(SPECS["conv_net"](), 1)[0].reshape(-1)
    wave.run(picture)
    runner.answer(picture)
    assert np.array_equal(wave.pins(), runner.engine.pins())
    with pytest.raises(EmulationError, match=r"^input: bool \[1\], must be bool"):
        wave.run(np.zeros(1, bool))

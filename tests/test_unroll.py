"""A chip with a history, evaluated all at once: equal to the pictures one after another, on every engine that can."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_history import TINY, episode, remembering, stream

from deploy.batch import TOGETHER, BatchRunner
from deploy.compiled import Compiled
from deploy.compiler import compile_spec
from deploy.emulator import EmulationError
from deploy.runner import ChipRunner
from deploy.unroll import levelled, unrolled
from deploy.wave import WaveRunner

CASES = [(2, 3, 1), (2, 9, 1), (3, 4, 2), (3, 12, 1), (3, 33, 1), (4, 5, 3), (4, 16, 1), (4, 33, 2)]


def compiled(history: int, interval: int, host_copies: int, seed: int = 0) -> Compiled:
    return compile_spec(remembering(history, seed), TINY, host_copies=host_copies, interval=interval)


@pytest.mark.parametrize(("history", "interval", "host_copies"), CASES)
def test_a_whole_history_at_once_is_answered_as_one_picture_after_another(
    history: int, interval: int, host_copies: int
) -> None:
    for seed in range(3):
        spec, chip = remembering(history, seed), compiled(history, interval, host_copies, seed)
        obs = episode(spec, 14, seed)
        expected, bits = stream(chip, spec, obs), spec.transduce(obs)
        assert np.array_equal(BatchRunner(chip).answers(bits), expected)
        wave = WaveRunner(chip)
        assert np.array_equal([wave.answer(row) for row in bits], expected)
        assert len(np.unique(expected, axis=0)) > 3, "equal votes of a chip that always says the same prove nothing"


@pytest.mark.parametrize(("history", "interval", "host_copies"), CASES)
def test_a_wave_counts_the_spikes_of_the_last_tick(history: int, interval: int, host_copies: int) -> None:
    chip = compiled(history, interval, host_copies)
    wave, runner, spec = WaveRunner(chip), ChipRunner(chip), remembering(history)
    for bits in spec.transduce(episode(spec, 6, 1)):
        wave.answer(bits)
        runner.answer(bits)
        assert np.array_equal(wave.spikes_per_core, runner.spikes_per_core)


def test_more_pictures_than_fit_in_a_wave_keep_their_order() -> None:
    spec, chip = remembering(3), compiled(3, 12, 1)
    bits = np.random.default_rng(0).random((TOGETHER + 5, *spec.bits_shape)) < 0.4
    assert np.array_equal(BatchRunner(chip).answers(bits), spec.run(bits))


def test_only_cores_on_the_way_of_earlier_pictures_stand_more_than_once() -> None:
    chip = compiled(3, 33, 1)
    graph, level = unrolled(chip)
    (cores, _, _), (copies, _, _) = chip.graph.shape, graph.shape
    assert cores < copies < 3 * cores
    assert np.array_equal(graph.neuron_type[:cores], chip.graph.neuron_type)
    assert np.array_equal(level[:cores], chip.level + 2 * 33)
    assert graph.n_inputs == 3 * chip.graph.n_inputs
    alone = compile_spec(remembering(1), TINY)
    assert unrolled(alone) == (alone.graph, alone.level), "nothing to unroll"


def test_newest_bits_alone_are_no_history() -> None:
    spec, chip = remembering(2), compiled(2, 9, 1)
    newest = spec.newest(episode(spec, 2, 1))
    with pytest.raises(EmulationError, match=r"input: bool \[2, .*\], must be bool \[B, 48\]; give one value a line"):
        BatchRunner(chip).answers(newest)
    with pytest.raises(EmulationError, match=r"input: bool \[24\], must be bool \[48\]; give one value a line"):
        WaveRunner(chip).answer(newest[0])


def test_spikes_that_wait_for_no_picture_of_the_history_are_refused() -> None:
    chip = compiled(3, 4, 1)
    late = replace(chip, graph=replace(chip.graph, input_delay=chip.graph.input_delay + np.uint8(4)))
    with pytest.raises(EmulationError, match=r"core \d+: hears of the picture 3 before the newest, allowed 0\.\.2"):
        unrolled(late)
    between = np.where(chip.graph.delay > 1, chip.graph.delay - 1, chip.graph.delay).astype(np.uint8)
    with pytest.raises(EmulationError, match=r"core \d+, neuron \d+: delay \d+, must be -?\d+ between levels"):
        levelled(replace(chip, graph=replace(chip.graph, delay=between)))

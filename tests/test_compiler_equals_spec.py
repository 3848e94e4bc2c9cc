"""Cores equal the spec, spike for spike and vote for vote, on both engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cases import SPECS, pictures, student
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deploy.chip import CHIPS, Chip, CompileError
from deploy.compiled import Compiled
from deploy.compiler import compile_spec
from deploy.emulator import Emulator
from deploy.engine import LazyEngine
from deploy.runner import ChipRunner
from deploy.spec import StudentSpec
from deploy.verification import first_difference, need_same_student

TINY = CHIPS["tiny"]
BOARD = replace(TINY, name="board", chips_x=3, chips_y=4)  # room for whatever is drawn
ENGINES = pytest.mark.parametrize("engine", [Emulator, LazyEngine], ids=lambda kind: kind.__name__)


@ENGINES
@pytest.mark.parametrize("reduce", [False, True])
@pytest.mark.parametrize("host_copies", [1, 1000])
@pytest.mark.parametrize("make", SPECS.values(), ids=SPECS)
def test_cores_equal_spec_layer_by_layer(
    make: Callable[[], StudentSpec], host_copies: int, reduce: bool, engine: Any
) -> None:
    spec = make()
    compiled = compile_spec(spec, TINY, host_copies=host_copies, reduce=reduce)
    assert first_difference(spec, compiled, pictures(spec, 6), engine) is None


@st.composite
def specs(draw: st.DrawFn) -> StudentSpec:
    """Small legal students: any kernel, stride, padding and grouping that a tiny core can hold."""
    front = (draw(st.integers(1, 6)), 2, draw(st.integers(1, 2)), 0, 1)
    picture = (1, draw(st.integers(3, 9)), draw(st.integers(3, 9)))
    channels, height, width = front[0], *((size - 2) // front[2] + 1 for size in picture[1:])
    layers = []
    for _ in range(draw(st.integers(1, 3))):
        groups = draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
        per_group = channels // groups
        padding = draw(st.integers(0, 1))
        low = min(height, width) + 2 * padding
        kernel = draw(st.sampled_from([k for k in (1, 2, 3, 4) if k <= low and k * k * per_group <= TINY.inputs]))
        stride = draw(st.integers(1, 2))
        features = groups * draw(st.integers(1, max(1, TINY.inputs // groups)))
        layers.append((features, kernel, stride, padding, groups))
        channels = features
        height, width = ((size + 2 * padding - kernel) // stride + 1 for size in (height, width))
    answers = draw(st.sampled_from([(2,), (3, 2)]))
    assume(channels * height * width >= sum(answers))  # else nobody votes, which is refused
    return student(layers, front, picture, answers, draw(st.integers(0, 999)))


@settings(max_examples=80, deadline=None)
@given(specs(), st.sampled_from((1, 2, 3, 1000)))
def test_random_students_are_their_cores(spec: StudentSpec, host_copies: int) -> None:
    compiled = compile_spec(spec, BOARD, host_copies=host_copies)
    bits = pictures(spec, 3)
    assert first_difference(spec, compiled, bits, LazyEngine) is None
    assert np.array_equal(ChipRunner(compiled, Emulator).answers(bits), spec.run(bits))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 4)), min_size=1, max_size=4), st.booleans(), st.booleans())
def test_random_illegal_students_are_refused_with_every_layer_that_fits_no_core(
    shapes: list[tuple[int, int]], heard: bool, reduce: bool
) -> None:
    layers = [(features, kernel, 1, 2, 1) for features, kernel in shapes]
    spec = student(layers, (3, 1, 1, 0, 1), (1, 9, 8), (2,), seed=1)
    spec = spec if heard else replace(spec, vote=np.full_like(spec.vote, -1))
    wide = [layer for layer in spec.layers if layer.fan_in > TINY.inputs]
    assume(wide or not heard)
    with pytest.raises(CompileError, match=rf"^{len(wide) + (not heard)} limits broken\n") as refused:
        compile_spec(spec, TINY, reduce=reduce)
    lines = str(refused.value).splitlines()[1:]
    expected = [f"{layer.name}: {layer.fan_in} inputs a neuron, 35 fit a core of tiny; try more" for layer in wide]
    expected += [] if heard else [f"vote: 0 of {len(spec.vote)} neurons vote, at least 1 must; deal"]
    assert len(lines) == len(expected)
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True))


@ENGINES
def test_a_picture_a_tick_gives_the_votes_of_held_pictures(engine: Any) -> None:
    spec = SPECS["conv_net"]()
    runner = ChipRunner(compile_spec(spec, TINY), engine)
    bits = pictures(spec, 7)
    held = np.array([runner.answer(picture) for picture in bits])
    assert np.array_equal(runner.answers(bits), held)
    assert np.array_equal(held, spec.run(bits))
    assert runner.answers(bits[:0]).shape == (0, spec.n_answers)


def test_votes_come_out_exactly_at_the_latency() -> None:
    spec = SPECS["conv_net"]()
    compiled = compile_spec(spec, TINY)
    bits, engine = pictures(spec, 2), Emulator(compiled.graph)
    counts = []
    for _ in range(compiled.latency_ticks):
        engine.step(bits[0].ravel())
        answers = compiled.graph.output_answer[engine.pins()]
        counts.append(np.bincount(answers, minlength=spec.n_answers))
    assert np.array_equal(counts[-1], spec.run(bits[:1])[0])
    assert not np.array_equal(counts[-2], counts[-1]), "the votes were there a tick early"


def flipped(compiled: Compiled, core: int, neuron: int) -> Compiled:
    """The same chip with one synapse of one neuron changed."""
    crossbar = compiled.graph.crossbar[compiled.graph.crossbar_of].copy()
    crossbar[core, 0, neuron] ^= np.uint64(1)
    own = np.arange(len(crossbar), dtype=np.int32)
    return replace(compiled, graph=replace(compiled.graph, crossbar=crossbar, crossbar_of=own))


@ENGINES
@pytest.mark.parametrize(("layer", "neuron"), [(0, 0), (1, 5)])
def test_a_changed_synapse_is_found_in_its_layer(engine: Any, layer: int, neuron: int) -> None:
    spec = SPECS["two_heads"]()
    compiled = compile_spec(spec, TINY)
    start = int(np.prod(compiled.layer_shapes[0])) * layer
    core = compiled.probe_core[start + neuron]
    broken = flipped(compiled, int(core), int(compiled.probe_neuron[start + neuron]))
    difference = first_difference(spec, broken, pictures(spec, 64), engine)
    assert difference is not None
    assert difference.layer == f"layer{layer}"
    assert (difference.core, difference.tick) == (core, compiled.layer_levels[layer])
    assert str(difference).startswith(f"layer{layer}, picture {difference.picture}, channel ")


def test_a_changed_vote_is_found() -> None:
    spec = SPECS["one_layer"]()
    compiled = compile_spec(spec, TINY)
    answers = 1 - compiled.graph.output_answer
    broken = replace(compiled, graph=replace(compiled.graph, output_answer=answers))
    difference = first_difference(spec, broken, pictures(spec, 5))
    assert difference is not None
    assert difference.layer == "votes"
    assert "answer 0: the spec says" in str(difference)


def test_another_student_is_refused() -> None:
    compiled = compile_spec(SPECS["one_layer"](), TINY)
    need_same_student(SPECS["one_layer"](), compiled)
    with pytest.raises(CompileError, match=r"^chip: compiled from student \w{12}, this student is \w{12}; compile"):
        need_same_student(SPECS["two_heads"](), compiled)


def test_a_wide_fan_out_becomes_a_tree() -> None:
    # Each input bit has more readers than a splitter core of 7 neurons serves.
    narrow = Chip("narrow", width=40, height=41, axons=20, neurons=7)
    spec = student([(30, 2, 1, 1, 1), (15, 1, 1, 0, 3)], (2, 2, 1, 0, 1), (1, 6, 5), (4,), seed=9)
    compiled = compile_spec(spec, narrow)
    depths = {s.name: s for s in compiled.usage.stages}
    assert depths["layer0"].level >= 2, "one level of splitters was enough"
    assert first_difference(spec, compiled, pictures(spec, 4)) is None

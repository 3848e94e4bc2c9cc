"""The spec defines the student: sums against plain loops, every rule reported at once, votes, heads, digests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cases import SPECS, conv, conv_net, pictures, two_heads
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.spec import Conv, Head, SpecError, StudentSpec, count_votes, deal_votes, fires, sums


def scalar_sums(one: Conv, values: np.ndarray) -> np.ndarray:
    """Weighted sums by plain loops over whole numbers."""
    batch, (channels, height, width) = len(values), one.in_shape
    out, per_group, kernel, _ = one.weights.shape
    total = np.zeros((batch, *one.out_shape), np.int64)
    for b, o, y, x in np.ndindex(total.shape):
        group = o // (out // one.groups)
        for i, ky, kx in np.ndindex(per_group, kernel, kernel):
            row, column = y * one.stride + ky - one.padding, x * one.stride + kx - one.padding
            if 0 <= row < height and 0 <= column < width:
                channel = one.order[group * per_group + i]
                total[b, o, y, x] += int(one.weights[o, i, ky, kx]) * int(values[b, channel, row, column])
    assert channels == per_group * one.groups
    return total


@settings(deadline=None, max_examples=30)
@given(
    groups=st.integers(1, 3),
    wide=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    size=st.tuples(st.integers(3, 5), st.integers(3, 6)),
    seed=st.integers(0, 999),
    pixels=st.booleans(),
)
def test_sums_are_those_of_plain_loops(groups, wide, kernel, stride, padding, size, seed, pixels):
    rng = np.random.default_rng(seed)
    shape = (groups * wide[0], *size)
    one = conv("one", shape, (groups * wide[1], kernel, stride, padding, groups), rng, peak=127 if pixels else 1)
    values = rng.integers(0, 256, (2, *shape)).astype(np.uint8) if pixels else rng.random((2, *shape)) < 0.5
    found = sums(one, values)
    assert found.dtype == np.int32 and np.array_equal(found, scalar_sums(one, values))
    assert np.array_equal(fires(one, values), scalar_sums(one, values) + one.leak[:, None, None] >= 1)


def test_a_neuron_fires_where_sum_and_leak_reach_one():
    weights, order = np.ones((3, 1, 1, 1), np.int8), np.zeros(1, np.int32)
    one = Conv("one", weights, np.array([-1, 0, 1], np.int32), order, 1, 1, 0, (1, 1, 2))
    assert fires(one, np.array([[[[False, True]]]])).tolist() == [[[[False, False]], [[False, True]], [[True, True]]]]


def test_running_is_tracing_to_the_end():
    spec = conv_net()
    bits = pictures(spec, 7)
    *_, last = spec.trace(bits)
    assert np.array_equal(spec.run(bits), count_votes(last.reshape(7, -1), spec.vote, spec.n_answers))
    assert [level.shape[1:] for level in spec.trace(bits)] == [layer.out_shape for layer in spec.layers]


def test_a_picture_is_answered_alike_alone_and_among_others():
    spec = two_heads()
    bits = pictures(spec, 5)
    assert np.array_equal(spec.run(bits), np.concatenate([spec.run(bits[i : i + 1]) for i in range(5)]))
    assert spec.run(bits[:0]).shape == (0, spec.n_answers)


def test_votes_are_dealt_in_turn_and_the_rest_votes_for_none():
    assert deal_votes(11, 3).tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, -1, -1]
    assert deal_votes(6, 3).tolist() == [0, 1, 2, 0, 1, 2] and deal_votes(2, 3).tolist() == [-1, -1]


def test_votes_for_none_count_for_none():
    spikes = np.array([[True, True, True, False], [False, True, True, True]])
    assert count_votes(spikes, np.array([1, 0, -1, 1], np.int16), 2).tolist() == [[1, 1], [1, 1]]


def test_the_action_has_most_votes_and_the_lowest_index_on_a_tie():
    spec = two_heads()
    always = [replace(layer, weights=layer.weights * 0, leak=layer.leak * 0 + 1) for layer in spec.layers]
    vote = np.full(spec.vote.size, -1, np.int16)
    vote[:6] = [1, 1, 2, 2, 5, 7]  # head 0: 0, 2, 2 votes; head 1: 0, 0, 1, 0, 1 votes
    tied = StudentSpec(spec.front, tuple(always), vote, spec.heads)
    obs = np.zeros((2, *spec.front.in_shape), np.uint8)
    assert tied.act(obs, "Game0").tolist() == [1, 1] and tied.act(obs, "Game1").tolist() == [2, 2]


def test_a_game_without_a_head_is_refused_with_the_games_there_are():
    with pytest.raises(SpecError, match=r"no head for Pong, it plays Game0, Game1; distil a student for Pong"):
        two_heads().head("Pong")


def changed(index: int, **fields: Any) -> Callable[[StudentSpec], StudentSpec]:
    """A spec with one layer changed; index 0 is the front."""

    def change(spec: StudentSpec) -> StudentSpec:
        convs = [spec.front, *spec.layers]
        convs[index] = replace(convs[index], **fields)
        return StudentSpec(convs[0], tuple(convs[1:]), spec.vote, spec.heads)

    return change


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.int8)


INT = np.int32
BROKEN = {
    "weights of another width": (changed(2, weights=ones(24, 5, 1, 1)), r"layer1: weights .* do not fit 6 channels"),
    "weights of floats": (changed(1, weights=np.ones((6, 2, 4, 4))), r"layer0: weights is float64 \[6, 2, 4, 4\]"),
    "weights of two": (changed(1, weights=ones(6, 2, 4, 4) * 2), r"layer0: weights up to 2, allowed -1, 0, 1"),
    "weights of -128": (changed(1, weights=np.full((6, 2, 4, 4), -128, np.int8)), r"layer0: weights up to 128"),
    "weights of three axes": (changed(1, weights=ones(6, 2, 4)), r"layer0: weights is int8 \[6, 2, 4\].*4 axes"),
    "too few leaks": (changed(1, leak=np.zeros(5, INT)), r"layer0: leak has shape \(5,\), must be \(6,\)"),
    "a huge leak": (changed(1, leak=np.full(6, 1 << 24, INT)), r"layer0: sum and leak may reach 2\*\*24"),
    "an order with a gap": (changed(1, order=np.array([0, 1, 2, 2], INT)), r"layer0: order is no permutation of 4"),
    "an order of bytes": (changed(1, order=np.arange(4, dtype=np.int8)), r"layer0: order is int8 \[4\]"),
    "no groups": (changed(1, groups=0), r"layer0: groups, stride, padding, in_shape are \(0, 2, 1,"),
    "no stride": (changed(1, stride=0), r"layer0: .*the others 1 or more"),
    "half a stride": (changed(1, stride=0.5), r"layer0: .*must be six whole numbers"),
    "negative padding": (changed(1, padding=-1), r"layer0: .*padding may be 0"),
    "no output": (changed(1, in_shape=(4, 1, 1)), r"layer0: no output left of \(4, 1, 1\) with kernel 4, stride 2"),
    "maps that do not meet": (changed(2, in_shape=(6, 3, 3)), r"layer1: in_shape \(6, 3, 3\), the level before gives"),
    "one name twice": (changed(2, name="layer0"), r"names: layer0 more than once"),
    "too many inputs": (
        lambda spec: replace(spec, layers=(conv("wide", (33, 2, 2), (4, 2, 1, 0, 1), np.random.default_rng(0)),)),
        r"wide: 132 inputs a neuron, allowed 128; try more groups",
    ),
    "a front whose sums are not exact": (
        changed(
            0, weights=np.full((4, 600, 3, 3), 127, np.int8), in_shape=(600, 13, 15), order=np.arange(600, dtype=INT)
        ),
        r"front: sum and leak may reach 2\*\*24",
    ),
    "too few votes": (lambda spec: replace(spec, vote=spec.vote[1:]), r"vote: shape .*, must be"),
    "votes of another type": (lambda spec: replace(spec, vote=spec.vote.astype(INT)), r"vote: int32 of 1 axes"),
    "a vote for nobody": (
        lambda spec: replace(spec, vote=spec.vote + np.int16(1)),
        r"vote: answers 0..3, allowed -1..2",
    ),
    "a vote below none": (lambda spec: replace(spec, vote=spec.vote - np.int16(2)), r"vote: answers -3..0, allowed"),
    "no heads": (lambda spec: replace(spec, heads=()), r"heads: start at \[\]"),
    "heads with a gap": (
        lambda spec: replace(spec, heads=(Head("A", ("x",), 0), Head("B", ("y",), 2))),
        r"heads: start at \[0, 2\]; they must follow one another from 0",
    ),
    "a game twice": (
        lambda spec: replace(spec, heads=(Head("A", ("x",), 0), Head("A", ("y", "z"), 1))),
        r"heads: A, A; each game once",
    ),
    "a head without actions": (lambda spec: replace(spec, heads=(Head("A", (), 0),)), r"each with an action or more"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_named(case):
    change, message = BROKEN[case]
    with pytest.raises(SpecError, match=message):
        change(conv_net())


def test_all_violations_are_reported_at_once():
    spec = conv_net()
    layers = (
        replace(spec.layers[0], weights=spec.layers[0].weights * 2, leak=np.zeros(5, INT)),
        replace(spec.layers[1], order=np.zeros(6, INT)),
        *spec.layers[2:],
    )
    with pytest.raises(SpecError, match="5 rules broken") as caught:
        StudentSpec(spec.front, layers, spec.vote[:-1], (replace(spec.heads[0], start=1),))
    text = str(caught.value)
    for part in ("layer0: leak", "layer0: weights up to 2", "layer1: order", "vote: shape", "heads: start"):
        assert part in text, part


def test_the_digest_sees_every_field():
    spec = conv_net()
    one = spec.layers[1]
    rolled = {name: np.roll(getattr(one, name), 1, axis=0) for name in ("weights", "order")}
    variants = [changed(2, **{name: array}) for name, array in rolled.items()]
    variants += [changed(2, leak=one.leak + INT(1)), changed(2, name="other")]
    variants += [
        lambda spec: replace(spec, vote=np.roll(spec.vote, 1)),
        lambda spec: replace(spec, heads=(replace(spec.heads[0], game="Other"),)),
        lambda spec: replace(spec, heads=(replace(spec.heads[0], actions=("A0", "A1", "B2")),)),
        lambda spec: replace(spec, heads=(Head("Game0", ("A0", "A1"), 0), Head("Game1", ("A2",), 2))),
    ]
    digests = [spec.digest, *(change(spec).digest for change in variants)]
    assert len(set(digests)) == len(digests) == 9
    assert conv_net().digest == spec.digest


def test_the_digest_sees_geometry_that_leaves_all_arrays_alike():
    weights, order = ones(3, 1, 1, 1), np.zeros(1, INT)

    def spec(stride: int, padding: int, side: int) -> StudentSpec:
        front = Conv("front", weights, np.zeros(3, INT), order, 1, stride, padding, (1, side, side))
        return StudentSpec(front, (), deal_votes(12, 3), (Head("A", ("x", "y", "z"), 0),))

    # Each has a 2x2 map.
    assert len({spec(1, 0, 2).digest, spec(2, 0, 3).digest, spec(2, 0, 4).digest, spec(3, 1, 2).digest}) == 4


def test_a_spec_cannot_be_changed():
    spec = conv_net()
    with pytest.raises(ValueError, match="read-only"):
        spec.layers[0].weights[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        spec.vote[0] = 0


@pytest.mark.parametrize("name", SPECS)
def test_a_layer_shows_its_shapes_not_its_numbers(name):
    text = repr(SPECS[name]().front)
    assert text.startswith("Conv(front: (") and "groups 1" in text and "[" not in text

"""Every reduction is exact: what is built equals the spec, and each pass finds what it is there to find."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from cases import SPECS, pictures, student
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deploy.chip import CHIPS, Chip, CompileError
from deploy.compiler import compile_spec, mapped
from deploy.emulator import Emulator
from deploy.handon import MAX_WAVES
from deploy.lower import add_equal, carried, lower
from deploy.pack import pack
from deploy.reduce import REDUCTIONS, VARIES, Network, analyse, reductions
from deploy.spec import Conv, StudentSpec
from deploy.tiling import Demand, bands, choose_grid
from deploy.verification import first_difference

TINY = CHIPS["tiny"]
BOARD = replace(TINY, name="board", chips_x=4, chips_y=5)
ALL = tuple(REDUCTIONS)


def doctored(spec: StudentSpec, seed: int, zeros: float, constant: float, equal: float) -> StudentSpec:
    """A student with what training leaves behind: missing weights, neurons that never change, neurons twice over."""
    rng = np.random.default_rng(seed)
    return replace(spec, layers=tuple(_doctored(layer, rng, zeros, constant, equal) for layer in spec.layers))


def _doctored(layer: Conv, rng: np.random.Generator, zeros: float, constant: float, equal: float) -> Conv:
    weights, leak = layer.weights.copy(), layer.leak.copy()
    weights[rng.random(weights.shape) < zeros] = 0
    leak[rng.random(leak.shape) < constant] = rng.choice((-layer.fan_in, layer.fan_in + 1))
    own = len(leak) // layer.groups
    for channel in np.flatnonzero(rng.random(len(leak)) < equal):
        other = channel // own * own + int(rng.integers(own))
        weights[channel], leak[channel] = weights[other], leak[other]
    return replace(layer, weights=weights, leak=leak)


@st.composite
def nets(draw: st.DrawFn) -> StudentSpec:
    """Students with edges, strides, overlaps, groups; weights sparse or dense; constants and doubles or none."""
    layers = []
    channels, side = draw(st.sampled_from([(2, 8), (4, 7), (3, 9)]))
    shape, groups = channels, 1
    for _ in range(draw(st.integers(1, 3))):
        kernel, stride, padding = draw(st.sampled_from([(1, 1, 0), (2, 2, 0), (2, 2, 1), (3, 1, 1), (3, 2, 1)]))
        if side + 2 * padding < kernel:
            kernel, stride, padding = 1, 1, 0
        fitting = [g for g in range(1, shape + 1) if shape % g == 0 and shape // g * kernel**2 <= TINY.inputs]
        groups = draw(st.sampled_from(fitting))
        features = groups * draw(st.integers(1, max(1, 24 // groups)))
        layers.append((features, kernel, stride, padding, groups))
        shape, side = features, (side + 2 * padding - kernel) // stride + 1
    votes = draw(st.sampled_from([(1,), (2, 1)]))
    picture = (1, *_sides(layers, side))
    spec = student(layers, (channels, 1, 1, 0, 1), picture, votes, draw(st.integers(0, 999)))
    assume((spec.vote >= 0).any())  # else nobody votes, which is refused
    kinds = draw(
        st.sampled_from([(0.0, 0.0, 0.0), (0.5, 0.2, 0.3), (0.8, 0.0, 0.5), (0.3, 0.7, 0.0), (0.95, 0.1, 0.9)])
    )
    return doctored(spec, draw(st.integers(0, 999)), *kinds)


def _sides(layers: list[tuple[int, ...]], side: int) -> tuple[int, int]:
    """An input map that leaves at least that many outputs a side, taller than wide."""
    for _, kernel, stride, padding, _ in reversed(layers):
        side = max((side - 1) * stride + kernel - 2 * padding, 1)
    return side + 1, side


@settings(max_examples=60, deadline=None)
@given(nets(), st.sets(st.sampled_from(ALL)), st.sampled_from((1, 2, 5, 1000)))
def test_any_reductions_of_any_student_are_exact(spec: StudentSpec, passes: set[str], host_copies: int) -> None:
    compiled = compile_spec(spec, BOARD, host_copies=host_copies, reduce=passes)
    bits = np.concatenate([pictures(spec, 4, seed=3), np.ones((1, *spec.front.out_shape), bool)])
    assert first_difference(spec, compiled, bits) is None


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("seed", [1, 2])
def test_each_reduction_alone_is_exact_on_the_plain_emulator(name: str, seed: int) -> None:
    spec = doctored(SPECS["conv_net"](), seed, 0.5, 0.2, 0.3)
    compiled = compile_spec(spec, TINY, reduce=[name])
    assert first_difference(spec, compiled, pictures(spec, 5), Emulator) is None


def test_each_reduction_saves_what_it_says() -> None:
    spec = doctored(SPECS["conv_net"](), 1, 0.5, 0.2, 0.3)
    counts = [compile_spec(spec, TINY, reduce=ALL[:n]).graph.shape[0] for n in range(len(ALL) + 1)]
    saved = compile_spec(spec, TINY, reduce=True).usage.saved
    assert saved == dict(zip(ALL, (-np.diff(counts)).tolist(), strict=True))
    assert compile_spec(spec, TINY).usage.saved == {}
    assert counts[-1] < 0.7 * counts[0]


def test_equal_arguments_give_equal_chips() -> None:
    spec = doctored(SPECS["conv_net"](), 1, 0.5, 0.2, 0.3)
    first, again, other = (compile_spec(spec, TINY, reduce=passes) for passes in (True, ALL[::-1], False))
    assert first.digest == again.digest != other.digest


def test_reductions_are_named_or_all_or_none() -> None:
    assert reductions(True) == ALL
    assert reductions(False) == reductions([]) == ()
    assert reductions(["relay", "sign"]) == ("sign", "relay")
    with pytest.raises(
        CompileError, match=r"^2 limits broken\nreduce: found 'a', allowed constant, .*; name these\n.*'b'"
    ):
        reductions(["b", "sign", "a"])


# Constants and equal neurons, against one neuron at a time


def every_input(spec: StudentSpec, count: int) -> NDArray[np.bool_]:
    """All front bits that `count` lines can take, for students of so few lines."""
    lines = math.prod(spec.front.out_shape)
    assert lines == count
    return ((np.arange(1 << count)[:, None] >> np.arange(count)) & 1).astype(bool).reshape(-1, *spec.front.out_shape)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_called_constant_or_equal_is_so_for_every_input(seed: int) -> None:
    plain = student([(9, 2, 1, 1, 1), (8, 2, 2, 1, 1), (4, 1, 1, 0, 2)], (2, 1, 1, 0, 1), (1, 3, 2), (2,), seed)
    spec = doctored(plain, seed, 0.4, 0.2, 0.4)
    net = analyse(spec, ALL)
    found = 0
    for level, spikes in zip(net.levels[1:], spec.trace(every_input(spec, 12)), strict=True):
        flat, value, stand = spikes.reshape(len(spikes), -1), level.value.ravel(), level.stand.ravel()
        known = value != VARIES
        assert np.array_equal(flat[:, known], np.broadcast_to(value[known] == 1, flat[:, known].shape))
        assert np.array_equal(flat[:, stand], flat)
        assert np.array_equal(stand[stand], stand), "what stands for others stands for itself"
        found += int(known.sum()) + int((stand != np.arange(len(stand))).sum())
    assert found > 20


def test_constants_are_all_that_bounds_on_sums_can_show() -> None:
    spec = doctored(SPECS["conv_net"](), 4, 0.3, 0.3, 0.0)
    net = analyse(spec, ["constant"])
    before, layer, level = net.levels[1], spec.layers[1], net.levels[2]
    per_group, own = layer.weights.shape[1], len(layer.leak) // layer.groups
    for channel, y, x in np.ndindex(level.value.shape):
        inputs = layer.order[channel // own * per_group :][:per_group]
        weights, values = layer.weights[channel, :, 0, 0].astype(int), before.value[inputs, y, x]
        low = sum(w * (v if v != VARIES else w < 0) for w, v in zip(weights, values, strict=True)) + layer.leak[channel]
        high = (
            sum(w * (v if v != VARIES else w > 0) for w, v in zip(weights, values, strict=True)) + layer.leak[channel]
        )
        assert level.value[channel, y, x] == (1 if low >= 1 else 0 if high < 1 else VARIES)


def test_votes_are_cast_even_where_they_never_change() -> None:
    spec = SPECS["one_layer"]()
    layer = spec.layers[0]
    always = replace(spec, layers=(replace(layer, leak=np.full_like(layer.leak, layer.fan_in + 1)),))
    compiled = compile_spec(always, TINY, reduce=True)
    assert (compiled.probe_core >= 0).all()
    assert first_difference(always, compiled, pictures(always, 3)) is None


def test_a_chain_of_constants_leaves_only_the_votes() -> None:
    spec = SPECS["conv_net"]()
    layers = [replace(layer, leak=np.full_like(layer.leak, layer.fan_in + 1)) for layer in spec.layers[:-1]]
    still = replace(spec, layers=(*layers, spec.layers[-1]))
    compiled = compile_spec(still, TINY, reduce=True)
    neurons = math.prod(spec.layers[-1].out_shape)
    assert (compiled.probe_core[:-neurons] == -1).all()
    assert [stage.name for stage in compiled.usage.stages] == ["layer3"]
    assert len(compiled.graph.input_core) == 0
    assert first_difference(still, compiled, pictures(still, 3), Emulator) is None


def test_a_neuron_is_built_once_for_all_that_equal_it() -> None:
    spec = SPECS["two_heads"]()
    first = spec.layers[0]
    weights, leak = first.weights.copy(), first.leak.copy()
    weights[[3, 7]], leak[[3, 7]] = weights[1], leak[1]
    twins = replace(spec, layers=(replace(first, weights=weights, leak=leak), spec.layers[1]))
    compiled = compile_spec(twins, TINY, reduce=["merge"])
    size = math.prod(first.out_shape[1:])
    probes = np.stack([compiled.probe_core, compiled.probe_neuron])[:, : 10 * size].reshape(2, 10, size)
    assert np.array_equal(probes[:, 3], probes[:, 1])
    assert np.array_equal(probes[:, 7], probes[:, 1])
    assert not np.array_equal(probes[:, 2], probes[:, 1])
    assert first_difference(twins, compiled, pictures(twins, 6)) is None


def test_almost_equal_neurons_stay_apart() -> None:
    spec = student([(7, 3, 2, 1, 1), (5, 1, 1, 0, 1)], (3, 1, 1, 0, 1), (1, 5, 4), (2,), seed=3)
    layer = spec.layers[0]
    weights, leak = np.repeat(layer.weights[:1], 7, axis=0), np.zeros(7, np.int32)
    leak[1] = 1
    weights[2, 0, 1, 1] = 1 - abs(int(weights[2, 0, 1, 1]))
    net = analyse(replace(spec, layers=(replace(layer, weights=weights, leak=leak), spec.layers[1])), ["merge"])
    stand = net.levels[1].stand.reshape(7, -1)
    own = np.arange(stand.size).reshape(stand.shape)
    assert np.array_equal(stand[:3], own[:3])
    assert np.array_equal(stand[3:], np.broadcast_to(own[0], (4, own.shape[1])))


# Axons


@settings(max_examples=60)
@given(st.integers(0, 9999), st.integers(1, 9), st.integers(1, 7), st.sampled_from((0.2, 0.6, 0.9)), st.booleans())
def test_axons_carry_every_weight(seed: int, n: int, m: int, zeros: float, sign: bool) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.choice((-1, 0, 1), (n, m), p=((1 - zeros) / 2, zeros, (1 - zeros) / 2)).astype(np.int8)
    kernel = carried(weights, sign)
    rebuilt = np.zeros((n, m), int)
    for row, kind in zip(kernel.row, kernel.kind, strict=True):
        rebuilt[row] += np.where(weights[row] == (-1, 1)[kind], weights[row], 0)
    assert np.array_equal(rebuilt, weights)
    needed = (weights == 1).any(axis=1).sum() + (weights == -1).any(axis=1).sum()
    assert len(kernel.row) == (needed if sign else 2 * n)
    pairs = [a for a in range(0, len(kernel.row) - 1, 2) if (kernel.kind[a], kernel.kind[a + 1]) == (0, 1)]
    assert all(kernel.row[a] == kernel.row[a + 1] for a in pairs)
    assert kernel.paired == 2 * len(pairs)


def test_rows_of_equal_inputs_are_added_where_the_sum_is_trinary() -> None:
    weights = np.array([[1, 0], [-1, 1], [1, 1], [0, -1], [1, 0]], np.int8)
    added = add_equal(weights, np.array([4, 4, 7, 2, 7], np.int32))
    assert added.tolist() == [[0, 1], [0, 0], [1, 1], [0, -1], [1, 0]], "1 + 1 stays on two axons"


# Tiles and cores


def needs_of(layer: Conv, each: int) -> NDArray[np.int32]:
    return np.full(layer.out_shape, each, np.int32)


def test_tiles_grow_at_the_edges_of_a_map() -> None:
    # 3x3 windows over 8x8, 8 inputs a group: an edge tile of 3 rows sees the 4 rows that an inner one of 2 sees.
    spec = student([(32, 3, 1, 1, 2)], (16, 1, 1, 0, 1), (1, 8, 8), (2,), seed=1)
    layer, chip = spec.layers[0], CHIPS["ns1e"]
    plain, grown = (choose_grid(layer, Demand(needs_of(layer, 1), chip, reduce, 0)) for reduce in ((), ("tiles",)))
    assert (plain.rows, plain.columns) == ((0, 2, 4, 6), (0, 2, 4, 6))
    assert (grown.rows, grown.columns) == ((0, 3, 5), (0, 3, 5))
    assert bands(grown.rows, 8) == [(0, 3), (3, 2), (5, 3)]


def test_inputs_of_one_sign_make_room_for_more_positions() -> None:
    spec = student([(4, 2, 2, 0, 1)], (16, 1, 1, 0, 1), (1, 4, 6), (2,), seed=1)
    layer, chip = spec.layers[0], replace(CHIPS["ns1e"], axons=128)
    one_sign = replace(layer, weights=np.abs(layer.weights))
    cores = []
    for reduce in (("tiles",), ("tiles", "sign")):
        grid = choose_grid(one_sign, Demand(needs_of(layer, 1), chip, reduce, 0))
        cores.append(len(grid.rows) * len(grid.columns) * grid.shares)
    assert cores == [6, 3]
    net = analyse(replace(spec, layers=(one_sign,)))
    assert max(len(tile.kernel.row) for (tile,) in lower(net, chip, ("tiles", "sign"))[0]) <= 128


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 50)), min_size=1, max_size=60))
def test_packed_cores_hold_what_fits_and_no_two_of_them_could_be_one(sizes: list[tuple[int, int]]) -> None:
    chip = Chip("small", width=9, height=9, axons=30, neurons=40)
    axons, neurons = np.array(sizes).T
    core = pack(axons, neurons, chip)
    held = np.minimum(neurons, 40)
    used = np.stack([np.bincount(core, axons), np.bincount(core, held)], axis=1)
    assert (used <= (30, 40)).all()
    assert set(core.tolist()) == set(range(len(used)))
    both = used[:, None] + used[None]
    fits = (both <= (30, 40)).all(axis=2) & ~np.eye(len(used), dtype=bool)
    assert not fits.any()


def test_small_tiles_share_a_core_and_keep_to_their_own_axons() -> None:
    spec = student([(6, 3, 3, 0, 6)], (6, 1, 1, 0, 1), (1, 9, 6), (2,), seed=2)
    apart, packed = (compile_spec(spec, TINY, host_copies=1000, reduce=reduce) for reduce in ((), ("pack",)))
    used = (apart.graph.axon_type != apart.graph.UNUSED_AXON).sum()
    assert packed.graph.shape[0] == math.ceil(used / TINY.axons) < apart.graph.shape[0] / 2
    assert first_difference(spec, packed, pictures(spec, 4), Emulator) is None


# Lines handed on


def test_tiles_hand_lines_on_with_their_spare_neurons() -> None:
    spec = student([(5, 3, 1, 1, 1)], (3, 1, 1, 0, 1), (1, 6, 9), (5,), seed=3)
    plain, handed = (compile_spec(spec, TINY, reduce=reduce) for reduce in ((), ("relay",)))
    fan_out = [made.usage.total["input fan-out cores"][0] for made in (plain, handed)]
    assert fan_out[1] < 0.8 * fan_out[0]
    layer = handed.usage.stages[-1]
    assert layer.relays > 0 == plain.usage.stages[-1].relays
    waves = handed.latency_ticks - plain.latency_ticks
    assert 1 <= waves <= MAX_WAVES
    assert first_difference(spec, handed, pictures(spec, 5), Emulator) is None


def test_nothing_is_handed_on_where_the_host_injects_every_copy() -> None:
    spec = student([(5, 3, 1, 1, 1)], (3, 1, 1, 0, 1), (1, 6, 9), (5,), seed=3)
    plain, handed = (compile_spec(spec, TINY, host_copies=1000, reduce=reduce) for reduce in ((), ("relay",)))
    assert plain.digest == handed.digest


@pytest.mark.parametrize("make", SPECS.values(), ids=SPECS)
def test_a_network_without_reductions_stands_for_itself(make: object) -> None:
    assert callable(make)
    spec: StudentSpec = make()
    net, _ = mapped(spec, TINY)
    assert isinstance(net, Network)
    for level in net.levels:
        assert (level.value == VARIES).all()
        assert np.array_equal(level.stand.ravel(), np.arange(level.stand.size))
    for leak, layer in zip(net.leaks, spec.layers, strict=True):
        assert np.array_equal(leak[:, 0, 0], np.clip(layer.leak, -layer.fan_in, layer.fan_in + 1))

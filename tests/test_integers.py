"""Integer networks compute what plain whole-number rules say, overflow nowhere, and refuse what breaks them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from integer_cases import ACTIONS, integers, pictures, plain_levels, plain_norm

from deploy.files import FormatError, write_arrays
from deploy.integer import EXACT, Layer, Norm, guard_of, normalise, reach, root_of, sums
from deploy.integer_spec import KIND, IntegerSpec, load_integers, save_integers
from deploy.spec import SpecError
from distill.integers import norm_of


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("seed", range(3))
def test_every_level_equals_the_plain_rules(bits, seed):
    spec = integers(bits, seed)
    obs = pictures(spec, 4, seed)
    levels = list(spec.levels(obs))
    used = [np.unique(level).size for level in levels[:-1]]
    assert min(used) > 6, "outputs of one value prove little"
    for picture, one in enumerate(obs):
        for level, plain in zip(levels, plain_levels(spec, one), strict=True):
            assert np.array_equal(level[picture], plain)


@pytest.mark.parametrize(
    "square", [1, 2, 3, 4, 15, 2**31, 2**52 - 1, 2**53 + 1, 2**60 - 1, 2**60, 2**61 + 3, 2**62 - 1, 10**9 * 10**9 - 1]
)
def test_a_root_is_the_whole_root_of_its_raised_square(square):
    (root,), (up,) = root_of(np.array([square], np.int64))
    assert root == math.isqrt(square << 2 * int(up))
    assert 2**30 <= root < 2**31


def test_roots_of_many_sizes_are_whole_roots():
    rng = np.random.default_rng(0)
    squares = np.array([int(rng.integers(1, 2**62)) >> int(rng.integers(0, 61)) for _ in range(2000)]).clip(1)
    roots, ups = root_of(squares)
    assert all(int(r) == math.isqrt(int(s) << 2 * int(u)) for r, s, u in zip(roots, squares, ups, strict=True))


def test_a_norm_rounds_what_the_real_numbers_say():
    rng = np.random.default_rng(1)
    gain, offset, n = rng.normal(size=5) * 60, rng.normal(size=5) * 30, 3 * 4 * 5
    total = rng.integers(-9000, 9000, (7, 3, 4, 5))
    own = norm_of(gain, offset, 2.5, n, guard_of(n, 20, 7, 15), 255, 1.0)
    mean = total.mean(axis=(1, 2, 3), keepdims=True)
    spread = np.sqrt(total.var(axis=(1, 2, 3), keepdims=True) + 2.5)
    real = ((total - mean) / spread * gain + offset).clip(0, 255)
    assert np.abs(normalise(own, total) - real).max() < 0.5 + 1e-5


def test_equal_sums_give_the_offset_rounded_half_up():
    own = norm_of(np.array([3.0, -3.0]), np.array([2.5, 2.25]), 1e-5, 6, 5, 15, 1.0)
    assert normalise(own, np.full((1, 3, 1, 2), -77)).tolist() == [[[[3, 2]], [[3, 2]], [[3, 2]]]]


def test_outputs_stay_within_their_range():
    own = norm_of(np.array([50.0]), np.array([0.0]), 1e-5, 4, 5, 15, 1.0)
    assert normalise(own, np.array([-9, 9, 0, 0]).reshape(1, 2, 2, 1)).ravel().tolist() == [0, 15, 0, 0]


def test_the_largest_sums_that_are_allowed_overflow_nowhere():
    n, peak = 4 * 4 * 8, 255
    guard = guard_of(n, 64, 127, 255)
    own = norm_of(np.array([200.0, -200.0] * 4), np.array([100.0] * 8), 1e-5, n, guard, peak, 1.0)
    largest = 64 * 127 * 255
    for total in (
        np.where(np.arange(n) % 2, largest, -largest),
        np.where(np.arange(n) == 3, largest, -largest),
        np.where(np.arange(n) == 3, largest - 1, largest),
    ):
        cube = total.reshape(1, 4, 4, 8)
        plain = plain_norm(own, {at[1:]: int(value) for at, value in np.ndenumerate(cube)})  # type: ignore[misc]
        assert all(normalise(own, cube)[0][at] == value for at, value in plain.items())


def test_sums_beyond_the_exact_range_of_one_float_are_exact_in_the_other():
    rng = np.random.default_rng(2)
    whole = rng.integers(100, 128, (3, 600, 1, 1)).astype(np.int8)
    layer = Layer("wide", whole, np.array([1, 2, 3], np.int32), 1, (600, 1, 1), 8, 1.0, None)
    assert reach(layer, 255) > EXACT and layer.columns.dtype == np.float64
    x = rng.integers(250, 256, (2, 1, 1, 600)).astype(np.uint8)
    expected = x.reshape(2, 600).astype(np.int64) @ whole.reshape(3, 600).T.astype(np.int64) + [1, 2, 3]
    assert np.array_equal(sums(layer, x).reshape(2, 3), expected)


def test_an_answer_does_not_depend_on_its_batch():
    spec = integers()
    obs = pictures(spec, 11)
    whole = spec.run(obs)
    assert whole.shape == (11, 3) and whole.dtype == np.int32
    assert np.array_equal(whole, np.concatenate([spec.run(obs[i : i + 1]) for i in range(11)]))
    assert spec.run(obs[:0]).shape == (0, 3)


def test_the_lowest_action_wins_a_tie():
    spec = integers()
    *before, last = spec.layers
    tied = replace(last, weights=np.zeros_like(last.weights), bias=np.array([1, 4, 4], np.int32))
    assert replace(spec, layers=(*before, tied)).act(pictures(spec, 2)).tolist() == [1, 1]


def test_sizes_are_counted_by_hand():
    spec = integers(4)
    products = [5 * 2 * 9 * 25, 7 * 5 * 4 * 16, 3 * 7 * 16]
    assert [layer.multiply_adds for layer in spec.layers] == products and spec.multiply_adds == sum(products)
    weights = 5 * 2 * 9 + 7 * 5 * 4 / 2 + 3 * 7 * 16
    assert spec.parameter_bytes == weights + 4 * (5 + 7 + 3) + (4 + 8) * (5 + 7)
    norm = spec.layers[1].norm
    assert norm is not None and spec.value_step == 0.125 * norm.step


def changed(layer: int, bits: int = 4, **changes: Any) -> Any:
    """What makes a spec with one layer changed, its norm by names that begin with norm_."""

    def make() -> IntegerSpec:
        spec = integers(bits)
        own = spec.layers[layer]
        inner = {name[5:]: value for name, value in changes.items() if name.startswith("norm_")}
        outer = {name: value for name, value in changes.items() if not name.startswith("norm_")}
        if inner:
            assert own.norm is not None
            outer["norm"] = replace(own.norm, **inner)
        layers = [*spec.layers[:layer], replace(own, **outer), *spec.layers[layer + 1 :]]
        return replace(spec, layers=tuple(layers))

    return make


def with_bits(layer: int, bits: int) -> IntegerSpec:
    """A spec, one layer of which says that it has so many bits."""
    layers = list(integers().layers)
    layers[layer] = replace(layers[layer], bits=bits)
    return replace(integers(), layers=tuple(layers))


LAST = Norm(np.ones(3, np.int32), 0, np.ones(3, np.int64), 9, 1, 9, 255, 1.0)
BROKEN = [
    (lambda: replace(integers(), bits=5), r"^integer student: 2 rules broken\nbits: 5, allowed 4, 8"),
    (lambda: replace(integers(), layers=()), r"layers: none; two or more, each name once"),
    (lambda: replace(integers(), layers=integers().layers[:1] * 2), r"layers: one, one; two or more, each name once"),
    (lambda: replace(integers(), actions=("A",)), r"actions: 1, the last layer gives \(3, 1, 1\)"),
    (changed(1, in_shape=(5, 5, 4)), r"two: in_shape \(5, 5, 4\), the level before gives \(5, 5, 5\)"),
    (changed(1, weights=np.zeros((7, 4, 2, 2), np.int8)), r"two: weights \(7, 4, 2, 2\) do not fit 5 channels"),
    (changed(1, weights=np.full((7, 5, 2, 2), 8, np.int8)), r"two: weights up to 8, allowed 7 of 4 bits"),
    (changed(1, weights=np.zeros((7, 5, 2, 3), np.int8)), r"two: a kernel of \(2, 3\), must be as high as wide"),
    (changed(1, weights=np.zeros((7, 5, 2, 2), np.int16)), r"two: weights is int16 \[7, 5, 2, 2\], must be int8 of 4"),
    (changed(0, bias=np.zeros(4, np.int32)), r"one: bias has 4 entries, must have one an output, 5"),
    (changed(0, norm_gain=np.zeros((5, 1), np.int32)), r"one: gain is int32 \[5, 1\], must be int32 of 1 axes"),
    (changed(0, norm_gain=np.full(5, 2**30 + 1, np.int32)), r"one: gain up to 1073741825, offset .* may pass 2\*\*62"),
    (changed(0, norm_offset=np.full(5, 2**62, np.int64)), r"one: gain up to .*, offset up to 4611686018427387904 may"),
    (changed(0, norm_shift=1.5), r"one: gain_shift, shift, guard, epsilon, peak are .* must be whole numbers"),
    (changed(0, norm_epsilon=0), r"one: gain_shift, shift, guard, epsilon, peak are .*, 0, 15\): out of range"),
    (changed(0, norm_guard=24), r"one: the sum of 125 squares of sums may reach 2\*\*61; try fewer bits"),
    (changed(0, 8, norm_peak=15), r"peaks: must be \[255, 255\], as many bits as the layer that reads them"),
    (changed(0, norm_peak=7), r"one: outputs up to 7, allowed 15, 255"),
    (lambda: with_bits(0, 4), r"one: 4 bits, must be 8 in a network of 4"),
    (lambda: with_bits(1, 3), r"two: 3 bits, allowed 4, 8"),
    (changed(0, stride=0), r"one: stride and in_shape are \[0, 2, 11, 11\], must be four whole numbers, 1 or more"),
    (changed(0, step=0.0), r"one: step is 0\.0, must be a number above 0"),
    (changed(0, norm_step=math.inf), r"one: output step is inf, must be a number above 0"),
    (changed(1, norm=None), r"two: no norm, must be one"),
    (changed(2, norm=LAST), r"three: a norm, must be none"),
    (changed(2, weights=np.zeros((3, 7, 5, 5), np.int8)), r"three: no output left of \(7, 4, 4\) with kernel 5"),
    (changed(0, bias=np.full(5, 2**31 - 1, np.int32)), r"one: sums may reach 2\*\*31; try fewer bits or a smaller"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), BROKEN)
def test_what_breaks_the_rules_is_refused_by_name(make, message):
    with pytest.raises(SpecError, match=message):
        make()


def test_a_file_gives_back_the_network_and_its_origin(tmp_path):
    spec = integers(8)
    save_integers(spec, tmp_path / "int8.npz", {"score": 19.5})
    back, origin = load_integers(tmp_path / "int8.npz")
    assert back.digest == spec.digest and origin == {"score": 19.5}
    assert np.array_equal(back.run(pictures(spec, 3)), spec.run(pictures(spec, 3)))
    assert repr(back) == f"IntegerSpec(Pong, 8 bits, 3 layers, digest {spec.digest[:12]})"
    assert repr(back.layers[0]) == "Layer(one: (2, 11, 11) -> (5, 5, 5), stride 2, 8 bits, outputs 0..255)"


def test_whatever_decides_an_answer_is_in_the_digest():
    others = [
        integers(seed=1),
        replace(integers(), game="Breakout"),
        replace(integers(), actions=ACTIONS[::-1]),
        changed(0, bias=integers().layers[0].bias + 1)(),
        changed(0, norm_epsilon=7)(),
        changed(1, norm_shift=integers().layers[1].norm.shift - 1)(),
    ]
    assert len({spec.digest for spec in (integers(), *others)}) == 1 + len(others)
    assert integers().digest == integers().digest


def test_a_network_cannot_be_changed_under_its_digest():
    spec = integers()
    with pytest.raises(ValueError, match="read-only"):
        spec.layers[0].weights[0, 0, 0, 0] = 1


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "int8.npz"
    write_arrays(path, KIND, (1, 0), {"names": ["one"], "origin": {}}, {})
    with pytest.raises(FormatError, match=r"int8\.npz: no legal integer student \('layer one'\); make it again"):
        load_integers(path)
    write_arrays(path, "spikecade-student", (1, 0), {}, {})
    with pytest.raises(FormatError, match=r"field kind is 'spikecade-student', must be 'spikecade-integers'"):
        load_integers(path)
    save_integers(integers(), path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FormatError, match="not a readable file of ours"):
        load_integers(path)

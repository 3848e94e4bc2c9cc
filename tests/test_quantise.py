"""Quantisers: borders decided in numbers, gradients against plain scalar code, folding exact for every sum."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.quantise import Step, StraightThrough, fold, integers, settle

EITHER = np.zeros(2000, np.int8)  # weights of either sign


def nearest(value: float, towards: float) -> float:
    """The float32 beside a value."""
    return float(np.nextafter(np.float32(value), np.float32(towards)))


BORDERS = [
    # hidden, what each of -1, 0, 1 becomes
    (-1.0, (-1, -1, -1)),
    (-0.6, (-1, -1, -1)),
    (nearest(-0.6, 0), (-1, 0, 1)),
    (-0.5, (-1, 0, 1)),
    (nearest(-0.4, -1), (-1, 0, 1)),
    (-0.4, (0, 0, 0)),
    (-0.0, (0, 0, 0)),
    (0.0, (0, 0, 0)),
    (0.4, (0, 0, 0)),
    (nearest(0.4, 1), (-1, 0, 1)),
    (0.5, (-1, 0, 1)),
    (nearest(0.6, 0), (-1, 0, 1)),
    (0.6, (1, 1, 1)),
    (1.0, (1, 1, 1)),
]


def trinarise(hidden: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """What a layer's values become."""
    after = before.clone()
    settle(hidden.clone().view(-1).numpy(), after.view(-1).numpy(), EITHER[: after.numel()])
    return after


@pytest.mark.parametrize(("hidden", "after"), BORDERS)
def test_trinary_weights_move_only_outside_the_hysteresis(hidden, after):
    found = trinarise(torch.full((3,), hidden), torch.tensor([-1.0, 0.0, 1.0]))
    assert found.tolist() == list(after)


def test_trinary_values_are_fixed_points():
    values = torch.tensor([[-1.0, 0.0, 1.0]] * 2)
    assert torch.equal(trinarise(values, torch.tensor([[1.0, -1.0, 0.0]] * 2)), values)


def test_a_hidden_weight_that_wanders_between_the_borders_does_not_flip():
    weight = torch.tensor([1.0])
    seen = [(weight := trinarise(torch.tensor([h]), weight)).item() for h in (0.59, 0.41, 0.5, 0.4, 0.41, 0.59, 0.6)]
    assert seen == [1, 1, 1, 0, 0, 0, 1]


def test_settling_clips_moves_and_counts_as_torch_would():
    rng = torch.Generator().manual_seed(3)
    hidden = torch.empty(2000).uniform_(-1.3, 1.3, generator=rng)
    hidden[:6] = torch.tensor([0.4, 0.6, -0.4, -0.6, 0.0, float("nan")])
    before = torch.randint(-1, 2, (2000,), generator=rng).float()
    clipped = hidden.clamp(-1, 1)
    size = clipped.abs()
    after = torch.where(size >= 0.6, clipped.sign(), torch.where(size <= 0.4, 0.0, before))
    own, trinary = hidden.clone(), before.clone()
    assert settle(own.numpy(), trinary.numpy(), EITHER) == int((after != before).sum())
    assert torch.equal(trinary, after)
    assert torch.equal(own.nan_to_num(9), clipped.nan_to_num(9))


def test_a_weight_of_one_sign_stops_at_zero_on_its_other_side():
    hidden = torch.tensor([0.7, -0.7, 0.7, -0.7, -0.7])
    trinary, signs = torch.tensor([1.0, -1.0, 1.0, -1.0, 0.0]), np.array([1, 1, -1, -1, 0], np.int8)
    assert settle(hidden.numpy(), trinary.numpy(), signs) == 3
    assert hidden.tolist() == pytest.approx([0.7, 0, 0, -0.7, -0.7]) and trinary.tolist() == [1, 0, 0, -1, -1]


def test_a_wider_hysteresis_keeps_more():
    hidden = torch.tensor([0.65, 0.75, 0.35, 0.25])
    found = torch.tensor([0.0, 0.0, 1.0, 1.0])
    settle(hidden.numpy(), found.numpy(), EITHER[:4], 0.2)
    assert found.tolist() == [0, 1, 1, 0]


def test_whole_weights_are_fixed_points_of_rounding():
    whole = torch.arange(-127, 128).float()
    assert torch.equal(integers(whole / 127, 127), whole)


def test_integers_round_to_even_and_reach_both_ends():
    assert integers(torch.tensor([-1.0, -0.375, -0.125, 0.125, 0.375, 1.0]), 4).tolist() == [-4, -2, 0, 0, 2, 4]


def step_gradient(r: float) -> float:
    return max(0.0, 1.0 - abs(r))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_step_and_its_gradient_are_those_of_the_scalar_rule(dtype):
    grid = torch.arange(-33, 34, dtype=torch.float32).div(16).to(dtype).requires_grad_()
    bits = Step.apply(grid)
    bits.backward(torch.full_like(bits, 0.5))
    assert bits.dtype == dtype
    assert bits.tolist() == [float(r >= 0) for r in grid.tolist()]
    assert grid.grad.tolist() == [0.5 * step_gradient(r) for r in grid.tolist()]


def test_the_step_fires_at_zero_of_either_sign_and_not_just_below():
    below = -(2.0**-126)
    assert Step.apply(torch.tensor([0.0, -0.0, below])).tolist() == [1, 1, 0]


def test_the_step_leaves_its_input_and_the_gradient_given_to_it_alone():
    response, given_ = torch.tensor([[-0.5, 0.25, 2.0]], requires_grad=True), torch.tensor([[1.0, 2.0, 3.0]])
    Step.apply(response).backward(given_)
    assert response.tolist() == [[-0.5, 0.25, 2.0]] and given_.tolist() == [[1, 2, 3]]


def test_the_gradient_goes_straight_through_to_the_hidden_weights():
    hidden, quantised = torch.tensor([[0.3, -0.9, 0.5]], requires_grad=True), torch.tensor([[0.0, -1.0, 1.0]])
    used = StraightThrough.apply(hidden, quantised)
    (used * torch.tensor([[3.0, 5.0, -7.0]])).sum().backward()
    assert torch.equal(used, quantised) and hidden.grad.tolist() == [[3, 5, -7]] and quantised.grad is None


def test_the_gradient_of_half_precision_weights_reaches_float_hidden_weights():
    hidden = torch.tensor([0.3, -0.9], requires_grad=True)
    StraightThrough.apply(hidden, torch.tensor([0.0, -1.0]).bfloat16()).sum().backward()
    assert hidden.grad.dtype == torch.float32 and hidden.grad.tolist() == [1, 1]


def leak_of(x: float, reach: int) -> int:
    """The leak of one neuron that fires where s + x >= 0."""
    one = torch.ones(1, dtype=torch.float64)
    return int(fold(-x * one, one, 0 * one, torch.tensor([float(reach)]))[0])


@pytest.mark.parametrize("off", [-0.5, -(2.0**-40), 0.0, 2.0**-40, 0.5])
def test_folding_agrees_for_every_sum(off):
    reach = 5
    for whole in range(-8, 9):
        leak = leak_of(whole + off, reach)
        for s in range(-reach, reach + 1):
            assert (s + whole + off >= 0) == (s + leak >= 1), (s, whole, off)


@given(
    mean=st.floats(-300, 300, width=32),
    deviation=st.floats(2.0**-10, 100, width=32),
    bias=st.floats(-4, 4, width=32),
    reach=st.integers(1, 128),
)
def test_folding_agrees_with_exact_fractions(mean, deviation, bias, reach):
    column = [torch.tensor([value]) for value in (mean, deviation, bias, float(reach))]
    leak = int(fold(*column)[0])
    # Judged at the float64 that folding decides by; products of two float32 are exact in it.
    x = Fraction(bias * deviation - mean)
    assert -reach <= leak <= reach + 1
    assert all((s + x >= 0) == (s + leak >= 1) for s in range(-reach, reach + 1))


def test_a_leak_beyond_all_sums_is_clipped_to_never_and_always():
    assert [leak_of(x, 7) for x in (-1e30, -8.0, -7.0, 6.0, 7.0, 1e30)] == [-7, -7, -6, 7, 8, 8]


def test_a_neuron_without_inputs_fires_always_or_never():
    assert [leak_of(x, 0) for x in (-0.25, 0.0, 9.0)] == [0, 1, 1]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_folding_refuses_thresholds_that_are_not_finite(bad):
    one = torch.ones(3)
    with pytest.raises(ValueError, match="2 neurons have no finite threshold; lower the rate"):
        fold(torch.tensor([bad, 0.0, bad]), one, one, one)

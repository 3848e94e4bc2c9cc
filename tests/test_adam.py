"""Clipped Adam in two passes: torch's own operators step by step are the reference."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rl.adam import BLOCK, ClippedAdam, _round
from rl.checkpoint import load_optimiser, optimiser_tensors
from rl.network import copy_parameters, rounded

RATE, EPS = 2e-3, 1e-5


def net(seed=0):
    """A convolution in another order of memory, a layer of more than a block and a half, a norm in float32."""
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Conv2d(3, 5, 2), nn.Linear(61, 2 * BLOCK // 61), nn.GroupNorm(1, 7))
    return layers.to(memory_format=torch.channels_last)


def gradients(copy_, seed, size=1.0):
    torch.manual_seed(seed)
    return [size * torch.randn_like(parameter) for parameter in copy_.parameters()]


class Reference:
    """The same by torch, one operator after the other."""

    def __init__(self, own, computes, max_norm):
        self.own, self.computes, self._max_norm = own, computes, max_norm
        self.optimiser = torch.optim.Adam(own.parameters(), lr=RATE, eps=EPS)

    def advance(self, parts):
        for i, parameter in enumerate(self.own.parameters()):
            parameter.grad = sum(part[i].float() for part in parts)
        norm = nn.utils.clip_grad_norm_(self.own.parameters(), self._max_norm)
        self.optimiser.step()
        copy_parameters(self.own, self.computes)
        return norm.item()


def case(bf16=True, max_norm=30.0):
    own = net()
    computes = rounded(own, bf16)
    optimiser = ClippedAdam(own.parameters(), computes.parameters(), RATE, EPS, max_norm)
    other = copy.deepcopy(own)
    return own, computes, optimiser, Reference(other, rounded(other, bf16), max_norm)


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(3) as made:
        yield made


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize(("parts", "shares"), [(1, 1), (2, 2), (3, 3)])
@pytest.mark.parametrize("size", [1e-3, 5.0])  # below and above the norm that is clipped
def test_steps_are_those_of_torch_and_what_computes_is_rounded_as_torch_rounds(pool, bf16, parts, shares, size):
    own, computes, optimiser, reference = case(bf16)
    for step in range(4):
        given_ = [gradients(computes, 10 * step + part, size) for part in range(parts)]
        assert optimiser.advance(given_, pool, shares) == pytest.approx(reference.advance(given_), rel=1e-5)
    for one, two, rough in zip(own.parameters(), reference.own.parameters(), computes.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=2e-7)
        assert torch.equal(rough, one.to(rough.dtype))


def test_gradients_in_another_order_of_memory_step_the_same(pool):
    own, computes, optimiser, _ = case()
    twin, twin_computes, twin_optimiser, _ = case()
    given_ = gradients(computes, 3)
    turned = [g.contiguous(memory_format=torch.contiguous_format) for g in given_]
    assert given_[0].stride() != turned[0].stride()
    optimiser.advance([given_], pool, 1)
    twin_optimiser.advance([turned], pool, 1)
    assert all(map(torch.equal, own.parameters(), twin.parameters()))
    assert all(map(torch.equal, computes.parameters(), twin_computes.parameters()))


def test_a_run_goes_on_from_its_slots_to_the_bit_and_another_gradient_differs(pool):
    own, computes, optimiser, _ = case()
    optimiser.advance([gradients(computes, 1)], pool, 2)
    twin = copy.deepcopy(own)
    twin_computes = copy.deepcopy(computes)
    other = ClippedAdam(twin.parameters(), twin_computes.parameters(), RATE, EPS, 30.0)
    load_optimiser(other, {name: value.clone() for name, value in optimiser_tensors(optimiser).items()})
    for seed in (2, 3):
        optimiser.advance([gradients(computes, seed)], pool, 2)
        other.advance([gradients(computes, seed)], pool, 2)
    assert all(map(torch.equal, own.parameters(), twin.parameters()))
    other.advance([gradients(computes, 4)], pool, 2)
    optimiser.advance([gradients(computes, 5)], pool, 2)
    assert not all(map(torch.equal, own.parameters(), twin.parameters()))


def test_slots_of_torch_s_adam_can_be_gone_on_from(pool):
    _, computes, _, reference = case()
    reference.advance([gradients(computes, 1)])
    own = copy.deepcopy(reference.own)
    mine = ClippedAdam(own.parameters(), rounded(own).parameters(), RATE, EPS, 30.0)
    load_optimiser(mine, optimiser_tensors(reference.optimiser))
    given_ = [gradients(computes, 2)]
    mine.advance(given_, pool, 1)
    reference.advance(given_)
    for one, two in zip(own.parameters(), reference.own.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=2e-7)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_told_by_the_norm(pool, wrong):
    _, computes, optimiser, _ = case()
    given_ = gradients(computes, 1)
    given_[2][4, 5] = wrong
    norm = optimiser.advance([given_], pool, 2)
    assert not np.isfinite(norm)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
@settings(max_examples=200, deadline=None)
def test_rounding_to_bfloat16_is_torch_s(values):
    floats = np.array(values, np.float32)
    out = np.zeros(len(floats), np.uint16)
    _round(floats, out)
    assert torch.equal(torch.from_numpy(out.view(np.int16)), torch.from_numpy(floats).bfloat16().view(torch.int16))

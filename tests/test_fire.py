"""Normalisation and step as compiled loops: the bits and gradients of torch's operators, in one part or in several."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from threading import BrokenBarrierError

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from distill.fire import EPSILON, Fire, fired, moments_of, thresholds
from distill.kernels import descend
from distill.quantise import Step
from distill.sharing import WHOLE, Table
from rl.compiled import bits_of

GROUPS, ROWS, OWN = 3, 14, 5


def sums(seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(-30, 31, (GROUPS, ROWS, OWN), generator=rng).float()


def by_torch(total: torch.Tensor, bias: torch.Tensor, slope: torch.Tensor):
    """(bits [R, O], gradients of sums and bias) by torch's own norm and the step's scalar rule."""
    total, bias = total.clone().requires_grad_(), bias.clone().requires_grad_()
    flat = total.permute(1, 0, 2).reshape(ROWS, -1)
    response = F.batch_norm(flat, None, None, None, bias, True, 0.0, EPSILON)
    bits = Step.apply(response)
    return bits.detach(), *torch.autograd.grad(bits, (total, bias), slope)


def by_us(total: torch.Tensor, bias: torch.Tensor, slope: torch.Tensor, kind=torch.float32, sharing=WHOLE):
    total, bias = total.clone().requires_grad_(), bias.clone().requires_grad_()
    bits = Fire.apply(total, bias, moments_of(total, sharing), kind, sharing)
    return bits.detach(), *torch.autograd.grad(bits, (total, bias), slope.to(kind))


def given(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(GROUPS * OWN, generator=rng), torch.randn(ROWS, GROUPS * OWN, generator=rng)


def test_bits_and_gradients_are_those_of_torchs_norm_and_the_step():
    bias, slope = given()
    for ours, plain in zip(by_us(sums(), bias, slope), by_torch(sums(), bias, slope), strict=True):
        assert torch.allclose(ours, plain, rtol=1e-4, atol=1e-6)


def test_kept_statistics_are_constants_to_the_gradient():
    bias, slope = given()
    rng = torch.Generator().manual_seed(4)
    mean = torch.randn(GROUPS * OWN, generator=rng).double() * 5
    variance = torch.rand(GROUPS * OWN, generator=rng).double() * 200 + 50
    total, own = sums().requires_grad_(), bias.clone().requires_grad_()
    bits = Fire.apply(total, own, (mean.numpy(), variance.numpy(), math.inf), torch.float32, WHOLE)
    found = bits.detach(), *torch.autograd.grad(bits, (total, own), slope)
    plain, offset = sums().requires_grad_(), bias.clone().requires_grad_()
    flat = plain.permute(1, 0, 2).reshape(ROWS, -1)
    stepped = Step.apply((flat - mean.float()) / (variance.float() + EPSILON).sqrt() + offset)
    wanted = stepped.detach(), *torch.autograd.grad(stepped, (plain, offset), slope)
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert found[1].abs().max() > 0


def test_bfloat16_keeps_the_bits_and_rounds_the_gradients_alone():
    bias, slope = given()
    slope = slope.bfloat16().float()
    exact, half = by_us(sums(), bias, slope), by_us(sums().bfloat16(), bias, slope, torch.bfloat16)
    assert torch.equal(exact[0], half[0].float())
    assert torch.allclose(exact[1], half[1].float(), rtol=2**-8, atol=1e-6) and torch.allclose(exact[2], half[2])
    assert half[1].dtype == torch.bfloat16 and not torch.equal(exact[1], half[1].float())


@pytest.mark.parametrize("value", [1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-9), 2**-130, 3e38])
def test_numbers_are_rounded_to_bfloat16_as_torch_rounds_them(value):
    bits = torch.tensor([[[value]]])
    # Of one row the mean is the sum itself, so all that is left of a gradient is 0; rounding shows in a plain copy.
    out, zero, one = (
        torch.zeros(1, 1, 1, dtype=torch.bfloat16),
        np.zeros((1, 1), np.float32),
        np.ones((1, 1), np.float32),
    )
    descend(bits_of(torch.zeros(1, 1, 1)), bits_of(bits[0]), zero, one, zero, np.float32(1), zero, zero, bits_of(out))
    assert torch.equal(out, bits.bfloat16())


@pytest.mark.parametrize("parts", [[7, 7], [2, 9, 3]])
def test_parts_of_a_batch_give_the_bits_and_the_gradients_of_the_whole(parts):
    bias, slope = given()
    bits, of_sums, of_bias = by_us(sums(), bias, slope)
    table = Table(len(parts))
    shares = zip(sums().split(parts, dim=1), slope.split(parts), table.seats, strict=True)
    with ThreadPoolExecutor(len(parts)) as pool:
        own = list(pool.map(lambda share: by_us(share[0], bias, share[1], sharing=share[2]), shares))
    assert torch.equal(torch.cat([part[0] for part in own]), bits)
    assert torch.allclose(torch.cat([part[1] for part in own], dim=1), of_sums, rtol=1e-5, atol=1e-6)
    assert torch.allclose(sum(part[2] for part in own), of_bias, rtol=1e-5, atol=1e-6)
    apart = by_us(sums().split(parts, dim=1)[0], bias, slope.split(parts)[0])[1]
    assert not torch.allclose(own[0][1], apart, rtol=0.01), "a part alone says the same: nothing is shown"


def test_a_part_that_fails_keeps_nobody_waiting():
    table = Table(2)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(table.seats[0].total, np.zeros(1))
        table.leave()
        with pytest.raises(BrokenBarrierError):
            waiting.result(timeout=10)


EDGES = [
    # mean, variance, bias, the least whole sum that fires
    (0.0, 4.0 - EPSILON, 1.0, -2),
    (0.0, 4.0 - EPSILON, 1.25, -2),
    (0.5, 4.0 - EPSILON, 0.0, 1),
    (3.0, 4.0 - EPSILON, 0.0, 3),
    (3.0, 4.0 - EPSILON, -0.125, 4),
]


@pytest.mark.parametrize(("mean", "variance", "bias", "least"), EDGES)
def test_a_sum_fires_from_its_threshold_on_and_the_tie_fires(mean, variance, bias, least):
    found = thresholds(*(np.array([value]) for value in (mean, variance, bias)))
    assert found.tolist() == [least]
    row = torch.tensor([[[least - 1.0], [least], [least + 1.0]]])
    assert fired(row, found, torch.float32).flatten().tolist() == [0, 1, 1]

"""The fake-quantised network in torch is the integers that it becomes, in every output; its gradients are LSQ's."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from distill_cases import SHORT, stacks

from distill.integer_health import health
from distill.integers import IntegerLayer, IntegerNet, best_step, norm_of, rounded
from rl.checkpoint import PolicyCheckpoint, half, load_policy
from rl.frames import stack_blocks
from rl.games import action_meanings
from rl.network import NetworkSettings, QNetwork

SHIPPED = Path(__file__).parents[1] / "models/Pong/teacher.safetensors"
UNEQUAL, WIDE = NetworkSettings((4, 5, 6), 7), NetworkSettings((3, 4, 40), 5)


def policy(network: NetworkSettings = UNEQUAL, seed: int = 0, game: str = "Pong") -> PolicyCheckpoint:
    """A teacher that looks trained: biases and norms of all signs."""
    torch.manual_seed(seed)
    actions = action_meanings(game, SHORT)
    made = QNetwork(len(actions), network)
    with torch.no_grad():
        for name, value in made.named_parameters():
            if value.ndim == 1:
                value += torch.randn_like(value) * (0.5 if "norm" in name else 0.1)
    return PolicyCheckpoint(game, actions, SHORT, network, half(made.state_dict()), {"score": None})


def cells(count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(stack_blocks(stacks(count, seed)))


def tuned(teacher: PolicyCheckpoint, bits: int, updates: int = 0) -> IntegerNet:
    """Calibrated, then moved by some updates of everything that learns."""
    net = IntegerNet(teacher, bits)
    net.calibrate(cells(8, 1))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for update in range(updates):
        optimiser.zero_grad()
        net(cells(4, 2 + update)).square().mean().backward()
        optimiser.step()
    return net


def assert_bit_for_bit(net: IntegerNet, obs: np.ndarray) -> None:
    spec = net.export()
    with torch.no_grad():
        found = [(x, scale.item()) for x, scale in net.levels(torch.from_numpy(stack_blocks(obs)))]
        values = net(torch.from_numpy(stack_blocks(obs)))
    for (ours, _), theirs in zip(found, spec.levels(obs), strict=True):
        assert np.array_equal(ours.permute(0, 2, 3, 1).numpy(), theirs)
    assert spec.value_step == pytest.approx(found[-1][1], rel=1e-6)
    assert np.array_equal(values.argmax(dim=1).numpy(), spec.act(obs))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(("network", "updates"), [(UNEQUAL, 0), (UNEQUAL, 5), (WIDE, 3)])
def test_the_network_in_torch_equals_its_integers_in_every_output(bits, network, updates):
    assert_bit_for_bit(tuned(policy(network), bits, updates), stacks(9, seed=40))


@pytest.mark.parametrize("bits", [8, 4])
def test_the_shipped_teacher_becomes_integers_bit_for_bit(bits):
    net = IntegerNet(load_policy(SHIPPED), bits)
    net.calibrate(cells(4, 1))
    obs = np.concatenate(
        [stacks(3, seed=5), np.zeros((1, 4, 84, 84), np.uint8), np.full((1, 4, 84, 84), 255, np.uint8)]
    )
    assert_bit_for_bit(net, obs)


def test_eight_bits_stay_close_to_the_teacher_and_four_lie_further_off():
    teacher, seen = policy(), cells(16, 9)
    with torch.no_grad():
        real = teacher.build()(seen)
        near, far = ((tuned(teacher, bits)(seen) - real).abs().mean() for bits in (8, 4))
    assert near < 0.1 * real.std()
    assert near < far < real.std()


def test_the_last_sums_need_more_than_single_precision_and_get_it():
    layer = IntegerLayer("wide", torch.ones(2, 600, 1, 1), torch.zeros(2), 1, 8)
    with torch.no_grad():
        total, _ = layer.sums(torch.full((1, 600, 1, 1), 251.0), torch.tensor(1.0), 255)
    assert total.dtype == torch.float64 and total.flatten().tolist() == [600 * 127 * 251] * 2


def test_the_gradient_of_a_weight_step_is_that_of_lsq():
    layer = IntegerLayer("one", torch.zeros(1, 5, 1, 1), torch.zeros(1), 1, 4)
    values = [0.3, -0.4, 5.0, -9.0, 0.0]  # in units of a step: two inside, two clipped, one nothing
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(values).reshape(1, 5, 1, 1))
        layer.log_step.fill_(0.0)
        layer.unit.fill_(1.0)
        layer.weight[0, 2], layer.weight[0, 3] = 9.0, -9.0
    (layer.whole_weights() * layer.step).sum().backward()
    inside = [round(v) - v for v in values[:2]]  # equation 3, inside the range
    assert layer.log_step.grad is not None and layer.weight.grad is not None
    assert layer.log_step.grad.item() == pytest.approx(sum(inside) + 7 - 7 + 0)
    assert layer.weight.grad.flatten().tolist() == [1, 1, 0, 0, 1]


def test_the_gradient_of_an_activation_passes_where_it_is_not_clipped():
    net = tuned(policy(), 4)
    _, norm = next(iter(net.pairs()))
    assert norm is not None
    total = torch.randn(2, 4, 3, 3).mul(100).round().requires_grad_()
    norm.guard = 3
    scale = torch.tensor(0.01)
    real = (norm.real(total, scale) / norm.step).detach()
    outputs = norm(total, scale)
    outputs.sum().backward()
    assert total.grad is not None and ((real > 0) & (real < norm.peak)).any()
    assert (outputs.detach() - real.clamp(0, norm.peak)).abs().max() < 0.501


def test_rounding_passes_gradients_unchanged():
    x = torch.tensor([0.4, 0.5, -1.6], requires_grad=True)
    rounded(x).backward(torch.tensor([1.0, 2.0, 3.0]))
    assert x.grad is not None and x.grad.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("values", "low", "high", "step"),
    [
        ([-7.0, 7.0, 1.0, 0.0], -7, 7, 1.0),  # whole already
        ([0.0, 0.0], 0, 15, 1 / 15),
        ([0.5, 1.0, 7.5], 0, 15, 0.5),
    ],
)
def test_the_best_step_of_values_that_are_multiples_is_their_unit(values, low, high, step):
    assert best_step(torch.tensor(values), low, high) == pytest.approx(step)


def test_the_best_step_clips_what_is_rare():
    values = torch.cat([torch.rand(20_000, generator=torch.Generator().manual_seed(0)), torch.tensor([4.0])])
    step = best_step(values, 0, 15)
    errors = {
        s: ((values / s).round().clamp(0, 15) * s - values).square().mean().item() for s in (step, 4 / 15, 1 / 15)
    }
    assert 0.9 / 15 < step < 1.5 / 15 and errors[step] == min(errors.values())


def test_values_that_are_not_finite_are_not_calibrated():
    with pytest.raises(ValueError, match=r"^calibration: values that are not finite; train or fetch the teacher again"):
        best_step(torch.tensor([1.0, math.nan]), 0, 15)


@pytest.mark.parametrize(("gain", "offset", "epsilon"), [(math.inf, 0, 1), (1, math.nan, 1), (1, 0, 1e30)])
def test_a_norm_that_is_not_finite_becomes_no_integers(gain, offset, epsilon):
    with pytest.raises(
        ValueError, match=r"^norm: gain, offset or epsilon is not finite or too large; lower integers\."
    ):
        norm_of(np.array([gain]), np.array([offset], np.float64), epsilon, 6, 0, 15, 1.0)


def test_equal_networks_make_equal_integers_and_others_do_not():
    digests = [tuned(policy(seed=seed), 4).export().digest for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_health_tells_what_the_field_looks_at():
    teacher = policy()
    net = tuned(teacher, 4)
    with torch.no_grad():
        net.layers[1].weight[:2] = 0  # type: ignore[index]
    spec, obs = net.export(), stacks(6, seed=3)
    found = health(net, teacher, spec, obs)
    level = next(iter(spec.levels(obs)))
    assert (
        found["zeros/conv2"] == pytest.approx(float((spec.layers[1].weights == 0).mean()))
        and found["zeros/conv2"] > 0.4
    )
    assert found["silent/conv1"] == pytest.approx(float((level == 0).mean()))
    assert 0.9 < found["cosine/conv1"] <= 1.0001 and found["cosine/conv2"] < 0.95
    assert {"clipped/values", "full/hidden", "dead/conv3"} <= set(found)

"""The student in training: rules of its layers, whole numbers in its sums, its heads, its statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from distill_cases import SMALL, heads, levels, stacks, student, trained_looking
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.convolve import Shape, convolve, sides
from distill.fire import EPSILON
from distill.front import front_sums, pixel_kernel, plain_sums
from distill.statistics import recalibrate
from distill.student import (
    MOMENTUM,
    LayerSettings,
    Student,
    StudentSettings,
    TrinaryConv,
    shared,
)
from rl.frames import stack_blocks
from rl.settings import SettingsError


def cells(batch: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(stack_blocks(stacks(batch, seed)))


def pixels_first(sums: torch.Tensor, batch: int, height: int) -> torch.Tensor:
    """Sums [G, B*H*W, O/G] as torch's convolution gives them, [B, O, H, W] float32."""
    return sums.permute(1, 0, 2).reshape(batch, height, -1, sums.shape[0] * sums.shape[2]).permute(0, 3, 1, 2).float()


def layer(features=8, groups=1, kernel=1, stride=1, padding=0, shuffle=False) -> LayerSettings:
    return LayerSettings(features, groups, kernel, stride, padding, shuffle)


def test_a_neuron_may_have_128_inputs_and_no_more():
    assert TrinaryConv("one", 32, 1, layer(kernel=2)).hidden[0].numel() == 128
    with pytest.raises(SettingsError, match=r"student one: 132 inputs a neuron, allowed 128; try more groups"):
        TrinaryConv("one", 33, 1, layer(kernel=2))


@pytest.mark.parametrize(("channels", "features"), [(9, 8), (8, 9)])
def test_groups_must_divide_channels_and_features(channels, features):
    with pytest.raises(SettingsError, match=rf"one: {channels} -> {features} channels do not divide by 4 groups"):
        TrinaryConv("one", channels, 1, layer(features, groups=4))


@pytest.mark.parametrize(
    ("name", "value"), [("features", 0), ("groups", 0), ("kernel", 0), ("stride", 0), ("padding", -1)]
)
def test_a_layer_of_impossible_numbers_is_refused(name, value):
    with pytest.raises(SettingsError, match=rf"student.layers.{name}: found {value}, allowed"):
        layer(**{name: value})


def test_a_kernel_that_does_not_fit_its_map_is_refused_where_it_stands():
    with pytest.raises(SettingsError, match=r"student 02-S-8\(1\): found 'kernel 3 on a 2x2 map'"):
        student([layer(kernel=4, stride=16), layer(kernel=3, stride=1), layer(kernel=1, padding=4)])


def test_a_student_needs_layers_a_front_and_a_neuron_an_action():
    with pytest.raises(SettingsError, match=r"student.layers: found 0, allowed at least one layer"):
        StudentSettings(4, ())
    with pytest.raises(SettingsError, match=r"student.front_features: found 0, allowed 1 or more"):
        StudentSettings(0, SMALL)
    with pytest.raises(SettingsError, match=r"3 output neurons.*at least one an action \(4\)"):
        student([layer(3, kernel=4, stride=20)], (4,))


def test_shuffled_channels_are_dealt_as_torch_deals_them():
    conv = TrinaryConv("one", 12, 3, layer(4, groups=2, shuffle=True))
    x = torch.arange(12.0).reshape(1, 12, 1, 1)
    assert x[:, conv.order].flatten().tolist() == F.channel_shuffle(x, 3).flatten().tolist()
    assert conv.order[:4].tolist() == [0, 4, 8, 1]


def test_channels_stay_in_order_unless_shuffled():
    assert TrinaryConv("one", 12, 3, layer(4, groups=2)).order.tolist() == list(range(12))


def test_the_front_over_blocks_is_a_convolution_of_pixels():
    made, obs = student(), stacks(2)
    weights = made.front.quantised().detach()
    over_pixels = F.conv2d(torch.from_numpy(obs).float(), pixel_kernel(weights), None, stride=4)
    assert torch.equal(pixels_first(made.front.sums(torch.from_numpy(stack_blocks(obs))), 2, 20), over_pixels)
    assert over_pixels.shape == (2, 4, 20, 20) and over_pixels.abs().max() > 256


CONVOLUTIONS = [
    # channels, features, groups, kernel, stride, padding, groups before that are dealt out, (towers,) height, width
    (6, 4, 2, 1, 1, 0, 1, 3, 5),
    (6, 9, 3, 2, 2, 0, 1, 4, 6),
    (6, 9, 3, 2, 2, 0, 1, 5, 7),
    (6, 4, 2, 2, 2, 1, 1, 5, 3),
    (8, 4, 4, 3, 3, 2, 1, 4, 6),
    (6, 4, 1, 2, 2, 0, 1, 4, 6),
    (6, 4, 2, 3, 1, 1, 1, 4, 5),
    (6, 4, 2, 4, 2, 1, 1, 6, 8),
    (12, 4, 2, 1, 1, 0, 3, 3, 5),  # runs of two channels
    (48, 4, 2, 2, 2, 1, 3, 4, 5),  # of eight, which move as words
    (12, 6, 3, 1, 1, 0, 6, 3, 2),  # a group before holds fewer channels than there are groups: one by one
    (12, 4, 2, 3, 1, 1, 3, 4, 5),
    (96, 8, 4, 2, 2, 1, 6, 2, 4, 5),  # two towers: runs of eight channels
    (24, 12, 6, 1, 1, 0, 12, 2, 3, 2),  # one by one
    (24, 8, 4, 3, 1, 1, 6, 2, 4, 5),
    (18, 9, 9, 2, 2, 0, 3, 3, 4, 6),  # three towers, with nothing to deal out in each
]


@pytest.mark.parametrize("case", [case for case in CONVOLUTIONS if len(case) == 10])
def test_towers_read_as_so_many_layers_side_by_side(case):
    channels, features, groups, kernel, stride, padding, mixed, towers, *_ = case
    parts = (number // towers for number in (channels, features, groups))
    alone = Shape(*parts, kernel, stride, padding, mixed // towers)
    side_by_side = [alone.order + tower * (channels // towers) for tower in range(towers)]
    assert np.array_equal(Shape(*case[:8]).order, np.concatenate(side_by_side))


@pytest.mark.parametrize("case", CONVOLUTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_way_to_convolve_gives_the_same_sums_and_gradients(case, dtype):
    *numbers, height, width = case
    shape = Shape(*numbers)
    rng = torch.Generator().manual_seed(1)
    x = torch.randint(0, 2, (3, height, width, shape.channels), generator=rng).to(dtype).requires_grad_()
    size = (shape.features, shape.channels // shape.groups, shape.kernel, shape.kernel)
    weights = torch.randint(-1, 2, size, generator=rng).to(dtype).requires_grad_()
    turned = x.permute(0, 3, 1, 2)[:, torch.from_numpy(shape.order)]
    plain = F.conv2d(turned, weights, None, shape.stride, shape.padding, 1, shape.groups)
    ours = pixels_first(convolve(x, weights, shape), 3, plain.shape[2])
    assert torch.equal(plain.float(), ours)
    # Whole gradients stay exact in either order of summation.
    slope = torch.randint(-2, 3, plain.shape, generator=rng).float()
    for a, b in zip(*(torch.autograd.grad(y.float(), (x, weights), slope) for y in (plain, ours)), strict=True):
        assert torch.equal(a, b)


BLIND = [
    # channels, features, groups, kernel, stride, padding, height, width: some taps read padding alone
    (6, 4, 2, 4, 3, 1, 2, 5),
    (6, 4, 2, 3, 2, 1, 1, 4),
    (6, 4, 1, 3, 4, 1, 7, 2),
    (64, 32, 4, 5, 2, 2, 3, 1),
    (6, 4, 1, 2, 2, 1, 5, 1),
]


def by_unfolding(x: torch.Tensor, slope: torch.Tensor, shape: Shape) -> torch.Tensor:
    """The gradient of weights [O, C/G, k, k] by products of every patch, in float64."""
    k, groups = shape.kernel, shape.groups
    patches = F.unfold(x.double().permute(0, 3, 1, 2), k, 1, shape.padding, shape.stride)
    patches = patches.reshape(len(x), groups, -1, patches.shape[2])
    by_group = slope.double().permute(0, 3, 1, 2).reshape(len(x), groups, -1, patches.shape[3])
    return torch.einsum("bgop,bgkp->gok", by_group, patches).reshape(shape.features, -1, k, k)


@pytest.mark.parametrize("case", BLIND)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_of_taps_that_read_padding_alone_have_no_gradient_and_the_others_theirs(case, dtype):
    *numbers, height, width = case
    shape = Shape(*numbers)
    rng = torch.Generator().manual_seed(1)
    size = (shape.features, shape.channels // shape.groups, shape.kernel, shape.kernel)
    for _ in range(8):  # what memory held before is chance
        torch.full((1 << 12,), torch.nan, dtype=dtype)
        x = torch.randint(0, 2, (3, height, width, shape.channels), generator=rng).to(dtype)
        weights = torch.randint(-1, 2, size, generator=rng).to(dtype).requires_grad_()
        sums = convolve(x, weights, shape)
        slope = torch.randint(-2, 3, (3, *sides(shape, height, width), shape.features), generator=rng)
        (found,) = torch.autograd.grad(sums, weights, slope.to(dtype).reshape(sums.shape))
        wanted = by_unfolding(x, slope, shape)
        assert (wanted == 0).all(dim=(0, 1)).any(), "every tap reads: nothing is shown"
        assert torch.equal(found.double(), wanted)


@pytest.mark.parametrize("products", [front_sums, plain_sums])
def test_every_way_to_sum_the_front_gives_the_same_sums_and_gradients(products):
    rng = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (3, 5, 4, 32), generator=rng, dtype=torch.uint8)
    weights = torch.randint(-127, 128, (7, 32, 2, 2), generator=rng).float().requires_grad_()
    plain = F.conv2d(pixels.permute(0, 3, 1, 2).float(), weights)
    ours = products(pixels, weights)
    assert torch.equal(plain, pixels_first(ours, 3, 4)) and plain.abs().max() > 2**15
    slope = torch.randint(-2, 3, plain.shape, generator=rng).float()
    for_ours = slope.permute(0, 2, 3, 1).reshape(1, -1, 7)
    wanted = torch.autograd.grad(plain, weights, slope)[0]
    assert torch.equal(wanted, torch.autograd.grad(ours, weights, for_ours)[0])


@pytest.mark.parametrize("bf16", [False, True])
def test_votes_are_whole_numbers_in_either_precision(bf16):
    # 1,500 output neurons for 2 answers: far more votes than bfloat16 can count.
    made = student([layer(12, 2, 4, 4), layer(1500, 12, 5, 5)], (2,)).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        votes = made.votes(cells(5))
        *_, last = made.bits(cells(5))
    counted = torch.stack([last.flatten(1).float()[:, a::2].sum(1) for a in range(2)], 1)
    assert votes.dtype == torch.float32 and torch.equal(votes, counted)
    assert (votes.max() > 256) and (votes % 2 == 1).any()


def test_half_precision_changes_no_sum():
    made = student().train()
    bits = (torch.rand(3, 20, 20, 4) < 0.5).float()
    one = next(made.chip_layers)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(one.sums(bits.bfloat16()).float(), one.sums(bits))


def test_settling_clips_hidden_weights_and_counts_flips():
    made = student([layer(4, 2, 4, 4), layer(5, 1, 5, 5)], (5,))
    one, two = made.chip_layers
    total = one.trinary.numel() + two.trinary.numel()
    with torch.no_grad():
        for level in (one, two):
            level.hidden.fill_(0.5)
            level.trinary.fill_(0)
        one.hidden.view(-1)[:3] = torch.tensor([1.5, -7.0, 0.6])
        two.hidden.view(-1)[0] = -0.625
        made.front.hidden.view(-1)[0] = 3.0
    assert made.settle() == 4 / total
    assert one.hidden.view(-1)[:3].tolist() == [1, -1, pytest.approx(0.6)]
    assert one.trinary.view(-1)[:4].tolist() == [1, -1, 1, 0] and two.trinary.view(-1)[:2].tolist() == [-1, 0]
    assert made.front.hidden.max() == 1 and made.settle() == 0


def test_trinary_weights_begin_as_rounded_hidden_ones():
    for level in student().chip_layers:
        assert torch.equal(level.trinary, level.hidden.round())


def test_heads_read_their_own_slice_with_their_own_scale():
    made = student(counts=(2, 5), layers=[layer(4, 2, 4, 4), layer(14, 1, 5, 5)])
    assert made.heads == heads(2, 5)
    with torch.no_grad():
        made.log_scale.copy_(torch.tensor([0.0, 1.0]).log1p())  # scales 1 and 2
    votes = torch.arange(14.0).reshape(2, 7)
    assert made.logits(votes, 0).tolist() == [[0, 1], [7, 8]]
    assert torch.allclose(made.logits(votes, 1), 2 * votes[:, 2:])


def test_only_a_heads_own_scale_learns_from_its_loss():
    made = student(counts=(2, 3)).train()
    made(cells(4), head=1).square().sum().backward()
    assert made.log_scale.grad[0] == 0 and made.log_scale.grad[1] != 0


def test_every_weight_of_a_student_gets_a_gradient():
    made = student().train()
    F.cross_entropy(made(cells(8)), torch.arange(8) % 3).backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_recalibration_leaves_plain_means_of_the_batches():
    made = student().train()
    batches = [cells(6, seed) for seed in (1, 2, 3)]
    for level in levels(made):
        level.mean.fill_(1e6)
    recalibrate(made, batches)
    sums = torch.stack([made.front.sums(batch) for batch in batches]).detach()
    assert torch.allclose(made.front.mean, sums.double().mean(dim=(0, 1, 2)).float(), rtol=1e-5)
    spread = torch.stack([batch.double().var(dim=(0, 1), correction=0) for batch in sums]).mean(0).float()
    assert torch.allclose(made.front.variance, spread, rtol=1e-4)
    assert not made.training and {level.momentum for level in levels(made)} == {MOMENTUM}
    assert all(level.mean.abs().max() < 1e5 for level in levels(made))


def test_a_deviation_includes_what_keeps_it_from_zero():
    made = student()
    made.front.variance.zero_()
    assert made.front.deviation.tolist() == pytest.approx([EPSILON**0.5] * 4)


def test_equal_seeds_make_equal_students_and_other_seeds_do_not():
    one, same, other = (student(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["layers.0.hidden"], other["layers.0.hidden"])


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**16))
def test_statistics_of_the_cases_keep_every_sum_half_a_step_from_its_threshold(seed):
    for level in levels(trained_looking(SMALL, (3,), seed)):
        x = (level.bias.detach().double() * level.deviation - level.mean.double()).numpy()
        assert np.abs(x - np.floor(x) - 0.5).max() < 0.25


def test_a_student_is_a_module_with_its_state_in_the_checkpoint():
    names = set(student().state_dict())
    assert {"front.hidden", "front.mean", "layers.0.trinary", "layers.0.bias", "vote", "log_scale"} <= names
    assert isinstance(student(), Student) and "member" not in names


@pytest.mark.parametrize(("name", "allowed"), [("transduction", "learned, thresholds"), ("signs", "free, shared")])
def test_a_kind_of_student_that_does_not_exist_is_refused(name, allowed):
    with pytest.raises(SettingsError, match=rf"student.{name}: found 'odd', allowed {allowed}"):
        StudentSettings(4, SMALL, **{name: "odd"})


def test_plain_thresholds_lie_on_both_sides_of_the_mean_and_their_weights_do_not_learn():
    torch.manual_seed(0)
    made = Student(StudentSettings(12, SMALL, transduction="thresholds"), heads(3)).train()
    assert made.front.bias.detach().reshape(3, 4)[:, 0].tolist() == pytest.approx([-1.0, 0.0, 1.0])
    assert not made.front.hidden.requires_grad
    assert all(own is not made.front.hidden for group in made.groups() for own in group["params"])


def test_shared_signs_are_plus_and_minus_in_turn_and_differ_between_groups():
    sign = shared((4, 3, 2, 2), 2)
    assert sign[:, :, 0, 0].tolist() == [[1, -1, 1], [1, -1, 1], [-1, 1, -1], [-1, 1, -1]]
    assert (sign == sign[:, :, :1, :1]).all()
    torch.manual_seed(0)
    made = TrinaryConv("one", 6, 1, layer(8, groups=2, kernel=2), shared_signs=True)
    assert ((made.trinary * made.sign) >= 0).all() and (made.trinary != 0).any()


def test_a_narrower_surrogate_learns_nearer_the_threshold_alone():
    found = []
    for width in (1.0, 0.25):
        made = student(seed=2).train()
        made.tune(0.1, width)
        made(cells(6)).square().sum().backward()
        found.append((next(made.chip_layers).hidden.grad != 0).float().mean().item())
    assert found[1] < found[0]

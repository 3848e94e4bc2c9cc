"""The teacher with quantised weights and activations: computes with the deployed integers, learns through them.

Forward: the integers of `deploy.integer`, exactly, whatever is still being learnt. Backward: straight through every
rounding, as if the numbers were real (Bengio et al. 2013); the gradient of a step size is then that of LSQ (Esser et
al. 2020, equation 3). LSQ's scale of that gradient is left out, since Adam divides by it anyway.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from deploy.integer import EXACT, TOP, Layer, Norm, guard_of, normalise
from deploy.integer_spec import IntegerSpec
from distill.front import pixel_kernel
from distill.quantise import StraightThrough
from rl.checkpoint import PolicyCheckpoint
from rl.frames import CELLS, SIDE, STACK

END_BITS = 8  # of the first and the last layer
CANDIDATES = 100  # step sizes tried in calibration


def rounded(x: Tensor) -> Tensor:
    """To whole numbers; the gradient passes unchanged."""
    return StraightThrough.apply(x, x.detach().round())  # type: ignore[no-any-return,no-untyped-call]


def best_step(values: Tensor, low: int, high: int) -> float:
    """The step whose integers low..high lie nearest to values [...], by squared error; clips what costs less clipped.

    Raises ValueError for values that are not finite.
    """
    largest = values.abs().max().item()
    if not math.isfinite(largest):
        raise ValueError("calibration: values that are not finite; train or fetch the teacher again")
    if largest == 0:
        return 1.0 / high
    steps = [largest / high * share / CANDIDATES for share in range(CANDIDATES // 10, CANDIDATES + 1)]
    return min(steps, key=lambda step: _error(values, step, low, high))


def _error(values: Tensor, step: float, low: int, high: int) -> float:
    return ((values / step).round_().clamp_(low, high).mul_(step) - values).square_().mean().item()


def norm_of(
    gain: NDArray[np.float64],
    offset: NDArray[np.float64],
    epsilon: float,
    n: int,
    guard: int,
    peak: int,
    step: float,
) -> Norm:
    """The integers of a norm over n sums.

    `gain`, `offset` [O] in units of an output, `epsilon` in units of a squared sum. Raises ValueError where one is not
    finite or too large.
    """
    added = n * epsilon * 4.0**guard
    if not (np.isfinite(gain).all() and np.isfinite(offset).all() and added < TOP / 2):
        raise ValueError("norm: gain, offset or epsilon is not finite or too large; lower integers.learning_rate")
    scaled = gain * math.sqrt(n)
    gain_shift = 30 - _exponent(scaled)
    shift = gain_shift + 31 - math.ceil(math.log2(n) / 2)
    shift = min(shift, 60 - _exponent(offset), 61)
    whole = np.round(offset * 2.0**shift).astype(np.int64) + 2 ** max(0, shift - 1)
    fixed = np.round(scaled * 2.0**gain_shift).astype(np.int32)
    return Norm(fixed, gain_shift, whole, shift, guard, max(1, round(added)), peak, step)


def _exponent(values: NDArray[np.float64]) -> int:
    """The smallest e with all sizes below 2**e; 0 where all are 0."""
    return int(np.frexp(np.abs(values).max())[1])


class IntegerLayer(nn.Module):
    """A convolution on integers and, but for the last, its norm.

    The hidden weights lie in units of the clipped range, about -1..1, so that one learning rate fits every layer. A
    scale is the real value of a whole number.
    """

    unit: Tensor  # []  real value of a hidden weight of 1

    def __init__(self, name: str, weight: Tensor, bias: Tensor, stride: int, bits: int) -> None:
        """`weight` [O, C, k, k] and `bias` [O]: real, as the teacher has them."""
        super().__init__()
        self.name, self.stride, self.bits = name, stride, bits
        self.peak = (1 << (bits - 1)) - 1
        unit = self.peak * best_step(weight, -self.peak, self.peak)
        self.register_buffer("unit", torch.tensor(unit))
        self.weight = nn.Parameter((weight / unit).contiguous(memory_format=torch.channels_last))
        self.bias = nn.Parameter(bias.clone())
        self.log_step = nn.Parameter(torch.tensor(1 / self.peak).log())

    @property
    def step(self) -> Tensor:
        """[]  real value of one unit of weight."""
        return self.log_step.exp() * self.unit

    def whole_weights(self) -> Tensor:
        """Integers [O, C, k, k] as floats."""
        return rounded((self.weight / self.log_step.exp()).clamp(-self.peak, self.peak))

    def sums(self, x: Tensor, scale: Tensor, peak: int) -> tuple[Tensor, Tensor]:
        """Activations 0..peak [B, C, H, W] of that scale -> (sums [B, O, h, w], their scale), whole numbers."""
        weights, scale = self.whole_weights(), scale * self.step
        bias = rounded(self.bias / scale)
        largest = (weights.detach().abs().flatten(1).sum(dim=1) * peak + bias.detach().abs()).max().item()
        kind = torch.float32 if largest < EXACT else torch.float64  # either is exact
        return F.conv2d(x.to(kind), weights.to(kind), bias.to(kind), self.stride), scale


class IntegerNorm(nn.Module):
    """Norm, ReLU and requantisation."""

    def __init__(self, norm: nn.GroupNorm | nn.LayerNorm, bits: int, guard: int) -> None:
        """`bits`: of its outputs; `guard` as of `deploy.integer.Norm`."""
        super().__init__()
        self.peak, self.eps, self.guard = (1 << bits) - 1, norm.eps, guard
        self.weight, self.bias = (nn.Parameter(own.detach().clone()) for own in (norm.weight, norm.bias))
        self.log_step = nn.Parameter(torch.tensor(0.0))  # of an output; set by calibration

    @property
    def step(self) -> Tensor:
        """[]  real value of one unit of output."""
        return self.log_step.exp()

    def real(self, total: Tensor, scale: Tensor) -> Tensor:
        """Sums [B, O, h, w] -> what their norm is without rounding."""
        return F.group_norm(total.float() * scale, 1, self.weight, self.bias, self.eps)

    @torch.no_grad()
    def whole(self, scale: Tensor, n: int) -> Norm:
        """The integers of it over n sums of that scale."""
        step = self.step.double()
        gain, offset = ((own.double() / step).numpy() for own in (self.weight, self.bias))
        return norm_of(gain, offset, self.eps / scale.double().item() ** 2, n, self.guard, self.peak, step.item())

    def forward(self, total: Tensor, scale: Tensor) -> Tensor:
        """Sums [B, O, h, w] of that scale -> whole numbers 0..peak [B, O, h, w]."""
        norm = self.whole(scale, total[0].numel())
        exact = normalise(norm, total.detach().permute(0, 2, 3, 1).numpy())
        outputs = torch.from_numpy(exact).permute(0, 3, 1, 2).float()
        real = (self.real(total, scale) / self.step).clamp(0, self.peak)
        return StraightThrough.apply(real, outputs)  # type: ignore[no-any-return,no-untyped-call]


class IntegerNet(nn.Module):
    """A teacher's network on integers: stacks u8 [B, 21, 21, 64] in block layout -> action values [B, A]."""

    def __init__(self, teacher: PolicyCheckpoint, bits: int) -> None:
        super().__init__()
        self.game, self.actions, self.bits = teacher.game, teacher.actions, bits
        own = teacher.build()
        kernel = round(math.sqrt(own.hidden.in_features / teacher.network.channels[-1]))
        hidden = own.hidden.weight.reshape(len(own.hidden.weight), -1, kernel, kernel)
        values = own.values.weight[:, :, None, None]
        rows = [
            ("conv1", own.conv1.weight, own.conv1.bias, 1, END_BITS),
            ("conv2", own.conv2.weight, own.conv2.bias, 2, bits),
            ("conv3", own.conv3.weight, own.conv3.bias, 1, bits),
            ("hidden", hidden, own.hidden.bias, 1, bits),
            ("values", values, own.values.bias, 1, END_BITS),
        ]
        layers = []
        for name, weight, bias, stride, width in rows:
            assert bias is not None
            layers.append(IntegerLayer(name, weight.detach(), bias.detach(), stride, width))
        self.layers = nn.ModuleList(layers)
        norms, side, peak = [], CELLS, 255
        before = (own.norm1, own.norm2, own.norm3, own.norm4)
        for norm, layer, reader in zip(before, layers[:-1], layers[1:], strict=True):
            assert isinstance(norm, nn.GroupNorm | nn.LayerNorm)
            out, fan_in, k = len(layer.weight), layer.weight[0].numel(), layer.weight.shape[2]
            side = (side - k) // layer.stride + 1
            norms.append(IntegerNorm(norm, reader.bits, guard_of(out * side**2, fan_in, layer.peak, peak)))
            peak = norms[-1].peak
        self.norms = nn.ModuleList(norms)

    def pairs(self) -> Iterator[tuple[IntegerLayer, IntegerNorm | None]]:
        """Every layer with its norm; the last has none."""
        for index, layer in enumerate(self.layers):
            norm = self.norms[index] if index < len(self.norms) else None
            assert isinstance(layer, IntegerLayer)
            assert norm is None or isinstance(norm, IntegerNorm)
            yield layer, norm

    def forward(self, cells: Tensor) -> Tensor:
        *_, (sums, scale) = self.levels(cells)
        return sums.flatten(1).float() * scale

    def levels(self, cells: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """(whole numbers [B, O, h, w], their scale) of every layer: outputs, and the last one's sums."""
        x, scale, peak = cells.permute(0, 3, 1, 2).float(), torch.tensor(1.0), 255
        for layer, norm in self.pairs():
            x, scale = layer.sums(x, scale, peak)
            if norm is not None:
                x, scale, peak = norm(x, scale), norm.step, norm.peak
            yield x, scale

    @torch.no_grad()
    def calibrate(self, cells: Tensor) -> None:
        """Set the step of every activation by stacks u8 [B, 21, 21, 64], layer by layer, inputs quantised already."""
        x, scale, peak = cells.permute(0, 3, 1, 2).float(), torch.tensor(1.0), 255
        for layer, norm in self.pairs():
            if norm is None:
                return
            total, scale = layer.sums(x, scale, peak)
            step = best_step(F.relu(norm.real(total, scale)), 0, norm.peak)
            norm.log_step.fill_(math.log(step))
            x, scale, peak = norm(total, scale), norm.step, norm.peak

    def steps(self) -> list[nn.Parameter]:
        """The logarithms of all step sizes."""
        return [own.log_step for pair in self.pairs() for own in pair if own is not None]

    @torch.no_grad()
    def export(self) -> IntegerSpec:
        """What is computed, as integers."""
        layers, scale, shape, kernel = [], torch.tensor(1.0), (STACK, SIDE, SIDE), 4
        for index, (layer, norm) in enumerate(self.pairs()):
            step, weights = layer.step, layer.whole_weights()
            scale = scale * step
            bias = rounded(layer.bias / scale).numpy().astype(np.int32)
            if index == 0:
                weights = pixel_kernel(weights)
            whole = weights.contiguous().numpy().astype(np.int8)
            stride = layer.stride if index else kernel
            made = Layer(layer.name, whole, bias, stride, shape, layer.bits, step.item(), None)
            if norm is not None:
                n = math.prod(made.out_shape)
                made = Layer(layer.name, whole, bias, stride, shape, layer.bits, step.item(), norm.whole(scale, n))
                scale, shape = norm.step, made.out_shape
            layers.append(made)
        return IntegerSpec(self.game, self.actions, self.bits, tuple(layers))

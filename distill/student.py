"""The student in training: latent floats, trinary weights and binary activations in the forward pass.

Layers follow Eedn (Esser et al. 2016): convolution with weights in {-1, 0, 1}, normalisation without scale, bias, step.
The front (transduction) is the same with integer weights over pixels, and stays off the chip.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deploy.spec import MAX_INPUTS, Head, deal_votes
from distill.convolve import convolve
from distill.quantise import Step, StraightThrough, integers, settle
from rl.frames import BLOCK, CELLS, CHANNELS, STACK
from rl.settings import SettingsError, need

EPSILON = 1e-4  # added to the variance
# Shares of the learning rate. At the hidden weights' own rate biases walk to +-5 deviations, where neurons are dead.
BIAS_RATE, SCALE_RATE = 0.05, 0.1
FIRST_SPREAD = 3.0  # logits at the start span this much if all neurons of an action agree
# Between foldings the statistics are those of the last batch: weights flip faster than any average follows (one over
# ten batches took the student that plays from 0.53 agreement to 0.14). Folding takes plain means over many batches.
MOMENTUM = 1.0
FRONT_PEAK = 127  # front weights are -127..127
PICTURE = CHANNELS // STACK  # channels of one picture in block layout


@dataclass(frozen=True)
class LayerSettings:
    """A layer on the chip."""

    features: int
    groups: int
    kernel: int
    stride: int
    padding: int
    shuffle: bool  # deal the input channels out so that every group sees all groups of the level before

    def __post_init__(self) -> None:
        for name, least in (("features", 1), ("groups", 1), ("kernel", 1), ("stride", 1), ("padding", 0)):
            value = getattr(self, name)
            need(value >= least, f"student.layers.{name}", value, f"{least} or more")


@dataclass(frozen=True)
class StudentSettings:
    """Shape of a student; see conf/student/*.yaml."""

    front_features: int  # kernel 8, stride 4 over pixels
    layers: tuple[LayerSettings, ...]
    history: int = 1  # pictures that the chip keeps apart; 1: the front sees the whole stack at once

    def __post_init__(self) -> None:
        need(1 <= self.history <= STACK, "student.history", self.history, f"1 to {STACK}")
        need(self.front_features >= 1, "student.front_features", self.front_features, "1 or more")
        need(len(self.layers) >= 1, "student.layers", len(self.layers), "at least one layer")


class Normalised(nn.Module):
    """What all layers share: batch statistics, a bias, the step."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))
        self.mean: Tensor
        self.variance: Tensor
        self.momentum = MOMENTUM
        self._fired = torch.zeros(1)  # the bits of the last forward pass in training

    def quantised(self) -> Tensor:
        """The weights of the forward pass."""
        raise AssertionError("each layer has its own")

    def sums(self, x: Tensor) -> Tensor:
        """Weighted sums [B, O, H, W]: whole numbers."""
        raise AssertionError("each layer has its own")

    def forward(self, x: Tensor) -> Tensor:
        """Bits [B, C, H, W] (pixels for the front) -> bits [B, O, H, W]."""
        total = self.sums(x)
        response = F.batch_norm(total, self.mean, self.variance, None, self.bias, self.training, self.momentum, EPSILON)
        bits: Tensor = Step.apply(response)  # type: ignore[no-untyped-call]
        if self.training:
            self._fired = bits.detach()
        return bits

    @property
    def rate(self) -> float:
        """Share of neurons that fired at the last forward pass in training."""
        return float(self._fired.float().mean())

    @property
    def deviation(self) -> Tensor:
        return (self.variance.double() + EPSILON).sqrt()


class Front(Normalised):
    """Transduction: integer weights over u8 pixels in block layout, kernel 8 and stride 4."""

    def __init__(self, features: int, pictures: int) -> None:
        """`pictures` of a stack are seen at once."""
        super().__init__(features)
        self.hidden = nn.Parameter(torch.empty(features, pictures * PICTURE, 2, 2).uniform_(-0.5, 0.5))

    def quantised(self) -> Tensor:
        whole: Tensor = StraightThrough.apply(self.hidden, integers(self.hidden, FRONT_PEAK))  # type: ignore[no-untyped-call]
        return whole

    def sums(self, cells: Tensor) -> Tensor:
        # float32: sums of u8 x s8 over 256 taps stay below 2**24 and so exact, which bfloat16 would not keep.
        with torch.autocast("cpu", enabled=False):
            pixels = cells.permute(0, 3, 1, 2).float()
            return F.conv2d(pixels, self.quantised().contiguous(memory_format=torch.channels_last))


class TrinaryConv(Normalised):
    """A grouped convolution with weights in {-1, 0, 1}."""

    def __init__(self, name: str, channels: int, before_groups: int, own: LayerSettings) -> None:
        super().__init__(own.features)
        _check(name, channels, own)
        self.own, self.name = own, name
        self._mixed = before_groups if own.shuffle else 1
        shape = (own.features, channels // own.groups, own.kernel, own.kernel)
        self.hidden = nn.Parameter(torch.empty(shape).uniform_(-1, 1))
        self.register_buffer("trinary", self.hidden.detach().round())
        self.trinary: Tensor

    @property
    def order(self) -> Tensor:
        """Input channel i is channel order[i] of the level before."""
        channels = self.hidden.shape[1] * self.own.groups
        return torch.arange(channels).reshape(self._mixed, -1).T.reshape(-1)

    def quantised(self) -> Tensor:
        return self._weights(self.trinary.dtype)

    def _weights(self, kind: torch.dtype) -> Tensor:
        weights: Tensor = StraightThrough.apply(self.hidden, self.trinary.to(kind))  # type: ignore[no-untyped-call]
        return weights

    def sums(self, x: Tensor) -> Tensor:
        # Sums of at most 128 signs: whole numbers that even bfloat16 holds.
        if self._mixed > 1:
            x = F.channel_shuffle(x, self._mixed)
        return convolve(x, self._weights(x.dtype), self.own.groups, self.own.stride, self.own.padding)

    def settle(self) -> int:
        """After an update: clip the hidden weights, move the trinary ones; how many moved."""
        hidden, trinary = self.hidden.detach().view(-1), self.trinary.view(-1)  # views: both change in place
        return settle(hidden.numpy(), trinary.numpy())


class Student(nn.Module):
    """Front, layers, votes; one head a game."""

    def __init__(self, settings: StudentSettings, heads: tuple[Head, ...]) -> None:
        super().__init__()
        self.heads, self.history = heads, settings.history
        self.front = Front(settings.front_features, STACK if settings.history == 1 else 1)
        self.layers = nn.ModuleList(_layers(settings))
        side = CELLS - 1
        for layer in self.chip_layers:
            own = layer.own
            before, side = side, (side + 2 * own.padding - own.kernel) // own.stride + 1
            need(side >= 1, f"student {layer.name}", f"kernel {own.kernel} on a {before}x{before} map", "one that fits")
        neurons = settings.layers[-1].features * side * side
        answers = heads[-1].stop
        need(neurons >= answers, "student.layers", f"{neurons} output neurons", f"at least one an action ({answers})")
        vote = torch.from_numpy(deal_votes(neurons, answers).astype("int64"))
        self.register_buffer("vote", vote)
        self.register_buffer("member", F.one_hot(vote + 1, answers + 1)[:, 1:].float(), persistent=False)
        self.vote: Tensor
        self.member: Tensor
        # Logits are votes times a learned scale. It starts low: random votes must not be mistaken for conviction.
        self.log_scale = nn.Parameter(torch.full((len(heads),), math.log(FIRST_SPREAD * answers / neurons)))

    def groups(self) -> list[dict[str, Any]]:
        """Parameters with their share of the learning rate: a hidden weight must move 0.2 to flip, a bias need not."""
        hidden = [level.hidden for level in self.normalised]
        biases = [level.bias for level in self.normalised]
        others = [{"params": biases, "scale": BIAS_RATE}, {"params": [self.log_scale], "scale": SCALE_RATE}]
        return [{"params": hidden, "scale": 1.0}, *others]

    @property
    def chip_layers(self) -> Iterator[TrinaryConv]:
        for layer in self.layers:
            assert isinstance(layer, TrinaryConv)
            yield layer

    def bits(self, cells: Tensor) -> Iterator[Tensor]:
        """Stacks u8 [B, 21, 21, 64] -> the bits of every level, the front's first."""
        x = self.front(cells) if self.history == 1 else self._blocks(cells)
        x = x.to(torch.bfloat16) if torch.is_autocast_enabled("cpu") else x
        yield x
        for layer in self.layers:
            x = layer(x)
            yield x

    def _blocks(self, cells: Tensor) -> Tensor:
        """Stacks -> the front's bits of each picture [B, history * F, 20, 20], the newest picture's first.

        One pass of the front over all pictures: they share its weights and its statistics.
        """
        pictures = torch.split(cells, PICTURE, dim=-1)[: -self.history - 1 : -1]
        bits: Tensor = self.front(torch.cat(pictures))
        return torch.cat(bits.chunk(self.history), dim=1)

    def votes(self, cells: Tensor) -> Tensor:
        """Votes [B, answers], whole numbers in float32."""
        *_, last = self.bits(cells)
        # bfloat16 holds whole numbers to 256 only, and a head may own more neurons than that.
        with torch.autocast("cpu", enabled=False):
            return last.flatten(1).float() @ self.member

    def logits(self, votes: Tensor, head: int) -> Tensor:
        """Votes [B, answers] -> logits [B, A] of one head."""
        own = self.heads[head]
        return votes[:, own.start : own.stop] * self.log_scale[head].exp()

    def forward(self, cells: Tensor, head: int = 0) -> Tensor:
        """Stacks u8 [B, 21, 21, 64] -> logits [B, A] of one head."""
        return self.logits(self.votes(cells), head)

    @property
    def normalised(self) -> Iterator[Normalised]:
        """Every level, the front first."""
        yield self.front
        yield from self.chip_layers

    def settle(self) -> float:
        """After an update; the share of trinary weights that changed."""
        with torch.no_grad():
            self.front.hidden.clamp_(-1, 1)
        flips = sum(layer.settle() for layer in self.chip_layers)
        return flips / sum(layer.trinary.numel() for layer in self.chip_layers)

    def health(self) -> dict[str, float]:
        """What the field looks at: zeros, firing rates, by layer."""
        rates = {f"rate/{layer.name}": layer.rate for layer in self.chip_layers}
        zeros = {f"zeros/{layer.name}": float((layer.trinary == 0).float().mean()) for layer in self.chip_layers}
        return {"rate/front": self.front.rate} | rates | zeros


def _layers(settings: StudentSettings) -> Iterator[TrinaryConv]:
    # The blocks of a history are groups to deal out: a first layer that shuffles sees every picture in each of its own.
    channels, groups = settings.history * settings.front_features, settings.history
    for index, own in enumerate(settings.layers, start=1):
        kind = {1: "N", 2: "P", 3: "S", 4: "P4"}.get(own.kernel, f"K{own.kernel}")
        yield TrinaryConv(f"{index:02}-{kind}-{own.features}({own.groups})", channels, groups, own)
        channels, groups = own.features, own.groups


def _check(name: str, channels: int, own: LayerSettings) -> None:
    if channels % own.groups or own.features % own.groups:
        found = f"{channels} -> {own.features} channels"
        raise SettingsError(f"student {name}: {found} do not divide by {own.groups} groups")
    fan_in = channels // own.groups * own.kernel**2
    if fan_in > MAX_INPUTS:
        raise SettingsError(f"student {name}: {fan_in} inputs a neuron, allowed {MAX_INPUTS}; try more groups")


def pixel_kernel(weights: Tensor) -> Tensor:
    """Front weights over blocks of P pictures [F, 16 P, 2, 2] -> the same over pixels [F, P, 8, 8]."""
    features = len(weights)
    parts = weights.reshape(features, -1, BLOCK, BLOCK, 2, 2)  # picture, row in block, column in block, cell
    return parts.permute(0, 1, 4, 2, 5, 3).reshape(features, -1, 2 * BLOCK, 2 * BLOCK)


def recalibrate(student: Student, batches: Iterable[Tensor]) -> None:
    """Replace running statistics by plain means over batches of stacks u8 [B, 21, 21, 64], in float32."""
    student.train()
    with torch.no_grad():
        for index, cells in enumerate(batches):
            for level in student.normalised:
                level.momentum = 1 / (index + 1)
            student.votes(cells)
    for level in student.normalised:
        level.momentum = MOMENTUM
    student.eval()

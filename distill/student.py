"""The student in training: latent floats, trinary weights and binary activations in the forward pass.

Layers follow Eedn (Esser et al. 2016): convolution with weights in {-1, 0, 1}, normalisation without scale, bias, step.
The front (transduction) is the same with integer weights over pixels, and stays off the chip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deploy.spec import MAX_INPUTS, Head, deal_votes
from distill.convolve import Shape, convolve, sides
from distill.fire import EPSILON, F64, Fire, fired, moments_of, thresholds
from distill.front import front_sums
from distill.packing import unpacked
from distill.quantise import HYSTERESIS, StraightThrough, integers, settle, shared
from distill.sharing import WHOLE, Sharing
from rl.frames import CELLS, CHANNELS, STACK
from rl.settings import SettingsError, need

# Shares of the learning rate. At the hidden weights' own rate biases walk to +-5 deviations, where neurons are dead.
BIAS_RATE, SCALE_RATE = 0.05, 0.1
FIRST_SPREAD = 3.0  # logits at the start span this much if all neurons of an action agree
# Between foldings the statistics are those of the last batch: weights flip faster than any average follows (one over
# ten batches took the student that plays from 0.53 agreement to 0.14). Folding takes plain means over many batches.
MOMENTUM = 1.0
FRONT_PEAK = 127  # front weights are -127..127
TRANSDUCTIONS, SIGNS = ("learned", "thresholds"), ("free", "shared")
LEVELS = 1.5  # the levels of plain thresholds lie within so many deviations of the mean
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
    transduction: str = "learned"  # or thresholds: each feature compares a block of pixels with a level
    signs: str = "free"  # or shared: all weights of a group on one input have its sign, so that it takes one axon
    towers: int = 1  # students side by side, each with its share of every level, whose votes are added up

    def __post_init__(self) -> None:
        need(self.transduction in TRANSDUCTIONS, "student.transduction", self.transduction, ", ".join(TRANSDUCTIONS))
        need(self.signs in SIGNS, "student.signs", self.signs, ", ".join(SIGNS))
        need(1 <= self.history <= STACK, "student.history", self.history, f"1 to {STACK}")
        need(self.towers >= 1, "student.towers", self.towers, "1 or more")
        need(self.towers == 1 or self.history == 1, "student.history", self.history, "1 with several towers")
        need(self.front_features >= 1, "student.front_features", self.front_features, "1 or more")
        even = self.front_features % self.towers == 0
        need(even, "student.front_features", self.front_features, f"a multiple of the {self.towers} towers")
        need(len(self.layers) >= 1, "student.layers", len(self.layers), "at least one layer")


class Normalised(nn.Module):
    """What all levels share: batch statistics, a bias, the step."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))
        self.mean: Tensor
        self.variance: Tensor
        self.momentum, self.surrogate_width = MOMENTUM, 1.0
        self.frozen = False  # learns by the statistics that are kept, not by those of the batch
        self._seen: tuple[Tensor, Tensor] | None = None  # mean and variance of the last batch

    def quantised(self) -> Tensor:
        """The weights of the forward pass."""
        raise AssertionError("each level has its own")

    def sums(self, x: Tensor) -> Tensor:
        """Weighted sums [G, B*H'*W', O/G] of x [B, H, W, C]: whole numbers."""
        raise AssertionError("each level has its own")

    def sides(self, x: Tensor) -> tuple[int, int]:
        """H' and W'."""
        raise AssertionError("each level has its own")

    def forward(self, x: Tensor, sharing: Sharing | None) -> Tensor:
        """Bits [B, H, W, C] (blocks of pixels for the front) -> bits [B, H', W', O].

        Normalised by the whole batch, of which x is the part at `sharing`; without one, by the statistics kept. A
        frozen level learns by those, too: it is the very function that is folded.
        """
        kind = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
        sums = self.sums(x)
        if sharing is None:
            found = (part.detach().double().numpy() for part in (self.mean, self.variance, self.bias))
            bits = fired(sums, thresholds(*found), kind)
        else:
            moments = self._moments(sums, sharing)
            bits = Fire.apply(sums, self.bias, moments, kind, sharing, self.surrogate_width)  # type: ignore[no-untyped-call]
        return bits.view(len(x), *self.sides(x), -1)

    def _moments(self, sums: Tensor, sharing: Sharing) -> tuple[F64, F64, float]:
        if self.frozen:  # of infinitely many rows: what one of them adds, and so their gradient, is nothing
            return self.mean.double().numpy(), self.variance.double().numpy(), math.inf
        mean, variance, count = moments_of(sums, sharing)
        self._seen = torch.from_numpy(mean).float(), torch.from_numpy(variance).float()
        return mean, variance, count

    def keep(self) -> None:
        """Take the last batch's statistics into those that are kept."""
        if self._seen is not None:
            for kept, seen in zip((self.mean, self.variance), self._seen, strict=True):
                kept.lerp_(seen, self.momentum)
            self._seen = None

    @property
    def deviation(self) -> Tensor:
        return (self.variance.double() + EPSILON).sqrt()


class Front(Normalised):
    """Transduction: integer weights over u8 pixels in block layout, kernel 8 and stride 4."""

    def __init__(self, features: int, pictures: int) -> None:
        """`pictures` of a stack are seen at once."""
        super().__init__(features)
        self.hidden = nn.Parameter(torch.empty(features, pictures * PICTURE, 2, 2).uniform_(-0.5, 0.5))

    def become_thresholds(self) -> None:
        """Features compare the mean of a block of pixels of one picture with a level, and learn the level alone."""
        features, channels, _, _ = self.hidden.shape
        pictures = channels // PICTURE
        with torch.no_grad():
            self.hidden.zero_()
            for feature in range(features):
                first = feature % pictures * PICTURE
                self.hidden[feature, first : first + PICTURE, 0, 0] = 1
            levels = torch.arange(features) // pictures + 0.5
            self.bias.copy_(LEVELS * (2 * levels / -(-features // pictures) - 1))
        self.hidden.requires_grad_(False)

    def quantised(self) -> Tensor:
        # Detached: where one thread begins a gradient with a plain operator on a parameter while another gives it to a
        # Function, torch 2.13 waits for ever (each holds one of two locks, the parameter's and the interpreter's).
        whole = integers(self.hidden.detach(), FRONT_PEAK)
        return StraightThrough.apply(self.hidden, whole)  # type: ignore[no-any-return,no-untyped-call]

    def sums(self, x: Tensor) -> Tensor:
        return front_sums(x, self.quantised())

    def sides(self, x: Tensor) -> tuple[int, int]:
        return x.shape[1] - 1, x.shape[2] - 1


class TrinaryConv(Normalised):
    """A grouped convolution with weights in {-1, 0, 1}."""

    def __init__(
        self,
        name: str,
        channels: int,
        before_groups: int,
        own: LayerSettings,
        shared_signs: bool = False,
        towers: int = 1,
    ) -> None:
        super().__init__(own.features)
        _check(name, channels, own, towers)
        self.own, self.name = own, name
        mixed = before_groups if own.shuffle else 1
        self.shape = Shape(channels, own.features, own.groups, own.kernel, own.stride, own.padding, mixed, towers)
        shape = (own.features, channels // own.groups, own.kernel, own.kernel)
        self.hidden, self.hysteresis = nn.Parameter(torch.empty(shape).uniform_(-1, 1)), HYSTERESIS
        self.register_buffer("sign", torch.zeros(shape, dtype=torch.int8), persistent=False)
        self.sign: Tensor  # the one sign that a weight may have; 0: either
        if shared_signs:
            self.sign = shared(shape, own.groups)
            with torch.no_grad():
                self.hidden.abs_().mul_(self.sign)
        self.register_buffer("trinary", self.hidden.detach().round())
        self.trinary: Tensor

    @property
    def order(self) -> Tensor:
        """Input channel i is channel order[i] of the level before."""
        return torch.from_numpy(self.shape.order)

    def quantised(self) -> Tensor:
        return self._weights(self.trinary.dtype)

    def _weights(self, kind: torch.dtype) -> Tensor:
        weights: Tensor = StraightThrough.apply(self.hidden, self.trinary.to(kind))  # type: ignore[no-untyped-call]
        return weights

    def sums(self, x: Tensor) -> Tensor:
        # Sums of at most 128 signs: whole numbers that even bfloat16 holds.
        return convolve(x, self._weights(x.dtype), self.shape)

    def sides(self, x: Tensor) -> tuple[int, int]:
        return sides(self.shape, x.shape[1], x.shape[2])

    def settle(self) -> int:
        """After an update: clip the hidden weights, move the trinary ones; how many moved."""
        hidden, trinary = self.hidden.detach().view(-1), self.trinary.view(-1)  # views: both change in place
        return settle(hidden.numpy(), trinary.numpy(), self.sign.view(-1).numpy(), self.hysteresis)


class Student(nn.Module):
    """Front, layers, votes; one head a game."""

    def __init__(self, settings: StudentSettings, heads: tuple[Head, ...]) -> None:
        super().__init__()
        self.heads, self.history = heads, settings.history
        self._bias_rate = BIAS_RATE
        self.still = 0  # levels that no longer learn: the first ones, the front among them
        self.front = Front(settings.front_features, STACK if settings.history == 1 else 1)
        if settings.transduction == "thresholds":
            self.front.become_thresholds()
        self.layers = nn.ModuleList(_layers(settings))
        for layer, (before, _), (side, _) in zip(self.chip_layers, self.maps(), self.maps()[1:], strict=False):
            kernel = layer.own.kernel
            need(side >= 1, f"student {layer.name}", f"kernel {kernel} on a {before}x{before} map", "one that fits")
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

    def maps(self) -> list[tuple[int, int]]:
        """Height and width of every level's maps, the front's first."""
        found = [(CELLS - 1, CELLS - 1)]
        for layer in self.chip_layers:
            found.append(sides(layer.shape, *found[-1]))
        return found

    def groups(self) -> list[dict[str, Any]]:
        """Parameters with their share of the learning rate: a hidden weight must move 0.2 to flip, a bias need not."""
        hidden = [level.hidden for level in self.normalised if level.hidden.requires_grad]
        biases = [level.bias for level in self.normalised]
        others = [{"params": biases, "scale": self._bias_rate}, {"params": [self.log_scale], "scale": SCALE_RATE}]
        return [{"params": hidden, "scale": 1.0}, *others]

    @property
    def chip_layers(self) -> Iterator[TrinaryConv]:
        for layer in self.layers:
            assert isinstance(layer, TrinaryConv)
            yield layer

    def bits(self, cells: Tensor) -> Iterator[Tensor]:
        """Stacks u8 [B, 21, 21, 64] -> the bits [B, C, H, W] of every level, the front's first.

        In training normalised by the batch, whose statistics are kept; else by those that were.
        """
        for bits, level in zip(self.levels(cells, WHOLE if self.training else None), self.normalised, strict=True):
            if self.training:
                level.keep()
            yield bits.permute(0, 3, 1, 2)

    def levels(self, cells: Tensor, sharing: Sharing | None) -> Iterator[Tensor]:
        """`bits`, as [B, H, W, C], of the part of a batch that is at `sharing`; None: by the statistics kept.

        Levels that stand still go by those that are kept, and no gradient passes them.
        """
        own = None if self.still else sharing
        x = self.front(cells, own) if self.history == 1 else self._blocks(cells, own)
        yield x
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x, None if number < self.still else sharing)
            yield x

    def above(self, known: Tensor, sharing: Sharing) -> Iterator[Tensor]:
        """`levels` from the bits [B, N] u8, packed, of the last one that stands still; those before it hold nothing."""
        kind = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
        x = unpacked(known, self.still_shape(), kind)
        yield from (x.new_empty(0) for _ in range(1, self.still))
        yield x
        for layer in list(self.chip_layers)[self.still - 1 :]:
            x = layer(x, sharing)
            yield x

    def still_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the bits of the last level that stands still."""
        own = list(self.normalised)[self.still - 1]
        copies = self.history if self.still == 1 else 1
        return (*self.maps()[self.still - 1], copies * own.bias.numel())

    def _blocks(self, cells: Tensor, sharing: Sharing | None) -> Tensor:
        """Stacks -> the front's bits of each picture [B, 20, 20, history * F], the newest picture's first.

        One pass of the front over all pictures: they share its weights and its statistics.
        """
        pictures = torch.split(cells, PICTURE, dim=-1)[: -self.history - 1 : -1]
        bits: Tensor = self.front(torch.cat(pictures), sharing)
        return torch.cat(bits.chunk(self.history), dim=-1)

    def votes(self, cells: Tensor) -> Tensor:
        """Votes [B, answers], whole numbers in float32."""
        *_, last = self.bits(cells)
        return self.count(last)

    def count(self, last: Tensor) -> Tensor:
        """Bits of the last level [B, C, H, W] -> votes [B, answers]."""
        # bfloat16 holds whole numbers to 256 only, and a head may own more neurons than that.
        with torch.autocast("cpu", enabled=False):
            return last.flatten(1).float() @ self.member

    def keep(self) -> None:
        """Take the statistics of the last batch into those that are kept."""
        for level in self.normalised:
            level.keep()

    def logits(self, votes: Tensor, head: int) -> Tensor:
        """Votes [B, answers] -> logits [B, A] of one head."""
        own = self.heads[head]
        return votes[:, own.start : own.stop] * self.log_scale[head].exp()

    def forward(self, cells: Tensor, head: int = 0) -> Tensor:
        """Stacks u8 [B, 21, 21, 64] -> logits [B, A] of one head."""
        return self.logits(self.votes(cells), head)

    @property
    def normalised(self) -> Iterator[Front | TrinaryConv]:
        """Every level, the front first."""
        yield self.front
        yield from self.chip_layers

    def tune(self, hysteresis: float, surrogate_width: float, bias_rate: float = BIAS_RATE) -> None:
        """How reluctantly weights flip, how far from its threshold a neuron still learns, how fast thresholds move."""
        self._bias_rate = bias_rate
        for level in self.normalised:
            level.surrogate_width = surrogate_width
        for layer in self.chip_layers:
            layer.hysteresis = hysteresis

    def health(self, levels: Sequence[Tensor]) -> dict[str, float]:
        """What the field looks at, by layer: shares of neurons that fire at the bits [B, H, W, C], of zero weights."""
        names = ["front", *(layer.name for layer in self.chip_layers)]
        seen = [(name, bits) for name, bits in zip(names, levels, strict=False) if bits.numel()]
        rates = {f"rate/{name}": float(bits.float().mean()) for name, bits in seen}
        zeros = {f"zeros/{layer.name}": float((layer.trinary == 0).float().mean()) for layer in self.chip_layers}
        return rates | zeros

    def settle(self) -> float:
        """After an update, levels that stand still left as they are; the share of trinary weights that changed."""
        if not self.still:
            with torch.no_grad():
                self.front.hidden.clamp_(-1, 1)
        flips = sum(layer.settle() for layer in islice(self.chip_layers, max(0, self.still - 1), None))
        return flips / sum(layer.trinary.numel() for layer in self.chip_layers)


def _layers(settings: StudentSettings) -> Iterator[TrinaryConv]:
    # The blocks of a history are groups to deal out: a first layer that shuffles sees every picture in each of its own.
    channels, groups = settings.history * settings.front_features, settings.history
    for index, own in enumerate(settings.layers, start=1):
        kind = {1: "N", 2: "P", 3: "S", 4: "P4"}.get(own.kernel, f"K{own.kernel}")
        name = f"{index:02}-{kind}-{own.features}({own.groups})"
        yield TrinaryConv(name, channels, groups, own, settings.signs == "shared", settings.towers)
        channels, groups = own.features, own.groups


def _check(name: str, channels: int, own: LayerSettings, towers: int) -> None:
    need(own.groups % towers == 0, f"student {name}: groups", own.groups, f"a multiple of the {towers} towers")
    if channels % own.groups or own.features % own.groups:
        found = f"{channels} -> {own.features} channels"
        raise SettingsError(f"student {name}: {found} do not divide by {own.groups} groups")
    fan_in = channels // own.groups * own.kernel**2
    if fan_in > MAX_INPUTS:
        raise SettingsError(f"student {name}: {fan_in} inputs a neuron, allowed {MAX_INPUTS}; try more groups")

"""The student as integers: what the chip must compute, and the definition of what it computes.

A picture stack enters an off-chip front (transduction) and leaves it as bits. Every layer after it adds weights in
{-1, 0, 1} over bits, adds one integer leak a neuron and fires where the sum reaches 1. The last layer's spikes are
votes for answers; a head owns a slice of the answers, its action is the one with most votes (lowest index on a tie).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from deploy.files import FormatError, digest_of, read_arrays, write_arrays

KIND, VERSION = "spikecade-student", (1, 1)  # 1.1: a history of pictures
MAX_INPUTS = 128  # two axons an input, 256 axons a core (Esser et al. 2016)
FEW = 10  # pictures at a time: more fall out of the cache and take twice as long each
EXACT = 1 << 24  # float32 holds every integer up to here, so sums below it are exact in any order
Shape = tuple[int, int, int]  # channels, height, width


class SpecError(ValueError):
    """A student that breaks the rules of its format; all violations at once."""


@dataclass(frozen=True, eq=False)
class Conv:
    """A grouped convolution over [C, H, W] followed by a threshold: fires where sum + leak >= 1."""

    name: str
    weights: NDArray[np.int8]  # [O, C/groups, k, k]  front: any; layers: -1, 0, 1
    leak: NDArray[np.int32]  # [O]
    order: NDArray[np.int32]  # [C]  input channel i is channel order[i] of the level before: lets groups mix
    groups: int
    stride: int
    padding: int  # zeros on each side: pixels of value 0, bits that never fire
    in_shape: Shape

    @property
    def out_shape(self) -> Shape:
        _, height, width = self.in_shape
        return (self.weights.shape[0], self._span(height), self._span(width))

    @property
    def fan_in(self) -> int:
        """Inputs of one neuron."""
        return int(math.prod(self.weights.shape[1:]))

    @cached_property
    def columns(self) -> NDArray[np.float32]:
        """Weights as [groups, fan_in, O/groups] for the product in `sums`, turned once."""
        turned = self.weights.reshape(self.groups, -1, self.fan_in).transpose(0, 2, 1)
        return np.ascontiguousarray(turned, np.float32)

    def _span(self, size: int) -> int:
        kernel: int = self.weights.shape[2]
        return (size + 2 * self.padding - kernel) // self.stride + 1

    def __repr__(self) -> str:
        return (
            f"Conv({self.name}: {self.in_shape} -> {self.out_shape}, kernel {self.weights.shape[2]}, "
            f"stride {self.stride}, padding {self.padding}, groups {self.groups})"
        )


@dataclass(frozen=True)
class Head:
    """One game's share of the answers."""

    game: str
    actions: tuple[str, ...]  # meanings, in the order of the game's action ids
    start: int  # first answer; the head owns answers start .. start + len(actions) - 1

    @property
    def stop(self) -> int:
        return self.start + len(self.actions)


@dataclass(frozen=True, eq=False)
class StudentSpec:
    """A folded student. Checks itself; equal digests mean equal functions."""

    front: Conv  # weights i8 over u8 pixels, runs on the host
    layers: tuple[Conv, ...]  # on the chip
    vote: NDArray[np.int16]  # [O*H*W of the last layer]  the answer each neuron votes for, -1: none
    heads: tuple[Head, ...]
    history: int = 1  # pictures that the first layer sees; the chip keeps the bits of all but the newest

    def __post_init__(self) -> None:
        problems = list(violations(self))
        if problems:
            raise SpecError(f"student spec: {len(problems)} rules broken\n" + "\n".join(problems))
        for array in _arrays(self).values():
            array.flags.writeable = False

    @property
    def n_answers(self) -> int:
        return max(head.stop for head in self.heads)

    @property
    def stack_shape(self) -> Shape:
        """The smallest picture stack that shows every picture of the history."""
        pictures, height, width = self.front.in_shape
        return pictures + self.history - 1, height, width

    @property
    def bits_shape(self) -> Shape:
        """Bits that the first layer sees, in `history` blocks of channels: the newest picture's first."""
        features, height, width = self.front.out_shape
        return self.history * features, height, width

    @property
    def digest(self) -> str:
        """sha256 (hex) of everything that decides what the student computes."""
        return digest_of(_arrays(self), _facts(self))

    def head(self, game: str) -> Head:
        for head in self.heads:
            if head.game == game:
                return head
        known = ", ".join(head.game for head in self.heads)
        raise SpecError(f"student spec: no head for {game}, it plays {known}; distil a student for {game}")

    def transduce(self, obs: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Picture stacks [B, S, H, W] u8, newest picture last -> the bits [B, *bits_shape] that the first layer sees.

        Block k of the channels is what the front makes of the stack as it was k pictures ago, so block 0 is new and
        the others are those of earlier stacks. Pictures before an episode's first are whatever the stack says of
        them. Raises SpecError where the stacks are too short.
        """
        return np.concatenate([self.newest(obs, ago) for ago in range(self.history)], axis=1)

    def newest(self, obs: NDArray[np.uint8], ago: int = 0) -> NDArray[np.bool_]:
        """Picture stacks [B, S, H, W] u8 -> one block of bits [B, *front.out_shape]: what enters the chip."""
        needed, last = self.stack_shape[0], obs.shape[1] - ago
        if obs.shape[1] < needed:
            found = f"{obs.shape[1]} pictures, must be {needed} or more"
            raise SpecError(f"student spec: stacks of {found} with a history of {self.history}; show longer stacks")
        return fires(self.front, obs[:, last - self.front.in_shape[0] : last])

    def run(self, bits: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Bits [B, *bits_shape] -> votes [B, n_answers]."""
        for layer in self.layers:
            bits = fires(layer, bits)
        return count_votes(bits.reshape(len(bits), self.vote.size), self.vote, self.n_answers)

    def trace(self, bits: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
        """Bits [B, *bits_shape] -> the spikes of every layer, each [B, O, H, W]."""
        levels = []
        for layer in self.layers:
            bits = fires(layer, bits)
            levels.append(bits)
        return levels

    def act(self, obs: NDArray[np.uint8], game: str) -> NDArray[np.int64]:
        """Picture stacks [B, S, H, W] u8 -> actions [B] of one game."""
        head = self.head(game)
        parts = [obs[start : start + FEW] for start in range(0, len(obs), FEW)]
        votes = [self.run(self.transduce(part))[:, head.start : head.stop] for part in parts]
        best: NDArray[np.int64] = np.concatenate([np.zeros((0, len(head.actions)), np.int32), *votes]).argmax(axis=1)
        return best


def sums(conv: Conv, values: NDArray[Any]) -> NDArray[np.int32]:
    """Weighted sums [B, O, H, W] of one layer over values [B, C, H, W], before the leak.

    The products run in float32, where sums of integers below 2**24 are exact; `violations` holds that bound.
    """
    g, (_, height, width) = conv.groups, conv.out_shape
    total = rows_of(conv, values).astype(np.float32) @ conv.columns
    by_group = total.reshape(g, len(values), height, width, len(conv.leak) // g).transpose(1, 0, 4, 2, 3)
    return by_group.reshape(len(values), len(conv.leak), height, width).astype(np.int32)


def rows_of(conv: Conv, values: NDArray[Any]) -> NDArray[Any]:
    """What each neuron reads of values [B, C, H, W], as [groups, B*H*W, fan_in] to meet `Conv.columns`."""
    g, k = conv.groups, conv.weights.shape[2]
    padded = np.pad(values[:, conv.order], ((0, 0), (0, 0), (conv.padding,) * 2, (conv.padding,) * 2))
    windows = sliding_window_view(padded, (k, k), axis=(2, 3))[:, :, :: conv.stride, :: conv.stride]
    b, _, height, width = windows.shape[:4]
    rows = windows.reshape(b, g, conv.weights.shape[1], height, width, k, k).transpose(1, 0, 3, 4, 2, 5, 6)
    return rows.reshape(g, b * height * width, conv.fan_in)


def fires(conv: Conv, values: NDArray[Any]) -> NDArray[np.bool_]:
    """Spikes [B, O, H, W] of one layer: sum + leak >= 1 (threshold 1, reset to 0, nothing kept between pictures)."""
    fired: NDArray[np.bool_] = sums(conv, values) >= 1 - conv.leak[:, None, None]
    return fired


def count_votes(spikes: NDArray[np.bool_], vote: NDArray[np.int16], n_answers: int) -> NDArray[np.int32]:
    """Spikes [B, N] -> spikes for each answer [B, n_answers]."""
    member = vote[:, None] == np.arange(n_answers)
    votes: NDArray[np.float32] = spikes.astype(np.float32) @ member.astype(np.float32)
    return votes.astype(np.int32)


def deal_votes(n_neurons: int, n_answers: int) -> NDArray[np.int16]:
    """Deal neurons out to answers in turn, equally many each; what is left over votes for none (-1)."""
    vote = (np.arange(n_neurons) % n_answers).astype(np.int16)
    vote[n_neurons - n_neurons % n_answers :] = -1
    return vote


def violations(spec: StudentSpec) -> Iterator[str]:
    """Every rule that a spec breaks, as text."""
    convs = (spec.front, *spec.layers)
    yield from _name_violations([conv.name for conv in convs], spec)
    shapeless = [problem for conv in convs for problem in _shape_violations(conv)]
    if not isinstance(spec.history, int) or spec.history < 1:
        shapeless.append(f"history: {spec.history!r} pictures, must be a whole number, 1 or more")
    if shapeless:  # nothing more can be said of such arrays
        yield from shapeless
        return
    shape, peak = spec.front.in_shape, 255
    for conv in convs:
        yield from _conv_violations(conv, shape, peak)
        shape, peak = spec.bits_shape if conv is spec.front else conv.out_shape, 1
    for layer in spec.layers:
        largest = np.abs(layer.weights.astype(np.int64)).max(initial=0)
        if largest > 1:
            yield f"{layer.name}: weights up to {largest}, allowed -1, 0, 1"
        if layer.fan_in > MAX_INPUTS:
            yield f"{layer.name}: {layer.fan_in} inputs a neuron, allowed {MAX_INPUTS}; try more groups"
    yield from _head_violations(spec, math.prod(shape))


def _name_violations(names: list[str], spec: StudentSpec) -> Iterator[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        yield f"names: {', '.join(twice)} more than once"
    if spec.vote.dtype != np.int16 or spec.vote.ndim != 1:
        yield f"vote: {spec.vote.dtype} of {spec.vote.ndim} axes, must be int16 of 1"


def _shape_violations(conv: Conv) -> Iterator[str]:
    for part, kind, axes in (("weights", np.int8, 4), ("leak", np.int32, 1), ("order", np.int32, 1)):
        array = getattr(conv, part)
        if array.dtype != kind or array.ndim != axes or not array.size:
            found = f"{array.dtype} {list(array.shape)}"
            yield f"{conv.name}: {part} is {found}, must be {np.dtype(kind)} of {axes} axes, not empty"
    numbers = (conv.groups, conv.stride, conv.padding, *conv.in_shape)
    if not all(isinstance(number, int) for number in numbers) or len(conv.in_shape) != 3:
        yield f"{conv.name}: groups, stride, padding, in_shape are {numbers}, must be six whole numbers"
    elif min(conv.groups, conv.stride, *conv.in_shape) < 1 or conv.padding < 0:
        yield f"{conv.name}: groups, stride, padding, in_shape are {numbers}; padding may be 0, the others 1 or more"


def _conv_violations(conv: Conv, shape: Shape, peak: int) -> Iterator[str]:
    out, per_group, k, k2 = conv.weights.shape
    channels = conv.in_shape[0]
    if conv.in_shape != shape:
        yield f"{conv.name}: in_shape {conv.in_shape}, the level before gives {shape}"
    if k != k2 or per_group * conv.groups != channels or out % conv.groups:
        yield f"{conv.name}: weights {conv.weights.shape} do not fit {channels} channels in {conv.groups} groups"
    if conv.leak.shape != (out,):
        yield f"{conv.name}: leak has shape {conv.leak.shape}, must be ({out},)"
    if not np.array_equal(np.sort(conv.order), np.arange(channels)):
        yield f"{conv.name}: order is no permutation of {channels} channels"
    if min(conv.out_shape) < 1:
        yield f"{conv.name}: no output left of {conv.in_shape} with kernel {k}, stride {conv.stride}"
    reach = int(np.abs(conv.weights.astype(np.int64)).reshape(out, -1).sum(axis=1).max()) * peak
    if reach + int(np.abs(conv.leak.astype(np.int64)).max()) >= EXACT:
        yield f"{conv.name}: sum and leak may reach 2**24; try a smaller kernel or smaller weights"


def _head_violations(spec: StudentSpec, neurons: int) -> Iterator[str]:
    if spec.vote.shape != (neurons,):
        yield f"vote: shape {spec.vote.shape}, must be ({neurons},)"
    games = [head.game for head in spec.heads]
    if len(set(games)) < len(games) or not all(head.actions for head in spec.heads):
        yield f"heads: {', '.join(games)}; each game once, each with an action or more"
    starts = [head.start for head in spec.heads]
    if not spec.heads or starts != [0, *(head.stop for head in spec.heads[:-1])]:
        yield f"heads: start at {starts}; they must follow one another from 0"
    elif spec.vote.size and not (spec.vote.min() >= -1 and spec.vote.max() < spec.n_answers):
        yield f"vote: answers {spec.vote.min()}..{spec.vote.max()}, allowed -1..{spec.n_answers - 1}"


def save_spec(spec: StudentSpec, path: Path, origin: dict[str, Any] | None = None) -> None:
    """Write a spec; `origin` (JSON values: teacher digest, score, versions) rides along and decides nothing."""
    write_arrays(path, KIND, VERSION, _facts(spec) | {"origin": origin or {}}, _arrays(spec))


def load_spec(path: Path) -> tuple[StudentSpec, dict[str, Any]]:
    """Read (spec, origin); raises FormatError for any file that is not a whole and legal student."""
    facts, arrays, _ = read_arrays(path, KIND, VERSION[0])
    try:
        convs = [_conv(name, facts[f"conv {name}"], arrays) for name in facts["names"]]
        heads = tuple(Head(h["game"], tuple(h["actions"]), h["start"]) for h in facts["heads"])
        history = facts.get("history", 1)  # older files have none
        return StudentSpec(convs[0], tuple(convs[1:]), arrays["vote"], heads, history), facts["origin"]
    except (KeyError, TypeError, ValueError, IndexError) as cause:
        raise FormatError(f"{path}: no legal student ({cause}); make it again") from cause


def _facts(spec: StudentSpec) -> dict[str, Any]:
    convs = (spec.front, *spec.layers)
    facts: dict[str, Any] = {"names": [conv.name for conv in convs]}
    facts["heads"] = [{"game": h.game, "actions": list(h.actions), "start": h.start} for h in spec.heads]
    if spec.history > 1:  # left out at 1, so that the digests of students without one stay what they were
        facts["history"] = spec.history
    for conv in convs:
        facts[f"conv {conv.name}"] = {
            "groups": conv.groups,
            "stride": conv.stride,
            "padding": conv.padding,
            "in_shape": list(conv.in_shape),
        }
    return facts


def _arrays(spec: StudentSpec) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"vote": spec.vote}
    for conv in (spec.front, *spec.layers):
        arrays |= {f"{conv.name}.{part}": getattr(conv, part) for part in ("weights", "leak", "order")}
    return arrays


def _conv(name: str, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Conv:
    weights, leak, order = (arrays[f"{name}.{part}"] for part in ("weights", "leak", "order"))
    shape = facts["in_shape"]
    return Conv(name, weights, leak, order, facts["groups"], facts["stride"], facts["padding"], tuple(shape))

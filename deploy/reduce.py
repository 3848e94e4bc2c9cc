"""StudentSpec -> Network: what is known of every neuron before anything is mapped, exactly, for every picture.

A neuron whose leak outweighs its inputs never changes: it is folded into the leaks of its readers. Two neurons with
equal weights over equal inputs and equal leaks are one function: one of them stands for both. Both are facts about all
inputs, so what is built still equals the spec; edges of a map, where inputs are few, are where they turn up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deploy.chip import refuse
from deploy.cores import described
from deploy.spec import Conv, Shape, StudentSpec, rows_of, sums

VARIES = -1
# In the order in which they are applied, and counted in the usage table.
REDUCTIONS = {
    "constant": "neurons that never change, folded into leaks",
    "merge": "equal neurons built once",
    "sign": "one axon for inputs of one sign",
    "tiles": "tiles as large as edges and neurons allow",
    "pack": "several tiles in a core",
    "relay": "input lines handed on by tiles",
}
ANALYSED = ("constant", "merge")  # those that show in a Network
RANDOM = 1 << 44  # with 128 taps a sum stays below 2**51, exact in float64
LEAK_BITS = 9  # leaks that decide anything lie within [-128, 129]


@dataclass(frozen=True, eq=False, repr=False)
class Level:
    """The features that one layer reads: front bits or the spikes of the layer before."""

    value: NDArray[np.int8]  # [C, H, W]  VARIES, else the 0 or 1 that it always is
    stand: NDArray[np.int32]  # [C, H, W]  flat index of the feature that stands for it

    __repr__ = described


@dataclass(frozen=True, eq=False)
class Network:
    """A student's layers with what was found out about them. L layers, L + 1 levels; the last level is the votes."""

    layers: tuple[Conv, ...]
    levels: tuple[Level, ...]
    leaks: tuple[NDArray[np.int32], ...]  # each [O, H, W], constant inputs counted in
    vote: NDArray[np.int16]  # [O*H*W of the last layer]  answer of each neuron, -1: none
    history: int = 1  # blocks of the first level: the newest picture's bits, then those of the ones before it

    @property
    def lines(self) -> int:
        """Bits that the host injects for a picture."""
        return self.levels[0].value.size // self.history

    @property
    def sizes(self) -> list[int]:
        """Features of each level."""
        return [level.value.size for level in self.levels]


def reductions(chosen: bool | Collection[str]) -> tuple[str, ...]:
    """The passes that are switched on, in order; raises CompileError naming every one that does not exist."""
    if isinstance(chosen, bool):
        return tuple(REDUCTIONS) if chosen else ()
    allowed = ", ".join(REDUCTIONS)
    refuse([f"reduce: found {name!r}, allowed {allowed}; name these" for name in sorted({*chosen} - {*REDUCTIONS})])
    return tuple(name for name in REDUCTIONS if name in chosen)


def analyse(spec: StudentSpec, chosen: Collection[str] = ()) -> Network:
    """From the input to the votes, layer by layer. Without "constant" and "merge" every neuron stands for itself."""
    levels, leaks = [plain_level(spec.bits_shape)], []
    for layer in spec.layers:
        leak = effective_leaks(layer, levels[-1])
        # A vote that never changes still has to be cast, and equal ones each from a neuron of its own.
        inner = layer is not spec.layers[-1]
        value, stand = np.full(leak.shape, VARIES, np.int8), _own(leak.shape)
        if inner and "constant" in chosen:
            value = constants(layer, levels[-1], leak)
        if inner and "merge" in chosen:
            stand = stands(layer, levels[-1], leak, value)
        levels.append(Level(value, stand))
        leaks.append(leak)
    return Network(spec.layers, tuple(levels), tuple(leaks), spec.vote, spec.history)


def same_network(one: Network, other: Network) -> bool:
    """Whether two analyses of one student found the same."""
    pairs = zip(one.levels, other.levels, strict=True)
    return all(np.array_equal(a.value, b.value) and np.array_equal(a.stand, b.stand) for a, b in pairs)


def plain_level(shape: Shape) -> Level:
    """Features of which nothing is known."""
    return Level(np.full(shape, VARIES, np.int8), _own(shape))


def _own(shape: tuple[int, ...]) -> NDArray[np.int32]:
    return np.arange(np.prod(shape), dtype=np.int32).reshape(shape)


def effective_leaks(layer: Conv, before: Level) -> NDArray[np.int32]:
    """Leaks [O, H, W] with the inputs that are always 1 counted in; padding never fires.

    Outside [-K, K+1] a leak over K weights decides nothing more, and the chip's leak has 9 bits.
    """
    always = before.value == 1
    leak = np.broadcast_to(layer.leak[:, None, None], layer.out_shape)
    if always.any():
        leak = leak + sums(layer, always[None])[0]
    return np.clip(leak, -layer.fan_in, layer.fan_in + 1).astype(np.int32)


def constants(layer: Conv, before: Level, leak: NDArray[np.int32]) -> NDArray[np.int8]:
    """[O, H, W] 1 where even all negative inputs leave a neuron firing, 0 where all positive ones do not help."""
    varies = (before.value == VARIES)[None]
    total, size = sums(layer, varies)[0], sums(replace(layer, weights=np.abs(layer.weights)), varies)[0]
    plus, minus = (size + total) // 2, (size - total) // 2
    value = np.full(leak.shape, VARIES, np.int8)
    value[leak - minus >= 1] = 1
    value[leak + plus < 1] = 0
    return value


def stands(layer: Conv, before: Level, leak: NDArray[np.int32], value: NDArray[np.int8]) -> NDArray[np.int32]:
    """[O, H, W] the first neuron that computes the same; itself where there is none.

    Candidates have equal sums over random numbers in place of the inputs; each is then compared weight by weight.
    """
    draws = np.random.default_rng(0).integers(1, RANDOM, before.value.size).astype(np.float64)
    numbers = np.where(before.value == VARIES, draws[before.stand], 0.0)
    own = len(layer.leak) // layer.groups
    total = rows_of(layer, numbers[None]) @ layer.columns.astype(np.float64)
    _, height, width = layer.out_shape
    total = total.reshape(layer.groups, height, width, own).transpose(0, 3, 1, 2).reshape(layer.out_shape)
    key = (total.astype(np.int64) << LEAK_BITS) + leak
    key[value != VARIES] = np.iinfo(np.int64).max - np.arange((value != VARIES).sum())  # known already: alone
    _, first, which = np.unique(key.ravel(), return_index=True, return_inverse=True)
    stand = first[which.ravel()].astype(np.int32)
    for feature in np.flatnonzero(stand != np.arange(len(stand))):
        if not _equal(layer, before, leak, int(feature), int(stand[feature])):
            stand[feature] = feature
    shaped: NDArray[np.int32] = stand.reshape(leak.shape)
    return shaped


def _equal(layer: Conv, before: Level, leak: NDArray[np.int32], one: int, other: int) -> bool:
    """Whether two neurons have the same weights over the same inputs, and the same leak."""
    if leak.flat[one] != leak.flat[other]:
        return False
    (inputs, weights), (inputs2, weights2) = (_taps(layer, before, feature) for feature in (one, other))
    return np.array_equal(inputs, inputs2) and np.array_equal(weights, weights2)


def _taps(layer: Conv, before: Level, feature: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """(varying inputs that stand for those of a neuron, their weights added up), zeros left out."""
    channel, y, x = (int(i) for i in np.unravel_index(feature, layer.out_shape))
    taps = [(before.stand[at], weight) for at, weight in _connections(layer, channel, y, x) if before.value[at] < 0]
    inputs = np.array([tap[0] for tap in taps], np.int32)
    kinds, which = np.unique(inputs, return_inverse=True)
    total = np.zeros(len(kinds), np.int64)
    np.add.at(total, which, [int(tap[1]) for tap in taps])
    return kinds[total != 0], total[total != 0]


def _connections(layer: Conv, channel: int, y: int, x: int) -> Iterator[tuple[tuple[int, int, int], int]]:
    """((channel, y, x) of an input, weight) of one neuron."""
    first = channel // (len(layer.leak) // layer.groups) * layer.weights.shape[1]
    top, left = y * layer.stride - layer.padding, x * layer.stride - layer.padding
    for at, weight in np.ndenumerate(layer.weights[channel]):
        row, column = top + at[1], left + at[2]
        if weight and 0 <= row < layer.in_shape[1] and 0 <= column < layer.in_shape[2]:
            yield (int(layer.order[first + at[0]]), row, column), int(weight)

"""Tiles -> drafts of cores: a neuron drives one axon, so features are copied and, beyond a core, split by relays.

A producer's spare neurons are filled first; what is left goes to splitter cores, whose neurons repeat one axon each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deploy.chip import Chip
from deploy.cores import pin_target
from deploy.lower import AXONS_AN_INPUT, Tile

Targets = NDArray[np.int64]  # [n, 2]  (core, axon) of each copy


@dataclass(frozen=True, eq=False)
class Draft:
    """One core: what each neuron repeats and where it sends it. n neurons."""

    layer: int  # a tile: its own layer; a splitter: the layer it feeds
    depth: int  # 0: a tile; 1, 2, ..: splitters, so many ticks behind their producers
    tile: Tile | None
    base: NDArray[np.intp]  # [n]  a tile: index of its base neuron; a splitter: the axon it repeats
    targets: Targets


@dataclass(frozen=True, eq=False)
class FanOut:
    """Every core in the order in which tiles, then splitters, were made; targets are indices into `cores`."""

    cores: tuple[Draft, ...]
    line: NDArray[np.int64]  # [E]  input line of each entry, rising
    entry: Targets  # [E, 2]
    depths: tuple[int, ...]  # splitter ticks before each layer


@dataclass
class _Bin:
    """A splitter core being filled."""

    index: int
    free: int
    axons: list[Targets] = field(default_factory=list)


class _Splitters:
    """Splitter cores of one stage, filled first-fit. Used only while a FanOut is made."""

    def __init__(self, layer: int, chip: Chip, first: int) -> None:
        self._layer, self._chip, self._next = layer, chip, first
        self._bins: list[tuple[int, _Bin]] = []
        self._open: dict[int, list[_Bin]] = {}

    def reach(self, targets: Targets, depth: int = 1) -> tuple[int, int]:
        """The (core, axon) of a relay that serves all targets, through a tree where they are many."""
        chosen = self._bin(min(len(targets), self._chip.neurons), depth)
        axon = len(chosen.axons)
        chosen.free -= min(len(targets), self._chip.neurons)
        chosen.axons.append(targets)
        chosen.axons[axon] = self.serve(targets, self._chip.neurons, depth + 1)
        return chosen.index, axon

    def serve(self, targets: Targets, slots: int, depth: int = 1) -> Targets:
        """At most `slots` targets that stand for all of them: direct ones first, then relays."""
        direct, links = divide(targets, slots, self._chip.neurons)
        relays = [self.reach(link, depth) for link in links]
        return np.concatenate([direct, np.array(relays, np.int64).reshape(-1, 2)])

    def drafts(self) -> list[Draft]:
        return [self._draft(depth, filled) for depth, filled in sorted(self._bins, key=lambda item: item[1].index)]

    def _bin(self, size: int, depth: int) -> _Bin:
        bins = self._open.setdefault(depth, [])
        bins[:] = [b for b in bins if b.free and len(b.axons) < self._chip.axons]
        for candidate in bins:
            if candidate.free >= size:
                return candidate
        bins.append(_Bin(self._next, self._chip.neurons))
        self._bins.append((depth, bins[-1]))
        self._next += 1
        return bins[-1]

    def _draft(self, depth: int, filled: _Bin) -> Draft:
        base = np.repeat(np.arange(len(filled.axons)), [len(targets) for targets in filled.axons])
        return Draft(self._layer, depth, None, base, np.concatenate(filled.axons))


def divide(targets: Targets, slots: int, width: int) -> tuple[Targets, list[Targets]]:
    """(targets reached directly, shares left to relays) with `slots` neurons; a splitter core serves `width`."""
    if len(targets) <= slots:
        return targets, []
    links = min(slots, -(-(len(targets) - slots) // (width - 1)))
    direct = slots - links
    return targets[:direct], np.array_split(targets[direct:], links)


def allot(needs: NDArray[np.intp], slots: int) -> NDArray[np.intp]:
    """Neurons [m] that each feature gets of `slots`: at least one each, then as many features whole as possible.

    A feature served whole needs no relay, so the fewest relays are left by serving small needs first.
    """
    if needs.sum() <= slots:
        return needs
    granted, left = np.ones_like(needs), slots - len(needs)
    for feature in np.argsort(needs, kind="stable"):
        extra = min(needs[feature] - 1, left)
        granted[feature] += extra
        left -= extra
    return granted


def fan_out(
    layers: Sequence[Sequence[Tile]],
    sizes: Sequence[int],
    n_lines: int,
    vote: NDArray[np.int16],
    chip: Chip,
    host_copies: bool = False,
) -> FanOut:
    """Give every feature its copies; `sizes` are the features of each layer. With `host_copies` the host injects an
    input once for each axon that reads it, otherwise once, into a splitter core.
    """
    firsts = np.cumsum([0, *(len(tiles) for tiles in layers)])
    total = int(firsts[-1])
    lines = _wants(layers[0], 0, n_lines)
    entries, splitters = _enter(lines, chip, total, host_copies)
    cores: list[Draft] = []
    depths = [_depth(splitters)]
    for index, tiles in enumerate(layers):
        last = index + 1 == len(layers)
        wants = _pins(vote) if last else _wants(layers[index + 1], int(firsts[index + 1]), sizes[index])
        stage = _Splitters(index + 1, chip, total + len(splitters))
        cores += [_produce(tile, wants, chip, stage) for tile in tiles]
        made = stage.drafts()
        splitters += made
        depths.append(_depth(made))
    line = np.repeat(np.arange(len(entries)), [len(targets) for targets in entries])
    entry = np.concatenate([np.zeros((0, 2), np.int64), *entries])
    return FanOut((*cores, *splitters), line, entry, tuple(depths))


def _wants(tiles: Sequence[Tile], first: int, features: int) -> list[Targets]:
    """For each feature of a level, the (core, axon) pairs that read it: two axons a reader."""
    empty = np.zeros(0, np.int64)
    feature = np.concatenate([empty, *(tile.inputs for tile in tiles)]).repeat(AXONS_AN_INPUT)
    sizes = [AXONS_AN_INPUT * len(tile.inputs) for tile in tiles]
    core = np.repeat(np.arange(first, first + len(tiles)), sizes)
    axon = np.concatenate([empty, *(np.arange(size) for size in sizes)])
    order = np.argsort(feature, kind="stable")
    targets = np.stack([core, axon], axis=1)[order].astype(np.int64)
    return np.split(targets, np.cumsum(np.bincount(feature, minlength=features))[:-1])


def _pins(vote: NDArray[np.int16]) -> list[Targets]:
    """Each neuron of the last layer to the pin of its own number."""
    core, axon = pin_target(np.arange(len(vote)))
    return list(np.stack([core, axon], axis=1).astype(np.int64)[:, None])


def _enter(lines: list[Targets], chip: Chip, first: int, host_copies: bool) -> tuple[list[Targets], list[Draft]]:
    """(targets of each input line, splitter cores at the input)."""
    if host_copies:
        return lines, []
    splitters = _Splitters(0, chip, first)
    entries = [np.array([splitters.reach(line)], np.int64) if len(line) else line for line in lines]
    return entries, splitters.drafts()


def _produce(tile: Tile, wants: list[Targets], chip: Chip, splitters: _Splitters) -> Draft:
    """A tile's core. First copies come first and in the order of the base neurons, then second copies, ..."""
    asked = [wants[feature] for feature in tile.outputs]
    granted = allot(np.array([len(targets) for targets in asked]), chip.neurons)
    served = [splitters.serve(targets, int(slots)) for targets, slots in zip(asked, granted, strict=True)]
    base = np.repeat(np.arange(len(served)), granted)
    rank = np.concatenate([np.arange(slots) for slots in granted])
    order = np.lexsort((base, rank))
    return Draft(tile.layer, 0, tile, base[order], np.concatenate(served)[order])


def _depth(splitters: Sequence[Draft]) -> int:
    return max((draft.depth for draft in splitters), default=0)

"""Tiles -> drafts of cores: a neuron drives one axon, so features are copied and, beyond a core, split by relays.

A producer's spare neurons are filled first; what is left goes to splitter cores, whose neurons repeat one axon each.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deploy.chip import Chip
from deploy.cores import described, pin_target
from deploy.handon import HandOn, hand_on, nothing_handed_on
from deploy.history import Targets, entered, slots_of
from deploy.lower import Tile, core_axons
from deploy.reduce import Network

# Targets [n, 3]: (core, axon, wait) of each copy; ticks to wait on top of the difference in levels.
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class Draft:
    """One core: the tiles it holds, axons that are only repeated, and what each of n neurons does.

    Neuron sources: 0 .. m-1 are the m base neurons of its tiles; m + a repeats axon a.
    """

    layer: int  # with tiles: their layer; a splitter: the layer it feeds
    depth: int  # 0: with tiles; 1, 2, ..: splitters, so many ticks behind their producers
    tiles: tuple[Tile, ...]
    lines: int  # axons after those of the tiles
    source: Ints  # [n]
    targets: Targets

    __repr__ = described

    @property
    def n_base(self) -> int:
        return sum(len(tile.outputs) for tile in self.tiles)

    @property
    def n_axons(self) -> int:
        return self.lines + sum(len(tile.kernel.row) for tile in self.tiles)


@dataclass(frozen=True, eq=False, repr=False)
class FanOut:
    """Every core in the order in which tiles, then splitters, were made; targets are indices into `cores`."""

    cores: tuple[Draft, ...]
    level: NDArray[np.int32]  # [C]  ticks from the input to the core
    line: Ints  # [E]  input line of each entry, rising
    entry: Targets  # [E, 3]
    layer_levels: tuple[int, ...]  # the last core of each layer

    __repr__ = described


@dataclass(frozen=True, eq=False)
class Wants:
    """The targets of every feature of a level: those of feature f are start[f] .. start[f+1] - 1."""

    start: Ints  # [F+1]
    targets: Targets

    def of(self, feature: int) -> Targets:
        return self.targets[self.start[feature] : self.start[feature + 1]]


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
        if not links:
            return direct
        relays = [self.reach(link, depth) for link in links]
        return np.concatenate([direct, np.array([(*relay, 0) for relay in relays], np.int64)])

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
        source = np.repeat(np.arange(len(filled.axons)), [len(targets) for targets in filled.axons])
        return Draft(self._layer, depth, (), len(filled.axons), source, np.concatenate(filled.axons))


def divide(targets: Targets, slots: int, width: int) -> tuple[Targets, list[Targets]]:
    """(targets reached directly, shares left to relays) with `slots` neurons; a splitter core serves `width`."""
    if len(targets) <= slots:
        return targets, []
    links = min(slots, -(-(len(targets) - slots) // (width - 1)))
    direct = slots - links
    if links == 1:
        return targets[:direct], [targets[direct:]]
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
    layers: Sequence[Sequence[tuple[Tile, ...]]],
    net: Network,
    chip: Chip,
    host_copies: int = 1,
    reduce: Collection[str] = (),
    interval: int = 0,
) -> FanOut:
    """Give every feature its copies. `layers` are the tiles of each core; the host injects up to `host_copies` spikes
    for each input line, splitter cores do the rest. Pictures of a history lie `interval` ticks apart.
    """
    firsts = np.cumsum([0, *(len(cores) for cores in layers)])
    wants = [wants_of(cores, int(first), size) for cores, first, size in zip(layers, firsts, net.sizes, strict=False)]
    wants.append(_pins(net.vote))
    handed = nothing_handed_on(len(layers[0]))
    if "relay" in reduce:
        spare = chip.neurons - np.array([_asked(tiles, wants[1]) for tiles in layers[0]], np.int64)
        handed = hand_on(layers[0], np.maximum(spare, 0), net.sizes[0], host_copies, chip)
    slots = slots_of(net.history, interval, host_copies, chip.max_delay)
    entries, splitters = _enter(_left(wants[0], handed), chip, int(firsts[-1]), slots, interval)
    stages, cores = [splitters], []
    for index, own in enumerate(layers):
        stage = _Splitters(index + 1, chip, int(firsts[-1]) + sum(len(made) for made in stages))
        cores += [_produce(tiles, wants[index + 1], chip, stage) for tiles in own]
        stages.append(stage.drafts())
    cores[: len(layers[0])] = [_handing_on(draft, i, handed) for i, draft in enumerate(cores[: len(layers[0])])]
    cores += [draft for made in stages for draft in made]
    line = np.repeat(np.arange(len(entries)), [len(targets) for targets in entries])
    entry = np.concatenate([np.zeros((0, 3), np.int64), *entries])
    depths = [max((draft.depth for draft in made), default=0) for made in stages]
    layer_levels = np.cumsum(depths) + np.arange(len(depths)) + handed.waves
    return FanOut(
        tuple(cores), _levels(cores, depths, layer_levels, handed), line, entry, (*layer_levels[:-1].tolist(),)
    )


def _levels(drafts: Sequence[Draft], depths: Sequence[int], layers: Ints, handed: HandOn) -> NDArray[np.int32]:
    """Ticks from the input to each core. The tiles of a layer share one level, so the votes leave together; only
    those that hand input lines on run before those that they hand them to.
    """
    before = layers - np.array(depths) - 1  # splitters of depth d before layer l run d ticks after layer l-1
    before[0] = -1
    levels = np.array([before[d.layer] + d.depth if d.depth else layers[d.layer] for d in drafts], np.int32)
    levels[: len(handed.wave)] += handed.wave - handed.waves
    return levels


def wants_of(cores: Sequence[tuple[Tile, ...]], first: int, features: int) -> Wants:
    """For each feature of a level, the axons that read it; `first` is the number of the first of these cores."""
    empty = np.zeros(0, np.int64)
    axon = [at for tiles in cores for at in core_axons(tiles)[0]]
    core = np.repeat(np.arange(first, first + len(cores)), [len(tiles) for tiles in cores])
    feature = np.concatenate([empty, *(tile.inputs[tile.kernel.row] for tiles in cores for tile in tiles)])
    return _grouped(feature, at_once(core.repeat([len(at) for at in axon]), np.concatenate([empty, *axon])), features)


def _pins(vote: NDArray[np.int16]) -> Wants:
    """Each voting neuron of the last layer to the pin of its own number."""
    votes = np.flatnonzero(vote >= 0)
    core, axon = pin_target(votes)
    return _grouped(votes, at_once(core, axon), len(vote))


def at_once(core: NDArray[np.integer], axon: NDArray[np.integer]) -> Targets:
    """Targets that wait for nothing but their level."""
    return np.stack([core, axon, np.zeros_like(core)], axis=1).astype(np.int64)


def _grouped(feature: NDArray[np.integer], targets: NDArray[np.integer], features: int) -> Wants:
    counts = np.bincount(feature.astype(np.int64), minlength=features)
    order = np.argsort(feature, kind="stable")
    return Wants(np.concatenate([[0], np.cumsum(counts)]), targets[order].astype(np.int64))


def _asked(tiles: Sequence[Tile], wants: Wants) -> int:
    """Neurons that a core needs for all targets of its tiles."""
    return sum(int((wants.start[tile.outputs + 1] - wants.start[tile.outputs]).sum()) for tile in tiles)


def _left(lines: Wants, handed: HandOn) -> list[Targets]:
    """The targets of each line that no tile hands it on to."""
    served = np.isin(_flat(lines.targets), _flat(at_once(handed.target, handed.target_axon)))
    line = np.repeat(np.arange(len(lines.start) - 1), np.diff(lines.start))
    left = _grouped(line[~served], lines.targets[~served], len(lines.start) - 1)
    return [left.of(line) for line in range(len(left.start) - 1)]


def _flat(targets: Targets) -> Ints:
    return (targets[:, 0] << 8) + targets[:, 1]


def _enter(
    lines: list[Targets], chip: Chip, first: int, slots: Sequence[int], interval: int
) -> tuple[list[Targets], list[Draft]]:
    """(targets that the host injects for each line of the newest picture, splitter cores at the input)."""
    splitters, count = _Splitters(0, chip, first), len(lines) // len(slots)
    blocks = [lines[start : start + count] for start in range(0, len(lines), count)]
    return entered(blocks, interval, slots, splitters.serve), splitters.drafts()


def _produce(tiles: tuple[Tile, ...], wants: Wants, chip: Chip, splitters: _Splitters) -> Draft:
    """The core of some tiles. First copies come first and in the order of the base neurons, then second ones, ..."""
    outputs = np.concatenate([tile.outputs for tile in tiles])
    start, needs = wants.start[outputs], wants.start[outputs + 1] - wants.start[outputs]
    if needs.sum() <= chip.neurons:
        base, rank = _copies(needs)
        return Draft(tiles[0].layer, 0, tiles, 0, base, wants.targets[start[base] + rank])
    granted = allot(needs, chip.neurons)
    served = [splitters.serve(wants.of(int(f)), int(slots)) for f, slots in zip(outputs, granted, strict=True)]
    base, rank = _copies(granted)
    first = np.cumsum(granted) - granted
    return Draft(tiles[0].layer, 0, tiles, 0, base, np.concatenate(served)[first[base] + rank])


def _copies(counts: NDArray[np.integer]) -> tuple[Ints, Ints]:
    """(feature, number of the copy) of every neuron: all first copies, then all second ones, ..."""
    base = np.repeat(np.arange(len(counts)), counts)
    rank = np.arange(len(base)) - np.repeat(np.cumsum(counts) - counts, counts)
    order = np.argsort(rank, kind="stable")
    return base[order], rank[order]


def _handing_on(draft: Draft, core: int, handed: HandOn) -> Draft:
    """A core of the first layer with the relays that it lends to other tiles."""
    mine = slice(*np.searchsorted(handed.source, [core, core + 1]))
    targets = at_once(handed.target[mine], handed.target_axon[mine])
    source = np.concatenate([draft.source, draft.n_base + handed.source_axon[mine]])
    return Draft(draft.layer, 0, draft.tiles, 0, source, np.concatenate([draft.targets, targets]))

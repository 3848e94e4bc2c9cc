"""Input fan-out through the tiles themselves: a tile's spare neurons hand its input lines on to tiles a tick later.

Neighbouring tiles of the first layer see many of the same lines. A neuron that repeats an axon its tile reads anyway
costs no axon, so splitter cores are needed only for the tiles that begin. The tiles then run in waves, as in a
systolic array: those of wave w one tick after those of wave w-1, and the delays of what they make take that up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deploy.chip import Chip
from deploy.cores import described
from deploy.lower import Tile, core_axons
from deploy.tiling import AXONS_AN_INPUT

Ints = NDArray[np.int64]
MAX_WAVES = 4  # ticks that the first layer may take longer
TICK_PRICE = 3  # cores that a tick more must save
FAR = 1 << 30


@dataclass(frozen=True, eq=False, repr=False)
class HandOn:
    """Which core of the first layer repeats which of its axons for which other core. C cores, S relays."""

    wave: NDArray[np.int32]  # [C]
    source: Ints  # [S]  rising
    source_axon: Ints  # [S]
    target: Ints  # [S]
    target_axon: Ints  # [S]

    __repr__ = described

    @property
    def waves(self) -> int:
        """Ticks that the last wave runs behind the first."""
        return int(self.wave.max(initial=0))


@dataclass(frozen=True, eq=False)
class _Meetings:
    """Lines meeting cores: M of them by line; a line takes one or two neighbouring axons of a core."""

    start: Ints  # [lines + 1]
    core: Ints  # [M]
    axon: Ints  # [M]  the first
    count: Ints  # [M]  1 or 2


def nothing_handed_on(cores: int) -> HandOn:
    empty = np.zeros(0, np.int64)
    return HandOn(np.zeros(cores, np.int32), empty, empty, empty, empty)


def hand_on(cores: Sequence[tuple[Tile, ...]], spare: Ints, n_lines: int, host_copies: int, chip: Chip) -> HandOn:
    """The waves and relays that leave the fewest splitter cores, where each wave saves a few. `spare` [C] are the
    neurons that each core has left; a line that the host serves whole is left alone.
    """
    meetings = _meetings(cores, n_lines)
    line = np.repeat(np.arange(n_lines), np.diff(meetings.start))
    spots = _spots(cores)
    by_core = np.lexsort((meetings.axon, meetings.core))
    core = meetings.core[by_core]

    def provided(wave: Ints) -> tuple[int, Ints]:
        order = by_core[np.argsort(wave[core].astype(np.int8), kind="stable")]
        m = meetings
        relays, provider = _provide(m.start, m.core, m.count, line, spots, spare.copy(), wave, order, host_copies)
        return -(-relays // chip.neurons), provider

    waves = [np.zeros(len(cores), np.int64), *_patterns(spots)]
    tried = [(*provided(wave), wave) for wave in waves]
    _, provider, wave = min(tried, key=lambda result: result[0] + TICK_PRICE * int(result[2].max(initial=0)))
    return _relays(meetings, provider, wave)


def _meetings(cores: Sequence[tuple[Tile, ...]], n_lines: int) -> _Meetings:
    parts = [part for number, tiles in enumerate(cores) for part in _of_core(number, tiles)]
    line, core, axon, count = np.concatenate([np.zeros((4, 0), np.int64), *parts], axis=1)
    order = np.lexsort((axon, core, line))
    start = np.searchsorted(line[order], np.arange(n_lines + 1))
    return _Meetings(start.astype(np.int64), core[order], axon[order], count[order])


def _of_core(number: int, tiles: tuple[Tile, ...]) -> Iterator[Ints]:
    """(line, core, first axon, axons) [4, n] for each tile of a core."""
    for tile, at in zip(tiles, core_axons(tiles)[0], strict=True):
        paired = tile.kernel.paired
        first = np.concatenate([at[:paired:AXONS_AN_INPUT], at[paired:]])
        row = np.concatenate([tile.kernel.row[:paired:AXONS_AN_INPUT], tile.kernel.row[paired:]])
        count = np.where(np.arange(len(row)) < paired // AXONS_AN_INPUT, AXONS_AN_INPUT, 1)
        yield np.stack([tile.inputs[row], np.full(len(row), number), first, count]).astype(np.int64)


def _spots(cores: Sequence[tuple[Tile, ...]]) -> Ints:
    """[C, 3] row and column of each core's first tile, and which of the cores there it is."""
    seen: dict[tuple[int, int], int] = {}
    spots = []
    for tiles in cores:
        spot = tiles[0].spot
        spots.append((*spot, seen.setdefault(spot, 0)))
        seen[spot] += 1
    return np.array(spots, np.int64).reshape(-1, 3)


def _patterns(spots: Ints) -> Iterator[Ints]:
    """Waves that rise and fall along rows, columns or the cores of one spot: 0 1 0, 0 1 2 1 0, ... over and over.

    A tile of a higher wave takes half its lines from either side, so few tiles are receivers only.
    """
    for axis in range(spots.shape[1]):
        for top in range(1, MAX_WAVES + 1):
            period = 2 * top + 1
            for shift in range(min(period, int(spots[:, axis].max(initial=0)))):
                yield top - np.abs((spots[:, axis] + shift) % period - top)


@njit(cache=True)
def _provide(
    start: Ints, core: Ints, count: Ints, line: Ints, spots: Ints, spare: Ints, wave: Ints, order: Ints, keep: int
) -> tuple[int, Ints]:
    """(relays that splitters still need, the meeting [M] whose core hands a line on to each meeting, -1: none).

    Each meeting takes the nearest core of an earlier wave that reads the line and has neurons to spare; changes spare.
    """
    left = np.zeros(len(start) - 1, np.int64)
    for m in range(len(core)):
        left[line[m]] += count[m]
    provider = np.full(len(core), -1, np.int64)
    for m in order:
        here, own = core[m], line[m]
        if left[own] <= keep:
            continue
        best, nearest = -1, FAR
        for other in range(start[own], start[own + 1]):
            there = core[other]
            if wave[there] >= wave[here] or spare[there] < count[m]:
                continue
            far = np.abs(spots[here] - spots[there]).sum()
            if far < nearest:
                best, nearest = other, far
        if best >= 0:
            provider[m] = best
            spare[core[best]] -= count[m]
            left[own] -= count[m]
    relays = 0
    for own in range(len(left)):
        if left[own] > keep:
            relays += left[own] - keep + 1
    return relays, provider


def _relays(meetings: _Meetings, provider: Ints, wave: Ints) -> HandOn:
    """One relay for each axon of a meeting that has a provider."""
    served = np.flatnonzero(provider >= 0).repeat(meetings.count[provider >= 0])
    second = np.concatenate([[False], served[1:] == served[:-1]]) if len(served) else np.zeros(0, bool)
    given = provider[served]
    order = np.argsort(meetings.core[given], kind="stable")
    source, source_axon = meetings.core[given][order], meetings.axon[given][order]
    target, target_axon = meetings.core[served][order], (meetings.axon[served] + second)[order]
    return HandOn(wave.astype(np.int32), source, source_axon, target, target_axon)

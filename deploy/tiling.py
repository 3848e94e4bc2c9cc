"""How a layer is cut into tiles that fit a core: candidates, what each would cost, and the cheapest."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.chip import Chip
from deploy.pack import pack
from deploy.spec import Conv, StudentSpec

AXONS_AN_INPUT = 2  # weight -1 on one, +1 on the other
# Splitters behind a layer cost a tick as well as cores. A cut that needs them must halve the cores to be taken: the
# rule that rebuilds the published networks (Esser et al. 2016), splitter-free inside. Looking for few cores, a tenth.
SPLITTER_PRICE, SMALL_SPLITTER_PRICE = 2.0, 1.1
NO_SPLITTERS_PRICE = 1e6  # taken only where every cut needs some
MORE_SHARES = 3  # tries with so many shares more than a group's outputs need
Count = NDArray[np.int64]


@dataclass(frozen=True)
class Grid:
    """How a layer is cut: first output rows and columns of the tiles, and shares of a group's output channels."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    shares: int


@dataclass(frozen=True, eq=False)
class Demand:
    """What a cut is judged by."""

    needs: NDArray[np.int32]  # [O, H, W]  targets of each output
    chip: Chip
    reduce: Collection[str]
    host_copies: int  # spikes that the host injects a line; 0: the layer does not read input lines
    splitters: bool = True  # whether a cut may need some behind it


def misfits(layer: Conv, chip: Chip) -> Iterator[str]:
    """Why a layer can not be cut to fit a core."""
    if layer.fan_in > chip.inputs:
        yield (
            f"{layer.name}: {layer.fan_in} inputs a neuron, {chip.inputs} fit a core of {chip.name}; "
            "try more groups or a smaller kernel"
        )


def choose_grid(layer: Conv, demand: Demand) -> Grid:
    """The cut with the fewest cores; among equals the one that reads least."""
    judge = _Judge(layer, demand)
    grids = dict.fromkeys(_even_grids(layer, demand.chip, 0 if demand.splitters else MORE_SHARES))
    if "tiles" in demand.reduce:
        grids |= dict.fromkeys(_uneven_grids(layer, demand, judge.density))
    return min(grids, key=judge.cost)


def seen(layer: Conv, first: int, count: int, size: int) -> tuple[int, int]:
    """Input rows (or columns) that `count` outputs from `first` on see, padding cut off."""
    start = first * layer.stride - layer.padding
    end = start + (count - 1) * layer.stride + layer.weights.shape[2]
    return min(max(start, 0), size), min(max(end, 0), size)


def bands(firsts: Sequence[int], size: int) -> list[tuple[int, int]]:
    """(first, count) of each band of rows or columns."""
    return [(first, after - first) for first, after in zip(firsts, [*firsts[1:], size], strict=True)]


def share_channels(layer: Conv, shares: int) -> list[NDArray[np.intp]]:
    """The output channels of each core at one position: every group in equal shares."""
    groups = np.split(np.arange(layer.out_shape[0]), layer.groups)
    return [share for group in groups for share in np.array_split(group, shares)]


def _even_grids(layer: Conv, chip: Chip, more_shares: int = 0) -> Iterator[Grid]:
    """Equal tiles that fit a core by their plain numbers of inputs and outputs."""
    channels, height, width = layer.out_shape
    own = channels // layer.groups
    least = -(-own // chip.neurons)
    for rows in range(1, height + 1):
        for columns in range(1, width + 1):
            inputs = _span(layer, rows, layer.in_shape[1]) * _span(layer, columns, layer.in_shape[2])
            if inputs * layer.weights.shape[1] > chip.inputs:
                continue
            for shares in range(least, min(least + more_shares, own) + 1):
                if rows * columns * -(-own // shares) <= chip.neurons:
                    yield Grid(tuple(range(0, height, rows)), tuple(range(0, width, columns)), shares)


def _span(layer: Conv, count: int, size: int) -> int:
    """Input rows (or columns) of so many outputs that no edge cuts."""
    return min((count - 1) * layer.stride + int(layer.weights.shape[2]), size)


def _uneven_grids(layer: Conv, demand: Demand, density: float) -> Iterator[Grid]:
    """Tiles that grow where an edge cuts their inputs, or where inputs take fewer than two axons (`density`)."""
    (channels, height, width), (_, in_height, in_width) = layer.out_shape, layer.in_shape
    window = int(demand.chip.axons / (AXONS_AN_INPUT * density)) // layer.weights.shape[1]
    own, copies = channels // layer.groups, max(int(demand.needs.max()), 1)
    least = -(-own // demand.chip.neurons)
    for shares in range(least, min(least + MORE_SHARES, own) + 1):
        share = -(-own // shares)
        # As many positions as their outputs allow, and as many as their copies do.
        for positions in sorted({demand.chip.neurons // share, demand.chip.neurons // (share * copies)} - {0}):
            for seen_rows in range(1, min(window, in_height) + 1):
                for count in range(1, min(positions, height) + 1):
                    rows = _partition(layer, height, in_height, seen_rows, count)
                    columns = _partition(layer, width, in_width, window // seen_rows, positions // count)
                    if rows and columns:
                        yield Grid(rows, columns, shares)


def _partition(layer: Conv, size: int, in_size: int, most_seen: int, most: int) -> tuple[int, ...]:
    """First outputs of the fewest bands that see and make no more than that; empty where one alone sees more."""
    firsts, first = [], 0
    while first < size:
        count = 0
        while first + count < size and count < most:
            start, end = seen(layer, first, count + 1, in_size)
            if end - start > most_seen:
                break
            count += 1
        if not count:
            return ()
        firsts.append(first)
        first += count
    return tuple(firsts)


class _Judge:
    """Prices cuts of one layer; remembers what tiles of equal shape use."""

    def __init__(self, layer: Conv, demand: Demand) -> None:
        self._layer, self._demand = layer, demand
        self._used: dict[int, NDArray[np.bool_]] = {}
        self._counted: dict[tuple[int, ...], Count] = {}

    @property
    def density(self) -> float:
        """Axons that a tile of one position takes, as a share of two an input, where it is densest."""
        used = self._signs(-(-(len(self._layer.leak) // self._layer.groups) // self._demand.chip.neurons))
        return float(max(used.reshape(len(used), -1).mean(axis=1).max(), 1 / used[0].size))

    def cost(self, grid: Grid) -> tuple[float, int]:
        """(price in cores, axons) of one cut; infinite where a tile does not fit."""
        chip, reduce = self._demand.chip, self._demand.reduce
        axons = self._axons(grid).ravel()
        wanted, kept = (self._by_tile(values, grid).ravel() for values in (self._demand.needs, self._demand.needs > 0))
        if axons.max() > chip.axons or kept.max() > chip.neurons:
            return math.inf, 0
        axons, wanted = axons[kept > 0], wanted[kept > 0]
        cores = len(wanted)
        if "pack" in reduce and cores:
            cores = int(pack(axons, wanted, chip).max()) + 1
        over = int(np.maximum(wanted - chip.neurons, 0).sum())
        # A feature with n targets that is left one neuron frees n - 1 and takes n relays.
        relays = over + over // max(int(self._demand.needs.max()) - 1, 1) if over else 0
        relays += self._input_relays(grid)
        price = self._splitter_price if over else 1.0
        return price * (cores + relays / chip.neurons), int(axons.sum())

    @property
    def _splitter_price(self) -> float:
        if not self._demand.splitters:
            return NO_SPLITTERS_PRICE
        return SMALL_SPLITTER_PRICE if "tiles" in self._demand.reduce else SPLITTER_PRICE

    def _by_tile(self, values: NDArray[np.generic], grid: Grid) -> Count:
        """[O, H, W] added up by tile: [shares of all groups, rows, columns]."""
        firsts = [int(share[0]) for share in share_channels(self._layer, grid.shares)]
        added = values.astype(np.int64)
        for axis, starts in enumerate((firsts, grid.rows, grid.columns)):
            added = np.add.reduceat(added, starts, axis)
        return added

    def _axons(self, grid: Grid) -> Count:
        """[shares of all groups, rows, columns] axons of each tile; edges counted, constant inputs not."""
        _, height, width = self._layer.out_shape
        _, in_height, in_width = self._layer.in_shape
        rows = [self._cut(*band, in_height) for band in bands(grid.rows, height)]
        columns = [self._cut(*band, in_width) for band in bands(grid.columns, width)]
        return np.stack([np.stack([self._count(grid.shares, r, c) for c in columns], -1) for r in rows], -2)

    def _cut(self, first: int, count: int, size: int) -> tuple[int, int, int]:
        """(outputs, inputs seen, inputs cut off before them) of a band."""
        start, end = seen(self._layer, first, count, size)
        return count, end - start, start - (first * self._layer.stride - self._layer.padding)

    def _count(self, shares: int, rows: tuple[int, int, int], columns: tuple[int, int, int]) -> Count:
        """[shares of all groups] axons of a tile of that shape."""
        key = (shares, *rows, *columns)
        if key not in self._counted:
            used = self._signs(shares)
            if used.all() and min(rows[1], columns[1]) > 0 and self._layer.stride <= used.shape[2]:
                self._counted[key] = np.full(len(used), AXONS_AN_INPUT * used.shape[1] * rows[1] * columns[1])
            else:
                self._counted[key] = self._counted_one_by_one(used, rows, columns)
        return self._counted[key]

    def _counted_one_by_one(
        self, used: NDArray[np.bool_], rows: tuple[int, int, int], columns: tuple[int, int, int]
    ) -> Count:
        """Axons where some weights are missing: the union of what each position uses."""
        k, stride = used.shape[2], self._layer.stride
        spans = [(count - 1) * stride + k for count, _, _ in (rows, columns)]
        union = np.zeros((*used.shape[:2], *spans, AXONS_AN_INPUT), bool)
        for row, column in np.ndindex(rows[0], columns[0]):
            y, x = row * stride, column * stride
            union[:, :, y : y + k, x : x + k] |= used
        (_, height, top), (_, width, left) = rows, columns
        counted: Count = union[:, :, top : top + height, left : left + width].sum(axis=(1, 2, 3, 4))
        return counted

    def _signs(self, shares: int) -> NDArray[np.bool_]:
        """[shares of all groups, C/groups, k, k, 2] True where an input needs its axon for -1, for +1."""
        if shares not in self._used:
            parts = [self._layer.weights[share] for share in share_channels(self._layer, shares)]
            used = np.stack([np.stack([(part == sign).any(axis=0) for sign in (-1, 1)], -1) for part in parts])
            if "sign" not in self._demand.reduce:
                used |= used[..., ::-1]
            self._used[shares] = used
        return self._used[shares]

    def _input_relays(self, grid: Grid) -> int:
        """Relays that splitters need to carry the host's copies of every line to all tiles."""
        if not self._demand.host_copies:
            return 0
        _, height, width = self._layer.out_shape
        channels, in_height, in_width = self._layer.in_shape
        rows = self._readers(grid.rows, height, in_height)
        columns = self._readers(grid.columns, width, in_width)
        targets = AXONS_AN_INPUT * grid.shares * rows[:, None] * columns
        left = np.where(targets > self._demand.host_copies, targets - self._demand.host_copies + 1, 0)
        return channels * int(left.sum())

    def _readers(self, firsts: Sequence[int], size: int, in_size: int) -> Count:
        """Bands that see each input row (or column)."""
        readers = np.zeros(in_size, np.int64)
        for first, count in bands(firsts, size):
            readers[slice(*seen(self._layer, first, count, in_size))] += 1
        return readers


def naive_cores(spec: StudentSpec, chip: Chip) -> tuple[int, ...]:
    """Cores of each layer by the plain rule: groups times equal tiles, edges and spare room left out of account.

    The tile is the largest whose inputs fit the axons and whose copies fit the neurons, given the tiles that read it
    (Esser et al. 2016: 2x2 for their 3x3 layers, one position for the others).
    """
    counts: list[int] = []
    copies = 1  # of an output of the last layer: one pin
    for layer in reversed(spec.layers):
        rows, columns, shares = _naive_tile(layer, chip, copies)
        _, height, width = layer.out_shape
        counts.append(layer.groups * shares * -(-height // rows) * -(-width // columns))
        k, stride = int(layer.weights.shape[2]), layer.stride
        # An input lies in so many windows of a row of tiles, at most.
        reads = [-(-((tile - 1) * stride + k) // (tile * stride)) for tile in (rows, columns)]
        copies = AXONS_AN_INPUT * shares * min(reads[0], -(-height // rows)) * min(reads[1], -(-width // columns))
    return tuple(reversed(counts))


def _naive_tile(layer: Conv, chip: Chip, copies: int) -> tuple[int, int, int]:
    """(rows, columns, shares) of the largest tile with room for the copies, squarest first; one position where none."""
    channels, height, width = layer.out_shape
    own, (per_group, k, _) = channels // layer.groups, layer.weights.shape[1:]
    shares = -(-own // chip.neurons)
    fitting = [(1, -2, -1, 1)]
    for rows, columns in ((r, c) for r in range(1, height + 1) for c in range(1, width + 1)):
        inputs = ((rows - 1) * layer.stride + k) * ((columns - 1) * layer.stride + k) * per_group
        if inputs <= chip.inputs and rows * columns * -(-own // shares) * copies <= chip.neurons:
            fitting.append((rows * columns, -rows - columns, -rows, columns))
    _, _, rows, columns = max(fitting)
    return -rows, columns, shares

"""Network -> tiles: each layer cut into pieces that fit a core, whom each reads, and with what weights."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from deploy.chip import Chip, refuse
from deploy.cores import described
from deploy.pack import pack
from deploy.reduce import VARIES, Network
from deploy.spec import Conv, Shape
from deploy.tiling import AXONS_AN_INPUT, Demand, Grid, bands, choose_grid, misfits, seen, share_channels

I32 = NDArray[np.int32]
T = TypeVar("T", bound=np.generic)
SIGNS = (-1, 1)  # weights of axon types 0 and 1


@dataclass(frozen=True, eq=False, repr=False)
class Kernel:
    """The weights of a tile and the axons that carry its inputs; one record for all tiles that see the same weights.

    Axons are in the order: pairs (types 0 and 1 of one input), then single ones of type 1, then of type 0. So an even
    axon of type 0 with one of type 1 behind it is always a pair.
    """

    weights: NDArray[np.int8]  # [n, m]  -1, 0, 1
    row: NDArray[np.intp]  # [a]  the input behind each axon
    kind: NDArray[np.uint8]  # [a]  0: weight -1, 1: weight +1
    paired: int  # axons in pairs
    plus: int  # single axons of type 1

    __repr__ = described


@dataclass(frozen=True, eq=False, repr=False)
class Tile:
    """Some channels of one group at a rectangle of positions: the work of one core. n inputs, m base neurons.

    Features are flat indices (channel, y, x) into the level before and into the tile's own layer.
    """

    layer: int
    spot: tuple[int, int]  # row and column of tiles
    inputs: I32  # [n]  features read, by (channel in the group, y, x)
    outputs: I32  # [m]  features made, by (channel, y, x)
    leak: I32  # [m]
    kernel: Kernel

    __repr__ = described


@dataclass(frozen=True)
class _Window:
    """Where one tile lies: output rows and columns, and the input rows and columns it sees, padding cut off."""

    spot: tuple[int, int]
    y: int
    x: int
    rows: int
    columns: int
    top: int
    left: int
    height: int
    width: int

    def shape_in(self, layer: Conv) -> tuple[int, ...]:
        """What decides which weights meet which input of the window."""
        cut = self.y * layer.stride - self.top, self.x * layer.stride - self.left
        return *cut, self.rows, self.columns, self.height, self.width


def lower(
    net: Network, chip: Chip, reduce: Collection[str] = (), host_copies: int = 1, splitters: bool = True
) -> tuple[tuple[tuple[Tile, ...], ...], ...]:
    """Per layer, the tiles of each core. Neurons that nobody reads and inputs that meet only zero weights are left out.

    Works from the votes back to the input, so that each layer knows how many targets its neurons need. Raises
    CompileError listing every layer that fits no core.
    """
    refuse([problem for layer in net.layers for problem in misfits(layer, chip)] + list(_unheard(net)))
    needs = (net.vote >= 0).astype(np.int32).reshape(net.layers[-1].out_shape)  # targets of each feature
    lowered: list[tuple[tuple[Tile, ...], ...]] = []
    for index in reversed(range(len(net.layers))):
        layer = net.layers[index]
        grid = choose_grid(layer, Demand(needs, chip, reduce, 0 if index else host_copies, splitters))
        tiles = list(_Cutter(net, index, grid, needs > 0, "sign" in reduce).tiles())
        lowered.append(_cores(tiles, needs.ravel(), chip) if "pack" in reduce else tuple((tile,) for tile in tiles))
        needs = count_reads(tiles, layer.in_shape)
    return tuple(reversed(lowered))


def _unheard(net: Network) -> Iterator[str]:
    if not (net.vote >= 0).any():
        yield f"vote: 0 of {len(net.vote)} neurons vote, at least 1 must; deal the last layer out to the answers"


def _cores(tiles: list[Tile], needs: I32, chip: Chip) -> tuple[tuple[Tile, ...], ...]:
    """Tiles of one layer shared out to cores; those of equal kernels side by side, so that cores are alike."""
    kernels: dict[int, int] = {}
    order = sorted(tiles, key=lambda tile: kernels.setdefault(id(tile.kernel), len(kernels)))
    neurons = np.array([needs[tile.outputs].sum() for tile in order], np.int64)
    axons = np.array([len(tile.kernel.row) for tile in order], np.int64)
    core_of = pack(axons, neurons, chip)
    cores: list[list[Tile]] = [[] for _ in range(int(core_of.max(initial=-1)) + 1)]
    for tile, core in zip(order, core_of, strict=True):
        cores[core].append(tile)
    # Back into the order of their places, as cores that hold one tile are.
    return tuple(sorted((tuple(core) for core in cores), key=lambda core: (core[0].spot, int(core[0].outputs[0]))))


class _Cutter:
    """Cuts one layer along a grid; only outputs that are wanted [O, H, W]."""

    def __init__(self, net: Network, index: int, grid: Grid, wanted: NDArray[np.bool_], sign: bool) -> None:
        self._index, self._grid, self._wanted, self._sign = index, grid, wanted, sign
        self._layer, self._leak = net.layers[index], net.leaks[index]
        self._value, self._stand = net.levels[index].value.ravel(), net.levels[index].stand.ravel()
        # Inputs that are constant or that others stand for; most layers have none.
        self._known = (self._value != VARIES) | (self._stand != np.arange(len(self._stand)))
        self._kernels: dict[tuple[object, ...], tuple[NDArray[np.intp], Kernel]] = {}

    def tiles(self) -> Iterator[Tile]:
        """By rows, columns and groups."""
        shares = share_channels(self._layer, self._grid.shares)
        for window in _windows(self._layer, self._grid):
            for number, share in enumerate(shares):
                keep = _part(self._wanted, share, window).ravel()
                if keep.any():
                    yield self._tile(window, number, share, keep)

    def _tile(self, window: _Window, number: int, share: NDArray[np.intp], keep: NDArray[np.bool_]) -> Tile:
        layer = self._layer
        per_group, own = layer.weights.shape[1], layer.out_shape[0] // layer.groups
        first = share[0] // own * per_group
        features = _features(layer.in_shape, layer.order[first : first + per_group], window)
        key = (number, *window.shape_in(layer), keep.tobytes(), self._pattern(features))
        if key not in self._kernels:
            self._kernels[key] = self._kernel(window, share, keep, features)
        used, kernel = self._kernels[key]
        outputs, leak = _outputs(layer, share, window)[keep], _part(self._leak, share, window).ravel()[keep]
        return Tile(self._index, window.spot, self._stand[features[used]], outputs, leak, kernel)

    def _pattern(self, features: I32) -> bytes:
        """What is known of a window's inputs, alike where it has the same effect on the weights."""
        if not self._known[features].any():
            return b""
        _, alike = np.unique(self._stand[features], return_inverse=True)
        return self._value[features].tobytes() + alike.tobytes()

    def _kernel(
        self, window: _Window, share: NDArray[np.intp], keep: NDArray[np.bool_], features: I32
    ) -> tuple[NDArray[np.intp], Kernel]:
        """(inputs of the window that meet a weight, their weights and axons) of a tile."""
        weights = _dense(self._layer, window, share)[:, keep]
        if self._known[features].any():
            weights[self._value[features] != VARIES] = 0
            weights = add_equal(weights, self._stand[features])
        used = np.flatnonzero(weights.any(axis=1))
        return used, carried(np.ascontiguousarray(weights[used]), self._sign)


def add_equal(weights: NDArray[np.int8], inputs: I32) -> NDArray[np.int8]:
    """Weights [n, m] with the rows of equal inputs added up in the first, where the sums still lie in -1, 0, 1."""
    added = weights.copy()
    names, which, count = np.unique(inputs, return_inverse=True, return_counts=True)
    for name in np.flatnonzero(count[: len(names)] > 1):
        rows = np.flatnonzero(which == name)
        total = weights[rows].sum(axis=0)
        if np.abs(total).max() <= 1:
            added[rows] = 0
            added[rows[0]] = total
    return added


def carried(weights: NDArray[np.int8], sign: bool) -> Kernel:
    """Weights [n, m] with their axons: a pair an input or, with `sign`, one where all its weights have one sign."""
    minus, plus = ((weights == weight).any(axis=1) if sign else np.ones(len(weights), bool) for weight in SIGNS)
    pairs, pluses, minuses = (np.flatnonzero(part) for part in (minus & plus, plus & ~minus, minus & ~plus))
    row = np.concatenate([pairs.repeat(AXONS_AN_INPUT), pluses, minuses])
    kind = np.concatenate([np.arange(AXONS_AN_INPUT * len(pairs)) % 2, np.ones(len(pluses)), np.zeros(len(minuses))])
    return Kernel(weights, row, kind.astype(np.uint8), AXONS_AN_INPUT * len(pairs), len(pluses))


def _windows(layer: Conv, grid: Grid) -> Iterator[_Window]:
    _, height, width = layer.out_shape
    for row, (y, rows) in enumerate(bands(grid.rows, height)):
        for column, (x, columns) in enumerate(bands(grid.columns, width)):
            top, bottom = seen(layer, y, rows, layer.in_shape[1])
            left, right = seen(layer, x, columns, layer.in_shape[2])
            yield _Window((row, column), y, x, rows, columns, top, left, bottom - top, right - left)


def _dense(layer: Conv, window: _Window, share: NDArray[np.intp]) -> NDArray[np.int8]:
    """Weights [inputs of the window, outputs of the tile]."""
    per_group, k = layer.weights.shape[1:3]
    dense = np.zeros((per_group, window.height, window.width, len(share), window.rows, window.columns), np.int8)
    for row, column, dy, dx in np.ndindex(window.rows, window.columns, k, k):
        y = (window.y + row) * layer.stride - layer.padding + dy - window.top
        x = (window.x + column) * layer.stride - layer.padding + dx - window.left
        if 0 <= y < window.height and 0 <= x < window.width:
            dense[:, y, x, :, row, column] = layer.weights[share, :, dy, dx].T
    return dense.reshape(per_group * window.height * window.width, len(share) * window.rows * window.columns)


def _part(values: NDArray[T], share: NDArray[np.intp], w: _Window) -> NDArray[T]:
    """A tile's own part of values [O, H, W]; the channels of a share follow one another."""
    part: NDArray[T] = values[share[0] : share[-1] + 1, w.y : w.y + w.rows, w.x : w.x + w.columns]
    return part


def _features(shape: Shape, channels: I32, w: _Window) -> I32:
    """Flat input features of a window, by (channel, y, x)."""
    rows, columns = np.arange(w.top, w.top + w.height), np.arange(w.left, w.left + w.width)
    flat = (channels[:, None, None] * shape[1] + rows[:, None]) * shape[2] + columns
    return flat.ravel().astype(np.int32)


def _outputs(layer: Conv, share: NDArray[np.intp], w: _Window) -> I32:
    """Flat output features of a window, by (channel, y, x)."""
    _, height, width = layer.out_shape
    rows, columns = np.arange(w.y, w.y + w.rows), np.arange(w.x, w.x + w.columns)
    return ((share[:, None, None] * height + rows[:, None]) * width + columns).ravel().astype(np.int32)


def count_reads(tiles: Sequence[Tile], shape: Shape) -> I32:
    """[C, H, W] axons that each feature of the level before must drive."""
    read = np.concatenate([np.zeros(0, np.int32), *(tile.inputs[tile.kernel.row] for tile in tiles)])
    return np.bincount(read, minlength=int(np.prod(shape))).astype(np.int32).reshape(shape)


def core_axons(tiles: Sequence[Tile]) -> tuple[list[NDArray[np.intp]], int]:
    """(the core's axon for each axon of each of its tiles, their number): all pairs, then single axons by type."""
    kernels = [tile.kernel for tile in tiles]
    blocks = np.array([(k.paired, k.plus, len(k.row) - k.paired - k.plus) for k in kernels])
    firsts = (np.cumsum(blocks.T) - blocks.T.ravel()).reshape(3, -1).T
    at = [
        np.concatenate([np.arange(first, first + count) for first, count in zip(*of_tile, strict=True)])
        for of_tile in zip(firsts, blocks, strict=True)
    ]
    return at, int(blocks.sum())

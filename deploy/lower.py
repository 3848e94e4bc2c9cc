"""StudentSpec -> tiles: each layer cut into pieces that fit a core, whom each reads, and with what weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.chip import Chip, refuse
from deploy.cores import described
from deploy.spec import Conv, StudentSpec

AXONS_AN_INPUT = 2  # weight -1 on one, +1 on the other


@dataclass(frozen=True, eq=False, repr=False)
class Tile:
    """Some channels of one group at a rectangle of positions: the work of one core. n inputs, m base neurons.

    Features are flat indices (channel, y, x) into the level before and into the tile's own layer.
    """

    layer: int
    inputs: NDArray[np.int32]  # [n]  features read, by (channel in the group, y, x)
    outputs: NDArray[np.int32]  # [m]  features made, by (channel, y, x)
    weights: NDArray[np.int8]  # [n, m]  -1, 0, 1; one array for all tiles that see the same weights
    leak: NDArray[np.int32]  # [m]

    __repr__ = described


@dataclass(frozen=True)
class Grid:
    """How a layer is cut: rows and columns of a tile, and shares of a group's output channels."""

    rows: int
    columns: int
    shares: int


@dataclass(frozen=True)
class _Window:
    """Where one tile lies: output rows and columns, and the input rows and columns it sees, padding cut off."""

    y: int
    x: int
    rows: int
    columns: int
    top: int
    left: int
    height: int
    width: int


def lower(spec: StudentSpec, chip: Chip, host_copies: bool = False) -> tuple[tuple[Tile, ...], ...]:
    """The tiles of every layer. Neurons that nobody reads and inputs that meet only zero weights are left out.

    Works from the votes back to the input, so that each layer knows how many targets its neurons need. Raises
    CompileError listing every layer that fits no core.
    """
    refuse([problem for layer in spec.layers for problem in misfits(layer, chip)] + list(_unheard(spec)))
    needs = (spec.vote >= 0).astype(np.int32).reshape(spec.layers[-1].out_shape)  # targets of each feature
    lowered: list[tuple[Tile, ...]] = []
    for index in reversed(range(len(spec.layers))):
        layer = spec.layers[index]
        input_cost = 0 if index or host_copies else AXONS_AN_INPUT
        grid = choose_grid(layer, needs, chip, input_cost)
        tiles = tuple(cut(layer, index, grid, needs > 0))
        lowered.append(tiles)
        needs = count_reads(tiles, layer.in_shape)
    return tuple(reversed(lowered))


def _unheard(spec: StudentSpec) -> Iterator[str]:
    if not (spec.vote >= 0).any():
        yield f"vote: 0 of {len(spec.vote)} neurons vote, at least 1 must; deal the last layer out to the answers"


def misfits(layer: Conv, chip: Chip) -> Iterator[str]:
    """Why a layer can not be cut to fit a core."""
    if layer.fan_in > chip.inputs:
        yield (
            f"{layer.name}: {layer.fan_in} inputs a neuron, {chip.inputs} fit a core of {chip.name}; "
            "try more groups or a smaller kernel"
        )


def choose_grid(layer: Conv, needs: NDArray[np.int32], chip: Chip, input_cost: int = 0) -> Grid:
    """The cut with the fewest cores; among equals the one that reads least.

    Splitters behind a layer cost a tick as well as cores, so a cut that needs them must halve the cores to be taken:
    the rule that rebuilds the published networks (Esser et al. 2016), which are splitter-free inside.

    `needs` [O, H, W] are the targets of each feature, `input_cost` the relays that one input of a core costs.
    """
    return min(_grids(layer, chip), key=lambda grid: _cost(layer, grid, needs, chip, input_cost))


def _grids(layer: Conv, chip: Chip) -> Iterator[Grid]:
    """Every cut within the axons and neurons of a core."""
    channels, height, width = layer.out_shape
    own = channels // layer.groups
    shares = -(-own // chip.neurons)
    for rows in range(1, height + 1):
        for columns in range(1, width + 1):
            fits_axons = _inputs(layer, rows, columns) <= chip.inputs
            if fits_axons and rows * columns * -(-own // shares) <= chip.neurons:
                yield Grid(rows, columns, shares)


def _inputs(layer: Conv, rows: int, columns: int) -> int:
    """Inputs of a tile that no edge cuts."""
    per_group, kernel, _ = layer.weights.shape[1:]
    _, height, width = layer.in_shape
    seen_rows = min((rows - 1) * layer.stride + kernel, height)
    seen_columns = min((columns - 1) * layer.stride + kernel, width)
    return int(seen_rows * seen_columns * per_group)


def _cost(layer: Conv, grid: Grid, needs: NDArray[np.int32], chip: Chip, input_cost: int) -> tuple[float, int]:
    """(price in cores, inputs read) of one cut."""
    _, height, width = layer.out_shape
    rows, columns = np.arange(0, height, grid.rows), np.arange(0, width, grid.columns)
    shares = np.concatenate([np.array(part)[:1] for part in _shares(layer, grid)])
    wanted = np.add.reduceat(np.add.reduceat(np.add.reduceat(needs, shares, 0), rows, 1), columns, 2)
    over = np.maximum(wanted - chip.neurons, 0).sum()
    reads = wanted.size * _inputs(layer, grid.rows, grid.columns)
    price = 2.0 if over else 1.0
    return price * (wanted.size + (over + input_cost * reads) / chip.neurons), reads


def _shares(layer: Conv, grid: Grid) -> list[NDArray[np.intp]]:
    """The output channels of each core at one position: every group in equal shares."""
    groups = np.split(np.arange(layer.out_shape[0]), layer.groups)
    return [share for group in groups for share in np.array_split(group, grid.shares)]


def cut(layer: Conv, index: int, grid: Grid, wanted: NDArray[np.bool_]) -> Iterator[Tile]:
    """The tiles of one layer, by rows, columns and groups; only outputs that are wanted [O, H, W]."""
    kernels: dict[tuple[object, ...], tuple[NDArray[np.intp], NDArray[np.int8]]] = {}
    shares = _shares(layer, grid)
    for window in _windows(layer, grid):
        for number, share in enumerate(shares):
            keep = wanted[share, window.y : window.y + window.rows, window.x : window.x + window.columns].ravel()
            if not keep.any():
                continue
            offset = (window.y * layer.stride - window.top, window.x * layer.stride - window.left)
            key = (number, offset, window.rows, window.columns, window.height, window.width, keep.tobytes())
            if key not in kernels:
                kernels[key] = _kernel(layer, window, share, keep)
            yield _tile(layer, index, window, share, keep, *kernels[key])


def _windows(layer: Conv, grid: Grid) -> Iterator[_Window]:
    _, height, width = layer.out_shape
    for y in range(0, height, grid.rows):
        for x in range(0, width, grid.columns):
            rows, columns = min(grid.rows, height - y), min(grid.columns, width - x)
            top, bottom = _seen(layer, y, rows, layer.in_shape[1])
            left, right = _seen(layer, x, columns, layer.in_shape[2])
            yield _Window(y, x, rows, columns, top, left, bottom - top, right - left)


def _seen(layer: Conv, first: int, count: int, size: int) -> tuple[int, int]:
    """Input rows (or columns) that `count` outputs from `first` on see, padding cut off."""
    start = first * layer.stride - layer.padding
    end = start + (count - 1) * layer.stride + layer.weights.shape[2]
    return min(max(start, 0), size), min(max(end, 0), size)


def _kernel(
    layer: Conv, window: _Window, share: NDArray[np.intp], keep: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.int8]]:
    """(inputs of the window that meet a weight, their weights [n, m]) of a tile."""
    per_group, k = layer.weights.shape[1:3]
    dense = np.zeros((per_group, window.height, window.width, len(share), window.rows, window.columns), np.int8)
    for row, column, dy, dx in np.ndindex(window.rows, window.columns, k, k):
        y = (window.y + row) * layer.stride - layer.padding + dy - window.top
        x = (window.x + column) * layer.stride - layer.padding + dx - window.left
        if 0 <= y < window.height and 0 <= x < window.width:
            dense[:, y, x, :, row, column] = layer.weights[share, :, dy, dx].T
    weights = dense.reshape(per_group * window.height * window.width, len(keep))[:, keep]
    used = np.flatnonzero(weights.any(axis=1))
    return used, np.ascontiguousarray(weights[used])


def _tile(
    layer: Conv,
    index: int,
    window: _Window,
    share: NDArray[np.intp],
    keep: NDArray[np.bool_],
    used: NDArray[np.intp],
    weights: NDArray[np.int8],
) -> Tile:
    """Place a kernel: name the features behind its rows and columns."""
    per_group, own = layer.weights.shape[1], layer.out_shape[0] // layer.groups
    first = share[0] // own * per_group
    inputs = _features(layer.in_shape, layer.order[first : first + per_group], window.top, window.left, window)
    outputs = _outputs(layer, share, window)
    # Outside [-K, K+1] a leak over K weights decides nothing more, and the chip's leak has 9 bits.
    leak = np.clip(layer.leak[share], -layer.fan_in, layer.fan_in + 1)
    leaks = np.repeat(leak, window.rows * window.columns)
    return Tile(index, inputs[used], outputs[keep], weights, leaks[keep].astype(np.int32))


def _features(
    shape: tuple[int, int, int], channels: NDArray[np.int32], y: int, x: int, w: _Window
) -> NDArray[np.int32]:
    """Flat input features of a window, by (channel, y, x)."""
    rows, columns = np.arange(y, y + w.height), np.arange(x, x + w.width)
    flat = (channels[:, None, None] * shape[1] + rows[:, None]) * shape[2] + columns
    return flat.ravel().astype(np.int32)


def _outputs(layer: Conv, share: NDArray[np.intp], w: _Window) -> NDArray[np.int32]:
    """Flat output features of a window, by (channel, y, x)."""
    _, height, width = layer.out_shape
    rows, columns = np.arange(w.y, w.y + w.rows), np.arange(w.x, w.x + w.columns)
    return ((share[:, None, None] * height + rows[:, None]) * width + columns).ravel().astype(np.int32)


def count_reads(tiles: tuple[Tile, ...], shape: tuple[int, int, int]) -> NDArray[np.int32]:
    """[C, H, W] axons that each feature of the level before must drive."""
    inputs = np.concatenate([np.zeros(0, np.int32), *(tile.inputs for tile in tiles)])
    reads = np.bincount(inputs, minlength=int(np.prod(shape)))
    return (AXONS_AN_INPUT * reads).astype(np.int32).reshape(shape)

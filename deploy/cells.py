"""Cells of a mesh of chips: the orders they can be filled in, those to leave free, and the chips they lie on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deploy.chip import Chip, CompileError

I32 = NDArray[np.int32]
Mask = NDArray[np.bool_]


def hilbert_cells(width: int, height: int) -> I32:
    """Every cell [width*height, 2] of a mesh along a Hilbert curve, cells outside the mesh skipped."""
    bits = max(int(max(width, height) - 1).bit_length(), 1)
    index = np.arange(1 << (2 * bits))
    x, y = np.zeros_like(index), np.zeros_like(index)
    for level in range(bits):
        side = 1 << level
        right, up = (index >> (2 * level + 1)) & 1, ((index >> (2 * level)) ^ (index >> (2 * level + 1))) & 1
        flip = (up == 0) & (right == 1)
        x, y = np.where(flip, side - 1 - x, x), np.where(flip, side - 1 - y, y)
        x, y = np.where(up == 0, y, x), np.where(up == 0, x, y)
        x, y = x + side * right, y + side * up
    inside = (x < width) & (y < height)
    return np.stack([x[inside], y[inside]], axis=1).astype(np.int32)


def curve_cells(chip: Chip) -> I32:
    """Every cell [cells, 2] of a board: chip after chip along a Hilbert curve, and along one within each chip.

    Where sides are powers of two this is the Hilbert curve of the whole mesh.
    """
    cells, order = hilbert_cells(*chip.mesh), np.zeros((chip.chips_x, chip.chips_y), np.int64)
    order[tuple(hilbert_cells(chip.chips_x, chip.chips_y).T)] = np.arange(order.size)
    turn = order[cells[:, 0] // chip.width, cells[:, 1] // chip.height]
    return cells[np.argsort(turn, kind="stable")]


def row_major_cells(chip: Chip) -> I32:
    """Every cell [cells, 2] of a board: chip after chip in the order of their numbers, row after row in each."""
    number = np.arange(chip.cores)
    which, cell = number // (chip.width * chip.height), number % (chip.width * chip.height)
    x = which % chip.chips_x * chip.width + cell % chip.width
    y = which // chip.chips_x * chip.height + cell // chip.width
    return np.stack([x, y], axis=1).astype(np.int32)


def broken_routers(chip: Chip, routers: Sequence[tuple[int, int]]) -> Mask:
    """[width, height] of the mesh: cells to leave free where these routers (x, y) are broken.

    A broken router costs its row and its column (Akopyan et al. 2015): with x before y, a packet runs along the row
    of its sender and the column of its target, on a board through every chip of them. Raises CompileError.
    """
    lost = np.zeros(chip.mesh, bool)
    wrong = [(x, y) for x, y in routers if not (0 <= x < lost.shape[0] and 0 <= y < lost.shape[1])]
    if wrong:
        raise CompileError(
            f"broken routers: found {', '.join(map(str, wrong))}, allowed 0..{lost.shape[0] - 1} in x and "
            f"0..{lost.shape[1] - 1} in y on {chip.name}; count cells through the whole board"
        )
    for x, y in routers:
        lost[x, :] = lost[:, y] = True
    return lost


def on_chips(xy: I32, chip: Chip) -> NDArray[np.int16]:
    """Cells of the whole mesh [C, 2] -> (chip, x, y) [C, 3]; chips are numbered row by row."""
    number = xy[:, 1] // chip.height * chip.chips_x + xy[:, 0] // chip.width
    return np.stack([number, xy[:, 0] % chip.width, xy[:, 1] % chip.height], axis=1).astype(np.int16)


def on_mesh(place: NDArray[np.int16], chip: Chip) -> I32:
    """(chip, x, y) [C, 3] -> cells of the whole mesh [C, 2]."""
    number, x, y = place.astype(np.int32).T
    return np.stack([number % chip.chips_x * chip.width + x, number // chip.chips_x * chip.height + y], axis=1)


def stretched(chip: Chip, edge: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates [width], [height] in which the distance of two cells is hops + `edge` x chip edges crossed."""
    x, y = (np.arange(side) for side in chip.mesh)
    return x + edge * (x // chip.width), y + edge * (y // chip.height)

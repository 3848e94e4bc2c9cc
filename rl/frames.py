"""Frames: from the console's screen to picture stacks, and the block layout that networks read fast."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 84  # pixels, after the resize
STACK = 4  # frames a network sees
BLOCK = 4  # pixels: the first layer's stride
CELLS = SIDE // BLOCK
CHANNELS = STACK * BLOCK * BLOCK  # of a stack in block layout

Frames = NDArray[np.uint8]


def resize(screen: Frames) -> Frames:
    """Grey screen [210, 160] -> frame [84, 84], area interpolation as AtariVectorEnv does it."""
    return cv2.resize(screen, (SIDE, SIDE), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def blocks(frames: Frames) -> Frames:
    """Frames [..., 84, 84] -> [..., 21, 21, 16]: each 4x4 block of pixels becomes the channels of one cell.

    A convolution of kernel 8 and stride 4 over pixels is one of kernel 2 and stride 1 over cells; storing frames this
    way once spares every later batch the re-ordering, which took three quarters of an update on a CPU.
    """
    lead = frames.shape[:-2]
    # The four pixels of a block's row move as one 32-bit word: a quarter of the work.
    words = np.ascontiguousarray(frames).view(np.uint32).reshape(*lead, CELLS, BLOCK, CELLS)
    cells = np.ascontiguousarray(np.moveaxis(words, -1, -2)).view(np.uint8)
    return cells.reshape(*lead, CELLS, CELLS, BLOCK * BLOCK)


def unblocks(cells: Frames) -> Frames:
    """The inverse of `blocks`: [..., 21, 21, 16] -> [..., 84, 84]."""
    lead = cells.shape[:-3]
    parts = cells.reshape(*lead, CELLS, CELLS, BLOCK, BLOCK)
    return np.ascontiguousarray(np.moveaxis(parts, -3, -2).reshape(*lead, SIDE, SIDE))


def stack_blocks(obs: Frames) -> Frames:
    """Picture stacks [B, 4, 84, 84] -> [B, 21, 21, 64], channels ordered by frame, row, column."""
    words = np.ascontiguousarray(obs).view(np.uint32).reshape(len(obs), STACK, CELLS, BLOCK, CELLS)
    cells = np.ascontiguousarray(words.transpose(0, 2, 4, 1, 3)).view(np.uint8)
    return cells.reshape(len(obs), CELLS, CELLS, CHANNELS)


def pixels(stacks: Frames) -> Frames:
    """The inverse of `stack_blocks`: [B, 21, 21, 64] -> picture stacks [B, 4, 84, 84]."""
    parts = stacks.reshape(*stacks.shape[:3], STACK, -1)
    return unblocks(np.ascontiguousarray(np.moveaxis(parts, 3, 1)))


class BlockStacks:
    """The running picture stacks of B games in block layout."""

    def __init__(self, first: Frames) -> None:
        """`first`: blocks [B, 21, 21, 16] of each game's first frame; earlier frames are zero, as the games pad."""
        self.now: Frames = np.zeros((*first.shape[:-1], CHANNELS), np.uint8)
        self.now[..., -first.shape[-1] :] = first

    def push(self, cells: Frames, first: NDArray[np.bool_]) -> None:
        """Add one frame a game, blocks [B, 21, 21, 16]; where `first`, an episode begins and its past is zero."""
        width = cells.shape[-1]
        after: Frames = np.empty_like(self.now)
        after[..., :-width] = self.now[..., width:]
        after[first] = 0
        after[..., -width:] = cells
        self.now = after


def described(record: Any) -> str:
    """A record's repr with the shapes of its arrays in place of their numbers."""
    parts = []
    for name, value in vars(record).items():
        array = isinstance(value, np.ndarray)
        parts.append(f"{name} {value.dtype} {list(value.shape)}" if array else f"{name}={value!r}")
    return f"{type(record).__name__}({', '.join(parts)})"

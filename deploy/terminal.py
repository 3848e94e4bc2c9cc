"""The terminal as a screen: two pixels a character cell, in 24-bit colour, one write a picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TextIO

import cv2
import numpy as np
from numpy.typing import NDArray

from deploy.keyboard import Keyboard, NoKeyboard
from deploy.panel import heat, vote_shares
from deploy.screens import MESH, Picture, ScreenError

HALF = "\u2580"  # upper half block: foreground above, background below
BARS = (" ", "\u258f", "\u258e", "\u258d", "\u258c", "\u258b", "\u258a", "\u2589")  # eighths of a cell
RESET, DIM, AMBER, BLUE = "\x1b[0m", "\x1b[38;2;122;130;148m", "\x1b[38;2;255;178;66m", "\x1b[38;2;72;128;196m"
# The alternative screen leaves the shell's lines as they were; the synchronised update avoids torn pictures.
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l\x1b[2J", "\x1b[0m\x1b[?25h\x1b[?1049l"
BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
SIDE = 34  # columns of votes and mesh
NATIVE, TELEVISION = 160 / 210, 4 / 3  # width over height: pixels square, or as they were shown


class TerminalScreen:
    """Game picture, votes and core activity in a terminal of any size."""

    def __init__(
        self,
        out: TextIO,
        size: Callable[[], os.terminal_size] | None = None,
        keyboard: Callable[[], Keyboard] = NoKeyboard,
    ) -> None:
        """Take over a terminal.

        Args:
            size: answers (columns, rows), asked at every picture; out itself is asked unless given.
            keyboard: takes over a keyboard, once it is known that there is a terminal.

        Raises:
            ScreenError: out is not a terminal.
        """
        if not out.isatty():
            raise ScreenError(
                "view=terminal: found an output that is not a terminal; allowed a terminal; try VIEW=video for an mp4"
            )
        self._out, self._keyboard = out, keyboard()
        self._size = size or (lambda: os.get_terminal_size(out.fileno()))
        self._last = os.terminal_size((0, 0))
        self._open = True
        self._write(ENTER)

    def show(self, picture: Picture) -> None:
        size = self._size()
        clear = "" if size == self._last else "\x1b[2J"
        self._last = size
        lines = layout(picture, size.columns, size.lines)
        body = "".join(f"\x1b[{row};1H{line}{RESET}\x1b[K" for row, line in enumerate(lines, start=1))
        self._write(BEGIN + clear + body + END)

    def keys(self) -> frozenset[str]:
        return self._keyboard.keys()

    def close(self) -> None:
        self._keyboard.close()
        if self._open:
            self._open = False
            self._write(LEAVE)

    def _write(self, words: str) -> None:
        self._out.write(words)
        self._out.flush()


def layout(picture: Picture, columns: int, rows: int) -> list[str]:
    """At most that many lines of at most that many columns: picture to the left, thoughts to the right, facts below."""
    width, height = _picture_size(columns, rows - 1)
    if not (width and height):
        return [_facts(picture)[:columns]][:rows]
    small = cv2.resize(picture.frame, (width, 2 * height), interpolation=cv2.INTER_AREA)
    lines = half_blocks(np.asarray(small, np.uint8))
    if columns - width - 2 >= SIDE:
        thoughts = [*_side(picture, height), *[""] * height]
        lines = [f"{line}{RESET}  {words}" for line, words in zip(lines, thoughts, strict=False)]
    return [*lines, f"{DIM}{_facts(picture)[:columns]}"]


def _picture_size(columns: int, rows: int) -> tuple[int, int]:
    """Columns and rows of the game picture: wide as on television where there is room, else narrower."""
    wide = int(np.clip(columns - 2 - SIDE, round(2 * rows * NATIVE), round(2 * rows * TELEVISION)))
    if wide <= columns:
        return max(0, wide), max(0, rows)
    return columns, max(0, int(columns / NATIVE / 2))


def half_blocks(pixels: NDArray[np.uint8]) -> list[str]:
    """Pixels [2 * rows, columns, 3] as rows of text; cells alike share one colour code, so flat pictures stay short."""
    cells = np.concatenate((pixels[0::2], pixels[1::2]), axis=2)
    fresh = np.ones(cells.shape[:2], np.bool_)
    fresh[:, 1:] = (cells[:, 1:] != cells[:, :-1]).any(axis=2)
    return [_row(row, np.flatnonzero(new)) for row, new in zip(cells, fresh, strict=True)]


def _row(cells: NDArray[np.uint8], starts: NDArray[np.intp]) -> str:
    lengths = np.diff(starts, append=len(cells)).tolist()
    return "".join(
        f"\x1b[38;2;{r};{g};{b};48;2;{s};{h};{c}m{HALF * n}"
        for (r, g, b, s, h, c), n in zip(cells[starts].tolist(), lengths, strict=True)
    )


def _side(picture: Picture, rows: int) -> list[str]:
    """At most so many lines of at most SIDE columns: what matters more comes first."""
    lines = [picture.title[:SIDE], f"score {picture.score:g}  {DIM}episode {picture.episode}"[: SIDE + len(DIM)], ""]
    lines += _votes(picture)
    lines.append("")
    if picture.activity is not None:
        lines += _mesh(picture.activity, rows - len(lines))
    return lines[:rows]


def _votes(picture: Picture) -> Iterator[str]:
    n = len(picture.actions)
    votes = np.zeros(n, np.int32) if picture.votes is None else picture.votes
    for action, share in enumerate(vote_shares(votes).tolist()):
        chosen = action == picture.action
        number = "" if picture.votes is None else f"{votes[action]:>5d}"
        name = f"{'>' if chosen else ' '}{picture.actions[action][:13]:<13} "
        colours = (AMBER, AMBER) if chosen else (DIM, BLUE)
        yield f"{colours[0]}{name}{colours[1]}{bar(share, 13)}{colours[0]}{number[:6]}"


def bar(share: float, cells: int) -> str:
    """A bar of 0..1 of that many cells, in eighths, padded with spaces."""
    eighths = round(8 * cells * share)
    return ("\u2588" * (eighths // 8) + BARS[eighths % 8]).ljust(cells)[:cells]


def _mesh(activity: NDArray[np.int32], rows: int) -> list[str]:
    """The finest mesh that fits: each pixel is the busiest of its square of cores."""
    for side in (32, 16, 8):
        if side // 2 <= rows:
            block = MESH // side
            busiest = activity.reshape(side, block, side, block).max(axis=(1, 3))
            return half_blocks(heat(busiest))
    return []


def _facts(picture: Picture) -> str:
    work, period = 1000 * picture.work_s, 1000 * picture.period_s
    return (
        f"score {picture.score:g}  {picture.meaning}  work {work:.1f} of {period:.1f} ms  "
        f"late {picture.late} of {picture.pictures}"
    )

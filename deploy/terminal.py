"""The terminal as a screen: two pixels a character cell, one write a picture, of what changed."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import groupby
from typing import NamedTuple, TextIO

import cv2
import numpy as np
from numpy.typing import NDArray

from deploy.keyboard import Keyboard, NoKeyboard
from deploy.panel import heat, pooled, vote_shares
from deploy.screens import Picture, ScreenError

HALF = "\u2580"  # upper half block: foreground above, background below
BARS = (" ", "\u258f", "\u258e", "\u258d", "\u258c", "\u258b", "\u258a", "\u2589")  # eighths of a cell
LEVELS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
RED = "\x1b[38;2;240;92;84m"
RESET, DIM, AMBER, BLUE = "\x1b[0m", "\x1b[38;2;122;130;148m", "\x1b[38;2;255;178;66m", "\x1b[38;2;72;128;196m"
# The alternative screen leaves the shell's lines as they were; the synchronised update avoids torn pictures.
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l\x1b[2J", "\x1b[0m\x1b[?25h\x1b[?1049l"
BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
STRIP_ROWS, STRIP_FROM = 1, 16  # rows of the deadlines, and of the terminal that has room for them
TRUE_COLOUR = ("xterm-kitty", "alacritty", "wezterm", "foot", "xterm-ghostty", "iterm")
COLOUR = re.compile(r"([34]8);2;(\d+);(\d+);(\d+)")
CUBE = (0, 95, 135, 175, 215, 255)
SIDE = 34  # columns of votes and mesh
NATIVE, TELEVISION = 160 / 210, 4 / 3  # width over height: pixels square, or as they were shown


class TerminalScreen:
    """Game picture, votes and core activity in a terminal of any size."""

    def __init__(
        self,
        out: TextIO,
        size: Callable[[], os.terminal_size] | None = None,
        keyboard: Callable[[], Keyboard] = NoKeyboard,
        true_colour: bool = True,
    ) -> None:
        """Take over a terminal.

        Args:
            size: answers (columns, rows), asked at every picture; out itself is asked unless given.
            keyboard: takes over a keyboard, once it is known that there is a terminal.
            true_colour: of 24 bits; else the nearest of 256.

        Raises:
            ScreenError: out is not a terminal.
        """
        if not out.isatty():
            raise ScreenError(
                "view=terminal: found an output that is not a terminal; allowed a terminal; try VIEW=video for an mp4"
            )
        self._out, self._keyboard = out, keyboard()
        self._size = size or (lambda: os.get_terminal_size(out.fileno()))
        self._last, self._true_colour = os.terminal_size((0, 0)), true_colour
        self._shown: dict[tuple[int, int], Piece] = {}
        self._open = True
        self._write(ENTER)

    def show(self, picture: Picture) -> None:
        size = self._size()
        clear = "" if size == self._last else "\x1b[2J"
        if clear:
            self._last, self._shown = size, {}
        new = {(piece.row, piece.column): piece for piece in pieces(picture, size.columns, size.lines)}
        gone = [_wiped(at) for at in self._shown.keys() - new]
        body = "".join(gone + [_placed(piece) for at, piece in new.items() if self._shown.get(at) != piece])
        self._shown = new
        self._write(BEGIN + clear + (body if self._true_colour else in_256(body)) + END)

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


class Piece(NamedTuple):
    """Text at a place; sent again only once it changes."""

    row: int  # from 0
    column: int
    text: str
    last: bool = True  # nothing to its right


def _placed(piece: Piece) -> str:
    return f"\x1b[{piece.row + 1};{piece.column + 1}H{piece.text}{RESET}" + "\x1b[K" * piece.last


def _wiped(at: tuple[int, int]) -> str:
    return f"\x1b[{at[0] + 1};{at[1] + 1}H\x1b[K"


def pieces(picture: Picture, columns: int, rows: int) -> list[Piece]:
    """Picture to the left, thoughts to the right, deadlines and facts below; within so many columns and rows."""
    strip = STRIP_ROWS if rows >= STRIP_FROM else 0
    width, height = _picture_size(columns, rows - 1 - strip)
    if not (width and height):
        return [Piece(0, 0, _facts(picture)[:columns])][:rows]
    small = cv2.resize(picture.frame, (width, 2 * height), interpolation=cv2.INTER_AREA)
    beside = columns - width - 2 >= SIDE
    found = [Piece(row, 0, line, not beside) for row, line in enumerate(half_blocks(np.asarray(small, np.uint8)))]
    if beside:
        found += [Piece(row, width + 2, words) for row, words in enumerate(_side(picture, height))]
    below = [_strip(picture, columns)] * strip + [f"{DIM}{_facts(picture)[:columns]}"]
    return found + [Piece(height + row, 0, line) for row, line in enumerate(below)]


def layout(picture: Picture, columns: int, rows: int) -> list[str]:
    """The pieces as at most that many lines of at most that many columns."""
    lines: dict[int, str] = {}
    for piece in pieces(picture, columns, rows):
        lines[piece.row] = f"{lines[piece.row]}{RESET}  {piece.text}" if piece.row in lines else piece.text
    return [lines[row] for row in sorted(lines)]


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
            return half_blocks(heat(pooled(activity, side)))
    return []


def _strip(picture: Picture, columns: int) -> str:
    """Work of the last pictures under their deadline, newest to the right; late ones in red."""
    head = f"{1000 * picture.period_s:.1f} ms "[:columns]
    shown = picture.recent[-(columns - len(head)) :] if columns > len(head) else ()
    runs = groupby(shown, key=lambda work: work.late)
    bars = "".join((RED if late else BLUE) + "".join(_level(work.share) for work in own) for late, own in runs)
    return f"{DIM}{head}{bars}"


def _level(share: float) -> str:
    return LEVELS[min(len(LEVELS), max(1, math.ceil(share * len(LEVELS)))) - 1]


def _facts(picture: Picture) -> str:
    work, period = 1000 * picture.work_s, 1000 * picture.period_s
    return (
        f"score {picture.score:g}  {picture.meaning}  work {work:.1f} of {period:.1f} ms  "
        f"late {picture.late} of {picture.pictures}"
    )


def has_true_colour(env: Mapping[str, str] = os.environ) -> bool:
    """Whether a terminal says that it shows 24-bit colours. ssh does not pass COLORTERM on; TERM it does."""
    term = env.get("TERM", "")
    return env.get("COLORTERM") in ("truecolor", "24bit") or term.endswith("-direct") or term.startswith(TRUE_COLOUR)


def in_256(words: str) -> str:
    """The same text with each 24-bit colour as the nearest of xterm's 256."""
    return COLOUR.sub(lambda found: f"{found[1]};5;{_nearest(int(found[2]), int(found[3]), int(found[4]))}", words)


@cache
def _nearest(red: int, green: int, blue: int) -> int:
    wanted = (red, green, blue)
    steps = [min(range(6), key=lambda i, v=value: abs(CUBE[i] - v)) for value in wanted]  # type: ignore[misc]
    grey = min(range(24), key=lambda i: abs(8 + 10 * i - sum(wanted) / 3))
    cube = sum((CUBE[step] - value) ** 2 for step, value in zip(steps, wanted, strict=True))
    if sum((8 + 10 * grey - value) ** 2 for value in wanted) < cube:
        return 232 + grey
    return 16 + 36 * steps[0] + 6 * steps[1] + steps[2]

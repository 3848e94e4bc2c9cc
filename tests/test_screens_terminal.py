"""The terminal shows the pixels that it was given, fits any size and leaves the terminal as it was."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import termios
import threading

import numpy as np
import pytest
from fakes import a_picture
from numpy.typing import NDArray

from deploy.pacer import Work
from deploy.screens import ScreenError
from deploy.terminal import (
    BEGIN,
    BLUE,
    END,
    ENTER,
    HALF,
    LEAVE,
    RED,
    TerminalScreen,
    bar,
    half_blocks,
    has_true_colour,
    in_256,
    layout,
)  # fmt: skip
from deploy.views import open_view

COLOURED = re.compile(rf"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m({HALF}+)")
CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal(io.StringIO):
    """Text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def visible(line: str) -> str:
    """A line without its codes."""
    return CODES.sub("", line)


def pixels(lines: list[str]) -> NDArray[np.uint8]:
    """Read half blocks back: [2 * rows, columns, 3]."""
    rows: list[list[list[int]]] = []
    for line in lines:
        runs = [([int(value) for value in run[:6]], len(run[6])) for run in COLOURED.findall(line)]
        cells = [colours for colours, length in runs for _ in range(length)]
        rows += [[cell[:3] for cell in cells], [cell[3:] for cell in cells]]
    return np.array(rows, np.uint8)


def test_half_blocks_hold_every_pixel() -> None:
    image = np.random.default_rng(2).integers(0, 2, (6, 7, 3), dtype=np.uint8) * 200
    assert np.array_equal(pixels(half_blocks(image)), image)


def test_a_flat_row_needs_one_colour_code() -> None:
    (line,) = half_blocks(np.full((2, 50, 3), 9, np.uint8))
    assert line == "\x1b[38;2;9;9;9;48;2;9;9;9m" + HALF * 50


@pytest.mark.parametrize("n_actions", [2, 18])
@pytest.mark.parametrize(
    ("columns", "rows"), [(80, 24), (200, 60), (35, 20), (20, 40), (7, 2), (30, 1), (1, 1), (110, 9)]
)
def test_a_picture_fits_a_terminal_of_any_size(columns: int, rows: int, n_actions: int) -> None:
    names = tuple(f"DOWNRIGHTFIRE{i}" for i in range(n_actions))
    picture = a_picture(actions=names, action=1, votes=np.full(n_actions, -1234567, np.int32), title="long " * 30)
    lines = layout(picture, columns, rows)
    assert 1 <= len(lines) <= rows
    assert max(len(visible(line)) for line in lines) <= columns


def test_at_80_by_24_game_votes_cores_and_score_all_show() -> None:
    lines = layout(a_picture(), 80, 24)
    assert len(lines) == 24
    assert visible(lines[0])[44:] == "  Pong | chip"
    assert visible(lines[5])[46:].startswith(">RIGHT         " + "\u2588" * 13 + "   40")
    assert visible(lines[6])[46:].startswith(" LEFT          \u2588\u2588\u2588\u258b")
    assert visible(lines[10])[46:] == HALF * 16
    assert visible(lines[-2]).startswith("31.2 ms ")
    assert visible(lines[-1]) == "score -3  RIGHT  work 12.5 of 31.2 ms  late 1 of 1234"


def test_the_picture_keeps_top_and_left_apart() -> None:
    frame = np.zeros((210, 160, 3), np.uint8)
    frame[:105, :80] = (250, 0, 0)
    frame[105:, 80:] = (0, 0, 250)
    shown = pixels(layout(a_picture(frame=frame, votes=None, activity=None), 35, 20)[:-2])
    height, width = shown.shape[:2]
    corners = [tuple(shown[y, x].tolist()) for y in (0, height - 1) for x in (0, width - 1)]
    assert corners == [(250, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 250)]


def test_a_wide_terminal_shows_the_finest_mesh_that_fits() -> None:
    activity = np.zeros((64, 64), np.int32)
    activity[0, 63] = 256
    lines = layout(a_picture(activity=activity, actions=("NOOP",), votes=None, action=0), 120, 40)
    assert [visible(line).endswith("  " + HALF * 32) for line in lines[5:22]] == [True] * 16 + [False]
    mesh = pixels(["  ".join(line.split("  ")[1:]) for line in lines[5:21]])
    hot = np.argwhere(mesh.astype(int).sum(axis=2) > 300).tolist()
    assert hot == [[0, 31]]


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "    "), (1.0, "\u2588" * 4), (0.5, "\u2588\u2588  "), (0.03125, "\u258f   ")]
)
def test_a_bar_is_drawn_in_eighths(share: float, text: str) -> None:
    assert bar(share, 4) == text


def test_the_strip_holds_the_last_pictures_newest_to_the_right_with_late_ones_in_red() -> None:
    works = (Work(0.9, False), Work(0.0, False), Work(0.51, False), Work(1.2, True), Work(0.99, True))
    (strip,) = [line for line in layout(a_picture(recent=works), 12, 40) if visible(line).startswith("31.2 ms ")]
    assert visible(strip) == "31.2 ms \u2581\u2585\u2588\u2588"
    assert strip.endswith(f"{BLUE}\u2581\u2585{RED}\u2588\u2588")
    assert visible(layout(a_picture(recent=works), 5, 40)[-2]) == "31.2 "


def test_only_what_changed_is_written_again() -> None:
    out, screen = Terminal(), None
    screen = TerminalScreen(out, lambda: os.terminal_size((80, 24)))
    written = []
    frame = np.zeros((210, 160, 3), np.uint8)
    for shown in (frame, frame, np.where(np.arange(210)[:, None, None] < 9, np.uint8(200), frame)):
        out.seek(0)
        out.truncate()
        screen.show(a_picture(frame=shown))
        written.append(out.getvalue())
    assert written[1] == BEGIN + END
    assert "\x1b[1;1H" in written[2] and "\x1b[9;1H" not in written[2]
    assert len(written[2]) < len(written[0]) / 4


def test_what_is_no_longer_shown_is_wiped() -> None:
    out = Terminal()
    screen = TerminalScreen(out, lambda: os.terminal_size((80, 24)))
    screen.show(a_picture())
    before = out.getvalue()
    screen.show(a_picture(activity=None))
    wiped = out.getvalue()[len(before) :]
    assert "\x1b[11;47H\x1b[K" in wiped and HALF not in wiped


@pytest.mark.parametrize(
    ("env", "true"),
    [({"COLORTERM": "truecolor"}, True), ({"TERM": "xterm-256color"}, False), ({"TERM": "xterm-kitty"}, True),
     ({"TERM": "xterm-direct"}, True), ({"COLORTERM": "24bit", "TERM": "screen"}, True), ({}, False)],
)  # fmt: skip
def test_a_terminal_says_whether_it_shows_24_bits(env: dict[str, str], true: bool) -> None:
    assert has_true_colour(env) is true


@pytest.mark.parametrize(
    ("colour", "index"),
    [((0, 0, 0), 16), ((255, 255, 255), 231), ((255, 0, 0), 196), ((95, 135, 175), 67), ((128, 128, 128), 244),
     ((236, 236, 236), 255)],
)  # fmt: skip
def test_elsewhere_a_colour_is_the_nearest_of_256(colour: tuple[int, int, int], index: int) -> None:
    words = "\x1b[38;2;{};{};{}m x".format(*colour)
    assert in_256(words) == f"\x1b[38;5;{index}m x"
    out = Terminal()
    TerminalScreen(out, lambda: os.terminal_size((80, 24)), true_colour=False).show(a_picture())
    assert ";2;" not in out.getvalue() and "48;5;" in out.getvalue()


def test_each_picture_is_one_write_and_only_a_new_size_clears() -> None:
    out, sizes = Terminal(), iter([(80, 24), (80, 24), (60, 20)])
    screen = TerminalScreen(out, lambda: os.terminal_size(next(sizes)))
    assert out.getvalue() == ENTER
    cleared = []
    for _ in range(3):
        out.seek(0)
        out.truncate()
        screen.show(a_picture())
        cleared.append("\x1b[2J" in out.getvalue())
        assert out.getvalue().startswith("\x1b[?2026h")
        assert out.getvalue().endswith("\x1b[?2026l")
    assert cleared == [True, False, True]


def test_closing_twice_leaves_once() -> None:
    out = Terminal()
    screen = TerminalScreen(out, lambda: os.terminal_size((80, 24)))
    assert screen.keys() == frozenset()
    screen.close()
    screen.close()
    assert out.getvalue() == ENTER + LEAVE


class Listener:
    """Reads a pseudo terminal until its program leaves, so that the program never waits."""

    def __init__(self, columns: int, rows: int) -> None:
        self.hand, self.line = pty.openpty()
        fcntl.ioctl(self.line, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.heard = b""
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def words(self) -> str:
        self._thread.join(timeout=20)
        os.close(self.hand)
        return self.heard.decode()

    def _listen(self) -> None:
        while LEAVE.encode() not in self.heard:
            self.heard += os.read(self.hand, 65536)


def test_a_real_terminal_is_asked_for_its_size() -> None:
    listener = Listener(columns=30, rows=12)
    with os.fdopen(listener.line, "w", encoding="utf-8") as out:
        screen = TerminalScreen(out)
        screen.show(a_picture())
        screen.close()
        words = listener.words()
    assert "\x1b[12;1H" in words
    assert "\x1b[13;1H" not in words


def test_a_view_in_a_terminal_reads_its_keys_and_gives_them_back() -> None:
    listener = Listener(columns=30, rows=12)
    with os.fdopen(listener.line, "w", encoding="utf-8") as out, os.fdopen(os.dup(listener.line)) as keys:
        before = termios.tcgetattr(keys)
        screen = open_view("terminal", "Pong", out, keys)
        assert termios.tcgetattr(keys) != before
        os.write(listener.hand, b"q")
        assert screen.keys() == {"quit"}
        screen.close()
        assert termios.tcgetattr(keys) == before
        assert listener.words().startswith(ENTER)


def test_a_view_in_a_terminal_without_a_keyboard_holds_no_key() -> None:
    screen = open_view("terminal", "Pong", Terminal(), io.StringIO("q"))
    assert screen.keys() == frozenset()
    screen.close()


def test_an_output_that_is_no_terminal_is_refused_and_no_keyboard_taken() -> None:
    message = r"^view=terminal: found an output that is not a terminal; allowed a terminal; try VIEW=video for an mp4$"
    with pytest.raises(ScreenError, match=message):
        TerminalScreen(io.StringIO(), keyboard=lambda: pytest.fail("taken"))

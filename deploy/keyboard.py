"""A terminal's keyboard as held keys: terminals tell of presses only, so a key counts as held for a short while."""

from __future__ import annotations

import os
import re
import select
import termios
import time
import tty
from collections.abc import Callable
from typing import Protocol, TextIO

from deploy.screens import QUIT

HOLD_S = 0.2  # longer than the pause between two repeats of a held key, short enough to steer by taps
PRESS = re.compile(rb"\x1b[\[O]([ABCD])|([ q])")
NAMES = {b"A": "up", b"B": "down", b"C": "right", b"D": "left", b" ": "space", b"q": QUIT}
OPPOSITE = {"up": "down", "down": "up", "left": "right", "right": "left"}


class Keyboard(Protocol):
    """A source of held keys."""

    def keys(self) -> frozenset[str]:
        """Keys held now: up, down, left, right, space, quit."""

    def close(self) -> None:
        """Give the keyboard back; a second call does nothing."""


class NoKeyboard:
    """Holds no key."""

    def keys(self) -> frozenset[str]:
        return frozenset()

    def close(self) -> None:
        pass


class TerminalKeyboard:
    """Arrows, space and q from a terminal; Ctrl-C stays a signal."""

    def __init__(self, source: TextIO, now: Callable[[], float] = time.monotonic, hold_s: float = HOLD_S) -> None:
        """Take a terminal's keys unechoed and at once; now and hold_s in seconds."""
        self._now, self._hold_s = now, hold_s
        self._file = source.fileno()
        self._pressed_s: dict[str, float] = {}
        self._before = termios.tcgetattr(self._file)
        self._open = True
        tty.setcbreak(self._file, termios.TCSANOW)

    def keys(self) -> frozenset[str]:
        for name in presses(self._waiting()):
            self._pressed_s[name] = self._now()
            self._pressed_s.pop(OPPOSITE.get(name, ""), None)  # a turn is a turn at once
        since_s = self._now() - self._hold_s
        return frozenset(name for name, at_s in self._pressed_s.items() if name == QUIT or at_s > since_s)

    def close(self) -> None:
        if self._open:
            self._open = False
            termios.tcsetattr(self._file, termios.TCSANOW, self._before)

    def _waiting(self) -> bytes:
        ready, _, _ = select.select([self._file], [], [], 0)
        return os.read(self._file, 4096) if ready else b""


def presses(told: bytes) -> list[str]:
    """Names of the keys in what a terminal sent, in order; what is not ours is left out."""
    return [NAMES[arrow or other] for arrow, other in PRESS.findall(told)]

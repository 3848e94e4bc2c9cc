"""A terminal tells of presses only; keys are held for a short while, and the terminal is given back as it was."""

from __future__ import annotations

import os
import pty
import termios
from collections.abc import Iterator

import pytest
from fakes import FakeClock

from deploy.keyboard import NoKeyboard, TerminalKeyboard, presses


class Desk:
    """A pseudo terminal with a keyboard on it."""

    def __init__(self) -> None:
        self.hand, self._line = pty.openpty()
        self._source = os.fdopen(self._line, "r")
        self.before = self.modes()
        self.clock = FakeClock()
        self.keyboard = TerminalKeyboard(self._source, self.clock.now, hold_s=0.25)

    def modes(self) -> list[object]:
        return list(termios.tcgetattr(self._line))

    def press(self, told: bytes) -> None:
        os.write(self.hand, told)

    def close(self) -> None:
        self.keyboard.close()
        self._source.close()
        os.close(self.hand)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("told", "names"),
    [
        (b"\x1b[A\x1b[B\x1b[C\x1b[D", ["up", "down", "right", "left"]),
        (b"\x1bOA \x1bODq", ["up", "space", "left", "quit"]),
        (b"xABCD\x1b[H\x1b", []),
        (b"", []),
    ],
)
def test_codes_of_a_terminal_are_keys(told: bytes, names: list[str]) -> None:
    assert presses(told) == names


def test_a_press_is_held_for_a_short_while(desk: Desk) -> None:
    desk.press(b"\x1b[A ")
    assert desk.keyboard.keys() == {"up", "space"}
    desk.clock.t_s = 0.125
    assert desk.keyboard.keys() == {"up", "space"}
    desk.press(b"\x1b[A")
    assert desk.keyboard.keys() == {"up", "space"}
    desk.clock.t_s = 0.25
    assert desk.keyboard.keys() == {"up"}
    desk.clock.t_s = 0.375
    assert desk.keyboard.keys() == frozenset()


def test_the_opposite_arrow_takes_over_at_once(desk: Desk) -> None:
    desk.press(b"\x1b[D")
    assert desk.keyboard.keys() == {"left"}
    desk.press(b"\x1b[C")
    assert desk.keyboard.keys() == {"right"}


def test_q_stays_held(desk: Desk) -> None:
    desk.press(b"q")
    assert desk.keyboard.keys() == {"quit"}
    desk.clock.t_s = 60.0
    assert desk.keyboard.keys() == {"quit"}


def test_the_terminal_is_given_back_as_it_was(desk: Desk) -> None:
    assert desk.modes() != desk.before
    desk.keyboard.close()
    desk.keyboard.close()
    assert desk.modes() == desk.before


def test_no_keyboard_holds_no_key() -> None:
    keyboard = NoKeyboard()
    assert keyboard.keys() == frozenset()
    keyboard.close()

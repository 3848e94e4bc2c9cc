"""A screen beside the loop: a slow one costs pictures and never time; a broken one is told."""

from __future__ import annotations

import threading

import pytest
from fakes import TapedScreen, a_picture

from deploy.latest import Latest
from deploy.screens import Picture


class Held(TapedScreen):
    """Draws a picture only once it is let go."""

    def __init__(self) -> None:
        super().__init__([], [frozenset({"up"})])
        self.began, self.go = threading.Event(), threading.Event()

    def show(self, picture: Picture) -> None:
        self.began.set()
        assert self.go.wait(10)
        super().show(picture)


def test_a_slow_screen_is_shown_the_newest_picture_and_the_loop_never_waits() -> None:
    held = Held()
    screen = Latest(held)
    screen.show(a_picture(pictures=0))
    assert held.began.wait(10)
    for number in (1, 2, 3):
        screen.show(a_picture(pictures=number))  # returns though nothing was drawn
    assert held.pictures == [] and screen.dropped == 2
    held.go.set()
    screen.close()
    assert [picture.pictures for picture in held.pictures] == [0, 3]


def test_keys_are_those_of_the_screen() -> None:
    screen = Latest(Held())
    assert screen.keys() == {"up"}
    screen.close()


def test_a_broken_screen_is_told_at_the_next_picture() -> None:
    class Broken(TapedScreen):
        def show(self, picture: Picture) -> None:
            raise OSError("gone")

    broken = Broken([])
    screen = Latest(broken)
    screen.show(a_picture())
    screen._thread.join(10)
    with pytest.raises(OSError, match=r"^gone$"):
        screen.show(a_picture())
    screen.close()


def test_closing_a_screen_that_was_shown_nothing_closes_it() -> None:
    tape: list[str] = []
    Latest(TapedScreen(tape)).close()
    assert tape == ["screen closed"]

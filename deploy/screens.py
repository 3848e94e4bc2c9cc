"""Screens: what a picture is and what shows it; null and fan-out here, each real screen in a file of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.pacer import Work

QUIT = "quit"  # the key that ends a run: a closed window, Escape or q
VIEWS = ("auto", "web", "window", "terminal", "video", "none")
MESH = 64  # cores along one side of the chip


class ScreenError(RuntimeError):
    """A screen that cannot be had or that broke: *where: found; allowed; what to try*."""


@dataclass(frozen=True, eq=False)
class Picture:
    """What the player is shown thirty times a second; its arrays become read-only."""

    frame: NDArray[np.uint8]  # [210, 160, 3]  RGB
    title: str  # game and player
    actions: tuple[str, ...]  # [A]  meanings, by action id
    action: int  # the one in force
    votes: NDArray[np.int32] | None  # [A]  from the last decision; None where the player has none
    activity: NDArray[np.int32] | None  # [64, 64], of a board more  spikes per core; negative: core not in use
    score: float  # of the episode under way
    episode: int  # from 1
    pictures: int  # shown before this one
    late: int
    work_s: float  # work of the picture before this one
    period_s: float  # what that work may take
    recent: tuple[Work, ...] = ()  # of the pictures before this one, newest last

    def __post_init__(self) -> None:
        _need("frame", self.frame, (None, None, 3))
        assert self.frame.dtype == np.uint8, self.frame.dtype
        if self.votes is not None:
            _need("votes", self.votes, (len(self.actions),))
        if self.activity is not None:
            _need("activity", self.activity, (None, None))

    @property
    def meaning(self) -> str:
        """The action in force, in words."""
        return self.actions[self.action]

    def __repr__(self) -> str:
        return f"Picture({self.title!r}, frame {self.frame.shape}, {self.meaning}, score {self.score:g})"


def _need(name: str, array: NDArray[Any], shape: tuple[int | None, ...]) -> None:
    fits = len(array.shape) == len(shape) and all(
        want in (None, got) for want, got in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"Picture.{name}: found shape {array.shape}, allowed {shape} (None: any)")
    array.flags.writeable = False


class Screen(Protocol):
    """Shows pictures and knows which keys are held."""

    def show(self, picture: Picture) -> None:
        """Show one picture; returns well inside a picture's period."""

    def keys(self) -> frozenset[str]:
        """Keys held now: up, down, left, right, space, quit."""

    def close(self) -> None:
        """Give back what was taken; a second call does nothing."""


class NoScreen:
    """Shows nothing: tests and measurements run the code that a window runs."""

    def show(self, picture: Picture) -> None:
        pass

    def keys(self) -> frozenset[str]:
        return frozenset()

    def close(self) -> None:
        pass


class Both:
    """Several screens as one."""

    def __init__(self, screens: Sequence[Screen]) -> None:
        self._screens = tuple(screens)

    def show(self, picture: Picture) -> None:
        for screen in self._screens:
            screen.show(picture)

    def keys(self) -> frozenset[str]:
        return frozenset[str]().union(*(screen.keys() for screen in self._screens))

    def close(self) -> None:
        """Close every screen, also when one of them fails; then the first failure is raised."""
        failures: list[Exception] = []
        for screen in self._screens:
            try:
                screen.close()
            except Exception as failure:  # whatever it was, the next screen must still finish its file
                failures.append(failure)
        if failures:
            raise failures[0]


def has_display(env: Mapping[str, str] = os.environ, platform: str = sys.platform) -> bool:
    """Whether a window could open: elsewhere than on Linux there is a desktop, on Linux a variable says so."""
    if env.get("SDL_VIDEODRIVER") in ("dummy", "offscreen"):
        return False
    return not platform.startswith("linux") or bool(env.get("DISPLAY") or env.get("WAYLAND_DISPLAY"))


def choose_view(view: str, is_tty: bool, display: bool) -> str:
    """Settle "auto": a window where there is a display, else the terminal if there is one, else the video alone.

    Raises:
        ScreenError: a view that does not exist.
    """
    if view not in VIEWS:
        raise ScreenError(f"view: found {view!r}; allowed {', '.join(VIEWS)}; try VIEW=auto")
    if view != "auto":
        return view
    if display:
        return "window"
    return "terminal" if is_tty else "video"

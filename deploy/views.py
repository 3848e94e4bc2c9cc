"""Views by name: opens the screen that a run asked for; a screen's library is loaded only when it is wanted."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from deploy.screens import NoScreen, Screen, ScreenError, choose_view, has_display


def open_view(view: str, title: str, out: TextIO | None = None, keys: TextIO | None = None) -> Screen:
    """The screen of a view: auto, window, terminal, web, video or none; the last three show nothing here.

    A terminal writes to out (standard output) and takes its keys from keys (standard input) where that is a terminal.

    Raises:
        ScreenError: no such view, or it cannot be had here.
    """
    out, keys = out or sys.stdout, keys or sys.stdin
    view = choose_view(view, out.isatty(), has_display(os.environ))
    if view == "window":
        from deploy.window import WindowScreen

        return WindowScreen(title)
    if view == "terminal":
        return _terminal(out, keys)
    return NoScreen()


def need_keys(view: str, out: TextIO | None = None, keys: TextIO | None = None) -> None:
    """Raise ScreenError where nobody could play at the screen that `open_view` would open."""
    out, keys = out or sys.stdout, keys or sys.stdin
    chosen = choose_view(view, out.isatty(), has_display(os.environ))
    if chosen == "window" or (chosen == "terminal" and keys.isatty()):
        return
    raise ScreenError(
        f"player human: found view {chosen}, which has no keys here; allowed a window, the page, or a terminal whose "
        "keys are read; try VIEW=web"
    )


def _terminal(out: TextIO, keys: TextIO) -> Screen:
    from deploy.keyboard import NoKeyboard, TerminalKeyboard
    from deploy.latest import Latest
    from deploy.terminal import TerminalScreen, has_true_colour

    keyboard = (lambda: TerminalKeyboard(keys)) if keys.isatty() else NoKeyboard
    # Over a slow line a write waits for the line: the game must not.
    return Latest(TerminalScreen(out, keyboard=keyboard, true_colour=has_true_colour(os.environ)))

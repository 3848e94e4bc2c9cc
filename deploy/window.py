"""A window as a screen: the game in sharp pixels, the panel beside it, and the keyboard."""

from __future__ import annotations

import os
from types import ModuleType

import numpy as np

from deploy.panel import beside
from deploy.screens import QUIT, Picture, ScreenError, has_display

SCALE = 3
FRAME = (160, 210)  # width and height in nearly every game; the window follows the others


class WindowScreen:
    """One pygame window; closing it, Escape and q hold down the quit key for good."""

    def __init__(self, caption: str, scale: int = SCALE) -> None:
        """Open a window for frames scaled by a whole number.

        Raises:
            ScreenError: there is no display.
        """
        self._pygame = _pygame()
        self._scale, self._quit = scale, False
        blank = _blank(caption)
        # Of the size that nearly every game has: one that grew from a dot would stay where the dot was centred.
        self._window = self._pygame.display.set_mode(beside(blank, scale).shape[1::-1])
        self._pygame.display.set_caption(caption)
        keys = {"up": "K_UP", "down": "K_DOWN", "left": "K_LEFT", "right": "K_RIGHT", "space": "K_SPACE"}
        self._codes = {name: getattr(self._pygame, code) for name, code in keys.items()}
        self.show(blank)  # the first text drawn loads its font: longer than a picture may take

    def show(self, picture: Picture) -> None:
        image = beside(picture, self._scale)
        size = (image.shape[1], image.shape[0])
        if self._window.get_size() != size:
            self._window = self._pygame.display.set_mode(size)
        surface = self._pygame.image.frombuffer(image, size, "RGB")
        self._window.blit(surface, (0, 0))
        self._pygame.display.flip()

    def keys(self) -> frozenset[str]:
        for event in self._pygame.event.get():
            self._quit = self._quit or self._ends(event.type, getattr(event, "key", None))
        pressed = self._pygame.key.get_pressed()
        held = frozenset(name for name, code in self._codes.items() if pressed[code])
        return held | {QUIT} if self._quit else held

    def close(self) -> None:
        self._pygame.display.quit()

    def _ends(self, kind: int, key: int | None) -> bool:
        closed = kind == self._pygame.QUIT
        return closed or (kind == self._pygame.KEYDOWN and key in (self._pygame.K_ESCAPE, self._pygame.K_q))


def _blank(title: str) -> Picture:
    return Picture(
        frame=np.zeros((FRAME[1], FRAME[0], 3), np.uint8),
        title=title,
        actions=("NOOP",),
        action=0,
        votes=None,
        activity=None,
        score=0.0,
        episode=1,
        pictures=0,
        late=0,
        work_s=0.0,
        period_s=1.0,
    )


def _pygame() -> ModuleType:
    """pygame with its display up; only the display, as its sound would ask for a device that may be missing."""
    # Without a display SDL would draw into nowhere and say nothing; a named driver is a wish to be granted.
    if not has_display() and not os.environ.get("SDL_VIDEODRIVER"):
        raise _no_display("neither DISPLAY nor WAYLAND_DISPLAY is set")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # its greeting would come before a report
    import pygame

    try:
        pygame.display.init()
    except pygame.error as failure:
        raise _no_display(str(failure)) from failure
    return pygame


def _no_display(found: str) -> ScreenError:
    return ScreenError(f"view=window: {found}; allowed a machine with a display; try VIEW=terminal or VIEW=video")

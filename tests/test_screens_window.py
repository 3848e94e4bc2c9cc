"""The window shows frame and panel, reads the keyboard, and says what to try where there is no display."""

from __future__ import annotations

import os
from collections.abc import Iterator

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import numpy as np
import pygame
import pytest
from fakes import a_picture

from deploy.panel import beside, panel_width
from deploy.screens import ScreenError
from deploy.views import open_view
from deploy.window import WindowScreen


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> Iterator[WindowScreen]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    screen = WindowScreen("Pong | chip", scale=2)
    yield screen
    screen.close()


def test_the_window_shows_frame_and_panel_to_the_pixel(window: WindowScreen) -> None:
    picture = a_picture()
    window.show(picture)
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).transpose(1, 0, 2)
    assert np.array_equal(shown, beside(picture, 2))
    assert pygame.display.get_caption()[0] == "Pong | chip"


def test_the_window_opens_once_at_the_size_of_a_game(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, really = [], pygame.display.set_mode
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr(pygame.display, "set_mode", lambda size: opened.append(tuple(size)) or really(size))
    screen = WindowScreen("Pong | chip", scale=2)
    screen.show(a_picture())
    screen.close()
    assert opened == [(320 + panel_width(420), 420)]


def test_the_window_follows_a_game_of_another_size(window: WindowScreen) -> None:
    tall = a_picture(frame=np.zeros((250, 160, 3), np.uint8))
    window.show(tall)
    assert pygame.display.get_surface().get_height() == 500
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).transpose(1, 0, 2)
    assert np.array_equal(shown, beside(tall, 2))


def test_held_arrows_and_space_are_keys(window: WindowScreen, monkeypatch: pytest.MonkeyPatch) -> None:
    held = {pygame.K_UP, pygame.K_SPACE, pygame.K_a}

    class Pressed:
        def __getitem__(self, code: int) -> bool:
            return code in held

    monkeypatch.setattr(pygame.key, "get_pressed", Pressed)
    assert window.keys() == {"up", "space"}
    held = {pygame.K_DOWN, pygame.K_LEFT, pygame.K_RIGHT}
    assert window.keys() == {"down", "left", "right"}


@pytest.mark.parametrize(
    "event",
    [
        pygame.event.Event(pygame.QUIT),
        pygame.event.Event(pygame.KEYDOWN, key=pygame.K_ESCAPE),
        pygame.event.Event(pygame.KEYDOWN, key=pygame.K_q),
    ],
    ids=["close", "escape", "q"],
)
def test_closing_the_window_holds_down_quit(window: WindowScreen, event: pygame.event.Event) -> None:
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_UP))
    assert window.keys() == frozenset()
    pygame.event.post(event)
    assert window.keys() == {"quit"}
    assert window.keys() == {"quit"}


def test_without_a_display_the_error_says_what_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("deploy.window.has_display", lambda: False)
    message = r"^view=window: neither DISPLAY nor WAYLAND_DISPLAY is set; allowed a machine with a display; try VIEW="
    with pytest.raises(ScreenError, match=message):
        open_view("window", "Pong")


def test_a_display_that_does_not_answer_is_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "no-such-driver")
    with pytest.raises(ScreenError, match=r"^view=window: .+; allowed a machine with a display; try VIEW=terminal or"):
        WindowScreen("Pong")


def test_a_new_window_has_its_size_before_the_first_picture(window: WindowScreen) -> None:
    assert pygame.display.get_surface().get_size() == (320 + panel_width(420), 420)

"""What a picture may hold, which view is chosen, and several screens as one."""

from __future__ import annotations

import io

import numpy as np
import pytest
from fakes import TapedScreen, a_picture

from deploy.screens import Both, NoScreen, ScreenError, choose_view, has_display
from deploy.views import need_keys, open_view


class BrokenScreen(NoScreen):
    """Fails as it closes."""

    def close(self) -> None:
        raise ScreenError("broken")


@pytest.mark.parametrize(
    ("field", "shape", "message"),
    [
        ("frame", (210, 160), r"^Picture\.frame: found shape \(210, 160\), allowed \(None, None, 3\) \(None: any\)$"),
        ("votes", (5,), r"^Picture\.votes: found shape \(5,\), allowed \(6,\) \(None: any\)$"),
        ("activity", (64,), r"^Picture\.activity: found shape \(64,\), allowed \(None, None\) \(None: any\)$"),
    ],
)
def test_a_picture_refuses_arrays_of_another_shape(field: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        a_picture(**{field: np.zeros(shape, np.uint8 if field == "frame" else np.int32)})


def test_a_picture_cannot_be_written_into() -> None:
    with pytest.raises(ValueError, match="read-only"):
        a_picture().frame[0, 0, 0] = 1


def test_a_picture_names_its_action_and_shows_no_arrays() -> None:
    assert repr(a_picture()) == "Picture('Pong | chip', frame (210, 160, 3), RIGHT, score -3)"


def test_no_screen_shows_nothing_and_holds_no_key() -> None:
    screen = NoScreen()
    screen.show(a_picture())
    assert screen.keys() == frozenset()
    screen.close()


def test_both_shows_on_each_screen_and_joins_their_keys() -> None:
    tapes: tuple[list[str], list[str]] = ([], [])
    both = Both([TapedScreen(tapes[0], [frozenset({"up"})]), TapedScreen(tapes[1], [frozenset({"space"})]), NoScreen()])
    both.show(a_picture())
    assert both.keys() == {"up", "space"}
    both.close()
    assert tapes == (["show", "screen closed"], ["show", "screen closed"])


def test_a_screen_that_fails_to_close_does_not_keep_the_others_open() -> None:
    tape: list[str] = []
    with pytest.raises(ScreenError, match=r"^broken$"):
        Both([BrokenScreen(), TapedScreen(tape)]).close()
    assert tape == ["screen closed"]


@pytest.mark.parametrize(
    ("view", "is_tty", "display", "chosen"),
    [
        ("auto", True, True, "window"),
        ("auto", False, True, "window"),
        ("auto", True, False, "terminal"),
        ("auto", False, False, "video"),
        ("none", True, True, "none"),
        ("terminal", False, True, "terminal"),
    ],
)
def test_auto_takes_the_best_screen_there_is(view: str, is_tty: bool, display: bool, chosen: str) -> None:
    assert choose_view(view, is_tty, display) == chosen


def test_an_unknown_view_is_refused() -> None:
    message = r"^view: found 'cinema'; allowed auto, web, window, terminal, video, none; try VIEW=auto$"
    with pytest.raises(ScreenError, match=message):
        choose_view("cinema", True, True)


@pytest.mark.parametrize(
    ("env", "platform", "there"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ""}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({"DISPLAY": ":0", "SDL_VIDEODRIVER": "dummy"}, "linux", False),
        ({}, "darwin", True),
        ({}, "win32", True),
    ],
)
def test_a_display_is_where_the_environment_says(env: dict[str, str], platform: str, there: bool) -> None:
    assert has_display(env, platform) is there


@pytest.mark.parametrize("view", ["web", "video", "none"])
def test_views_without_a_screen_show_nothing(view: str) -> None:
    assert isinstance(open_view(view, "Pong", io.StringIO()), NoScreen)


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


def test_a_human_needs_a_screen_with_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    need_keys("window", io.StringIO(), io.StringIO())  # one that cannot be had says so itself
    for view in ("terminal", "auto"):
        need_keys(view, Terminal(), Terminal())
    refused = [("terminal", Terminal(), "terminal"), ("auto", io.StringIO(), "video"), ("none", Terminal(), "none")]
    for view, out, chosen in refused:
        message = rf"^player human: found view {chosen}, which has no keys here; allowed .*; try VIEW=web$"
        with pytest.raises(ScreenError, match=message):
            need_keys(view, out, io.StringIO())


def test_a_terminal_view_needs_a_terminal() -> None:
    with pytest.raises(ScreenError, match=r"^view=terminal: found an output that is not a terminal"):
        open_view("terminal", "Pong", io.StringIO())

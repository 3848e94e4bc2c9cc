"""Serves the page of a show until its time is over, Ctrl-C, SIGTERM or a closed terminal."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from deploy.arcade.address import Door, WebSettings
from deploy.arcade.cabinet import Stock
from deploy.arcade.server import Gallery, application
from deploy.arcade.show import Show
from deploy.interrupts import Interrupts
from deploy.realtime import PlayReport, RealtimeSettings
from deploy.screens import ScreenError, has_display

MOST_MESSAGE = 4096  # bytes of a viewer's message: the connection ends with the first that is larger
LOOK_S = 0.1  # how often the server asks whether to end
BACKLOG = 64


class Endings(Interrupts):
    """Also a terminal that was closed."""

    SIGNALS: tuple[signal.Signals, ...] = (*Interrupts.SIGNALS, signal.SIGHUP)


class Server(uvicorn.Server):
    """Leaves the signals to the command."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bound(settings: WebSettings) -> socket.socket:
    """A listening socket at that address; raises ScreenError where it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError as cause:
        found = f"{settings.host} port {settings.port} ({cause.strerror or cause})"
        raise ScreenError(f"view=web: {found}, must be a free port of this machine; try PORT=0") from cause
    return made


def at_once(text: str) -> None:
    """Print it: who reads by a pipe waits for the address."""
    print(text, flush=True)


def show_page(
    game: str,
    player: str,
    stock: Stock,
    realtime: RealtimeSettings,
    web: WebSettings,
    folder: Path,
    say: Callable[[str], None] = at_once,
) -> PlayReport:
    """Play and serve the page; returns how the last round kept time. Clips go to `folder`.

    Raises:
        ScreenError: the address cannot be had.
        SettingsError, FormatError: as of `Show`.
    """
    listening = bound(web)
    with listening:
        show = Show(game, player, stock, realtime, folder, time.perf_counter, time.sleep)
        door = Door(web.host, listening.getsockname()[1], web.token)
        with Endings() as endings:
            say(f"page: {door.url}\nCtrl-C ends it")
            if web.browser and has_display():
                threading.Thread(target=webbrowser.open, args=(door.url,), daemon=True).start()
            asyncio.run(serve(show, door, listening, endings.keep_going))
    if show.error is not None:
        raise show.error
    assert show.report is not None
    return show.report


async def serve(show: Show, door: Door, listening: socket.socket, keep_going: Callable[[], bool]) -> Gallery:
    """Serve until the show ends or keep_going() says no; then end both."""
    app, gallery = application(show, door)
    server = Server(
        uvicorn.Config(
            app, ws="websockets-sansio", ws_max_size=MOST_MESSAGE, ws_per_message_deflate=False, lifespan="off",
            log_level="error", access_log=False, server_header=False, timeout_graceful_shutdown=2,
        )
    )  # fmt: skip
    gallery.listen()
    show.start()
    serving = asyncio.ensure_future(server.serve(sockets=[listening]))
    try:
        while keep_going() and not show.desk.closing and not serving.done():
            await asyncio.sleep(LOOK_S)
    finally:
        server.should_exit = True
        show.close()
        await serving
    return gallery

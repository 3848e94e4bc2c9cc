"""The server: static files and one WebSocket a viewer, to each the newest picture only; orders come back."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from deploy.arcade.address import Bucket, Door
from deploy.arcade.desk import Round
from deploy.arcade.messages import Teller, scene_message
from deploy.arcade.orders import OrderError, parse
from deploy.arcade.show import Show
from deploy.arcade.wire import Palette, encode

STATIC = Path(__file__).resolve().parent / "static"
COOKIE = "arcade"
MOST_VIEWERS = 32
ORDERS_PER_S, ORDERS_AT_ONCE = 40.0, 80.0
ERRORS_PER_S, ERRORS_AT_ONCE = 4.0, 8.0  # answered; a viewer that sends nonsense is not sent as much back
APART_S = 0.025  # between two messages to a viewer: 30 pictures a second pass, the 120 of fourfold speed do not
SAFE = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@dataclass(eq=False)
class Viewer:
    """One open page."""

    number: int
    socket: WebSocket
    bell: asyncio.Event = field(default_factory=asyncio.Event)  # something new since the last message
    round: int = 0  # whose scene it has
    decision: int = 0  # whose thought it has
    errors: list[str] = field(default_factory=list)  # to be told


class Gallery:
    """All viewers of a show; everything here runs on the server's event loop."""

    def __init__(self, show: Show) -> None:
        self._show, self.viewers = show, dict[int, Viewer]()
        self._numbers, self._palette = itertools.count(1), Palette()
        self._teller: Teller | None = None
        self._scene: tuple[Round, bytes] | None = None
        self.sent_bytes = self.sent_messages = 0

    def listen(self) -> None:
        """Have the show ring from its threads; called once, on the event loop."""
        loop = asyncio.get_running_loop()

        def ring() -> None:
            try:
                loop.call_soon_threadsafe(self._ring)
            except RuntimeError:  # the loop closed between two pictures
                return

        self._show.post.ring = self._show.desk.ring = ring

    def _ring(self) -> None:
        for viewer in self.viewers.values():
            viewer.bell.set()

    async def serve(self, socket: WebSocket) -> None:
        """One viewer, from its arrival to its end."""
        if len(self.viewers) >= MOST_VIEWERS:
            await socket.close()  # before it opened: the answer is 403
            return
        await socket.accept()
        viewer = Viewer(next(self._numbers), socket)
        self.viewers[viewer.number] = viewer
        viewer.bell.set()
        jobs = [asyncio.ensure_future(job) for job in (self._tell(viewer), self._hear(viewer))]
        try:
            await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self.viewers[viewer.number]
            self._show.desk.forget(viewer.number)
            for job in jobs:
                job.cancel()
            ended = await asyncio.gather(*jobs, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception) and not isinstance(error, WebSocketDisconnect):
                raise error

    async def _tell(self, viewer: Viewer) -> None:
        """Send whatever is newest whenever there is something; a slow viewer holds up nobody but this coroutine."""
        while True:
            await viewer.bell.wait()
            viewer.bell.clear()
            for message in self._news(viewer):
                await _send(viewer.socket, message)
                self.sent_bytes += len(message)
                self.sent_messages += 1
            await asyncio.sleep(APART_S)

    def _news(self, viewer: Viewer) -> list[bytes]:
        news = [encode({"kind": "error", "error": error}, {}) for error in viewer.errors]
        viewer.errors.clear()
        snapshot, state = self._show.post.newest, self._show.desk.state
        if viewer.round != state.round.number:
            viewer.round, viewer.decision = state.round.number, 0
            news.append(self._scene_of(state.round))
        if snapshot is not None and snapshot.round is state.round:
            thought = snapshot.thought
            fresh = thought is not None and thought.number != viewer.decision
            viewer.decision = viewer.decision if thought is None else thought.number
            news.append(self._teller_of(state.round).picture(snapshot, state, len(self.viewers), fresh))
        return news

    def _scene_of(self, round_: Round) -> bytes:
        if self._scene is None or self._scene[0] is not round_:
            self._scene = (round_, scene_message(round_, self._show.desk.games))
        return self._scene[1]

    def _teller_of(self, round_: Round) -> Teller:
        if self._teller is None or self._teller.round is not round_:
            self._teller = Teller(round_, self._palette)
        return self._teller

    async def _hear(self, viewer: Viewer) -> None:
        orders = Bucket(ORDERS_PER_S, ORDERS_AT_ONCE, time.monotonic)
        errors = Bucket(ERRORS_PER_S, ERRORS_AT_ONCE, time.monotonic)
        while True:
            message = await viewer.socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            error = self._obey(viewer, message, orders)
            if error and errors.take():
                viewer.errors.append(error)
                viewer.bell.set()

    def _obey(self, viewer: Viewer, message: Message, orders: Bucket) -> str:
        """What is wrong with a message, or nothing once it is obeyed."""
        if not orders.take():
            return f"order: too many, allowed {ORDERS_PER_S:g} a second"
        text = message.get("text")
        if text is None:
            return "order: found bytes, allowed text"
        try:
            self._show.desk.obey(parse(text), viewer.number)
        except OrderError as error:
            return str(error)
        return ""


async def _send(socket: WebSocket, message: bytes) -> None:
    """Send; raises WebSocketDisconnect where the viewer has left, which the server tells late and in its own way."""
    try:
        await socket.send_bytes(message)
    except RuntimeError as gone:
        raise WebSocketDisconnect(1006) from gone


class Doorman:
    """Turns away what was not meant for this page, before anything else looks at it."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        answer = self._refusal(scope)
        if answer is None:
            await self._app(scope, receive, _with_safe_headers(send))
        elif scope["type"] == "websocket":
            await WebSocket(scope, receive, send).close()
        else:
            await answer(scope, receive, _with_safe_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        headers, is_socket = Headers(scope=scope), scope["type"] == "websocket"
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._door.knows_host(hosts[0]):
            return PlainTextResponse("host: not a name of this page; open the address that was printed\n", 421)
        origins = headers.getlist("origin")
        if (is_socket and len(origins) != 1) or not all(self._door.knows_origin(origin) for origin in origins):
            return PlainTextResponse("origin: another site's; open the page itself\n", 403)
        return self._unknown(HTTPConnection(scope), is_socket)

    def _unknown(self, request: HTTPConnection, is_socket: bool) -> Response | None:
        """A visitor without the token is refused; one who brings it in the address gets it as a cookie instead."""
        if self._door.token is None:
            return None
        if self._door.knows_token(request.cookies.get(COOKIE, "")):
            return None
        if is_socket or not self._door.knows_token(request.query_params.get("token", "")):
            return PlainTextResponse("token: missing or wrong; open the address that was printed\n", 401)
        welcome = RedirectResponse("/", 303)
        welcome.set_cookie(COOKIE, self._door.token, httponly=True, samesite="strict")
        return welcome


def _with_safe_headers(send: Send) -> Callable[[Message], Awaitable[None]]:
    async def sends(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(SAFE)
        await send(message)

    return sends


def application(show: Show, door: Door) -> tuple[Starlette, Gallery]:
    """The page of a show as an ASGI application, and its viewers."""
    gallery = Gallery(show)

    def clip(request: Request) -> Response:
        """A clip of this show by its file's name, to keep."""
        named = {path.name: path for path in show.desk.state.clips}
        path = named.get(request.path_params["name"])
        if path is None:
            return PlainTextResponse("clip: no such one\n", 404)
        return FileResponse(path, filename=f"{show.desk.state.round.cabinet.name}-{path.name}")

    routes: list[Any] = [
        WebSocketRoute("/live", gallery.serve),
        Route("/clips/{name}", clip),
        Mount("/", StaticFiles(directory=STATIC, html=True)),
    ]
    app = Starlette(routes=routes)
    app.add_middleware(Doorman, door=door)  # type: ignore[arg-type]
    return app, gallery

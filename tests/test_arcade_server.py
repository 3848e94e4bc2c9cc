"""The server lets in what was meant for it, sends each viewer the newest picture, and outlives whatever it is sent."""

from __future__ import annotations

import asyncio
import fcntl
import http.client
import json
import os
import random
import re
import signal
import socket
import string
import subprocess
import sys
import termios
import threading
import time
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import numpy as np
import pytest
import websockets
from arcade_cases import stock, until
from run_cases import ROOM, write_run
from starlette.websockets import WebSocketDisconnect
from websockets.sync.client import connect

from deploy.arcade import serve as serve_module
from deploy.arcade import server as server_module
from deploy.arcade.address import Door, WebSettings
from deploy.arcade.messages import Teller, scene_message
from deploy.arcade.orders import ORDERS, OrderError, parse
from deploy.arcade.serve import bound, show_page
from deploy.arcade.server import MOST_VIEWERS, STATIC
from deploy.arcade.show import Show
from deploy.arcade.wire import Palette, decode
from deploy.realtime import RealtimeSettings
from deploy.screens import ScreenError

TOKEN = "letmein0123456789"


@pytest.fixture(scope="module")
def players(tmp_path_factory):
    return stock(tmp_path_factory.mktemp("runs"))


@contextmanager
def served(players, folder, player="chip", token=None, seconds=0.0):
    """A real server of a real show, in threads: (address of its socket, its port, its gallery and show)."""
    loop, ready, going = asyncio.new_event_loop(), threading.Event(), threading.Event()
    going.set()
    listening = bound(WebSettings("127.0.0.1", 0, False, token, False))
    port = listening.getsockname()[1]
    show = Show("Pong", player, players, RealtimeSettings(seconds, 30, 2), folder, time.perf_counter,
                time.sleep)  # fmt: skip
    found = {}

    async def run():
        own = serve_module.serve(show, Door("127.0.0.1", port, token), listening, going.is_set)
        task = asyncio.ensure_future(own)
        await asyncio.sleep(0)
        ready.set()
        found["gallery"] = await task

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))

    thread.start()
    assert ready.wait(60)
    try:
        yield port, show
    finally:
        going.clear()
        thread.join(60)
        listening.close()
        assert not thread.is_alive() and show.error is None
        assert not any(thread.is_alive() for thread in show._threads)
        assert not found["gallery"].viewers


@pytest.fixture(scope="module")
def running(players, tmp_path_factory):
    with served(players, tmp_path_factory.mktemp("clips")) as (port, show):
        yield port, show


def get(port, path, **headers):
    """(status, headers, body) of a request whose path goes out as it is."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    link.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = link.getresponse()
    return answer.status, answer.headers, answer.read()


def test_the_page_and_its_parts_are_served_with_headers_that_keep_others_out(running):
    port, _ = running
    for path in ("/", *(f"/{part.name}" for part in STATIC.iterdir())):
        status, headers, body = get(port, path, origin=f"http://127.0.0.1:{port}")
        assert status == 200 and body, path
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/../address.py", "/%2e%2e/address.py", "/..%2faddress.py", "//etc/passwd", "/clips/"]
)
def test_what_is_not_of_the_page_is_not_there(running, path):
    assert get(running[0], path)[0] == 404


@pytest.mark.parametrize(
    ("headers", "status", "text"),
    [
        ({"host": "evil.example:{port}"}, 421, b"host: not a name of this page; open the address that was printed\n"),
        ({"host": "127.0.0.1:80"}, 421, b"host: not a name of this page; open the address that was printed\n"),
        ({"origin": "http://evil.example"}, 403, b"origin: another site's; open the page itself\n"),
        ({"origin": "null"}, 403, b"origin: another site's; open the page itself\n"),
    ],
)
def test_requests_meant_for_others_are_turned_away(running, headers, status, text):
    port, _ = running
    own = {name: value.format(port=port) for name, value in headers.items()}
    found, sent, body = get(port, "/", **own)
    assert (found, body) == (status, text) and sent["cross-origin-resource-policy"] == "same-origin"


def test_a_page_behind_a_token_asks_for_it_once(players, tmp_path):
    with served(players, tmp_path, "random", TOKEN) as (port, _):
        for path in ("/", "/?token=wrong", "/main.js"):
            status, _, body = get(port, path)
            assert (status, body) == (401, b"token: missing or wrong; open the address that was printed\n")
        status, headers, _ = get(port, f"/?token={TOKEN}")
        assert (status, headers["location"]) == (303, "/")
        cookie = headers["set-cookie"]
        assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
        assert get(port, "/", cookie=cookie.partition(";")[0])[0] == 200


def test_clips_of_the_show_are_served_and_nothing_else(running, tmp_path):
    port, show = running
    (tmp_path / "clip-1.mp4").write_bytes(b"film")
    assert get(port, "/clips/clip-1.mp4")[0] == 404, "it is not told of yet"
    show.desk.filmed(tmp_path / "clip-1.mp4")
    status, headers, body = get(port, "/clips/clip-1.mp4")
    assert (status, body) == (200, b"film") and 'filename="Pong-clip-1.mp4"' in headers["content-disposition"]


def viewer(port, **changes):
    own = {"origin": f"http://127.0.0.1:{port}", "open_timeout": 30, "close_timeout": 5, "max_size": None}
    return connect(f"ws://127.0.0.1:{port}/live", **own | changes)


def news(link, kind, wanted=lambda facts: True):
    """The next message of a kind that is as wanted."""
    for _ in range(2000):
        facts, arrays = decode(link.recv(timeout=30))
        if facts["kind"] == kind and wanted(facts):
            return facts, arrays
    raise AssertionError(f"no such {kind}")


def test_a_viewer_is_told_the_scene_and_then_pictures_in_order(running):
    port, show = running
    with viewer(port) as link:
        facts, arrays = decode(link.recv(timeout=30))
        assert facts["kind"] == "scene" and facts["game"] == "Pong" and facts["players"][0] == "chip"
        assert arrays["place"].shape == (show.desk.state.round.cabinet.cores, 2, 2)
        numbers, decisions = [], {}
        for _ in range(20):
            facts, arrays = news(link, "picture")
            numbers.append(facts["n"])
            decisions[facts["decision"]] = decisions.get(facts["decision"], 0) + ("wave" in arrays)
            assert arrays["frame"].shape == (210, 160) and len(facts["votes"]) == 6
        assert numbers == sorted(numbers) and set(decisions.values()) == {1}, "a thought is told once"


def test_orders_are_obeyed_and_told_to_all(running):
    port, _ = running
    with viewer(port) as one, viewer(port) as two:
        one.send('{"do": "player", "name": "random"}')
        for link in (one, two):
            facts, arrays = news(link, "picture", lambda facts: facts["player"] == "random")
            assert facts["votes"] is None and "wave" not in arrays and facts["viewers"] >= 2
        two.send('{"do": "player", "name": "chip"}')
        assert news(one, "picture", lambda facts: facts["player"] == "chip")[0]["votes"]
        two.send('{"do": "kill", "left": 0, "top": 0, "right": 63, "bottom": 63}')
        _, arrays = news(one, "picture", lambda facts: facts["votes"] == [0] * 6)
        assert np.unpackbits(arrays["dead"], bitorder="little").any()
        two.send('{"do": "heal"}')
        news(one, "picture", lambda facts: facts["votes"] != [0] * 6)


def test_what_is_no_order_is_answered_with_what_is_allowed(running):
    port, _ = running
    with viewer(port) as link:
        link.send("nonsense")
        assert news(link, "error")[0]["error"].startswith("order: no JSON")
        link.send(b"\x00\x01")
        assert news(link, "error")[0]["error"] == "order: found bytes, allowed text"
        link.send('{"do": "player", "name": "ghost"}')
        assert news(link, "error")[0]["error"].startswith("order.player: found 'ghost', allowed chip")


@pytest.mark.parametrize("origin", [None, "http://evil.example", "null"])
def test_a_socket_of_another_site_is_not_opened(running, origin):
    with pytest.raises(websockets.exceptions.InvalidStatus, match="403"):
        viewer(running[0], origin=origin).__enter__()


def test_a_socket_behind_a_token_opens_with_it_alone(players, tmp_path):
    with served(players, tmp_path, "random", TOKEN) as (port, _):
        for cookie in ("", "arcade=wrong"):
            with pytest.raises(websockets.exceptions.InvalidStatus, match="403"):
                viewer(port, additional_headers={"cookie": cookie}).__enter__()
        with viewer(port, additional_headers={"cookie": f"arcade={TOKEN}"}) as link:
            news(link, "picture")


def nonsense(rng):
    """A random message: bytes, text, JSON, or nearly an order; never a whole one."""
    kind = rng.randrange(5)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    if kind == 1:
        return "".join(rng.choice(string.printable + "\ud7ff\U0001f9e0\x00") for _ in range(rng.randrange(600)))
    if kind == 2:
        return json.dumps(rng.choice([None, [], 3, "x", {"do": None}, {"do": {}}, {"a": [[[]]]}, [{}] * 40]))
    fields = rng.sample(["name", "on", "times", "left", "top", "right", "share", "keys", "__class__", "self"], 3)
    values = [None, -1, 1e308, 10**300, "x" * rng.randrange(90), [1], {"x": {}}, True, float("nan")]
    return json.dumps({"do": rng.choice([*ORDERS, "eval"]), "never": 0, **{f: rng.choice(values) for f in fields}})


def test_no_random_message_is_an_order():
    rng = random.Random(5)
    for _ in range(2_000):
        said = nonsense(rng)
        with pytest.raises(OrderError, match=r"^order"):
            parse(said if isinstance(said, str) else said.decode("latin-1"))


def test_ten_thousand_random_messages_do_nothing_but_errors(running):
    port, show = running
    with viewer(port) as calm:
        before = dataclasses_of(show)
        start = news(calm, "picture")[0]["n"]
        rng, errors = random.Random(4), 0
        for _ in range(10):
            with viewer(port, close_timeout=0.1) as link:
                for _ in range(1000):
                    link.send(nonsense(rng))
                errors += news(link, "error")[0]["kind"] == "error"
        assert errors == 10 and dataclasses_of(show) == before
        assert news(calm, "picture", lambda facts: facts["n"] > start)[0]["notice"] == ""


def dataclasses_of(show):
    """All that orders change, as values."""
    state = show.desk.state
    return (state.round.number, state.player, state.wounds.dead.tobytes(), state.wounds.lost, state.paused, state.speed,
            state.recording, show.desk.keys(), show.error)  # fmt: skip


def test_a_message_too_large_ends_its_connection_alone(running):
    port, _ = running
    with viewer(port) as calm, viewer(port) as link:
        link.send("x" * 5000)
        with pytest.raises(websockets.exceptions.ConnectionClosed, match="1009"):
            news(link, "never")
        news(calm, "picture")


def test_orders_beyond_the_rate_are_not_obeyed(running):
    port, _ = running
    with viewer(port) as link:
        for _ in range(200):
            link.send('{"do": "heal"}')
        assert news(link, "error")[0]["error"] == "order: too many, allowed 40 a second"


def test_one_viewer_too_many_is_turned_away(players, tmp_path):
    with served(players, tmp_path, "random") as (port, _), ExitStack() as links:
        for _ in range(MOST_VIEWERS):
            last = links.enter_context(viewer(port, close_timeout=0.1))
        with pytest.raises(websockets.exceptions.InvalidStatus, match="403"):
            viewer(port).__enter__()
        last.close()
        until(lambda: can_open(port))


def test_viewers_who_come_and_go_leave_no_trace(running, caplog):
    port, show = running
    for _ in range(20):
        with viewer(port, close_timeout=0.1) as link:
            link.recv(timeout=30)
    assert show.error is None and not caplog.records


def test_a_viewer_who_left_is_told_of_as_one():
    class Closed:
        async def send_bytes(self, message):
            raise RuntimeError("Unexpected ASGI message 'websocket.send', after sending 'websocket.close'.")

    with pytest.raises(WebSocketDisconnect):
        asyncio.run(server_module._send(Closed(), b""))


def can_open(port):
    try:
        with viewer(port) as link:
            return bool(link.recv(timeout=30))
    except (websockets.exceptions.WebSocketException, OSError):
        return False


def test_a_stalled_viewer_holds_up_nobody_and_misses_what_went_by(running):
    port, _ = running
    with viewer(port) as calm:
        stalled = socket.create_connection(("127.0.0.1", port))
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        hello = [
            "GET /live HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            f"Origin: http://127.0.0.1:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ]
        stalled.sendall("".join(f"{line}\r\n" for line in [*hello, ""]).encode())
        first = news(calm, "picture", lambda facts: facts["viewers"] >= 2)[0]["n"]
        assert news(calm, "picture", lambda facts: facts["n"] >= first + 60)[0]["pictures_per_s"] > 0
        stalled.close()


def test_messages_are_made_once_for_all(running):
    show = running[1]
    snapshot, state = show.post.newest, show.desk.state
    assert decode(scene_message(state.round, ("Pong",)))[0]["mesh"]["chips"] == [1, 1]
    teller = Teller(state.round, Palette())
    whole = teller.picture(snapshot, state, 1, True)
    assert teller.picture(snapshot, state, 1, True) is whole
    assert teller.picture(snapshot, state, 2, True) is not whole
    short = teller.picture(snapshot, state, 2, False)
    assert "stack" not in decode(short)[1] and "stack" in decode(whole)[1]


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ScreenError, match=rf"^view=web: 127\.0\.0\.1 port {port} \(.*\), must be a free port"):
            bound(WebSettings("127.0.0.1", port, False, None, False))


def test_a_show_of_so_many_seconds_ends_by_itself_and_reports(players, tmp_path):
    said = []
    report = show_page("Pong", "random", players, RealtimeSettings(0.5, 30, 2),
                       WebSettings("127.0.0.1", 0, False, None, False), tmp_path, said.append)  # fmt: skip
    assert report.pictures == 15 and re.match(r"^page: http://127\.0\.0\.1:\d+/\nCtrl-C ends it$", said[0])


def test_a_browser_opens_where_there_is_a_display_and_is_wanted(players, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(serve_module.webbrowser, "open", opened.append)
    for display, wanted in [(False, True), (True, False), (True, True)]:
        monkeypatch.setattr(serve_module, "has_display", lambda display=display: display)
        show_page("Pong", "random", players, RealtimeSettings(0.2, 30, 2),
                  WebSettings("127.0.0.1", 0, False, None, wanted), tmp_path, lambda text: None)  # fmt: skip
    assert len(opened) == 1 and opened[0].startswith("http://127.0.0.1:")


def started(folder, **how):
    """The command in a process of its own, without a display."""
    write_run(folder / "runs")
    line = [sys.executable, "-m", "deploy.play", "play.view=web", f"root={folder / 'runs'}", "play.player=random",
            "play.realtime.seconds=0"]  # fmt: skip
    env = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return subprocess.Popen(line, cwd=ROOM, env=env, text=True, **how)


def address(lines):
    """(host, port) as it was printed."""
    for line in lines:
        if line.startswith("page: "):
            parts = urlsplit(line.split()[1])
            return parts.hostname, parts.port
    raise AssertionError("no page")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_in_good_order_by_a_signal(tmp_path, number):
    process = started(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    host, port = address(process.stdout)
    with viewer(port) as link:
        news(link, "picture")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "") and "report: " in out
    (report,) = tmp_path.glob("runs/Pong/play/random-*/report.json")
    facts = json.loads(report.read_text())
    assert facts["pictures"] > 0 and facts["settings"]["play"]["web"]["host"] == host


@pytest.mark.slow
def test_the_command_ends_in_good_order_when_its_terminal_closes(tmp_path):
    leader, follower = os.openpty()
    process = started(tmp_path, stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
                      preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))  # fmt: skip
    os.close(follower)
    with os.fdopen(leader, errors="replace") as terminal:
        _, port = address(iter(terminal.readline, ""))
        with viewer(port) as link:
            news(link, "picture")
    assert process.wait(60) == 0, "closing it raised the hang-up"
    (report,) = tmp_path.glob("runs/Pong/play/random-*/report.json")
    assert json.loads(report.read_text())["pictures"] > 0
    with pytest.raises(OSError, match="refused"):
        http.client.HTTPConnection("127.0.0.1", port, timeout=5).connect()

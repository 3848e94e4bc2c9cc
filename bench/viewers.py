"""What viewers cost the arcade's loop: work and lateness, bytes and memory, beside a twin that nobody looks at."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from websockets.asyncio.client import connect

from bench.report import FOLDER, write_report
from deploy.arcade.wire import decode

GAME = "Pong"
APART_S = 1.0  # of memory readings, and of the restless viewer's connections
STALLED_S = 45.0  # the server gives a stalled viewer up after 40 s without an answer; then it comes back
WARM_S = 5.0  # of a show before it is measured by its memory


@dataclass
class Tally:
    """What a viewer got."""

    kind: str
    bytes: int = 0
    messages: int = 0
    connections: int = 0
    first_s: list[float] = field(default_factory=list)  # from the wish to connect to a connection's first picture


@dataclass
class Run:
    """A show in a process of its own."""

    folder: Path
    process: asyncio.subprocess.Process
    started_s: float
    url: str
    page_s: float  # from the command's start until it told its address
    memory: list[int] = field(default_factory=list)  # bytes, every APART_S
    cpu_s: float = 0.0  # processor time while it was measured


async def begin(folder: Path) -> Run:
    """Start a show of the shipped chip; its files go to `folder`."""
    line = ["-m", "deploy.play", f"game={GAME}", f"root={folder}", "play.view=web", "play.realtime.seconds=0"]
    started_s = time.perf_counter()
    process = await asyncio.create_subprocess_exec(sys.executable, *line, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async for told in process.stdout:
        if told.startswith(b"page: "):
            return Run(folder, process, started_s, told.split()[1].decode(), time.perf_counter() - started_s)
    raise RuntimeError("viewers: the show ended before it told its address; run make play VIEW=web to see why")


async def end(run: Run) -> dict[str, Any]:
    """Stop a show as Ctrl-C does; its report."""
    run.process.send_signal(signal.SIGINT)
    await run.process.communicate()
    (path,) = run.folder.glob(f"{GAME}/play/*/report.json")
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def links(run: Run) -> connect:
    """A connection as the page opens one."""
    origin = run.url.rstrip("/")
    return connect(f"{origin.replace('http', 'ws', 1)}/live", origin=origin, max_size=None)  # type: ignore[arg-type]


async def listen(run: Run, tally: Tally, for_s: float) -> None:
    """Take whatever comes for so long."""
    wished_s = time.perf_counter()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(for_s), links(run) as link:
            tally.connections += 1
            first = True
            async for message in link:
                assert isinstance(message, bytes)
                tally.bytes += len(message)
                if first and decode(message)[0]["kind"] == "picture":
                    tally.first_s.append(time.perf_counter() - wished_s)
                    first = False
                tally.messages += 1


async def calm(run: Run, tally: Tally, until_s: float) -> None:
    """Looks on."""
    await listen(run, tally, until_s - time.perf_counter())


async def restless(run: Run, tally: Tally, until_s: float) -> None:
    """Opens the page anew every second."""
    while (left_s := until_s - time.perf_counter()) > 0:
        await listen(run, tally, min(APART_S, left_s))


async def stalled(run: Run, tally: Tally, until_s: float) -> None:
    """Opens the page and never reads on."""
    host, port = run.url.split("/")[2].rsplit(":", 1)
    page = run.url.rstrip("/")
    hello = [
        "GET /live HTTP/1.1",
        f"Host: {host}:{port}",
        f"Origin: {page}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ]
    while (left_s := until_s - time.perf_counter()) > 0:
        with socket.create_connection((host, int(port))) as deaf:
            deaf.sendall("".join(f"{line}\r\n" for line in [*hello, ""]).encode())
            tally.connections += 1
            await asyncio.sleep(min(STALLED_S, left_s))


KINDS: dict[str, Callable[[Run, Tally, float], Awaitable[None]]] = {
    "calm": calm,
    "stalled": stalled,
    "restless": restless,
}
CASES = (("calm",), ("calm", "calm", "calm", "stalled", "restless"))


async def remember(run: Run, until_s: float) -> None:
    """Read the show's memory every second, and what processor time it took until then."""
    before_s = spent(run.process.pid)
    while time.perf_counter() < until_s:
        run.memory.append(resident(run.process.pid))
        await asyncio.sleep(APART_S)
    run.cpu_s = spent(run.process.pid) - before_s


def spent(process: int) -> float:
    """Seconds of processor time that a process took so far; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(process: int) -> int:
    """Bytes that a process holds in memory; 0 where the system does not say."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


async def tick(progress: Progress, seconds: float, what: str) -> None:
    """Move the bar of a run."""
    bar = progress.add_task(what, total=seconds)
    for _ in range(int(seconds)):
        await asyncio.sleep(1)
        progress.advance(bar)


async def measure_start(scratch: Path) -> dict[str, float]:
    """Seconds from the command to its address and to the first picture at a viewer."""
    run = await begin(scratch / "start")
    async with links(run) as link:
        async for message in link:
            assert isinstance(message, bytes)
            if decode(message)[0]["kind"] == "picture":
                break
    seen_s = time.perf_counter() - run.started_s
    await end(run)
    return {"address_s": run.page_s, "first_picture_s": seen_s}


async def measure(kinds: tuple[str, ...], seconds: float, scratch: Path, progress: Progress) -> list[dict[str, Any]]:
    """A show with these viewers and, over the same time, a twin without any: both meet the same other programs."""
    folders = (scratch / f"{len(kinds)}-twin", scratch / f"{len(kinds)}")
    twin, own = await asyncio.gather(*(begin(folder) for folder in folders))
    until_s = time.perf_counter() + seconds
    tallies = [Tally(kind) for kind in kinds]
    jobs = [KINDS[tally.kind](own, tally, until_s) for tally in tallies]
    watch = [remember(run, until_s) for run in (twin, own)]
    await asyncio.gather(*jobs, *watch, tick(progress, seconds, f"{len(kinds)} viewers"))
    reports = await asyncio.gather(end(twin), end(own))
    what = f"beside {', '.join(kinds)}"
    return [
        row_of(twin, reports[0], f"none, {what}", [], seconds),
        row_of(own, reports[1], ", ".join(kinds), tallies, seconds),
    ]


def row_of(run: Run, report: dict[str, Any], what: str, tallies: list[Tally], seconds: float) -> dict[str, Any]:
    """One show: its pace in ms, its memory in MB, and each viewer."""
    ms = {f"work_{name}_ms": 1000 * report[f"work_{name}_s"] for name in ("p50", "p99", "max")}
    memory = [size / 1e6 for size in run.memory[int(WARM_S) :] or run.memory]
    tenth = max(1, len(memory) // 10)
    return {
        "viewers": what,
        **{name: report[name] for name in ("pictures", "late", "pictures_per_s")},
        **ms,
        "cpu_ms": 1000 * run.cpu_s / (seconds * report["pictures_per_s"]),  # of all threads, a picture
        "memory_first_mb": statistics.median(memory[:tenth]),  # medians of the first and the last tenth
        "memory_last_mb": statistics.median(memory[-tenth:]),
        "memory_mb": memory,
        "each": [seen(tally, seconds) for tally in tallies],
    }


def seen(tally: Tally, seconds: float) -> dict[str, Any]:
    """What one viewer got."""
    firsts = {"first_picture_p50_s": statistics.median(tally.first_s)} if tally.first_s else {}
    return {
        "kind": tally.kind,
        "bytes_a_s": tally.bytes / seconds,
        "messages_a_s": tally.messages / seconds,
        "connections": tally.connections,
        **firsts,
    }


def tables(rows: list[dict[str, Any]], start: dict[str, float]) -> list[Table | str]:
    """The report for people."""
    shows = Table(
        "viewers",
        "pictures",
        "late",
        "p50 ms",
        "p99 ms",
        "max ms",
        "processor ms",
        "memory MB",
        title="work of 33.3 ms allowed",
    )
    viewers = Table("viewer", "of", "kB a second", "messages a second", "connections", "first picture s")
    for row in rows:
        work = (f"{row[f'work_{name}_ms']:.2f}" for name in ("p50", "p99", "max"))
        memory = f"{row['memory_first_mb']:.0f} to {row['memory_last_mb']:.0f}"
        shows.add_row(row["viewers"], f"{row['pictures']:,}", f"{row['late']:,}", *work, f"{row['cpu_ms']:.2f}", memory)
        for one in row["each"]:
            first = f"{one['first_picture_p50_s']:.2f}" if "first_picture_p50_s" in one else ""
            rates = (f"{one['bytes_a_s'] / 1000:.1f}", f"{one['messages_a_s']:.1f}")
            viewers.add_row(one["kind"], f"{len(row['each'])}", *rates, f"{one['connections']:,}", first)
    told = f"address after {start['address_s']:.1f} s, first picture at a viewer after {start['first_picture_s']:.1f} s"
    return [shows, viewers, told]


async def run_all(
    seconds: list[float], scratch: Path, progress: Progress
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """The start alone, then each case for its seconds."""
    start, rows = await measure_start(scratch), []
    for kinds, for_s in zip(CASES, seconds, strict=True):
        rows += await measure(kinds, for_s, scratch, progress)
    return start, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, nargs=2, default=[120.0, 600.0], help="with one viewer, with five")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    own = parser.parse_args()
    console = Console()
    with (
        tempfile.TemporaryDirectory() as scratch,
        Progress(console=console, disable=not console.is_terminal) as progress,
    ):
        start, rows = asyncio.run(run_all(own.seconds, Path(scratch), progress))
    extra = {"game": GAME, "seconds": own.seconds, "limit_ms": 1000 / 30, "start": start}
    path = write_report("viewers", rows, extra, own.folder)
    console.print(*tables(rows, start), f"written to {path}", sep="\n")


if __name__ == "__main__":
    main()

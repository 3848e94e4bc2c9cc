"""The board: a metric is named once and goes to TensorBoard, to metrics.jsonl and to the console."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from rl.files import FormatError, write_whole
from rl.frames import Frames
from rl.gif import gif

# Charts by category and title: "Multiline" with tags as regular expressions, "Margin" with value, low and high.
Charts = Mapping[str, Mapping[str, list[Any]]]
BY_WALL = "by_wall_s"
SCORES = ("rollout/ep_score_mean", "eval/mean_reward", "eval/low", "eval/high")  # kept against wall-clock too
RATE_S = 300.0  # of the past that says how fast it goes: an evaluation or two
BAR, LEAST_BAR = 24, 4  # characters


class Board:
    """One run's metrics. x is emulator frames for training, and counts what the tag says elsewhere.

    Scores are told a second time under `by_wall_s/`, where x is the run's own seconds of work: TensorBoard's relative
    time would count the pauses between sittings. They are a run of their own, a folder below, since what a resumed
    run drops is told to TensorBoard by x, and frames are not seconds.
    """

    def __init__(self, folder: Path, resume_at: int | None = None) -> None:
        """`resume_at`: where a resumed run goes on; what a lost one left beyond is dropped.

        Where that is by wall-clock, to a second, is read from the lines that are kept.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._wall_purge = folder, None
        if resume_at is not None:
            self._wall_purge = 1 + _forget(folder / "metrics.jsonl", resume_at)
        # Before TensorBoard's writer: where a folder can't be written, its thread would tell so beside the one error.
        self._lines = (folder / "metrics.jsonl").open("a")
        self._writer = _writer(folder, None if resume_at is None else resume_at + 1)
        self._wall_writer: SummaryWriter | None = None  # made when a wall-clock is first told

    def write(self, at: int, metrics: Mapping[str, float], wall_s: float | None = None) -> None:
        """Record metrics by tag at x = `at`, scores at `wall_s` too; one that is not yet known (NaN) is left out."""
        known = {tag: value for tag, value in metrics.items() if math.isfinite(value)}
        for tag, value in known.items():
            self._writer.add_scalar(tag, value, at)
        when = {} if wall_s is None else {"wall_s": wall_s}
        if wall_s is not None:
            self._write_by_wall(int(wall_s), known)
        self._lines.write(json.dumps({"at": at, **when, **known}) + "\n")
        self._lines.flush()

    def _write_by_wall(self, second: int, known: Mapping[str, float]) -> None:
        if self._wall_writer is None:
            self._wall_writer = _writer(self._folder / BY_WALL, self._wall_purge)
        for tag in SCORES:
            if tag in known:
                self._wall_writer.add_scalar(f"{BY_WALL}/{tag}", known[tag], second)

    def text(self, tag: str, text: str) -> None:
        self._writer.add_text(tag, text)

    def charts(self, layout: Charts) -> None:
        """What TensorBoard's page of custom scalars shows, of this run and all others."""
        self._writer.add_custom_scalars(layout)

    def clip(self, at: int, tag: str, pictures: Frames, period_s: float) -> None:
        """Pictures [T, H, W, 3] that move, among TensorBoard's images. (The writer's own add_video needs moviepy.)"""
        height, width = pictures.shape[1:3]
        moving = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif(pictures, period_s))
        events = self._writer.file_writer
        assert events is not None, "the board is closed"
        events.add_summary(Summary(value=[Summary.Value(tag=tag, image=moving)]), at)

    def image(self, at: int, tag: str, picture: Frames) -> None:
        """A still picture [H, W, 3]."""
        self._writer.add_image(tag, picture, at, dataformats="HWC")

    def trial(self, name: str, values: Mapping[str, str | float], found: Mapping[str, float]) -> None:
        """A row of TensorBoard's table of hyper-parameters: their values and what came of them, in a run `name`."""
        self._writer.add_hparams(dict(values), dict(found), run_name=name)

    def flush(self) -> None:
        """All that was told is on disk."""
        for writer in self._writers():
            writer.flush()

    def _writers(self) -> list[SummaryWriter]:
        return [writer for writer in (self._writer, self._wall_writer) if writer is not None]

    def __enter__(self) -> Board:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for writer in self._writers():
            writer.close()
        self._lines.close()


def _writer(folder: Path, purge: int | None) -> SummaryWriter:
    return SummaryWriter(str(folder), purge_step=purge)


def _forget(path: Path, resume_at: int) -> int:
    """Drop the lines beyond `resume_at`, and the last one where a kill has cut it; the last second kept, -1 if none."""
    if not path.exists():
        return -1
    lines = enumerate(path.read_bytes().splitlines(), 1)
    told = [(line, _facts(line, f"{path}: line {number}")) for number, line in lines if line.endswith(b"}")]
    kept = [(line, facts) for line, facts in told if facts["at"] <= resume_at]
    write_whole(path, b"".join(line + b"\n" for line, _ in kept))
    return max((int(facts["wall_s"]) for _, facts in kept if "wall_s" in facts), default=-1)


def _facts(line: bytes, where: str) -> dict[str, float]:
    """A line of metrics by tag; raises FormatError."""
    with suppress(ValueError):
        facts = json.loads(line)
        if isinstance(facts, dict) and isinstance(facts.get("at"), int):
            return facts
    raise FormatError(f"{where}: found {line[:40]!r}, must be a JSON object with a whole number `at`; remove that line")


class Ticker:
    """A progress line: a bar redrawn in place on a terminal, one plain line a minute elsewhere."""

    def __init__(self, total: float, began_at: float = 0, quiet_s: float = 60.0, unit: str = "") -> None:
        """`total` and `began_at` in whatever unit `show` is called with; with its name, the speed is told too."""
        self._total, self._unit = total, unit
        self._console = Console(highlight=False)
        self._live = sys.stdout.isatty() and not self._console.is_dumb_terminal
        self._every_s = 0.25 if self._live else quiet_s
        self._shown_s = -1e9
        self._drawn = False  # an open line is on the terminal
        self._past = deque([(time.monotonic(), began_at)])

    def show(self, done: float, text: str) -> None:
        """Show progress, not too often: share done, `text`, speed, time left."""
        now = time.monotonic()
        over = self._live and done >= self._total  # the last one stays to be read
        if now - self._shown_s < self._every_s and not over:
            return
        self._shown_s = now
        rate = self._rate(now, done)
        left = "unknown" if rate <= 0 and done < self._total else _clock((self._total - done) / max(rate, 1e-9))
        words = [text, f"{rate:,.0f} {self._unit}/s"] if self._unit else [text]
        self._draw(done, "  ".join([*words, f"left {left}"]))
        if over:
            self.close()

    def _rate(self, now: float, done: float) -> float:
        """A second, over the last minutes: a run that was fast before it learned is not fast now."""
        while len(self._past) > 1 and now - self._past[0][0] > RATE_S:
            self._past.popleft()
        self._past.append((now, done))
        since_s, since = self._past[0]
        return (done - since) / max(now - since_s, 1e-9)

    def _draw(self, done: float, text: str) -> None:
        share = f"{done / self._total:6.1%}"
        if not self._live:
            print(f"{share}  {text}", flush=True)
            return
        # Drawn by hand and not by rich's Progress: that one hides the cursor until it is closed, and needs a thread.
        line, room = Table.grid(padding=(0, 1)), self._console.width - len(share) - len(text) - 2
        bar = [ProgressBar(self._total, done, width=min(BAR, room))] if room >= LEAST_BAR else []  # words come first
        line.add_row(*bar, share, Text(text, no_wrap=True, overflow="ellipsis"))
        with self._console.capture() as drawn:
            self._console.print(line)
        print(f"\r\x1b[2K{drawn.get().rstrip()}", end="", flush=True)
        self._drawn = True

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._live:
            print("\r\x1b[2K", end="")
            self._drawn, self._shown_s = False, -1e9  # and the bar is back at once
        self._console.print(text, markup=False)

    def close(self) -> None:
        """Whatever is printed next begins a line of its own."""
        if self._drawn:
            print(flush=True)
        self._drawn = False

    def __enter__(self) -> Ticker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"

"""The board: a metric is named once and goes to TensorBoard, to metrics.jsonl and to the console."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from rl.files import write_whole


class Board:
    """One run's metrics. x is emulator frames for training, and counts what the tag says elsewhere."""

    def __init__(self, folder: Path, resume_at: int | None = None) -> None:
        """`resume_at`: where a resumed run goes on; what a lost one left beyond is dropped."""
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = SummaryWriter(str(folder), purge_step=None if resume_at is None else resume_at + 1)
        if resume_at is not None:
            _forget(folder / "metrics.jsonl", resume_at)
        self._lines = (folder / "metrics.jsonl").open("a")

    def write(self, at: int, metrics: Mapping[str, float]) -> None:
        """Record metrics by tag at x = `at`; one that is not yet known (NaN) is left out."""
        known = {tag: value for tag, value in metrics.items() if math.isfinite(value)}
        for tag, value in known.items():
            self._writer.add_scalar(tag, value, at)
        self._lines.write(json.dumps({"at": at, **known}) + "\n")
        self._lines.flush()

    def text(self, tag: str, text: str) -> None:
        self._writer.add_text(tag, text)

    def flush(self) -> None:
        self._writer.flush()

    def __enter__(self) -> Board:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.close()
        self._lines.close()


def _forget(path: Path, resume_at: int) -> None:
    """Drop the lines beyond `resume_at`, and the last one where a kill has cut it."""
    if path.exists():
        whole = [line for line in path.read_text().splitlines() if line.endswith("}")]
        kept = [line + "\n" for line in whole if json.loads(line)["at"] <= resume_at]
        write_whole(path, "".join(kept).encode())


class Ticker:
    """A progress line: redrawn in place on a terminal, one line a minute elsewhere."""

    def __init__(self, total: float, began_at: float = 0, quiet_s: float = 60.0) -> None:
        """`total` and `began_at` in whatever unit `show` is called with."""
        self._total, self._began_at, self._start_s = total, began_at, time.monotonic()
        self._live = sys.stdout.isatty()
        self._every_s = 0.25 if self._live else quiet_s
        self._shown_s = -1e9
        self._console = Console(highlight=False)

    def show(self, done: float, text: str) -> None:
        """Show progress, not too often: share done, `text`, time left."""
        now = time.monotonic()
        if now - self._shown_s < self._every_s:
            return
        self._shown_s = now
        rate = (done - self._began_at) / max(now - self._start_s, 1e-9)
        left_s = (self._total - done) / rate if rate > 0 else 0.0
        line = f"{done / self._total:6.1%}  {text}  left {_clock(left_s)}"
        print(f"\r\x1b[2K{line}" if self._live else line, end="" if self._live else "\n", flush=True)

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._live:
            print("\r\x1b[2K", end="")
        self._console.print(text, markup=False)


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"

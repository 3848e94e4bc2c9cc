"""Work per picture and late pictures of real-time play by the chip, without a screen and with a video."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.chips import GAME, measured_chip
from bench.report import FOLDER, write_report
from deploy.pacer import Pacer
from deploy.players import ChipPlayer
from deploy.realtime import PlayReport, RealtimeSettings, play_realtime
from deploy.screens import NoScreen, Screen
from deploy.video import VideoScreen
from rl.games import EnvSettings, ScalarGame

FRAMES_PER_STEP = {"a decision every second picture": 4, "a decision every picture": 2}


def played(player: ChipPlayer, screen: Screen, frames_per_step: int, seconds: float) -> PlayReport:
    """One run in real time."""
    game = ScalarGame(GAME, EnvSettings(frames_per_step, 0.0, 30, False, 108_000), seed=1)
    own = RealtimeSettings(seconds, 30, 2)
    pacer = Pacer(own.period_s, time.perf_counter, time.sleep)
    try:
        return play_realtime(game, player, screen, pacer, own, lambda: True)
    finally:
        screen.close()


def row_of(what: str, report: PlayReport, dropped: int) -> dict[str, Any]:
    """A run in milliseconds."""
    ms = {name: 1000 * getattr(report, f"work_{name}_s") for name in ("p50", "p99", "max")}
    counts = {"pictures": report.pictures, "late": report.late, "video_dropped": dropped}
    return {"what": what, **{f"work_{name}_ms": value for name, value in ms.items()}, **counts}


def measure(player: ChipPlayer, seconds: float, scratch: Path) -> list[dict[str, Any]]:
    """Both screens at both rates of decision."""
    rows = []
    for words, frames_per_step in FRAMES_PER_STEP.items():
        rows.append(row_of(f"no screen, {words}", played(player, NoScreen(), frames_per_step, seconds), 0))
        video = VideoScreen(scratch / f"{frames_per_step}.mp4")
        report = played(player, video, frames_per_step, seconds)
        rows.append(row_of(f"video, {words}", report, video.dropped))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run")
    parser.add_argument("--root", default="runs")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    own = parser.parse_args()
    spec, compiled, which = measured_chip(own.root)
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure(ChipPlayer(spec, compiled, GAME), own.seconds, Path(scratch))
    extra = {"chip": which, "graph": compiled.digest, "seconds": own.seconds, "limit_ms": 1000 / 30}
    path = write_report("loop", rows, extra, own.folder)
    table = Table("what", "p50 ms", "p99 ms", "max ms", "pictures", "late", title=f"{which}: work of 33.3 ms allowed")
    for row in rows:
        spent = (f"{row[f'work_{name}_ms']:.2f}" for name in ("p50", "p99", "max"))
        table.add_row(row["what"], *spent, f"{row['pictures']:,}", f"{row['late']:,}")
    Console().print(table, f"written to {path}")


if __name__ == "__main__":
    main()

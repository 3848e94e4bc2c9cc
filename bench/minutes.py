"""How long a game takes from nothing: the training command with schedules drawn together, until thirty scored episodes.

Run it on a machine that does nothing else: it is wall-clock that is asked for.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.ablation import carry_out
from bench.report import FOLDER, write_report


@dataclass(frozen=True)
class Sprint:
    """A training of so many frames and the mean score that it is to reach."""

    game: str = "Pong"
    goal: float = 18.0
    frames: int = 1_800_000

    def overrides(self) -> tuple[str, ...]:
        """Schedules that end with the run; nothing but the last policy is scored, by thirty episodes."""
        return (
            f"game={self.game}",
            f"teacher.train_frames={self.frames}",
            f"teacher.rate_decay_frames={self.frames}",
            f"teacher.epsilon_decay_frames={self.frames // 6}",
            f"teacher.eval_frames={self.frames}",
            "teacher.eval_episodes=1",
            "teacher.confirm_episodes=0",
            "teacher.stop_score=null",
            "teacher.report_episodes=30",
        )


def ran(sprint: Sprint, seed: int, folder: Path, more: Sequence[str]) -> dict[str, Any]:
    """One training from nothing; what was in the folder is removed."""
    root = folder / f"{sprint.game}-{seed}"
    shutil.rmtree(root, ignore_errors=True)
    own = root / sprint.game / "teacher"
    settings = (f"root={root}", f"teacher.seed={seed}", *sprint.overrides(), *more)
    began = time.monotonic()
    carry_out([sys.executable, "-m", "rl.train", *settings], own)
    minutes = (time.monotonic() - began) / 60
    report = json.loads((own / "report.json").read_text())
    score = {key: report["score"][key] for key in ("mean", "low", "high")}
    return {"seed": seed, "frames": report["frames"], "minutes": minutes, **score}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--game", default=Sprint.game)
    parser.add_argument("--goal", type=float, default=Sprint.goal)
    parser.add_argument("--frames", type=int, default=Sprint.frames)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("settings", nargs="*", help="a.b=c, as on the training command")
    own = parser.parse_args(arguments)
    sprint = Sprint(own.game, own.goal, own.frames)
    rows = [ran(sprint, seed, own.folder / "minutes", own.settings) for seed in own.seeds]
    path = write_report("minutes", rows, {"game": own.game, "goal": own.goal, "settings": own.settings}, own.folder)
    table = Table("seed", "frames", "minutes", "mean of 30", "95 % interval", "goal", title=f"{own.game} from nothing")
    for row in rows:
        arrived = "reached" if row["mean"] >= own.goal else f"{own.goal - row['mean']:.1f} short"
        score = (f"{row['mean']:.2f}", f"{row['low']:.2f} .. {row['high']:.2f}")
        table.add_row(str(row["seed"]), f"{row['frames']:,}", f"{row['minutes']:.1f}", *score, arrived)
    Console().print(table, f"written to {path}")


if __name__ == "__main__":
    main()

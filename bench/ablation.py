"""What each part of the teacher's recipe is worth: the same short training with one thing changed, on several games.

A run is the command itself, in a process of its own; runs that are done are kept, runs that were stopped go on. Cost is
processor time, which other programs on the machine do not change as they change wall-clock.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.limits import processors
from bench.report import FOLDER, write_report
from rl.files import write_json

# Each changes one thing of the first; what is not named is as conf/teacher.yaml has it.
VARIANTS: dict[str, tuple[str, ...]] = {
    "default": (),
    "1 sample": ("teacher.updates_per_step=1",),
    "4 samples": ("teacher.agent.batch=64",),
    "8 samples": ("teacher.agent.batch=128",),
    "one update of 64": ("teacher.updates_per_step=1", "teacher.agent.batch=64"),
    "rate 2.5e-4": ("teacher.agent.learning_rate=2.5e-4",),
    "rate 1e-3": ("teacher.agent.learning_rate=1e-3",),
    "evenly": ("teacher.agent.prioritised=false",),
    "mean alone": ("teacher.agent.quantiles=1",),
    "not dueling": ("teacher.agent.dueling=false",),
    "advantage 0": ("teacher.agent.advantage=0",),
    "n=1": ("teacher.agent.n_steps=1",),
    "n=3": ("teacher.agent.n_steps=3",),
    "n=10": ("teacher.agent.n_steps=10",),
    "target 50": ("teacher.agent.target_updates=50",),
    "target 1000": ("teacher.agent.target_updates=1000",),
    "full width": ("teacher.network.channels=[32,64,64]",),
    "full width, 4 samples": ("teacher.network.channels=[32,64,64]", "teacher.agent.batch=64"),
    "a third of the width": ("teacher.network.channels=[16,32,32]", "teacher.network.hidden=256"),
    "pqn": ("teacher.algo=pqn",),
    "pqn, full width": ("teacher.algo=pqn", "teacher.network.channels=[32,64,64]"),
    "16 envs": ("teacher.envs=16", "teacher.updates_per_step=1"),
    "64 envs": ("teacher.envs=64", "teacher.agent.batch=64"),
}
GAMES = ("Breakout", "Qbert", "SpaceInvaders")


@dataclass(frozen=True)
class Budget:
    """How long a run is, in frames."""

    frames: int = 1_000_000

    def overrides(self) -> tuple[str, ...]:
        """Schedules drawn together to the run's length."""
        return (
            f"teacher.train_frames={self.frames}",
            f"teacher.epsilon_decay_frames={self.frames // 4}",
            f"teacher.rate_decay_frames={self.frames}",
            f"teacher.eval_frames={10 * self.frames}",  # the end alone is scored
            "teacher.stop_score=null",
            "teacher.learner_threads=1",  # cores are shared between runs
        )


@dataclass(frozen=True)
class Run:
    """One training."""

    variant: str
    game: str
    seed: int
    root: Path  # of all runs

    @property
    def own(self) -> Path:
        """The run's own root."""
        name = "-".join(self.variant.replace("=", " ").replace(",", " ").split())
        return self.root / f"{name}-{self.seed}"

    @property
    def folder(self) -> Path:
        return self.own / self.game / "teacher"

    def command(self, budget: Budget) -> list[str]:
        own = (f"game={self.game}", f"root={self.own}", f"teacher.seed={self.seed}")
        return [sys.executable, "-m", "rl.train", *own, *budget.overrides(), *VARIANTS[self.variant]]


def train(run: Run, budget: Budget) -> None:
    """Run it to its end, unless it is there."""
    if not (run.folder / "report.json").exists():
        carry_out(run.command(budget), run.folder)


def carry_out(command: list[str], folder: Path) -> None:
    """Run a command that can be stopped and gone on with; `cost.json` adds up the processor time of every part.

    Raises RuntimeError where it fails; what it printed is in `log.txt`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cost = folder / "cost.json"
    before = json.loads(cost.read_text())["cpu_s"] if cost.exists() else 0.0
    with (folder / "log.txt").open("a") as log:
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    write_json(cost, {"cpu_s": before + used.ru_utime + used.ru_stime})
    if child.returncode:
        raise RuntimeError(f"{folder}: ended with status {child.returncode}; see log.txt there")


def curve(run: Run) -> list[tuple[int, float]]:
    """(frames, mean raw return of the last episodes) along the training."""
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["at"], line["rollout/ep_score_mean"]) for line in lines if "rollout/ep_score_mean" in line]


def result(run: Run) -> dict[str, Any]:
    """A finished run as a row."""
    report = json.loads((run.folder / "report.json").read_text())
    score = report["score"]
    return {
        "variant": run.variant,
        "game": run.game,
        "seed": run.seed,
        "score": score["mean"],
        "episodes": len(score["returns"]),
        "training_score": fmean(value for _, value in curve(run)[-5:]),
        "cpu_s": json.loads((run.folder / "cost.json").read_text())["cpu_s"],
        "wall_s": report["wall_s"],
        "frames": report["frames"],
        "curve": curve(run),
    }


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """A line a variant: for each game the mean over seeds of evaluation and of training score, and the cost."""
    games = sorted({row["game"] for row in rows})
    heads = [f"{game}, evaluated / training" for game in games]
    shown = Table("variant", *heads, "processor minutes a run", "seeds")
    for variant in VARIANTS:
        own = [row for row in rows if row["variant"] == variant]
        if not own:
            continue
        cells = [_cell([row for row in own if row["game"] == game]) for game in games]
        minutes = fmean(row["cpu_s"] for row in own) / 60
        shown.add_row(variant, *cells, f"{minutes:.1f}", str(len({row["seed"] for row in own})))
    return shown


def _cell(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return ""
    return f"{fmean(row['score'] for row in rows):.1f} / {fmean(row['training_score'] for row in rows):.1f}"


def finished(runs: Iterable[Run]) -> list[dict[str, Any]]:
    return [result(run) for run in runs if (run.folder / "report.json").exists()]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--games", nargs="+", default=list(GAMES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--frames", type=int, default=Budget.frames)
    parser.add_argument("--jobs", type=int, default=processors(), help="runs at once")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    own = parser.parse_args(arguments)
    root, budget = own.folder / f"ablation-{own.frames}", Budget(own.frames)
    runs = [Run(*what, root) for what in itertools.product(own.variants, own.games, own.seeds)]
    with ThreadPoolExecutor(own.jobs) as pool:
        list(pool.map(lambda run: train(run, budget), runs))
    every = [Run(*what, root) for what in itertools.product(VARIANTS, own.games, own.seeds)]
    rows = finished(every)
    path = write_report("ablation", rows, {"frames": own.frames}, own.folder)
    Console().print(table(rows), f"written to {path}")


if __name__ == "__main__":
    main()

"""How fast a student learns: samples a second by preset, beside the matrix products that this machine can do at most.

An update on pictures that are there already, and, where a game's teacher was recorded, the whole of it, lessons drawn
and the student's own play labelled: while every level learns, and once the first ones stand still. By turns, so that
what else runs on the machine meets all alike.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from bench.emulator import summary
from bench.limits import processors
from bench.report import FOLDER, write_report
from bench.teacher import products
from deploy.spec import Head
from distill.distiller import WARM, Distiller
from distill.learner import Goal, Learner, imitation
from distill.memo import Remembering
from distill.settings import DistillRun
from distill.sources import Lesson
from distill.student import Student
from rl.command import CONF, settings
from rl.frames import CELLS, CHANNELS

PRESETS = ("slim", "middle", "short", "half", "full")
FEW = 3  # updates that load what is compiled, untimed
PASSES = 3  # that a sample costs: forward, and for the gradients of weights and inputs each as much again
KINDS = {"with lessons and play": False, "with still levels": True}  # of whole updates: whether levels stand still
ACTIONS = ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE")


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    runs: int = 3
    updates: int = 20  # timed in each run


def run_of(preset: str, game: str, root: str) -> DistillRun:
    """A distillation as it is set, of that student."""
    with initialize_config_dir(str(CONF), version_base=None):
        tree = compose("distill", [f"games=[{game}]", f"student={preset}", f"root={root}"])
    return settings(DistillRun, OmegaConf.to_container(tree, resolve=True))  # type: ignore[arg-type]


def multiply_adds(student: Student) -> int:
    """Of one picture's forward pass."""
    weights = [student.front.hidden.numel() * student.history, *(own.hidden.numel() for own in student.chip_layers)]
    return sum(height * width * own for (height, width), own in zip(student.maps(), weights, strict=True))


def made(config: DistillRun) -> Learner:
    """A student of one game that has learned nothing."""
    own = config.distill
    student = Student(config.student, (Head("Game", ACTIONS, 0),))
    return Learner(student, own.learning_rate, own.threads, own.bf16)


def updates_a_second(step: Callable[[], Any], updates: int) -> float:
    """Of so many in a row, what is compiled being loaded."""
    start = time.perf_counter()
    for _ in range(updates):
        step()
    return updates / (time.perf_counter() - start)


def alone(config: DistillRun, updates: int) -> float:
    """Samples a second of updates on one random batch."""
    own, learner = config.distill, made(config)
    cells = torch.randint(256, (own.batch, CELLS, CELLS, CHANNELS), dtype=torch.uint8)
    lesson, goal = Lesson(cells, torch.randn(own.batch, len(ACTIONS))), Goal(imitation("kl", 1.0), own.learning_rate, 0)

    def step() -> None:
        learner.finish(learner.begin([lesson], goal), goal)

    for _ in range(FEW):
        step()
    return own.batch * updates_a_second(step, updates)


def whole(config: DistillRun, updates: int, still: bool) -> float:
    """Samples a second of whole steps once the student plays: from where its first levels stand still on, or before."""
    own = replace(config.distill, online_start_updates=0, still_updates=0)
    # As much less is remembered as there are fewer updates: an equal share of what is drawn is then new.
    most = math.ceil(own.still_decisions * updates / max(1, own.updates - config.distill.still_updates))
    own = replace(own, still_levels=own.still_levels if still else 0, still_decisions=most)
    distiller = Distiller(replace(config, distill=own))
    try:
        for _ in range(WARM + FEW):  # until it learns from its own play, too
            distiller.step()
        forget(distiller)
        return own.batch * updates_a_second(distiller.step, updates)
    finally:
        distiller.close()


def forget(distiller: Distiller) -> None:
    """Of what is recorded still levels have seen nothing, as when they have just come to stand."""
    for recorded, _ in distiller._memory:
        assert isinstance(recorded, Remembering)
        recorded.forget()


def measure(
    presets: Sequence[str], game: str, root: str, effort: Effort
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Every row by turns; what else the report says."""
    configs = {preset: run_of(preset, game, root) for preset in presets}
    recorded = (Path(root) / game / "rollouts" / "manifest.json").exists()
    turns: dict[tuple[str, str], Callable[[], float]] = {}
    for preset, config in configs.items():
        turns[f"{preset}, updates", "samples/s"] = partial(alone, config, effort.updates)
        if recorded:
            for kind, still in KINDS.items():
                turns[f"{preset}, {kind}", "samples/s"] = partial(whole, config, effort.updates, still)
    turns["limit: bf16 products", "10^9 MAC/s"] = partial(products, torch.bfloat16, processors())
    values: dict[tuple[str, str], list[float]] = {key: [] for key in turns}
    for _ in range(effort.runs):
        for key, turn in turns.items():
            values[key].append(turn())
    rows = [summary(*key, seen) for key, seen in values.items()]
    return rows, {"presets": {preset: told(preset, config, rows) for preset, config in configs.items()}}


def told(preset: str, config: DistillRun, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What the medians say of one preset."""
    medians = {row["what"]: row["median"] for row in rows}
    own, own_macs, fastest = config.distill, multiply_adds(made(config).student), medians[f"{preset}, updates"]
    whole, still = (medians.get(f"{preset}, {kind}", fastest) for kind in KINDS)
    moving = min(own.still_updates, own.updates) if own.still_levels else own.updates
    return {
        "multiply_adds": own_macs,
        "share_of_limit": fastest * PASSES * own_macs / 1e9 / medians["limit: bf16 products"],
        "minutes_for_the_budget": (moving / whole + (own.updates - moving) / still) * own.batch / 60,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presets", nargs="+", default=list(PRESETS))
    parser.add_argument("--game", default="Pong")
    parser.add_argument("--root", default="runs", help="where the game's dataset is, if it was recorded")
    parser.add_argument("--runs", type=int, default=Effort.runs)
    parser.add_argument("--updates", type=int, default=Effort.updates)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    own = parser.parse_args(arguments)
    rows, extra = measure(own.presets, own.game, own.root, Effort(own.runs, own.updates))
    path = write_report("distill", rows, extra, own.folder)
    table = Table("what", "median", "low", "high", "unit", title=f"students, {os.cpu_count()} processors")
    for row in rows:
        table.add_row(row["what"], *(f"{row[key]:,.0f}" for key in ("median", "low", "high")), row["unit"])
    shown = Table("preset", "10^6 MAC a picture", "share of the limit", "minutes for its updates")
    for preset, facts in extra["presets"].items():
        numbers = facts["multiply_adds"] / 1e6, facts["share_of_limit"], facts["minutes_for_the_budget"]
        shown.add_row(preset, f"{numbers[0]:.1f}", f"{numbers[1]:.3f}", f"{numbers[2]:.1f}")
    Console().print(table, shown, f"written to {path}")


if __name__ == "__main__":
    main()

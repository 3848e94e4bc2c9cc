"""Settings of a distillation, and what they make of an update's number: learning rate, temperature."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from distill.student import StudentSettings
from rl.games import EnvSettings
from rl.settings import need
from rl.stacks import STACK
from rl.stages import label

MODES = ("offline", "online", "both")
UNITS = ("spread", "value")
SCHEDULES = ("cosine", "steps", "constant")
FALLS = (0.8, 0.9)  # of the updates, where the schedule `steps` divides by ten (Amir et al. 2017: 200 and 225 of 250)
ROUNDING = 1e-9  # 12 rows by 1.5 of 1.8 are ten, in floats a little less


@dataclass(frozen=True)
class DistillSettings:
    """A distillation; see conf/distill.yaml."""

    seed: int
    start: tuple[str, ...]  # files of folded students that learning goes on from, one a tower; none: from nothing
    mode: str  # offline: the dataset. online: the student acts, the teacher labels. both: half and half
    loss: str
    unit: str  # of temperatures and of squared errors. spread: of that teacher's values. value: points
    temperature: float  # of the teacher's side, at the end
    temperature_start: float
    cool_updates: int  # from one to the other
    updates: int
    batch: int
    shares: tuple[float, ...]  # of each update, by game; none: every game as much
    learning_rate: float  # of the hidden weights
    schedule: str
    warmup_updates: int
    still_levels: int  # the first so many, the front among them, learn no more
    still_updates: int  # from this update on
    still_decisions: int  # recorded ones that are learnt from then on, each shown once to those levels; 0: no memory
    hysteresis: float  # h: a weight keeps its value between 1/2 - h and 1/2 + h
    readouts: float  # weight of each level's own readout beside the votes, at the start; it falls to 0 as labels cool
    hints: float  # weight of what a readout says of the teacher's hidden units, beside that of its own answers; 0: none
    hint_axes: int  # along so many of their main axes
    surrogate_width: float  # where the triangle that stands for the step's gradient ends, in deviations
    shift: int  # pixels by which pictures are moved at random, at most
    decisions: int  # of each dataset that are used; 0: all
    envs: int
    online_rows: int
    online_start_updates: int
    online_epsilon: float
    online_falls: float  # share of its lessons that lie shortly before the value of a state fell
    held_out: float
    threads: int  # that share each batch
    bf16: bool
    log_updates: int
    exam_updates: int
    checkpoint_s: float
    eval_start_updates: int
    eval_updates: int
    eval_episodes: int
    report_episodes: int
    epsilon: float  # of evaluations
    calibrate_batches: int

    def __post_init__(self) -> None:
        for name, allowed in (("mode", MODES), ("unit", UNITS), ("schedule", SCHEDULES)):
            need(getattr(self, name) in allowed, f"distill.{name}", getattr(self, name), ", ".join(allowed))
        for name in ("temperature", "temperature_start", "surrogate_width", "learning_rate"):
            need(getattr(self, name) > 0, f"distill.{name}", getattr(self, name), "above 0")
        counts = "hint_axes cool_updates updates batch envs threads log_updates exam_updates eval_updates eval_episodes"
        for name in (*counts.split(), "report_episodes", "calibrate_batches"):
            need(getattr(self, name) >= 1, f"distill.{name}", getattr(self, name), "1 or more")
        for name in ("online_epsilon", "online_falls", "epsilon"):
            need(0 <= getattr(self, name) <= 1, f"distill.{name}", getattr(self, name), "0 to 1")
        for name in (
            "seed",
            "shift",
            "decisions",
            "eval_start_updates",
            "still_levels",
            "still_updates",
            "still_decisions",
        ):
            need(getattr(self, name) >= 0, f"distill.{name}", getattr(self, name), "0 or more")
        for name in ("readouts", "hints"):
            need(getattr(self, name) >= 0, f"distill.{name}", getattr(self, name), "0 or more")
        least = STACK + 1  # pictures of an env that its own play's ring must hold
        rows = f"{least * self.envs} or more, {least} of each of the {self.envs} envs"
        need(self.online_rows // self.envs >= least, "distill.online_rows", self.online_rows, rows)
        need(0 <= self.hysteresis < 0.5, "distill.hysteresis", self.hysteresis, "0 to below 0.5")
        need(all(share > 0 for share in self.shares), "distill.shares", self.shares, "each above 0")


@dataclass(frozen=True)
class DistillRun:
    """The command's settings."""

    games: tuple[str, ...]
    root: str
    alone: str  # a folder like root, of equal students of one game each: what several games are measured by
    env: EnvSettings
    student: StudentSettings
    distill: DistillSettings

    def __post_init__(self) -> None:
        need(len(self.games) >= 1, "games", self.games, "one or more")
        need(len(set(self.games)) == len(self.games), "games", self.games, "each game once")
        levels = len(self.student.layers)  # and the front: at least the votes go on learning
        need(self.distill.still_levels <= levels, "distill.still_levels", self.distill.still_levels, f"0 to {levels}")
        shares = self.shares
        need(len(shares) == len(self.games), "distill.shares", self.distill.shares, f"none, or {len(self.games)}")
        least = math.ceil(2 * sum(shares) / min(shares) - ROUNDING)  # of every game half is its own play
        need(min(self.rows) >= 2, "distill.batch", self.distill.batch, f"{least} or more")

    @property
    def shares(self) -> tuple[float, ...]:
        """Of each update, by game, of any sum."""
        return self.distill.shares or (1.0,) * len(self.games)

    @property
    def rows(self) -> tuple[int, ...]:
        """How many rows of an update are of each game."""
        return tuple(int(self.distill.batch * share / sum(self.shares) + ROUNDING) for share in self.shares)

    @property
    def folder(self) -> Path:
        return Path(self.root) / label(self.games) / "student"


def rate_at(update: int, own: DistillSettings) -> float:
    """Learning rate: a linear warm-up, then a cosine to zero, or a tenth and a hundredth at the end, or flat."""
    done = update / own.updates
    falls = {
        "cosine": 0.5 * (1 + math.cos(math.pi * min(1.0, done))),
        "steps": 0.1 ** sum(done >= fall for fall in FALLS),
        "constant": 1.0,
    }
    return own.learning_rate * min(1.0, (update + 1) / max(1, own.warmup_updates)) * falls[own.schedule]


def temperature_at(update: int, own: DistillSettings) -> float:
    """Temperature of the teacher's side: from the first to the last along a geometric row, then flat.

    Soft labels teach what every action is worth; sharp ones, once that is learnt, which of two near ones is better.
    """
    left = max(0.0, 1 - update / own.cool_updates)
    return own.temperature * (own.temperature_start / own.temperature) ** left  # type: ignore[no-any-return]


def readouts_at(update: int, own: DistillSettings) -> float:
    """Weight of each readout: down a line to 0 while labels cool, so that the end is learnt for the votes alone."""
    return own.readouts * max(0.0, 1 - update / own.cool_updates)


def still_at(update: int, own: DistillSettings) -> int:
    """How many levels stand still: what is cheap to learn with then sees more pictures in the same time."""
    return own.still_levels if update >= own.still_updates else 0

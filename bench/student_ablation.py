"""What each part of the student's recipe is worth: the same short distillation with one thing changed, on four games.

A run is the command itself, in a process of its own, on the teachers and datasets below `--source`; runs that are done
are kept, runs that were stopped go on, runs of other datasets or scored by other `--episodes` are refused. Each part of
the recipe gets a table, with intervals over seeds, and curves.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from bench.ablation import carry_out
from bench.lines import Line, drawn
from bench.report import FOLDER, write_report
from deploy.cards import table as markdown
from rl.files import read_json, write_whole
from rl.manifest import read_manifest
from rl.settings import need

Overrides = tuple[str, ...]


def flat(value: float) -> Overrides:
    """A temperature in points from the first update to the last, as the paper gives them."""
    return ("distill.unit=value", f"distill.temperature={value}", f"distill.temperature_start={value}")


# By part of the recipe; what is not named is as conf/distill.yaml has it. Each changes one thing of the default, except
# that a flat temperature is in points and does not cool, students of another size have other levels throughout, and
# history and axons are pairs: slim and another first layer of it, middle and other signs of it.
PARTS: Mapping[str, Mapping[str, Overrides]] = {
    "loss": {"kl": (), "nll": ("distill.loss=nll",), "mse": ("distill.loss=mse",)},
    "temperature": {"cooled": (), **{f"{value:g}": flat(value) for value in (1.0, 0.1, 0.01, 0.001)}},
    "lessons": {"both": (), "offline": ("distill.mode=offline",), "online": ("distill.mode=online",)},
    "dataset": {"all": (), **{f"{n:,}": (f"distill.decisions={n}",) for n in (3_000, 10_000, 30_000)}},
    "size": {"half": (), **{name: (f"student={name}",) for name in ("slim", "middle", "full")}},
    "hysteresis": {"0.1": (), **{f"{h:g}": (f"distill.hysteresis={h}",) for h in (0.0, 0.05, 0.2)}},
    "surrogate": {"1": (), **{f"{w:g}": (f"distill.surrogate_width={w}",) for w in (0.5, 2.0)}},
    "readouts": {"0.3": (), **{f"{w:g}": (f"distill.readouts={w}",) for w in (0.0, 1.0)}},
    "hints": {"2": (), **{f"{w:g}": (f"distill.hints={w}",) for w in (0.0, 0.6, 6.0)}},
    "axes": {"64": (), **{f"{n}": (f"distill.hint_axes={n}",) for n in (16, 512)}},
    "still levels": {"2": (), **{f"{n}": (f"distill.still_levels={n}",) for n in (0, 1, 3)}},
    "schedule": {"cosine": (), **{name: (f"distill.schedule={name}",) for name in ("steps", "constant")}},
    "transduction": {"learned": (), "thresholds": ("student.transduction=thresholds",)},
    "history": {"stacked by the host": ("student=slim",), "kept on the chip": ("student=slim-history",)},
    "augmentation": {"none": (), **{f"{n} pixels": (f"distill.shift={n}",) for n in (1, 4)}},
    "axons": {"two an input": ("student=middle",), "one an input": ("student=one-axon",)},
}
GAMES = ("Breakout", "Pong", "Qbert", "SpaceInvaders")
OTHER = "give --episodes and --source as then, or another --folder"
# Student's t: 95 % lie within so many standard errors of the mean, by the values beyond one that it is of. Of more than
# ten values the last, a little wide. NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class Budget:
    """How long a run is, and by how many episodes it is scored."""

    updates: int = 5_000
    episodes: int = 30

    def overrides(self) -> Overrides:
        """Schedules drawn together to the run's length; the end alone is scored, held-out decisions ten times."""
        return (
            f"distill.updates={self.updates}",
            f"distill.cool_updates={max(1, self.updates * 7 // 10)}",
            f"distill.still_updates={self.updates // 10}",
            f"distill.online_start_updates={self.updates // 20}",
            f"distill.exam_updates={max(1, self.updates // 10)}",
            f"distill.eval_start_updates={self.updates}",
            "distill.eval_episodes=1",  # nothing is chosen: the last student is the one
            f"distill.report_episodes={self.episodes}",
            "distill.threads=1",  # cores are shared between runs
        )


@dataclass(frozen=True)
class Run:
    """One distillation."""

    overrides: Overrides
    game: str
    seed: int
    root: Path  # of all runs
    source: Path  # of teachers and datasets

    @property
    def own(self) -> Path:
        """The run's own root; equal overrides share it, whatever part they stand in."""
        pairs = (word.partition("=") for word in self.overrides)
        words = [f"{key.rpartition('.')[2]}-{value}" for key, _, value in pairs]
        return self.root / f"{'-'.join(words) or 'default'}-{self.seed}"

    @property
    def folder(self) -> Path:
        return self.own / self.game / "student"

    def command(self, budget: Budget) -> list[str]:
        own = (f"games=[{self.game}]", f"root={self.own}", f"distill.seed={self.seed}")
        return [sys.executable, "-m", "distill.train", *own, *budget.overrides(), *self.overrides]


def linked(run: Run) -> None:
    """Teacher and dataset of the source, where the run looks for them; raises SettingsError where it had others."""
    for stage in ("teacher", "rollouts"):
        there, here = run.source / run.game / stage, run.own / run.game / stage
        led = here.resolve() if here.is_symlink() else there.resolve()
        need(led == there.resolve(), f"{here}: leads to", str(led), f"{there.resolve()}; {OTHER}")
        if there.exists() and not here.exists():
            here.parent.mkdir(parents=True, exist_ok=True)
            here.symlink_to(there.resolve())


def finished(run: Run, budget: Budget) -> bool:
    """Whether it came to its end; raises SettingsError where that was on another dataset or by other episodes.

    A dataset's digest tells of its teacher, too.
    """
    path = run.folder / "report.json"
    if not path.exists():
        return False
    told = read_json(path)
    episodes, dataset = told["scores"][run.game]["protocol"]["episodes"], told["origin"]["datasets"][run.game]
    need(episodes == budget.episodes, f"{path}: episodes", episodes, f"{budget.episodes}; {OTHER}")
    now = read_manifest(run.source / run.game / "rollouts").digest
    need(dataset == now, f"{path}: dataset", dataset[:12], f"{now[:12]}, that of {run.source}; {OTHER}")
    return True


def train(run: Run, budget: Budget) -> None:
    """Run it to its end, unless it is there."""
    if not finished(run, budget):
        linked(run)
        carry_out(run.command(budget), run.folder)


def curve(run: Run) -> list[tuple[int, float]]:
    """(update, share of held-out decisions that are the teacher's) along the run."""
    told = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["at"], line["distill/agreement"]) for line in told if "distill/agreement" in line]


def result(part: str, variant: str, run: Run) -> dict[str, Any]:
    """A finished run as a row."""
    report = json.loads((run.folder / "report.json").read_text())
    return {
        "part": part,
        "variant": variant,
        "game": run.game,
        "seed": run.seed,
        "score": report["scores"][run.game]["mean"],
        "share": report["shares"][run.game],
        "kl": report["health"]["distill/kl"],
        "agreement": report["health"]["distill/agreement"],
        "cores": report["health"]["chip/cores"],
        "cpu_s": json.loads((run.folder / "cost.json").read_text())["cpu_s"],
        "curve": curve(run),
    }


def table(part: str, rows: Sequence[dict[str, Any]]) -> str:
    """Markdown, a line a variant: share of the teacher by game, all games with their interval over seeds, cost.

    All of it is of the seeds that have every game of the part; a variant without one has no line.
    """
    games = sorted({row["game"] for row in rows})
    heads = ("all games (95 % over seeds)", "agreement", "cores, plain rule", "processor minutes", "seeds")
    shown = [(part, *games, *heads)]
    for variant in PARTS[part]:
        own = whole([row for row in rows if row["variant"] == variant], games)
        if not own:
            continue
        by_game = [fmean(row["share"] for row in own if row["game"] == game) for game in games]
        rest = fmean(row["agreement"] for row in own), fmean(row["cores"] for row in own)
        minutes, seeds = fmean(row["cpu_s"] for row in own) / 60, len(own) // len(games)
        cells = (*(f"{share:.3f}" for share in by_game), interval(own), f"{rest[0]:.4f}", f"{rest[1]:,.0f}")
        shown.append((variant, *cells, f"{minutes:.1f}", str(seeds)))
    return markdown(shown)


def whole(rows: Sequence[dict[str, Any]], games: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of the seeds that have every game."""
    had = {(row["seed"], row["game"]) for row in rows}
    return [row for row in rows if all((row["seed"], game) in had for game in games)]


def interval(rows: Sequence[dict[str, Any]]) -> str:
    """Mean share, and where there are several seeds its 95 % t-interval over them; every seed has the same games."""
    seeds = sorted({row["seed"] for row in rows})
    means = [fmean(row["share"] for row in rows if row["seed"] == seed) for seed in seeds]
    value = fmean(means)
    if len(means) == 1:
        return f"{value:.3f}"
    within = T95[min(len(means) - 1, len(T95)) - 1] * stdev(means) / math.sqrt(len(means))
    return f"{value:.3f} ({value - within:.3f} .. {value + within:.3f})"


def picture(part: str, rows: Sequence[dict[str, Any]]) -> str:
    """Agreement on held-out decisions along the run, a line a variant: the mean over games and seeds."""
    lines = []
    for variant in PARTS[part]:
        curves = [dict(map(tuple, row["curve"])) for row in rows if row["variant"] == variant]  # type: ignore[arg-type]
        common = sorted(set.intersection(*(set(own) for own in curves))) if curves else []
        if common:
            lines.append(Line(variant, tuple((at, fmean(own[at] for own in curves)) for at in common)))
    return drawn(f"{part}: held-out decisions that are the teacher's", "updates", "share", lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS), metavar="PART")
    parser.add_argument("--games", nargs="+", default=list(GAMES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--updates", type=int, default=Budget.updates)
    parser.add_argument("--episodes", type=int, default=Budget.episodes)
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--source", type=Path, default=Path("runs"), help="root of the teachers and datasets")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    own = parser.parse_args(arguments)
    budget, root = Budget(own.updates, own.episodes), own.folder / f"student-ablation-{own.updates}"

    def runs(part: str) -> list[tuple[str, Run]]:
        every = itertools.product(PARTS[part].items(), own.games, own.seeds)
        return [(variant, Run(change, game, seed, root, own.source)) for (variant, change), game, seed in every]

    wanted = dict.fromkeys(run for part in own.parts for _, run in runs(part))  # the default is trained once
    for run in wanted:  # what cannot go on is said before the work
        if not finished(run, budget):
            linked(run)
    with ThreadPoolExecutor(own.jobs) as pool:
        list(pool.map(lambda run: train(run, budget), wanted))
    done = [(part, *pair) for part in PARTS for pair in runs(part) if finished(pair[1], budget)]
    rows = [result(*one) for one in done]
    facts = {"updates": own.updates, "episodes": own.episodes, "source": str(own.source)}
    path = write_report("student_ablation", rows, facts, own.folder)
    by_part = {part: [row for row in rows if row["part"] == part] for part in own.parts}
    for part, mine in by_part.items():
        write_whole(own.folder / f"student_ablation-{part}.svg", picture(part, mine).encode())
    tables = "\n\n".join(table(*one) for one in by_part.items())
    write_whole(own.folder / "student_ablation.md", f"{tables}\n".encode())
    print(tables, f"written to {path}, tables and curves beside it", sep="\n\n")


if __name__ == "__main__":
    main()

"""What each part of the student's recipe is worth: the same short distillation with one thing changed, on four games.

A run is the command itself, in a process of its own, on the teachers and datasets below `--source`; runs that are done
are kept, runs that were stopped go on. Each part of the recipe gets a table, with intervals over seeds, and curves.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from bench.ablation import carry_out
from bench.lines import Line, drawn
from bench.report import FOLDER, write_report
from deploy.cards import table as markdown
from rl.files import write_whole
from rl.statistics import estimate, mean

Overrides = tuple[str, ...]


def flat(value: float) -> Overrides:
    """A temperature in points from the first update to the last, as the paper gives them."""
    return ("distill.unit=value", f"distill.temperature={value}", f"distill.temperature_start={value}")


# By part of the recipe; each changes one thing of the default, and what is not named is as conf/distill.yaml has it.
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
    "axons": {"two an input": (), "one an input": ("student=one-axon",)},
}
GAMES = ("Breakout", "Pong", "Qbert", "SpaceInvaders")


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
    """Teacher and dataset of the source, where the run looks for them."""
    for stage in ("teacher", "rollouts"):
        there, here = run.source / run.game / stage, run.own / run.game / stage
        if there.exists() and not here.exists():
            here.parent.mkdir(parents=True, exist_ok=True)
            here.symlink_to(there.resolve())


def train(run: Run, budget: Budget) -> None:
    """Run it to its end, unless it is there."""
    if not (run.folder / "report.json").exists():
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
    """Markdown, a line a variant: share of the teacher by game, all games with their interval over seeds, cost."""
    games = sorted({row["game"] for row in rows})
    heads = ("all games (95 % over seeds)", "agreement", "cores, plain rule", "processor minutes", "seeds")
    shown = [(part, *games, *heads)]
    for variant in PARTS[part]:
        own = [row for row in rows if row["variant"] == variant]
        if not own:
            continue
        by_game = [[row["share"] for row in own if row["game"] == game] for game in games]
        cells = [f"{fmean(shares):.3f}" if shares else "" for shares in by_game]
        rest = fmean(row["agreement"] for row in own), fmean(row["cores"] for row in own)
        minutes, seeds = fmean(row["cpu_s"] for row in own) / 60, len({row["seed"] for row in own})
        shown.append(
            (variant, *cells, interval(own), f"{rest[0]:.4f}", f"{rest[1]:,.0f}", f"{minutes:.1f}", str(seeds))
        )
    return markdown(shown)


def interval(rows: Sequence[dict[str, Any]]) -> str:
    """Mean share over the games that every seed has, seeds resampled; of one seed there is no interval."""
    seeds, games = sorted({row["seed"] for row in rows}), sorted({row["game"] for row in rows})
    shares = {(row["seed"], row["game"]): row["share"] for row in rows}
    whole = [[shares[seed, game] for game in games] for seed in seeds if all((seed, game) in shares for game in games)]
    if not whole:
        return "-"
    found = estimate(mean, np.array(whole))
    if len(whole) == 1:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} ({found.low:.3f} .. {found.high:.3f})"


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
    with ThreadPoolExecutor(own.jobs) as pool:
        list(pool.map(lambda run: train(run, budget), wanted))
    done = [(part, *pair) for part in PARTS for pair in runs(part) if (pair[1].folder / "report.json").exists()]
    rows = [result(*one) for one in done]
    path = write_report("student_ablation", rows, {"updates": own.updates}, own.folder)
    by_part = {part: [row for row in rows if row["part"] == part] for part in own.parts}
    for part, mine in by_part.items():
        write_whole(own.folder / f"student_ablation-{part}.svg", picture(part, mine).encode())
    tables = "\n\n".join(table(*one) for one in by_part.items())
    write_whole(own.folder / "student_ablation.md", f"{tables}\n".encode())
    print(tables, f"written to {path}, tables and curves beside it", sep="\n\n")


if __name__ == "__main__":
    main()

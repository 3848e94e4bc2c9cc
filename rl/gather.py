"""Results of many runs in one table: `python -m rl.gather ROOT [OUT]` reads every report.json of a teacher below ROOT.

Runs of the same game and settings but for the seed are one row: the mean and the interquartile mean over their scores,
each with a 95 % bootstrap interval. Runs count once, however many episodes they were scored by. OUT (default: ROOT)
gets gathered.md and gathered.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rl.command import run
from rl.files import FormatError, read_json, write_json, write_whole
from rl.settings import SettingsError
from rl.statistics import Estimate, estimate, iqm, mean

USE = "python -m rl.gather ROOT [OUT]"


@dataclass(frozen=True)
class Result:
    """A run's report, as far as the table needs it."""

    path: Path
    game: str
    seed: int
    settings: Mapping[str, Any]  # by dotted name, without seed, game and root
    score: float  # mean over the report's episodes
    episodes: int
    protocol: str
    frames: int
    wall_s: float

    @property
    def group(self) -> str:
        """Equal for runs that differ in their seed alone."""
        return json.dumps([self.game, self.protocol, sorted(self.settings.items())])


@dataclass(frozen=True)
class Row:
    """Runs of one game and one setting."""

    game: str
    setting: str  # where it differs from the others of the table; empty where nothing does
    seeds: tuple[int, ...]
    scores: tuple[float, ...]  # in the order of the seeds
    mean: Estimate
    iqm: Estimate
    episodes: int  # the fewest of a run
    protocol: str
    frames: float  # the mean of a run
    wall_s: float
    total_s: float  # over all runs


def results(root: Path) -> list[Result]:
    """Every teacher's report below a folder; raises SettingsError where there is none, FormatError where one is bad."""
    if not root.is_dir():
        raise SettingsError(f"{root}: no such folder; {USE}")
    told = [(path, read_json(path)) for path in sorted(root.rglob("report.json"))]
    found = [result(path, facts) for path, facts in told if facts.get("what") == "teacher"]
    if not found:
        raise SettingsError(f"{root}: no report of a teacher below it; a run writes one when it is over")
    return found


def result(path: Path, facts: Mapping[str, Any]) -> Result:
    """What a report says; raises FormatError naming file and field."""
    try:
        settings, score, rules = facts["settings"], facts["score"], facts["score"]["protocol"]
        plain = dict(leaves({"env": settings["env"], "teacher": settings["teacher"]}))
        seed = plain.pop("teacher.seed")
        plain["processes"] = facts.get("processes", 1)
        name = f"{rules['name']}, epsilon {rules['epsilon']}, sticky {rules['env']['sticky']}"
        numbers = float(score["mean"]), len(score["returns"]), name, int(facts["frames"]), float(facts["wall_s"])
        return Result(path, facts["game"], int(seed), plain, *numbers)
    except (AttributeError, KeyError, TypeError, ValueError) as cause:
        raise FormatError(f"{path}: field {cause} is missing or wrong; score or train that run again") from cause


def leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every leaf."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def rows(found: Sequence[Result]) -> list[Row]:
    """One row a game and setting, by game; raises SettingsError where two runs are the same one twice."""
    groups: dict[str, list[Result]] = {}
    for one in sorted(found, key=lambda one: (one.game, one.group, one.seed)):
        groups.setdefault(one.group, []).append(one)
    return [row(runs, varied(found, runs[0].game)) for runs in groups.values()]


def varied(found: Sequence[Result], game: str) -> list[str]:
    """Settings that differ between runs of one game: what a game's own file says is no part of a comparison."""
    own = [one.settings for one in found if one.game == game]
    names = sorted({name for settings in own for name in settings})
    return [name for name in names if len({json.dumps(settings.get(name)) for settings in own}) > 1]


def row(runs: Sequence[Result], named: Sequence[str]) -> Row:
    seeds = [one.seed for one in runs]
    twice = [str(one.path) for one in runs if seeds.count(one.seed) > 1]
    if twice:
        raise SettingsError(f"the same run twice, seed and settings alike: {', '.join(twice)}; gather another folder")
    scores = np.array([[one.score] for one in runs])
    return Row(
        runs[0].game,
        " ".join(f"{name.removeprefix('teacher.')}={runs[0].settings.get(name)}" for name in named),
        tuple(seeds),
        tuple(one.score for one in runs),
        estimate(mean, scores),
        estimate(iqm, scores),
        min(one.episodes for one in runs),
        runs[0].protocol,
        float(np.mean([one.frames for one in runs])),
        float(np.mean([one.wall_s for one in runs])),
        sum(one.wall_s for one in runs),
    )


def markdown(table: Sequence[Row]) -> str:
    """The table and how it was taken."""
    heads = ("game", "setting", "seeds", "mean", "IQM", "each", "frames (M)", "hours a run", "hours")
    lines = [heads, ["---"] * len(heads), *(cells(one) for one in table)]
    rules = sorted({f"{one.protocol}: {one.episodes} episodes or more a run" for one in table})
    notes = "Raw scores of the policies that were kept. In brackets: 95 % bootstrap intervals over seeds, none for one."
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{notes} {'; '.join(rules)}.\n"


def cells(one: Row) -> list[str]:
    each = ", ".join(number(score) for score in one.scores)
    numbers = [f"{one.frames / 1e6:.2f}", f"{one.wall_s / 3600:.2f}", f"{one.total_s / 3600:.2f}"]
    bounds = [cell(found, len(one.seeds)) for found in (one.mean, one.iqm)]
    return [one.game, one.setting or "-", ", ".join(map(str, one.seeds)), *bounds, each, *numbers]


def cell(found: Estimate, runs: int) -> str:
    """A value, with its interval where there is more than one run to draw from."""
    value, low, high = map(number, (found.value, found.low, found.high))
    return f"{value} ({low} .. {high})" if runs > 1 else value


def number(value: float) -> str:
    return f"{round(value, 1) + 0.0:.1f}"  # no -0.0


def gather(root: Path, out: Path) -> str:
    """Write gathered.md and gathered.json; the Markdown."""
    found = results(root)
    table = rows(found)
    text = markdown(table)
    facts = {"what": "gathered", "rows": [asdict(one) for one in table], "reports": [str(one.path) for one in found]}
    write_json(out / "gathered.json", facts)
    write_whole(out / "gathered.md", text.encode())
    return text


def main(arguments: Sequence[str]) -> int:
    if len(arguments) not in (1, 2) or arguments[0].startswith("-"):
        raise SettingsError(f"found {' '.join(arguments) or 'no folder'}; {USE}")
    root, out = Path(arguments[0]), Path(arguments[-1])
    print(gather(root, out), end="")
    return 0


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))

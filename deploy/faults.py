"""make faults: what a game's chip still scores as parts of it break, kind by kind and rate by rate."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import hydra
import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from deploy.compiled import Compiled
from deploy.cores import CoreGraph
from deploy.curves import Chart, Curve, Mean, svg
from deploy.damage import Damage, random_damage
from deploy.engine import LazyEngine
from deploy.interrupts import interrupts_ignored
from deploy.players import ChipPlayer, Translated, action_ids, load_chip
from deploy.spec import StudentSpec
from rl.board import Ticker
from rl.command import launch, only_one, run, settings
from rl.files import FormatError, digest, read_json, write_json, write_whole
from rl.games import action_meanings
from rl.manifest import versions
from rl.scores import REFERENCE, Protocol, bootstrap, episode_return, protocol
from rl.settings import need
from rl.stages import CHIP, STUDENT, find

WHOLE = "whole"  # the kind of the point where nothing is broken
NAMES: Mapping[str, str] = MappingProxyType(
    {
        "cores": "dead cores",
        "neurons": "dead neurons",
        "silent": "silent axons",
        "stuck": "stuck axons",
        "lost": "lost spikes",
    }
)


@dataclass(frozen=True)
class Rates:
    """Shares that are broken, for each kind: each above 0, at most 1."""

    cores: tuple[float, ...]
    neurons: tuple[float, ...]
    silent: tuple[float, ...]
    stuck: tuple[float, ...]
    lost: tuple[float, ...]

    def __post_init__(self) -> None:
        for kind, rates in self.by_kind.items():
            for rate in rates:
                need(0 < rate <= 1, f"faults.rates.{kind}", rate, "above 0 to 1")
        need(any(self.by_kind.values()), "faults.rates", "none", "at least one rate of one kind")

    @property
    def by_kind(self) -> dict[str, tuple[float, ...]]:
        return {
            "cores": self.cores,
            "neurons": self.neurons,
            "silent": self.silent,
            "stuck": self.stuck,
            "lost": self.lost,
        }


@dataclass(frozen=True)
class FaultSettings:
    """What is broken how far, and the rules that it is scored by."""

    protocol: str
    episodes: int  # of each point, every one with breaks of its own
    seed: int  # of the first episode and of its breaks
    max_frames: int  # cut an episode off after so many
    processes: int
    rates: Rates

    def __post_init__(self) -> None:
        need(self.episodes >= 1, "faults.episodes", self.episodes, "1 or more")
        need(self.processes >= 1, "faults.processes", self.processes, "1 or more")
        need(self.seed >= 0, "faults.seed", self.seed, "0 or more")


@dataclass(frozen=True)
class FaultRun:
    """The command's settings."""

    name: str
    root: str
    faults: FaultSettings


@dataclass(frozen=True)
class Point:
    """Episode returns of the chip with a share of one kind of part broken."""

    kind: str
    rate: float
    returns: tuple[float, ...]

    @property
    def mean(self) -> Mean:
        """The mean return with its 95 % bootstrap interval."""
        return Mean(self.rate, float(np.mean(self.returns)), *bootstrap(self.returns))

    def to_json(self) -> dict[str, Any]:
        mean = self.mean
        facts = {"kind": self.kind, "rate": self.rate, "returns": list(self.returns)}
        return facts | {"mean": mean.value, "low": mean.low, "high": mean.high}


def damage_of(graph: CoreGraph, kind: str, rate: float, seed: int) -> Damage | None:
    """A share `rate` of the parts of a kind of NAMES; of one seed, the same parts and more where the rate is higher."""
    return None if kind == WHOLE else random_damage(graph, **{kind: rate}, seed=seed)


class Worker:
    """A process that plays the episodes it is handed, each on a chip broken for it."""

    spec: StudentSpec
    compiled: Compiled
    ids: NDArray[np.int64]
    n_actions: int
    game: str
    rules: Protocol

    @classmethod
    def begin(cls, game: str, root: str, rules: Protocol) -> None:
        with redirect_stdout(StringIO()):  # which files are read has been said once
            cls.spec, cls.compiled = load_chip(game, root)
        actions = action_meanings(game, rules.env)
        cls.ids = action_ids(cls.spec.head(game).actions, actions, f"chip of {game}")
        cls.game, cls.rules, cls.n_actions = game, rules, len(actions)

    @classmethod
    def play(cls, task: tuple[str, float, int]) -> float:
        """The return of (kind, rate, episode)."""
        kind, rate, index = task
        damage = damage_of(cls.compiled.graph, kind, rate, cls.rules.seed + index)
        player = ChipPlayer(cls.spec, cls.compiled, cls.game, lambda graph: LazyEngine(graph, damage=damage))
        return episode_return(Translated(player, cls.ids, cls.n_actions), cls.game, cls.rules, index)


def wanted(rates: Rates) -> list[tuple[str, float]]:
    """(kind, rate) of every point, the whole chip first."""
    broken = [(kind, rate) for kind, own in rates.by_kind.items() for rate in sorted(set(own))]
    return [(WHOLE, 0.0), *broken]


def rules_of(own: FaultSettings) -> Protocol:
    """The named protocol with this run's cap, which its name then says."""
    full = protocol(own.protocol, own.episodes, own.seed)
    if own.max_frames >= full.env.max_frames:
        return full
    capped = replace(full.env, max_frames=own.max_frames)
    return replace(full, name=f"{full.name}, {own.max_frames} frames at most", env=capped)


def identity(config: FaultRun, rules: Protocol) -> dict[str, Any]:
    """What must be equal for two points to belong in one report."""
    with redirect_stdout(StringIO()):
        files = {stage: find(stage, config.name, config.root) for stage in (STUDENT, CHIP)}
    models = {stage: digest(path.read_bytes()) for stage, path in files.items()}
    return {"game": config.name, "protocol": asdict(rules), "models": models}


def finished(path: Path, own: Mapping[str, Any]) -> tuple[list[Point], float]:
    """(points of an earlier run of the same chip and rules, seconds it took); none where there is no such report.

    Raises FormatError where the file is not a report of this command.
    """
    if not path.exists():
        return [], 0.0
    facts = read_json(path)
    try:
        same = all(facts[key] == value for key, value in own.items())
        points = [Point(str(p["kind"]), float(p["rate"]), tuple(map(float, p["returns"]))) for p in facts["points"]]
        seconds = float(facts["wall_s"])
    except (KeyError, TypeError, ValueError) as cause:
        raise FormatError(f"{path}: field {cause} is missing or wrong; delete the file to play again") from cause
    if not same:
        print(f"{path}: of another chip or other rules, played again")
        return [], 0.0
    return points, seconds


def play_points(
    config: FaultRun, rules: Protocol, missing: Sequence[tuple[str, float]], ticker: Ticker
) -> Iterator[Point]:
    """Each missing point as soon as its last episode is over; episodes are shared out to processes."""
    if not missing:
        return
    tasks = [(kind, rate, index) for kind, rate in missing for index in range(rules.episodes)]
    context, done, returns = multiprocessing.get_context("spawn"), 0, list[float]()
    with interrupts_ignored():
        pool = context.Pool(config.faults.processes, Worker.begin, (config.name, config.root, rules))
    with pool:
        for (kind, rate, index), result in zip(tasks, pool.imap(Worker.play, tasks), strict=True):
            done, returns = done + 1, [*returns, result]
            ticker.show(done, f"{_called(kind, rate)}: {len(returns)} episodes, mean {np.mean(returns):.2f}")
            if index == rules.episodes - 1:
                yield Point(kind, rate, tuple(returns))
                returns = []


def _called(kind: str, rate: float) -> str:
    return "whole chip" if kind == WHOLE else f"{100 * rate:g} % {NAMES[kind]}"


def chart(config: FaultRun, rules: Protocol, points: Sequence[Point]) -> Chart:
    """Score against rate, a curve for each kind that has points."""
    whole = next(point.mean for point in points if point.kind == WHOLE)
    by_rate = sorted(points, key=lambda point: point.rate)
    kinds = {kind: tuple(p.mean for p in by_rate if p.kind == kind) for kind in NAMES}
    return Chart(
        title=f"{config.name}: score of the chip as parts of it break",
        subtitle=f"{rules.episodes} episodes a point, broken anew for each; protocol {rules.name}; 95 % intervals",
        across="share of parts that are broken",
        up="mean score",
        curves=tuple(Curve(NAMES[kind], means) for kind, means in kinds.items() if means),
        whole=whole,
        floor=("random play", REFERENCE[config.name][0]) if config.name in REFERENCE else None,
    )


def table(points: Sequence[Point]) -> str:
    """Points as Markdown."""
    lines = ["| broken | mean | 95 % interval |", "|---|---|---|"]
    for point in points:
        mean = point.mean
        lines.append(f"| {_called(point.kind, point.rate)} | {mean.value:.2f} | {mean.low:.2f} .. {mean.high:.2f} |")
    return "\n".join(lines)


def command(config: FaultRun) -> int:
    """Play what is missing, keep the report whole after every point, draw the curves."""
    folder = Path(config.root) / config.name / "faults"
    rules = rules_of(config.faults)
    load_chip(config.name, config.root)  # says which files, and what is missing, before anything is played
    own = identity(config, rules)
    with only_one(folder):
        points, before_s = finished(folder / "report.json", own)
        kept = {(point.kind, point.rate) for point in points}
        missing = [point for point in wanted(config.faults.rates) if point not in kept]
        start, facts = time.monotonic(), {**own, "settings": asdict(config), "versions": versions()}
        for point in play_points(config, rules, missing, Ticker(max(1, len(missing) * rules.episodes))):
            points.append(point)
            told = {"points": [p.to_json() for p in points], "wall_s": before_s + time.monotonic() - start}
            write_json(folder / "report.json", {**facts, **told})
        write_whole(folder / "curves.svg", svg(chart(config, rules, points)).encode())
    print(f"{config.name}, protocol {rules.name}: {len(kept)} points kept, {len(missing)} played\n{table(points)}")
    print(f"report: {folder / 'report.json'}, curves: {folder / 'curves.svg'}")
    return 0


@hydra.main(version_base=None, config_path="../conf", config_name="faults")
def main(tree: DictConfig) -> None:
    """Faults."""
    run(lambda: command(settings(FaultRun, OmegaConf.to_container(tree, resolve=True))))  # type: ignore[arg-type]


if __name__ == "__main__":
    launch(main)

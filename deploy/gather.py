"""What is known of every game: scores, costs, curves and clips, read from reports under runs/ and from cards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rl.files import FormatError, read_json
from rl.settings import SettingsError
from rl.stages import CARD, labelled

PLAYERS = ("teacher", "student", "int8", "int4", "chip")  # in this order wherever they stand side by side
DECISIONS_A_SECOND = 15.0  # four frames each, at the games' own 60 a second
REPLAY = "replay.npz"


@dataclass(frozen=True)
class Result:
    """One player's score of a game."""

    mean: float  # raw
    low: float  # 95 % bootstrap interval
    high: float
    episodes: int
    human: float | None  # (score - random) / (human - random)
    share: float | None  # (score - random) / (teacher - random)


@dataclass(frozen=True)
class Costs:
    """What a chip takes."""

    cores: int
    available: int
    latency_ticks: int
    decision_j: float | None  # static and active (variant A) of one decision, an estimate; None: not estimated


@dataclass(frozen=True)
class Learning:
    """Scores as somebody learned."""

    unit: str  # of `at`: frames | updates
    at: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]  # of 95 % intervals; the mean itself where none was told
    high: tuple[float, ...]
    meanwhile: tuple[tuple[float, float], ...] = ()  # (at, mean score of the last training episodes)


@dataclass(frozen=True)
class Game:
    """All that is on disk of one game."""

    name: str
    source: str  # where its scores are from; empty: none yet
    protocol: Mapping[str, Any]
    results: Mapping[str, Result] = field(default_factory=dict)  # by player, in the order of PLAYERS
    costs: Costs | None = None
    learning: Mapping[str, Learning] = field(default_factory=dict)  # by player
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by player
    clips: Mapping[str, Path] = field(default_factory=dict)  # mp4, by player
    replay: Path | None = None


def gather(root: Path, models: Path, protocol: str = "nature") -> list[Game]:
    """Every game with a score, a card or a training run, by name.

    Raises:
        FormatError: a report that is not what a command of ours writes.
        SettingsError: nothing at all is there.
    """
    found = [_game(root / name, models / name, protocol) for name in _names(root, models)]
    games = [game for game in found if game.results or game.learning]
    if not games:
        raise SettingsError(
            f"report: neither {root} nor {models} holds a score or a training; run make score GAME=Pong"
        )
    return games


def _names(root: Path, models: Path) -> list[str]:
    marks = (
        (models, CARD),
        (root, "score/*/report.json"),
        (root, "teacher/metrics.jsonl"),
        (root, "student/metrics.jsonl"),
    )
    found = {path.relative_to(folder).parts[0] for folder, mark in marks for path in folder.glob(f"*/{mark}")}
    return sorted(name for name in found if len(labelled(name)) == 1)  # a student of several has no scores of its own


def _game(run: Path, shipped: Path, protocol: str) -> Game:
    report, card = run / "score" / protocol / "report.json", shipped / CARD
    source = next((path for path in (report, card) if path.exists()), None)
    try:
        facts = {} if source is None else read_json(source)
        shown = read_json(card) if card.exists() else {}
        return Game(
            name=run.name,
            source="" if source is None else _shown(source),
            protocol=facts.get("protocol", {}),
            results=dict(_results(facts)),
            costs=_costs(run, shown),
            learning=dict(_learning(run)),
            settings=dict(_settings(run, shown)),
            clips={path.stem: path for path in sorted(report.parent.glob("*.mp4"))},
            replay=shipped / REPLAY if (shipped / REPLAY).exists() else None,
        )
    except (KeyError, TypeError, AttributeError, IndexError) as cause:
        raise FormatError(f"{source or run}: field {cause} is missing or wrong; run make score again") from cause


def _shown(path: Path) -> str:
    """A report's place as a reader of the repository knows it: from the folder that holds all runs, or models/, on."""
    parts = path.parts[-3:] if path.name == CARD else path.parts[-5:]
    return "/".join(parts)


def _results(facts: Mapping[str, Any]) -> Iterator[tuple[str, Result]]:
    scores = facts.get("scores", {})
    others = sorted(scores.keys() - set(PLAYERS))
    for player in (*PLAYERS, *others):
        if player in scores:
            own = scores[player]
            yield player, Result(own["mean"], own["low"], own["high"], len(own["returns"]),
                                 own["human_normalised"], own["of_teacher"])  # fmt: skip


def _costs(run: Path, card: Mapping[str, Any]) -> Costs | None:
    """Of the run's own chip, else of the one that ships; its energy as it was verified, else as the card tells it."""
    built, verified = run / "chip" / "report.json", run / "chip" / "verify.json"
    chip = read_json(built) if built.exists() else card.get("chip")
    if chip is None:
        return None
    energy = card.get("chip", {}).get("energy") if not built.exists() else None
    proof = read_json(verified) if verified.exists() else {}
    if proof and proof["graph"] == chip["graph"]:
        energy = proof["energy"].get(run.name, energy)
    used, available = chip["usage"]["total"]["cores"]
    return Costs(used, available, chip["latency_ticks"], None if energy is None else joules(energy))


def joules(energy: Mapping[str, Any]) -> float:
    """J of one decision, of a chip that runs all the time: static and active power over the decisions of a second."""
    whole = energy["whole"]
    return float(whole["static_w"] + whole["active_a_w"]) / DECISIONS_A_SECOND


def _learning(run: Path) -> Iterator[tuple[str, Learning]]:
    for player, unit in (("teacher", "frames"), ("student", "updates")):
        path = run / player / "metrics.jsonl"
        told = list(_lines(path)) if path.exists() else []
        rows = [row for row in told if "eval/mean_reward" in row]
        training = "rollout/ep_score_mean"
        meanwhile = tuple((float(row["at"]), float(row[training])) for row in told if training in row)
        if rows or meanwhile:
            mean = tuple(float(row["eval/mean_reward"]) for row in rows)
            low, high = (
                tuple(float(row.get(f"eval/{end}", value)) for row, value in zip(rows, mean, strict=True))
                for end in ("low", "high")
            )
            yield player, Learning(unit, tuple(float(row["at"]) for row in rows), mean, low, high, meanwhile)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a metrics file; a last one that is still being written is left out."""
    for line in path.read_text().splitlines():
        if line.endswith("}"):
            yield json.loads(line)


def _settings(run: Path, card: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for player, section in (("teacher", "teacher"), ("student", "distill"), ("chip", "chip")):
        path = run / player / "report.json"
        told = read_json(path) if path.exists() else card.get(player, {})
        own = told.get("settings", {}).get(section)
        if own:
            yield player, own

"""A game's score report: what is kept of an earlier run, what is written after each player, how it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from rl.files import FormatError, digest, read_json
from rl.scores import REFERENCE, Protocol, Score, points
from rl.settings import SettingsError
from rl.stages import CHIP, INT4, INT8, MODELS, SHIPPED, STUDENT, TEACHER, find, shipped_card

# The files that decide how a player plays; the others have none.
FILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "teacher": (TEACHER,),
        "student": (STUDENT,),
        "spec": (STUDENT,),
        "chip": (STUDENT, CHIP),
        "int8": (INT8,),
        "int4": (INT4,),
    }
)
OF_SEVERAL = (STUDENT, CHIP)  # what a student of several games has of its own; all else is each game's


def model_digests(
    game: str, root: str, players: Iterable[str], student: str | None = None, recorded: Mapping[str, str] | None = None
) -> dict[str, str]:
    """sha256 of each model file that was scored, so that a card can tell whether it is the one that ships.

    `student` and `recorded` as of `deploy.players.make_player`.
    """
    stages = {stage for player in players for stage in FILES.get(player, ())}
    with redirect_stdout(StringIO()):  # which files are read has been said once
        names = {stage: (student or game) if stage in OF_SEVERAL else game for stage in sorted(stages)}
        return {stage: digest(find(stage, own, root, recorded=recorded).read_bytes()) for stage, own in names.items()}


def present_digests(
    game: str, root: str, student: str | None = None, recorded: Mapping[str, str] | None = None
) -> dict[str, str]:
    """`model_digests` of those files that there are."""
    found: dict[str, str] = {}
    for player in FILES:
        try:
            found |= model_digests(game, root, [player], student, recorded)
        except SettingsError:
            continue  # a player that nobody asked for
    return found


def kept_scores(
    path: Path, game: str, rules: Protocol, models: Mapping[str, str], players: Iterable[str] | None = None
) -> tuple[dict[str, Score], float]:
    """(what an earlier run scored under the same rules with the same models, by player; the seconds it took).

    `players`: those that are looked for; None: all. A player's score may hold more or fewer episodes than the rules ask
    for: episode i is the same in both. Raises FormatError where the file is not a report of this command.
    """
    if not path.exists():
        return {}, 0.0
    facts = read_json(path)
    try:
        found = {player: own for player, own in facts["scores"].items() if players is None or player in players}
        told = {player: _score(player, game, rules, own) for player, own in found.items()}
        same = {player: _same(player, facts, rules, models) for player in told}
        seconds = float(facts["wall_s"])
    except (AttributeError, KeyError, TypeError, ValueError) as cause:
        raise FormatError(f"{path}: field {cause} is missing or wrong; delete the file to play again") from cause
    for player in sorted(player for player in told if not same[player]):
        print(f"{path}: {player} of another model or other rules, not kept")
    return {player: score for player, score in told.items() if same[player]}, seconds


def shipped_scores(
    game: str, rules: Protocol, models: Mapping[str, str], players: Iterable[str], shipped: Path = MODELS
) -> dict[str, Score]:
    """What a shipped game's card tells of `players`, where rules and models are those of now, however many episodes."""
    folder, card = shipped / game, shipped_card(game, shipped)
    if {**card.get("protocol", {}), "episodes": rules.episodes} != asdict(rules):
        return {}
    told = {player: own for player, own in card["scores"].items() if player in players}
    return {player: _score(player, game, rules, own) for player, own in told.items() if _ships(player, folder, models)}


def _ships(player: str, folder: Path, models: Mapping[str, str]) -> bool:
    """Whether the files that decide how a player plays are those in `folder`."""
    return all(digest((folder / SHIPPED[file]).read_bytes()) == models.get(file) for file in FILES.get(player, ()))


def _score(player: str, game: str, rules: Protocol, facts: Mapping[str, Any]) -> Score:
    returns = tuple(map(float, facts["returns"]))
    return Score(game, player, replace(rules, episodes=len(returns)), returns)


def _same(player: str, facts: Mapping[str, Any], rules: Protocol, models: Mapping[str, str]) -> bool:
    """Whether a player's episodes would come out alike if they were played now."""
    told = {**facts["scores"][player]["protocol"], "episodes": rules.episodes}
    files = FILES.get(player, ())
    return bool(told == asdict(rules)) and all(models.get(file) == facts["models"].get(file, "") for file in files)


def joined(first: Score | None, more: Score) -> Score:
    """Episodes that were kept, and those played after them, as one score."""
    if first is None:
        return more
    returns = first.returns + more.returns
    return replace(first, protocol=replace(first.protocol, episodes=len(returns)), returns=returns)


def report(
    game: str, rules: Protocol, scores: Mapping[str, Score], models: Mapping[str, str], wall_s: float
) -> dict[str, Any]:
    """What is written of a game; `protocol` holds the episodes that every player has, a score all of its own."""
    teacher = scores.get("teacher")
    fewest = min(len(score.returns) for score in scores.values())
    needed = {file for player in scores for file in FILES.get(player, ())}
    return {
        "what": "score",
        "game": game,
        "protocol": asdict(replace(rules, episodes=fewest)),
        "scores": {player: own.to_json() | {"of_teacher": share_of(own, teacher)} for player, own in scores.items()},
        "models": {file: models[file] for file in sorted(needed)},
        "wall_s": wall_s,
    }


def of_teacher(game: str, mean: float, teacher: float) -> float | None:
    """(mean - random) / (teacher - random), where random is published and the teacher beats it."""
    if game not in REFERENCE:
        return None
    gain = teacher - REFERENCE[game][0]
    return (mean - REFERENCE[game][0]) / gain if gain > 0 else None


def share_of(score: Score, teacher: Score | None) -> float | None:
    """`of_teacher` of a score; None where there is no teacher's."""
    return None if teacher is None else of_teacher(score.game, score.mean, teacher.mean)


def table(scores: Sequence[Score], teacher: Score | None) -> str:
    """Scores as Markdown."""
    lines = [
        "| player | mean | 95 % interval | median | human-normalised | of teacher | episodes |",
        "|---|---|---|---|---|---|---|",
    ]
    for score in scores:
        low, high = score.interval
        human = "-" if score.human_normalised is None else f"{score.human_normalised:.2f}"
        share = share_of(score, teacher)
        cells = (
            score.player,
            points(score.mean),
            f"{points(low)} .. {points(high)}",
            points(float(np.median(score.returns))),
            human,
            "-" if share is None else f"{share:.3f}",
            str(len(score.returns)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)

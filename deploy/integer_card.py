"""What a card tells of a teacher's integers of 8 and 4 bits, and how they join a game that ships already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from deploy.cards import need_same
from deploy.integer_spec import load_integers
from deploy.remake import Composed, fine_tuning
from deploy.reports import of_teacher
from deploy.student_card import need_same_rules
from rl.files import digest
from rl.settings import SettingsError
from rl.stages import INT4, INT8, SHIPPED, report_of

INTEGERS = (INT8, INT4)
PLAYERS = ("int8", "int4")  # of them, in their order
KEPT = ("bits", "spec", "bytes", "multiply_adds", "updates", "wall_s", "settings")


def player_of(stage: str) -> str:
    """int8/int8.npz -> int8."""
    return stage.partition("/")[0]


def own_integers(run_folder: Path) -> tuple[str, ...]:
    """Integers that a run has made and scored; what ships may have been scored in their place, and is not its own."""
    models = report_of(run_folder, "score/nature")["models"]
    return tuple(stage for stage in INTEGERS if stage in models and (run_folder / stage).exists())


def integer_reports(run_folder: Path, stages: Iterable[str]) -> dict[str, Any]:
    """Reports of the fine-tuning of integers, by player."""
    players = map(player_of, stages)
    return {player: report_of(run_folder, player) for player in players}


def identities(run_folder: Path, reports: Mapping[str, Any], teacher: str) -> dict[str, tuple[str, str]]:
    """(digest told, digest of the file) of integers and of the teacher that they come from, by what tells it."""
    found: dict[str, tuple[str, str]] = {}
    for stage in INTEGERS:
        player = player_of(stage)
        if player not in reports:
            continue
        spec, origin = load_integers(run_folder / stage)
        found[f"{stage}'s teacher"] = (origin["teacher"], teacher)
        found[f"{player}/report.json"] = (reports[player]["spec"], spec.digest)
        scored = reports["score/nature"]["models"].get(stage, "none")
        found[f"score/nature/report.json, {stage}"] = (scored, digest((run_folder / stage).read_bytes()))
    return found


def integers_of(reports: Mapping[str, Any]) -> dict[str, Any]:
    """The card's own part, by player; empty where there are none."""
    told = {player: reports[player] for player in PLAYERS if player in reports}
    return {player: {k: facts[k] for k in KEPT} | {"exam": facts["origin"]["exam"]} for player, facts in told.items()}


def kept_scores(
    target: Path, before: Mapping[str, Any], reports: Mapping[str, Any], keep: tuple[str, ...]
) -> dict[str, Any]:
    """Scores, by player, of integers that ship already for the very teacher of a run that has none in their place.

    The run may have scored what ships, else it is as `before`, the card, says; raises SettingsError where that is by
    other rules.
    """
    found: dict[str, Any] = {}
    if before.get("teacher", {}).get("policy") != reports["teacher"]["policy"]:
        return found
    score, game = reports["score/nature"], before["game"]
    for stage, player in zip(INTEGERS, PLAYERS, strict=True):
        path = target / SHIPPED[stage]
        if player in reports or player not in before.get("integers", {}) or not path.exists():
            continue
        again = score["models"].get(stage) == digest(path.read_bytes())
        if not again and before["protocol"] != score["protocol"]:
            raise SettingsError(
                f"{path}: scored by {before['protocol']}, must be as this run of its teacher, {score['protocol']}; "
                f"run make score GAME={game} ARGS=score.players=[{player}]"
            )
        own = {k: (score if again else before)["scores"][player][k] for k in keep}
        own["of_teacher"] = of_teacher(game, own["mean"], score["scores"]["teacher"]["mean"])
        found[player] = own
    return found


def joined(card: Mapping[str, Any], run_folder: Path, keep: tuple[str, ...]) -> dict[str, Any]:
    """A shipped game's card with the integers of a run that has them alone, made from the very teacher that ships.

    Raises SettingsError where they are of another teacher, or were scored by other rules.
    """
    score = report_of(run_folder, "score/nature")
    reports = {"score/nature": score, **integer_reports(run_folder, own_integers(run_folder))}
    if len(reports) == 1:
        raise SettingsError(
            f"{run_folder}: found no teacher, no student and no integers that are scored, must have one of them; "
            f"run make integers GAME={card['game']} BITS=8, then make score with ARGS=score.players=[int8]"
        )
    need_same(run_folder, identities(run_folder, reports, card["teacher"]["policy"]))
    need_same_rules(run_folder, card, reports)
    made, teacher = integers_of(reports), card["scores"]["teacher"]["mean"]
    scores = {player: {k: score["scores"][player][k] for k in keep} for player in made}
    for own in scores.values():
        own["of_teacher"] = of_teacher(card["game"], own["mean"], teacher)
    both = {**card.get("integers", {}), **made}
    return {**card, "scores": {**card["scores"], **scores}, "integers": both}


def _made(card: Mapping[str, Any]) -> dict[str, Any]:
    """Integers in the order of INTEGERS; files are sorted by name."""
    found = card.get("integers", {})
    return {player: found[player] for player in PLAYERS if player in found}


def integer_lines(card: Mapping[str, Any]) -> Iterator[str]:
    """For people: how small, how near, how long it took."""
    for own in _made(card).values():
        told = own["settings"]["integers"]
        yield (
            f"- {own['bits']} bits: {own['bytes'] / 1e6:.2f} MB, {own['multiply_adds'] / 1e6:.1f} M multiply-adds a "
            f"decision, agreement with the teacher {own['exam']['integers/agreement']:.3f}; {own['updates']:,} updates "
            f"of {told['batch']} (epochs: {told['epochs']}), {own['wall_s'] / 60:.0f} minutes; "
            f"digest `{own['spec'][:16]}`"
        )


def integer_commands(card: Mapping[str, Any], composed: Composed) -> Iterator[str]:
    """The commands that made and scored them."""
    made, game = _made(card), card["game"]
    for own in made.values():
        yield fine_tuning(game, own["settings"], composed)
    if made:
        yield f"make score GAME={game} ARGS=score.players=[{','.join(made)}]"

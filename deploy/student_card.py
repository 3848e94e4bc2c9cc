"""What a card tells of a student and its chip, and how a new one takes the place of that of a teacher that ships."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deploy.cards import need_same
from deploy.compiled import load_compiled
from deploy.gather import joules
from deploy.reports import of_teacher
from deploy.spec import load_spec
from deploy.verification import need_same_student
from rl.files import digest
from rl.settings import SettingsError
from rl.stages import CHIP, STUDENT

STAGES = ("rollouts", "student", "chip")  # whose reports tell of a student
PLAYERS = ("student", "chip")
BEFORE = ("spec", "updates", "wall_s", "settings", "finetuned", "begun")  # of one that it began as, if it shipped
KEPT = ("spec", "updates", "wall_s", "settings", "origin", "finetuned")  # the last if it learned on by play


def student_identities(
    run_folder: Path, game: str, reports: Mapping[str, Any], teacher: str
) -> dict[str, tuple[str, str]]:
    """(digest told, digest of the file) of student and chip and of the teacher they come from, by what tells it."""
    spec, origin = load_spec(run_folder / STUDENT)
    compiled, _ = load_compiled(run_folder / CHIP)
    need_same_student(spec, compiled)
    told = {
        "student's teacher": (origin["teachers"][game], teacher),
        "student/report.json": (reports["student"]["spec"], spec.digest),
        "chip/report.json": (reports["chip"]["graph"], compiled.digest),
    }
    return told | scored_identities(run_folder, reports, (STUDENT, CHIP))


def scored_identities(
    run_folder: Path, reports: Mapping[str, Any], stages: tuple[str, ...]
) -> dict[str, tuple[str, str]]:
    """The same of the files that were scored."""
    scored = reports["score/nature"]["models"]
    return {
        f"score/nature/report.json, {stage}": (scored.get(stage, "none"), digest((run_folder / stage).read_bytes()))
        for stage in stages
    }


def of_student(reports: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What a card tells of a student: data, training and chip; `before`: the card that shipped until now, if any."""
    chip = reports["chip"]
    data = before if of_same_dataset(reports["student"], before) else reports
    return {
        "rollouts": {k: v for k, v in data["rollouts"].items() if k not in ("what", "game")},
        "student": kept_of(reports["student"], before),
        "chip": {k: chip[k] for k in ("graph", "usage", "latency_ticks", "mean_hops", "file_bytes", "settings")},
    }


def of_same_dataset(student: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether a student comes of the dataset that a card tells of: one that learns on by play reads none of its own."""
    return before.get("rollouts", {}).get("digest", "none") in student["origin"].get("datasets", {}).values()


def kept_of(student: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What a card keeps of a student by its report, and of the one that `before` says ships, if it began as it.

    One that ships already and is published once more keeps what its card tells.
    """
    ships, own = before.get("student", {}), {k: student[k] for k in KEPT if k in student}
    if ships.get("spec") in {start["spec"] for start in student["origin"].get("start", [])}:
        return own | {"begun": before_of(ships)}
    again = ships.get("spec") in (student["spec"], student["origin"].get("finetuned_from")) and "begun" in ships
    return own | ({"begun": ships["begun"]} if again else {})


def before_of(student: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a card's student once another one, which began as it, ships."""
    starts = student.get("origin", {}).get("start")
    return {k: student[k] for k in BEFORE if k in student} | ({"origin": {"start": starts}} if starts else {})


def with_student(
    card: Mapping[str, Any], run_folder: Path, reports: Mapping[str, Any], keep: tuple[str, ...]
) -> dict[str, Any]:
    """A shipped game's card with the student and chip of a run that has them alone, made from the teacher that ships.

    Raises SettingsError where they are of another teacher, or were scored by other rules.
    """
    need_same(run_folder, student_identities(run_folder, card["game"], reports, card["teacher"]["policy"]))
    need_same_rules(run_folder, card, reports)
    found, teacher = reports["score/nature"]["scores"], card["scores"]["teacher"]["mean"]
    scores = {player: {k: found[player][k] for k in keep} for player in PLAYERS if player in found}
    for own in scores.values():
        own["of_teacher"] = of_teacher(card["game"], own["mean"], teacher)
    others = {player: own for player, own in card["scores"].items() if player not in PLAYERS}
    return {**card, "scores": {**others, **scores}, **of_student(reports, card)}


def trainings(student: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A card's student as it was distilled: those that it began as, where they shipped or told it, then itself."""
    if "begun" in student:
        yield from trainings(student["begun"])
    ships = student.get("begun", {}).get("spec")
    starts = student.get("origin", {}).get("start", [])
    yield from (own for own in starts if "settings" in own and own["spec"] != ships)
    yield student


def need_same_rules(run_folder: Path, card: Mapping[str, Any], reports: Mapping[str, Any]) -> None:
    """Raise SettingsError where a run was scored by other rules than what ships."""
    found = reports["score/nature"]["protocol"]
    if found != card["protocol"]:
        raise SettingsError(
            f"{run_folder}: scored by {found}, must be as what ships, {card['protocol']}; "
            f"run make score GAME={card['game']} again"
        )


def student_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """For people: dataset, student and chip."""
    data, student, chip = facts["rollouts"], facts["student"], facts["chip"]
    used, there = chip["usage"]["total"]["cores"]
    yield f"- dataset: {data['decisions']:,} decisions, {data['bytes_per_decision']:.0f} bytes each"
    minutes = student["wall_s"] / 60
    more = student.get("finetuned")
    played = f", then {more['updates']:,} by play, {more['wall_s'] / 60:.0f} minutes" if more else ""
    trained = f"{student['updates']:,} updates{behind(student)}, {minutes:.0f} minutes{played}"
    yield f"- student: {trained}; digest `{student['spec'][:16]}`"
    ticks, graph = chip["latency_ticks"], chip["graph"][:16]
    yield f"- chip: {used:,} of {there:,} cores, votes after {ticks} ticks; digest `{graph}`"
    yield from _energy(chip)
    yield f"- replay: `make replay GAME={facts['game']}`"


def behind(student: Mapping[str, Any]) -> str:
    """What a student had behind it when it began, where it did not begin with nothing."""
    starts = student["origin"].get("start", [])
    return " and".join(f" after {own['updates']:,} as `{own['spec'][:16]}`" for own in starts)


def _energy(chip: Mapping[str, Any]) -> Iterator[str]:
    """A line, where the card tells the energy; older ones do not."""
    if "energy" in chip:
        whole, each = chip["energy"]["whole"], 1e3 * joules(chip["energy"])
        yield (
            f"- energy, an estimate from published constants: {1e3 * whole['static_w']:.0f} mW static and "
            f"{1e3 * whole['active_a_w']:.0f} mW active, {each:.1f} mJ a decision"
        )

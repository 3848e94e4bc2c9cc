"""What a student that learns on by play begins as: the one with its hidden weights, or integers alone, unfolded."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.spec import StudentSpec, load_spec
from distill.latent import load_latent
from distill.student import Student, StudentSettings
from distill.unfold import unfold
from rl.files import read_json, write_json, write_whole
from rl.settings import SettingsError, build
from rl.stages import CARD, PLAIN_STUDENT, STUDENT, find

LATENT, SPEC, REPORT = "latent.safetensors", "student.npz", "report.json"


@dataclass(frozen=True, eq=False)
class Beginning:
    """A student before it plays."""

    student: Student
    shape: StudentSettings
    spec: StudentSpec  # what it folds to
    made: Mapping[str, Any]  # where that comes from
    told: Mapping[str, Any]  # its report; nothing where there is none beside its hidden weights
    file: Path  # of the spec
    unfolded: bool  # statistics and scale of votes are to be measured


def beginning(game: str, root: str, finetuned: Path) -> Beginning:
    """The student of a game: as it was before the one in `finetuned` took its place, else the run's, else what ships.

    Raises SettingsError where there is none, or where nothing beside integers alone tells their layers.
    """
    distilled = Path(root) / game / "student"
    folder = before(finetuned) if took_its_place(distilled, finetuned) else distilled
    return with_hidden(game, folder) if (folder / LATENT).exists() else from_integers(game, folder, root)


def before(finetuned: Path) -> Path:
    """Where a student is kept whose place the finetuned one took."""
    return finetuned / "before"


def took_its_place(distilled: Path, finetuned: Path) -> bool:
    """Whether the run's student, if it still has one, is the finetuned one: another was distilled since."""
    there, own = distilled / SPEC, finetuned / SPEC
    if not (before(finetuned) / SPEC).exists():
        return False
    return not there.exists() or (own.exists() and there.read_bytes() == own.read_bytes())


def with_hidden(game: str, folder: Path) -> Beginning:
    """A distilled student with its hidden weights; raises SettingsError where they are not those of its spec."""
    student, digest, shape = load_latent(folder / LATENT)
    spec, made = load_spec(folder / SPEC)
    if spec.digest != digest:
        raise SettingsError(f"{folder / LATENT}: folds to another spec than student.npz; run make distill again")
    told = read_json(folder / REPORT) if (folder / REPORT).exists() else {}
    return Beginning(student.train(), shape, spec, made, told, folder / SPEC, unfolded=False)


def from_integers(game: str, folder: Path, root: str) -> Beginning:
    """A folded student, its hidden weights chosen anew; raises SettingsError where there is none."""
    file = folder / SPEC if (folder / SPEC).exists() else find(STUDENT, game, root)
    spec, made = load_spec(file)
    told = told_of(file, spec, game)
    shape = build(StudentSettings, {**PLAIN_STUDENT, **told["settings"]["student"]}, "student")
    student = Student(shape, spec.heads)
    unfold(student, [spec])
    return Beginning(student.train(), shape, spec, made, told, file, unfolded=True)


def told_of(file: Path, spec: StudentSpec, game: str) -> dict[str, Any]:
    """The report of a spec: of its run, or what the card of a shipped one tells; raises SettingsError without."""
    report, card = (file.with_name(name) for name in (REPORT, CARD))
    told = read_json(report) if report.exists() else {}
    if not told and card.exists():
        told = {"what": "student", "games": [game], **read_json(card).get("student", {})}
    if told.get("spec") != spec.digest:
        raise SettingsError(
            f"{file}: no report of this student beside it tells its layers; run make distill GAMES={game}"
        )
    return told


def set_aside(begun: Beginning, folder: Path) -> None:
    """Keep a student whose place another one takes, the spec as the last of all; one that is kept already stays."""
    if begun.file.parent == folder:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    latent = begun.file.with_name(LATENT)
    if latent.exists():
        write_whole(folder / LATENT, latent.read_bytes())
    if begun.told:
        write_json(folder / REPORT, begun.told)
    write_whole(folder / SPEC, begun.file.read_bytes())

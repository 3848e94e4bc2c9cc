"""Where each stage writes and what the next one reads: under runs/ first, else what ships under models/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rl.files import digest, read_json
from rl.settings import SettingsError

MODELS = Path(__file__).resolve().parent.parent / "models"
TEACHER, STUDENT, CHIP = "teacher/policy.safetensors", "student/student.npz", "chip/chip.npz"
INT8, INT4 = "int8/int8.npz", "int4/int4.npz"
CARD = "card.json"  # of a game that ships, beside its files
SEVERAL = "several.json"  # of a student of several games that ships
SHIPPED = {
    TEACHER: "teacher.safetensors",
    STUDENT: "student.npz",
    CHIP: "chip.npz",
    INT8: "int8.npz",
    INT4: "int4.npz",
}
_MAKES = {
    "teacher": "make teacher GAME={0}",
    "rollouts": "make rollouts GAME={0}",
    "student": "make distill GAMES={0}",
    "chip": "make compile GAMES={0}",
    "int8": "make integers GAME={0} BITS=8",
    "int4": "make integers GAME={0} BITS=4",
    "score": "make score GAMES={0}",
}


# Policy Distillation's ten (Rusu et al. 2015); the folder of a student of them all is named TEN_LABEL.
TEN = (
    *("BeamRider", "Breakout", "Enduro", "Freeway", "MsPacman"),
    *("Pong", "Qbert", "Riverraid", "Seaquest", "SpaceInvaders"),
)
TEN_LABEL = "Ten"
# Of a student's shape, where a record says nothing: it is of before there was a choice.
PLAIN_STUDENT: Mapping[str, Any] = MappingProxyType(
    {"history": 1, "transduction": "learned", "signs": "free", "towers": 1}
)


def label(games: Sequence[str]) -> str:
    """The folder of a single- or multi-game model."""
    return TEN_LABEL if tuple(games) == TEN else "-".join(games)


def labelled(name: str) -> tuple[str, ...]:
    """The games of a folder's name, in their order."""
    return TEN if name == TEN_LABEL else tuple(name.split("-"))


def find(stage: str, name: str, root: str, models: Path = MODELS, *, recorded: Mapping[str, str] | None = None) -> Path:
    """The file of a stage (TEACHER, STUDENT, CHIP) for a game; says which one it is.

    `recorded`: sha256 by stage of the files that a replay was played with; the one of these bytes is taken where it is
    still there.
    """
    own, shipped = Path(root) / name / stage, models / name / SHIPPED[stage]
    there = [path for path in (own, shipped) if path.exists()]
    if not there:
        _need_games(labelled(name), models)
        raise SettingsError(f"{stage.split('/')[0]}: neither {own} nor {shipped} exists; run {_makes(stage, name)}")
    wanted = (recorded or {}).get(stage)
    path = next((path for path in there if wanted and digest(path.read_bytes()) == wanted), there[0])
    print(f"{stage.split('/')[0]}: {path}")
    return path


def report_of(folder: Path, stage: str) -> dict[str, Any]:
    """What a stage of a run, of one game or several, left when it was done; raises SettingsError where it is not."""
    path = folder / stage / "report.json"
    if not path.exists():
        raise SettingsError(f"{path} does not exist; finish {_makes(stage, folder.name)} first")
    return read_json(path)


def _makes(stage: str, name: str) -> str:
    """The command that does a stage for the games of a folder's name."""
    return _MAKES[stage.split("/")[0]].format(",".join(labelled(name)))


def shipped_card(name: str, models: Path = MODELS) -> dict[str, Any]:
    """What the card of a shipped game tells; nothing where none ships."""
    path = models / name / CARD
    return read_json(path) if path.exists() else {}


def same_layers(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two records of a student's settings tell of equal layers."""
    return {**PLAIN_STUDENT, **one} == {**PLAIN_STUDENT, **other}


def _need_games(games: Sequence[str], models: Path) -> None:
    """A file is missing: where there is no such game at all, that is the thing to say."""
    from rl.games import rom_id  # whoever finds its files needs no emulator for it

    try:
        for game in games:
            rom_id(game)
    except SettingsError as problem:
        several = ", ".join(sorted(path.parent.name for path in models.glob(f"*/{SEVERAL}")))
        raise SettingsError(f"{problem}; students of several games that ship: {several or 'none'}") from None


def rollouts(name: str, root: str) -> Path:
    """The dataset folder of a game."""
    folder = Path(root) / name / "rollouts"
    if not (folder / "manifest.json").exists():
        raise SettingsError(f"rollouts: {folder} holds no dataset; run {_makes('rollouts', name)}")
    return folder

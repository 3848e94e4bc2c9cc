"""How to make a model again: what a report's settings say that conf/ does not, as the ARGS of its command."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from functools import cache, wraps
from pathlib import Path
from typing import Any

from rl.gather import leaves

Composed = Callable[..., dict[str, Any]]  # (stage, what is said beside...) -> its settings
ALGOS, STUDENTS = (Path(__file__).parents[1] / "conf" / group for group in ("algo", "student"))
PLACES = ("root", "alone")  # settings that say where files lie
# They, and how a machine shares its work: what is made is the same.
ELSEWHERE = {
    *PLACES,
    "device",
    "checkpoint_s",
    "log_updates",
    "threads",
    "learner_threads",
    "env_threads",
    "torch_threads",
}

# What a setting was before there was one: reports of that time do not tell it.
BEFORE = {
    "teacher.confirm_episodes": 0,
    "teacher.agent.prioritised": False,
    "teacher.agent.quantiles": 1,
    "teacher.agent.dueling": False,
    "teacher.agent.advantage": 0.0,
    "finetune.bias_rate": 0.05,
    "distill.start": [],
    "distill.online_falls": 0.0,
    "distill.unit": "value",
    "distill.readouts": 0.0,
    "distill.hints": 0.0,
    "distill.still_levels": 0,
    "student.history": 1,
    "student.transduction": "learned",
    "student.signs": "free",
    "student.towers": 1,
}


def arguments(found: Mapping[str, Any], own: Mapping[str, Any], presets: Mapping[str, Any]) -> str:
    """What must be said for a stage, whose settings are `own`, to run as it did: as `found`.

    `presets`: students by name. What was set and is no longer known is left out.
    """
    known = dict(leaves(own))
    told = {key: value for key, value in BEFORE.items() if key in known} | dict(leaves(found))
    # What is a list now, and was none then, was an empty one.
    told |= {key: [] for key, value in told.items() if value is None and isinstance(known.get(key), list)}
    student = {key: value for key, value in told.items() if key.startswith("student.")}
    named = {name: dict(leaves({"student": layers})) for name, layers in presets.items()}
    said = [name for name, layers in named.items() if layers == student and not student.items() <= known.items()]
    known |= student if said else {}
    said = [f"student={name}" for name in said] + [
        f"{key}={_typed(value)}"
        for key, value in told.items()
        if key.rpartition(".")[2] not in ELSEWHERE and known.get(key, value) != value
    ]
    return " ".join(said)


def _typed(value: Any) -> str:
    """As a command line says it, in double quotes: names bare, in a list too."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(own, str) for own in value):
        return f"[{','.join(value)}]"
    return json.dumps(value, separators=(",", ":"))


def remembered(composed: Composed) -> Composed:
    """Ask once for the same settings: conf/ stays as it is while a command runs, and cards ask a dozen times."""
    known = cache(lambda stage, named: composed(stage, *named))

    @wraps(composed)
    def again(stage: str, *named: str) -> dict[str, Any]:
        return copy.deepcopy(known(stage, named))

    return again


def teaching(game: str, found: Mapping[str, Any], composed: Composed) -> str:
    """The command that trained a teacher, with all that was said beside conf/."""
    algo = found.get("teacher", {}).get("algo", "")
    preset = (f"algo={algo}",) if (ALGOS / f"{algo}.yaml").exists() else ()
    named = f"game={game}", f"name={game}", *preset
    own = composed("teacher", *named)["teacher"]
    frames = found.get("teacher", own).get("train_frames", own["train_frames"])
    # What follows the frames need not be said beside them.
    follows = composed("teacher", *named, f"teacher.train_frames={frames}")
    follows["teacher"]["train_frames"] = own["train_frames"]
    said = arguments(found, follows, {})
    return _line(f"make teacher GAME={game}", " ".join([*preset, *([said] if said else [])]))


def recording(game: str, found: Mapping[str, Any], composed: Composed) -> str:
    """The command that recorded a dataset; of one whose report tells no settings, how much it holds alone."""
    told = found.get("settings", {"rollouts": {"decisions": found["decisions"]}})
    args = arguments(told, composed("rollouts", f"game={game}", f"name={game}"), {})
    return _line(f"make rollouts GAME={game}", args)


def finetuning(game: str, found: Mapping[str, Any], composed: Composed) -> str:
    """The same of a student that learned on by play."""
    return _line(
        f"make finetune GAME={game}", arguments(found, composed("finetune", f"game={game}", f"name={game}"), {})
    )


def fine_tuning(game: str, found: Mapping[str, Any], composed: Composed) -> str:
    """The same of a teacher's integers."""
    bits = found["integers"]["bits"]
    own = composed("integers", f"game={game}", f"name={game}", f"bits=int{bits}")
    return _line(f"make integers GAME={game} BITS={bits}", arguments(found, own, {}))


def distilling(games: str, found: Mapping[str, Any], composed: Composed) -> str:
    """The same of a student; `games` as the command is given them: GAME=Pong."""
    named = f"games=[{games.partition('=')[2]}]"
    names = sorted(path.stem for path in STUDENTS.glob("*.yaml"))
    presets = {name: composed("distill", named, f"student={name}")["student"] for name in names}
    return _line(f"make distill {games}", arguments(found, composed("distill", named), presets))


def _line(command: str, args: str) -> str:
    return command + (f' ARGS="{args}"' if args else "")

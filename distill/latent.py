"""The student in training, kept beside its folded integers so that the two can be compared at any time."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from deploy.spec import Head
from distill.student import Student, StudentSettings
from rl.checkpoint import read_tensors, write_tensors
from rl.files import FormatError
from rl.settings import build
from rl.stages import PLAIN_STUDENT

KIND = "spikecade-latent"


def save_latent(student: Student, settings: StudentSettings, spec_digest: str, path: Path) -> None:
    """Write a student's hidden weights and statistics, and the digest of the spec that was folded from it."""
    heads = [{"game": h.game, "actions": list(h.actions), "start": h.start} for h in student.heads]
    layers = [asdict(layer) for layer in settings.layers]
    facts = {"front_features": settings.front_features, "layers": layers, "heads": heads, "spec": spec_digest}
    facts |= {name: getattr(settings, name) for name in PLAIN_STUDENT}
    write_tensors(path, KIND, facts, student.state_dict())


def load_latent(path: Path) -> tuple[Student, str, StudentSettings]:
    """Read (student in evaluation mode, digest of its spec, its shape); raises FormatError."""
    facts, tensors = read_tensors(path, KIND)
    try:
        shape = {"front_features": facts["front_features"], "layers": facts["layers"]}
        shape |= {name: facts.get(name, plain) for name, plain in PLAIN_STUDENT.items()}
        heads = tuple(Head(h["game"], tuple(h["actions"]), h["start"]) for h in facts["heads"])
        settings = build(StudentSettings, shape, "student")
        student = Student(settings, heads)
        student.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as cause:
        raise FormatError(f"{path}: no legal student ({cause}); distil it again") from cause
    return student.eval(), facts["spec"], settings

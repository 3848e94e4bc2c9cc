"""Teachers, their lessons and the student that takes them: one update after another, saved and resumed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deploy.spec import Head, StudentSpec
from distill.export import export
from distill.learner import Goal, Learner, imitation
from distill.readouts import Hinter, Readouts, axes_of, hidden_units, shrinking
from distill.settings import DistillRun, rate_at, readouts_at, still_at, temperature_at
from distill.sources import Lesson, Online, Recorded, joined
from distill.student import Student, recalibrate
from rl.checkpoint import (
    PolicyCheckpoint,
    load_optimiser,
    load_policy,
    optimiser_tensors,
    read_tensors,
    write_tensors,
)
from rl.frames import Frames
from rl.network import rounded
from rl.parallel import ALONE, Team
from rl.settings import SettingsError
from rl.stages import TEACHER, find, rollouts

STATE = "spikecade-distilling"
WARM = 10  # steps of every env that are seen before they are learnt from
LESSONS, CALIBRATION, HINTS = 0, 1, 3  # what a draw is for: each has numbers of its own; 2 is the exam's
HINT_ROWS, HINT_BATCHES = 256, 16  # pictures that say along which axes hidden units vary


def heads_of(teachers: list[PolicyCheckpoint]) -> tuple[Head, ...]:
    """One head a game, their answers one behind the other."""
    heads, start = [], 0
    for teacher in teachers:
        heads.append(Head(teacher.game, teacher.actions, start))
        start = heads[-1].stop
    return tuple(heads)


class Distiller:
    """A student, its optimiser and its lessons. What is drawn depends on the seed and the update's number alone."""

    def __init__(self, config: DistillRun, team: Team = ALONE) -> None:
        own = self._own = config.distill
        torch.set_num_threads(1)  # two of OpenMP spin at every operator; the threads that share a batch are ours
        torch.manual_seed(own.seed)
        self.config, self._team = config, team
        self.teachers = [load_policy(find(TEACHER, game, config.root)) for game in config.games]
        student = Student(config.student, heads_of(self.teachers))
        student.tune(own.hysteresis, own.surrogate_width)
        folders = [rollouts(game, config.root) for game in config.games]
        recorded = partial(
            Recorded, held_out=own.held_out, env=config.env, decisions=own.decisions, unit=own.unit, shift=own.shift
        )
        self.recorded = [recorded(*pair) for pair in zip(folders, self.teachers, strict=True)]
        self.online = [self._online(index) for index in range(len(self.teachers)) if own.mode != "offline"]
        read = shrinking(student) if own.readouts else []
        hinting = range(len(self.teachers)) if read and own.hints else ()
        self._hinters = [team.share(self._hinter(game)) for game in hinting]
        readouts = Readouts(student, read, [hinter.axes.shape[1] for hinter in self._hinters])
        self.learner = Learner(student, own.learning_rate, own.threads, own.bf16, team, readouts)
        self.update, self.wall_s = 0, 0.0
        self.best: float | None = None
        self._drawn: tuple[int, list[Lesson]] | None = None  # lessons of the next update, drawn during the last one

    @property
    def student(self) -> Student:
        return self.learner.student

    def _online(self, index: int) -> Online:
        own = self._own
        seed = own.seed + 17 * index + 1009 * self._team.rank
        rows, unit = own.online_rows, self.recorded[index].unit
        env, teacher = self.config.env, self.teachers[index]
        return Online(teacher, env, own.envs, rows, own.online_epsilon, seed, unit, own.shift)

    def _hinter(self, game: int) -> Hinter:
        """A teacher, and along which axes its hidden units vary most where it plays."""
        teacher = rounded(self.teachers[game].build(), self._own.bf16)
        rng, recorded = self._draws(0, HINTS), self.recorded[game]
        batches = min(HINT_BATCHES, -(-recorded.size // HINT_ROWS))  # no more than there is
        lessons = (recorded.lesson(rng, HINT_ROWS) for _ in range(batches))
        units = torch.cat([hidden_units(teacher, lesson.cells) for lesson in lessons])
        return Hinter(teacher, *axes_of(units, self._own.hint_axes))

    def step(self) -> dict[str, float]:
        """One update on lessons of every game; what it saw. While gradients are computed the student plays on."""
        start, own = time.monotonic(), self._own
        loss = imitation(own.loss, temperature_at(self.update, own))
        readouts = readouts_at(self.update, own) if self.learner.readouts.levels else 0.0
        goal = Goal(loss, rate_at(self.update, own), self.update, readouts, own.hints)
        self.student.still = still_at(self.update, own)
        parts = self.learner.begin(self._lessons(self.update), goal)
        self._play()
        self._drawn = (self.update + 1, self._lessons(self.update + 1))
        told = self.learner.finish(parts, goal)
        self.update += 1
        self.wall_s += time.monotonic() - start
        return told

    def _lessons(self, update: int) -> list[Lesson]:
        if self._drawn and self._drawn[0] == update:
            return self._drawn[1]
        rng = self._draws(update, LESSONS)
        lessons = [self._lesson(game, rng) for game in range(len(self.recorded))]
        if not self._hinters or not readouts_at(update, self._own):
            return lessons
        return [
            replace(lesson, hints=hinter(lesson.cells)) for hinter, lesson in zip(self._hinters, lessons, strict=True)
        ]

    def _draws(self, update: int, what: int) -> np.random.Generator:
        return np.random.default_rng([self._own.seed, update, self._team.rank, what])

    def _lesson(self, game: int, rng: np.random.Generator) -> Lesson:
        """Of every game equally many rows, however much of it was recorded."""
        size = self._own.batch // len(self.recorded)
        if self._own.mode == "offline" or self.online[game].seen <= WARM * self._own.envs:
            return self.recorded[game].lesson(rng, size)
        if self._own.mode == "online":
            return self.online[game].lesson(rng, size)
        half = size // 2
        return joined([self.recorded[game].lesson(rng, size - half), self.online[game].lesson(rng, half)])

    def _play(self) -> None:
        if self._own.mode == "offline" or self.update < self._own.online_start_updates:
            return
        for head, game in enumerate(self.online):
            game.play(partial(self._greedy, head=head))

    def _greedy(self, stacks: Frames, head: int) -> NDArray[np.int64]:
        """By the statistics that are kept: those of the batch before."""
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self._own.bf16):
            *_, last = self.student.levels(torch.from_numpy(stacks), None)
            votes = self.student.count(last.permute(0, 3, 1, 2))
            return self.student.logits(votes, head).argmax(dim=1).numpy()  # type: ignore[no-any-return]

    def folded(self) -> StudentSpec:
        """The student as integers, its statistics taken anew from the lessons."""
        recalibrate(self.student, self._batches())
        spec = export(self.student)
        self.student.train()
        return spec

    def own_scores(self) -> dict[str, float]:
        """Mean of the newest returns of the student's own play, by game, where an episode has ended."""
        pairs = zip(self.config.games, self.online, strict=False)  # offline it does not play
        return {f"online/{game}": float(np.mean(online.returns)) for game, online in pairs if online.returns}

    def _batches(self) -> Iterator[Tensor]:
        rng = self._draws(self.update, CALIBRATION)
        for _ in range(self._own.calibrate_batches):
            yield torch.cat([self._lesson(game, rng).cells for game in range(len(self.recorded))])

    def save(self, path: Path) -> None:
        if self._team.rank:
            return
        tensors = {f"student.{k}": v for k, v in self.student.state_dict().items()}
        tensors |= {f"readouts.{k}": v for k, v in self.learner.readouts.state_dict().items()}
        for index, hinter in enumerate(self._hinters):
            tensors |= {f"hints.{index}.mean": hinter.mean, f"hints.{index}.axes": hinter.axes}
        tensors |= optimiser_tensors(self.learner.optimiser)
        facts = {"update": self.update, "wall_s": self.wall_s, "best": self.best, "identity": self._identity()}
        write_tensors(path, STATE, facts, tensors)

    def resume(self, path: Path) -> None:
        """Go on from a saved state; the online ring fills anew."""
        facts, tensors = read_tensors(path, STATE)
        if facts["identity"] != self._identity():
            raise SettingsError(
                f"{path}: begun with other games, teachers or layers; use another root=... or remove it"
            )
        for prefix, own in (("student.", self.student), ("readouts.", self.learner.readouts)):
            own.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        self._hinters = [
            # Another machine's axes may point elsewhere, and readouts have learnt these.
            replace(hinter, mean=tensors[f"hints.{index}.mean"], axes=tensors[f"hints.{index}.axes"])
            for index, hinter in enumerate(self._hinters)
        ]
        load_optimiser(self.learner.optimiser, tensors)
        self.update, self.wall_s, self.best = facts["update"], facts["wall_s"], facts["best"]

    def _identity(self) -> dict[str, Any]:
        student = self.config.student
        layers = [list(asdict(layer).values()) for layer in student.layers]
        shape: dict[str, Any] = {"front": student.front_features, "layers": layers}
        for name, plain in (("history", 1), ("transduction", "learned"), ("signs", "free")):
            if getattr(student, name) != plain:  # left out where plain, so that runs begun before there was one go on
                shape[name] = getattr(student, name)
        if self.learner.readouts.levels:
            shape["readouts"] = [*self.learner.readouts.levels, *(hinter.axes.shape[1] for hinter in self._hinters)]
        return {"games": list(self.config.games), "teachers": [t.digest for t in self.teachers], **shape}

    def close(self) -> None:
        for online in self.online:
            online.close()

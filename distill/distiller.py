"""Teachers, their lessons and the student that takes them: one update after another, saved and resumed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deploy.spec import Head, StudentSpec
from distill.export import export
from distill.learner import Goal, Learner, imitation
from distill.memo import Memo, Remembering
from distill.packing import packed
from distill.readouts import Hinter, Readouts, axes_of, hidden_units, shrinking
from distill.settings import DistillRun, rate_at, readouts_at, still_at, temperature_at
from distill.sources import Lesson, Online, Recorded, joined
from distill.statistics import measure, recalibrate
from distill.student import Student
from distill.unfold import be_sure, begun_as, load_start, unfold
from rl.checkpoint import (
    PolicyCheckpoint,
    load_optimiser,
    load_policy,
    optimiser_tensors,
    read_tensors,
    write_tensors,
)
from rl.games import SEEDS
from rl.network import rounded
from rl.parallel import ALONE, Team
from rl.settings import SettingsError, need_begun_alike
from rl.stages import PLAIN_STUDENT, TEACHER, find, rollouts

STATE = "spikecade-distilling"
WARM = 10  # steps of every env that are seen before they are learnt from
LESSONS, CALIBRATION, HINTS, MEMORY = 0, 1, 3, 4  # what a draw is for: each has numbers of its own; 2 is the exam's
Sources = tuple[Recorded | Remembering, Online | Remembering | None]  # recorded, and of the student's own play
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
        self.update, self.wall_s = 0, 0.0
        self.online = self._opened()
        read = shrinking(student) if own.readouts else []
        hinting = range(len(self.teachers)) if read and own.hints else ()
        self._hinters = [team.share(self._hinter(game)) for game in hinting]
        readouts = Readouts(student, read, [hinter.axes.shape[1] for hinter in self._hinters])
        self.learner = Learner(student, own.learning_rate, own.threads, own.bf16, team, readouts)
        self.best: float | None = None
        self.judged: int | None = None  # the update at which it was played last, to see whether it is the best
        self.start: list[dict[str, Any]] = []  # students that it began as, and the updates behind each
        self._memory: list[Sources] = []  # by game, once levels stand still
        self._drawn: tuple[int, list[Lesson]] | None = None  # lessons of the next update, drawn during the last one

    def begin_as(self, paths: Sequence[Path]) -> None:
        """Go on from folded students, one for each tower, in place of fresh ones."""
        own, student = self._own, self.student
        known = [load_start(path) for path in paths]
        unfold(student, [spec for spec, _ in known])
        measure(student, self._batches())
        rng = self._draws(self.update, CALIBRATION)
        lessons = [self._lesson(*pair, rng) for pair in enumerate(self._sources())]
        be_sure(student, lessons, imitation(own.loss, temperature_at(self.update, own)))
        student.load_state_dict(self._team.share(student.state_dict()))  # each process drew lessons of its own
        student.train()
        self.start = [begun_as(path, *own) for path, own in zip(paths, known, strict=True)]

    @property
    def student(self) -> Student:
        return self.learner.student

    def _opened(self) -> list[Online]:
        """Games for the student's own play, which no earlier part of the run has had."""
        return [self._online(index) for index in range(len(self.teachers)) if self._own.mode != "offline"]

    def _online(self, index: int) -> Online:
        own = self._own
        seed = (own.seed + 17 * index + 1009 * self._team.rank + 100_003 * self.update) % SEEDS
        rows, unit = own.online_rows, self.recorded[index].unit
        env, teacher = self.config.env, self.teachers[index]
        return Online(teacher, env, own.envs, rows, own.online_epsilon, seed, unit, own.shift, own.online_falls)

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
        self._stand_still()
        parts = self.learner.begin(self._lessons(self.update), goal)
        self._play()
        self._drawn = (self.update + 1, self._lessons(self.update + 1))
        told = self.learner.finish(parts, goal)
        self.update += 1
        self.wall_s += time.monotonic() - start
        return told

    def _stand_still(self) -> None:
        """From a certain update on the first levels go by statistics of many batches, for good."""
        own, already = self._own, self.student.still
        still = still_at(self.update, own)
        if still > already:
            recalibrate(self.student, self._batches())
            self.student.load_state_dict(self._team.share(self.student.state_dict()))  # each had batches of its own
            self.student.train()
        self.student.still = still
        if still and not self._memory and self._remembers():
            self._memory = [self._memories(game) for game in range(len(self.recorded))]

    def _remembers(self) -> bool:
        """Whether what still levels say is kept: not of pictures that move, nor where readouts read further below."""
        own = self._own
        read_below = any(level < own.still_levels - 1 for level in self.learner.readouts.levels)
        return own.still_decisions > 0 and not own.shift and not read_below

    def _memories(self, game: int) -> Sources:
        """What is recorded and what the student plays, remembered from now on."""
        hints = self._hinters[game].axes.shape[1] if self._hinters else 0
        words, shown = -(-math.prod(self.student.still_shape()) // 8), partial(self._shown, game)
        most = max(1, self._own.still_decisions // len(self.recorded))
        some = self.recorded[game].some(self._draws(self._own.still_updates, MEMORY), most)
        recorded = Remembering(self.recorded[game], Memo(len(some), words, hints), shown, some)
        if self._own.mode == "offline":
            return recorded, None
        online = self.online[game]
        return recorded, Remembering(online, Memo(online.rows, words, hints), shown)

    def _shown(self, game: int, cells: Tensor) -> tuple[Tensor, Tensor | None]:
        """What levels that stand still say of stacks, packed, and what the teacher hints while that is learnt."""
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self._own.bf16):
            *_, bits = islice(self.student.levels(cells, None), self.student.still)
        return packed(bits), self._hints(game, cells)

    def _hints(self, game: int, cells: Tensor) -> Tensor | None:
        return self._hinters[game](cells) if self._hinted(self.update) else None

    def _lessons(self, update: int) -> list[Lesson]:
        if self._drawn and self._drawn[0] == update:
            return self._drawn[1]
        rng = self._draws(update, LESSONS)
        # The first lessons after levels came to stand were drawn while they still moved.
        if self._memory and update > self._own.still_updates:
            return [self._lesson(*pair, rng) for pair in enumerate(self._memory)]
        lessons = [self._lesson(*pair, rng) for pair in enumerate(self._sources())]
        if not self._hinted(update):
            return lessons
        return [
            replace(lesson, hints=hinter(lesson.cells)) for hinter, lesson in zip(self._hinters, lessons, strict=True)
        ]

    def _hinted(self, update: int) -> bool:
        return bool(self._hinters) and readouts_at(update, self._own) > 0

    def _draws(self, update: int, what: int) -> np.random.Generator:
        return np.random.default_rng([self._own.seed, update, self._team.rank, what])

    def _sources(self) -> list[Sources]:
        return [(recorded, self.online[game] if self.online else None) for game, recorded in enumerate(self.recorded)]

    def _lesson(self, game: int, sources: Sources, rng: np.random.Generator) -> Lesson:
        """Of every game as many rows as its share, however much of it was recorded."""
        size, (recorded, online) = self.config.rows[game], sources
        if online is None or self.online[game].seen <= WARM * self._own.envs:
            return recorded.lesson(rng, size)
        if self._own.mode == "online":
            return online.lesson(rng, size)
        half = size // 2
        return joined([recorded.lesson(rng, size - half), online.lesson(rng, half)])

    def _play(self) -> None:
        """A step of every game: one pass of the student for all of them, which then play at the same time."""
        if self._own.mode == "offline" or self.update < self._own.online_start_updates:
            return
        seen = [torch.from_numpy(game.stacks) for game in self.online]
        actions, levels = self._greedy(seen)
        rows = [game.begin(own) for game, own in zip(self.online, actions, strict=True)]
        if self._memory:
            self._remember(rows, seen, packed(levels[self.student.still - 1]))
        for game in self.online:
            game.end()

    def _greedy(self, seen: list[Tensor]) -> tuple[list[NDArray[np.int64]], list[Tensor]]:
        """Actions by stacks of every game, and what all levels said; by the statistics kept, of the batch before."""
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self._own.bf16):
            levels = list(self.student.levels(torch.cat(seen), None))
            votes = torch.split(self.student.count(levels[-1].permute(0, 3, 1, 2)), [len(own) for own in seen])
            logits = [self.student.logits(own, head) for head, own in enumerate(votes)]
        return [own.argmax(dim=1).numpy() for own in logits], levels

    def _remember(self, rows: list[NDArray[np.int64]], seen: list[Tensor], bits: Tensor) -> None:
        """What still levels have just said of new rows of every game, so that nothing is shown to them again."""
        for game, own in enumerate(torch.split(bits, [len(own) for own in seen])):
            remembering = self._memory[game][1]
            assert isinstance(remembering, Remembering)
            remembering.note(rows[game], own, self._hints(game, seen[game]))

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
            yield torch.cat([self._lesson(*pair, rng).cells for pair in enumerate(self._sources())])

    def save(self, path: Path) -> None:
        if self._team.rank:
            return
        tensors = {f"student.{k}": v for k, v in self.student.state_dict().items()}
        tensors |= {f"readouts.{k}": v for k, v in self.learner.readouts.state_dict().items()}
        for index, hinter in enumerate(self._hinters):
            tensors |= {f"hints.{index}.mean": hinter.mean, f"hints.{index}.axes": hinter.axes}
        tensors |= optimiser_tensors(self.learner.optimiser)
        facts: dict[str, Any] = {
            "update": self.update,
            "wall_s": self.wall_s,
            "best": self.best,
            "judged": self.judged,
            "still": self.student.still,
            "identity": self._identity(),
            "start": self.start,
        }
        write_tensors(path, STATE, facts, tensors)

    def resume(self, path: Path) -> None:
        """Go on from a saved state; the online ring fills anew."""
        facts, tensors = read_tensors(path, STATE)
        self._need_same(path, facts["identity"])
        need_begun_alike(str(path), "distill.start", facts.get("start"), self._own.start)
        for prefix, own in (("student.", self.student), ("readouts.", self.learner.readouts)):
            own.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        self._hinters = [
            # Another machine's axes may point elsewhere, and readouts have learnt these.
            replace(hinter, mean=tensors[f"hints.{index}.mean"], axes=tensors[f"hints.{index}.axes"])
            for index, hinter in enumerate(self._hinters)
        ]
        load_optimiser(self.learner.optimiser, tensors)
        self.update, self.wall_s, self.best = facts["update"], facts["wall_s"], facts["best"]
        self.judged = facts.get("judged", self.update)  # where it was not noted, it was played when it was due
        self.student.still = facts.get("still", still_at(self.update - 1, self._own))
        self.start = facts.get("start", [])
        for online in self.online:
            online.close()
        self.online = self._opened()

    def _need_same(self, path: Path, begun: dict[str, Any]) -> None:
        """Raise SettingsError where a saved run is of another identity."""
        own = self._identity()
        keys = [key for key in {**begun, **own} if begun.get(key) != own.get(key)]
        if keys:
            other = ", ".join("readouts or hints of them" if key == "readouts" else key for key in keys)
            raise SettingsError(f"{path}: begun with other {other}; use another root=... or remove it")

    def _identity(self) -> dict[str, Any]:
        student = self.config.student
        layers = [list(asdict(layer).values()) for layer in student.layers]
        shape: dict[str, Any] = {"front": student.front_features, "layers": layers}
        for name, plain in PLAIN_STUDENT.items():
            if getattr(student, name) != plain:  # left out where plain, so that runs begun before there was one go on
                shape[name] = getattr(student, name)
        if self.learner.readouts.levels:
            shape["readouts"] = [*self.learner.readouts.levels, *(hinter.axes.shape[1] for hinter in self._hinters)]
        return {"games": list(self.config.games), "teachers": [t.digest for t in self.teachers], **shape}

    def close(self) -> None:
        for online in self.online:
            online.close()

"""Levels that stand still: they neither learn nor are measured anew, and the others learn as they would have."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from distill_cases import SMALL, TINY, heads, prepared, tiny_run
from student_job import GOAL, flat, lessons

from distill.distiller import Distiller
from distill.learner import Learner
from distill.readouts import Readouts, shrinking
from distill.settings import still_at
from distill.statistics import recalibrate
from distill.student import Student, StudentSettings
from rl.parallel import Team
from rl.settings import SettingsError


def learner(still: int, threads: int = 1, read: bool = False) -> Learner:
    torch.manual_seed(5)
    student = Student(StudentSettings(4, SMALL), heads(3, 4))
    for _ in student.bits(torch.cat([lesson.cells for lesson in lessons()])):
        pass  # what is kept are the statistics of the very batch that is learnt from
    student.still = still
    readouts = Readouts(student, shrinking(student)) if read else None
    return Learner(student, 0.0625, threads, False, readouts=readouts)


def state(student: Student, levels: slice) -> torch.Tensor:
    own = list(student.normalised)[levels]
    return torch.from_numpy(flat(part for level in own for part in level.state_dict().values()))


def update(made: Learner, readouts: float = 0.0) -> None:
    goal = replace(GOAL, readouts=readouts)
    made.finish(made.begin(lessons(), goal), goal)


@pytest.mark.parametrize("still", [1, 2, len(SMALL)])
@pytest.mark.parametrize("threads", [1, 2])
def test_levels_that_stand_still_keep_all_they_have_and_the_others_learn(still, threads):
    made = learner(still, threads)
    before = [state(made.student, part) for part in (slice(still), slice(still, None))]
    for _ in range(2):
        update(made)
    assert torch.equal(state(made.student, slice(still)), before[0])
    assert not torch.equal(state(made.student, slice(still, None)), before[1])
    assert made.optimiser.state[made.student.front.hidden] == {}


@pytest.mark.parametrize("still", [1, 2])
def test_a_lower_hysteresis_moves_no_weight_of_a_level_that_stands_still(still):
    made = learner(still)
    with torch.no_grad():
        made.student.front.hidden.fill_(1.5)
        for layer in made.student.chip_layers:
            layer.hidden.fill_(0.45)  # between the bounds that were: 1 stayed 1
            layer.trinary.fill_(1)
    made.student.tune(0.0, 1.0)
    before = state(made.student, slice(still))
    flips = made.student.settle()
    assert torch.equal(state(made.student, slice(still)), before)
    moved = [bool((layer.trinary == 0).all()) for layer in made.student.chip_layers]
    assert moved == [level >= still for level in range(1, 1 + len(SMALL))] and flips > 0


@pytest.mark.parametrize("read", [False, True])
def test_what_still_learns_has_the_gradient_that_it_has_among_levels_that_all_learn(read):
    whole, part = learner(0, read=read), learner(2, read=read)
    for made in (whole, part):
        update(made, readouts=0.5 if read else 0.0)
    pairs = zip(list(whole.student.normalised)[2:], list(part.student.normalised)[2:], strict=True)
    for one, other in pairs:
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)
    assert all(own.grad is None for level in list(part.student.normalised)[:2] for own in level.parameters())
    assert [own.grad is not None for own in part.readouts.parameters()] == [read] * len(
        list(part.readouts.parameters())
    )


def test_their_statistics_are_not_taken_anew_for_folding():
    student = learner(2).student
    before = [state(student, part) for part in (slice(2), slice(2, None))]
    other = torch.randint(0, 256, (9, 21, 21, 64), dtype=torch.uint8)
    recalibrate(student, [other[:5], other[5:]])
    assert torch.equal(state(student, slice(2)), before[0])
    assert not torch.equal(state(student, slice(2, None)), before[1])


def test_levels_stand_still_from_their_update_on():
    own = replace(TINY, still_levels=3, still_updates=5)
    assert [still_at(update, own) for update in (0, 4, 5, 9)] == [0, 0, 3, 3]
    assert still_at(9, replace(own, still_levels=0)) == 0


def test_levels_that_come_to_stand_after_a_resume_are_measured_by_many_batches_and_only_then(tmp_path, monkeypatch):
    ready, path = prepared(tmp_path, "Pong"), tmp_path / "state.safetensors"
    made = Distiller(tiny_run(ready, mode="offline", still_levels=2, still_updates=99))
    for _ in range(3):
        made.step()
    made.save(path)
    measured = []
    monkeypatch.setattr("distill.distiller.recalibrate", lambda student, _: measured.append(student.still))
    for levels, after in ((2, [0]), (2, [0]), (3, [0, 2])):  # earlier than it was said before; again; one more level
        again = Distiller(tiny_run(ready, mode="offline", still_levels=levels, still_updates=1))
        again.resume(path)
        again.step()
        again.save(path)
        assert measured == after and again.student.still == levels


@pytest.mark.parametrize(("threads", "mode"), [(1, "both"), (2, "both"), (1, "offline"), (1, "online")])
def test_what_is_remembered_teaches_what_the_pictures_teach(tmp_path, threads, mode):
    ready = prepared(tmp_path, "Pong")
    own = {"mode": mode, "threads": threads, "still_levels": 2, "still_updates": 3, "bf16": False, "hints": 0.5}
    # Few rows in the ring: it is overwritten, and what was known of it must be forgotten.
    own |= {"online_rows": 16, "updates": 40, "online_start_updates": 0, "cool_updates": 30}
    one, other = (Distiller(tiny_run(ready, **own, still_decisions=most)) for most in (1_000, 0))
    for _ in range(30):
        told = one.step()
        assert told == pytest.approx(other.step(), rel=1e-4, abs=1e-5)
    assert one.student.still == 2
    assert torch.equal(state(one.student, slice(2)), state(other.student, slice(2)))
    trinary = [torch.cat([own.trinary.flatten() for own in made.student.chip_layers]) for made in (one, other)]
    assert torch.equal(*trinary)
    one.close(), other.close()


def test_each_decision_that_is_remembered_is_shown_once(tmp_path, monkeypatch):
    ready = prepared(tmp_path, "Pong")
    made = Distiller(tiny_run(ready, mode="offline", still_levels=2, still_updates=1, still_decisions=5))
    shown = []
    levels = Student.levels
    for _ in range(2):
        made.step()
    monkeypatch.setattr(
        Student, "levels", lambda own, cells, sharing: shown.append(len(cells)) or levels(own, cells, sharing)
    )
    for _ in range(4):
        made.step()
    assert sum(shown) <= 5 < 4 * TINY.batch
    assert len([tag for tag in made.learner.health() if tag.startswith("rate/")]) == len(
        SMALL
    )  # the front's is not seen


def test_what_a_student_plays_is_shown_to_it_once_while_it_plays_for_all_games_at_once(tmp_path, monkeypatch):
    ready = prepared(tmp_path, "Pong", "Breakout")
    own = {"mode": "online", "still_levels": 2, "still_updates": 1, "online_start_updates": 0, "online_rows": 16}
    made = Distiller(tiny_run(ready, ("Pong", "Breakout"), **own, envs=2, hints=0.0, updates=60))
    for _ in range(25):  # by then nothing in the rings is older than what is remembered
        made.step()
    shown, levels = [], Student.levels
    monkeypatch.setattr(
        Student, "levels", lambda own, cells, sharing: shown.append(len(cells)) or levels(own, cells, sharing)
    )
    for _ in range(5):
        made.step()
    assert shown == [4] * 5
    made.close()


def test_games_share_out_what_is_remembered(tmp_path):
    ready = prepared(tmp_path, "Pong", "Breakout")
    made = Distiller(
        tiny_run(ready, ("Pong", "Breakout"), mode="offline", still_levels=2, still_updates=0, still_decisions=9)
    )
    for _ in range(8):
        made.step()
    assert [int(recorded._memo._known.sum()) for recorded, _ in made._memory] == [4, 4]


def test_nothing_is_remembered_where_pictures_move_or_readouts_read_below(tmp_path):
    ready = prepared(tmp_path, "Pong")
    layers = len(tiny_run(ready).student.layers)
    for changes in (
        {"shift": 1, "still_levels": 2},
        {"still_levels": layers},
        {"still_levels": 2, "still_decisions": 0},
    ):
        made = Distiller(tiny_run(ready, mode="offline", still_updates=0, **changes))
        for _ in range(3):
            made.step()
        assert made.student.still
        assert not made._memory


def test_levels_come_to_stand_by_statistics_of_many_batches(tmp_path):
    ready = prepared(tmp_path, "Pong")
    made, other = (Distiller(tiny_run(ready, mode="offline", still_levels=own, still_updates=1)) for own in (2, 0))
    for distiller in (made, other):
        distiller.step()
    recalibrate(other.student, other._batches())
    made.step()
    assert torch.equal(state(made.student, slice(2)), state(other.student, slice(2)))


def test_a_distillation_that_goes_on_keeps_still_what_stood_still(tmp_path):
    ready = prepared(tmp_path, "Pong")
    one = Distiller(tiny_run(ready, mode="offline", still_levels=2, still_updates=1))
    for _ in range(2):
        one.step()
    before = state(one.student, slice(2))
    one.step()
    assert torch.equal(state(one.student, slice(2)), before)
    one.save(tmp_path / "state.safetensors")
    other = Distiller(tiny_run(ready, mode="offline", still_levels=2, still_updates=1))
    other.resume(tmp_path / "state.safetensors")
    assert one.step() == other.step()
    assert torch.equal(state(other.student, slice(2)), before)


def test_levels_without_a_history_of_pictures_and_with_one_stand_still_alike():
    torch.manual_seed(1)
    student = Student(StudentSettings(4, SMALL, history=2), heads(3, 4))
    student.still = 1
    made = Learner(student, 0.0625, 1, False)
    before = state(student, slice(1))
    update(made)
    assert torch.equal(state(student, slice(1)), before)


def test_at_least_the_votes_must_go_on_learning(tmp_path):
    layers = len(tiny_run(tmp_path).student.layers)
    with pytest.raises(SettingsError, match=rf"distill.still_levels: found {layers + 1}, allowed 0 to {layers}"):
        tiny_run(tmp_path, still_levels=layers + 1)


class Pair(Team):
    """One of two processes, the first of which has run already: what it shared is what the second one hears."""

    said: ClassVar[list[Any]] = []

    def share(self, value):
        if self.rank:
            return self.said.pop(0)
        self.said.append(copy.deepcopy(value))
        return value


def test_levels_stand_still_alike_in_all_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(Pair, "said", [])
    config = tiny_run(prepared(tmp_path, "Pong"), mode="offline", still_levels=2, still_updates=1)
    seen = []
    for rank in range(2):
        made = Distiller(config, Pair(rank, 2))
        for _ in range(2):
            made.step()
        seen.append([part for level in list(made.student.normalised)[:2] for part in (level.mean, level.variance)])
        made.close()
    for one, other in zip(*seen, strict=True):
        assert torch.equal(one, other)

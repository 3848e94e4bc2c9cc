"""Readouts of middle levels: what they read, what they add to the gradient, and that nothing of them is left."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from distill_cases import SMALL, TINY, heads, prepared, tiny_run
from student_job import GOAL, flat, lessons, one_update

from distill.distiller import Distiller
from distill.learner import Learner
from distill.readouts import Readouts, level_sizes, shrinking
from distill.settings import readouts_at
from distill.sharing import WHOLE
from distill.student import LayerSettings, Student, StudentSettings
from rl.settings import SettingsError

FOUR = (LayerSettings(8, 2, 4, 2, 1, False), *SMALL[1:2], LayerSettings(12, 2, 2, 2, 1, False), SMALL[2])
WEIGHT = 0.75


def made(layers=FOUR) -> Student:
    torch.manual_seed(5)
    return Student(StudentSettings(4, layers), heads(3, 4))


def readouts(student: Student) -> Readouts:
    torch.manual_seed(6)
    return Readouts(student, shrinking(student))


def test_sizes_of_levels_are_those_of_their_bits():
    student = made()
    bits = list(student.levels(lessons()[0].cells, WHOLE))
    assert level_sizes(student) == [level[0].numel() for level in bits]
    assert len(set(level_sizes(student))) > 3


def test_a_history_is_counted_in_the_front():
    student = Student(StudentSettings(4, SMALL, history=2), heads(3, 4))
    assert level_sizes(student)[0] == 20 * 20 * 4 * 2


def test_the_last_three_levels_whose_maps_shrink_are_read_and_the_very_last_one_votes():
    halved = [LayerSettings(8, 2, 2, 2, 1, False)] * 4  # 20 -> 11 -> 6 -> 4 -> 3
    mixed = LayerSettings(12, 2, 1, 1, 0, True)
    assert shrinking(made((*halved[:3], mixed, *halved[3:], SMALL[2]))) == [2, 3, 5]
    assert shrinking(made()) == [1, 3]
    assert shrinking(made(SMALL)) == [1]


def test_a_readout_gives_each_game_the_answers_of_its_rows():
    student, given = made(), lessons()
    own = readouts(student)
    bits = list(student.levels(torch.cat([lesson.cells for lesson in given]), WHOLE))
    logits = own(bits, [len(lesson.q) for lesson in given])
    assert [[tuple(part.shape) for part in parts] for parts in logits] == [[(10, 3), (6, 4)]] * 2
    row = bits[3][12].float().flatten()  # the second game's third
    plain = own.maps[1].weight @ (2 * row - 1) + own.maps[1].bias
    torch.testing.assert_close(logits[1][1][2], plain[3:7], rtol=1e-4, atol=1e-5)


def test_the_gradient_is_that_of_votes_and_readouts_together():
    learner, given = learner_of(1), lessons()
    learner.finish(learner.begin(given, replace(GOAL, readouts=WEIGHT)), GOAL)
    found = [own.grad for own in (*learner.student.parameters(), *learner.readouts.parameters())]

    student = made()
    own = readouts(student)
    bits = list(student.levels(torch.cat([lesson.cells for lesson in given]), WHOLE))
    votes = student.count(bits[-1].permute(0, 3, 1, 2)).split([10, 6])
    loss = sum(GOAL.loss(student.logits(votes[game], game), given[game]) / 2 for game in range(2))
    for parts in own(bits, [10, 6]):
        loss = loss + WEIGHT * sum(GOAL.loss(parts[game], given[game]) / 2 for game in range(2))
    loss.backward()
    plain = [part.grad for part in (*student.parameters(), *own.parameters())]
    torch.testing.assert_close(flat(found), flat(plain), rtol=1e-3, atol=1e-6)
    assert not torch.allclose(learner.student.front.hidden.grad, alone(given).student.front.hidden.grad, rtol=0.01)


def learner_of(threads: int) -> Learner:
    student = made()
    return Learner(student, 0.0625, threads, False, readouts=readouts(student))


def alone(given) -> Learner:
    learner = learner_of(1)
    learner.finish(learner.begin(given, GOAL), GOAL)
    return learner


@pytest.mark.parametrize("threads", [2, 3])
def test_parts_in_threads_give_the_gradient_of_the_whole(threads):
    goal, found = replace(GOAL, readouts=WEIGHT), []
    for count in (1, threads):
        learner = learner_of(count)
        told = learner.finish(learner.begin(lessons(), goal), goal)
        grads = flat(own.grad for own in (*learner.student.parameters(), *learner.readouts.parameters()))
        found.append((grads, told["train/readouts"]))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-4, atol=1e-6)
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-5)


def test_without_weight_readouts_neither_teach_nor_learn_nor_are_told():
    learner = learner_of(2)
    before = flat(learner.readouts.parameters())
    told = learner.finish(learner.begin(lessons(), GOAL), GOAL)
    assert (flat(learner.readouts.parameters()) == before).all()
    assert "train/readouts" not in told
    student = made(SMALL)
    plain = Learner(student, 0.0625, 1, False, readouts=readouts(student))
    plain.finish(plain.begin(lessons(), GOAL), GOAL)
    torch.testing.assert_close(flat(own.grad for own in student.parameters()), one_update(lessons(), 1)["gradient"])


def test_a_readout_learns():
    learner, given, goal = learner_of(1), lessons(), replace(GOAL, readouts=WEIGHT)
    losses = [learner.finish(learner.begin(given, goal), goal)["train/readouts"] for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]


def test_the_weight_of_readouts_falls_along_a_line_to_nothing_when_labels_are_cool():
    own = replace(TINY, readouts=0.5, cool_updates=10)
    assert [readouts_at(update, own) for update in (0, 4, 9, 10, 11)] == pytest.approx([0.5, 0.3, 0.05, 0, 0])


def test_negative_weights_are_refused():
    with pytest.raises(SettingsError, match=r"distill.readouts: found -0.1, allowed 0 or more"):
        replace(TINY, readouts=-0.1)


def test_states_begun_without_readouts_are_refused_with_them(tmp_path):
    ready = prepared(tmp_path, "Pong")
    plain = Distiller(tiny_run(ready, mode="offline", readouts=0.0))
    plain.save(tmp_path / "state.safetensors")
    with pytest.raises(SettingsError, match=r"begun with other games, teachers or layers"):
        Distiller(tiny_run(ready, mode="offline")).resume(tmp_path / "state.safetensors")


def test_readouts_go_on_where_they_were(tmp_path):
    ready = prepared(tmp_path, "Pong")
    one = Distiller(tiny_run(ready, mode="offline"))
    one.step()
    one.save(tmp_path / "state.safetensors")
    other = Distiller(tiny_run(ready, mode="offline"))
    other.resume(tmp_path / "state.safetensors")
    assert one.step() == other.step()
    assert (flat(one.learner.readouts.parameters()) == flat(other.learner.readouts.parameters())).all()

"""Readouts of middle levels: what they read, what they add to the gradient, and that nothing of them is left."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from distill_cases import SMALL, TINY, heads, prepared, tiny_run
from student_job import GOAL, flat, lessons, one_update

from distill.distiller import Distiller
from distill.learner import Learner
from distill.readouts import Hinter, Readouts, axes_of, hidden_units, level_sizes, shrinking
from distill.settings import readouts_at
from distill.sharing import WHOLE
from distill.sources import Lesson
from distill.student import LayerSettings, Student, StudentSettings
from rl.network import NetworkSettings, QNetwork
from rl.settings import SettingsError

FOUR = (LayerSettings(8, 2, 4, 2, 1, False), *SMALL[1:2], LayerSettings(12, 2, 2, 2, 1, False), SMALL[2])
WEIGHT, HINTS = 0.75, (5, 9)
TAUGHT = replace(GOAL, readouts=WEIGHT, hints=2.5)


def made(layers=FOUR) -> Student:
    torch.manual_seed(5)
    return Student(StudentSettings(4, layers), heads(3, 4))


def readouts(student: Student) -> Readouts:
    torch.manual_seed(6)
    return Readouts(student, shrinking(student), HINTS)


def hinted() -> list[Lesson]:
    rng = torch.Generator().manual_seed(8)
    return [
        replace(lesson, hints=torch.randn(len(lesson.q), units, generator=rng))
        for lesson, units in zip(lessons(), HINTS, strict=True)
    ]


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


def test_a_readout_gives_each_game_the_answers_and_hints_of_its_rows():
    student, given = made(), lessons()
    own = readouts(student)
    bits = list(student.levels(torch.cat([lesson.cells for lesson in given]), WHOLE))
    read = own(bits, [len(lesson.q) for lesson in given])
    shapes = [[(tuple(part.logits.shape), tuple(part.hints.shape)) for part in parts] for parts in read]
    assert shapes == [[((10, 3), (10, 5)), ((6, 4), (6, 9))]] * 2
    row = 2 * bits[3][12].float().flatten() - 1  # the second game's third
    for linear, found, part in (
        (own.answers[1], read[1][1].logits, slice(3, 7)),
        (own.hints[1][1], read[1][1].hints, slice(0, 9)),
    ):
        plain = linear.weight @ row + linear.bias
        torch.testing.assert_close(found[2], plain[part], rtol=1e-4, atol=1e-5)


def untaught() -> QNetwork:
    torch.manual_seed(2)
    made = QNetwork(3, NetworkSettings((4, 6, 8), 10))
    with torch.no_grad():
        made.norm4.weight.uniform_(0.5, 2)
        made.norm4.bias.normal_()
    return made


def test_hidden_units_have_mean_nought_and_deviation_one_and_come_before_their_relu():
    teacher, cells = untaught(), lessons()[0].cells
    with torch.no_grad():
        found = hidden_units(teacher, cells)
        assert found.shape == (10, 10)
        torch.testing.assert_close(found.mean(dim=1), torch.zeros(10), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.square().mean(dim=1), torch.ones(10), atol=1e-3, rtol=0)
        values = teacher.values(torch.relu(found * teacher.norm4.weight + teacher.norm4.bias))
        torch.testing.assert_close(values, teacher(cells), rtol=1e-4, atol=1e-5)


def units_of_three_axes() -> torch.Tensor:
    """[200, 7] that vary along three axes by 9, 4 and 1, and hardly along the others."""
    rng = torch.Generator().manual_seed(4)
    axes = torch.linalg.qr(torch.randn(7, 7, generator=rng)).Q
    spread = torch.tensor([9.0, 4.0, 1.0, 0.01, 0.01, 0.01, 0.01]).sqrt()
    return (torch.randn(200, 7, generator=rng) * spread) @ axes.T + 5


def test_axes_keep_what_varies_most_as_numbers_that_vary_alike():
    units = units_of_three_axes()
    mean, axes = axes_of(units, 3)
    hints = (units - mean) @ axes
    assert axes.shape == (7, 3)
    torch.testing.assert_close(hints.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    assert hints.square().mean().item() == pytest.approx(1, rel=1e-4)
    kept = torch.linalg.lstsq(hints, units - mean).solution  # how well the units can be told from them
    lost = (units - mean - hints @ kept).square().sum() / (units - mean).square().sum()
    assert lost < 0.005
    _, mixed = torch.linalg.eigh((hints.T @ hints).double())
    assert mixed.abs().max() < 0.99  # none of them is a main axis alone


def test_there_are_no_more_axes_than_units_and_units_that_never_vary_hint_nothing():
    assert axes_of(units_of_three_axes(), 64)[1].shape == (7, 7)
    mean, axes = axes_of(torch.full((9, 4), 2.0), 2)
    assert torch.equal((torch.full((9, 4), 2.0) - mean) @ axes, torch.zeros(9, 2))


def test_a_hinter_tells_its_teachers_units_along_its_axes():
    teacher, cells = untaught(), lessons()[0].cells
    units = hidden_units(teacher, cells)
    mean, axes = axes_of(units, 4)
    torch.testing.assert_close(Hinter(teacher, mean, axes)(cells), (units - mean) @ axes)


def test_part_of_a_lesson_keeps_its_hints():
    own = hinted()[0]
    assert torch.equal(own.cut(2, 5).hints, own.hints[2:5])
    assert lessons()[0].cut(2, 5).hints is None


def test_the_gradient_is_that_of_votes_answers_and_hints_together():
    learner, given = learner_of(1), hinted()
    learner.finish(learner.begin(given, TAUGHT), TAUGHT)
    found = [own.grad for own in (*learner.student.parameters(), *learner.readouts.parameters())]

    student = made()
    own = readouts(student)
    bits = list(student.levels(torch.cat([lesson.cells for lesson in given]), WHOLE))
    rows = [10, 6]
    votes = student.count(bits[-1].permute(0, 3, 1, 2)).split(rows)
    loss = sum(GOAL.loss(student.logits(votes[game], game), given[game]) * rows[game] / 16 for game in range(2))
    for parts in own(bits, rows):
        for part, lesson, size in zip(parts, given, rows, strict=True):
            apart = (part.hints - lesson.hints).square().mean()
            loss = loss + WEIGHT * (GOAL.loss(part.logits, lesson) + TAUGHT.hints * apart) * size / 16
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
    found = []
    for count in (1, threads):
        learner = learner_of(count)
        told = learner.finish(learner.begin(hinted(), TAUGHT), TAUGHT)
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
    learner, given = learner_of(1), hinted()
    losses = [learner.finish(learner.begin(given, TAUGHT), TAUGHT)["train/readouts"] for _ in range(90)]
    assert losses[-1] < 0.8 * losses[0]


def test_the_weight_of_readouts_falls_along_a_line_to_nothing_when_labels_are_cool():
    own = replace(TINY, readouts=0.5, cool_updates=10)
    assert [readouts_at(update, own) for update in (0, 4, 9, 10, 11)] == pytest.approx([0.5, 0.3, 0.05, 0, 0])


@pytest.mark.parametrize("name", ["readouts", "hints"])
def test_negative_weights_are_refused(name):
    with pytest.raises(SettingsError, match=rf"distill.{name}: found -0.1, allowed 0 or more"):
        replace(TINY, **{name: -0.1})


@pytest.mark.parametrize("without", ["readouts", "hints"])
def test_states_begun_without_readouts_or_hints_are_refused_with_them(tmp_path, without):
    ready = prepared(tmp_path, "Pong")
    plain = Distiller(tiny_run(ready, mode="offline", **{without: 0.0}))
    plain.save(tmp_path / "state.safetensors")
    with pytest.raises(SettingsError, match=r"begun with other readouts or hints of them; use another root"):
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


def test_lessons_carry_hints_until_readouts_have_no_weight(tmp_path):
    ready = prepared(tmp_path, "Pong")
    own = Distiller(tiny_run(ready, mode="offline", cool_updates=2))
    seen = [own._lessons(update)[0].hints for update in range(3)]
    assert [hints is None for hints in seen] == [False, False, True]
    assert seen[1].shape == (8, TINY.hint_axes)
    own_axes = own._hinters[0]
    exact = Hinter(own.teachers[0].build(), own_axes.mean, own_axes.axes)(own._lessons(1)[0].cells)
    torch.testing.assert_close(seen[1], exact, atol=0.2, rtol=0.0)  # rounded to bfloat16
    assert not torch.equal(seen[1], exact)
    assert Distiller(tiny_run(ready, mode="offline", hints=0.0))._lessons(0)[0].hints is None


def test_a_run_goes_on_along_the_axes_that_it_began_with(tmp_path):
    ready = prepared(tmp_path, "Pong")
    one, other = (Distiller(tiny_run(ready, mode="offline")) for _ in range(2))
    assert torch.equal(one._hinters[0].axes, other._hinters[0].axes)
    one._hinters = [replace(one._hinters[0], axes=-one._hinters[0].axes)]  # as another machine may find them
    one.save(tmp_path / "state.safetensors")
    other.resume(tmp_path / "state.safetensors")
    assert torch.equal(one._hinters[0].axes, other._hinters[0].axes)


def test_a_student_whose_maps_never_shrink_before_the_votes_has_no_readouts(tmp_path):
    config = tiny_run(prepared(tmp_path, "Pong"), mode="offline")
    flat_maps = (LayerSettings(8, 2, 2, 1, 0, False), LayerSettings(12, 1, 3, 3, 0, False))
    told = Distiller(replace(config, student=StudentSettings(4, flat_maps))).step()
    assert "train/loss" in told and "train/readouts" not in told

"""An update in parts, in threads or in processes, is the update of the whole batch; what fails changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from distill_cases import SMALL, heads
from student_job import GOAL, lessons, one_update

from distill.learner import Goal, Learner, finite, shared_out
from distill.sources import Lesson
from distill.student import Student, StudentSettings

ROOM = Path(__file__).resolve().parents[1]


def learner(threads: int = 2) -> Learner:
    torch.manual_seed(5)
    return Learner(Student(StudentSettings(4, SMALL), heads(3, 4)), 0.0625, threads, bf16=False)


@pytest.mark.parametrize("threads", [2, 3])
def test_parts_in_threads_give_the_update_of_the_whole(threads):
    whole = one_update(lessons(), 1)
    for _ in range(2):  # whoever is first
        need_equal(one_update(lessons(), threads), whole)
    halves = [own.cut(0, len(own.q) // 2) for own in lessons()]
    own = one_update(halves, 1)["gradient"]
    assert not np.allclose(own, whole["gradient"], rtol=0.01), "half says the same: nothing is shown"


def need_equal(found, whole):
    """Statistics to the bit: they are sums of whole numbers. Weights follow, but Adam's first step is all sign."""
    np.testing.assert_allclose(found["gradient"], whole["gradient"], rtol=1e-4, atol=1e-6)
    assert np.array_equal(found["statistics"], whole["statistics"])


def test_two_processes_give_the_update_of_the_whole(tmp_path):
    own = ["--nproc-per-node", "2", "--log-dir", str(tmp_path / "logs")]
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", *own]
    env = os.environ | {"PYTHONPATH": str(ROOM), "OMP_NUM_THREADS": "1"}
    subprocess.run([*line, str(ROOM / "tests" / "student_job.py"), str(tmp_path)], cwd=ROOM, env=env, check=True)
    whole = one_update(lessons(), 1)
    seen = [np.load(tmp_path / f"seen-{rank}.npz") for rank in range(2)]
    for own in seen:
        need_equal(own, whole)
        assert not np.allclose(own["own"], whole["gradient"], rtol=0.01)
    assert np.array_equal(seen[0]["weights"], seen[1]["weights"])


def test_rows_are_shared_out_so_that_every_part_has_all_games():
    parts = shared_out(lessons(), 4)
    assert [[len(own.q) for own in part] for part in parts] == [[2, 1], [3, 2], [2, 1], [3, 2]]
    few = [Lesson(own.cells[:2], own.q[:2]) for own in lessons()]
    assert len(shared_out(few, 4)) == 2


@pytest.mark.parametrize("threads", [1, 2])
def test_a_game_with_more_rows_pulls_as_much_more_at_the_weights(threads):
    made = learner(threads)
    goal = Goal(lambda logits, _: logits.mean() / logits.detach().mean(), 0.0625, 0)  # grows with the scale's logarithm
    made.finish(made.begin(lessons(), goal), goal)
    assert made.student.log_scale.grad.tolist() == pytest.approx([10 / 16, 6 / 16])


@pytest.mark.parametrize("where", ["values", "loss"])
def test_numbers_that_are_none_stop_the_update_before_anything_changes(where):
    made, given = learner(), lessons()
    if where == "values":
        given[1].q[5, 2] = torch.inf
    else:
        with torch.no_grad():
            made.student.log_scale[1] = torch.nan
    before = {name: value.clone() for name, value in made.student.state_dict().items()}
    with pytest.raises(
        ValueError, match=rf"^distill: update 0: the {where} of Game1 holds numbers that are not finite"
    ):
        made.finish(made.begin(given, GOAL), GOAL)
    after = made.student.state_dict()
    assert all(torch.equal(before[name].nan_to_num(9), after[name].nan_to_num(9)) for name in before)


def test_a_gradient_that_is_none_is_named_by_its_level():
    made, given = learner(), lessons()
    parts = made.begin(given, GOAL)
    broken = parts[0].result()
    broken.gradients[[name for name, _ in made.student.named_parameters()].index("layers.1.hidden")].fill_(torch.nan)
    before = made.student.layers[0].hidden.clone()
    with pytest.raises(ValueError, match=r"the gradient of layers.1.hidden holds numbers that are not finite"):
        made.finish(parts, GOAL)
    assert torch.equal(made.student.layers[0].hidden, before)


def test_finite_numbers_are_told_from_others_even_where_their_squares_overflow():
    large = torch.full((3, 5), 3e38)
    assert finite(large)
    assert finite(torch.zeros(2, 7))
    for wrong in (torch.nan, torch.inf, -torch.inf):
        large[2, 4] = wrong
        assert not finite(large)


def test_gradients_lie_in_memory_as_their_parameters_do():
    made = learner()
    made.finish(made.begin(lessons(), GOAL), GOAL)
    assert all(own.grad.stride() == own.stride() for own in made.student.parameters())


def test_health_is_that_of_the_last_batch_and_names_every_layer():
    made = learner()
    with torch.no_grad():
        made.student.layers[0].trinary.zero_()
    made.begin(lessons(), GOAL)[0].result()
    health = made.health()
    names = ["01-P4-8(2)", "02-N-12(2)", "03-S-21(1)"]
    assert list(health) == ["rate/front", *(f"rate/{n}" for n in names), *(f"zeros/{n}" for n in names)]
    assert health["zeros/01-P4-8(2)"] == 1 and all(0 <= value <= 1 for value in health.values())
    # Equal sums have no spread: with a bias of 0 each lies at its mean, and fires.
    assert health["rate/01-P4-8(2)"] == 1


def test_parameters_that_a_function_takes_are_given_to_no_plain_operator():
    # Two threads would wait for each other for ever, see Front.quantised.
    student = learner().student
    for level in (student.front, *student.chip_layers):
        node = level.quantised().grad_fn
        assert type(node).__name__ == "StraightThroughBackward"
        assert [type(after).__name__ for after, _ in node.next_functions] == ["AccumulateGrad", "NoneType"]

"""A folded student learns on as the very function that was folded, from statistics of what it sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from distill_cases import SMALL, heads, levels, linked, prepared, stacks, student, tiny_run, trained_looking
from hypothesis import given, settings
from hypothesis import strategies as st
from test_student_equals_spec import LAYERS, assert_levels_agree, cells_of

from deploy.spec import load_spec, save_spec
from distill.distiller import Distiller
from distill.export import export
from distill.fire import moments_of
from distill.front import block_kernel, pixel_kernel
from distill.loss import chosen
from distill.sharing import WHOLE
from distill.sources import Lesson
from distill.statistics import measure
from distill.student import LayerSettings, Student, StudentSettings
from distill.train import command
from distill.unfold import SCALES, be_sure, load_start, unfold
from rl.files import read_json
from rl.settings import SettingsError


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("ready"), "Pong")


@pytest.fixture
def root(ready, tmp_path):
    return linked(ready, tmp_path)


def test_weights_over_pixels_and_over_blocks_are_inverse():
    weights = torch.randn(3, 2 * 16, 2, 2)
    assert torch.equal(block_kernel(pixel_kernel(weights)), weights)


@given(st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_what_is_unfolded_folds_to_the_same_integers_before_and_after_it_is_measured(seed):
    spec = export(trained_looking(LAYERS, (3, 4), seed))
    again = student(LAYERS, (3, 4), seed + 1)
    unfold(again, [spec])
    assert export(again).digest == spec.digest
    measure(again, [cells_of(stacks(4, seed)), cells_of(stacks(3, seed + 1))])
    assert export(again).digest == spec.digest
    assert_levels_agree(again, spec, stacks(2, seed))


def test_an_unfolded_student_has_seen_its_pictures_by_its_own_bits():
    spec = export(trained_looking(SMALL, (3,), seed=4))
    made = student(SMALL, (3,), seed=5)
    unfold(made, [spec])
    batches = [cells_of(stacks(5, seed)) for seed in (1, 2)]
    measure(made, batches)
    own = levels(made)
    with torch.no_grad():
        seen = [list(made.levels(batch, None)) for batch in batches]
        for number, level in enumerate(own[1:]):
            found = [moments_of(level.sums(bits[number]), WHOLE)[:2] for bits in seen]
            mean = np.mean([each for each, _ in found], axis=0)
            square = np.mean([variance + each**2 for each, variance in found], axis=0)
            assert np.allclose(level.mean.numpy(), mean, atol=1e-4)
            assert np.allclose(level.variance.numpy(), square - mean**2, atol=1e-3)
    assert all(torch.isfinite(level.bias).all() for level in own)


def test_a_history_of_pictures_unfolds_too():
    shape = StudentSettings(4, (LayerSettings(8, 2, 4, 4, 0, True), *SMALL[1:]), history=2)
    torch.manual_seed(1)
    spec = export(Student(shape, heads(3)).eval())
    again = Student(shape, heads(3))
    unfold(again, [spec])
    measure(again, [cells_of(stacks(3))])
    assert export(again).digest == spec.digest


@pytest.mark.parametrize(
    ("layers", "counts", "what"),
    [
        (SMALL, (4,), "games and actions, votes"),
        ((*SMALL[:2], replace(SMALL[2], features=24)), (3,), "layers, votes"),
        ((SMALL[0], replace(SMALL[1], shuffle=False), SMALL[2]), (3,), "layers"),
    ],
)
def test_a_student_of_other_games_or_layers_is_no_start(layers, counts, what):
    spec = export(student(layers, counts).eval())
    with pytest.raises(SettingsError, match=f"start: a student of other {what}; name one of these games"):
        unfold(student(SMALL, (3,)), [spec])


SHUFFLED = (
    LayerSettings(12, 4, 4, 4, 0, False),
    LayerSettings(8, 2, 1, 1, 0, True),
    LayerSettings(10, 1, 3, 2, 0, True),
)
TOWERS = (
    LayerSettings(24, 8, 4, 4, 0, False),
    LayerSettings(16, 4, 1, 1, 0, True),
    LayerSettings(20, 2, 3, 2, 0, True),
)


def two_towers() -> Student:
    return Student(StudentSettings(8, TOWERS, towers=2), heads(2, 3))


def test_votes_of_two_towers_are_those_of_two_students_together():
    specs = [export(trained_looking(SHUFFLED, (2, 3), seed)) for seed in (1, 2)]
    both = two_towers()
    unfold(both, specs)
    measure(both, [cells_of(stacks(4))])
    spec, obs = export(both), stacks(5, seed=3)
    one, other = (own.run(own.transduce(obs)) for own in specs)
    assert np.array_equal(spec.run(spec.transduce(obs)), one + other)
    assert len({tuple(row) for row in (one - other).tolist()}) > 1, "they differ"
    assert_levels_agree(both, spec, obs)


def test_two_towers_begin_as_two_students_that_are_alike():
    one, wider = (export(student(layers, (2, 3)).eval()) for layers in (SHUFFLED, SMALL))
    with pytest.raises(
        SettingsError, match="start: students of different games or layers, must be alike; name one for"
    ):
        unfold(two_towers(), [one, wider])
    for specs in ([one], [one, one, one]):
        with pytest.raises(SettingsError, match=r"start: a student of other layers.*or as many as it has towers"):
            unfold(two_towers(), specs)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        (lambda: StudentSettings(8, TOWERS, towers=0), "student.towers: found 0, allowed 1 or more"),
        (lambda: StudentSettings(7, TOWERS, towers=2), "front_features: found 7, allowed a multiple of the 2 towers"),
        (lambda: StudentSettings(8, TOWERS, history=2, towers=2), "history: found 2, allowed 1 with several towers"),
        (lambda: StudentSettings(9, SMALL, towers=3), r"student 01-P4-8\(2\): groups: found 2, .* multiple of the 3"),
    ],
)
def test_towers_that_share_what_they_should_not_are_refused(settings_, message):
    with pytest.raises(SettingsError, match=message):
        Student(settings_(), heads(3))


def test_weights_of_other_signs_than_a_student_may_have_are_refused():
    spec = export(student(SMALL, (3,)).eval())
    shared = Student(StudentSettings(4, SMALL, signs="shared"), heads(3))
    with pytest.raises(SettingsError, match=r"start: 01-P4-8\(2\) has weights of .*signs"):
        unfold(shared, [spec])


def test_votes_are_scaled_to_the_least_loss():
    made = trained_looking(SMALL, (3,), seed=2)
    cells = cells_of(stacks(6, seed=3))
    with torch.no_grad():
        votes = made.votes(cells)
    begun = made.log_scale[0].item()
    scale = SCALES[5] * np.exp(begun)
    lesson = Lesson(cells, votes * scale, 1.0)
    be_sure(made, [lesson], lambda logits, own: chosen("kl", 1.0)(logits, own.q / own.unit))
    assert made.log_scale[0].item() == pytest.approx(np.log(scale), abs=1e-5)


def test_a_start_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"start: .*none\.npz does not exist; name a student\.npz, or \[\]"):
        load_start(tmp_path / "none.npz")


def test_learning_goes_on_from_a_folded_student_and_its_report_says_so(root, tmp_path):
    first = tiny_run(root, mode="offline")
    assert command(first, "") == 0
    spec, made = load_spec(first.folder / "student.npz")
    save_spec(spec, tmp_path / "ships.npz", made)
    again = linked(root, tmp_path / "again")
    config = tiny_run(again, mode="offline", start=(str(tmp_path / "ships.npz"),), updates=2)
    assert command(config, "") == 0
    begun = read_json(config.folder / "report.json")["origin"]["start"]
    assert begun == [{"spec": spec.digest, "updates": made["update"]}]
    with pytest.raises(SettingsError, match=r"state.safetensors: begun as another model, distill.start says otherwise"):
        command(replace(config, distill=replace(config.distill, start=())), "")
    begun_as = replace(first.distill, start=(str(tmp_path / "ships.npz"),))
    with pytest.raises(SettingsError, match=r"begun from nothing, distill.start says otherwise; .* another root"):
        command(replace(first, distill=begun_as), "")
    third = tiny_run(linked(root, tmp_path / "third"), mode="offline", start=(str(config.folder / "student.npz"),))
    distiller = Distiller(third)
    distiller.begin_as([config.folder / "student.npz"])
    assert export(distiller.student).digest == load_spec(config.folder / "student.npz")[0].digest
    assert [own["updates"] for own in distiller.start] == [made["update"] + 2]
    assert distiller.start[0]["settings"]["distill"]["updates"] == 2, "its run's report lies beside it"
    distiller.save(tmp_path / "state.safetensors")
    other = Distiller(third)
    other.resume(tmp_path / "state.safetensors")
    assert other.start == distiller.start

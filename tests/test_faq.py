"""Fine-tuning after quantisation as a run: goes on where it stopped, keeps the best, refuses what does not fit."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distill_cases import SHORT, linked, prepared, teacher

from deploy.integer_spec import load_integers
from distill.faq import IntegerRun, IntegerSettings, Tuner, command, rate_at, tune
from distill.integers import IntegerNet
from rl.board import Board
from rl.files import read_json
from rl.manifest import read_manifest, write_manifest
from rl.settings import SettingsError
from rl.stages import INT4, INT8

TINY = IntegerSettings(
    bits=4,
    steps="calibrated",
    seed=3,
    epochs=2,
    batch=8,
    learning_rate=0.01,
    step_rate=1.0,
    temperature=0.25,
    calibrate_rows=16,
    held_out=0.25,
    exam_rows=12,
    torch_threads=1,
    log_updates=1,
    checkpoint_s=1e9,
    eval_epochs=1,
    eval_episodes=1,
    report_episodes=1,
    epsilon=0.0,
)
NEVER = 10**9


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("ready"), "Pong")


@pytest.fixture
def root(ready: Path, tmp_path: Path) -> Path:
    return linked(ready, tmp_path)


class After:
    """A stop that comes after so many looks."""

    def __init__(self, looks: int) -> None:
        self._left = looks

    def __bool__(self) -> bool:
        self._left -= 1
        return self._left < 0


def run_of(root: Path, **changes: Any) -> IntegerRun:
    return IntegerRun("Pong", str(root), SHORT, replace(TINY, **changes))


def go(config: IntegerRun, looks: int = NEVER) -> Tuner:
    """Run, or go on, as the command does."""
    tuner = Tuner(config)
    state = config.folder / "state.safetensors"
    if state.exists():
        tuner.resume(state)
    with Board(config.folder, tuner.update or None) as board:
        assert tune(config, tuner, board, After(looks)) == (looks == NEVER)  # type: ignore[arg-type]
    return tuner


def lines(config: IntegerRun) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (config.folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("bits", "stage"), [(4, INT4), pytest.param(8, INT8, marks=pytest.mark.slow)])
def test_the_command_leaves_integers_their_state_their_metrics_and_a_report(root, capsys, bits, stage):
    config = run_of(root, bits=bits, epochs=1)
    assert command(config, "settings") == 0
    assert config.path == root / "Pong" / stage
    spec, origin = load_integers(config.path)
    report = read_json(config.folder / "report.json")
    assert (spec.game, spec.bits, report["bits"]) == ("Pong", bits, bits)
    assert report["spec"] == spec.digest and report["bytes"] == spec.parameter_bytes
    assert report["multiply_adds"] == spec.multiply_adds and len(report["score"]["returns"]) == 1
    assert origin["teacher"] == teacher("Pong", root / "other").digest
    assert set(origin) == {"teacher", "dataset", "env", "update", "wall_s", "exam", "versions"}
    tags = {tag for line in lines(config) for tag in line}
    assert {
        "train/loss",
        "integers/kl",
        "integers/agreement",
        "eval/mean_reward",
        "cosine/hidden",
        "zeros/conv2",
    } <= tags
    assert f"Pong int{bits}: " in capsys.readouterr().out
    count = len(lines(config))
    again = replace(config, integers=replace(config.integers, learning_rate=0.5))
    assert command(again, "settings") == 0 and len(lines(config)) == count, "a finished run is not run again"
    assert read_json(config.folder / "report.json")["settings"] == report["settings"], "it learned by none of these"


@pytest.mark.parametrize("steps", ["calibrated", pytest.param("learned", marks=pytest.mark.slow)])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(ready, tmp_path, steps):
    whole, parted = (run_of(linked(ready, tmp_path / name), steps=steps) for name in ("whole", "parted"))
    one = go(whole)
    stopped = go(parted, looks=2)
    assert stopped.update == 2 < one.updates
    other = go(parted)
    assert other.update == one.update and one.net.export().digest == other.net.export().digest
    assert [line["at"] for line in lines(parted) if "train/loss" in line] == list(range(1, one.updates + 1))


def test_step_sizes_learn_only_where_they_are_asked_to(ready, tmp_path):
    for steps, moves in (("calibrated", False), ("learned", True)):
        config = run_of(linked(ready, tmp_path / steps), steps=steps)
        before = [step.item() for step in Tuner(config).net.steps()]
        after = [step.item() for step in go(config).net.steps()]
        assert [a != b for a, b in zip(before, after, strict=True)] == [moves] * 9


def test_fine_tuning_lowers_the_loss(root):
    config = run_of(root, epochs=20, eval_epochs=20)
    go(config)
    kls = [line["integers/kl"] for line in lines(config) if "integers/kl" in line]
    assert len(kls) == 2 and kls[1] < kls[0]


@pytest.mark.slow
def test_equal_seeds_make_equal_integers_and_other_seeds_do_not(ready, tmp_path):
    digests = [go(run_of(linked(ready, tmp_path / name), seed=seed)).net.export().digest for name, seed in
               (("a", 3), ("b", 3), ("c", 4))]  # fmt: skip
    assert digests[0] == digests[1] != digests[2]


def test_zero_epochs_are_calibration_alone(root):
    config = run_of(root, epochs=0)
    assert command(config, "") == 0
    assert load_integers(config.path)[1]["update"] == 0


def test_the_integers_nearest_to_the_teacher_are_kept_later_ones_on_a_tie(root, monkeypatch):
    distances = iter([2.0, 0.5, 0.5, 3.0])
    monkeypatch.setattr(Tuner, "exam", lambda self, spec: {"integers/kl": next(distances), "integers/agreement": 1.0})
    tuner = go(run_of(root, epochs=3))
    assert load_integers(run_of(root).path)[1]["update"] == 2 * tuner.epoch_updates and tuner.best == 0.5


def test_the_rate_falls_from_its_start_to_nothing_along_a_cosine():
    own = replace(TINY, learning_rate=1.0)
    assert [rate_at(update, 16, own) for update in (0, 8, 16)] == pytest.approx([1.0, 0.5, 0.0])
    assert rate_at(4, 16, own) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))


# What stops a run, and what is refused


def test_labels_that_are_no_numbers_stop_the_run_before_anything_changes(root, monkeypatch):
    config = run_of(root)
    tuner, before = Tuner(config), None
    lesson = tuner.recorded.lesson

    def poisoned(rng: np.random.Generator, batch: int) -> Any:
        found = lesson(rng, batch)
        found.q[1, 2] = math.nan if tuner.update == 2 else found.q[1, 2]
        return found

    monkeypatch.setattr(tuner.recorded, "lesson", poisoned)
    with Board(config.folder) as board, pytest.raises(ValueError, match=(
        r"^integers: numbers that are not finite in the teacher's values at update 2 of int4; what was saved before is "
        r"kept in .*int4; lower integers\.learning_rate, or record the dataset again$"
    )):  # fmt: skip
        tune(config, tuner, board, After(NEVER))  # type: ignore[arg-type]
    assert all(torch.isfinite(value).all() for value in tuner.net.state_dict().values()), before
    assert load_integers(config.path)[1]["update"] == 0
    assert go(config).update == tuner.updates  # from the state beside it


def test_a_gradient_that_is_no_number_names_its_layer(root, monkeypatch):
    tuner = Tuner(run_of(root))
    forward = IntegerNet.forward

    def broken(net: IntegerNet, cells: torch.Tensor) -> torch.Tensor:
        for layer, _ in net.pairs():
            if layer.name == "conv3":
                layer.weight.register_hook(lambda grad: grad * math.inf)
        return forward(net, cells)

    monkeypatch.setattr(IntegerNet, "forward", broken)
    before = tuner.net.export().digest
    with pytest.raises(ValueError, match=r"not finite in the gradient of layers\.2\.weight at update 0 of int4"):
        tuner.step()
    assert tuner.net.export().digest == before and tuner.update == 0


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("bits", 5, "4, 8"),
        ("steps", "sometimes", "calibrated, learned"),
        ("learning_rate", 0.0, "above 0"),
        ("seed", -1, "0 or more"),
        ("temperature", -1.0, "above 0"),
        ("step_rate", -1.0, "0 or more"),
        ("epochs", -1, "0 (calibration alone) or more"),
        ("batch", 0, "1 or more"),
        ("calibrate_rows", 0, "1 or more"),
        ("epsilon", 1.5, "0 to 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name, value, allowed):
    with pytest.raises(SettingsError) as refused:
        replace(TINY, **{name: value})
    assert str(refused.value) == f"integers.{name}: found {value!r}, allowed {allowed}"


def test_a_dataset_of_other_pictures_is_refused(ready, tmp_path):
    root = linked(ready, tmp_path)
    folder = root / "Pong" / "rollouts"
    real = folder.resolve()
    folder.unlink()
    folder.mkdir()
    for path in real.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "manifest.json").unlink()  # a link: the file itself is every test's
    manifest = read_manifest(real)
    said = manifest.facts.env | {"frames_per_step": 2, "resize": "nearest"}
    write_manifest(folder, replace(manifest, facts=replace(manifest.facts, env=said)))
    message = (
        r"rollouts: pictures made otherwise: resize is 'nearest', must be 'area'; frames_per_step is 2, must be 4; "
    )
    with pytest.raises(SettingsError, match=message):
        Tuner(run_of(root))


def test_a_teacher_with_other_actions_is_refused(root):
    config = run_of(root)
    with pytest.raises(SettingsError, match=r"^integers: knows actions NOOP, FIRE, .*; Pong has NOOP, FIRE, UP, RIGHT"):
        Tuner(replace(config, env=replace(SHORT, full_actions=True)))


def test_another_teacher_dataset_or_kind_of_step_does_not_go_on_with_a_run(root):
    config = run_of(root)
    go(config, looks=1)
    with pytest.raises(
        SettingsError, match=r"state\.safetensors: begun with other steps, temperature; use another root=\.\.\. or"
    ):
        Tuner(run_of(root, steps="learned", temperature=9.0)).resume(config.folder / "state.safetensors")

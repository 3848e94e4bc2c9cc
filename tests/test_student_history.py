"""A student whose first layer sees earlier pictures: trained on whole stacks, folded bit for bit, kept in files."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from distill_cases import heads, stacks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.chip import CHIPS
from deploy.compiler import mapped
from deploy.spec import MAX_INPUTS
from distill.export import Folded, export
from distill.latent import KIND, load_latent, save_latent
from distill.statistics import recalibrate
from distill.student import LayerSettings, Student, StudentSettings
from distill.verify import compare
from rl.checkpoint import read_tensors, write_tensors
from rl.files import FormatError
from rl.frames import stack_blocks
from rl.settings import SettingsError, build

CONF = Path(__file__).resolve().parents[1] / "conf" / "student"
FIRST = LayerSettings(12, 4, 4, 2, 1, True)
LAYERS = (FIRST, LayerSettings(18, 3, 1, 1, 0, True), LayerSettings(10, 2, 3, 3, 1, False))


def trained_looking(history: int, front: int = 4, layers: tuple[LayerSettings, ...] = LAYERS, seed: int = 0) -> Student:
    """A student with statistics of pictures and random biases, ready to fold."""
    torch.manual_seed(seed)
    made = Student(StudentSettings(front, layers, history), heads(3))
    with torch.no_grad():
        for level in made.normalised:
            level.bias.copy_(torch.randn(level.bias.shape) * 0.5)
    recalibrate(made, [cells(stacks(8, seed + 1))])
    return made


def cells(obs: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(stack_blocks(obs))


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 4), st.sampled_from((4, 8)), st.booleans(), st.integers(0, 99))
def test_the_levels_agree_with_the_integers(history: int, front: int, shuffle: bool, seed: int) -> None:
    made = trained_looking(history, front, (replace(FIRST, shuffle=shuffle), *LAYERS[1:]), seed)
    spec, obs = export(made), stacks(3, seed + 5)
    assert (spec.history, spec.front.in_shape) == (history, (4 if history == 1 else 1, 84, 84))
    bits = spec.transduce(obs)
    with torch.no_grad():
        ours = [level.numpy() == 1 for level in made.bits(cells(obs))]
        votes = made.votes(cells(obs)).numpy()
    for own, theirs in zip(ours, [bits, *spec.trace(bits)], strict=True):
        assert np.array_equal(own, theirs)
    assert np.array_equal(votes, spec.run(bits))
    assert np.array_equal(Folded(spec)(torch.from_numpy(obs)).numpy(), spec.run(bits))
    assert compare(made, spec, obs) == (None, 0)
    rates = [level.mean() for level in ours]
    assert all(0.02 < rate < 0.98 for rate in rates), rates


def test_a_picture_gives_the_same_bits_wherever_it_stands_in_the_stack() -> None:
    made, obs = trained_looking(3), stacks(2, 4)
    later = np.concatenate([obs[:, 1:], stacks(2, 9)[:, :1]], axis=1)  # one picture on
    with torch.no_grad():
        now, then = (next(iter(made.bits(cells(seen)))).numpy() for seen in (obs, later))
    assert np.array_equal(now[:, :4], then[:, 4:8]) and np.array_equal(now[:, 4:8], then[:, 8:])
    assert not np.array_equal(now[:, :4], then[:, :4])


def test_pictures_beyond_the_history_decide_nothing() -> None:
    made, obs = trained_looking(2), stacks(3, 4)
    other = obs.copy()
    other[:, :2] = 255 - other[:, :2]
    with torch.no_grad():
        assert torch.equal(made.votes(cells(obs)), made.votes(cells(other)))
        other[:, 2] = 255 - other[:, 2]
        assert not torch.equal(made.votes(cells(obs)), made.votes(cells(other)))


def test_every_picture_of_the_history_trains_the_front() -> None:
    made, obs = trained_looking(3).train(), stacks(4, 4)
    seen = cells(obs)
    made.votes(seen).square().mean().backward()
    grad = made.front.hidden.grad
    assert grad is not None and grad.shape == (4, 16, 2, 2) and (grad.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_a_first_layer_that_shuffles_sees_every_picture_in_each_group() -> None:
    order = next(trained_looking(4).chip_layers).order.reshape(4, -1)  # [groups, channels of a group]
    assert [sorted((own // 4).tolist()) for own in order] == [[0, 1, 2, 3]] * 4
    assert [sorted({int(c) % 4 for c in own}) for own in order] == [[0], [1], [2], [3]]


@pytest.mark.parametrize("history", [0, 5])
def test_a_history_that_no_stack_holds_is_refused(history: int) -> None:
    with pytest.raises(SettingsError, match=rf"student.history: found {history}, allowed 1 to 4"):
        StudentSettings(4, LAYERS, history)


def test_blocks_of_all_pictures_count_against_the_inputs_of_a_core() -> None:
    with pytest.raises(SettingsError, match=r"01-P4-12\(4\): 256 inputs a neuron, allowed 128; try more groups"):
        Student(StudentSettings(16, LAYERS, 4), heads(3))


def test_a_latent_file_keeps_the_history_and_older_ones_have_none(tmp_path: Path) -> None:
    made, own = trained_looking(3), StudentSettings(4, LAYERS, 3)
    save_latent(made, own, export(made).digest, tmp_path / "l.safetensors")
    read, digest, _ = load_latent(tmp_path / "l.safetensors")
    assert (read.history, export(read).digest) == (3, digest)
    plain = trained_looking(1)
    save_latent(plain, StudentSettings(4, LAYERS, 1), export(plain).digest, tmp_path / "l.safetensors")
    facts, tensors = read_tensors(tmp_path / "l.safetensors", KIND)
    write_tensors(tmp_path / "l.safetensors", KIND, {k: v for k, v in facts.items() if k != "history"}, tensors)
    read, digest, _ = load_latent(tmp_path / "l.safetensors")
    assert (read.history, export(read).digest) == (1, digest)


def test_a_latent_file_of_another_history_is_refused(tmp_path: Path) -> None:
    made = trained_looking(3)
    save_latent(made, StudentSettings(4, LAYERS, 3), "", tmp_path / "l.safetensors")
    facts, tensors = read_tensors(tmp_path / "l.safetensors", KIND)
    write_tensors(tmp_path / "l.safetensors", KIND, facts | {"history": 2}, tensors)
    with pytest.raises(FormatError, match=r"(?s)l\.safetensors: no legal student .*; distil it again"):
        load_latent(tmp_path / "l.safetensors")


@pytest.mark.parametrize("name", ["slim", "slim-history", "middle"])  # the larger ones: test_student_presets.py
def test_a_preset_makes_a_student_that_fits_a_chip(name: str) -> None:
    values = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    own = build(StudentSettings, values, "student")
    assert set(asdict(own)) == set(values)
    torch.manual_seed(1)
    made = Student(own, heads(6)).eval()
    spec = export(made)
    assert max(layer.fan_in for layer in spec.layers) == MAX_INPUTS
    _, fan = mapped(spec, CHIPS["ns1e"])
    assert len(fan.cores) < CHIPS["ns1e"].cores
    # Two relays a line and earlier picture: the splitter before them is the third of 33 ticks.
    relays = sum(draft.layer < 0 for draft in fan.cores)
    lines = own.front_features * 20 * 20
    assert relays == lines * (own.history - 1) * 2 / 256

"""Neighbouring levels: a folded student in torch, its integers in numpy and in torch answer bit for bit alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from distill_cases import SMALL, stacks, student, trained_looking
from fakes import PONG
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rollout_cases import record as record_rollouts
from run_cases import ENV

from deploy.spec import Head, StudentSpec, save_spec
from distill import verify
from distill.export import Folded, export, leaks
from distill.judge import folded_act
from distill.latent import save_latent
from distill.student import LayerSettings, Student, StudentSettings
from rl.frames import pixels, stack_blocks
from rl.settings import SettingsError
from rl.stages import STUDENT

LAYERS = [
    LayerSettings(12, 2, 4, 2, 1, False),
    LayerSettings(18, 3, 1, 1, 0, True),
    LayerSettings(10, 2, 3, 1, 1, True),
    LayerSettings(16, 2, 2, 2, 1, False),
    LayerSettings(25, 1, 2, 3, 0, False),
]


def cells_of(obs: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(stack_blocks(obs))


def assert_levels_agree(made: Student, spec: StudentSpec, obs: np.ndarray) -> None:
    with torch.no_grad():
        bits = [level.numpy() == 1 for level in made.bits(cells_of(obs))]
        votes = made.votes(cells_of(obs)).numpy()
    front = spec.transduce(obs)
    assert np.array_equal(bits[0], front)
    for ours, theirs in zip(bits[1:], spec.trace(front), strict=True):
        assert np.array_equal(ours, theirs)
    assert np.array_equal(votes, spec.run(front))
    assert np.array_equal(Folded(spec)(torch.from_numpy(obs)).numpy(), spec.run(front))


def test_the_levels_agree_on_every_kind_of_layer():
    made = trained_looking(LAYERS, (3, 4), seed=1)
    spec = export(made)
    assert_levels_agree(made, spec, stacks(5, seed=2))
    rates = [bits.mean() for bits in spec.trace(spec.transduce(stacks(5, seed=2)))]
    assert all(0.05 < rate < 0.95 for rate in rates), rates


@st.composite
def small_layers(draw: st.DrawFn) -> list[LayerSettings]:
    """One to four layers that fit: kernels 1..4, strides, paddings, groups, shuffles."""
    channels, side, layers = 4, 20, []
    for _ in range(draw(st.integers(1, 4))):
        kernel = draw(st.integers(1, min(4, side)))
        stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, 2))
        divisors = [g for g in range(1, channels + 1) if channels % g == 0 and channels // g * kernel**2 <= 128]
        groups = draw(st.sampled_from(divisors))
        features = groups * draw(st.integers(1, max(1, 16 // groups)))
        layers.append(LayerSettings(features, groups, kernel, stride, padding, draw(st.booleans())))
        channels, side = features, (side + 2 * padding - kernel) // stride + 1
    if channels * side**2 < 3:
        layers.append(LayerSettings(3 * channels, channels, 1, 1, 0, False))
    return layers


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(layers=small_layers(), seed=st.integers(0, 2**16))
def test_the_levels_agree_on_random_students(layers, seed):
    made = trained_looking(layers, (3,), seed)
    assert_levels_agree(made, export(made), stacks(2, seed))


def test_ties_fire_in_the_student_and_in_its_integers():
    # Statistics 0 and 1 - epsilon, bias 0: the threshold lies on a whole sum, and x is exactly 0.
    made = student().eval()
    one = next(made.chip_layers)
    one.mean.fill_(-2.0)
    spec = export(made)
    assert spec.layers[0].leak.tolist() == [3] * 8  # floor(2) + 1
    bits = (torch.rand(6, 20, 20, 4) < 0.5).float()
    with torch.no_grad():
        total, fired = one.sums(bits), one(bits, None)
    in_places = total.permute(1, 0, 2).reshape(fired.shape)
    assert (total == -2).any() and torch.equal(fired == 1, in_places + 3 >= 1)


def test_exporting_changes_nothing_and_is_repeatable():
    made = trained_looking(SMALL, (3,), seed=4)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    assert export(made).digest == export(made).digest
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())


def test_what_is_exported_stays_when_the_student_goes_on():
    made = trained_looking(SMALL, (3,), seed=4)
    spec = export(made)
    digest = spec.digest
    for level in made.chip_layers:
        level.trinary.neg_()
    assert spec.digest == digest


def test_leaks_of_the_front_reach_as_far_as_its_sums():
    made = student()
    made.front.mean.copy_(torch.tensor([1e9, -1e9, 0.0, -0.5]))
    reach = made.front.quantised().detach().abs().flatten(1).sum(1) * 255
    assert leaks(made.front, 255).tolist() == [-int(reach[0]), int(reach[1]) + 1, 1, 1]


def test_a_student_with_a_broken_bias_is_not_exported():
    made = student()
    with torch.no_grad():
        next(made.chip_layers).bias[2] = torch.nan
    with pytest.raises(ValueError, match="1 neurons have no finite threshold"):
        export(made)


def test_a_folded_policy_plays_what_the_spec_plays():
    spec, obs = export(trained_looking(SMALL, (3, 4), seed=7)), stacks(9, seed=3)
    for game in ("Game0", "Game1"):
        assert np.array_equal(folded_act(spec, game)(stack_blocks(obs)), spec.act(obs, game))


def test_pixels_undo_the_block_layout():
    obs = stacks(3, seed=5)
    assert np.array_equal(pixels(stack_blocks(obs)), obs)


@pytest.fixture
def distilled(tmp_path):
    """A student of Pong as make distill leaves it, without its dataset; and make verify of it."""
    made = trained_looking(SMALL, (len(PONG),), seed=1)
    made.heads = (Head("Pong", PONG, 0),)
    spec = export(made)
    save_spec(spec, tmp_path / "Pong" / STUDENT)
    save_latent(made, StudentSettings(4, SMALL), spec.digest, tmp_path / "Pong/student/latent.safetensors")
    return verify.VerifyRun(("Pong",), str(tmp_path), ENV, verify.VerifySettings(12, 2, seed=1))


def test_a_student_is_verified_on_its_own_play_where_there_is_no_dataset(distilled, tmp_path, capsys):
    assert verify.command(distilled) == 0
    told = capsys.readouterr().out
    assert f"no dataset in {tmp_path / 'Pong/rollouts'}, the student plays 12 decisions of Pong" in told
    assert "Pong: folded student = spec on 12 decisions, every level" in told


def test_a_student_is_verified_on_its_dataset_where_there_is_one(distilled, tmp_path, capsys):
    record_rollouts(tmp_path / "Pong/rollouts", [5, 9])
    assert verify.command(distilled) == 0
    told = capsys.readouterr().out
    assert f"Pong: folded student = spec on {verify.BATCH} decisions" in told and "no dataset" not in told


def test_a_verification_of_no_game_is_refused(distilled):
    with pytest.raises(SettingsError, match=r"^games: found \(\), allowed one or more$"):
        verify.VerifyRun((), distilled.root, ENV, distilled.verify)

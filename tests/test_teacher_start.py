"""A teacher that begins as a policy is that policy until it has learnt, and takes its place only once it is better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rl.board import Board
from rl.checkpoint import PolicyCheckpoint, half, load_policy, save_policy
from rl.command import Stop
from rl.files import FormatError
from rl.network import LearningNetwork, NetworkSettings, QNetwork
from rl.settings import SettingsError
from rl.train import report, train
from rl.trainer import Trainer
from tests.training_cases import NATURE, TINY_AGENT, TINY_NET, teacher

ACTIONS = ("NOOP", "FIRE", "RIGHT", "LEFT")


def policy(frames: int = 700, **changes) -> PolicyCheckpoint:
    """A small one of Breakout, not trained; every action has its own values."""
    torch.manual_seed(9)
    net = QNetwork(len(ACTIONS), TINY_NET)
    with torch.no_grad():
        net.values.weight.normal_()
        net.values.bias.normal_()
    made = PolicyCheckpoint("Breakout", ACTIONS, NATURE, TINY_NET, half(net.state_dict()), {"frames": frames})
    return replace(made, **changes)


def stacks(count: int = 5) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, 21, 21, 64), dtype=np.uint8)


def begun(folder: Path, made: PolicyCheckpoint, **changes) -> Trainer:
    save_policy(made, folder / "start.safetensors")
    return Trainer(teacher(folder, start=str(folder / "start.safetensors"), **changes), folder)


@pytest.mark.parametrize(("quantiles", "dueling"), [(1, False), (1, True), (3, False), (3, True)])
def test_spread_parameters_have_the_values_in_every_quantile_and_give_the_parameters_back(quantiles, dueling):
    plain = policy().build()
    net = LearningNetwork(len(ACTIONS), quantiles, dueling, TINY_NET)
    net.load_state_dict(net.spread(plain.state_dict()))
    cells = torch.from_numpy(stacks())
    with torch.no_grad():
        expected = plain(cells)[:, :, None].expand(-1, -1, quantiles)
        torch.testing.assert_close(net(cells), expected)
    for name, value in net.plain().items():
        torch.testing.assert_close(value, plain.state_dict()[name])


def test_a_run_begins_as_the_policy_and_plays_at_the_last_epsilon_at_once(tmp_path):
    made = begun(tmp_path, policy(), agent=replace(TINY_AGENT, quantiles=3, dueling=True))
    expected = policy().build()(torch.from_numpy(stacks())).detach().numpy()
    np.testing.assert_allclose(made._agent.values(stacks()), expected, rtol=1e-4, atol=1e-5)
    target = made._agent.target(torch.from_numpy(stacks())).mean(dim=2).detach().numpy()
    np.testing.assert_allclose(target, expected, rtol=1e-4, atol=1e-5)
    assert made.epsilon == 0.1
    fresh = Trainer(teacher(tmp_path / "fresh"), tmp_path / "fresh")
    assert fresh.epsilon == 1.0
    assert fresh.start is None
    for run in (made, fresh):
        run.close()


def test_a_run_that_goes_on_remembers_what_it_began_as_and_does_not_begin_again(tmp_path):
    before = begun(tmp_path, policy(training={"frames": 700, "start": {"policy": "older", "frames": 90}}))
    for _ in range(40):
        before.step()
    before.save()
    with pytest.raises(SettingsError, match=r"begun as another model, teacher.start says otherwise; .* another root"):
        Trainer(teacher(tmp_path), tmp_path)
    after = begun(tmp_path, policy())
    assert after.start == before.start == {"policy": policy().digest, "frames": 790}
    assert torch.equal(after._agent.online.conv1.weight, before._agent.online.conv1.weight)
    assert not torch.equal(after._agent.online.conv1.weight, policy().build().conv1.weight)
    assert after.epsilon == 0.1
    for run in (before, after):
        run.close()


def test_what_it_began_as_is_kept_until_it_is_beaten(tmp_path, capsys):
    made = begun(tmp_path, policy(), train_frames=400, eval_episodes=2, confirm_episodes=3)
    with Board(tmp_path) as board:
        made.evaluate, whole = lambda *given, **more: replace(whole(*given, **more), returns=(2.0, 3.0)), made.evaluate
        train(
            teacher(tmp_path, start=str(tmp_path / "start.safetensors"), train_frames=400),
            made,
            board,
            tmp_path,
            Stop(),
        )
        assert "is 2.5 by 2 episodes, the first to be beaten" in capsys.readouterr().out
        kept = load_policy(tmp_path / "policy.safetensors")
        assert kept.digest == policy().digest, "what came later was no better"
        assert kept.training["score"]["mean"] == made.best == 2.5
        told = report(teacher(tmp_path), made, tmp_path)
        assert told["start"] == {"policy": policy().digest, "frames": 700}
        assert (told["policy_frames"], told["frames"]) == (700, 400)
        again = teacher(tmp_path, epsilon_final=0.5)
        kept = report(again, made, tmp_path)["settings"]["teacher"]
        assert kept["epsilon_final"] == told["settings"]["teacher"]["epsilon_final"] != 0.5, (
            "it learned by none of these"
        )
    assert made.policy(made.evaluate(1)).training["start"] == told["start"]
    made.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"game": "Pong"}, r"teacher\.start: .*: a teacher of Pong, must be of Breakout"),
        ({"actions": ACTIONS[:3]}, r"teacher\.start: .*: knows actions NOOP, FIRE, RIGHT; Breakout has"),
        (
            {"env": replace(NATURE, frames_per_step=2), "network": NetworkSettings((3, 4, 6), 7)},
            r"teacher\.start: .*: trained with another frames_per_step, network; say the same here",
        ),
    ],
)
def test_a_policy_that_does_not_fit_is_refused(tmp_path, changes, message):
    own = policy(**changes)
    shape = len(own.actions), own.network
    with pytest.raises(SettingsError, match=message):
        begun(tmp_path, replace(own, params=half(QNetwork(*shape).state_dict())))


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"teacher\.start: .*start\.safetensors does not exist; name a policy"):
        Trainer(teacher(tmp_path, start=str(tmp_path / "start.safetensors")), tmp_path)
    (tmp_path / "start.safetensors").write_bytes(b"nothing")
    with pytest.raises(FormatError, match=r"start\.safetensors: field header: not a readable file"):
        Trainer(teacher(tmp_path, start=str(tmp_path / "start.safetensors")), tmp_path)

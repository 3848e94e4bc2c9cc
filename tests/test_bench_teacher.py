"""The benchmark of the teacher runs, and counts what it says."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from bench import teacher
from rl.network import NetworkSettings, QNetwork
from rl.trainer import SHARES
from tests.training_cases import TINY_NET
from tests.training_cases import teacher as tiny_run

EFFORT = teacher.Effort(runs=1, decisions=16, peer=False)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Networks and products too small to measure anything by."""
    monkeypatch.setattr(teacher, "NATURE", TINY_NET)
    monkeypatch.setattr(teacher, "SIDE", 32)
    monkeypatch.setattr(teacher, "run_of", lambda game, *more: tiny_run(tmp_path))


@pytest.mark.parametrize("network", [teacher.NATURE, TINY_NET])
def test_multiply_adds_are_those_of_the_layers(network: NetworkSettings):
    seen = []

    def count(layer, inputs, output):
        places = output[0, 0].numel() if output.ndim == 4 else 1
        seen.append(places * layer.weight.numel())

    net = QNetwork(3, network)
    for layer in (net.conv1, net.conv2, net.conv3, net.hidden):
        layer.register_forward_hook(count)
    net(torch.zeros((1, 21, 21, 64), dtype=torch.uint8))
    assert teacher.multiply_adds(network) == sum(seen)


def test_the_settings_of_the_peer_are_one_update_of_32_every_four_decisions():
    own = teacher.as_the_peer(teacher.run_of("Pong")).teacher
    assert (own.envs, own.updates_per_step, own.agent.batch, own.network) == (4, 1, 32, teacher.NATURE)
    assert (own.agent.quantiles, own.agent.prioritised, own.agent.n_steps) == (1, False, 1)
    assert (own.agent.dueling, own.agent.advantage) == (False, 0.0)


@pytest.mark.parametrize("game", ["Pong", "Breakout"])
def test_a_game_is_measured_as_its_files_set_it(game):
    run = teacher.run_of(game)
    assert run.name == game
    assert run.teacher.epsilon_decay_frames == (400_000 if game == "Pong" else 1_000_000)


def test_the_algorithm_without_a_replay_is_measured_by_its_preset():
    own = teacher.run_of("Breakout", "algo=pqn").teacher
    assert (own.algo, own.envs, own.agent.batch) == ("pqn", 64, 64)


def test_ratios_follow_from_the_medians(tmp_path):
    run = tiny_run(tmp_path)
    own = dataclasses.replace(run, teacher=dataclasses.replace(run.teacher, updates_per_step=3))
    names = ("Pong as it is set", teacher.AS_PEER, "algo=pqn", teacher.LIMIT, teacher.PEER)
    rows = [{"what": what, "median": value} for what, value in zip(names, (10.0, 8.0, 9.0, 2.0, 4.0), strict=True)]
    found = teacher.ratios(own, rows)
    assert found["samples_a_second"] == 10 * 3 * 6 / 2
    assert found["times_the_peer"] == 2.0
    assert found["share_of_limit"] == pytest.approx(90 * 5 * teacher.multiply_adds(TINY_NET) / 2e9)
    assert "times_the_peer" not in teacher.ratios(own, rows[:4])


def test_a_report_has_every_row_and_shares_that_add_up(tiny, tmp_path):
    rows, extra = teacher.measure("Breakout", EFFORT, tmp_path)
    assert [row["unit"] for row in rows] == ["decisions/s", "decisions/s", "decisions/s", "10^9 MAC/s"]
    assert all(row["median"] > 0 for row in rows)
    assert sum(extra["shares"].values()) == pytest.approx(1)
    assert len(extra["shares"]) == len(SHARES)


def test_the_command_writes_its_report(tiny, tmp_path):
    teacher.main(["--runs=1", "--decisions=8", "--no-peer", f"--folder={tmp_path}"])
    assert json.loads((tmp_path / "teacher.json").read_text())["name"] == "teacher"

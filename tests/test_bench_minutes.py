"""A sprint is a legal training from nothing whose schedules end with it; it says what it took and where it arrived."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bench import minutes
from bench.minutes import Sprint
from rl.command import CONF, settings
from rl.trainer import TeacherRun


def test_schedules_end_with_the_run_and_the_last_policy_alone_is_scored():
    overrides = Sprint("Qbert", 500.0, 90_000).overrides()
    with initialize_config_dir(str(CONF), version_base=None):
        tree = OmegaConf.to_container(compose("teacher", [*overrides, "name=Qbert"]), resolve=True)
    own = settings(TeacherRun, tree).teacher
    assert {own.train_frames, own.rate_decay_frames, own.eval_frames} == {90_000}
    assert (own.epsilon_decay_frames, own.eval_episodes, own.report_episodes) == (15_000, 1, 30)


@pytest.fixture
def commands(monkeypatch):
    """A stand-in for trainings, whose mean score is ten times their seed; the commands that it was given."""
    given = []

    def carry_out(command, folder):
        given.append(command)
        seed = int(next(word for word in command if word.startswith("teacher.seed=")).partition("=")[2])
        folder.mkdir(parents=True)
        score = {"mean": 10.0 * seed, "low": 1.0, "high": 30.0}
        (folder / "report.json").write_text(json.dumps({"frames": 1_234, "score": score}))

    monkeypatch.setattr(minutes, "carry_out", carry_out)
    return given


def test_every_seed_begins_from_nothing_and_says_whether_it_arrived(commands, tmp_path, capsys):
    stale = tmp_path / "minutes" / "Pong-1" / "stale"
    stale.parent.mkdir(parents=True)
    stale.touch()
    minutes.main(["--folder", str(tmp_path), "--seeds", "1", "2", "--", "teacher.envs=8"])
    assert not stale.exists()
    assert [command[3] for command in commands] == [f"root={tmp_path}/minutes/Pong-{seed}" for seed in (1, 2)]
    assert all(command[1:3] == ["-m", "rl.train"] and command[-1] == "teacher.envs=8" for command in commands)
    report = json.loads(Path(tmp_path, "minutes.json").read_text())
    assert [(row["seed"], row["frames"], row["mean"]) for row in report["rows"]] == [(1, 1_234, 10.0), (2, 1_234, 20.0)]
    assert all(0 <= row["minutes"] < 60 for row in report["rows"])
    said = capsys.readouterr().out
    assert "8.0 short" in said
    assert "reached" in said

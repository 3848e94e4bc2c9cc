"""What a run says that it will hold in memory: before it begins, part by part, and more than it then does."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rl import memory
from rl.command import CONF, settings
from rl.holding import PROGRAM_BYTES, held, need_room
from rl.replay import ROW_BYTES
from rl.train import command
from rl.trainer import TeacherRun, Trainer
from rl.training_state import SEGMENT_ROWS
from tests.fork_server import Server
from tests.training_cases import TINY_AGENT, teacher

ROWS = 300


def pqn(root):
    return teacher(root, algo="pqn", agent=dataclasses.replace(TINY_AGENT, batch=6))


def default(*changes):
    with initialize_config_dir(str(CONF), version_base=None):
        tree = OmegaConf.to_container(compose("teacher", ["game=Breakout", "name=Breakout", *changes]), resolve=True)
    return settings(TeacherRun, {key: value for key, value in tree.items() if key != "hydra"})


def test_the_defaults_stay_under_four_gib():
    assert PROGRAM_BYTES < sum(held(default()).values()) < 4 << 30


def test_the_replay_and_the_rollouts_are_counted_to_the_byte(tmp_path):
    assert held(teacher(tmp_path))["replay"] == ROWS * ROW_BYTES
    assert held(teacher(tmp_path, replay_rows=301))["replay"] == ROWS * ROW_BYTES  # equal rings, one is left over
    run = Trainer(pqn(tmp_path), tmp_path)
    assert held(pqn(tmp_path))["rollouts"] == run._rollouts._played.nbytes + run._rollouts._learnt.nbytes
    run.close()


def test_a_checkpoint_takes_two_segments_however_large_the_replay():
    sizes = {rows: held(default(f"teacher.replay_rows={rows}"))["checkpoints"] for rows in (20_000, 1 << 16, 1 << 20)}
    assert sizes[20_000] == 2 * 20_000 * ROW_BYTES
    assert sizes[1 << 16] == sizes[1 << 20] == 2 * SEGMENT_ROWS * ROW_BYTES <= 470_000_000


def test_wider_nets_and_larger_batches_hold_more():
    sizes = [
        held(default(*change))["nets and optimiser"]
        for change in ([], ["teacher.network.hidden=1024"], ["teacher.agent.batch=256"], ["teacher.learner_threads=3"])
    ]
    assert min(sizes[1:]) > sizes[0] > 4 * 16 * 1_687_524  # weights and optimiser alone


def test_a_run_says_what_it_will_hold_before_it_begins(tmp_path, capsys):
    need_room(teacher(tmp_path), tmp_path / "x")
    out = capsys.readouterr().out
    program = PROGRAM_BYTES / 1e9  # by torch's build
    assert (
        program <= float(re.search(rf"^{tmp_path}/x: will hold up to ([\d.]+) GB of memory: ", out)[1]) < program + 0.05
    )
    assert "memory: games 0.01, checkpoints 0.00, " in out and out.endswith(f"program {program:.2f}\n")


@pytest.mark.parametrize(
    ("kind", "setting"), [(teacher, r"teacher\.replay_rows"), (pqn, r"teacher\.pqn\.rollout_steps")]
)
def test_too_little_memory_is_refused_with_the_setting_before_anything_is_made(kind, setting, tmp_path, monkeypatch):
    run, folder = kind(tmp_path), tmp_path / "Breakout" / "teacher"
    wanted = sum(held(run).values()) - PROGRAM_BYTES
    monkeypatch.setattr(memory, "available_bytes", lambda: memory.RESERVE + wanted - 1)
    message = (
        rf"Breakout/teacher, beside the program: needs 0\.0\d GB of memory, 0\.0\d GB are available; lower {setting}$"
    )
    with pytest.raises(MemoryError, match=message):
        command(run, "")
    assert not any(tmp_path.iterdir())
    monkeypatch.setattr(memory, "available_bytes", lambda: memory.RESERVE + wanted)
    need_room(run, folder)


def test_processes_of_one_machine_need_it_together(tmp_path, monkeypatch, capsys):
    run = teacher(tmp_path)
    wanted = sum(held(run).values()) - PROGRAM_BYTES
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setattr(memory, "available_bytes", lambda: memory.RESERVE + 3 * wanted - 1)
    with pytest.raises(MemoryError, match=r"lower teacher\.replay_rows$"):
        need_room(run, tmp_path)
    assert "GB of memory in each of 3 processes: " in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_holds_no_more_than_it_said(tmp_path):
    """With nets of the usual size, until the replay is full and saved as a whole, and when it goes on from there."""
    line = ["game=Breakout", f"root={tmp_path}", "teacher.envs=8", "teacher.replay_rows=12_000", "env.max_frames=400"]
    line += ["teacher.learn_start_frames=48_000", "teacher.eval_episodes=1", "teacher.report_episodes=1"]
    with Server() as server:
        for frames in (49_600, 50_400):
            run = server.start(tmp_path / "out", [*line, f"teacher.train_frames={frames}"])
            assert run.wait() == 0, run.out
            said = float(re.search(r"will hold up to ([\d.]+) GB", run.out)[1])
            assert 0.6 * said < run.peak_bytes / 1e9 <= said

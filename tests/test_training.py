"""A training run: the same seed gives the same weights, and a run that was stopped or killed goes on."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from rl.agent import WARMUP_UPDATES
from rl.board import Board
from rl.checkpoint import load_policy
from rl.command import Stop, only_one
from rl.games import VectorGame
from rl.settings import SettingsError
from rl.train import command, report, train
from rl.trainer import Trainer, rate_at
from rl.training_state import StateStore
from tests.training_cases import TINY_AGENT, teacher


def trainer(folder, steps=0, **changes):
    made = Trainer(teacher(folder, **changes), folder)
    for _ in range(steps):
        made.step()
    return made


def weights(made):
    return torch.cat([value.flatten() for value in made._agent.online.state_dict().values()])


@pytest.mark.parametrize(("frames", "share"), [(0, 1.0), (1200, 1.0), (1400, 0.625), (1600, 0.25), (9000, 0.25)])
def test_the_learning_rate_falls_over_the_last_frames(tmp_path, frames, share):
    own = teacher(tmp_path).teacher  # 1,600 frames, the last 400 down to a quarter
    assert rate_at(frames, own) == own.agent.learning_rate * share


@pytest.mark.parametrize(("frames", "share"), [(1000, 1.0), (1200, 0.625), (1400, 0.25), (1600, 0.25)])
def test_the_learning_rate_is_held_once_it_has_fallen(tmp_path, frames, share):
    own = teacher(tmp_path, rate_hold_frames=200).teacher
    assert rate_at(frames, own) == own.agent.learning_rate * share


def test_the_learning_rate_that_is_told_is_the_one_that_is_learnt_with(tmp_path):
    made = trainer(tmp_path, updates_per_step=2)
    told = [metrics["train/learning_rate"] for _ in range(40) if (metrics := made.step())]
    whole = made._own.agent.learning_rate
    assert told == pytest.approx([2 * step * whole / WARMUP_UPDATES for step in range(1, len(told) + 1)])
    assert len(told) > 5
    made.close()


def test_the_same_seed_trains_the_same_weights_and_another_others(tmp_path):
    one, two, other = (trainer(tmp_path / str(i), 40, seed=seed) for i, seed in enumerate((5, 5, 6)))
    assert one._agent.updates == two._agent.updates > 10
    assert torch.equal(weights(one), weights(two))
    assert not torch.equal(weights(one), weights(other))
    for made in (one, two, other):
        made.close()


def test_learning_starts_when_the_replay_holds_enough(tmp_path):
    made = trainer(tmp_path, learn_start_frames=200)
    seen = [bool(made.step()) for _ in range(30)]
    first = seen.index(True)
    assert all(seen[first:])
    assert first in (24, 25)  # 25 steps of 2 envs and 4 frames are 200; an episode's last frame has a row of its own
    made.close()


def test_a_resumed_run_goes_on_where_it_was(tmp_path):
    before = trainer(tmp_path, 100)
    before.best = 3.5
    before.save()
    after = trainer(tmp_path)
    assert after.resumed
    assert not before.resumed
    assert (after.frames, after.epsilon, after.best) == (before.frames, before.epsilon, 3.5)
    assert (after.frames, after.epsilon) == (800, pytest.approx(0.28))
    assert list(after._returns) == list(before._returns)
    assert len(after._returns) > 1
    assert after._agent.updates == before._agent.updates
    assert after.wall_s == before.wall_s
    assert torch.equal(weights(after), weights(before))
    assert after._rng.bit_generator.state == before._rng.bit_generator.state
    # The newest row is not saved: a new episode begins in its place.
    assert np.array_equal(after._replay.head, before._replay.head)
    held = after._replay.rows(np.zeros(2, np.int64))
    same = before._replay.rows(np.zeros(2, np.int64))
    for name in ("cells", "action", "reward"):
        assert np.array_equal(getattr(held, name), getattr(same, name))
    batches = [made._replay.sample(np.random.default_rng(1), 6, 3, 0.9) for made in (before, after)]
    assert after._agent.learn(batches[0], 1e-3) == before._agent.learn(batches[0], 1e-3)
    updates = after._agent.updates
    after.step()
    assert (after.frames, after._agent.updates) == (808, updates + 1)
    before.close(), after.close()


def test_a_run_saved_before_its_first_step_goes_on(tmp_path):
    for _ in range(2):
        made = trainer(tmp_path)
        made.save()
        made.close()
    after = trainer(tmp_path, 60)
    assert after.frames == 480
    assert after._agent.updates > 20
    after.close()


def test_a_resumed_run_plays_seeds_of_its_own(tmp_path):
    before = trainer(tmp_path, 3)
    before.save()
    after = trainer(tmp_path)
    assert not np.array_equal(after._games.first, trainer(tmp_path / "new")._games.first)
    before.close(), after.close()


def test_a_run_does_not_go_on_with_another_replay_or_game(tmp_path):
    trainer(tmp_path, 1).save()
    with pytest.raises(SettingsError, match=r"begun with another replay_rows; use the same settings"):
        trainer(tmp_path, replay_rows=302)
    with pytest.raises(SettingsError, match=r"begun with another game; use"):
        Trainer(dataclasses.replace(teacher(tmp_path), name="Pong"), tmp_path)


def test_a_whole_run_leaves_a_policy_a_report_and_metrics(tmp_path):
    assert command(teacher(tmp_path, train_frames=720, eval_frames=400), "text") == 0
    folder = tmp_path / "Breakout" / "teacher"
    facts = json.loads((folder / "report.json").read_text())
    policy = load_policy(folder / "policy.safetensors")
    policy.require("Breakout", ("NOOP", "FIRE", "RIGHT", "LEFT"), "here")
    assert (facts["frames"], facts["policy"], len(facts["score"]["returns"])) == (720, policy.digest, 2)
    assert facts["score"]["protocol"]["name"] == "own", "episodes of 240 frames are no protocol's"
    assert policy.training["frames"] == facts["policy_frames"]
    assert policy.training["frames"] in (400, 720)
    lines = [json.loads(line, parse_constant=pytest.fail) for line in (folder / "metrics.jsonl").open()]
    assert [line["at"] for line in lines if "train/loss" in line][-2:] == [680, 720]
    assert [line["at"] for line in lines if "eval/mean_reward" in line] == [400, 720]


def saved_seconds(config, folder):
    with closing(Trainer(config, folder)) as made:
        return made.wall_s


def test_a_finished_run_is_left_as_it_is_and_scored_anew_only_over_other_episodes(tmp_path):
    config = teacher(tmp_path, train_frames=720, eval_frames=400)
    folder = tmp_path / "Breakout" / "teacher"
    names = ("metrics.jsonl", "report.json", "policy.safetensors")
    assert command(config, "text") == 0
    before = [(folder / name).read_bytes() for name in names]
    kept = saved_seconds(config, folder)
    assert command(config, "text") == 0
    assert [(folder / name).read_bytes() for name in names] == before
    assert saved_seconds(config, folder) == kept
    assert command(teacher(tmp_path, train_frames=720, eval_frames=400, report_episodes=3), "text") == 0
    assert len(json.loads((folder / "report.json").read_text())["score"]["returns"]) == 3


def test_a_state_of_before_evaluations_were_noted_goes_on(tmp_path):
    before = trainer(tmp_path, 3)
    save = before._store.save
    before._store.save = lambda tensors, facts, replay: save(
        tensors, {key: value for key, value in facts.items() if key != "judged"}, replay
    )
    before.save()
    after = trainer(tmp_path, 1)
    assert (after.frames, after.judged) == (32, -1)
    before.close(), after.close()


@pytest.mark.parametrize(("stop_score", "frames"), [(-1.0, 400), (1e6, 480)])
def test_a_score_that_is_enough_ends_the_run(tmp_path, stop_score, frames):
    config = teacher(tmp_path, stop_score=stop_score, eval_frames=400, train_frames=480)
    made, stop = Trainer(config, tmp_path), Stop()
    stop.restore()
    with Board(tmp_path) as board:
        assert train(config, made, board, tmp_path, stop)
        assert made.frames == frames
        assert report(config, made, tmp_path)["policy_frames"] <= frames
    made.close()
    again = Trainer(config, tmp_path)
    with Board(tmp_path, again.frames) as board:
        assert train(config, again, board, tmp_path, stop)
    assert again.frames == frames
    again.close()


def test_lines_of_a_run_killed_before_its_first_checkpoint_are_not_doubled(tmp_path):
    folder = tmp_path / "Breakout" / "teacher"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"at": 80, "wall_s": 1.0}\n{"at": 90000, "wall_s": 2.0}\n{"at": 9')
    assert command(teacher(tmp_path, train_frames=240), "text") == 0
    at = [json.loads(line)["at"] for line in (folder / "metrics.jsonl").open() if "rollout/exploration_rate" in line]
    everything = [json.loads(line)["at"] for line in (folder / "metrics.jsonl").open()]
    assert at == sorted(set(at)) and everything == sorted(everything) and max(everything) == 240


def test_a_second_trainer_on_the_same_folder_is_refused(tmp_path):
    config = teacher(tmp_path)
    with (
        only_one(tmp_path / "Breakout" / "teacher"),
        pytest.raises(SettingsError, match=r"Breakout/teacher: another program is at work"),
    ):
        command(config, "")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (RuntimeError("the emulator broke"), r"^the emulator broke$"),  # as recv raises what a native worker raised
        (
            OSError(28, "No space left on device"),
            r"Breakout/teacher: \[Errno 28\] No space.*; the last checkpoint is whole",
        ),
    ],
)
def test_a_fault_under_way_ends_the_run_and_what_was_saved_goes_on(tmp_path, monkeypatch, fault, message):
    config = teacher(tmp_path, checkpoint_s=0.0)
    recv, left = VectorGame.recv, iter(range(20))

    def breaks(game):
        if next(left, None) is None:
            raise type(fault)(*fault.args)  # the one of all tests would hold this one's games
        return recv(game)

    with monkeypatch.context() as patch:
        patch.setattr(VectorGame, "recv", breaks)
        with pytest.raises(RuntimeError, match=message):
            command(config, "text")
    assert resumed_frames(tmp_path) == 20 * 8
    assert command(config, "text") == 0


@pytest.mark.parametrize("prioritised", [False, True])
def test_a_run_that_diverges_ends_with_its_last_checkpoint_whole(tmp_path, prioritised):
    wild = dataclasses.replace(TINY_AGENT, learning_rate=1e30, prioritised=prioritised)
    with pytest.raises(RuntimeError, match=r"^training: the .* of update \d is (inf|nan), must be finite; the last"):
        command(teacher(tmp_path, agent=wild, checkpoint_s=0.0), "text")
    folder = tmp_path / "Breakout" / "teacher"
    assert not (folder / "policy.safetensors").exists()
    saved = StateStore(folder / "state", {}).newest()
    assert saved.facts["frames"] >= 200 and all(value.isfinite().all() for value in saved.tensors.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"envs": 0}, r"^teacher\.envs: found 0, allowed 1 or more$"),
        ({"report_episodes": 0}, r"^teacher\.report_episodes: found 0"),
        ({"confirm_episodes": -1}, r"^teacher\.confirm_episodes: found -1, allowed 0 \(none\) or more$"),
        ({"seed": -1}, r"^teacher\.seed: found -1, allowed 0 or more$"),
        ({"stray_steps": 0}, r"^teacher\.stray_steps: found 0, allowed 1 or more$"),
        ({"epsilon_final": 1.5}, r"^teacher\.epsilon_final: found 1\.5, allowed 0 to 1$"),
        ({"rate_final": -0.5}, r"^teacher\.rate_final: found -0\.5, allowed 0 to 1$"),
        ({"rate_hold_frames": -1}, r"^teacher\.rate_hold_frames: found -1, allowed 0 or more$"),
        ({"rate_decay_frames": 0}, r"^teacher\.rate_decay_frames: found 0, allowed 1 or more$"),
        ({"replay_rows": 27}, r"^teacher\.replay_rows: found 27, allowed 28 or more for so many envs$"),
        ({"learn_start_frames": 63}, r"^teacher\.learn_start_frames: found 63, allowed 64 to 1200 with this replay$"),
        (
            {"learn_start_frames": 1201},
            r"^teacher\.learn_start_frames: found 1201, allowed 64 to 1200 with this replay$",
        ),
    ],
)
def test_impossible_runs_are_refused(tmp_path, change, message):
    with pytest.raises(SettingsError, match=message):
        teacher(tmp_path, **change)


def test_the_least_allowed_replay_and_start_can_be_sampled(tmp_path):
    made = trainer(tmp_path, 60, replay_rows=28, learn_start_frames=64)
    assert made._agent.updates > 40
    made.close()


def test_a_large_seed_trains_and_evaluates(tmp_path):
    made = trainer(tmp_path, 1, seed=2_000_000_000)
    assert len(made.evaluate(2).returns) == 2
    made.close()


CHILD = """
import sys
from pathlib import Path
from rl.command import run
from rl.train import command
from rl.training_state import StateStore
from tests.training_cases import TINY_AGENT, teacher
run(lambda: command(teacher(Path(sys.argv[1]), train_frames=int(sys.argv[2]), checkpoint_s=0.1), "text"))
"""


def started(root, frames):
    """A training run in another process, its first state written."""
    here = Path(__file__).resolve().parent.parent
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root), str(frames)],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(here)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    state = root / "Breakout" / "teacher" / "state"
    end_s = time.monotonic() + 60
    while not (state / "state-000003.safetensors").exists():
        assert child.poll() is None, child.stdout.read().decode()
        assert time.monotonic() < end_s
        time.sleep(0.02)
    return child


def resumed_frames(root):
    """Frames from which the run goes on, and one step more."""
    made = Trainer(teacher(root), root / "Breakout" / "teacher")
    assert made.resumed
    frames = made.frames
    made.step()
    assert made.frames == frames + 8
    made.close()
    return frames


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path):
    child = started(tmp_path, 100_000_000)
    child.kill()
    assert child.wait(30) == -signal.SIGKILL
    assert resumed_frames(tmp_path) > 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_is_the_status(tmp_path, number):
    child = started(tmp_path, 100_000_000)
    child.send_signal(number)
    out = child.communicate(timeout=30)[0].decode()
    assert child.returncode == 128 + number
    frames = resumed_frames(tmp_path)
    assert f"stopped at {frames:,} frames; the same command goes on" in out

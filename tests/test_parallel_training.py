"""One run in two processes: the gradient of the whole batch, the same weights everywhere, envs and replay apart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rl.parallel import ALONE, team
from rl.settings import SettingsError
from rl.trainer import Trainer
from tests.parallel_job import STEPS, one_update, whole_batch
from tests.training_cases import teacher

ROOM = Path(__file__).resolve().parents[1]


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def begun(logs, *arguments):
    """torchrun with two processes, what it keeps of them in `logs`."""
    env = os.environ | {"PYTHONPATH": str(ROOM), "OMP_NUM_THREADS": "1"}
    line = [*TORCHRUN, "--log-dir", str(logs), *map(str, arguments)]
    return subprocess.Popen(line, cwd=ROOM, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What each of two processes saw."""
    out = tmp_path_factory.mktemp("team")
    job = begun(out / "logs", ROOM / "tests" / "parallel_job.py", out)
    text = job.communicate(timeout=120)[0]
    assert job.returncode == 0, text
    return [dict(np.load(out / f"seen-{rank}.npz", allow_pickle=True)) for rank in range(2)]


def test_two_halves_of_a_batch_give_the_gradient_of_the_whole(seen):
    gradient, after = one_update(whole_batch())
    for own in seen:
        np.testing.assert_allclose(own["gradient"], gradient, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(own["after"], after, rtol=1e-5, atol=1e-6)
        assert not np.allclose(own["own"], gradient, rtol=1e-2), "half of the batch says the same: nothing is shown"


def test_what_one_says_all_know(seen):
    assert [own["agreed"].tolist() for own in seen] == [[1, 3, 0]] * 2
    assert [own["shared"].tolist() for own in seen] == [[0, 2]] * 2


def test_no_thread_that_sends_outlives_the_team(seen):
    assert [own["left"].tolist() for own in seen] == [[], []]


def test_weights_start_equal_and_stay_equal(seen):
    one, two = seen
    for name in ("begun", "weights", "weights_again", "weights_on"):
        assert np.array_equal(one[name], two[name]), name
    assert one["updates"] == two["updates"] > 10
    assert not np.array_equal(one["begun"], one["weights"])
    assert not np.array_equal(one["weights_again"], one["weights_on"]), "a resumed team goes on learning"


def test_each_plays_and_remembers_for_itself(seen):
    one, two = seen
    assert not np.array_equal(one["first"], two["first"])
    assert not np.array_equal(one["actions"], two["actions"])


def test_frames_are_those_of_all(seen):
    assert [int(own["frames"]) for own in seen] == [STEPS * 2 * 2 * 4] * 2  # processes, envs, frames a step


def test_a_team_goes_on_where_it_was(seen):
    for own in seen:
        assert own["resumed"]
        assert np.array_equal(own["weights_again"], own["weights"])
        newest = own["actions"] != own["actions_again"]
        assert newest.sum() <= 2, "but for the newest row of each env the replay is its own"
        assert (int(own["frames_again"]), float(own["best_again"])) == (int(own["frames"]), 4.5)


def test_a_team_learns_from_the_frames_of_all(seen):
    # 200 frames are 25 steps of one process; of two, 13, and no later than the slower one has them.
    assert STEPS - 14 <= int(seen[0]["updates"]) <= STEPS - 11


def test_one_process_is_alone(tmp_path, monkeypatch):
    for setting in ({}, {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "1"}):
        for name, value in setting.items():
            monkeypatch.setenv(name, value)
        with team() as us:
            assert us is ALONE
    assert (ALONE.agree(3, 0), ALONE.share("x"), ALONE.folder(tmp_path)) == ((3, 0), "x", tmp_path)


def test_more_processes_than_the_start_suffices_for_are_refused(tmp_path):
    message = r"^teacher\.learn_start_frames: found 200, allowed 256 or more for 4 processes$"
    with pytest.raises(SettingsError, match=message):
        Trainer(teacher(tmp_path), tmp_path, type(ALONE)(0, 4))


RUN = ("-m", "rl.train", "game=Pong", "smoke=teacher", "env.max_frames=400")


def finished(job, timeout_s=600):
    text = job.communicate(timeout=timeout_s)[0]
    return job.returncode, text


@pytest.mark.slow
def test_a_team_is_stopped_by_one_signal_goes_on_and_reports(tmp_path):
    whole = [*RUN, f"root={tmp_path}", "teacher.train_frames=60_000", "teacher.checkpoint_s=0.5"]
    job = begun(tmp_path / "logs", *whole)
    folder = tmp_path / "Pong" / "teacher"
    end_s = time.monotonic() + 120
    while not (folder / "rank-1" / "state" / "state-000002.safetensors").exists():
        assert job.poll() is None, job.stdout.read()
        assert time.monotonic() < end_s
        time.sleep(0.05)
    os.kill(int(children(job.pid)[1]), signal.SIGTERM)  # the second process alone
    code, text = finished(job)
    assert code != 0
    assert "the same command goes on" in text
    code, text = finished(begun(tmp_path / "logs", *whole))
    assert code == 0, text
    assert "going on at" in text
    facts = json.loads((folder / "report.json").read_text())
    assert facts["processes"] == 2
    assert facts["frames"] >= 60_000
    assert not (folder / "rank-1" / "report.json").exists()
    at = [json.loads(line)["at"] for line in (folder / "metrics.jsonl").open()]
    assert at == sorted(at)


def children(pid):
    """Processes that one has begun, in the order of their start."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

"""A distillation that is killed at any moment goes on, and ends as one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from distill_cases import linked, prepared, tiny_run

from deploy.spec import load_spec
from distill.train import command

ROOM = Path(__file__).resolve().parents[1]
RUN = {"mode": "offline", "updates": 40, "eval_updates": 40, "exam_updates": 9, "checkpoint_s": 0.0, "log_updates": 1}
CHILD = f"""
import sys
from pathlib import Path
from distill_cases import tiny_run
from distill.train import command
sys.exit(command(tiny_run(Path(sys.argv[1]), **{RUN!r}), ""))
"""


def begun(root: Path) -> subprocess.Popen:
    env = os.environ | {"PYTHONPATH": f"{ROOM}:{ROOM / 'tests'}"}
    return subprocess.Popen([sys.executable, "-c", CHILD, str(root)], cwd=ROOM, env=env, stdout=subprocess.DEVNULL)


def updates(folder: Path) -> list[int]:
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["at"] for line in lines if "train/loss" in line and line.endswith("}")]


def killed(root: Path, after: int) -> None:
    """Begin, or go on, and kill once so many updates are told."""
    child, end_s = begun(root), time.monotonic() + 120
    folder = root / "Pong" / "student"
    while max(updates(folder), default=0) < after:
        assert child.poll() is None, "it ended before it was killed"
        assert time.monotonic() < end_s
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()


@pytest.mark.parametrize("after", [[3], pytest.param([1, 12, 30], marks=pytest.mark.slow)])
def test_a_run_that_is_killed_ends_as_one_that_is_not(tmp_path, after):
    ready = prepared(tmp_path / "ready", "Pong")
    whole, cut = (linked(ready, tmp_path / name) for name in ("whole", "cut"))
    assert command(tiny_run(whole, **RUN), "") == 0
    for count in after:
        killed(cut, count)
    config = tiny_run(cut, **RUN)
    assert command(config, "") == 0
    one, other = (load_spec(root / "Pong/student/student.npz")[0].digest for root in (whole, cut))
    assert one == other
    told = updates(config.folder)
    assert told == sorted(set(told)) and told[-1] == 40
    assert not list(config.folder.glob("*.part"))

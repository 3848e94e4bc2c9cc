"""Killed at any moment, a run of the real command goes on: little is lost, nothing is doubled or half-written.

And so it does where the disk was full, a file was damaged, or its folder read-only or taken by another.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rl.checkpoint import STATE, load_policy, read_tensors
from rl.training_state import StateStore, read_segment
from tests.fork_server import Run, Server

STEP_FRAMES, LINE_FRAMES, EVAL_FRAMES = 8, 16, 400  # 2 envs of 4 frames a step
CHECKPOINT_S = 12  # of a clock that goes on by a second or more a step
WRITES, FILES = 60, 18  # at or in one of which a run is killed: some seven checkpoints
SETTINGS = {
    "game": "Breakout",
    "env.max_frames": 240,
    "teacher.train_frames": 10_000_000,
    "teacher.envs": 2,
    "teacher.learner_threads": 1,
    "teacher.replay_rows": 160,
    "teacher.learn_start_frames": 200,
    "teacher.checkpoint_s": CHECKPOINT_S,
    "teacher.eval_frames": EVAL_FRAMES,
    "teacher.eval_episodes": 1,
    "teacher.report_episodes": 1,
    "teacher.network.channels": "[3,4,5]",
    "teacher.network.hidden": 7,
    "teacher.agent.batch": 6,
}


class Life:
    """A run below `root`, begun again and again."""

    def __init__(self, server: Server, root: Path) -> None:
        self._server, self._root = server, root
        self.folder = root / "runs" / "Breakout" / "teacher"

    def _line(self, **changes: int) -> list[str]:
        own = SETTINGS | {f"teacher.{name}": value for name, value in changes.items()}
        return [f"root={self._root / 'runs'}", *(f"{name}={value}" for name, value in own.items())]

    def start(self, out: str = "out", until: int | None = None, **given: Any) -> Run:
        """Begin the command: for good, or until it has seen so many frames."""
        line = self._line(**({} if until is None else {"train_frames": until}))
        return self._server.start(self._root / out, line, log_frames=LINE_FRAMES, counted_s=True, **given)

    def killed_after(self, wait_s: float) -> str:
        run = self.start()
        run.over_in(wait_s)
        run.kill()
        return self._ended(run, -signal.SIGKILL)

    def killed_at_write(self, count: int) -> str:
        return self._ended(self.start(kill_at=count), -signal.SIGKILL)

    def killed_in_file(self, count: int) -> str:
        return self._ended(self.start(kill_in=count), -signal.SIGKILL)

    def whole(self, until: int) -> str:
        """To its end after so many frames."""
        return self._ended(self.start(until=until), 0)

    def refused(self, **given: Any) -> str:
        """What a run says that ends with an error."""
        return self._ended(self.start(**given), 1)

    def _ended(self, run: Run, status: int) -> str:
        assert run.wait() == status, run.out
        return run.out

    def saved(self) -> int:
        """Frames of the newest state, 0 without one; every state must be whole."""
        states = [read_tensors(path, STATE)[0] for path in sorted((self.folder / "state").glob("state-*.safetensors"))]
        return states[-1]["frames"] if states else 0

    def lines(self) -> list[dict[str, float]]:
        """Of metrics.jsonl; the last one may be cut."""
        path = self.folder / "metrics.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def leftovers(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*.part"))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


def check_killed(life: Life, before: int) -> None:
    """What holds after every kill, `before` frames having been saved when the run began."""
    saved, lines = life.saved(), life.lines()
    seen = int(lines[-1]["at"]) if lines else 0
    assert saved >= before, "a state is gone"
    # What was under way beside what lies between two checkpoints: a step.
    assert seen - saved <= (CHECKPOINT_S + 1) * STEP_FRAMES, "more than one checkpoint interval is lost"
    if saved:
        newest = StateStore(life.folder / "state", {}).newest()
        assert newest is not None and newest.facts["frames"] == saved, "the newest state has no whole replay"
    for path in (life.folder / "state").glob("replay-*.safetensors"):  # those, too, that no state reads yet
        read_segment(path)
    if (life.folder / "policy.safetensors").exists():
        load_policy(life.folder / "policy.safetensors")
    assert len(life.leftovers()) <= 2, "what kills leave piles up"
    check_curve(lines)


def check_curve(lines: list[dict[str, float]]) -> None:
    """No x is missing, none is there twice; a run that goes on begins a line of its own."""
    at = [int(line["at"]) for line in lines if "rollout/exploration_rate" in line]
    assert all(LINE_FRAMES <= b - a < 2 * LINE_FRAMES for a, b in pairwise([0, *at])), at
    judged = [int(line["at"]) for line in lines if "eval/mean_reward" in line]
    assert judged == list(range(EVAL_FRAMES, EVAL_FRAMES * len(judged) + 1, EVAL_FRAMES))
    assert not at or at[-1] - EVAL_FRAMES < (judged[-1] if judged else 0) + LINE_FRAMES, "an evaluation is missing"


def kill_again_and_again(life: Life, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    begun = 0
    for number in range(kills):
        before = life.saved()
        kind = number % 3
        if kind == 0:
            out = life.killed_at_write(rng.randint(1, WRITES))
        else:
            out = life.killed_after(rng.uniform(0, 3)) if kind == 1 else life.killed_in_file(rng.randint(1, FILES))
        assert "going back" not in out and "error" not in out
        assert not before or "going on" not in out or f"going on at {before:,} frames" in out
        begun += f"going on at {before:,} frames" in out
        check_killed(life, before)
    before = life.saved()
    (life.folder / "old.part").write_bytes(b"half")  # of a file that no later run need write
    assert f"going on at {before:,} frames" in life.whole(before + 160)
    assert begun >= kills // 4, "hardly any run had begun when it was killed"
    lines = life.lines()
    check_curve(lines[:-2])
    assert [line["at"] for line in lines[-2:]] == [before + 160] * 2, "the last line, the last evaluation"
    assert life.leftovers() == []
    assert json.loads((life.folder / "report.json").read_text())["frames"] == before + 160


def test_a_run_killed_at_six_moments_goes_on(server, tmp_path):
    kill_again_and_again(Life(server, tmp_path), 6, seed=1)


@pytest.mark.slow
def test_a_run_killed_at_fifty_moments_goes_on(server, tmp_path):
    kill_again_and_again(Life(server, tmp_path), 50, seed=2)


@pytest.fixture(scope="module")
def begun(server, tmp_path_factory):
    """A run of some checkpoints."""
    life = Life(server, tmp_path_factory.mktemp("begun"))
    life.whole(400)
    return life


@pytest.fixture
def life(begun, server, tmp_path):
    """A copy of it."""
    shutil.copytree(begun.folder, tmp_path / "runs" / "Breakout" / "teacher")
    return Life(server, tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    """Of every file but the lock, and TensorBoard's, which are begun anew with every run."""
    files = [path for path in folder.rglob("*") if path.is_file() and "tfevents" not in path.name]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != "lock"}


def test_a_full_disk_is_one_error_that_names_the_file_and_the_run_goes_on_once_there_is_room(life):
    before = life.saved()
    out = life.refused(largest=30_000)  # less than a state takes
    state = life.folder / "state" / "state-"
    assert re.search(
        rf"^error: {life.folder}: \[Errno 27\] File too large: '{state}\d+\.safetensors'; "
        "the last checkpoint is whole; once that is mended the same command goes on from it$",
        out.splitlines()[-1],
    )
    assert "Traceback" not in out
    check_killed(life, before)
    assert life.leftovers() == [] and life.saved() == before
    assert f"going on at {before:,} frames" in life.whole(before + 80)
    check_curve(life.lines()[:-2])


def test_a_read_only_folder_is_an_error_that_names_it_and_changes_nothing(life):
    before = contents(life.folder)
    life.folder.chmod(0o555)
    try:
        out = life.refused(unprivileged=True)
    finally:
        life.folder.chmod(0o755)
    assert out.splitlines()[-1].startswith(f"error: {life.folder}: [Errno 13] Permission denied: "), out
    assert "Traceback" not in out
    assert contents(life.folder) == before


def test_a_run_cannot_begin_below_a_read_only_folder(server, tmp_path):
    life = Life(server, tmp_path)
    (tmp_path / "runs").mkdir(mode=0o555)
    assert life.refused(unprivileged=True) == f"error: [Errno 13] Permission denied: '{life.folder.parent}'\n"


@pytest.mark.parametrize("victim", ["state", "replay"])
def test_a_damaged_newest_checkpoint_is_told_and_the_one_before_goes_on(life, victim):
    states = sorted((life.folder / "state").glob("state-*"))
    older = read_tensors(states[0], STATE)[0]["frames"]
    path = max((life.folder / "state").glob(f"{victim}-*"))
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    out = life.whole(older + 80)
    reason = f"going back to {states[0].name}: {path}: field digest does not match the contents; the file was changed"
    assert reason in out and f"going on at {older:,} frames" in out
    check_curve(life.lines()[:-2])
    assert life.saved() == older + 80


def test_a_second_process_on_a_folder_is_refused_and_the_first_goes_on(life):
    first = life.start("first")
    first.said("left ")  # its first line of progress
    out = life.refused()
    assert out == f"error: {life.folder}: another program is at work there; wait for it or stop it\n"
    assert not first.over
    first.kill()
    first.wait()
    check_curve(life.lines())

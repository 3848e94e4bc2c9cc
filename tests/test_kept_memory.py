"""A process that keeps what it frees does not ask for it again, page by page, in every update."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rl import memory
from rl.memory import keep_freed_memory

PROGRAM = """
import resource, sys
import torch
from bench.distill import ACTIONS, made, run_of
from distill.learner import Goal, imitation
from distill.sources import Lesson
from rl.memory import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
learner, goal = made(run_of("short", "Pong", "runs")), Goal(imitation("kl", 1.0), 0.01, 0)
lesson = Lesson(torch.zeros(64, 21, 21, 64, dtype=torch.uint8), torch.randn(64, len(ACTIONS)))
for update in range(16):
    if update == 8:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    learner.finish(learner.begin([lesson], goal), goal)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    room = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], cwd=room, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
def test_the_arrays_of_an_update_are_mapped_once():
    assert faults("kept") < faults("not") / 4


def test_a_c_library_without_such_a_call_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert not keep_freed_memory()

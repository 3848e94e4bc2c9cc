"""A run as the stages leave it: a tiny teacher, student and chip of Pong in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from cases import student
from fakes import PONG

from deploy.chip import chip_named
from deploy.compiled import Compiled, save_compiled
from deploy.compiler import compile_spec
from deploy.integer_spec import IntegerSpec, save_integers
from deploy.spec import Head, StudentSpec, save_spec
from distill.integers import IntegerNet
from rl.checkpoint import PolicyCheckpoint, half, save_policy
from rl.games import EnvSettings
from rl.network import NetworkSettings, QNetwork
from rl.stages import CHIP, INT4, INT8, STUDENT, TEACHER

ROOM = Path(__file__).resolve().parents[1]
ENV = EnvSettings(4, 0.0, 30, False, 108_000)
NETWORK = NetworkSettings((4, 5, 6), 7)
ACTIONS = {"Pong": PONG, "Breakout": ("NOOP", "FIRE", "RIGHT", "LEFT")}
torch.set_num_threads(1)  # more would spin against whatever else runs here


@cache
def small_student(seed: int = 1, game: str = "Pong") -> StudentSpec:
    """Three layers on the chip behind a coarse front: the shape that plays, in milliseconds."""
    actions = ACTIONS[game]
    layers = [(24, 5, 3, 0, 1), (40, 3, 1, 0, 2), (8 * len(actions), 1, 1, 0, 1)]
    drawn = student(layers, (4, 8, 8, 2, 1), (4, 84, 84), (len(actions),), seed)
    return replace(drawn, heads=(Head(game, actions, 0),))


@cache
def small_chip(seed: int = 1, game: str = "Pong") -> Compiled:
    return compile_spec(small_student(seed, game), chip_named("ns1e"))


def small_teacher(seed: int = 1, game: str = "Pong") -> PolicyCheckpoint:
    torch.manual_seed(seed)
    params = half(QNetwork(len(ACTIONS[game]), NETWORK).state_dict())
    return PolicyCheckpoint(game, ACTIONS[game], ENV, NETWORK, params, {"frames": 1, "score": None})


@cache
def small_integers(bits: int, game: str = "Pong") -> IntegerSpec:
    """The small teacher's integers, calibrated and not trained."""
    net = IntegerNet(small_teacher(game=game), bits)
    net.calibrate(torch.randint(256, (4, 21, 21, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)))
    return net.export()


def write_run(root: Path, game: str = "Pong") -> Path:
    """Teacher, students and chip where the stages put them; returns the game's folder."""
    save_policy(small_teacher(game=game), root / game / TEACHER)
    save_spec(small_student(game=game), root / game / STUDENT)
    save_compiled(small_chip(game=game), root / game / CHIP)
    for stage, bits in ((INT8, 8), (INT4, 4)):
        spec = small_integers(bits, game)
        save_integers(spec, root / game / stage, {"teacher": small_teacher(game=game).digest})
    return root / game


def files_in(folder: Path) -> set[str]:
    """Every file and folder below, by relative name."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def command_line(
    module: str, *arguments: Any, cwd: Path = ROOM, without: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, as make runs it; `without`: environment variables that it does not see."""
    env = {name: value for name, value in os.environ.items() if name not in without}
    env["PYTHONPATH"] = str(ROOM)
    line = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(line, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)

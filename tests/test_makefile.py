"""Each target runs the command that the design says, with what was asked for; `make help` lists them all."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
from run_cases import ROOM

MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="make is not installed")
TEN = "BeamRider,Breakout,Enduro,Freeway,MsPacman,Pong,Qbert,Riverraid,Seaquest,SpaceInvaders"
HIDDEN = {"GAME", "GAMES", "BITS", "PLAYER", "VIEW", "PORT", "SECONDS", "CHIP", "NAME", "FILE", "SIZE", "ARGS"}
HIDDEN |= {"MAKEFLAGS", "MAKELEVEL"}


def make(*arguments):
    env = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    return subprocess.run([MAKE, "-C", str(ROOM), "--no-print-directory", *arguments],
                          env=env, capture_output=True, text=True, timeout=60, check=False)  # fmt: skip


def commands(*arguments):
    """What make would run, word by word as a shell reads it; nothing is run and the environment counts as made."""
    done = make("-n", "-o", ".venv/ready", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line for line in done.stdout.splitlines() if line.startswith(".venv/bin/") and "-m pip" not in line]
    return [" ".join(line.removeprefix(".venv/bin/python -m ").replace("'", "").split()) for line in lines]


PLAY = "deploy.play game={} play.player={} play.view={}"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["play"], [PLAY.format("Pong", "chip", "auto")]),
        (["play", "GAME=Breakout"], [PLAY.format("Breakout", "chip", "auto")]),
        (["play", "PLAYER=teacher", "VIEW=none"], [PLAY.format("Pong", "teacher", "none")]),
        (["play", "SECONDS=3"], [PLAY.format("Pong", "chip", "auto") + " play.realtime.seconds=3"]),
        (["play", "VIEW=web"], [PLAY.format("Pong", "chip", "web") + " play.realtime.seconds=0"]),
        (["play", "VIEW=web", "PORT=8731", "SECONDS=9"],
         [PLAY.format("Pong", "chip", "web") + " play.realtime.seconds=9 play.web.port=8731"]),
        (["play", "SIZE=smoke", "VIEW=web"], ["deploy.play game=Pong smoke=play play.player=chip play.view=web"]),
        (["play", "SIZE=smoke"], ["deploy.play game=Pong smoke=play play.player=chip play.view=auto"]),
        (["play", "ARGS=play.seed=4 root=x"], [PLAY.format("Pong", "chip", "auto") + " play.seed=4 root=x"]),
        (["replay"], ["deploy.rerun game=Pong replay.view=auto"]),
        (["replay", "FILE=a.npz", "VIEW=none", "SIZE=smoke", "SECONDS=4"],
         ["deploy.rerun game=Pong smoke=replay replay.view=none replay.file=a.npz replay.realtime.seconds=4"]),
        (["teacher"], ["rl.train game=Pong"]),
        (["teacher", "GAME=Qbert", "SIZE=smoke"], ["rl.train game=Qbert smoke=teacher"]),
        (["teacher", "ARGS=teacher.seed=2"], ["rl.train game=Pong teacher.seed=2"]),
        (["rollouts", "GAME=Qbert"], ["rl.collect game=Qbert"]),
        (["faults", "GAME=Qbert", "SIZE=smoke"], ["deploy.faults game=Qbert smoke=faults"]),
        (["inspect", "GAME=Qbert"], ["deploy.inspect --game Qbert"]),
        (["inspect", "SIZE=smoke"], ["deploy.inspect --game Pong --root runs/smoke"]),
        (["inspect", "FILE=a.npz", "ARGS=--frames 3"], ["deploy.inspect a.npz --frames 3"]),
        (["rollouts", "SIZE=smoke"], ["rl.collect game=Pong smoke=rollouts"]),
        (["rollouts", "PLAYER=teacher"], ["rl.collect game=Pong"]),
        (["rollouts", "PLAYER=random"], ["rl.collect game=Pong rollouts.player=random"]),
        (["rollouts", "PLAYER=chip", "SIZE=smoke"],
         ["deploy.collect game=Pong smoke=rollouts rollouts.player=chip"]),
        (["distill"], ["distill.train games=[Pong]"]),
        (["distill", "GAME=Qbert"], ["distill.train games=[Qbert]"]),
        (["finetune", "GAME=Qbert", "SIZE=smoke"], ["distill.finetune game=Qbert smoke=finetune"]),
        (["publish", "GAME=Qbert"], ["deploy.publish game=Qbert"]),
        (["publish", "GAMES=Pong,Breakout"], ["deploy.publish_many games=[Pong,Breakout]"]),
        (["publish", "SIZE=smoke"], ["deploy.publish game=Pong root=runs/smoke"]),
        (["publish", "GAMES=Pong,Breakout", "SIZE=smoke"],
         ["deploy.publish_many games=[Pong,Breakout] root=runs/smoke"]),
        (["publish", "GAMES=ten"], [f"deploy.publish_many games=[{TEN}]"]),
        (["integers"], ["distill.faq game=Pong bits=int8"]),
        (["integers", "GAME=Qbert", "BITS=4", "SIZE=smoke"], ["distill.faq game=Qbert bits=int4 smoke=integers"]),
        (["distill", "GAMES=Pong,Breakout"], ["distill.train games=[Pong,Breakout]"]),
        (["distill", "GAMES=ten", "SIZE=smoke"], [f"distill.train games=[{TEN}] smoke=distill"]),
        (["compile"], ["deploy.build games=[Pong] chip.board=ns1e"]),
        (["compile", "GAME=Qbert", "CHIP=tiny"], ["deploy.build games=[Qbert] chip.board=tiny"]),
        (["compile", "GAMES=ten", "SIZE=smoke"], [f"deploy.build games=[{TEN}] chip.board=ns1e smoke=build"]),
        (["verify", "GAME=Qbert"], ["distill.verify games=[Qbert]", "deploy.verify games=[Qbert]"]),
        (
            ["verify", "GAMES=Pong,Breakout", "SIZE=smoke"],
            [f"{room}.verify games=[Pong,Breakout] smoke=verify" for room in ("distill", "deploy")],
        ),
        (["score", "GAME=Qbert"], ["deploy.score game=Qbert"]),
        (["score", "GAMES=Qbert"], ["deploy.score game=Qbert"]),
        (["score", "GAMES=Pong,Breakout", "SIZE=smoke"], ["deploy.score games=[Pong,Breakout] smoke=score"]),
        (["score", "GAMES=ten"], [f"deploy.score games=[{TEN}]"]),
        (["score", "SIZE=smoke", "ARGS=score.protocol=machado"],
         ["deploy.score game=Pong smoke=score score.protocol=machado"]),
        (["board"], ["deploy.boards", ".venv/bin/tensorboard --logdir runs"]),
        (["board", "SIZE=smoke", "ARGS=--port 1"],
         ["deploy.boards smoke=board", ".venv/bin/tensorboard --logdir runs/smoke --port 1"]),
        (["tour", "ARGS=--out x"], ["deploy.tour --game Pong --out x"]),
        (["tour", "SIZE=smoke"], ["deploy.tour --game Pong --out runs/smoke/tour"]),
        (["report"], ["deploy.report"]),
        (["report", "SIZE=smoke"], ["deploy.report smoke=report"]),
        (["bench"], ["bench.emulator"]),
        (["bench", "NAME=loop", "ARGS=--seconds 3"], ["bench.loop --seconds 3"]),
        (["test"], ["pytest -n 2 -m not slow"]),
        (["test-slow"], ["pytest -n 2 -m slow"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].islower() and "." not in value[0] else "",
)  # fmt: skip
def test_a_target_runs_its_command(arguments, expected):
    assert commands(*arguments) == expected


@pytest.mark.parametrize("size", ["full", "smoke"])
def test_the_pipeline_runs_every_stage_of_one_game_in_order(size):
    found = [line.split()[:2] for line in commands("pipeline", "GAME=Qbert", f"SIZE={size}")]
    one, many = "game=Qbert", "games=[Qbert]"
    assert found == [["rl.train", one], ["rl.collect", one], ["distill.train", many], ["deploy.build", many],
                     ["distill.verify", many], ["deploy.verify", many], ["deploy.score", one]]  # fmt: skip
    assert all(("smoke=" in line) == (size == "smoke") for line in commands("pipeline", f"SIZE={size}"))


def test_check_runs_what_ci_runs():
    assert commands("check") == [".venv/bin/ruff check .", ".venv/bin/ruff format --check .", ".venv/bin/mypy",
                                 "pytest -n 2 -m not slow"]  # fmt: skip


def test_a_mistyped_size_is_refused_rather_than_run_in_full():
    done = make("-n", "-o", ".venv/ready", "teacher", "SIZE=smok")
    assert done.returncode == 2
    assert "SIZE: found 'smok', allowed full, smoke" in done.stderr


def test_benches_refuse_a_size_that_they_lack_before_anything_is_made():
    done = make("-n", "bench", "SIZE=smoke")
    assert (done.returncode, done.stdout) == (2, "")
    assert "SIZE: found 'smoke', allowed with bench full" in done.stderr
    assert not done.stdout


def test_help_lists_every_target_and_is_what_make_alone_says():
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOM / "Makefile").read_text(), re.M)
    shown = [line.split()[0] for line in make("help").stdout.splitlines()]
    assert sorted(shown) == sorted(phony.split())
    assert make().stdout == make("help").stdout


def test_every_target_that_runs_python_first_makes_the_environment():
    targets = {
        "play",
        "replay",
        "teacher",
        "rollouts",
        "distill",
        "compile",
        "verify",
        "score",
        "bench",
        "test",
        "board",
    }
    for target in targets:
        assert "pip install" in make("-n", "-W", "constraints.txt", target).stdout, target


def test_a_python_that_is_too_old_is_told():
    rule = (ROOM / "Makefile").read_text()
    assert "is too old, 3.11 or newer is needed; try make PYTHON=python3.12" in rule


def test_clean_leaves_the_environment():
    assert ".venv" not in make("-n", "clean").stdout

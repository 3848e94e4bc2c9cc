"""Playing a chip loads no torch, starts fast and stays small."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from run_cases import ROOM, write_run

# Plays as a program does, then says what it came to: modules loaded and peak memory in bytes (Linux). The peak is
# VmHWM and not getrusage's ru_maxrss: that one begins at the size of whoever started the program, pytest here.
WRAPPED = r"""
import json, re, runpy, sys
from pathlib import Path
sys.argv = ["deploy.play", *sys.argv[1:]]
try:
    runpy.run_module("deploy.play", run_name="__main__", alter_sys=True)
except SystemExit as ended:
    assert ended.code == 0, ended.code
status = Path("/proc/self/status")
peak = 1024 * int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) if status.exists() else None
print(json.dumps({"modules": sorted({name.split(".")[0] for name in sys.modules}), "peak_bytes": peak}))
"""

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")


@pytest.fixture
def root(tmp_path):
    write_run(tmp_path)
    return tmp_path


def played(root, *arguments):
    line = [sys.executable, "-c", WRAPPED, f"root={root}", "play.realtime.seconds=0.2", *arguments]
    done = subprocess.run(line, cwd=ROOM, capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("player", ["chip", "spec"])
def test_a_chip_and_a_spec_play_without_torch(player, root):
    modules = played(root, f"play.player={player}", "play.view=none")["modules"]
    assert not {"torch", "tensorboard", "safetensors", "av", "pygame", "distill"} & set(modules)


@pytest.mark.slow
@on_linux
def test_a_chip_plays_with_a_video_in_less_than_a_gigabyte_and_without_torch(root):
    facts = played(root, "play.view=video")
    assert "torch" not in facts["modules"]
    assert facts["peak_bytes"] < 1 << 30


@pytest.mark.slow
@on_linux
def test_the_size_that_ships_plays_in_less_than_a_gigabyte(root):
    from omegaconf import OmegaConf

    from bench.chips import ACTIONS, random_student
    from deploy.chip import chip_named
    from deploy.compiled import save_compiled
    from deploy.compiler import compile_spec
    from deploy.spec import save_spec
    from rl.stages import CHIP, STUDENT

    spec = random_student(OmegaConf.to_container(OmegaConf.load(ROOM / "conf" / "student" / "slim.yaml")))
    assert spec.heads[0].actions == ACTIONS
    save_spec(spec, root / "Pong" / STUDENT)
    save_compiled(compile_spec(spec, chip_named("ns1e")), root / "Pong" / CHIP)
    assert played(root, "play.view=none")["peak_bytes"] < 1 << 30

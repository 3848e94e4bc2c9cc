"""Sweeps: a root for every job, a job that fails takes no other along, a signal ends all, launchers compose."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest
from fake_slurm import install
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf
from run_cases import ROOM

from rl import command, sweep
from rl.command import Halt, JobError, launch
from rl.settings import SettingsError
from rl.sweep import folder, job_status, run_or_sweep

TINY = ("smoke=teacher", "teacher.train_frames=4_800", "teacher.learn_start_frames=2_400", "env.max_frames=400",
        "teacher.envs=4", "teacher.replay_rows=2_048", "teacher.learner_threads=1", "teacher.report_episodes=1",
        "teacher.eval_episodes=1", "teacher.network.channels=[3,4,5]", "teacher.network.hidden=7")  # fmt: skip


@pytest.fixture(autouse=True)
def halt(monkeypatch):
    """A sweep that nobody has stopped, and the handlers of before."""
    own = Halt()
    monkeypatch.setattr(command, "HALT", own)
    monkeypatch.setattr(sweep, "HALT", own)
    monkeypatch.setattr(sys, "argv", ["train"])  # pytest's own -m asks for no sweep
    before = signal.getsignal(signal.SIGINT)
    yield own
    signal.signal(signal.SIGINT, before)


def failing(error):
    def main():
        raise error

    return main


def in_mode(monkeypatch, mode):
    facts = SimpleNamespace(
        mode=mode, sweep=SimpleNamespace(dir="runs/sweep"), overrides=SimpleNamespace(task=["game=Pong", "a=1"])
    )
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: facts))


# One job


def test_a_job_that_is_done_returns_and_has_a_root_of_its_own(monkeypatch):
    in_mode(monkeypatch, RunMode.MULTIRUN)
    seen = []
    run_or_sweep(OmegaConf.create({"root": "runs"}), lambda tree: seen.append(tree.root) or 0)
    assert seen == ["runs/sweep/a-1"]


def test_a_job_that_fails_says_which_it_is(monkeypatch, capsys):
    in_mode(monkeypatch, RunMode.MULTIRUN)
    with pytest.raises(JobError, match=r"^1$"):
        run_or_sweep(OmegaConf.create({"root": "runs"}), lambda tree: failing(SettingsError("x"))())
    assert capsys.readouterr().err == "error: x\njob game=Pong a=1: status 1\n"


def test_a_single_run_exits_with_its_status_and_keeps_its_root(monkeypatch):
    in_mode(monkeypatch, RunMode.RUN)
    seen = []
    with pytest.raises(SystemExit, match=r"^0$"):
        run_or_sweep(OmegaConf.create({"root": "runs"}), lambda tree: seen.append(tree.root) or 0)
    assert seen == ["runs"]


def test_after_a_signal_no_further_job_begins(halt):
    assert [job_status(lambda: 0), job_status(lambda: 1), job_status(lambda: 0)] == [0, 1, 0]
    assert job_status(lambda: 128 + signal.SIGTERM) == 143
    assert job_status(lambda: pytest.fail("begun")) == 143
    assert halt.signal == signal.SIGTERM


def test_a_job_leaves_the_signals_as_it_found_them():
    before = signal.getsignal(signal.SIGTERM)
    job_status(lambda: [command.Stop(), 0][1])
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_fault_of_ours_is_no_status():
    with pytest.raises(AssertionError, match=r"^ours$"):
        job_status(failing(AssertionError("ours")))


def test_the_first_ctrl_c_is_for_the_jobs_and_the_second_ends_at_once(halt, monkeypatch, capsys):
    def main():
        signal.raise_signal(signal.SIGINT)
        assert job_status(lambda: pytest.fail("begun")) == 130
        signal.raise_signal(signal.SIGINT)
        pytest.fail("went on")

    monkeypatch.setattr(sys, "argv", ["train", "-m", "game=Pong"])
    with pytest.raises(SystemExit, match=r"^130$"):
        launch(main, sweeps=True)
    assert "the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["-m", "--multirun", "--multi", "hydra.mode=MULTIRUN"])
def test_a_command_without_sweeps_refuses_one_before_it_begins(flag, halt, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["distill", flag, "GAMES=Pong"])
    with pytest.raises(SystemExit, match=r"^1$"):
        launch(lambda: pytest.fail("begun"))
    said = "this command has no sweeps, python -m rl.train has; see docs/scaling.md"
    assert capsys.readouterr().err == f"error: {flag}: {said}\n"


def test_a_failed_jobs_status_is_the_sweeps():
    with pytest.raises(SystemExit, match=r"^143$"):
        launch(failing(JobError(143)))
    assert pickle.loads(pickle.dumps(JobError(143))).args == (143,)  # it comes from another process


# Launchers

PLUGINS = {"joblib": "joblib", "submitit_local": "submitit", "slurm": "submitit", "ray_cluster": "ray"}
EXTRAS = {"submitit": "slurm", "ray": "ray"}


def need_plugin(plugin):
    """Skip where the extra is not installed that brings a launcher; joblib's comes with the rest."""
    if plugin in EXTRAS and plugin not in launchers():
        pytest.skip(f"the extra {EXTRAS[plugin]} is not installed")


def launchers():
    """Launchers that are installed."""
    found = {dist.metadata["Name"].replace("_", "-").lower() for dist in metadata.distributions()}
    return {name.split("-")[1] for name in found if name.startswith("hydra-") and name.endswith("-launcher")}


def composed(*overrides):
    with initialize_config_dir(str(ROOM / "conf"), version_base=None):
        whole = compose("teacher", list(overrides), return_hydra_config=True)
    return OmegaConf.to_container(whole.hydra, resolve=False)


@pytest.mark.parametrize("name", PLUGINS)
def test_launchers_compose_with_what_their_plugins_know(name):
    plugin = PLUGINS[name]
    need_plugin(plugin)
    found = composed(f"hydra/launcher={name}")["launcher"]
    assert found["_target_"].startswith(f"hydra_plugins.hydra_{plugin}_launcher.")
    wanted = {"slurm": ("max_num_timeout", 20), "ray_cluster": ("ray", {"init": {"address": None},
              "remote": {"num_cpus": 2, "max_retries": 5}})}.get(name)  # fmt: skip
    assert wanted is None or found[wanted[0]] == wanted[1]


def test_a_launcher_that_is_not_there_names_the_page_on_extras(capsys):
    with pytest.raises(SystemExit, match=r"^1$"):
        launch(lambda: composed("hydra/launcher=nope"))
    assert re.search(r"Could not find 'hydra/launcher/nope'.*; some launchers need an extra, see docs/scaling\.md\n$",
                     capsys.readouterr().err)  # fmt: skip


def test_a_jobs_folder_is_named_for_what_sets_it_apart():
    assert folder(["game=Pong", "teacher.seed=2", "root=x/y", "smoke=teacher"]) == "teacher.seed-2"
    assert folder(["b=2", "a=1e-4", "+c=0"]) == folder(["+c=0", "a=1e-4", "b=2"]) == "+c-0_a-1e-4_b-2"
    assert folder(["game=Pong"]) == ""


def test_no_setting_makes_a_folder_that_cannot_be_made_or_named():
    lists = [folder([f"teacher.network.channels=[{n},4,5]"]) for n in (3, 6)]
    assert lists[0].startswith("teacher.network.channels--3-4-5-")
    long = [folder([f"teacher.seed={seed}", *(f"teacher.setting_{i}=123456" for i in range(30))]) for seed in (1, 2)]
    assert len({*lists, *long}) == 4
    assert max(map(len, long)) < 140
    assert all(re.fullmatch(r"[\w.+-]+", name) for name in (*lists, *long))


def test_a_sweep_writes_below_its_root_alone():
    assert composed("root=x")["sweep"] | {"mode": None} == {"dir": "${root}/sweep", "subdir": ".", "mode": None}


# Whole sweeps


def swept(root, *arguments, **environment):
    """`rl.train -m`, in a process of its own."""
    line = [sys.executable, "-m", "rl.train", "-m", f"root={root}", *TINY, *arguments]
    env = os.environ | {"PYTHONPATH": str(ROOM)} | environment
    return subprocess.run(line, cwd=ROOM, env=env, capture_output=True, text=True, timeout=240, check=False)


def reports(root):
    """(game, seed) of every report, each below a root of its own."""
    paths = list((root / "sweep").glob("*/*/teacher/report.json"))
    assert len({path.parents[2] for path in paths}) == len(paths)
    told = [json.loads(path.read_text()) for path in paths]
    return sorted((facts["game"], facts["settings"]["teacher"]["seed"]) for facts in told)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local"])
def test_a_job_that_fails_takes_no_other_along(launcher, tmp_path):
    need_plugin(PLUGINS.get(launcher))
    done = swept(tmp_path, f"hydra/launcher={launcher}", "game=Nonsense,Pong", "teacher.seed=1,2")
    assert done.returncode == 1, done.stderr
    assert reports(tmp_path) == [("Pong", 1), ("Pong", 2)]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_slurm_is_asked_for_an_array_and_its_jobs_run(tmp_path):
    need_plugin("submitit")
    install(tmp_path / "bin")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    words = ("hydra/launcher=slurm", "hydra.launcher.partition=short", "game=Nonsense,Pong", "teacher.seed=1,2")
    done = swept(tmp_path, *words, PATH=path, FAKE_SLURM=str(tmp_path))
    batch = (tmp_path / "batch.sh").read_text()
    for line in ("array=0-3%4", "cpus-per-task=3", "mem=6GB", "partition=short", "time=1440", "signal=USR2@120"):
        assert f"#SBATCH --{line}\n" in batch
    assert done.returncode == 1, done.stderr
    assert reports(tmp_path) == [("Pong", 1), ("Pong", 2)]

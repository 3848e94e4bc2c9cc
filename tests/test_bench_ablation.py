"""The ablation trains what it says, goes on where it was stopped, and counts what was found."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bench import ablation
from bench.ablation import Budget, Run, curve, finished, result, table, train
from rl.command import CONF, settings
from rl.trainer import TeacherRun

RUN = Run("default", "Qbert", 3, Path("root"))


@pytest.mark.parametrize("variant", ablation.VARIANTS)
def test_every_variant_is_a_legal_training_that_changes_what_it_names(variant: str):
    def composed(name: str) -> TeacherRun:
        overrides = Run(name, "Qbert", 3, Path("root")).command(Budget(80_000))[3:]
        with initialize_config_dir(str(CONF), version_base=None):
            tree = OmegaConf.to_container(compose("teacher", [*overrides, "name=Qbert"]), resolve=True)
        return settings(TeacherRun, tree)

    run = composed(variant)
    assert (run.name, run.teacher.seed, run.teacher.train_frames) == ("Qbert", 3, 80_000)
    assert (variant == "default") == (run.teacher == composed("default").teacher)


def test_runs_of_different_variants_games_and_seeds_have_folders_of_their_own():
    runs = [Run(v, g, s, Path("r")) for v in ablation.VARIANTS for g in ablation.GAMES for s in (1, 2)]
    assert len({run.folder for run in runs}) == len(runs)


@pytest.fixture
def quick(monkeypatch):
    """A stand-in for the command, which counts its calls."""
    script = (
        "import json, pathlib, sys\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "tries = folder / 'tries'\n"
        "tries.write_text(str(int(tries.read_text()) + 1) if tries.exists() else '1')\n"
        "if int(tries.read_text()) < 2: sum(i * i for i in range(300_000)), sys.exit(130)\n"
        "(folder / 'metrics.jsonl').write_text(''.join(json.dumps({'at': i, 'rollout/ep_score_mean': i}) + chr(10)"
        " for i in range(8)))\n"
        "(folder / 'report.json').write_text(json.dumps({'score': {'mean': 7.0, 'returns': [6, 8]}, 'wall_s': 2.0,"
        " 'frames': 9}))\n"
    )
    monkeypatch.setattr(Run, "command", lambda run, budget: [sys.executable, "-c", script, str(run.folder)])


def test_a_run_that_was_stopped_goes_on_and_its_cost_adds_up(quick, tmp_path):
    run = Run("n=1", "Qbert", 1, tmp_path)
    with pytest.raises(RuntimeError, match=r"ended with status 130; see log\.txt there"):
        train(run, Budget())
    first = json.loads((run.folder / "cost.json").read_text())["cpu_s"]
    assert finished([run]) == []
    train(run, Budget())
    row = result(run)
    assert row["cpu_s"] > first > 0
    assert (row["score"], row["training_score"], row["episodes"]) == (7.0, 5.0, 2)
    assert curve(run)[-1] == (7, 7)
    train(run, Budget())  # done: not again
    assert (run.folder / "tries").read_text() == "2"


def test_the_table_has_a_line_a_variant_and_the_mean_over_seeds():
    def row(variant: str, seed: int, score: float) -> dict:
        return {"variant": variant, "game": "Qbert", "seed": seed, "score": score, "training_score": 1.0, "cpu_s": 60.0}

    found = table([row("default", 1, 2.0), row("default", 2, 4.0), row("n=3", 1, 5.0)])
    cells = [list(column.cells) for column in found.columns]
    assert cells == [["default", "n=3"], ["3.0 / 1.0", "5.0 / 1.0"], ["1.0", "1.0"], ["2", "1"]]


def test_the_command_trains_all_and_writes_a_report(quick, tmp_path):
    arguments = ["--variants", "n=3", "--games", "Qbert", "--seeds", "1", "2", "--jobs", "1", f"--folder={tmp_path}"]
    with pytest.raises(RuntimeError, match="status 130"):  # each fails the first time; one does not keep others back
        ablation.main(arguments)
    ablation.main(arguments)
    report = json.loads((tmp_path / "ablation.json").read_text())
    assert [(row["variant"], row["seed"]) for row in report["rows"]] == [("n=3", 1), ("n=3", 2)]

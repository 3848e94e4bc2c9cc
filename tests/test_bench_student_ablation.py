"""The students' ablation changes one thing at a time, goes on where it was stopped, and counts what was found."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rollout_cases import record

from bench import student_ablation as ablation
from bench.lines import Line, drawn
from bench.student_ablation import PARTS, Budget, Run, finished, interval, linked, main, table, train
from distill.settings import DistillRun
from rl.command import CONF, settings
from rl.manifest import read_manifest
from rl.settings import SettingsError

VARIANTS = [(part, variant) for part, own in PARTS.items() for variant in own]


def run(overrides=(), seed=3, root=Path("root")) -> Run:
    return Run(overrides, "Qbert", seed, root, root / "source")


def composed(overrides) -> DistillRun:
    with initialize_config_dir(str(CONF), version_base=None):
        tree = compose("distill", run(overrides).command(Budget(80, 4))[3:])
    return settings(DistillRun, OmegaConf.to_container(tree, resolve=True))


@pytest.mark.parametrize(("part", "variant"), VARIANTS)
def test_every_variant_is_a_legal_distillation_and_only_one_that_changes_nothing_is_the_default(part, variant):
    own, plain = composed(PARTS[part][variant]), composed(())
    assert (own.games, own.distill.seed, own.distill.updates, own.distill.report_episodes) == (("Qbert",), 3, 80, 4)
    changed = (own.distill, own.student) != (plain.distill, plain.student)
    assert changed == bool(PARTS[part][variant])


@pytest.mark.parametrize("part", [part for part in PARTS if part not in ("temperature", "size", "history")])
def test_variants_of_a_part_are_one_setting_apart(part):
    first, *others = (composed(change) for change in PARTS[part].values())
    for own in others:
        pairs = [(getattr(first, group), getattr(own, group)) for group in ("distill", "student")]
        apart = [name for one, other in pairs for name in vars(one) if getattr(one, name) != getattr(other, name)]
        assert len(apart) == 1, apart


def test_equal_changes_share_a_run_and_others_do_not():
    changes = {change for own in PARTS.values() for change in own.values()}
    assert len({run(change, seed).own for change in changes for seed in (1, 2)}) == 2 * len(changes)
    assert run().own.name == "default-3"


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A stand-in for the command, which fails the first time."""
    script = (
        "import json, pathlib, sys\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "tries = folder / 'tries'\n"
        "tries.write_text(str(int(tries.read_text()) + 1) if tries.exists() else '1')\n"
        "if int(tries.read_text()) < 2: sum(i * i for i in range(300_000)), sys.exit(130)\n"
        "(folder / 'metrics.jsonl').write_text(''.join(json.dumps({'at': i, 'distill/agreement': i / 8}) + chr(10)"
        " for i in range(8)))\n"
        "health = {'distill/kl': 0.5, 'distill/agreement': 0.75, 'chip/cores': 99.0}\n"
        "facts = {'scores': {'Qbert': {'mean': 7.0, 'protocol': {'episodes': 4}}}, 'shares': {'Qbert': 0.5}}\n"
        "facts |= {'health': health, 'origin': {'datasets': {'Qbert': sys.argv[2]}}}\n"
        "(folder / 'report.json').write_text(json.dumps(facts))\n"
    )
    for source in ("source", "other"):
        record(tmp_path / source / "Qbert" / "rollouts", [3, 4] if source == "source" else [5])
    dataset = read_manifest(tmp_path / "source" / "Qbert" / "rollouts").digest
    monkeypatch.setattr(Run, "command", lambda own, budget: [sys.executable, "-c", script, str(own.folder), dataset])


BUDGET = Budget(80, 4)


def test_a_run_that_was_stopped_goes_on_and_its_cost_adds_up(quick, tmp_path):
    own = run(root=tmp_path)
    with pytest.raises(RuntimeError, match=r"ended with status 130; see log\.txt there"):
        train(own, BUDGET)
    first = json.loads((own.folder / "cost.json").read_text())["cpu_s"]
    train(own, BUDGET)
    row = ablation.result("loss", "kl", own)
    assert row["cpu_s"] > first > 0
    assert (row["score"], row["share"], row["cores"], row["curve"][-1]) == (7.0, 0.5, 99.0, (7, 0.875))
    train(own, BUDGET)  # done: not again
    assert (own.folder / "tries").read_text() == "2"


def test_a_run_that_was_scored_by_other_episodes_or_learned_from_another_dataset_does_not_count(quick, tmp_path):
    own = run(root=tmp_path)
    assert not finished(own, BUDGET)
    for _ in range(2):
        with suppress(RuntimeError):
            train(own, BUDGET)
    assert finished(own, BUDGET)
    with pytest.raises(
        SettingsError, match=r"report\.json: episodes: found 4, allowed 30; give --episodes .* --folder"
    ):
        train(own, Budget(80, 30))
    with pytest.raises(SettingsError, match=r"report\.json: dataset: found '\w{12}', allowed \w{12}, that of .*other"):
        train(replace(own, source=tmp_path / "other"), BUDGET)


def test_a_run_finds_the_sources_teacher_and_dataset(tmp_path):
    own = run(root=tmp_path)
    (own.source / "Qbert" / "rollouts").mkdir(parents=True)
    linked(own)
    linked(own)
    assert (own.own / "Qbert" / "rollouts").samefile(own.source / "Qbert" / "rollouts")
    assert not (own.own / "Qbert" / "teacher").exists()


def test_a_run_that_was_stopped_goes_on_from_its_own_source_alone(tmp_path):
    own = run(root=tmp_path)
    (own.source / "Qbert" / "teacher").mkdir(parents=True)
    linked(own)
    for other in ("other", "none"):
        (tmp_path / "other" / "Qbert" / "teacher").mkdir(parents=True, exist_ok=True)
        with pytest.raises(
            SettingsError, match=rf"teacher: leads to: found .*source.*, allowed .*{other}.*--source as"
        ):
            linked(replace(own, source=tmp_path / other))


def row(variant, seed, share, game="Qbert"):
    facts = {"variant": variant, "game": game, "seed": seed, "share": share, "agreement": 0.5, "cores": 1000.0}
    return facts | {"cpu_s": 60.0, "curve": [(1, 0.25), (2, share)]}


def test_the_table_has_a_line_a_variant_with_its_interval_over_seeds():
    found = table("loss", [row("kl", 1, 0.2), row("kl", 2, 0.4), row("mse", 1, 0.5)])
    heads, _, kl, mse = found.splitlines()
    assert heads.startswith("| loss | Qbert | all games (95 % over seeds) |")
    assert kl.startswith("| kl | 0.300 | 0.300 (-0.971 .. 1.571) | 0.5000 | 1,000 |") and kl.endswith("| 2 |")
    assert mse.startswith("| mse | 0.500 | 0.500 | ") and mse.endswith("| 1 |"), "one seed has no interval"


def test_every_column_is_of_the_seeds_that_have_every_game():
    rows = [row("kl", 1, 0.2), row("kl", 1, 0.4, "Pong"), row("kl", 2, 0.9) | {"agreement": 0.75}]
    _, _, *lines = table("loss", [*rows, row("mse", 2, 0.5)]).splitlines()
    assert lines == ["| kl | 0.400 | 0.200 | 0.300 | 0.5000 | 1,000 | 1.0 | 1 |"]


@pytest.mark.parametrize(("seeds", "games"), [(2, 1), (3, 1), (2, 4), (3, 4), (12, 2)])
def test_nineteen_of_twenty_intervals_hold_the_mean_however_few_the_seeds(seeds, games):
    rng = np.random.default_rng(1)
    held = 0
    for shares in rng.normal(0.5, 0.1, (2_000, seeds, games)):
        found = interval([row("kl", s, own[g], f"Game{g}") for s, own in enumerate(shares) for g in range(games)])
        low, high = (float(end) for end in found.partition("(")[2].strip(")").split(" .. "))
        held += low <= 0.5 <= high
    assert held / 2_000 == pytest.approx(0.95, abs=0.02)


def test_lines_are_a_picture_and_none_are_a_title():
    tree = ElementTree.fromstring(drawn("a < b", "x", "y", [Line("one", ((0, 1), (4, 3))), Line("flat", ((2, 2),))]))
    points = [node.attrib["points"].split() for node in tree if node.tag.endswith("polyline")]
    assert points[0] == ["66.0,392.0", "590.0,40.0"] and points[1] == ["328.0,216.0"]
    assert len(list(ElementTree.fromstring(drawn("none", "x", "y", [])))) == 2


def test_the_command_refuses_before_it_trains(quick, tmp_path):
    own = run(root=tmp_path / f"student-ablation-{Budget.updates}", seed=1)
    linked(replace(own, source=tmp_path / "other"))
    arguments = ["--parts", "transduction", "--games", "Qbert", "--seeds", "2", "1", f"--folder={tmp_path}"]
    with pytest.raises(SettingsError, match=r"rollouts: leads to"):
        main([*arguments, "--source", str(tmp_path / "source")])
    assert not list(tmp_path.rglob("tries"))


def test_the_command_trains_all_and_writes_report_and_curves(quick, tmp_path):
    arguments = ["--parts", "transduction", "--games", "Qbert", "--seeds", "1", f"--folder={tmp_path}"]
    arguments += ["--episodes", "4", "--source", str(tmp_path / "source")]
    with pytest.raises(RuntimeError, match="status 130"):  # each fails the first time; one does not keep others back
        main(arguments)
    main(arguments)
    report = json.loads((tmp_path / "student_ablation.json").read_text())
    assert (report["episodes"], report["source"]) == (4, str(tmp_path / "source"))
    default = [part for part, own in PARTS.items() if () in own.values()]
    assert [row["part"] for row in report["rows"]].count("transduction") == 2
    assert {row["part"] for row in report["rows"]} == {*default}
    assert "| learned |" in (tmp_path / "student_ablation.md").read_text()
    assert "learned" in (tmp_path / "student_ablation-transduction.svg").read_text()

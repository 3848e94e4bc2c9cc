"""The students' ablation changes one thing at a time, goes on where it was stopped, and counts what was found."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from bench import student_ablation as ablation
from bench.lines import Line, drawn
from bench.student_ablation import PARTS, Budget, Run, interval, linked, main, table, train
from distill.settings import DistillRun
from rl.command import CONF, settings

VARIANTS = [(part, variant) for part, own in PARTS.items() for variant in own]


def run(overrides=(), seed=3, root=Path("root")) -> Run:
    return Run(overrides, "Qbert", seed, root, root / "source")


@pytest.mark.parametrize(("part", "variant"), VARIANTS)
def test_every_variant_is_a_legal_distillation_and_one_of_each_part_is_the_default(part, variant):
    def composed(overrides) -> DistillRun:
        with initialize_config_dir(str(CONF), version_base=None):
            tree = compose("distill", run(overrides).command(Budget(80, 4))[3:])
        return settings(DistillRun, OmegaConf.to_container(tree, resolve=True))

    own, plain = composed(PARTS[part][variant]), composed(())
    assert (own.games, own.distill.seed, own.distill.updates, own.distill.report_episodes) == (("Qbert",), 3, 80, 4)
    changed = (own.distill, own.student) != (plain.distill, plain.student)
    assert changed == bool(PARTS[part][variant])


def test_equal_changes_share_a_run_and_others_do_not():
    changes = {change for own in PARTS.values() for change in own.values()}
    assert len({run(change, seed).own for change in changes for seed in (1, 2)}) == 2 * len(changes)
    assert run().own.name == "default-3"


@pytest.fixture
def quick(monkeypatch):
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
        "facts = {'scores': {'Qbert': {'mean': 7.0}}, 'shares': {'Qbert': 0.5}, 'health': health}\n"
        "(folder / 'report.json').write_text(json.dumps(facts))\n"
    )
    monkeypatch.setattr(Run, "command", lambda own, budget: [sys.executable, "-c", script, str(own.folder)])


def test_a_run_that_was_stopped_goes_on_and_its_cost_adds_up(quick, tmp_path):
    own = run(root=tmp_path)
    with pytest.raises(RuntimeError, match=r"ended with status 130; see log\.txt there"):
        train(own, Budget())
    first = json.loads((own.folder / "cost.json").read_text())["cpu_s"]
    train(own, Budget())
    row = ablation.result("loss", "kl", own)
    assert row["cpu_s"] > first > 0
    assert (row["score"], row["share"], row["cores"], row["curve"][-1]) == (7.0, 0.5, 99.0, (7, 0.875))
    train(own, Budget())  # done: not again
    assert (own.folder / "tries").read_text() == "2"


def test_a_run_finds_the_sources_teacher_and_dataset(tmp_path):
    own = run(root=tmp_path)
    (own.source / "Qbert" / "rollouts").mkdir(parents=True)
    linked(own)
    linked(own)
    assert (own.own / "Qbert" / "rollouts").samefile(own.source / "Qbert" / "rollouts")
    assert not (own.own / "Qbert" / "teacher").exists()


def row(variant, seed, share, game="Qbert"):
    facts = {"variant": variant, "game": game, "seed": seed, "share": share, "agreement": 0.5, "cores": 1000.0}
    return facts | {"cpu_s": 60.0, "curve": [(1, 0.25), (2, share)]}


def test_the_table_has_a_line_a_variant_with_its_interval_over_seeds():
    found = table("loss", [row("kl", 1, 0.2), row("kl", 2, 0.4), row("mse", 1, 0.5)])
    heads, _, kl, mse = found.splitlines()
    assert heads.startswith("| loss | Qbert | all games (95 % over seeds) |")
    assert kl.startswith("| kl | 0.300 | 0.300 (0.200 .. 0.400) | 0.5000 | 1,000 |") and kl.endswith("| 2 |")
    assert mse.startswith("| mse | 0.500 | 0.500 | ") and mse.endswith("| 1 |"), "one seed has no interval"


def test_an_interval_takes_the_seeds_that_played_every_game():
    rows = [row("kl", 1, 0.2), row("kl", 1, 0.4, "Pong"), row("kl", 2, 0.9)]
    assert interval(rows) == "0.300"
    assert interval([row("kl", 1, 0.2), row("kl", 2, 0.4, "Pong")]) == "-"


def test_lines_are_a_picture_and_none_are_a_title():
    tree = ElementTree.fromstring(drawn("a < b", "x", "y", [Line("one", ((0, 1), (4, 3))), Line("flat", ((2, 2),))]))
    points = [node.attrib["points"].split() for node in tree if node.tag.endswith("polyline")]
    assert points[0] == ["66.0,392.0", "590.0,40.0"] and points[1] == ["328.0,216.0"]
    assert len(list(ElementTree.fromstring(drawn("none", "x", "y", [])))) == 2


def test_the_command_trains_all_and_writes_report_and_curves(quick, tmp_path):
    arguments = ["--parts", "transduction", "--games", "Qbert", "--seeds", "1", f"--folder={tmp_path}"]
    with pytest.raises(RuntimeError, match="status 130"):  # each fails the first time; one does not keep others back
        main(arguments)
    main(arguments)
    report = json.loads((tmp_path / "student_ablation.json").read_text())
    default = [part for part, own in PARTS.items() if () in own.values()]
    assert [row["part"] for row in report["rows"]].count("transduction") == 2
    assert {row["part"] for row in report["rows"]} == {*default}
    assert "| learned |" in (tmp_path / "student_ablation.md").read_text()
    assert "learned" in (tmp_path / "student_ablation-transduction.svg").read_text()

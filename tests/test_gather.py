"""Results of a sweep: one row a game and setting, numbers that a plain calculation gives, bad reports named."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict

import numpy as np
import pytest

from rl.files import FormatError, write_json
from rl.gather import gather, main, results, rows
from rl.scores import Score, protocol
from rl.settings import SettingsError
from rl.statistics import estimate, mean
from tests.training_cases import teacher


def write_report(root, returns, game="Pong", frames=2_000_000, wall_s=1_800.0, agent=None, **changes):
    """A report as a run leaves it, in a folder of its own."""
    config = dataclasses.replace(teacher(root, **changes), name=game)
    if agent:
        own = dataclasses.replace(config.teacher, agent=dataclasses.replace(config.teacher.agent, **agent))
        config = dataclasses.replace(config, teacher=own)
    score = Score(game, "teacher", protocol("nature", len(returns), 5), tuple(map(float, returns)))
    facts = {"what": "teacher", "game": game, "frames": frames, "wall_s": wall_s, "score": score.to_json()}
    path = root / f"{len(list(root.glob('*'))):03}" / game / "teacher" / "report.json"
    write_json(path, facts | {"settings": asdict(config)})
    return path


def test_seeds_of_a_game_are_one_row(tmp_path):
    returns = {3: (1, 2, 6), 1: (10, 12, 14), 2: (20, 20, 20), 7: (-5, -6, -7), 5: (0, 0, 30)}
    for seed, own in returns.items():
        write_report(tmp_path, own, seed=seed, frames=1_000_000 * seed, wall_s=600.0 * seed)
    (row,) = rows(results(tmp_path))
    assert (row.game, row.setting, row.seeds) == ("Pong", "", (1, 2, 3, 5, 7))
    assert row.scores == (12.0, 20.0, 3.0, 10.0, -6.0)
    assert row.mean.value == pytest.approx(7.8)
    assert row.iqm.value == pytest.approx((3 + 10 + 12) / 3)  # a quarter of five, rounded down, is one at each end
    # Over the five runs' means, not over their fifteen episodes.
    assert row.mean == estimate(mean, np.array([row.scores]).T)
    assert row.mean.low < 7.8 < row.mean.high
    assert (row.episodes, row.frames, row.wall_s, row.total_s) == (3, 3_600_000, 2_160.0, 10_800.0)


def test_games_and_settings_are_rows_of_their_own_and_say_what_differs(tmp_path):
    for seed in (1, 2):
        write_report(tmp_path, (1, 2), seed=seed)
        write_report(tmp_path, (5, 6), seed=seed, agent={"gamma": 0.5})
        write_report(tmp_path, (7, 8), seed=seed, game="Breakout", envs=3)
    found = [(row.game, row.setting, row.seeds, row.mean.value) for row in rows(results(tmp_path))]
    assert sorted(found) == [
        ("Breakout", "", (1, 2), 7.5),  # its own number of envs is no comparison
        ("Pong", "agent.gamma=0.5", (1, 2), 5.5),
        ("Pong", "agent.gamma=0.75", (1, 2), 1.5),
    ]


def test_the_table_is_written_as_markdown_and_json(tmp_path, capsys):
    root, out = tmp_path / "runs", tmp_path / "out"
    for seed, score in ((1, 10), (2, 20)):
        write_report(root, (score, score + 1), seed=seed)
    write_report(root, (-0.04, 0.0), game="Breakout")
    assert main([str(root), str(out)]) == 0
    text = (out / "gathered.md").read_text()
    assert capsys.readouterr().out == text
    lines = text.splitlines()
    assert lines[2] == "| Breakout | - | 5 | 0.0 | 0.0 | 0.0 | 2.00 | 0.50 | 0.50 |"
    assert (
        lines[3] == "| Pong | - | 1, 2 | 15.5 (10.5 .. 20.5) | 15.5 (10.5 .. 20.5) | 10.5, 20.5 | 2.00 | 0.50 | 1.00 |"
    )
    facts = json.loads((out / "gathered.json").read_text())
    assert [row["game"] for row in facts["rows"]] == ["Breakout", "Pong"]
    assert facts["rows"][1]["scores"] == [10.5, 20.5]
    assert len(facts["reports"]) == 3


def test_what_was_gathered_stays_out_of_the_next_table(tmp_path):
    write_report(tmp_path, (1, 2))
    assert gather(tmp_path, tmp_path) == gather(tmp_path, tmp_path)


def test_reports_of_other_commands_are_left_out(tmp_path):
    write_report(tmp_path, (1, 2))
    write_json(tmp_path / "x" / "report.json", {"what": "scores"})
    assert len(results(tmp_path)) == 1


def test_a_run_that_is_there_twice_is_refused(tmp_path):
    paths = [write_report(tmp_path, (1, 2)) for _ in range(2)]
    with pytest.raises(
        SettingsError, match=rf"^the same run twice, .*: {paths[0]}, {paths[1]}; gather another folder$"
    ):
        rows(results(tmp_path))


def test_a_folder_without_reports_is_named(tmp_path):
    with pytest.raises(SettingsError, match=rf"^{tmp_path}: no report of a teacher below it; a run writes one"):
        results(tmp_path)
    with pytest.raises(SettingsError, match=rf"^{tmp_path}/no: no such folder; python -m rl\.gather"):
        results(tmp_path / "no")


@pytest.mark.parametrize("wrong", [{"frames": None}, {"score": {"mean": 1}}, {"settings": {"teacher": {}}}])
def test_a_report_that_is_not_whole_is_named(tmp_path, wrong):
    path = write_report(tmp_path, (1, 2))
    facts = json.loads(path.read_text())
    write_json(path, facts | wrong)
    with pytest.raises(FormatError, match=rf"^{path}: field .* is missing or wrong; score or train that run again$"):
        results(tmp_path)


@pytest.mark.parametrize("arguments", [[], ["a", "b", "c"], ["--help"]])
def test_the_command_says_how_it_is_used(arguments):
    with pytest.raises(SettingsError, match=r"; python -m rl\.gather ROOT \[OUT\]$"):
        main(arguments)

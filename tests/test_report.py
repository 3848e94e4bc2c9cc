"""The report: every number is one that a report on disk holds, and the page needs nothing beside itself."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import asdict

import av
import numpy as np
import pytest
from fakes import a_picture
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from run_cases import ROOM

from deploy import report
from deploy.cards import END, START
from deploy.figures import DIM, INK, figures, pixels, png, svg
from deploy.films import small_clip
from deploy.gather import gather, joules
from deploy.report import ReportRun, ReportSettings
from deploy.report_page import page, themed
from deploy.video import VideoScreen
from rl.command import settings
from rl.files import FormatError, write_json
from rl.scores import Score, protocol
from rl.settings import SettingsError

RETURNS = {"chip": (17.0, 20.0, 18.0), "teacher": (19.0, 21.0, 20.0), "int8": (18.0, 20.0, 19.0)}


def score_report(root, game="Pong", returns=RETURNS):
    rules = protocol("nature", 3, 5000)
    scores = {player: Score(game, player, rules, values) for player, values in returns.items()}
    told = {player: own.to_json() | {"of_teacher": 0.5 if player == "chip" else None} for player, own in scores.items()}
    write_json(root / game / "score/nature/report.json", {"protocol": asdict(rules), "scores": told})


def metrics(root, game, player, rows):
    path = root / game / player / "metrics.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"at": 9, "eval/mean_rew')


@pytest.fixture
def root(tmp_path):
    """Pong with scores, a chip and its energy; Breakout under training, with what a writer has not finished."""
    root = tmp_path / "runs"
    score_report(root)
    chip = {"usage": {"total": {"cores": [120, 4096]}}, "latency_ticks": 15, "settings": {"chip": {"board": "ns1e"}}}
    write_json(root / "Pong/chip/report.json", chip | {"graph": "a"})
    energy = {"Pong": {"whole": {"static_w": 0.03, "active_a_w": 0.015}}}
    write_json(root / "Pong/chip/verify.json", {"energy": energy, "graph": "a"})
    rows = [
        {"at": 400, "rollout/ep_score_mean": 1.5},
        {"at": 1000, "eval/mean_reward": 8.0, "eval/low": 6.0, "eval/high": 9.5},
        {"at": 2000, "eval/mean_reward": 9.0},
    ]
    metrics(root, "Breakout", "teacher", rows)
    return root


def test_what_is_gathered_is_what_the_reports_say(root, tmp_path):
    breakout, pong = gather(root, tmp_path / "models")
    assert (breakout.name, pong.name) == ("Breakout", "Pong")
    assert list(pong.results) == ["teacher", "int8", "chip"]
    chip = pong.results["chip"]
    assert (chip.mean, chip.episodes, chip.share) == (55 / 3, 3, 0.5)
    assert chip.low <= chip.mean <= chip.high and chip.human == pytest.approx((55 / 3 + 20.7) / 35.3)
    assert (pong.costs.cores, pong.costs.latency_ticks) == (120, 15)
    assert pong.costs.decision_j == pytest.approx(0.045 / 15)
    assert pong.source == "runs/Pong/score/nature/report.json"
    assert pong.settings == {"chip": {"board": "ns1e"}}
    learning = breakout.learning["teacher"]
    assert (learning.at, learning.mean, learning.low) == ((1000.0, 2000.0), (8.0, 9.0), (6.0, 9.0))
    assert learning.meanwhile == ((400.0, 1.5),) and not breakout.results and breakout.source == ""


def test_a_student_of_several_games_is_no_game(root, tmp_path):
    for name in ("Ten", "Pong-Breakout"):
        metrics(root, name, "student", [{"at": 1000, "eval/mean_reward": 8.0}])
    assert [game.name for game in gather(root, tmp_path / "models")] == ["Breakout", "Pong"]


def test_a_card_speaks_for_a_game_that_was_not_run_here(root, tmp_path):
    models = tmp_path / "models"
    facts = json.loads((root / "Pong/score/nature/report.json").read_text())
    energy = {"whole": {"static_w": 0.06, "active_a_w": 0.0}}
    chip = {"usage": {"total": {"cores": [7, 9]}}, "latency_ticks": 3, "energy": energy}
    write_json(models / "Pong/card.json", facts | {"chip": chip})
    (game,) = gather(tmp_path / "empty", models)
    assert (game.source, game.costs.cores, game.costs.decision_j) == ("models/Pong/card.json", 7, joules(energy))
    both = {own.name: own for own in gather(root, models)}
    assert both["Pong"].costs.cores == 120, "the run's own chip counts"


def test_the_energy_of_another_chip_is_none_of_this_one(root, tmp_path):
    path = root / "Pong/chip/report.json"
    write_json(path, json.loads(path.read_text()) | {"graph": "b"})
    assert gather(root, tmp_path / "models")[1].costs.decision_j is None, "compiled again, and not verified"
    path.unlink()
    energy = {"whole": {"static_w": 0.06, "active_a_w": 0.0}}
    chip = {"usage": {"total": {"cores": [7, 9]}}, "latency_ticks": 3, "energy": energy, "graph": "b"}
    write_json(tmp_path / "models/Pong/card.json", {"chip": chip})
    pong = {game.name: game for game in gather(root, tmp_path / "models")}["Pong"]
    assert pong.costs.decision_j == joules(energy), "of the chip that ships, not of the run's earlier one"


def test_nothing_on_disk_and_broken_reports_are_told(root, tmp_path):
    with pytest.raises(SettingsError, match=r"^report: neither .* nor .* holds a score or a training; run make score"):
        gather(tmp_path / "a", tmp_path / "b")
    write_json(root / "Pong/score/nature/report.json", {"scores": {"chip": {"mean": 1.0}}})
    with pytest.raises(FormatError, match=r"report.json: field 'low' is missing or wrong; run make score again"):
        gather(root, tmp_path / "models")


def test_there_is_a_figure_for_all_that_can_be_drawn_and_none_for_what_cannot(root, tmp_path):
    games = gather(root, tmp_path)
    assert list(figures(games)) == ["Learning curves", "Scores with 95 % intervals", "Games by players",
                                    "Cores and energy against score"]  # fmt: skip
    assert list(figures(games[:1])) == ["Learning curves"]
    assert list(figures([dataclasses.replace(games[1], costs=None)])) == list(figures(games))[1:3]


def test_equal_facts_make_equal_figures_and_other_facts_others(root, tmp_path):
    drawn = [svg(figures(gather(root, tmp_path))["Scores with 95 % intervals"]) for _ in range(2)]
    assert drawn[0] == drawn[1] and "18.33" in drawn[0]
    score_report(root, returns={**RETURNS, "chip": (1.0, 2.0, 3.0)})
    assert svg(figures(gather(root, tmp_path))["Scores with 95 % intervals"]) != drawn[0]


def test_a_figure_is_an_image_too(root, tmp_path):
    figure = figures(gather(root, tmp_path))["Games by players"]
    assert png(figure).startswith(b"\x89PNG")
    image = pixels(figure, dpi=50)
    assert image.dtype == np.uint8 and image.shape[2] == 3 and len(np.unique(image)) > 5


def test_the_page_holds_every_score_and_asks_nothing_of_a_network(root, tmp_path):
    games = gather(root, tmp_path)
    text = page(games, figures(games), {"numpy": "9.9"})
    assert text == page(games, figures(games), {"numpy": "9.9"})
    for words in (
        "18.33",
        "20.00",
        "19.00",
        "3.00 mJ",
        "120 <small>of 4,096",
        "numpy 9.9",
        "prefers-color-scheme: dark",
    ):
        assert words in text
    linked = re.findall(r"(?:src|href|url)\s*[=(]\s*['\"]?(?!data:|#)([^'\")> ]+)", text)
    assert linked == [] and "<script" not in text
    drawn = re.sub(r"<style>.*?</style>", "", text, flags=re.S)
    assert INK not in drawn and DIM not in drawn


def test_names_from_reports_are_escaped(root, tmp_path):
    games = [dataclasses.replace(game, name="<b>Pong") for game in gather(root, tmp_path)]
    text = page(games, {}, {})
    assert "<b>Pong" not in text and "&lt;b&gt;Pong" in text


def test_the_greys_of_a_drawing_follow_the_theme():
    assert themed(f"<path fill='{INK}' stroke='{DIM}'/>") == "<path fill='var(--ink)' stroke='var(--dim)'/>"


def test_a_clip_becomes_a_small_one_of_its_middle(tmp_path):
    screen = VideoScreen(tmp_path / "a.mp4")
    for number in range(60):
        screen.show(a_picture(frame=np.full((210, 160, 3), 4 * number, np.uint8)))
    screen.close()
    (tmp_path / "small.mp4").write_bytes(small_clip(tmp_path / "a.mp4", seconds=1.0))
    with av.open(str(tmp_path / "small.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    with av.open(str(tmp_path / "a.mp4")) as video:
        wide, high = video.streams.video[0].width, video.streams.video[0].height
    assert len(frames) == 30 and frames[0].shape == (high // 4 * 2, wide // 4 * 2, 3)
    assert 40 < frames[0][20, 20, 0] < 80, "the first of the middle second is number 15"


def test_the_command_writes_the_page_and_the_numbers(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "MODELS", tmp_path / "models")
    assert report.command(ReportRun(str(root), ReportSettings("nature", readme=False))) == 0
    facts = json.loads((root / "report/report.json").read_text())
    assert facts["games"]["Pong"]["scores"]["chip"]["mean"] == 55 / 3
    assert (root / "report/report.html").read_text().startswith("<!doctype html>")
    assert "2 games: Breakout, Pong" in capsys.readouterr().out


def test_the_readme_gets_its_table_and_figure_of_what_ships(root, tmp_path, monkeypatch, capsys):
    models = tmp_path / "models"
    facts = json.loads((root / "Pong/score/nature/report.json").read_text())
    facts["scores"]["student"] = facts["scores"]["teacher"]
    energy = {"whole": {"static_w": 0.03, "active_a_w": 0.0}}
    chip = {"usage": {"total": {"cores": [7, 9]}}, "latency_ticks": 3, "energy": energy}
    write_json(models / "Pong/card.json", facts | {"chip": chip, "game": "Pong"})
    (tmp_path / "README.md").write_text(f"front\n{START}\nold\n{END}\nback\n")
    monkeypatch.setattr(report, "MODELS", models)
    assert report.command(ReportRun(str(root), ReportSettings("nature", readme=True))) == 0
    row = "| 0.500 | 7 of 9 | 3 ticks | 2.00 mJ | 3 |"
    table = (tmp_path / "README.md").read_text()
    assert "| game | teacher | student | 8-bit | chip | chip of teacher |" in table and row in table
    assert table.startswith("front\n") and table.endswith("back\n") and "old" not in table
    assert (tmp_path / "docs/scores.png").read_bytes().startswith(b"\x89PNG")
    assert "written: " in capsys.readouterr().out


def test_the_config_becomes_the_commands_settings():
    with initialize_config_dir(str(ROOM / "conf"), version_base=None):
        for overrides, found in (([], "runs"), (["smoke=report"], "runs/smoke")):
            tree = OmegaConf.to_container(compose("report", overrides), resolve=True)
            assert settings(ReportRun, tree).root == found

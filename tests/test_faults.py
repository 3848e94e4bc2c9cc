"""make faults: every episode on a chip broken for it, finished points are kept, and the report is what is drawn."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from types import SimpleNamespace

import numpy as np
import pytest
from run_cases import small_chip, write_run

from deploy import faults, score
from deploy.damage import WHOLE as WORKING
from deploy.engine import LazyEngine
from deploy.faults import NAMES, FaultRun, FaultSettings, Point, Rates, Worker, damage_of, finished, rules_of, wanted
from deploy.players import ChipPlayer
from rl.files import FormatError
from rl.settings import SettingsError

NONE = Rates((), (0.1,), (), (), (0.2, 0.05, 0.2))


def config(root, **others):
    own = {"protocol": "nature", "episodes": 2, "seed": 68, "max_frames": 400, "processes": 1, "rates": NONE} | others
    return FaultRun("Breakout", str(root), FaultSettings(**own))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, "Breakout")
    return folder


@pytest.fixture
def rules(root):
    """Cut short, with so many strays that episodes come out differently."""
    own = replace(rules_of(config(root).faults), epsilon=0.7)
    Worker.begin("Breakout", str(root), own)
    return own


@pytest.fixture
def played(monkeypatch):
    """Points are invented instead of played; what was asked for is noted."""
    asked = []

    def play_points(own, rules, missing, ticker):
        for kind, rate in missing:
            asked.append((kind, rate))
            yield Point(kind, rate, (1.0 - rate, 3.0 - rate))

    monkeypatch.setattr(faults, "play_points", play_points)
    return asked


def report(root):
    return json.loads((root / "Breakout/faults/report.json").read_text())


def test_the_whole_chip_scores_as_make_score_says(root, rules):
    score.Worker.begin("chip", "Breakout", str(root), rules)
    assert [Worker.play(("whole", 0.0, i)) for i in range(2)] == [score.Worker.play(i) for i in range(2)]


def test_an_episode_can_be_repeated_alone_whatever_was_played_before(rules):
    task = ("lost", 0.3, 1)
    first = Worker.play(task)
    Worker.play(("lost", 0.3, 0))
    assert Worker.play(task) == first


def test_a_player_begins_each_episode_on_a_chip_just_switched_on(rules):
    damage = damage_of(Worker.compiled.graph, "lost", 0.4, 1)
    player = ChipPlayer(Worker.spec, Worker.compiled, "Breakout", lambda graph: LazyEngine(graph, damage=damage))
    player.reset()
    shown = np.random.default_rng(1).integers(0, 256, (60, 4, 84, 84), np.uint8)

    def choices():
        return [player.act(obs) for obs in shown]

    first, later = choices(), choices()
    player.reset()
    assert choices() == first != later


@pytest.mark.parametrize("kind", NAMES)
def test_each_kind_breaks_its_own_parts(kind):
    graph = small_chip().graph
    damage = damage_of(graph, kind, 0.2, seed=3)
    broken = {
        "cores": damage.dead.all(axis=1).any(),
        "neurons": damage.dead.any() and not damage.dead.all(axis=1).any(),
        "silent": (damage.axon == 1).any(),
        "stuck": (damage.axon == 2).any(),
        "lost": damage.lost == 0.2,
    }
    assert [name for name, found in broken.items() if found] == [kind]
    assert damage_of(graph, "whole", 0.0, seed=3) is None
    assert (damage_of(graph, kind, 0.2, seed=4).axon != damage.axon).any() == (kind in ("silent", "stuck"))
    assert WORKING == 0


def test_the_whole_chip_is_played_first_and_every_rate_once():
    assert wanted(NONE) == [("whole", 0.0), ("neurons", 0.1), ("lost", 0.05), ("lost", 0.2)]


def test_a_cap_is_told_with_the_protocol(root):
    assert rules_of(config(root).faults).name == "nature, 400 frames at most"
    full = rules_of(config(root, max_frames=108_000).faults)
    assert (full.name, full.env.max_frames, full.epsilon, full.seed) == ("nature", 108_000, 0.01, 68)


def test_a_report_holds_every_point_and_the_curves_lie_beside_it(tmp_path, played, capsys):
    write_run(tmp_path, "Breakout")
    assert faults.command(config(tmp_path)) == 0
    told = report(tmp_path)
    assert [(p["kind"], p["rate"], round(p["mean"], 9)) for p in told["points"]] == [
        ("whole", 0.0, 2.0), ("neurons", 0.1, 1.9), ("lost", 0.05, 1.95), ("lost", 0.2, 1.8)
    ]  # fmt: skip
    assert all(p["low"] <= p["mean"] <= p["high"] for p in told["points"])
    assert set(told["models"]) == {"student/student.npz", "chip/chip.npz"} and told["protocol"]["episodes"] == 2
    assert (tmp_path / "Breakout/faults/curves.svg").read_text().startswith("<svg ")
    assert "| 5 % lost spikes | 1.95 |" in capsys.readouterr().out


def test_finished_points_are_kept_and_only_the_others_played(tmp_path, played):
    write_run(tmp_path, "Breakout")
    faults.command(config(tmp_path))
    before = report(tmp_path)["points"]
    played.clear()
    faults.command(config(tmp_path, rates=replace(NONE, cores=(0.5,)), processes=2))
    assert played == [("cores", 0.5)]
    assert report(tmp_path)["points"][:4] == before


def test_what_was_stopped_goes_on_where_it_was(tmp_path, played, monkeypatch):
    write_run(tmp_path, "Breakout")
    whole_way = faults.play_points

    def stopped(own, rules, missing, ticker):
        yield next(whole_way(own, rules, missing, ticker))
        raise KeyboardInterrupt

    monkeypatch.setattr(faults, "play_points", stopped)
    with pytest.raises(KeyboardInterrupt):
        faults.command(config(tmp_path))
    assert [p["kind"] for p in report(tmp_path)["points"]] == ["whole"]
    monkeypatch.setattr(faults, "play_points", whole_way)
    played.clear()
    faults.command(config(tmp_path))
    assert played == wanted(NONE)[1:]


@pytest.mark.parametrize("other", [{"seed": 69}, {"episodes": 3}, {"max_frames": 500}])
def test_points_of_other_rules_are_played_again(tmp_path, played, other, capsys):
    write_run(tmp_path, "Breakout")
    faults.command(config(tmp_path))
    played.clear()
    faults.command(config(tmp_path, **other))
    assert played == wanted(NONE)
    assert "of another chip or other rules, played again" in capsys.readouterr().out


def test_points_of_another_chip_are_played_again(tmp_path, played):
    write_run(tmp_path, "Breakout")
    faults.command(config(tmp_path))
    told = report(tmp_path)
    told["models"]["chip/chip.npz"] = "0" * 64
    (tmp_path / "Breakout/faults/report.json").write_text(json.dumps(told))
    played.clear()
    faults.command(config(tmp_path))
    assert played == wanted(NONE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"wall_s": 1}', r"report\.json: field 'points' is missing or wrong; delete the file to play again$"),
        ('{"points": [{"kind": "lost"}], "wall_s": 1}', r"field 'rate' is missing or wrong"),
        ('{"points": [{"kind": "lost", "rate": 0.1, "returns": 3}], "wall_s": 1}', r"field .* is missing or wrong"),
        ("[]", r"report\.json: holds a list, must be a JSON object"),
    ],
)
def test_a_report_that_is_none_is_refused(tmp_path, text, message):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(FormatError, match=message):
        finished(path, {})


def test_no_report_is_no_points(tmp_path):
    assert finished(tmp_path / "report.json", {}) == ([], 0.0)


def test_processes_that_play_points_never_hear_an_interrupt(root, monkeypatch):
    heard, before = [], signal.getsignal(signal.SIGINT)

    def pool(*own):
        heard.append(signal.getsignal(signal.SIGINT))
        return ThreadPool(1)

    monkeypatch.setattr(faults.multiprocessing, "get_context", lambda kind: SimpleNamespace(Pool=pool))
    monkeypatch.setattr(Worker, "play", lambda task: 1.0)
    own = config(root, episodes=1)
    (point,) = faults.play_points(own, rules_of(own.faults), [("whole", 0.0)], faults.Ticker(1))
    assert (heard, point.returns) == ([signal.SIG_IGN], (1.0,))
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_points_are_played_by_processes_as_they_are_alone(root, rules):
    own = config(root, processes=2)
    capped = rules_of(own.faults)
    ticker = faults.Ticker(4)
    points = list(faults.play_points(own, capped, [("whole", 0.0), ("neurons", 0.3)], ticker))
    Worker.begin("Breakout", str(root), capped)
    alone = [tuple(Worker.play((p.kind, p.rate, index)) for index in range(2)) for p in points]
    assert [p.returns for p in points] == alone


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"episodes": 0}, r"^faults\.episodes: found 0, allowed 1 or more$"),
        ({"processes": 0}, r"^faults\.processes: found 0, allowed 1 or more$"),
        ({"seed": -1}, r"^faults\.seed: found -1, allowed 0 or more$"),
    ],
)
def test_settings_out_of_range_are_refused(others, message):
    with pytest.raises(SettingsError, match=message):
        config("runs", **others)


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("rate", [0.0, -0.1, 1.5])
def test_a_rate_out_of_range_is_refused_by_name(kind, rate):
    with pytest.raises(SettingsError, match=rf"^faults\.rates\.{kind}: found {rate}, allowed above 0 to 1$"):
        replace(NONE, **{kind: (0.1, rate)})


def test_a_run_that_breaks_nothing_is_refused():
    with pytest.raises(SettingsError, match=r"^faults\.rates: found 'none', allowed at least one rate of one kind$"):
        Rates((), (), (), (), ())

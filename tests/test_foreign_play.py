"""A chip drawn in IBM's or RANC's terms plays the same game: action by action, vote by vote, spike by spike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import random_graph
from fakes import PONG
from run_cases import ENV, small_chip, write_run

from deploy import convert, play
from deploy.arcade.address import WebSettings
from deploy.compiled import Compiled, load_compiled, save_compiled, with_graph
from deploy.files import FormatError
from deploy.formats import load
from deploy.graphs import save_graph
from deploy.players import make_player
from deploy.realtime import RealtimeSettings
from deploy.runner import ChipRunner
from deploy.spec import load_spec
from rl.games import ScalarGame
from rl.loop import Player
from rl.settings import SettingsError

SHIPPED = Path(__file__).parents[1] / "models/Pong"
FOREIGN = ("pong.json", "pong.ranc.json")


def player(root: Path, graph: Path | None, name: str = "chip") -> Player:
    return make_player(name, "Pong", PONG, str(root), 1, frozenset, None if graph is None else str(graph))


@pytest.mark.parametrize("name", FOREIGN)
def test_the_player_of_a_foreign_file_answers_as_the_chip_does(name: str, tmp_path: Path, capsys: Any) -> None:
    folder = write_run(tmp_path)
    assert convert.main([str(folder / "chip/chip.npz"), str(tmp_path / name)]) == 0
    ours, theirs = player(tmp_path, None), player(tmp_path, tmp_path / name)
    assert f"graph: {tmp_path / name}" in capsys.readouterr().out
    rng, seen = np.random.default_rng(1), set[tuple[int, ...]]()
    for _ in range(12):
        obs = rng.integers(0, 256, (4, 84, 84), np.uint8)
        assert ours.act(obs) == theirs.act(obs)
        assert np.array_equal(ours.votes, theirs.votes) and np.array_equal(ours.activity, theirs.activity)  # type: ignore[attr-defined]
        seen.add(tuple(ours.votes.tolist()))  # type: ignore[attr-defined]
    assert len(seen) > 1, "equal votes of a chip that always says the same prove nothing"


def test_a_graph_that_is_not_the_players_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path)
    save_graph(random_graph(1), tmp_path / "other.npz")
    with pytest.raises(FormatError, match=r"other\.npz: the graph is not one of this student, name its own chip\n"):
        player(tmp_path, tmp_path / "other.npz")
    with pytest.raises(SettingsError, match=r"play\.chip: .*none\.json does not exist; make it by python -m deploy"):
        player(tmp_path, tmp_path / "none.json")
    with pytest.raises(SettingsError, match=r"play\.chip: a core graph for player spec, allowed for chip; leave it"):
        player(tmp_path, tmp_path / "other.npz", "spec")


def rewired(chip: Compiled) -> Compiled:
    """Another graph that this student's chip may hold: without what one core has in its crossbar."""
    graph = chip.graph
    crossbar = graph.crossbar.copy()
    crossbar[graph.crossbar_of[0], :, 0] = 0
    return replace(chip, graph=replace(graph, crossbar=crossbar))


@pytest.mark.parametrize("full", [False, True], ids=["its actions", "more actions"])
def test_a_run_on_another_graph_leaves_no_replay_and_one_on_the_same_graph_does(
    full: bool, tmp_path: Path, capsys: Any
) -> None:
    own = write_run(tmp_path) / "chip/chip.npz"
    assert convert.main([str(own), str(tmp_path / "same.json")]) == 0
    save_compiled(rewired(small_chip()), tmp_path / "other.npz")
    env, web = replace(ENV, full_actions=full), WebSettings("127.0.0.1", 0, exposed=False, token=None, browser=False)
    for name, replays in (("other.npz", 0), ("same.json", 1)):
        pace, file = RealtimeSettings(0.2, 30, 2), str(tmp_path / name)
        settings = play.PlaySettings("chip", file, None, "none", 1, True, pace, web)
        assert play.command(play.PlayRun("Pong", str(tmp_path), env, settings)) == 0
        told = f"no replay: {file} holds another graph than the game's own chip, which a replay is played with"
        assert (told in capsys.readouterr().out) == (not replays)
        assert len(list(tmp_path.glob("Pong/play/*/replay.npz"))) == replays


def test_a_graph_of_another_student_of_the_same_shape_breaks_the_rules_of_compiled_graphs() -> None:
    chip = small_chip()
    assert with_graph(chip, chip.graph, "x") is not chip
    cores, axons, neurons = chip.graph.shape
    with pytest.raises(FormatError, match=r"x: the graph is not one of this student, .*\n\d+ limits broken\n"):
        with_graph(chip, random_graph(1, cores=cores, axons=axons, neurons=neurons), "x")


@pytest.mark.slow
@pytest.mark.parametrize("name", FOREIGN)
def test_the_shipped_chip_in_foreign_terms_plays_the_same_whole_game(name: str, tmp_path: Path) -> None:
    chip, _ = load_compiled(SHIPPED / "chip.npz")
    spec, _ = load_spec(SHIPPED / "student.npz")
    assert convert.main([str(SHIPPED / "chip.npz"), str(tmp_path / name)]) == 0
    ours, theirs = ChipRunner(chip), ChipRunner(with_graph(chip, load(tmp_path / name).graph, name))
    game, head = ScalarGame("Pong", ENV, 7), spec.head("Pong")
    obs, ended, returned, actions = game.reset(), False, 0.0, list[int]()
    while not ended:
        bits = spec.transduce(obs[None])[0]
        votes, other = (runner.answer(bits)[head.start : head.stop] for runner in (ours, theirs))
        assert np.array_equal(votes, other), f"votes of decision {len(actions)}"
        assert np.array_equal(ours.engine.fired, theirs.engine.fired), f"spikes of decision {len(actions)}"
        actions.append(int(votes.argmax()))
        step = game.step(actions[-1])
        obs, ended, returned = step.obs, step.ended, returned + step.reward
    print(f"{len(actions)} decisions, score {returned:+.0f}")
    assert len(actions) > 500 and len(set(actions)) > 2 and abs(returned) <= 21

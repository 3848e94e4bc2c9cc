"""The tour: ten pictures of one real decision, whose numbers are those of the chip and of its definition."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_cases import ROOM, write_run

from deploy import tour
from deploy.emulator import Emulator
from deploy.players import load_chip
from deploy.tour import TourSettings, small, visit
from deploy.tour_pictures import PICTURES
from rl.settings import SettingsError


@pytest.fixture(scope="module")
def seen():
    return visit(TourSettings("Pong", Path("unused"), 7))


@pytest.fixture(scope="module")
def told(seen):
    """The definition of the chip, with the same picture held on it."""
    spec, compiled = load_chip("Pong", "no/such/runs")
    chip = Emulator(compiled.graph)
    chip.hold(seen.bits.ravel(), compiled.picture_ticks)
    return spec, compiled, chip


def test_spikes_and_votes_are_those_of_the_definition(seen, told):
    spec, _, chip = told
    assert np.array_equal(seen.fired, chip.fired)
    assert np.array_equal(seen.votes, spec.run(seen.bits[None])[0]) and seen.votes.argmax() == seen.action


def test_axons_that_are_called_active_explain_every_spike_of_the_core(seen):
    graph, core = seen.compiled.graph, seen.core
    used = np.flatnonzero(graph.neuron_type[core] > 0)
    ends = np.array([seen.path(int(neuron))[-1] for neuron in used])
    assert np.array_equal(ends >= 1, seen.fired[core, used])
    fires, silent = seen.neurons
    assert seen.fired[core, fires] and not seen.fired[core, silent]
    assert seen.path(fires)[0] == 0 and seen.path(fires)[-1] >= 1 > seen.path(silent)[-1]


def test_the_wave_reaches_each_core_at_its_own_tick(seen):
    first = np.where(seen.changes.any(axis=0), seen.changes.astype(bool).argmax(axis=0), -1)
    last = len(seen.changes) - 1 - seen.changes[::-1].astype(bool).argmax(axis=0)
    moved = first >= 0
    assert moved.any() and np.array_equal(first[moved], seen.compiled.level[moved])
    assert np.array_equal(last[moved], first[moved]), "a graph without memory changes once"


def test_the_mesh_holds_each_core_once(seen):
    cores = np.arange(len(seen.compiled.place), dtype=np.int32)
    board = seen.mesh(cores)
    assert sorted(board[~np.isnan(board)].astype(int).tolist()) == cores.tolist()


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_can_be_drawn_and_is_small(seen, name):
    data = small(tour.png(PICTURES[name](seen)))
    image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert len(data) < 60_000 and len(np.unique(image.reshape(-1, 3), axis=0)) > 4


def test_the_command_writes_the_pictures_and_what_they_show(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tour, "PICTURES", {name: PICTURES[name] for name in ("screen", "decision")})
    assert tour.command(TourSettings("Pong", tmp_path, 7)) == 0
    assert {path.name for path in tmp_path.glob("*.png")} == {"01-screen.png", "02-decision.png"}
    assert json.loads((tmp_path / "report.json").read_text())["decision"] == 7
    assert "2 pictures of decision 7 of Pong" in capsys.readouterr().out


def test_a_chip_that_was_trained_since_does_not_change_the_tour(tmp_path, monkeypatch):
    monkeypatch.setattr(tour, "PICTURES", {})
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs")
    with pytest.raises(SystemExit, match=r"^0$"):
        tour.main(["--out", "tour", "--decision", "7"])
    facts = json.loads((tmp_path / "tour/report.json").read_text())
    assert facts["graph"] == load_chip("Pong", "no/such/runs")[1].digest
    assert facts["action"] == load_chip("Pong", "no/such/runs")[0].head("Pong").actions[np.argmax(facts["votes"])]


def test_a_decision_outside_the_replay_is_refused():
    with pytest.raises(SettingsError, match=r"^--decision: found 0, allowed 1 to \d+"):
        visit(TourSettings("Pong", Path("unused"), 0))


def test_the_tour_in_the_docs_shows_all_pictures_of_the_chip_that_ships():
    folder = ROOM / "docs" / "tour"
    text = (ROOM / "docs" / "tour.md").read_text()
    names = [f"{number:02}-{name}.png" for number, name in enumerate(PICTURES, start=1)]
    assert len(names) == 10 and sorted(path.name for path in folder.glob("*.png")) == names
    assert all(f"(tour/{n})" in text for n in names)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 600_000
    facts = json.loads((folder / "report.json").read_text())
    assert facts["graph"] == load_chip("Pong", "no/such/runs")[1].digest, "run make tour again"

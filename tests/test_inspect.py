"""Looking at a chip: pictures show what lies where and what it does, and the command writes what it says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cases import SPECS, random_graph
from rollout_cases import record as record_rollouts
from run_cases import small_chip, small_student, write_run

from deploy import inspect
from deploy.activity import EVERY_NEURON
from deploy.cells import on_mesh
from deploy.chip import CHIPS
from deploy.compiled import save_compiled
from deploy.compiler import compile_spec
from deploy.engine import LazyEngine
from deploy.engines import record
from deploy.files import read_arrays
from deploy.floorplan import (
    FREE,
    GRID_CELL,
    HEAT,
    LATE,
    LEFT,
    PAPER,
    TOP,
    Stage,
    cell_pixels,
    floorplan,
    heat_map,
    layer_colours,
    link_map,
    shade,
    write_png,
)
from deploy.graphs import save_graph
from deploy.spec import save_spec
from rl.stages import CHIP, STUDENT

TINY4, NS16E4 = CHIPS["tiny4"], CHIPS["ns16e4"]
XY = np.array([[2, 3], [0, 0], [13, 17], [5, 16], [9, 1]], np.int32)
STAGES = [Stage("input fan-out", 0, 2, True), Stage("layer0", 2, 2, False)]


def cell_of(image: Any, x: int, y: int, chip: Any = TINY4) -> Any:
    """The pixels of a cell, its outline left out."""
    side = cell_pixels(chip)
    return image[TOP + y * side + 1 : TOP + (y + 1) * side, LEFT + x * side + 1 : LEFT + (x + 1) * side]


def test_every_core_is_painted_in_the_colour_of_its_layer() -> None:
    image = floorplan(XY, STAGES, TINY4, "a title")
    layer = layer_colours(1)[0]
    for core in (2, 3):
        assert (cell_of(image, *XY[core])[2:-2, 2:-2] == layer).all()
    assert (cell_of(image, *XY[4])[2:-2, 2:-2] == LATE).all(), "behind the last stage: a repeater"
    assert (cell_of(image, 6, 6)[2:-2, 2:-2] == FREE).all()


def test_fan_out_is_hatched_in_a_lighter_shade() -> None:
    image = floorplan(XY, STAGES, TINY4, "a title")
    hatched = cell_of(image, *XY[0])
    assert len(np.unique(hatched.reshape(-1, 3), axis=0)) == 2
    assert hatched.mean() > cell_of(image, *XY[2]).mean() + 20


def test_colours_of_a_deep_student_differ_from_each_other() -> None:
    colours = np.array(layer_colours(16), int)
    apart = np.abs(colours[:, None] - colours[None]).sum(axis=2)[~np.eye(16, dtype=bool)]
    assert apart.min() > 40


def test_heat_goes_from_pale_to_dark_and_leaves_idle_cells_grey() -> None:
    image = heat_map(np.array([0.0, 1.0, 2.0, 4.0, 0.5]), XY, TINY4, "heat", "spikes")
    assert (cell_of(image, *XY[0]) == HEAT[0].astype(int)).all()
    assert (cell_of(image, *XY[3]) == HEAT[-1].astype(int)).all()
    assert (cell_of(image, *XY[2]) == HEAT[2].astype(int)).all(), "half of the most is the middle colour"
    assert (cell_of(image, 7, 7) == FREE).all()
    brightness = shade(np.linspace(0, 1, 50)).sum(axis=1)
    assert (np.diff(brightness.astype(int)) < 0).all()


def test_busier_links_are_darker_and_wider() -> None:
    loads = np.zeros((4, *TINY4.mesh))
    loads[0, 2, 3], loads[1, 3, 3] = 3.0, 5.0  # both ways between (2, 3) and (3, 3)
    loads[2, 6, 6] = 1.0  # from (6, 6) to (6, 7)
    image, side = link_map(loads, TINY4, "links"), cell_pixels(TINY4)
    middle = cell_of(image, 3, 3)[:, 1]
    wide = (middle == HEAT[-1].astype(int)).all(axis=-1)
    narrow = (cell_of(image, 6, 6)[side - 3] == shade(np.array(1 / 8))).all(axis=-1)
    assert wide.sum() > narrow.sum() > 0
    assert (cell_of(image, 10, 10) == PAPER).all()


def test_cells_too_small_for_links_show_the_busiest_one() -> None:
    assert cell_pixels(NS16E4) < GRID_CELL
    loads = np.zeros((4, *NS16E4.mesh))
    loads[3, 300, 200] = 2.0  # from (300, 200) to (300, 199)
    image = link_map(loads, NS16E4, "links")
    dark = np.argwhere((image[TOP : TOP + 1024, LEFT : LEFT + 1024] == HEAT[-1].astype(int)).all(axis=-1))
    assert {(y // 2, x // 2) for y, x in dark.tolist()} == {(199, 300), (200, 300)}


@pytest.mark.parametrize("chip", ["ns1e", "ns16e", "ns16e4", "tiny", "tiny4"])
def test_every_board_fits_on_a_sheet_with_cells_of_one_size(chip: str) -> None:
    board = CHIPS[chip]
    cells = np.array([[0, 0], [board.mesh[0] - 1, board.mesh[1] - 1]], np.int32)
    image = floorplan(cells, [Stage("all", 0, 2, False)], board, "all")
    assert max(image.shape[:2]) < 1450
    painted = (image == layer_colours(1)[0]).all(axis=-1)
    side = cell_pixels(board)
    bottom, right = TOP + board.mesh[1] * side, LEFT + board.mesh[0] * side
    assert painted[bottom - side : bottom, right - side : right].any()
    assert painted[:, :right].sum() <= 2 * side * side


def test_pictures_are_png_files_of_the_same_pixels() -> None:
    image = heat_map(np.arange(5.0), XY, TINY4, "heat", "spikes")
    back = cv2.imdecode(np.frombuffer(write_png(image), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(cv2.cvtColor(back, cv2.COLOR_BGR2RGB), image)


def run(*arguments: Any) -> int:
    """The exit status of the command."""
    with pytest.raises(SystemExit) as end:
        inspect.main([str(argument) for argument in arguments])
    return int(str(end.value.code))


def test_a_bound_is_what_no_run_exceeds(tmp_path: Path, capsys: Any) -> None:
    save_compiled(compile_spec(SPECS["conv_net"](), TINY4, seed=1), tmp_path / "chip.npz")
    told = []
    for more in ([], ["--bound"]):
        assert run(tmp_path / "chip.npz", "--out", tmp_path, "--frames", 3, *more) == 0
        told.append(json.loads((tmp_path / "report.json").read_text()))
    found, bound = told
    assert bound["source"] == EVERY_NEURON != found["source"]
    assert EVERY_NEURON in capsys.readouterr().out
    for ran, most in zip(found["placement"], bound["placement"], strict=True):
        assert most["link"]["spikes"] > ran["link"]["spikes"] > 0


def test_a_file_that_is_not_there_and_a_folder_that_cannot_be_are_said_at_once(tmp_path: Path, capsys: Any) -> None:
    assert run(tmp_path / "nothing.npz", "--out", tmp_path / "out") == 1
    assert "nothing.npz does not exist; name a chip or a graph" in capsys.readouterr().err
    save_compiled(compile_spec(SPECS["conv_net"](), TINY4, seed=1), tmp_path / "chip.npz")
    assert run(tmp_path / "chip.npz", "--out", tmp_path / "chip.npz" / "out") == 1
    told = capsys.readouterr()
    assert "Not a directory" in told.err and not told.out


def test_the_command_writes_pictures_tables_and_a_report(tmp_path: Path, capsys: Any) -> None:
    made = compile_spec(SPECS["conv_net"](), TINY4, seed=1)
    save_compiled(made, tmp_path / "chip.npz")
    assert run(tmp_path / "chip.npz", "--out", tmp_path / "out", "--frames", 3) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"floorplan.png", "activity.png", "traffic.png", "report.json"}
    said = capsys.readouterr().out
    for words in ("on tiny4", "row-major", "3 held pictures, lines at random", "an estimate at 0.8 V", "written: "):
        assert words in said
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["graph"], report["chip"]) == (made.digest, "tiny4")
    assert [row["order"] for row in report["placement"]] == ["row-major", "random", "curve", "as placed"]
    assert report["energy"]["whole"]["cores"] == made.graph.shape[0]
    image = cv2.cvtColor(cv2.imread(str(tmp_path / "out" / "floorplan.png")), cv2.COLOR_BGR2RGB)
    last = on_mesh(made.place, TINY4)[-1]
    assert (cell_of(image, *last)[2:-2, 2:-2] == layer_colours(4)[3]).all()


def test_the_same_seed_finds_the_same_and_another_seed_does_not(tmp_path: Path) -> None:
    save_compiled(compile_spec(SPECS["two_heads"](), TINY4, seed=1), tmp_path / "chip.npz")
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(tmp_path / "chip.npz", "--out", tmp_path / out, "--seed", seed) == 0
    texts = [(tmp_path / out / "report.json").read_text() for out in "abc"]
    assert texts[0] == texts[1] != texts[2]


def test_a_trace_is_every_spike_of_the_run(tmp_path: Path) -> None:
    made = compile_spec(SPECS["one_layer"](), TINY4, seed=1)
    save_compiled(made, tmp_path / "chip.npz")
    assert run(tmp_path / "chip.npz", "--out", tmp_path, "--frames", 2, "--trace", 7, "--seed", 3) == 0
    lines = inspect.random_lines(made.graph, 2, 3)[[0, 0, 0, 0, 1, 1, 1]]
    expected = record(LazyEngine(made.graph), lines)
    facts, arrays, _ = read_arrays(tmp_path / "trace.npz", "spikecade-trace", 1)
    assert all(np.array_equal(arrays[name], getattr(expected, name)) for name in ("tick", "core", "neuron"))
    assert facts == {"graph": made.digest, "ticks": 7, "engine": "lazy"}
    assert json.loads((tmp_path / "report.json").read_text())["trace"] == expected.digest


def test_recorded_pictures_go_through_the_student(tmp_path: Path, capsys: Any) -> None:
    folder = write_run(tmp_path)
    record_rollouts(tmp_path / "rollouts", [5, 4])
    assert run(folder / CHIP, "--out", tmp_path / "out", "--frames", 3, "--rollouts", tmp_path / "rollouts") == 0
    assert f"3 held pictures, {tmp_path / 'rollouts'}" in capsys.readouterr().out
    subject = inspect.open_subject(folder / CHIP, "ns1e", 0)
    lines = inspect.recorded_lines(subject, tmp_path / "rollouts", folder / STUDENT, 3, 0)
    assert lines.shape == (3, subject.graph.n_inputs) and 0 < lines.mean() < 1


def test_a_student_of_another_chip_is_refused(tmp_path: Path, capsys: Any) -> None:
    folder = write_run(tmp_path)
    record_rollouts(tmp_path / "rollouts", [5])
    other = tmp_path / "other.npz"
    save_spec(small_student(seed=2), other)
    assert run(folder / CHIP, "--rollouts", tmp_path / "rollouts", "--student", other, "--out", tmp_path) == 1
    said = capsys.readouterr().err
    assert f"--student: {other} is {small_student(seed=2).digest[:12]}, the chip was compiled from" in said
    assert "name the student of this chip" in said


def test_the_student_is_looked_for_beside_the_chip_and_in_its_run(tmp_path: Path) -> None:
    assert inspect.student_beside(tmp_path / "chip" / "chip.npz") == tmp_path / "student" / "student.npz"
    (tmp_path / "student.npz").write_bytes(b"")
    assert inspect.student_beside(tmp_path / "chip.npz") == tmp_path / "student.npz"


def test_a_graph_of_its_own_is_placed_and_run(tmp_path: Path, capsys: Any) -> None:
    save_graph(random_graph(2), tmp_path / "graph.npz")
    assert run(tmp_path / "graph.npz", "--chip", "ns1e", "--out", tmp_path / "out", "--frames", 30) == 0
    said = capsys.readouterr().out
    assert "30 ticks, lines at random" in said and "latency" not in said
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".png", ".json"}


def test_without_a_file_it_is_the_chip_of_the_games_own_run_and_else_the_one_that_ships(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, models = tmp_path / "root", tmp_path / "models"
    monkeypatch.setattr("rl.stages.find.__defaults__", (models,))
    own, ships = small_chip(seed=1), small_chip(seed=2)
    save_compiled(ships, models / "Pong" / "chip.npz")
    save_spec(small_student(seed=1), models / "Pong" / "student.npz")
    asked = ("--game", "Pong", "--root", root, "--frames", 2)
    assert run(*asked) == 0
    assert f"chip: {models / 'Pong' / 'chip.npz'}\n" in capsys.readouterr().out
    assert json.loads((root / "inspect" / "report.json").read_text())["graph"] == ships.digest
    save_compiled(own, root / "Pong" / CHIP)
    record_rollouts(tmp_path / "rollouts", [5, 4])
    assert run(*asked, "--rollouts", tmp_path / "rollouts") == 0, "the student that it was compiled from ships"
    assert f"chip: {root / 'Pong' / CHIP}\n" in capsys.readouterr().out
    assert json.loads((root / "inspect" / "report.json").read_text())["graph"] == own.digest
    assert run("--game", "Qbert", "--root", root) == 1
    assert "run make compile GAMES=Qbert" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", -1], "--seed: found -1, allowed 0 or more"),
        (["--frames", 0], "--frames: found 0, allowed 1 or more"),
        (["--trace", -1], "--trace: found -1, allowed 0 or more ticks"),
        (["--voltage", 0.9], "voltage: found 0.9, allowed 0.7, 0.8, 1"),
        (["--engine", "none"], "engine: found 'none', allowed plain, lazy"),
    ],
)
def test_wrong_arguments_are_one_message_and_change_nothing(
    arguments: Sequence[Any], message: str, tmp_path: Path, capsys: Any
) -> None:
    save_compiled(compile_spec(SPECS["one_layer"](), TINY4, seed=1), tmp_path / "chip.npz")
    assert run(tmp_path / "chip.npz", "--out", tmp_path / "out", *arguments) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_chip_is_refused(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "chip.npz").write_bytes(b"no archive")
    assert run(tmp_path / "chip.npz", "--out", tmp_path / "out") == 1
    assert f"{tmp_path / 'chip.npz'}: not a readable file of ours" in capsys.readouterr().err

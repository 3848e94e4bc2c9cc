"""What the page tells of a chip is what the engine does: spikes of each tick, wounds as damage, energy as estimated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cases import SPECS, pictures
from run_cases import small_chip, small_student

from deploy.activity import record_held
from deploy.arcade.cabinet import mesh_of
from deploy.arcade.meter import EnergyMeter, LastSecond
from deploy.arcade.orders import Kill
from deploy.arcade.witness import Witness
from deploy.arcade.wounds import Wounds, damage_of, killed, unharmed
from deploy.chip import CHIPS
from deploy.compiler import compile_spec
from deploy.emulator import Emulator
from deploy.energy import Counts, estimate
from deploy.engine import LazyEngine

BITS = pictures(small_student(), 3).reshape(3, -1)


@pytest.fixture(scope="module")
def compiled():
    return small_chip()


def test_a_witness_sees_the_spikes_of_each_tick_and_changes_none(compiled):
    witness, plain = Witness(LazyEngine(compiled.graph)), Emulator(compiled.graph)
    for lines in BITS:
        witness.hold(lines, compiled.picture_ticks)
        for tick in range(compiled.picture_ticks):
            plain.step(lines)
            assert np.array_equal(witness.wave[tick], plain.spikes_per_core)
        assert np.array_equal(witness.fired, plain.fired) and np.array_equal(witness.pins(), plain.pins())
        assert np.array_equal(witness.lines, lines) and witness.tick == plain.tick
    witness.reset()
    assert witness.tick == 0 and witness.wave.shape == (0, compiled.graph.shape[0]) and not witness.lines.any()
    assert np.array_equal(witness.step(BITS[0]), Emulator(compiled.graph).step(BITS[0]))


def test_a_rectangle_of_the_mesh_kills_the_cores_in_it_corners_included(compiled):
    cells = mesh_of(compiled).cells
    (x, y), whole = cells[2], unharmed(len(cells))
    one = killed(whole, cells, Kill(int(x), int(y), int(x), int(y)))
    assert one.dead.nonzero()[0].tolist() == [2] and one.any and not whole.any
    left, top = cells.min(axis=0).tolist()
    both = killed(one, cells, Kill(left, top, left + 1, top))
    inside = {tuple(cell) for cell in cells.tolist()} & {(left, top), (left + 1, top)}
    assert {tuple(cell) for cell in cells[both.dead].tolist()} == inside | {(int(x), int(y))}
    assert repr(replace(one, lost=0.25)) == f"Wounds(1 of {len(cells)} cores dead, 0.25 of spikes lost)"


def test_wounds_are_damage_of_every_neuron_of_a_dead_core_and_of_nothing_else(compiled):
    dead = np.zeros(compiled.graph.shape[0], bool)
    dead[[0, 3]] = True
    damage = damage_of(Wounds(dead, 0.125), compiled.graph, seed=9)
    assert np.array_equal(damage.dead.all(axis=1), dead) and np.array_equal(damage.dead.any(axis=1), dead)
    assert (damage.lost, damage.seed, damage.axon.any()) == (0.125, 9, False)
    broken = Witness(LazyEngine(compiled.graph, damage=damage_of(Wounds(dead), compiled.graph, 9)))
    broken.hold(BITS[0], compiled.picture_ticks)
    assert not broken.wave[:, dead].any() and broken.wave[:, ~dead].any()


def test_the_meter_counts_what_the_energy_estimate_counts(compiled):
    meter, engine = EnergyMeter(compiled), LazyEngine(compiled.graph)
    found = []
    for lines in BITS:
        engine.hold(lines, compiled.picture_ticks)
        found.append(meter.counts(engine.fired, lines))
    activity = record_held(LazyEngine(compiled.graph), BITS, compiled.picture_ticks)
    whole = estimate(compiled.graph, CHIPS["ns1e"], compiled.place, compiled.usage.stages, 0, activity)
    mean = [np.mean([getattr(counts, name) for counts in found]) for name in ("events", "spikes", "hops", "crossings")]
    told = whole.whole.counts
    assert mean == pytest.approx([told.events, told.spikes, told.hops, told.crossings], rel=1e-12)
    assert meter.static_w == whole.whole.static_w


def test_a_meter_of_a_board_counts_chip_edges():
    board = compile_spec(SPECS["one_layer"](), CHIPS["tiny4"], seed=1)
    place = board.place.copy()
    place[:, 0] = 0
    board = replace(board, place=place.copy())
    place[0, 0] = 1  # the first core, alone on the next chip
    lone = replace(board, place=place)
    fired = np.ones(board.graph.neuron_type.shape, bool)
    lines = np.zeros(board.graph.n_inputs, bool)
    assert EnergyMeter(lone).counts(fired, lines).crossings > EnergyMeter(board).counts(fired, lines).crossings == 0


def test_the_last_second_forgets(compiled):
    meter = EnergyMeter(compiled)
    second, one, two = LastSecond(meter), Counts(1e6, 1.0, 0.0, 0.0), Counts(3e6, 1.0, 0.0, 0.0)
    assert second.reading() is None
    second.add(5.0, 10, one)
    second.add(5.5, 20, two)
    both = second.reading()
    assert both.spikes == 30 and both.static_w == meter.static_w
    assert both.power_w == pytest.approx(meter.static_w + 1000 * (one.active_a(1.0) + two.active_a(1.0)) / 2)
    second.add(6.0, 40, two)
    assert second.reading().spikes == 60, "what is a second old has gone"
    second.clear()
    assert second.reading() is None


def test_a_mesh_tells_where_cores_lie_and_when_a_picture_reaches_them(compiled):
    mesh = mesh_of(compiled)
    assert (mesh.chip, mesh.chips, mesh.size, mesh.ticks) == ("ns1e", (1, 1), (64, 64), compiled.picture_ticks)
    assert np.array_equal(mesh.cells, compiled.place[:, 1:])
    for index, stage in enumerate(compiled.usage.stages):
        assert (mesh.layer[stage.first : stage.first + stage.cores] == index).all()
    assert mesh.layers == tuple(stage.name for stage in compiled.usage.stages)
    assert np.array_equal(mesh.level, compiled.level)


def test_cores_of_a_board_lie_beside_each_other_and_later_cores_are_repeaters():
    board = compile_spec(SPECS["one_layer"](), CHIPS["tiny4"], seed=1)
    place = board.place.copy()
    place[0] = (3, 2, 5)  # chip 3 of two a row: the second row, second column
    stages = board.usage.stages[:-1]
    mesh = mesh_of(replace(board, place=place, usage=replace(board.usage, stages=stages)))
    assert mesh.chips == (2, 2) and mesh.cells[0].tolist() == [7 + 2, 9 + 5]
    assert mesh.layers[-1] == "repeaters" and mesh.layer.max() == len(stages)

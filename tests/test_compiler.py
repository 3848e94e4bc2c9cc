"""Core counts, usage, determinism and placement of the compiler."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from cases import DATA, SPECS, student
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.chip import CHIPS, Chip
from deploy.compiler import compile_spec
from deploy.cores import CoreGraph
from deploy.fanout import allot, divide, fan_out
from deploy.lower import lower
from deploy.place import adjacency, hilbert_cells, place
from deploy.usage import usage_text

TINY, NS1E = CHIPS["tiny"], CHIPS["ns1e"]

USAGE = """\
on tiny                          used    available   share
cores                             112          143   78.3%
naive cores                        70          143   49.0%
input fan-out cores                27          143   18.9%
interior splitter cores            15          143   10.5%
axons                           2,821        7,840   36.0%
neurons                         2,625        4,928   53.3%
synapses                        6,779      344,960    2.0%
ticks to the votes                  6           33   18.2%

stage                     level  cores     axons   neurons    synapses
input fan-out                 0     27       223     1,154       1,154
layer0                        1     24     1,154       144       2,190
layer1                        2     12       144       528         839
fan-out to layer2             3     15       134       644         644
layer2                        4     32     1,038       128       1,412
layer3                        5      2       128        27         540
"""


def test_usage_table_of_a_small_student() -> None:
    assert usage_text(compile_spec(SPECS["conv_net"](), TINY).usage) == USAGE


def test_same_seed_same_chip_and_another_seed_another_placement() -> None:
    spec = SPECS["conv_net"]()
    first, again, other = (compile_spec(spec, TINY, seed=seed) for seed in (1, 1, 2))
    assert first.digest == again.digest == other.digest, "the seed decides places, not the graph"
    assert np.array_equal(first.place, again.place)
    assert not np.array_equal(first.place, other.place)


def test_host_copies_save_the_splitters_at_the_input() -> None:
    spec = SPECS["conv_net"]()
    split, copied = (compile_spec(spec, TINY, host_copies=host).usage for host in (False, True))
    assert split.total["input fan-out cores"][0] > 0 == copied.total["input fan-out cores"][0]
    assert copied.total["ticks to the votes"][0] == split.total["ticks to the votes"][0] - 1


def test_each_input_line_is_injected_once_unless_the_host_copies() -> None:
    spec = SPECS["conv_net"]()
    split, copied = (compile_spec(spec, TINY, host_copies=host).graph for host in (False, True))
    assert set(np.diff(split.input_start).tolist()) <= {0, 1}
    assert np.diff(copied.input_start).max() > 2


def test_neurons_that_nobody_reads_are_not_built() -> None:
    # 3x3 windows at stride 3 over 8 columns leave two columns unread.
    spec = student([(4, 1, 1, 0, 1), (6, 3, 3, 0, 2)], (2, 1, 1, 0, 1), (1, 6, 8), (5,), seed=6)
    compiled = compile_spec(spec, TINY)
    built = (compiled.probe_core[: 4 * 6 * 8] >= 0).reshape(4, 6, 8)
    assert not built[:, :, 6:].any()
    assert built[:, :, :6].any()


def test_levels_follow_one_another_and_ids_run_layer_by_layer() -> None:
    compiled = compile_spec(SPECS["conv_net"](), TINY)
    assert (np.diff(compiled.level) >= 0).all()
    assert compiled.latency_ticks == compiled.level.max() + 1 == compiled.layer_levels[-1] + 1


def test_places_are_cells_of_the_mesh_one_core_each() -> None:
    board = Chip("board", width=5, height=4, axons=70, neurons=44, axon_types=3, chips_x=3, chips_y=2)
    compiled = compile_spec(SPECS["conv_net"](), board)
    chip, x, y = compiled.place.T
    assert len(np.unique(compiled.place, axis=0)) == len(compiled.place)
    assert chip.max() < 6
    assert x.max() < 5
    assert y.max() < 4
    assert len(np.unique(chip)) > 1


def test_swaps_shorten_the_paths() -> None:
    before, after = compile_spec(SPECS["conv_net"](), TINY).mean_hops
    assert after < 0.8 * before


def test_reported_hops_are_those_of_the_places() -> None:
    compiled = compile_spec(SPECS["conv_net"](), TINY)
    core, neuron = np.nonzero(compiled.graph.target_core >= 0)
    here, there = compiled.place[core, 1:], compiled.place[compiled.graph.target_core[core, neuron], 1:]
    assert math.isclose(np.abs(here - there).sum(axis=1).mean(), compiled.mean_hops[1])


def test_measured_spikes_weigh_the_paths() -> None:
    graph = compile_spec(SPECS["conv_net"](), TINY).graph
    spikes = np.zeros(graph.neuron_type.shape)
    core, neuron = np.argwhere(graph.target_core >= 0)[-1]
    spikes[core, neuron] = 3.0
    _start, other, weight = adjacency(graph, spikes)
    assert weight.sum() == 6.0
    assert place(graph, TINY, seed=3, spikes=spikes).hops == 1.0, "the one pair that talks ends side by side"
    assert {int(core), int(graph.target_core[core, neuron])} >= set(other[weight > 0].tolist())


@pytest.mark.parametrize("size", [(8, 8), (11, 13), (1, 5), (1, 1)])
def test_the_curve_visits_every_cell_once(size: tuple[int, int]) -> None:
    cells = hilbert_cells(*size)
    assert len(np.unique(cells, axis=0)) == len(cells) == size[0] * size[1]


def test_the_curve_steps_to_a_neighbour() -> None:
    assert (np.abs(np.diff(hilbert_cells(16, 16), axis=0)).sum(axis=1) == 1).all()


@given(st.integers(0, 80), st.integers(1, 9), st.integers(2, 9))
def test_dividing_targets_loses_none(count: int, slots: int, width: int) -> None:
    targets = np.arange(2 * count).reshape(-1, 2)
    direct, links = divide(targets, slots, width)
    assert len(direct) + len(links) <= slots
    assert np.array_equal(np.concatenate([direct, *links]), targets)
    if count <= slots - 1 + width:
        assert len(links) <= 1
        assert all(len(link) <= width for link in links)


@settings(max_examples=50)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=20), st.integers(20, 60))
def test_a_full_producer_serves_as_many_features_whole_as_it_can(needs: list[int], slots: int) -> None:
    granted = allot(np.array(needs), slots)
    assert (granted >= 1).all()
    assert (granted <= needs).all()
    assert granted.sum() == min(sum(needs), slots)
    whole = np.sort(needs)[: (granted == needs).sum()]
    assert sorted(np.array(needs)[granted == needs].tolist())[: len(whole)] == whole.tolist()


def test_relays_fire_on_one_spike_and_keep_nothing() -> None:
    graph = compile_spec(SPECS["conv_net"](), TINY).graph
    assert graph.types.weight[0].tolist() == [1, 1, 1]
    assert graph.types.leak[0] == 0
    assert graph.types.memoryless.all()
    assert isinstance(graph, CoreGraph)


@pytest.mark.ground_truth
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded data at {DATA}; set SPIKECADE_DATA")
def test_the_published_one_chip_network_is_met_layer_by_layer() -> None:
    published = json.loads((DATA / "eedn_networks.json").read_text())["networks"][0]
    fields = ("features", "kernel", "stride", "pad", "groups")
    layers = [tuple(layer[field] for field in fields) for layer in published["layers"]]
    spec = student(layers, (16, 3, 1, 1, 1), (3, 32, 32), (10,), seed=0)
    tiles = lower(spec, NS1E)
    naive = [512, 512, 512, 512, 256, 256, 256, 256, 256, 128, 128, 32, 32, 32]
    # A tile of S-1024 that two edges of the 4x4 map cut reads 4x4 inputs, not 6x4: half the cores of the paper.
    assert sum(naive) == 3680
    assert [len(layer) for layer in tiles] == [*naive[:8], 128, *naive[9:]]
    fan = fan_out(tiles, [math.prod(layer.out_shape) for layer in spec.layers], 16 * 32 * 32, spec.vote, NS1E)
    assert fan.depths == (1, *[0] * 14), "splitters at the input only"
    assert len(fan.cores) == 3680 - 128 + 481

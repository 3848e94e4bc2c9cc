"""Core counts, usage, determinism and placement of the compiler."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from cases import DATA, SPECS, needs_networks, pictures, student
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.align import align
from deploy.chip import CHIPS, Chip, CompileError
from deploy.compiler import compile_spec, mapped
from deploy.cores import CoreGraph
from deploy.emulator import Emulator
from deploy.fanout import Draft, FanOut, allot, at_once, divide
from deploy.reduce import REDUCTIONS
from deploy.spec import StudentSpec
from deploy.tiling import naive_cores
from deploy.usage import usage_text
from deploy.verification import first_difference

TINY, NS1E = CHIPS["tiny"], CHIPS["ns1e"]
EVERY_COPY = 1000  # more than any line of these students has readers

USAGE = """\
on tiny                          used    available   share
cores                             112          143   78.3%
naive cores                       146          143  102.1%
layer cores                        70          143   49.0%
input fan-out cores                27          143   18.9%
interior splitter cores            15          143   10.5%
axons                           2,821        7,840   36.0%
neurons                         2,625        4,928   53.3%
synapses                        6,779      344,960    2.0%
crossbars                          88          112   78.6%
ticks to the votes                  6           33   18.2%

stage                     level  cores  naive       axons     neurons    synapses      relays
input fan-out                 0     27      0         223       1,154       1,154       1,154
layer0                        1     24     24       1,154         144       2,190           0
layer1                        2     12     24         144         528         839           0
fan-out to layer2             3     15      0         134         644         644         644
layer2                        4     32     96       1,038         128       1,412           0
layer3                        5      2      2         128          27         540           0
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
    split, copied = (compile_spec(spec, TINY, host_copies=host).usage for host in (1, EVERY_COPY))
    assert split.total["input fan-out cores"][0] > 0 == copied.total["input fan-out cores"][0]
    assert copied.total["ticks to the votes"][0] == split.total["ticks to the votes"][0] - 1


def test_each_input_line_is_injected_once_unless_the_host_copies() -> None:
    spec = SPECS["conv_net"]()
    split, copied = (compile_spec(spec, TINY, host_copies=host).graph for host in (1, EVERY_COPY))
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


def test_the_host_injects_no_line_more_often_than_it_may() -> None:
    spec = SPECS["conv_net"]()
    once, twice, four, every = (compile_spec(spec, TINY, host_copies=host) for host in (1, 2, 4, EVERY_COPY))
    for compiled, most in ((once, 1), (twice, 2), (four, 4)):
        assert np.diff(compiled.graph.input_start).max() == most
        assert first_difference(spec, compiled, pictures(spec, 4)) is None
    cores = [compiled.usage.total["input fan-out cores"][0] for compiled in (once, twice, four, every)]
    assert cores == sorted(cores, reverse=True)
    assert cores[0] > cores[2] > cores[3] == 0


@pytest.mark.parametrize("copies", [0, -3])
def test_a_host_that_injects_nothing_is_refused(copies: int) -> None:
    with pytest.raises(CompileError, match=rf"host_copies: found {copies}, must be 1 or more; a line that is never"):
        compile_spec(SPECS["one_layer"](), TINY, host_copies=copies)


def published(name: str) -> tuple[StudentSpec, int]:
    """(a random student of a published shape, cores that IBM reports); the first layer of the CIFAR net is off chip."""
    networks = json.loads((DATA / "eedn_networks.json").read_text())["networks"]
    net = next(net for net in networks if net["name"] == name)
    fields = ("features", "kernel", "stride", "pad", "groups")
    layers = [tuple(layer[field] for field in fields) for layer in net["layers"]]
    height, width = net["input"]["map"]
    front = (net["input"]["features"], 1, 1, 0, 1)
    return student(layers, front, (3, height, width), (11,), seed=0), int(net["reported_cores"])


@pytest.mark.ground_truth
@needs_networks
def test_the_published_one_chip_network_is_met_layer_by_layer() -> None:
    spec, reported = published("eedn_cifar_1chip")
    naive = (512, 512, 512, 512, 256, 256, 256, 256, 256, 128, 128, 32, 32, 32)
    assert naive_cores(spec, NS1E) == naive
    assert sum(naive) == 3680
    net, fan = mapped(spec, NS1E)
    counts = np.bincount([draft.layer for draft in fan.cores if not draft.depth])
    # A tile of S-1024 that two edges of the 4x4 map cut reads 4x4 inputs, not 6x4: half the cores of the paper.
    assert counts.tolist() == [*naive[:8], 128, *naive[9:]]
    assert fan.layer_levels == tuple(range(1, 15)), "splitters at the input only"
    assert len(fan.cores) == 3680 - 128 + 481 < reported
    assert len(net.layers) == 14


@pytest.mark.ground_truth
@needs_networks
@pytest.mark.parametrize(
    ("name", "naive", "most"), [("eedn_cifar_1chip", 3680, 3850), ("dvs_gesture", 3380, 2900)], ids=["cifar", "gesture"]
)
def test_published_networks_with_all_fan_out_on_chip_take_fewer_cores_than_ibm_reports(
    name: str, naive: int, most: int
) -> None:
    spec, reported = published(name)
    assert sum(naive_cores(spec, NS1E)) == naive
    plain, reduced = (len(mapped(spec, NS1E, passes=passes)[1].cores) for passes in ((), tuple(REDUCTIONS)))
    assert reduced <= most < reported
    assert reduced < plain < reported


@pytest.mark.ground_truth
@needs_networks
@pytest.mark.parametrize(
    ("name", "naive"), [("eedn_cifar_1chip", 3680), ("dvs_gesture", 3380)], ids=["cifar", "gesture"]
)
def test_published_networks_need_no_splitters_where_the_host_injects_every_copy(name: str, naive: int) -> None:
    spec, _ = published(name)
    assert sum(naive_cores(spec, NS1E)) == naive
    free, split = (mapped(spec, NS1E, EVERY_COPY, splitters=splitters)[1] for splitters in (False, True))
    assert not [draft for draft in free.cores if draft.depth], "not one"
    assert len(free.cores) <= naive
    assert free.layer_levels == tuple(range(len(spec.layers))), "a tick a layer"
    assert len(split.cores) <= len(free.cores), "splitters are taken only where they save cores"


@pytest.mark.ground_truth
@needs_networks
@pytest.mark.parametrize("name", ["eedn_cifar_1chip", "dvs_gesture"])
def test_input_fan_out_on_chip_keeps_to_the_splitter_rule(name: str) -> None:
    spec, _ = published(name)
    alone, whole = (mapped(spec, NS1E, host_copies)[1] for host_copies in (EVERY_COPY, 1))
    first = [core for core in alone.cores if core.layer == 0 and not core.depth]
    axons = sum(len(tile.kernel.row) for core in first for tile in core.tiles)
    assert len(whole.cores) - len(alone.cores) <= -(-axons // NS1E.neurons)


def test_layers_can_be_cut_to_need_no_splitters_behind_them() -> None:
    spec = SPECS["conv_net"]()
    split, free = (compile_spec(spec, TINY, host_copies=EVERY_COPY, splitters=splitters) for splitters in (True, False))
    assert split.usage.total["interior splitter cores"][0] > free.usage.total["interior splitter cores"][0]
    assert free.latency_ticks < split.latency_ticks
    assert first_difference(spec, free, pictures(spec, 4)) is None


def test_the_plain_rule_counts_the_published_eight_chip_network() -> None:
    # Esser et al. 2016: S-128, S-512(8), N-512(2), P-512(8), ... on 32x32, twice the features of the four-chip net.
    layers = [
        *((512, 3, 1, 1, 8), (512, 1, 1, 0, 2), (512, 2, 2, 0, 8), (1024, 3, 1, 1, 32), (1024, 1, 1, 0, 4)),
        *((1024, 2, 2, 0, 16), (2048, 3, 1, 1, 64), (2048, 1, 1, 0, 8), (2048, 2, 2, 0, 32), (4096, 3, 1, 1, 128)),
        *((4096, 1, 1, 0, 16), (4096, 1, 1, 0, 16), (4096, 1, 1, 0, 16), (8192, 1, 1, 0, 16)),
    ]
    wide = [(f, k, s, p, 2 * g) for f, k, s, p, g in layers]
    spec = student(wide, (128, 1, 1, 0, 1), (1, 32, 32), (10,), seed=0)
    assert sum(naive_cores(spec, NS1E)) == 27_648


def test_delays_beyond_the_chip_go_through_relays() -> None:
    # Splitters beside direct copies: what needs no splitter waits two ticks, where the chip knows one.
    narrow = Chip("narrow", width=60, height=61, axons=20, neurons=7)
    spec = student([(30, 2, 1, 1, 1), (15, 1, 1, 0, 3)], (2, 2, 1, 0, 1), (1, 6, 5), (4,), seed=9)
    free = compile_spec(spec, narrow)
    tight = compile_spec(spec, replace(narrow, max_delay=1))
    assert (free.graph.delay.max(), tight.graph.delay.max()) == (2, 1)
    assert tight.latency_ticks == free.latency_ticks
    assert tight.graph.shape[0] > free.graph.shape[0]
    assert first_difference(spec, tight, pictures(spec, 4), Emulator) is None


def far_apart(ahead: int) -> FanOut:
    """A core that drives four axons of another so many ticks ahead, one of its own next tick and a pin; one input."""
    targets = at_once(*np.array([[1, 3], [1, 0], [2, 0], [1, 1], [1, 2], [-32, 5]]).T)
    first = Draft(0, 1, (), 1, np.zeros(6, np.int64), targets)
    others = [Draft(layer, 0, (), 4, np.arange(0), np.zeros((0, 3), np.int64)) for layer in (1, 0)]
    level = np.array([0, ahead, 1], np.int32)
    return FanOut((first, *others), level, np.arange(2), np.array([[0, 0, 0], [1, 4, 0]]), (0, ahead))


@pytest.mark.parametrize(("ahead", "hops"), [(4, 0), (5, 1), (8, 1), (9, 2), (13, 3)])
def test_a_long_wait_takes_as_many_relays_as_it_must(ahead: int, hops: int) -> None:
    chip = Chip("short", width=9, height=9, axons=3, neurons=7, max_delay=4)
    fan = far_apart(ahead)
    made = align(fan, chip)
    # Five spikes wait, the input's too; a relay core takes three.
    assert len(made.cores) == len(fan.cores) + 2 * hops
    assert sorted(made.level[3:].tolist()) == [4 * hop for hop in range(1, hops + 1) for _ in range(2)]
    reached, waits = set(), []
    for source, entries in ((0, made.cores[0].targets), (None, made.entry)):
        for core, axon, _ in entries.tolist():
            now = 0 if source is None else int(made.level[source])
            while core >= 3:
                waits.append(int(made.level[core]) - now)
                now = int(made.level[core])
                core, axon, _ = made.cores[core].targets[axon].tolist()
            waits += [int(made.level[core]) - now] if core >= 0 else []
            reached.add((core, axon))
    assert reached == {(1, axon) for axon in range(5)} | {(2, 0), (-32, 5), (0, 0)}
    assert max(waits) <= 4

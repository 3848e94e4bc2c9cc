"""Limits are data: every violation is reported at once, with what to try."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cases import SPECS, one_neuron, random_graph, student

from deploy.checks import (
    cell_violations,
    compiled_violations,
    count_drivers,
    graph_violations,
    reach_violations,
    refuse_all,
)
from deploy.chip import CHIPS, Chip, CompileError, chip_named, refuse
from deploy.compiled import Compiled, check_compiled
from deploy.compiler import compile_spec
from deploy.cores import CoreGraph, NeuronTypes

TINY = CHIPS["tiny"]


def compiled() -> Compiled:
    return compile_spec(SPECS["two_heads"](), TINY)


def test_one_ns1e_is_the_chip_of_the_data_sheet() -> None:
    chip = chip_named("ns1e")
    assert (chip.cores, chip.axons, chip.neurons, chip.inputs, chip.max_delay) == (4096, 256, 256, 128, 15)


def test_a_board_tiles_chips_edge_to_edge() -> None:
    board = Chip("board", width=3, height=5, axons=8, neurons=9, chips_x=2, chips_y=4)
    assert board.mesh == (6, 20)
    assert board.cores == 120


def test_an_unknown_chip_names_the_known_ones() -> None:
    expected = r"^chip: found 'ns2', allowed ns16e, ns16e4, ns1e, tiny, tiny4; name one of these$"
    with pytest.raises(CompileError, match=expected):
        chip_named("ns2")


def test_refuse_lists_everything_or_does_nothing() -> None:
    refuse([])
    with pytest.raises(CompileError, match=r"^2 limits broken\na\nb$"):
        refuse(["a", "b"])


def test_every_layer_that_fits_no_core_is_named_at_once() -> None:
    spec = student([(12, 4, 1, 1, 1), (40, 3, 1, 1, 1)], (3, 3, 1, 0, 1), (1, 9, 8), (2,), seed=1)
    expected = (
        r"^2 limits broken\nlayer0: 48 inputs a neuron, 35 fit a core of tiny; try more groups or a smaller kernel"
        r"\nlayer1: 108 inputs a neuron, 35 fit"
    )
    with pytest.raises(CompileError, match=expected):
        compile_spec(spec, TINY)


def test_a_student_without_votes_is_refused() -> None:
    spec = SPECS["one_layer"]()
    silent = replace(spec, vote=np.full_like(spec.vote, -1))
    with pytest.raises(CompileError, match=rf"vote: 0 of {len(spec.vote)} neurons vote, at least 1 must; deal"):
        compile_spec(silent, TINY)


def test_too_many_cores_are_refused_with_both_numbers() -> None:
    small = replace(TINY, name="small", width=2, height=3)
    with pytest.raises(CompileError, match=r"graph: \d+ cores used, 6 exist on small; try fewer features or a"):
        compile_spec(SPECS["conv_net"](), small)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axons": 69}, r"^graph: cores of 70x44, 69x44 on limited; compile for this chip$"),
        ({"axon_types": 2}, r"^graph: 3 axon types, 2 exist on limited; use fewer$"),
        ({"max_delay": 0}, r"^core 0, neuron 0: delay 1, allowed 1..0; relay it through another core$"),
        (
            {"max_weight": 0},
            r"^types.weight\[0\]\[0\]: magnitude 1, allowed 0 on limited; scale it down \(core 0 neurons 0",
        ),
        ({"max_leak": 0}, r"^types.leak\[\d\]: magnitude \d, allowed 0 on limited"),
    ],
    ids=["sizes", "types", "delay", "weight", "leak"],
)
def test_each_limit_of_a_graph_has_its_message(change: dict[str, Any], message: str) -> None:
    graph = compiled().graph
    problems = list(graph_violations(graph, replace(TINY, name="limited", **change)))
    assert re.search(message, problems[0])
    assert len({problem.split(":")[0] for problem in problems}) == len(problems), "one line each"


def test_thresholds_and_potentials_are_limits_too() -> None:
    graph = one_neuron(np.array([0]), 1, alpha=300_000, beta=300_001, reset=-400_000, initial=400_001)
    found = [problem.split(",")[0] for problem in graph_violations(graph, CHIPS["ns1e"])]
    assert found == [
        "types.alpha[0]: magnitude 300000",
        "types.beta[0]: magnitude 300001",
        "types.reset[0]: magnitude 400000",
        "types.initial[0]: magnitude 400001",
    ]


def test_a_compiled_graph_drives_each_axon_once() -> None:
    made = compiled()
    used = made.graph.axon_type != CoreGraph.UNUSED_AXON
    assert np.array_equal(count_drivers(made.graph), used.astype(int))
    assert list(compiled_violations(made.graph, made.level)) == []


def first_relay(graph: CoreGraph) -> tuple[int, int]:
    core, neuron = np.argwhere(graph.target_core >= 0)[0]
    return int(core), int(neuron)


def test_a_moved_target_leaves_one_axon_twice_driven_and_one_not_at_all() -> None:
    made = compiled()
    core, neuron = first_relay(made.graph)
    axon = made.graph.target_axon.copy()
    axon[core, neuron] ^= 1
    problems = list(compiled_violations(replace(made.graph, target_axon=axon), made.level))
    target = made.graph.target_core[core, neuron]
    assert problems == [
        f"core {target}, axon {axon[core, neuron]}: 2 drivers, allowed 1; copy the neuron instead",
        f"core {target}, axon {axon[core, neuron] ^ 1}: 0 drivers, needs 1; drop the axon",
    ]


def test_a_driven_axon_that_does_not_exist_is_found() -> None:
    made = compiled()
    core, neuron = first_relay(made.graph)
    axon = made.graph.target_axon.copy()
    axon[core, neuron] = TINY.axons - 1
    problems = list(compiled_violations(replace(made.graph, target_axon=axon), made.level))
    assert problems[-1].endswith("1 drivers, but is unused; drop the neuron")


def test_a_late_spike_is_found() -> None:
    made = compiled()
    core, neuron = first_relay(made.graph)
    delay = made.graph.delay.copy()
    delay[core, neuron] = 2
    (problem,) = compiled_violations(replace(made.graph, delay=delay), made.level)
    assert problem == f"core {core}, neuron {neuron}: delay 2, its target is due after 1; align the delays"


def test_an_input_with_both_weights_is_found() -> None:
    made = compiled()
    crossbar = made.graph.crossbar[made.graph.crossbar_of].copy()
    crossbar[-1, 0, 0] |= np.uint64(3)
    own = np.arange(len(crossbar), dtype=np.int32)
    (problem,) = compiled_violations(replace(made.graph, crossbar=crossbar, crossbar_of=own), made.level)
    where = f"core {len(own) - 1}, neuron 0, axons 0 and 1"
    assert problem == f"{where}: weights -1 and +1 on one input, allowed one of them; make the crossbar again"


def test_two_cores_on_one_cell_are_refused() -> None:
    made = compiled()
    place = made.place.copy()
    place[1] = place[0]
    with pytest.raises(
        CompileError, match=r"^1 limits broken\nplace: chip 0, x \d+, y \d+ holds cores 0, 1, allowed one; place"
    ):
        check_compiled(replace(made, place=place))


GRAPH = one_neuron(np.array([0, 1]), 2, weight=[[1, 2]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"origin": "other"}, "origin: 'other', must be 'compiled' or 'imported'"),
        ({"crossbar": np.zeros((1, 2, 1), np.uint64)}, r"crossbar: shape \(1, 2, 1\), must be \(1, 1, 1\)"),
        ({"crossbar": np.zeros((1, 1), np.uint64)}, "axon_type, crossbar: must have 2 and 3 axes"),
        ({"crossbar": np.zeros((1, 1, 0), np.uint64)}, "axon_type, crossbar: 2 axons and 0 neurons a core"),
        ({"crossbar_of": np.ones(1, np.int32)}, r"crossbar_of: values 1..1, allowed 0..0"),
        ({"axon_type": np.array([[0, 2]], np.uint8)}, "axon_type: types beyond 1, the neurons have 2 weights"),
        ({"axon_type": np.array([[0, 1]], np.int8)}, "axon_type: dtype int8, must be uint8"),
        ({"neuron_type": np.full((1, 1), 2, np.uint16)}, r"neuron_type: values 2..2, allowed 0..1"),
        ({"target_core": np.full((1, 1), 1, np.int32)}, r"target_core: values 1..1, allowed -\d+..0"),
        ({"target_core": np.full((1, 1), -5, np.int32)}, "target_core: values between -32 and -2, which mean"),
        (
            {"target_core": np.zeros((1, 1), np.int32), "target_axon": np.full((1, 1), 2, np.uint8)},
            "target_axon: axon 2",
        ),
        ({"target_core": np.zeros((1, 1), np.int32), "delay": np.zeros((1, 1), np.uint8)}, r"delay: 0 towards a core"),
        ({"delay": np.full((1, 1), 16, np.uint8)}, r"delay: values 16..16, allowed 0..15"),
        ({"input_start": np.array([0, 2, 1], np.int32)}, "input_start: must rise from 0 to 2"),
        ({"input_core": np.array([0, 1], np.int32)}, r"input_core: values 0..1, allowed 0..0"),
        ({"input_axon": np.array([0, 2], np.uint8)}, r"input_axon: values 0..2, allowed 0..1"),
        ({"input_delay": np.array([0, 16], np.uint8)}, r"input_delay: values 0..16, allowed 0..15"),
        ({"output_pin": np.ones(1, np.int32)}, "output_pin: 1 pins that neurons drive are missing, first 0"),
        ({"output_pin": np.zeros(2, np.int32), "output_answer": np.zeros(2, np.int16)}, "output_pin: must rise"),
        ({"output_answer": np.full(1, -2, np.int16)}, r"output_answer: values -2..-2, allowed -1"),
    ],
)
def test_a_graph_names_the_field_that_is_wrong(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        replace(GRAPH, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": np.full(1, 3, np.uint8)}, r"types.gamma: values 3..3, allowed 0..2"),
        ({"beta": np.full(1, -1, np.int32)}, r"types.beta: values -1..-1, allowed 0"),
        ({"leak": np.zeros(2, np.int16)}, r"types.leak: shape \(2,\), must be \(1,\)"),
        ({"weight": np.zeros(1, np.int16)}, r"types.weight: shape \(1,\), must have 2 axes"),
        ({"random_weight": np.full(1, 4, np.uint8)}, r"types.random_weight: values 4..4, allowed 0..3"),
    ],
)
def test_neuron_types_name_the_field_that_is_wrong(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        replace(GRAPH.types, **change)


def test_records_show_shapes_and_can_not_be_changed() -> None:
    assert "crossbar uint64 [1, 1, 1]" in repr(GRAPH)
    assert "weight int16 [1, 2]" in repr(GRAPH)
    with pytest.raises(ValueError, match="read-only"):
        GRAPH.crossbar[0, 0, 0] = 0
    assert isinstance(GRAPH.types, NeuronTypes)


def test_every_violation_is_listed_with_its_place() -> None:
    made = compiled()
    late = np.argwhere(made.graph.target_core >= 0)[:7]
    delay = made.graph.delay.copy()
    delay[late[:, 0], late[:, 1]] = 5
    problems = list(compiled_violations(replace(made.graph, delay=delay), made.level))
    assert [re.match(r"core (\d+), neuron (\d+): delay 5, its", problem).groups() for problem in problems] == [  # type: ignore[union-attr]
        (str(core), str(neuron)) for core, neuron in late
    ]


def test_a_long_report_ends_with_a_count() -> None:
    refuse_all([])
    with pytest.raises(CompileError, match=r"^200 limits broken\n") as whole:
        refuse_all(f"line {i}" for i in range(200))
    assert str(whole.value).splitlines()[1:] == [f"line {i}" for i in range(200)]
    with pytest.raises(CompileError, match=r"^203 limits broken\n(.*\n){200}and 3 more$"):
        refuse_all(f"line {i}" for i in range(203))


def test_a_limit_broken_by_a_kind_of_neuron_names_every_neuron_of_it() -> None:
    graph = random_graph(3, cores=3, axons=5, neurons=9)
    kind = int(graph.neuron_type[graph.neuron_type > 0][0])
    leak = graph.types.leak.copy()
    leak[kind - 1] = 300
    wide = replace(graph, types=replace(graph.types, leak=leak))
    (problem,) = (p for p in graph_violations(wide, CHIPS["ns1e"]) if p.startswith("types.leak"))
    assert problem.startswith(f"types.leak[{kind - 1}]: magnitude 300, allowed 255 on ns1e; scale it down (")
    said = {
        (int(core), neuron)
        for core, spans in re.findall(r"core (\d+) neurons ([-\d, ]+)", problem)
        for low, _, high in (span.partition("-") for span in spans.split(", "))
        for neuron in range(int(low), int(high or low) + 1)
    }
    assert said == {(int(core), int(neuron)) for core, neuron in np.argwhere(graph.neuron_type == kind)}


def test_values_out_of_range_are_listed_with_core_neuron_value_and_limit() -> None:
    graph = random_graph(3, cores=3, axons=5, neurons=9)
    delay, target = graph.delay.copy(), graph.target_core.copy()
    late = [(0, 8), (2, 1)]
    for core, neuron in late:
        delay[core, neuron], target[core, neuron] = 16 + core, -32 - core
    with pytest.raises(ValueError, match=r"^delay: values \d+..18, allowed 0..15\n") as error:
        replace(graph, delay=delay)
    assert str(error.value).splitlines()[1:] == [
        "core 0, neuron 8: delay 16, allowed 0..15",
        "core 2, neuron 1: delay 18, allowed 0..15",
    ]
    nowhere = graph.target_axon.copy()
    to_core = np.argwhere(graph.target_core >= 0)[:2]
    nowhere[tuple(to_core.T)] = 5
    with pytest.raises(ValueError, match=r"^delay: ") as error:
        replace(graph, delay=delay, target_axon=nowhere)
    lines = str(error.value).splitlines()
    for core, neuron in to_core:
        assert f"core {core}, neuron {neuron}: target_axon 5, allowed 0..4" in lines


def test_of_very_many_wrong_values_the_first_are_listed_and_the_rest_counted() -> None:
    graph = random_graph(3, cores=3, axons=5, neurons=90)
    with pytest.raises(ValueError, match=r"^delay: values 16..16, allowed 0..15\n(.*\n){199}and 71 more$"):
        replace(graph, delay=np.full_like(graph.delay, 16), target_core=np.full_like(graph.target_core, -1))


def test_random_draws_are_allowed_on_request_only() -> None:
    graph = one_neuron(np.array([0]), 1, random_leak=1)
    (problem,) = graph_violations(graph, CHIPS["ns1e"])
    assert problem.startswith(
        "types[0]: draws random numbers, allowed only on request; the real chip's are not public ("
    )
    assert list(graph_violations(graph, CHIPS["ns1e"], stochastic=True)) == []


def test_two_neurons_on_one_pin_are_found() -> None:
    made = compiled()
    core, neuron, _ = made.graph.pins()
    to, axon = made.graph.target_core.copy(), made.graph.target_axon.copy()
    to[core[1], neuron[1]], axon[core[1], neuron[1]] = to[core[0], neuron[0]], axon[core[0], neuron[0]]
    problems = list(compiled_violations(replace(made.graph, target_core=to, target_axon=axon), made.level))
    ends = [f"core {core[i]}, neuron {neuron[i]}: pin 0 has 2 drivers, allowed 1; use another" for i in (0, 1)]
    assert problems == ends


def test_a_line_that_comes_at_the_wrong_tick_is_found() -> None:
    made = compiled()
    delay = made.graph.input_delay.copy()
    delay[2] += 1
    (problem,) = compiled_violations(replace(made.graph, input_delay=delay), made.level)
    entry = f"core {made.graph.input_core[2]}, axon {made.graph.input_axon[2]}"
    assert re.fullmatch(rf"input line \d+, {entry}: delay 1, the core is due after 0; align the delays", problem)
    problems = list(graph_violations(replace(made.graph, input_delay=delay * 12), TINY))
    assert re.match(rf"input line \d+, {entry}: delay 12, allowed 0..9; relay it", problems[0])


def test_places_that_do_not_exist_are_found() -> None:
    place = np.array([[0, 0, 0], [0, 11, 0], [1, 0, 0], [0, 0, 13], [0, 10, 12]], np.int16)
    assert [problem.split(" does")[0] for problem in cell_violations(place, TINY)] == [
        "core 1: place chip 0, x 11, y 0",
        "core 2: place chip 1, x 0, y 0",
        "core 3: place chip 0, x 0, y 13",
    ]


def test_targets_out_of_reach_are_found_across_chips() -> None:
    graph = compiled().graph
    board = replace(TINY, name="board", chips_x=2, chips_y=3, reach=20)
    place = np.zeros((graph.shape[0], 3), np.int16)
    target = int(graph.target_core[graph.target_core >= 0][0])
    drivers = np.argwhere(graph.target_core == target)
    place[target] = (5, 10, 8)  # x 11 + 10, y 26 + 8
    found = list(reach_violations(graph, place, board))
    core, neuron = drivers[0]
    assert found[0] == (
        f"core {core}, neuron {neuron}: target core {target} lies 21, 34 away, allowed 20 in x and in y; "
        "relay it through a core between"
    )
    assert len(found) == len(drivers) + (graph.target_core[target] >= 0).sum()
    assert list(reach_violations(graph, place, replace(board, reach=34))) == []

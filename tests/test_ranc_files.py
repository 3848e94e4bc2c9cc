"""RANC's simulator files: input, config and output read and written; graphs of grids and grids of graphs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Recording, equal_runs, needs_data, random_graph, read_recording, recordings
from hypothesis import given, settings
from hypothesis import strategies as st
from interchange_cases import ranc_graph_case, random_spikes, spike_rows, with_types
from numpy.typing import NDArray

from deploy.chip import CompileError
from deploy.cores import CoreGraph
from deploy.emulator import Emulator
from deploy.engines import ENGINES
from deploy.files import FormatError
from deploy.graphs import canonical, load_graph, save_graph
from deploy.ranc import (
    RancConfig,
    RancModel,
    config_text,
    input_of,
    input_text,
    output_text,
    read_config,
    read_input,
    read_output,
)
from deploy.ranc_graph import graph_ranc, ranc_graph
from deploy.side import save_side, with_side
from deploy.spikes import addressed, all_pins, run

ground_truth = pytest.mark.ground_truth
INPUTS = recordings("ranc_traces/json/*.input.json") or [Path("absent.input.json")]
each_input = pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.name.partition(".")[0])


def beside(path: Path, what: str) -> Path:
    return path.with_name(path.name.replace("input.json", what))


def read(path: Path) -> RancModel:
    return read_input(path, read_config(beside(path, "config.json")))


NEURON: dict[str, Any] = {
    "weights": [1, -2, 3, 0],
    "leak": 1,
    "positive_threshold": 2,
    "negative_threshold": -3,
    "reset_potential": 4,
    "reset_mode": 0,
    "current_potential": 1,
    "destination_core_offset": [1, 0],
    "destination_axon": 2,
    "destination_tick": 1,
}
CONFIG = RancConfig(num_neurons=3, num_axons=4, num_cores_x=3, num_cores_y=2, neuron_reset_type=1)


def small() -> dict[str, Any]:
    """Two cores and a bus: a neuron to the other core, one to the bus, one to an empty cell."""
    second = NEURON | {"destination_core_offset": [2, 0], "destination_axon": 4}
    third = NEURON | {"destination_core_offset": [0, 1], "destination_axon": 3, "positive_threshold": 2147483647}
    packets = [[{"destination_core": [1, 0], "destination_axon": 3, "destination_tick": 14}], [], []]
    one = {"coordinates": [0, 0], "axons": [0, 1, 3], "connections": [[1, 0, 1], [0, 1, 1], [1, 1, 1]]}
    one["neurons"] = [NEURON, second, third]  # type: ignore[assignment]
    back = NEURON | {"destination_core_offset": [-1, 0], "destination_axon": 0}
    two = {"coordinates": [1, 0], "axons": [2, 2, 2, 2], "connections": [[1, 1, 0, 1]], "neurons": [back]}
    return {"packets": packets, "output_bus": {"coordinates": [2, 0], "num_outputs": 5}, "cores": [one, two]}


# ---- the simulator's own files


@needs_data
@ground_truth
@each_input
def test_ranc_files_are_written_back_with_equal_content(path: Path) -> None:
    model = read(path)
    assert json.loads(input_text(model)) == json.loads(path.read_text())
    config = beside(path, "config.json")
    assert json.loads(config_text(read_config(config))) == json.loads(config.read_text())


@needs_data
@ground_truth
@each_input
def test_ranc_files_come_back_from_a_file_of_ours(path: Path, tmp_path: Path) -> None:
    graph, _, extra = ranc_graph(read(path), path)
    save_graph(graph, tmp_path / "g.npz", extra)
    assert json.loads(input_text(graph_ranc(*load_graph(tmp_path / "g.npz")))) == json.loads(path.read_text())


@needs_data
@ground_truth
@pytest.mark.parametrize("engine", sorted(ENGINES))
@each_input
def test_the_simulators_text_is_met_byte_for_byte(path: Path, engine: str) -> None:
    expected = beside(path, "output.txt").read_bytes()
    graph, spikes, _ = ranc_graph(read(path), path)
    driven, lines = addressed(graph, spikes)
    ticks = len(expected.splitlines()) - 1
    found = run(ENGINES[engine](driven), lines, ticks).bits(ticks, all_pins(graph))
    assert output_text(found).encode() == expected
    assert np.array_equal(read_output(beside(path, "output.txt")), found) and found.any()


@needs_data
@ground_truth
@each_input
def test_the_recorded_arrays_are_the_same_graph_and_input(path: Path) -> None:
    recorded = read_recording(path.parents[1] / path.name.replace(".input.json", ".npz"))
    graph, spikes, _ = ranc_graph(read(path), path)
    lines = {name: getattr(graph, name) for name in LINES}
    same = replace(recorded.graph, **lines, axon_type=graph.axon_type, neuron_type=_blanked(recorded, graph))
    assert canonical(same).digest == canonical(graph).digest
    known = graph.axon_type != CoreGraph.UNUSED_AXON
    assert np.array_equal(recorded.graph.axon_type[known], graph.axon_type[known])
    arrays = recorded.arrays
    rows = np.unique(np.stack([arrays["in_tick"], arrays["in_core"], arrays["in_axon"]], axis=1), axis=0)
    assert np.array_equal(spike_rows(spikes), rows)


LINES = ("input_start", "input_core", "input_axon", "input_delay")


def _blanked(recorded: Recording, like: CoreGraph) -> NDArray[np.uint16]:
    """Neuron types without those by which the recorded arrays fill a core up, which never fire."""
    filled = like.neuron_type == 0
    assert not recorded.arrays["spike_count"][filled].any()
    return np.where(filled, 0, recorded.graph.neuron_type).astype(np.uint16)


@needs_data
@ground_truth
@each_input
def test_the_recorded_run_is_met_from_another_drawing_of_the_grid(path: Path) -> None:
    graph, spikes, _ = ranc_graph(read(path), path)
    model = graph_ranc(graph, None, spikes)
    again, packets, _ = ranc_graph(input_of(input_text(model), model.config, "a"), "a")
    assert canonical(again).digest == canonical(graph).digest
    assert np.array_equal(spike_rows(packets), spike_rows(spikes))


# ---- small grids


def test_a_grid_is_read_field_by_field() -> None:
    graph, spikes, extra = ranc_graph(input_of(json.dumps(small()), CONFIG, "a"), "a")
    assert graph.shape == (2, 4, 3) and graph.negative_inclusive
    assert graph.axon_type.tolist() == [[0, 1, 3, CoreGraph.UNUSED_AXON], [2, 2, 2, 2]]
    assert graph.target_core.tolist() == [[1, -32, -1], [0, -1, -1]]
    assert graph.target_axon.tolist() == [[2, 4, 0], [0, 0, 0]]
    assert graph.delay.tolist() == [[2, 2, 0], [2, 0, 0]]
    kind = graph.neuron_type[0, 0] - 1
    names = ("leak", "alpha", "beta", "gamma", "kappa", "reset", "initial")
    assert [int(getattr(graph.types, name)[kind]) for name in names] == [1, 2, 3, 0, 0, 4, 1]
    assert graph.types.weight[kind].tolist() == [1, -2, 3, 0]
    assert graph.neuron_type[1].tolist()[1:] == [0, 0], "lists may be shorter than a core"
    assert (spikes.tick.tolist(), spikes.core.tolist(), spikes.axon.tolist()) == ([14], [1], [3])
    assert graph.output_pin.tolist() == [0, 1, 2, 3, 4]
    free = list(zip(graph.input_core.tolist(), graph.input_axon.tolist(), strict=True))
    assert free == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 3)]
    assert json.loads(input_text(graph_ranc(graph, extra))) == small()


def test_where_there_is_no_neuron_ranc_gets_one_that_can_do_nothing() -> None:
    graph = ranc_graph_case(4, cores=2, axons=5, neurons=6)
    holes = replace(graph, neuron_type=np.where(np.arange(6) % 2, graph.neuron_type, 0).astype(np.uint16))
    model = graph_ranc(holes)
    blank = [core.columns["positive_threshold"][0] for core in model.cores]
    assert blank == [2147483647] * 2 and not model.cores[0].connections[0].any()
    again, _, _ = ranc_graph(model, "a")
    assert np.array_equal(again.neuron_type > 0, holes.neuron_type > 0)


@pytest.mark.parametrize("seed", range(6))
def test_a_graph_comes_back_whole_from_rancs_terms(seed: int, tmp_path: Path) -> None:
    graph = ranc_graph_case(seed)
    spikes = random_spikes(graph, 25, seed)
    path = tmp_path / "g.json"
    model = graph_ranc(graph, None, spikes)
    path.write_text(input_text(model))
    save_side(graph, {"ibm": {}}, path, path.read_bytes(), "ranc")
    again, packets, extra = ranc_graph(read_input(path, model.config), path)
    again, extra = with_side(again, extra, path, path.read_bytes())
    assert canonical(again).digest == canonical(graph).digest and extra["ibm"] == {}
    assert np.array_equal(spike_rows(packets), spike_rows(spikes))
    assert equal_runs(Emulator(graph), Emulator(again), 25, seed) > 0


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 90), st.integers(1, 90))
def test_any_size_of_core_comes_back_from_rancs_text(seed: int, cores: int, axons: int, neurons: int) -> None:
    graph = ranc_graph_case(seed, cores=cores, axons=axons, neurons=neurons)
    model = graph_ranc(graph)
    again, _, extra = ranc_graph(input_of(input_text(model), model.config, "a"), "a")
    assert again.shape == (cores, axons, neurons)
    assert input_text(graph_ranc(again, extra)) == input_text(model)
    width = max(int(np.abs(core.offsets).max(initial=0)) for core in model.cores)
    assert width < max(model.config.num_cores_x, model.config.num_cores_y)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"random_weight": 1}, "stochastic synapses, RANC has none; clear the flags"),
        ({"random_leak": 1}, "a stochastic leak, RANC has none"),
        ({"random_mask": 3}, "a stochastic threshold, RANC has none"),
        ({"epsilon": 1, "leak": -2}, "a leak that follows the sign of V, RANC has none"),
        ({"gamma": 2, "kappa": 0}, r"no reset \(gamma 2\), RANC has 0 and 1"),
        ({"kappa": 1, "gamma": 1, "weight": -1}, "a floor at -beta, RANC has none"),
        ({"kappa": 1, "gamma": 0, "reset": 3, "beta": 2, "leak": -1}, "a floor at -beta, RANC has none"),
    ],
)
def test_what_ranc_can_not_say_is_refused_with_its_neurons(columns: dict[str, int], message: str) -> None:
    graph = with_types(ranc_graph_case(2), **columns)
    used = len(np.unique(graph.neuron_type[graph.neuron_type > 0]))
    with pytest.raises(CompileError, match=rf"^{used} limits broken\n(core \d+ neurons \d[-\d, ]*(; )?)+.*: {message}"):
        graph_ranc(graph)


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize(
    "columns",
    [
        {"kappa": 1, "gamma": 0, "reset": 3, "beta": 3},
        {"kappa": 1, "gamma": 1, "beta": 1, "leak": 1, "initial": 0, "weight": 2, "alpha": 5},
        {"kappa": 1, "gamma": 0, "reset": 0, "beta": 1, "leak": 0, "initial": 0, "weight": 1, "alpha": 3},
        {"epsilon": 1, "leak": 0},
    ],
)
def test_floors_that_are_never_met_and_flags_without_effect_pass(columns: dict[str, int], inclusive: bool) -> None:
    graph = replace(with_types(ranc_graph_case(2), **columns), negative_inclusive=inclusive)
    again, _, _ = ranc_graph(graph_ranc(graph), "a")
    lines = {name: getattr(graph, name) for name in ("input_start", "input_core", "input_axon", "input_delay")}
    pins = {name: getattr(graph, name) for name in ("output_pin", "output_answer")}
    assert equal_runs(Emulator(graph), Emulator(replace(again, **lines, **pins)), 40, 3) > 0


def test_a_floor_that_is_met_only_by_the_inclusive_rule_is_refused_under_it() -> None:
    graph = with_types(ranc_graph_case(2), kappa=1, gamma=0, reset=-1, beta=1, leak=0, initial=0, weight=1)
    assert graph_ranc(replace(graph, negative_inclusive=False)).config.neuron_reset_type == 0
    with pytest.raises(CompileError, match="a floor at -beta"):
        graph_ranc(replace(graph, negative_inclusive=True))


def test_a_delay_of_0_to_a_pin_is_refused() -> None:
    graph = ranc_graph_case(2)
    wrong = replace(graph, delay=np.where(graph.target_core >= 0, graph.delay, 0).astype(np.uint8))
    with pytest.raises(CompileError, match=r"core \d+, neuron \d+: delay 0 to a pin, RANC has 1\.\.15; set it to 1"):
        graph_ranc(wrong)


def test_a_graph_without_cores_is_refused() -> None:
    with pytest.raises(CompileError, match=r"graph: no cores, a grid has at least one"):
        graph_ranc(random_graph(1, cores=0, lines=0))


CORE, PACKET = ("cores", 0), ("packets", 0, 0)
CHANGES: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("cores",), None, r"cores: missing or no list"),
    (("output_bus",), [], r"output_bus: missing or no object"),
    (("output_bus", "num_outputs"), 0, r"output_bus\.num_outputs: found 0, allowed integers 1\.\."),
    (("output_bus", "coordinates"), [3, 0], r"output_bus\.coordinates: \[3, 0\] is outside the grid of 3 x 2"),
    (("output_bus", "coordinates"), [1, 0], r"cores\[1\]\.coordinates: \[1, 0\] is taken"),
    (("surplus",), 1, r"surplus: unknown key, allowed cores, output_bus, packets"),
    (("packets", 1), {}, r"packets\[1\]: must be a list of packets"),
    (PACKET, 7, r"packets\[0\]\[0\]: must be an object"),
    ((*PACKET, "destination_core"), [2, 1], r"packets\[0\]\[0\]\.destination_core: no core at \[2, 1\]"),
    ((*PACKET, "destination_core"), [2], r"destination_core: must be a list of 2 integers"),
    ((*PACKET, "destination_axon"), 4, r"destination_axon: found 4, allowed integers 0\.\.3"),
    ((*PACKET, "destination_tick"), 15, r"destination_tick: found 15, allowed integers 0\.\.14"),
    (CORE, 5, r"cores\[0\]: must be an object"),
    ((*CORE, "coordinates"), [-1, 0], r"cores\[0\]\.coordinates\[0\]: found -1, allowed 0\.\."),
    ((*CORE, "axons"), [0, 4, 1], r"cores\[0\]\.axons\[1\]: found 4, allowed 0\.\.3"),
    ((*CORE, "axons"), [0] * 5, r"cores\[0\]\.axons: 5 axons, the config allows 4"),
    ((*CORE, "axons"), 3, r"cores\[0\]\.axons: must be a list of integers"),
    ((*CORE, "neurons"), [NEURON] * 4, r"cores\[0\]\.neurons: 4 neurons, the config allows 3"),
    ((*CORE, "neurons"), [NEURON], r"cores\[0\]\.connections: 3 rows, must be one for each of 1 neurons"),
    ((*CORE, "connections", 1), [0, 1], r"connections\[1\]: must be 3 digits 0 or 1, one for each axon"),
    ((*CORE, "connections", 1), [0, True, 1], r"connections\[1\]: must be 3 digits"),
    ((*CORE, "neurons", 0), None, r"cores\[0\]\.neurons\[0\]: must be an object"),
    ((*CORE, "neurons", 0, "leak"), True, r"neurons\[0\]\.leak: found True, allowed integers"),
    ((*CORE, "neurons", 0, "leak"), 1 << 31, r"neurons\[0\]\.leak: found 2147483648, allowed"),
    ((*CORE, "neurons", 0, "reset_mode"), 2, r"reset_mode: found 2, allowed integers 0\.\.1"),
    ((*CORE, "neurons", 0, "weights"), [1, 2, 3], r"weights: must be a list of 4 integers"),
    ((*CORE, "neurons", 0, "destination_core"), [1, 0], r"neurons\[0\]\.destination_core: unknown key"),
    ((*CORE, "neurons", 0, "destination_core_offset"), [-1, 0], r"leads to \[-1, 0\], outside the grid of \[3, 2\]"),
    ((*CORE, "neurons", 1, "destination_axon"), 5, r"neurons\[1\]\.destination_axon: found 5, allowed 0\.\.4"),
    ((*CORE, "neurons", 0, "destination_axon"), 4, r"neurons\[0\]\.destination_axon: found 4, allowed 0\.\.3"),
]


def changed(where: tuple[str | int, ...], value: Any) -> str:
    facts = json.loads(json.dumps(small()))
    holder = facts
    for step in where[:-1]:
        holder = holder[step]
    holder[where[-1]] = value
    return json.dumps(facts, indent=1)


@pytest.mark.parametrize(("where", "value", "message"), CHANGES)
def test_a_fault_is_told_by_line_column_and_field(where: tuple[str | int, ...], value: Any, message: str) -> None:
    with pytest.raises(
        FormatError, match=rf"a: \d+ fields are wrong; mend the file\n(.*\n)*line \d+, column \d+: .*{message}"
    ):
        input_of(changed(where, value), CONFIG, "a")


def test_a_missing_key_is_told() -> None:
    facts = small()
    del facts["cores"][1]["neurons"][0]["leak"]
    with pytest.raises(FormatError, match=r"cores\[1\]\.neurons\[0\]\.leak: missing"):
        input_of(json.dumps(facts), CONFIG, "a")


@pytest.mark.parametrize("key", ["num_neurons", "neuron_reset_type", "scheduler_trace_verbosity"])
def test_every_key_of_a_config_is_needed(key: str, tmp_path: Path) -> None:
    facts = json.loads(config_text(CONFIG))
    del facts[key]
    (tmp_path / "c.json").write_text(json.dumps(facts))
    with pytest.raises(FormatError, match=rf"c\.json: 1 fields are wrong.*\n.*{key}: missing"):
        read_config(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_axons", 257), ("num_neurons", 10**9), ("max_tick_offset", 17), ("num_weights", 9), ("x", 1)],
)
def test_a_config_beyond_what_a_graph_holds_is_refused(key: str, value: int, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps(json.loads(config_text(CONFIG)) | {key: value}))
    with pytest.raises(FormatError, match=rf"{key}: (found {value}, allowed integers|unknown key)"):
        read_config(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("leak", 40000, "leak 40000, allowed -32768..32767"),
        ("positive_threshold", -1, "positive_threshold -1, allowed 0..2147483647"),
        ("negative_threshold", 1, "negative_threshold 1, allowed -1073741824..0"),
        ("weights", [0, 0, 0, -40000], "weights [0, 0, 0, -40000], allowed -32768..32767"),
        ("current_potential", -2147483648, "current_potential -2147483648, allowed -1073741824..1073741824"),
    ],
)
def test_neurons_that_a_graph_can_not_hold_are_listed(key: str, value: Any, said: str) -> None:
    model = input_of(changed(("cores", 1, "neurons", 0, key), value), CONFIG, "a")
    with pytest.raises(FormatError) as error:
        ranc_graph(model, "a")
    assert str(error.value).splitlines() == [
        "a: no graph can be made of this grid, 1 reasons",
        f"core 1, neuron 0: {said}",
    ]


def test_of_many_such_neurons_the_first_are_listed() -> None:
    graph = ranc_graph_case(1)
    model = graph_ranc(graph)
    for core in model.cores:
        core.columns["leak"][:] = 1 << 20
    with pytest.raises(FormatError, match=r"and \d{3} more$"):
        ranc_graph(model, "a")


def test_a_grid_without_cores_is_no_graph() -> None:
    model = input_of(json.dumps(small() | {"cores": [], "packets": []}), CONFIG, "a")
    with pytest.raises(FormatError, match=r"cores: none; a graph has at least one"):
        ranc_graph(model, "a")


def test_more_kinds_of_neurons_than_numbers_are_refused() -> None:
    graph = ranc_graph_case(1, cores=17, axons=1, neurons=4096)
    model = graph_ranc(replace(graph, neuron_type=np.ones_like(graph.neuron_type)))
    for index, core in enumerate(model.cores):
        core.columns["current_potential"][:] = np.arange(4096) + index * 4096
    with pytest.raises(FormatError, match=r"grid: 69632 kinds of neurons, allowed 65535"):
        ranc_graph(model, "a")


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts["cores"].pop(),
        lambda facts: facts.pop("bus"),
        lambda facts: facts["config"].update(num_axons=3),
        lambda facts: facts.update(loose=[[0, 99, 0, 0, 0, 0]]),
        lambda facts: facts.update(lists=0),
    ],
)
def test_facts_of_another_graph_are_refused(change: Any) -> None:
    graph, _, extra = ranc_graph(input_of(json.dumps(small()), CONFIG, "a"), "a")
    change(extra["ranc"])
    with pytest.raises(FormatError, match=r"extra\.ranc: does not fit the graph .*; convert the RANC input again"):
        graph_ranc(graph, extra)


# ---- output text


def test_the_output_text_has_a_mark_and_a_first_line_of_its_own(tmp_path: Path) -> None:
    pins = np.array([[True, False, True], [False, False, False]])
    text = output_text(pins)
    assert text == "\ufeff0 0 0 \n1 0 1 \n0 0 0 \n"
    (tmp_path / "o.txt").write_text(text)
    assert np.array_equal(read_output(tmp_path / "o.txt"), pins)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0 \n1 \n", r"o\.txt: line 2: must be 2 digits 0 or 1, each with a space after it"),
        ("0 0 \n1 2 \n", r"o\.txt: line 2: must be 2 digits"),
        ("0 0\n", r"o\.txt: line 1: must be"),
        ("0 1 \n", r"o\.txt: line 1: must be there and hold zeros"),
        ("", r"o\.txt: line 1: must be there"),
    ],
)
def test_output_text_that_is_none_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "o.txt").write_text(text)
    with pytest.raises(FormatError, match=message):
        read_output(tmp_path / "o.txt")

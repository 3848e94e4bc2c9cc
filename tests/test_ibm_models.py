"""IBM's model files: read and written field by field, made into graphs and of graphs; faults by line and column."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import DATA, equal_runs, needs_data, needs_file, random_graph, recordings
from hypothesis import given, settings
from hypothesis import strategies as st
from interchange_cases import RECORDS, SMALL_IBM, ibm_graph, with_types

from deploy.chip import CompileError
from deploy.cores import CoreGraph
from deploy.emulator import Emulator
from deploy.engines import ENGINES
from deploy.files import FormatError
from deploy.graphs import canonical, load_graph, save_graph
from deploy.ibm_export import graph_model
from deploy.ibm_graph import model_graph
from deploy.ibm_ranges import compress, expand
from deploy.ibm_reader import model_of, read_model
from deploy.ibm_text import model_text, write_model
from deploy.side import save_side, with_side
from deploy.spike_files import read_csv, read_sfcp, read_sfti
from deploy.spikes import AxonSpikes, PinSpikes, addressed, run
from deploy.strict_json import Repeated, parse

ground_truth = pytest.mark.ground_truth
MODELS = recordings("ibm_models/*.json") or [Path("absent.json")]
each_model = pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)


def plain(value: Any) -> Any:
    """Parsed content with ranges expanded and hex digits alike; lists of cores stay in order."""
    if isinstance(value, dict):
        return [[key, plain(inner)] for key, inner in value.items()]
    if isinstance(value, list):
        return [plain(item) for inner in value for item in _expanded(inner)]
    return value.upper() if isinstance(value, str) else value


def _expanded(item: Any) -> list[Any]:
    ranges = isinstance(item, str) and re.fullmatch(r"[-\d:x]+", item)
    return list(expand([item], 256)) if ranges else [item]


def content(text: str) -> Any:
    return plain(parse(text, "a", comments=True, repeats=("core",)))


def drawn_again(graph: CoreGraph, tmp_path: Path) -> CoreGraph:
    """The graph after a way through IBM's text and the file beside it."""
    path = tmp_path / "m.json"
    write_model(graph_model(graph), path)
    save_side(graph, {}, path, path.read_bytes(), "ibm")
    again, extra = model_graph(read_model(path), path)
    return with_side(again, extra, path, path.read_bytes())[0]


# ---- lists


@given(st.lists(st.integers(-40, 300), max_size=60) | st.lists(st.integers(0, 3), max_size=60))
def test_lists_written_as_ranges_are_read_back(values: list[int]) -> None:
    assert expand(compress(values), 256) == values


@pytest.mark.parametrize(
    ("items", "values"),
    [
        (["27:-4:19"], [27, 23, 19]),
        (["3:5", 9], [3, 4, 5, 9]),
        (["-32x3", "7x1"], [-32, -32, -32, 7]),
        (["5:5"], [5]),
        ([], []),
    ],
)
def test_each_form_of_a_range_means_what_ibm_means(items: list[Any], values: list[int]) -> None:
    assert expand(items, 256) == values


@pytest.mark.parametrize("item", ["5:3", "3:0:9", "3:2:8", "1x0", "ax3", "1:2:3:4", "", 1.5, True, None, [1], "1 : 2"])
def test_what_is_no_range_is_named(item: Any) -> None:
    with pytest.raises(ValueError, match=r"item 1 is .*, allowed are integers, 'a:b', 'a:step:b' and 'VxN'"):
        expand([0, item], 256)


@pytest.mark.parametrize("item", ["0:999999999", "7x999999999", "0:-1:-256"])
def test_a_range_beyond_a_core_is_refused_before_it_is_made(item: str) -> None:
    with pytest.raises(ValueError, match=r"more than 256 values at item 1"):
        expand([0, item], 256)


# ---- IBM's own files


def as_written(again: str, path: Path) -> None:
    """Of equal content, and where the comments of IBM's environment are still there, equal but for white space."""
    text = path.read_text()
    assert content(again) == content(text)
    if "/* Parameters */" in text:
        assert again.split() == text.split()


@needs_data
@ground_truth
@each_model
def test_ibm_files_are_written_back_without_loss(path: Path) -> None:
    as_written(model_text(read_model(path)), path)


@needs_data
@ground_truth
@each_model
def test_ibm_files_come_back_from_a_file_of_ours(path: Path, tmp_path: Path) -> None:
    try:
        graph, extra = model_graph(read_model(path), path)
    except FormatError:
        assert "coreCount" in str(_why_no_graph(path)), "only an excerpt can not be a graph"
        return
    save_graph(graph, tmp_path / "g.npz", extra)
    again, facts = load_graph(tmp_path / "g.npz")
    as_written(model_text(graph_model(again, facts)), path)
    assert canonical(drawn_again(graph, tmp_path)).digest == canonical(graph).digest


def _why_no_graph(path: Path) -> FormatError:
    with pytest.raises(FormatError) as error:
        model_graph(read_model(path), path)
    return error.value


@needs_data
@ground_truth
@each_model
def test_every_whole_model_runs_and_all_engines_agree(path: Path) -> None:
    try:
        graph, _ = model_graph(read_model(path), path)
    except FormatError:
        assert "coreCount" in str(_why_no_graph(path)), "only an excerpt does not run"
        return
    seed = 1 if graph.types.stochastic.any() else None  # IBM's own draws are not public
    spikes = [equal_runs(Emulator(graph, seed=seed), kind(graph, seed=seed), 25, 3) for kind in ENGINES.values()]
    assert min(spikes) > 0


@needs_file("ibm_models/th_small_test.json")
@ground_truth
def test_the_excerpt_says_why_it_does_not_run() -> None:
    path = DATA / "ibm_models/th_small_test.json"
    assert str(_why_no_graph(path)).splitlines() == [
        f"{path}: no graph can be made of this model, 4 reasons",
        "model.coreCount: 4042 cores, the file has 2; take the whole model",
        "core 0: crossbar 'coreProt0000001' is not in the file; take the whole model",
        "core 0: target cores [874, 1130] are not in the file; take the whole model",
        "core 4041: crossbar 'coreProt0004039' is not in the file; take the whole model",
    ]


@needs_data
@ground_truth
@pytest.mark.parametrize("engine", sorted(ENGINES))
@pytest.mark.parametrize("name", sorted(p.name.removesuffix("_output.sfcp") for p in recordings("ibm_traces/*.sfcp")))
def test_a_run_recorded_by_ibm_is_met_from_ibms_own_files(name: str, engine: str) -> None:
    model, traces = DATA / f"ibm_models/{name}.json", DATA / "ibm_traces"
    if not (model.exists() and (traces / f"{name}_input.sfti.gz").exists()):
        pytest.skip(f"{name}: the record is there, its model or its input is not")
    graph, _ = model_graph(read_model(model), name)
    entering, record = read_sfti(traces / f"{name}_input.sfti.gz"), read_sfcp(traces / f"{name}_output.sfcp")
    assert isinstance(entering, AxonSpikes)
    graph, lines = addressed(graph, entering)
    ticks = int(record.tick.max()) + 1
    found = run(ENGINES[engine](graph), lines, ticks)
    assert np.array_equal(record.bits(ticks, graph.output_pin), found.bits(ticks, graph.output_pin))
    if (traces / f"{name}_output.csv.gz").exists():
        text = read_csv(traces / f"{name}_output.csv.gz")
        assert isinstance(text, PinSpikes) and len(found.tick) == len(text.tick) == len(record.tick) > 0
        for column in ("tick", "pin", "core", "neuron"):
            assert np.array_equal(getattr(found, column), getattr(text, column)), column


@needs_file("ibm_models/patternMatch.json")
@ground_truth
def test_the_pattern_matcher_does_what_its_weights_say_on_all_256_inputs() -> None:
    graph, _ = model_graph(read_model(DATA / "ibm_models/patternMatch.json"), "patternMatch")
    assert graph.output_pin.tolist() == [0, 1, 2]
    line = {
        int(axon): i for i, (core, axon) in enumerate(zip(graph.input_core, graph.input_axon, strict=True)) if not core
    }
    engine = Emulator(graph)
    for pattern in range(257):
        lines = np.zeros(graph.n_inputs, bool)
        lines[[line[pixel] for pixel in range(8) if pattern < 256 and pattern >> pixel & 1]] = True
        engine.step(lines)
        if pattern:
            on = {pixel for pixel in range(8) if pattern - 1 >> pixel & 1}
            corners = len(on & {2, 3, 6, 7}) - len(on & {0, 1, 4, 5})
            assert engine.pins().tolist() == [corners >= 3, len(on) <= 1, len(on) >= 7], f"pattern {pattern - 1:08b}"


# ---- small models


def test_a_model_keeps_every_field_in_its_order() -> None:
    slower = SMALL_IBM.replace('"id":7,"timeScaleExponent":0', '"id":7,"timeScaleExponent":-1')
    model = model_of(slower, "a")
    assert content(model_text(model)) == content(slower)
    first, second = model.cores
    assert (first.id, second.id, second.time_scale, first.seed) == (3, 7, -1, 4294967295)
    assert second.dendrites.tolist() == list(range(8, -1, -1))
    assert first.dest_cores.tolist() == [7, 3, -1, -2, -1, -32, -32, -32, -32]
    assert model.type_numbers == {10: 0, 1: 1}
    assert repr(model) == "IbmModel(2 cores, 2 types, crossbars of 9)"


def test_a_model_comes_back_from_its_graph_field_by_field(tmp_path: Path) -> None:
    graph, extra = model_graph(model_of(SMALL_IBM.replace('"10x4"', '"16x4"').replace("0A", "10"), "a"), "a")
    save_graph(graph, tmp_path / "g.npz", extra)
    again = model_text(graph_model(*load_graph(tmp_path / "g.npz")))
    assert content(again) == content(SMALL_IBM.replace('"10x4"', '"16x4"').replace("0A", "10"))


def test_a_graph_is_read_off_a_model_bit_by_bit() -> None:
    graph, _ = model_graph(model_of(SMALL_IBM, "a"), "a")
    assert graph.shape == (2, 9, 9)
    assert graph.axon_type[0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    for axon in range(9):
        row = int(f"{0x11 * (axon + 3):08b}{0x80 * (axon % 2):08b}", 2)
        assert [int(w) >> axon & 1 for w in graph.crossbar[0, 0]] == [row >> (15 - neuron) & 1 for neuron in range(9)]
    assert graph.neuron_type[0].tolist() == [2, 2, 2, 2, 0, 1, 1, 1, 1], "types count in the order of the file"
    assert graph.types.weight[0].tolist() == [-3, 4, 0, 9]
    assert (graph.types.reset[0], graph.types.initial[0], graph.types.beta[0]) == (-3, -4, 1)
    assert graph.target_core[0].tolist() == [1, 0, -1, -2, -1, -32, -32, -32, -32], "ids 3 and 7 are places 0 and 1"
    assert graph.delay[0].tolist() == [1, 2, 0, 0, 0, 1, 1, 1, 1]
    assert graph.target_axon[1].tolist() == list(range(9)), "dendrites give the order of the lists"
    assert graph.output_pin.tolist() == [0, 1, 2, 3, *range(256, 265)]
    free = list(zip(graph.input_core.tolist(), graph.input_axon.tolist(), strict=True))
    assert (0, 2) not in free and (1, 0) not in free, "driven axons need no line"
    assert len(free) == 16


def test_the_dialect_of_pytruenorth_is_read_and_written(tmp_path: Path) -> None:
    model = model_of(RECORDS, "a")
    assert model.records and model.prototypes is None
    text = model_text(model)
    assert parse(text, "a") == parse(RECORDS, "a")
    graph, extra = model_graph(model, "a")
    assert graph.neuron_type.tolist() == [[1, 1]] and graph.target_core.tolist() == [[-1, -32]]
    save_graph(graph, tmp_path / "g.npz", extra)
    assert model_text(graph_model(*load_graph(tmp_path / "g.npz"))) == text


CHANGES: list[tuple[str, str, str]] = [
    (
        '"crossbarSize":9',
        '"crossbarSize":257',
        r"line 3, column \d+: model\.crossbarSize: found 257, allowed integers 1\.\.256",
    ),
    ('"coreCount":2, ', "", r"model\.coreCount: missing"),
    ('"model":', '"modell":', r"column \d+: modell: unknown key, allowed core, crossbarTypes, model, neuronTypes"),
    ('"name":"proto","crossbar"', '"name":"","crossbar"', r"crossbarTypes\[0\]\.name: empty, must name the crossbar"),
    ('{"name":"proto"}}', '{"name":""}}', r"core\[0\]\.crossbar\.name: empty"),
    (
        '{"name":"proto"}}',
        '{"nam":"proto"}}',
        r"core\[0\]\.crossbar\.nam: unknown key.*\n.*core\[0\]\.crossbar\.name: missing",
    ),
    ('{"type":"S0","synapses":"33 00"},', "", r"crossbarTypes\[0\]\.crossbar\.rows: 8 rows, must be 9"),
    ('"type":"S0","synapses":"33 00"', '"type":"S4","synapses":"33 00"', r"rows\[0\]\.type: found 'S4', allowed S0"),
    ('"synapses":"33 00"', '"synapse":"33 00"', r"rows\[0\]: must be an object of type and synapses"),
    ('"33 00"', '"3300"', r"rows\[0\]\.synapses: found '3300', must be 2 bytes as hex digits with a space between"),
    ('"33 00"', '"33 0g"', r"found '33 0g'"),
    ('"33 00"', '"33 01"', r"rows\[0\]\.synapses: synapses beyond neuron 8"),
    ('"sigma1":1,', '"sigma1":0,', r"neuronTypes\[0\]\.sigma1: found 0, allowed -1 and 1"),
    ('"s3":9,', '"s3":256,', r"neuronTypes\[0\]\.s3: found 256, allowed integers 0\.\.255"),
    ('"s3":9,', '"s3":true,', r"neuronTypes\[0\]\.s3: found True, allowed integers"),
    ('"kappa":false', '"kappa":0', r"neuronTypes\[0\]\.kappa: found 0, must be true or false"),
    ('"TM":0', '"TM":9', r"neuronTypes\[0\]\.TM: found 9, allowed integers 0\.\.8"),
    ('"N00000001"', '"N0000000A"', r"neuron type name 'N0000000A' twice, must differ"),
    ('"N00000001"', '"Alice"', r"neuronTypes\[1\]\.name: found 'Alice', must be N and 8 hex digits, not 0"),
    ('"N00000001"', '"N00000000"', r"neuronTypes\[1\]\.name: found 'N00000000'"),
    ('"id":7', '"id":3', r"core id '3' twice, must differ"),
    ('"rngSeed":0', '"rngSeed":4294967296', r"core\[1\]\.rngSeed: found 4294967296, allowed integers 0\.\.4294967295"),
    ('"rngSeed":0', '"rngSeed":' + "9" * 60, r"rngSeed: found 9{40}, allowed"),
    ('["0:8"]', '["0:9"]', r"core\[0\]\.neurons\.dendrites: more than 9 values at item 0, '0:9'"),
    ('["0:8"]', '["0:7"]', r"core\[0\]\.neurons\.dendrites: 8 values, must be 9"),
    ('["0:8"]', '["0:7",7]', r"core\[0\]\.neurons\.dendrites: a neuron twice, must be each once"),
    ('["0:8"]', '["0:7",9]', r"core\[0\]\.neurons\.dendrites: value 8 is 9, allowed 0\.\.8"),
    ('"-32x4"]', '"-31x4"]', r"destCores: value 5 is -31, allowed a core's id, -1, -2, and -32 and below"),
    ('"1x6"]', '"16x6"]', r"destDelays: value 3 is 16, allowed 0\.\.15"),
    ('["0:2:2",', '["0:3:2",', r"destAxons: item 0 is '0:3:2', allowed are integers"),
    ('"types":["1x4"', '"type":["1x4"', r"core\[0\]\.neurons\.type: unknown key.*\n.*neurons\.types: missing"),
    (
        '{"dendrites":["0:8"]',
        '5, "x":{"dendrites":["0:8"]',
        r"core\[0\]\.neurons: must be an object of lists, or a list",
    ),
    ('"metadata":{', '"metadata":{"core":1,"core":2,', r"core\[0\]\.metadata: a key stands twice"),
    ('"metadata":{', '"metadata":[], "id":{', r"key 'id' stands 2 times"),
    (
        '"neurons":{"dendrites":["8',
        '"neurons":[],"x":{"dendrites":["8',
        r"core\[1\]\.neurons: neurons are lists in one core and",
    ),
    ('"crossbarTypes":[{', '"crossbarTypes":[1, {', r"crossbarTypes\[0\]: found 1, must be an object"),
    ('"neuronTypes":[{', '"neuronTypes":{"a":[{', r"line \d+, column \d+: Expecting"),
]


@pytest.mark.parametrize(("old", "new", "message"), CHANGES, ids=[f"{new[:20]}" for _, new, _ in CHANGES])
def test_a_fault_is_told_by_line_column_and_field(old: str, new: str, message: str) -> None:
    assert old in SMALL_IBM
    with pytest.raises(FormatError, match=message):
        model_of(SMALL_IBM.replace(old, new, 1), "a")


def test_what_is_said_of_places_without_a_neuron_is_kept(tmp_path: Path) -> None:
    text = SMALL_IBM.replace("[7,3,-1,-2,-1", "[7,3,-1,-2,-40")
    graph, extra = model_graph(model_of(text, "a"), "a")
    assert graph.target_core[0, 4] == -1 and -40 not in graph.target_core
    again = model_of(model_text(graph_model(graph, extra)), "a")
    assert again.cores[0].dest_cores[4] == -40


def test_a_model_without_cores_is_refused() -> None:
    text = SMALL_IBM[: SMALL_IBM.index('"core":')].rstrip().rstrip(",") + "}"
    with pytest.raises(FormatError, match=r"top: no core; a model has at least one"):
        model_of(text, "a")


def test_all_faults_are_listed_at_once() -> None:
    text = SMALL_IBM.replace('"TM":0', '"TM":9').replace('"id":7', '"id":-7').replace("33 00", "33 0")
    with pytest.raises(FormatError, match=r"a: 5 fields are wrong; mend the file") as error:
        model_of(text, "a")
    assert len(str(error.value).splitlines()) == 6


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"coreCount":2', '"coreCount":3', r"model\.coreCount: 3 cores, the file has 2"),
        ('"name":"proto"}}', '"name":"other"}}', r"core 3: crossbar 'other' is not in the file"),
        ('["1x4",0', '["5x4",0', r"core 3: neuron types \[5\] are not in the file"),
        ("[7,3,-1", "[8,3,-1", r"core 3: target cores \[8\] are not in the file"),
        ('"0:2:2",5', '"0:2:2",9', r"core 3, neuron 2: target axon 9, allowed 0\.\.8"),
        ('["1:3"', '["0:2"', r"core 3, neuron 0: delay 0 towards a core, allowed 1\.\.15"),
        ('"N00000001"', '"N0000000a"', r"neuronTypes: two types of one number"),
        ('"id":7,"timeScaleExponent":0', '"id":7,"timeScaleExponent":1', r"core 7: timeScaleExponent 1, allowed 0"),
    ],
)
def test_a_model_that_is_no_graph_says_why(old: str, new: str, message: str) -> None:
    text = SMALL_IBM.replace("[7,3,-1,-2,-1", "[7,3,3,-2,-1") if "9" in new else SMALL_IBM
    text = text.replace('"0:2:2",5,-1', '"0:2:2",5,5') if "9" in new else text
    old, new = (old, new) if old in text else (old.replace("5", "5,5"), new.replace("9", "9,5"))
    model = model_of(text.replace(old, new, 1), "a")
    with pytest.raises(FormatError, match=rf"a: no graph can be made of this model, \d+ reasons\n(.*\n)*{message}"):
        model_graph(model, "a")


# ---- our graphs in IBM's terms


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_a_graph_comes_back_whole_from_ibms_terms(seed: int, stochastic: bool, tmp_path: Path) -> None:
    graph = ibm_graph(seed, stochastic)
    again = drawn_again(graph, tmp_path)
    assert canonical(again).digest == canonical(graph).digest
    if not stochastic:
        assert equal_runs(Emulator(graph), Emulator(again), 25, seed) > 0


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 256), st.integers(1, 256))
def test_any_size_of_core_comes_back_from_ibms_text(seed: int, cores: int, axons: int, neurons: int) -> None:
    graph = ibm_graph(seed, cores=cores, axons=axons, neurons=neurons)
    model = model_of(model_text(graph_model(graph)), "a")
    again, extra = model_graph(model, "a")
    assert again.shape == (cores, 256, 256)
    assert model_text(graph_model(again, extra)) == model_text(model)
    assert np.array_equal(canonical(again).neuron_type[:, :neurons], canonical(graph).neuron_type)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"weight": 256}, r"a weight beyond \+-255; scale the weights down"),
        ({"leak": -256}, r"a leak beyond \+-255"),
        ({"reset": 5}, r"a reset value that is not \+-\(2\^k - 1\)"),
    ],
)
def test_what_ibm_can_not_say_is_refused_with_its_neurons(columns: dict[str, int], message: str) -> None:
    graph = with_types(ibm_graph(2), **columns)
    used = len(np.unique(graph.neuron_type[graph.neuron_type > 0]))
    with pytest.raises(CompileError, match=rf"^{used} limits broken\n(core \d+ neurons \d[-\d, ]*(; )?)+.*: {message}"):
        graph_model(graph)


def test_a_negative_rule_at_the_threshold_is_refused_only_where_it_matters() -> None:
    graph = replace(ibm_graph(2), negative_inclusive=True)
    for harmless in ({"kappa": 1}, {"gamma": 2}, {"gamma": 0, "reset": 3, "beta": 3}, {"gamma": 1, "beta": 0}):
        again, _ = model_graph(graph_model(with_types(graph, **harmless)), "a")
        assert not again.negative_inclusive
        assert equal_runs(Emulator(with_types(graph, **harmless)), Emulator(_cropped(again, graph)), 20, 1) > 0
    with pytest.raises(CompileError, match=r"the negative rule applies at -beta itself, IBM's only below"):
        graph_model(with_types(graph, kappa=0, gamma=1, beta=2))


def _cropped(graph: CoreGraph, like: CoreGraph) -> CoreGraph:
    """With the lines and pins of another, so that both can be driven alike."""
    n = like.shape[2]
    names = ("input_start", "input_core", "input_axon", "input_delay", "output_pin", "output_answer", "axon_type")
    per_neuron = ("neuron_type", "target_core", "target_axon", "delay")
    words = -(-like.shape[1] // 64)
    return replace(
        graph,
        crossbar=np.ascontiguousarray(graph.crossbar[:, :words, :n]),
        **{name: getattr(like, name) for name in names},
        **{name: np.ascontiguousarray(getattr(graph, name)[:, :n]) for name in per_neuron},
    )


def test_cores_of_other_sizes_and_delays_to_pins_are_refused() -> None:
    with pytest.raises(CompileError, match=r"graph: cores of 67x257 and \d axon types, IBM has 256x256 and 4"):
        graph_model(ibm_graph(2, neurons=257))
    graph = ibm_graph(2)
    with pytest.raises(CompileError, match=r"core \d+, neuron \d+: delay 0 to a pin, IBM has 1\.\.15; set it to 1"):
        graph_model(replace(graph, delay=np.where(graph.target_core >= 0, graph.delay, 0).astype(np.uint8)))


def test_a_fifth_axon_type_and_no_cores_at_all_are_refused() -> None:
    graph = ibm_graph(2)
    weight = np.zeros((len(graph.types.leak), 5), np.int16)
    with pytest.raises(CompileError, match=r"5 axon types, IBM has 256x256 and 4"):
        graph_model(replace(graph, types=replace(graph.types, weight=weight)))
    with pytest.raises(CompileError, match=r"graph: no cores, IBM's models have at least one"):
        graph_model(random_graph(1, cores=0, lines=0))


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.pop("cores"),
        lambda facts: facts["cores"].pop(),
        lambda facts: facts["types"].pop(),
        lambda facts: facts.update(types=5),
        lambda facts: facts.update(model="{"),
        lambda facts: facts.update(loose=[[0]]),
        lambda facts: facts["cores"][0].update(dendrites=[99] * 9),
    ],
)
def test_facts_of_another_graph_are_refused(change: Any) -> None:
    graph, extra = model_graph(model_of(SMALL_IBM, "a"), "a")
    change(extra["ibm"])
    with pytest.raises(FormatError, match=r"extra\.ibm: does not fit the graph .*; convert the IBM model again"):
        graph_model(graph, extra)


def test_axon_types_that_no_longer_fit_the_kept_crossbars_are_refused() -> None:
    inline = SMALL_IBM.rindex('{"rows":')
    graph, extra = model_graph(model_of(SMALL_IBM[:inline] + '{"name":"proto"}}}', "a"), "a")
    shared = replace(graph, axon_type=np.stack([graph.axon_type[0], np.zeros(9, np.uint8)]))
    with pytest.raises(FormatError, match=r"core 1 has other axon types than its crossbar"):
        graph_model(shared, extra)


def test_a_repeated_core_is_a_list_and_a_single_one_is_read_too() -> None:
    one = random_graph(1, cores=1, axons=3, neurons=3)
    text = model_text(graph_model(with_types(one, reset=0, kappa=1)))
    assert not isinstance(parse(text, "a", comments=True, repeats=("core",))["core"], Repeated)
    assert len(model_of(text, "a").cores) == 1

"""The commands that turn graphs and spikes from one format into another and run any of them."""

from __future__ import annotations

import gzip
import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import DATA, SPECS, needs_data, needs_file, pictures, random_graph, recordings
from interchange_cases import SMALL_IBM, ibm_graph, ranc_graph_case, random_spikes, spike_rows

from deploy import convert, run
from deploy.chip import CHIPS
from deploy.compiled import load_compiled, save_compiled
from deploy.compiler import compile_spec
from deploy.emulator import EmulationError
from deploy.engines import ENGINES
from deploy.files import FormatError, read_arrays, write_arrays
from deploy.formats import Loaded, config_beside, kind_at, kind_of_name, load, load_spikes, save, save_spikes
from deploy.graphs import canonical, load_graph, save_graph
from deploy.ranc import read_output
from deploy.side import KIND, VERSION, side_path
from deploy.spikes import AxonSpikes, LineSpikes, PinSpikes
from deploy.verification import first_difference, observe

PONG = Path(__file__).parents[1] / "models/Pong/chip.npz"


def converted(*arguments: object) -> None:
    assert convert.main([str(a) for a in arguments]) == 0


def ran(*arguments: object) -> None:
    assert run.main([str(a) for a in arguments]) == 0


# ---- formats


@pytest.mark.parametrize("kind", ["graph", "ibm", "ranc"])
@pytest.mark.parametrize("seed", range(4))
def test_a_graph_comes_back_whole_with_all_that_rides_along(kind: str, seed: int, tmp_path: Path) -> None:
    graph = ranc_graph_case(seed) if kind == "ranc" else ibm_graph(seed)
    path = tmp_path / ("g.npz" if kind == "graph" else f"g.{kind}.json")
    made = save(Loaded(graph, {"note": [1]}), path, kind)
    assert sorted(tmp_path.iterdir()) == sorted(made)
    assert kind_at(path) == kind
    again = load(path)
    assert canonical(again.graph).digest == canonical(graph).digest
    assert again.extra["note"] == [1]
    other = save(Loaded(again.graph, again.extra), tmp_path / f"h{path.name[1:]}", kind)
    assert other[0].read_bytes() == path.read_bytes()


def test_a_model_needs_no_side_file_where_it_says_everything(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(SMALL_IBM)
    loaded = load(tmp_path / "m.json")
    save(Loaded(random_graph(1), {}), tmp_path / "n.npz", "graph")
    side_path(tmp_path / "n.json").write_bytes(b"of an earlier model")
    assert save(loaded, tmp_path / "n.json", "ibm") == [tmp_path / "n.json"]
    assert not side_path(tmp_path / "n.json").exists()


def test_a_side_file_of_another_model_is_refused(tmp_path: Path) -> None:
    save(Loaded(ibm_graph(1), {}), tmp_path / "a.json", "ibm")
    save(Loaded(ibm_graph(2), {}), tmp_path / "b.json", "ibm")
    side_path(tmp_path / "a.json").write_bytes(side_path(tmp_path / "b.json").read_bytes())
    with pytest.raises(FormatError, match=r"a\.json\.side\.npz: field model is not the digest of a\.json; remove it"):
        load(tmp_path / "a.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda facts, arrays: facts.update(shape=[9, 1, 1, 1]),
        lambda facts, arrays: facts.pop("origin"),
        lambda facts, arrays: facts.update(shape=7),
        lambda facts, arrays: arrays.pop("seed"),
        lambda facts, arrays: arrays["input_core"].fill(-1),
    ],
)
def test_a_side_file_that_does_not_fit_is_refused(change: Any, tmp_path: Path) -> None:
    save(Loaded(ibm_graph(1), {}), tmp_path / "a.json", "ibm")
    facts, arrays, _ = read_arrays(side_path(tmp_path / "a.json"), KIND, 1)
    change(facts, arrays)
    write_arrays(side_path(tmp_path / "a.json"), KIND, VERSION, facts, arrays)
    with pytest.raises(FormatError, match=r"(?s)a\.json\.side\.npz: does not fit a\.json .*; convert the graph again"):
        load(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.npz", "graph"),
        ("a.JSON", "ibm"),
        ("a.b.ranc.json", "ranc"),
        ("a.input.json", "ranc"),
        ("a.sfti.gz", "sfti"),
        ("a.sfri", "sfri"),
        ("a.csv", "csv"),
        ("a.txt", "ranc_output"),
        ("a", None),
    ],
)
def test_a_name_tells_a_kind_by_its_longest_ending(name: str, kind: str | None) -> None:
    assert kind_of_name(Path(name)) == kind


@pytest.mark.parametrize("name", ["a.json", "a.input.json", "a.ranc.json"])
def test_a_config_lies_beside_its_input(name: str) -> None:
    assert config_beside(Path("d") / name) == Path("d/a.config.json")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (SMALL_IBM.encode(), "ibm"),
        (b'\xef\xbb\xbf{/* "cores" */ // x\n "model":1}', "ibm"),
        (b'{"output_bus":{}}', "ranc"),
        (b'{"class":"SpikeWriter","encoding":"TEXT"}', "sfti"),
        (b'{"class":"SpikeWriter","encoding":"CONNPIN"}\n\xff', "sfcp"),
        (b'{"class":"SpikeWriter","nscsVersion":"1.4.0","encoding":"RAWO6"}\xff', "sfri"),
        (b"tick,line\n", "csv"),
        (b"\xef\xbb\xbf0 0 \n", "ranc_output"),
    ],
)
def test_content_tells_a_kind_before_the_name_does(content: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    assert kind_at(tmp_path / "a.npz") == kind


def test_what_is_of_no_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(FormatError, match=r"a: no kind of file that is known, allowed graph, chip, ibm, ranc, spikes"):
        kind_at(tmp_path / "a")


def test_spikes_are_no_graph_and_graphs_no_spikes(tmp_path: Path) -> None:
    save_spikes(LineSpikes(np.zeros(1, np.int32), np.zeros(1, np.int32)), tmp_path / "s.csv", "csv")
    save_graph(random_graph(1), tmp_path / "g.npz")
    with pytest.raises(
        FormatError, match=r"s\.csv: a file of spikes \(csv\), must hold a graph: graph, chip, ibm, ranc"
    ):
        load(tmp_path / "s.csv")
    with pytest.raises(FormatError, match=r"g\.npz: a graph file, must hold spikes: spikes, csv, sfti"):
        load_spikes(tmp_path / "g.npz")
    with pytest.raises(FormatError, match=r"x: a graph can not be written as csv, allowed graph, ibm, ranc"):
        save(load(tmp_path / "g.npz"), tmp_path / "x", "csv")
    with pytest.raises(FormatError, match=r"x\.sfti: spikes of lines can not be written as sfti"):
        save_spikes(load_spikes(tmp_path / "s.csv"), tmp_path / "x.sfti", "sfti")


# ---- commands


def test_every_road_between_the_formats_leads_to_the_same_graph(tmp_path: Path) -> None:
    graph = replace(ranc_graph_case(3), negative_inclusive=False)
    reset = np.zeros_like(graph.types.reset)
    graph = replace(graph, types=replace(graph.types, reset=reset, kappa=np.zeros_like(graph.types.kappa)))
    save_graph(graph, tmp_path / "a.npz", {"note": 1})
    road = ["a.npz", "b.json", "c.ranc.json", "d.npz", "e.ranc.json", "f.json", "g.npz"]
    for source, target in itertools.pairwise(road):
        converted(tmp_path / source, tmp_path / target)
    last, extra = load_graph(tmp_path / "g.npz")
    assert canonical(last).digest == canonical(graph).digest and extra["note"] == 1
    assert (tmp_path / "c.ranc.json").read_bytes() == (tmp_path / "e.ranc.json").read_bytes()


def test_the_format_may_be_named_where_the_name_does_not_tell_it(tmp_path: Path, capsys: Any) -> None:
    save_graph(ibm_graph(1), tmp_path / "a.npz")
    assert convert.main([str(tmp_path / "a.npz"), str(tmp_path / "b")]) == 1
    assert (
        "b: the name tells no format, allowed .npz, .json, .ranc.json; or name one by --to" in capsys.readouterr().err
    )
    converted(tmp_path / "a.npz", tmp_path / "b", "--to", "ibm")
    assert kind_at(tmp_path / "b") == "ibm"


def test_spikes_become_packets_and_packets_spikes(tmp_path: Path) -> None:
    graph = ranc_graph_case(5)
    save_graph(graph, tmp_path / "g.npz")
    spikes = random_spikes(graph, 12, 1)
    save_spikes(spikes, tmp_path / "s.npz", "spikes")
    converted(tmp_path / "g.npz", tmp_path / "g.ranc.json", "--spikes", tmp_path / "s.npz")
    converted(tmp_path / "g.ranc.json", tmp_path / "s.csv")
    converted(tmp_path / "s.csv", tmp_path / "s.sfti.gz")
    for name in ("s.csv", "s.sfti.gz", "g.ranc.json"):
        found = load_spikes(tmp_path / name)
        assert isinstance(found, AxonSpikes) and np.array_equal(spike_rows(found), spike_rows(spikes)), name


def test_spikes_of_lines_become_packets_too(tmp_path: Path, capsys: Any) -> None:
    graph = ranc_graph_case(5)
    save_graph(graph, tmp_path / "g.npz")
    tick, line = (column.astype(np.int32) for column in np.nonzero(np.random.default_rng(0).random((9, 19)) < 0.3))
    save_spikes(LineSpikes(tick, line), tmp_path / "s.npz", "spikes")
    converted(tmp_path / "g.npz", tmp_path / "g.ranc.json", "--spikes", tmp_path / "s.npz")
    ran(tmp_path / "g.npz", "--input", tmp_path / "s.npz", "--ticks", 30, "--output", tmp_path / "a.csv")
    ran(tmp_path / "g.ranc.json", "--ticks", 30, "--output", tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert len((tmp_path / "a.csv").read_bytes()) > 500
    converted(tmp_path / "a.csv", tmp_path / "pins.npz")
    bad = ["--spikes", str(tmp_path / "pins.npz")]
    assert convert.main([str(tmp_path / "g.npz"), str(tmp_path / "h.ranc.json"), *bad]) == 1
    assert "pins.npz: spikes of pins, must be of axons or lines" in capsys.readouterr().err
    assert not (tmp_path / "h.ranc.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["g.npz", "h.npz", "--spikes", "s.csv"],
            r"--spikes: h.npz is to be of kind graph, allowed is .*\.ranc",
        ),
        (["g.npz", "h.json", "--as-chip", "chip.npz"], r"--as-chip: h.json is to be of kind ibm, allowed is .*\.npz; "),
        (["g.npz", "h.npz", "--to", "ibm", "--as-chip", "chip.npz"], r"--as-chip: h.npz is to be of kind ibm, "),
        (["s.csv", "t.csv", "--as-chip", "chip.npz"], r"--as-chip: s.csv holds spikes \(csv\), allowed is a graph "),
        (["s.csv", "t.npz", "--as-chip", "chip.npz"], r"--as-chip: s.csv holds spikes \(csv\), allowed is a graph "),
        (["s.csv", "t.ranc.json", "--spikes", "s.csv"], r"--spikes: s.csv holds spikes .*; leave --spikes out$"),
        (["g.npz", "h.json", "--as-chip", "c.npz", "--spikes", "s.csv"], r"--spikes: .* out\n--as-chip: .* out$"),
    ],
)
def test_an_option_that_a_conversion_has_no_use_for_is_refused_and_nothing_is_written(
    arguments: list[str], message: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_graph(ibm_graph(1), Path("g.npz"))
    save_spikes(LineSpikes(np.zeros(1, np.int32), np.zeros(1, np.int32)), Path("s.csv"), "csv")
    before = sorted(tmp_path.iterdir())
    assert convert.main(arguments) == 1
    assert re.match(f"convert: {message}", capsys.readouterr().err)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_every_engine_and_every_output_say_the_same(engine: str, tmp_path: Path) -> None:
    graph = random_graph(3)
    save_graph(graph, tmp_path / "g.npz")
    save_spikes(random_spikes(graph, 20, 1), tmp_path / "s.npz", "spikes")
    common = (tmp_path / "g.npz", "--input", tmp_path / "s.npz", "--ticks", 20, "--engine", engine)
    for name in ("o.npz", "o.csv", "o.txt"):
        ran(*common, "--output", tmp_path / name)
    ran(*common, "--output", tmp_path / "plain", "--format", "ranc")
    found, text = load_spikes(tmp_path / "o.npz"), load_spikes(tmp_path / "o.csv")
    assert isinstance(found, PinSpikes) and np.array_equal(spike_rows(found), spike_rows(text)) and len(found.tick) > 9
    assert np.array_equal(read_output(tmp_path / "o.txt"), found.bits(20, np.arange(300, dtype=np.int32)))
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "o.txt").read_bytes()
    converted(tmp_path / "o.txt", tmp_path / "p.csv")
    again = load_spikes(tmp_path / "p.csv")
    assert isinstance(again, PinSpikes) and np.array_equal(
        again.bits(20, graph.output_pin), found.bits(20, graph.output_pin)
    )


def test_stochastic_graphs_run_with_a_seed_and_not_without(tmp_path: Path, capsys: Any) -> None:
    graph = random_graph(3, stochastic=True)
    save_graph(graph, tmp_path / "g.npz")
    arguments = [str(tmp_path / "g.npz"), "--ticks", "40", "--output", str(tmp_path / "o.csv")]
    assert run.main(arguments) == 1 and "run: " in capsys.readouterr().err
    outputs = []
    for seed in (1, 1, 2):
        ran(*arguments, "--seed", seed)
        outputs.append((tmp_path / "o.csv").read_bytes())
    assert outputs[0] == outputs[1] != outputs[2]


def test_cores_of_a_model_go_by_its_ids_in_text(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "m.json").write_text(SMALL_IBM)
    (tmp_path / "s.csv").write_text("tick,core,axon\n" + "".join(f"{t},7,{a}\n" for t in range(4) for a in range(9)))
    ran(tmp_path / "m.json", "--input", tmp_path / "s.csv", "--ticks", 9, "--output", tmp_path / "o.csv")
    table = load_spikes(tmp_path / "o.csv")
    assert isinstance(table, PinSpikes) and set(table.core.tolist()) <= {3, 7} and 7 in table.core
    (tmp_path / "s.csv").write_text("tick,core,axon\n0,1,0\n")
    common = ["--ticks", "9", "--output", str(tmp_path / "p.csv")]
    assert run.main([str(tmp_path / "m.json"), "--input", str(tmp_path / "s.csv"), *common]) == 1
    assert "input: 1 spikes to cores that are none, first 1; name the spikes of this graph" in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ticks", "0", "--output", "o.csv"], "ticks: found 0, allowed 1..2147483647"),
        (["--ticks", "5", "--output", "o.xyz"], "o.xyz: the name tells no format, allowed .npz, .csv, .csv.gz, .txt"),
        (["--ticks", "5", "--output", "o.csv", "--input", "absent.npz"], "No such file"),
    ],
)
def test_a_run_that_can_not_be_made_says_why_and_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_graph(random_graph(1), tmp_path / "g.npz")
    assert run.main(["g.npz", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["g.npz"]


def test_pins_are_no_input() -> None:
    none = np.zeros(0, np.int32)
    with pytest.raises(EmulationError, match="input: spikes of pins, must be of axons or lines"):
        run.output(Loaded(random_graph(1), {}), PinSpikes(none, none, none, none), 3, "plain")


def test_a_graph_that_can_not_be_said_is_refused_and_nothing_is_written(tmp_path: Path, capsys: Any) -> None:
    graph = random_graph(1)
    save_graph(
        replace(graph, types=replace(graph.types, weight=graph.types.weight * np.int16(100))), tmp_path / "g.npz"
    )
    for name in ("m.json", "m.ranc.json"):
        assert convert.main([str(tmp_path / "g.npz"), str(tmp_path / name)]) == 1
        assert "limits broken\ncore" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["g.npz"]


# ---- the recorded runs, by command


@needs_data
@pytest.mark.ground_truth
@pytest.mark.parametrize("path", recordings("ranc_traces/json/*.input.json"), ids=lambda path: path.name[:8])
def test_rancs_text_comes_byte_for_byte_from_the_command(path: Path, tmp_path: Path) -> None:
    expected = path.with_name(path.name.replace("input.json", "output.txt")).read_bytes()
    ticks = len(expected.splitlines()) - 1
    ran(path, "--ticks", ticks, "--output", tmp_path / "o.txt")
    assert (tmp_path / "o.txt").read_bytes() == expected
    converted(path, tmp_path / "g.npz")
    converted(path, tmp_path / "s.csv")
    ran(tmp_path / "g.npz", "--input", tmp_path / "s.csv", "--ticks", ticks, "--output", tmp_path / "p.txt")
    assert (tmp_path / "p.txt").read_bytes() == expected


@needs_file("ibm_traces/mnist_neil2_output.csv.gz")
@pytest.mark.ground_truth
def test_ibms_record_comes_line_for_line_from_the_command(tmp_path: Path) -> None:
    traces = DATA / "ibm_traces"
    common = ("--input", traces / "mnist_neil2_input.sfti.gz", "--ticks", 1000, "--output", tmp_path / "o.csv")
    ran(DATA / "ibm_models/mnist_neil2.json", *common)
    assert (tmp_path / "o.csv").read_bytes() == gzip.decompress((traces / "mnist_neil2_output.csv.gz").read_bytes())


# ---- a student in foreign terms plays the same


@pytest.mark.parametrize("name", ["m.json", "m.ranc.json"])
@pytest.mark.parametrize("case", sorted(SPECS))
def test_a_student_in_foreign_terms_is_the_same_student(case: str, name: str, tmp_path: Path) -> None:
    spec = SPECS[case]()
    chip = compile_spec(spec, CHIPS["tiny"], seed=3)
    save_compiled(chip, tmp_path / "chip.npz", {"teacher": "x"})
    converted(tmp_path / "chip.npz", tmp_path / name)
    converted(tmp_path / name, tmp_path / "back.npz", "--as-chip", tmp_path / "chip.npz")
    back, origin = load_compiled(tmp_path / "back.npz")
    assert origin == {"teacher": "x"}
    assert canonical(back.graph).digest == canonical(chip.graph).digest
    assert first_difference(spec, back, pictures(spec, 6)) is None


def test_a_chip_takes_no_graph_of_another_student(tmp_path: Path, capsys: Any) -> None:
    chip = compile_spec(SPECS["one_layer"](), CHIPS["tiny"], seed=3)
    save_compiled(chip, tmp_path / "chip.npz")
    save_graph(random_graph(1, cores=50), tmp_path / "g.npz")
    arguments = [str(tmp_path / "g.npz"), str(tmp_path / "o.npz"), "--as-chip", str(tmp_path / "chip.npz")]
    assert convert.main(arguments) == 1
    assert "chip.npz: the graph is not one of this student" in capsys.readouterr().err
    save_graph(replace(random_graph(1, cores=chip.graph.shape[0], axons=70, neurons=44)), tmp_path / "g.npz")
    assert convert.main(arguments) == 1
    assert "the graph is not one of this student, name its own chip\n" in (told := capsys.readouterr().err)
    assert "limits broken\ncore 0, " in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chip.npz", "g.npz"]


@pytest.mark.parametrize("name", ["pong.json", pytest.param("pong.ranc.json", marks=pytest.mark.slow)])
def test_the_shipped_chip_in_foreign_terms_plays_the_same(name: str, tmp_path: Path) -> None:
    chip, _ = load_compiled(PONG)
    converted(PONG, tmp_path / name)
    converted(tmp_path / name, tmp_path / "back.npz", "--as-chip", PONG)
    back, _ = load_compiled(tmp_path / "back.npz")
    assert canonical(back.graph).digest == canonical(chip.graph).digest
    bits = np.random.default_rng(0).random((4, chip.graph.n_inputs)) < np.array([0.1, 0.5, 0.9, 0.3])[:, None]
    (spikes, votes), (other_spikes, other_votes) = observe(chip, bits), observe(back, bits)
    assert np.array_equal(spikes, other_spikes) and np.array_equal(votes, other_votes)
    assert len({tuple(row) for row in votes.tolist()}) > 1

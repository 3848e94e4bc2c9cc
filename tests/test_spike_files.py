"""Spikes by axon, line and pin: records, what a graph makes of them, and their files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import random_graph
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interchange_cases import ints, random_spikes, same, spike_rows

from deploy.emulator import EmulationError, Emulator
from deploy.files import FormatError, write_arrays
from deploy.spike_files import (
    KIND,
    VERSION,
    load_spikes,
    read_csv,
    read_sfcp,
    read_sfti,
    save_spikes,
    unpacked,
    write_csv,
    write_sfti,
)
from deploy.spikes import AxonSpikes, LineSpikes, PinSpikes, Spikes, addressed, all_pins, on_axons, rows, run

SPIKES: dict[str, Spikes] = {
    "axons": AxonSpikes(ints(3, 1, 1), ints(0, 2, 1), ints(255, 7, 8)),
    "lines": LineSpikes(ints(3, 0), ints(5, 5)),
    "pins": PinSpikes(ints(0, 9), ints(1000, 2), ints(4, -1), ints(17, -1)),
    "none": AxonSpikes(ints(), ints(), ints()),
}
every_kind = pytest.mark.parametrize("spikes", SPIKES.values(), ids=SPIKES)


# ---- in and out of a graph


def test_spikes_to_axons_arrive_in_their_tick() -> None:
    graph = random_graph(4)
    spikes = random_spikes(graph, 20, 1)
    driven, lines = addressed(graph, spikes)
    table = np.array(list(rows(driven, lines, 20)))
    assert (
        table.shape == (20, driven.n_inputs)
        and len(np.unique(driven.input_core * 1000 + driven.input_axon)) == driven.n_inputs
    )
    found = {(int(t), int(driven.input_core[i]), int(driven.input_axon[i])) for t, i in np.argwhere(table)}
    assert found == {tuple(row) for row in spike_rows(spikes).tolist()}
    assert not driven.input_delay.any() and np.array_equal(np.diff(driven.input_start), np.ones(driven.n_inputs))


def test_lines_and_their_axons_are_the_same_input() -> None:
    graph = random_graph(6)
    rng = np.random.default_rng(2)
    table = rng.random((25, graph.n_inputs)) < 0.2
    tick, line = (column.astype(np.int32) for column in np.nonzero(table))
    spikes = LineSpikes(tick, line)
    driven, again = addressed(graph, on_axons(graph, spikes))
    one, other = Emulator(graph), Emulator(driven)
    for before, after in zip(rows(graph, spikes, 25), rows(driven, again, 25), strict=True):
        assert np.array_equal(before, table[one.tick])
        assert np.array_equal(one.step(before), other.step(after))


def test_a_run_lists_every_neuron_behind_every_pin_that_spikes() -> None:
    graph = random_graph(2)
    driven, lines = addressed(graph, random_spikes(graph, 30, 3))
    found = run(Emulator(driven), lines, 30)
    engine, expected = Emulator(driven), []
    for tick, row in enumerate(rows(driven, lines, 30)):
        for core, neuron in np.argwhere(engine.step(row) & (graph.target_core <= -32)).tolist():
            pin = 256 * (-32 - int(graph.target_core[core, neuron])) + int(graph.target_axon[core, neuron])
            expected.append([tick, pin, core, neuron])
    assert np.stack(list(vars(found).values()), axis=1).tolist() == sorted(expected)
    assert len(expected) > 20
    pins = np.unique(np.array(expected)[:, :2], axis=0)
    bits = found.bits(30, all_pins(graph))
    assert np.argwhere(bits).tolist() == pins.tolist()
    assert not found.bits(0, all_pins(graph)).size and found.bits(30, ints(5)).shape == (30, 1)
    assert found.bits(3, ints()).shape == (3, 0)


def test_spikes_after_the_last_tick_are_left_out() -> None:
    graph = random_graph(2)
    late = LineSpikes(ints(0, 5), ints(0, 0))
    assert [row.sum() for row in rows(graph, late, 5)] == [1, 0, 0, 0, 0]
    assert not PinSpikes(ints(7), ints(0), ints(0), ints(0)).bits(7, ints(0)).any()


def test_spikes_of_another_graph_are_refused() -> None:
    graph = random_graph(2)
    with pytest.raises(
        EmulationError, match=r"input: 2 spikes to axons that are none, first core 0, axon 67; the graph has 5"
    ):
        addressed(graph, AxonSpikes(ints(0, 0, 1), ints(0, 5, 1), ints(67, 0, 1)))
    with pytest.raises(
        EmulationError, match=r"input: spikes on line 19, the graph has 19; name the spikes of this graph"
    ):
        on_axons(graph, LineSpikes(ints(0), ints(19)))
    with pytest.raises(EmulationError, match=r"input: spikes on line 19"):
        next(rows(graph, LineSpikes(ints(0), ints(19)), 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AxonSpikes(ints(-1), ints(0), ints(0)), r"spikes\.tick: values -1\.\.-1, allowed 0"),
        (lambda: AxonSpikes(ints(1), ints(0, 1), ints(0)), r"spikes\.core: shape \(2,\), must be \(1,\)"),
        (lambda: LineSpikes(np.zeros(1, np.int64), ints(0)), r"spikes\.tick: dtype int64, must be int32"),
        (lambda: PinSpikes(ints(1), ints(0), ints(-2), ints(0)), r"spikes\.core: values -2\.\.-2, allowed -1"),
    ],
)
def test_a_wrong_record_names_its_field(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# ---- files


@every_kind
def test_an_npz_of_ours_keeps_spikes_as_they_are(spikes: Spikes, tmp_path: Path) -> None:
    save_spikes(spikes, tmp_path / "s.npz")
    assert same(load_spikes(tmp_path / "s.npz"), spikes)


@every_kind
@pytest.mark.parametrize("name", ["s.csv", "s.csv.gz"])
def test_text_keeps_spikes_as_they_are(spikes: Spikes, name: str, tmp_path: Path) -> None:
    write_csv(spikes, tmp_path / name)
    assert same(read_csv(tmp_path / name), spikes)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 4095), st.integers(0, 255)), max_size=20), st.booleans()
)
def test_ibms_text_keeps_ticks_of_integration(tmp_path: Path, table: list[tuple[int, int, int]], packed: bool) -> None:
    columns = np.array(table, np.int32).reshape(-1, 3)
    spikes = AxonSpikes(*(np.ascontiguousarray(column) for column in columns.T))
    path = tmp_path / ("s.sfti.gz" if packed else "s.sfti")
    write_sfti(spikes, path)
    assert same(read_sfti(path), spikes)


def test_ibms_text_says_when_a_spike_is_sent_and_the_delay_says_when_it_counts(tmp_path: Path) -> None:
    write_sfti(AxonSpikes(ints(4), ints(2), ints(9)), tmp_path / "s.sfti")
    lines = (tmp_path / "s.sfti").read_text().splitlines()
    assert lines[1:] == [
        '{"version":"sfti1.0", "defaultDestinationDelay" : 1}',
        '{"spike":{"srcTime":3,"destCore":2,"destAxon":9}}',
    ]
    swapped = '\n{ "spike" : {"destAxon":9, "srcTime": 6, "destCore":2}}\n\n'
    (tmp_path / "t.sfti").write_text("\n".join([lines[0], lines[1].replace(": 1", ": 3")]) + swapped)
    assert same(read_sfti(tmp_path / "t.sfti"), AxonSpikes(ints(9), ints(2), ints(9)))


HEADER = b"""{"class":"SpikeWriter","encoding":"CONNPIN","nscsVersion":"1.4.0"}
{"connectors": [{"ID":0,"csize":300,"bpp":16,"delayMode":0}, {"ID":5,"csize":4,"bpp":8,"delayMode":1}]}\n\xff"""


def record(*blocks: tuple[int, bytes]) -> bytes:
    body = b"".join(struct.pack(">IIQ", 0xFEFCFEFC, tick, 0) + groups for tick, groups in blocks)
    return HEADER + body + struct.pack(">IIQ", 0xFEFCFEFC, 0xFFFFFFFF, 0)


def group(connector: int, *pins: int) -> bytes:
    form = ">H" if connector == 0 else ">B"
    delays = b"" if connector == 0 else b"\x01" * len(pins)
    return struct.pack(">HH", connector, len(pins)) + b"".join(struct.pack(form, pin) for pin in pins) + delays


def test_ibms_record_is_read_by_connector_and_width(tmp_path: Path) -> None:
    (tmp_path / "s.sfcp").write_bytes(record((2, group(0, 1, 299) + group(5, 3)), (4, b""), (7, group(5, 0, 1))))
    found = read_sfcp(tmp_path / "s.sfcp")
    assert found.tick.tolist() == [2, 2, 2, 7, 7]
    assert found.pin.tolist() == [1, 299, 303, 300, 301]
    assert found.core.tolist() == found.neuron.tolist() == [-1] * 5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (HEADER[:-1], r"byte 0xFF after the header is missing"),
        (HEADER.replace(b"CONNPIN", b"TEXT"), r"line 1: encoding must be 'CONNPIN'"),
        (HEADER.replace(b'"bpp":16', b'"bpp":17'), r"connectors: \[0, 300, 17, 0\], must have ID, csize, bpp 8 or 16"),
        (HEADER.replace(b"connectors", b"connector"), r"connectors: missing, must name at least one"),
        (record((2, group(0, 300))), r"the record is broken \(byte 16: pin 300, connector 0 has 300\)"),
        (record((2, group(3, 0))), r"byte 16: connector 3, the header names \[0, 5\]"),
        (record((2, group(0, 1)))[:-3], r"the record is broken"),
        (record((2, group(0, 1)))[:-18], r"the record is broken"),
        (record((2, b"")) + b"x", r"byte 32: more after the last tick"),
        (HEADER + bytes(20), r"byte 0: 0x0, must be 0xfefcfefc"),
        (record((1 << 31, group(0, 1))), r"spike 0: \(2147483648, 1, -1, -1\), allowed 0\.\.2147483647"),
    ],
)
def test_a_broken_record_is_refused_with_its_place(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "s.sfcp").write_bytes(data)
    with pytest.raises(FormatError, match=rf"s\.sfcp: (the record is broken \()?{message}"):
        read_sfcp(tmp_path / "s.sfcp")


SFTI = '{"class":"SpikeWriter","encoding":"TEXT"}\n{"version":"sfti1.0","defaultDestinationDelay":1}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SFTI.replace("TEXT", "RAWI3"), r"s\.sfti: line 1: encoding is 'RAWI3', must be 'TEXT'"),
        (SFTI.replace(":1}", ":16}"), r"s\.sfti: line 2: defaultDestinationDelay is 16, allowed 0\.\.15"),
        (SFTI.splitlines()[0], r"s\.sfti: line 2: missing, the header has two lines"),
        (SFTI + '{"spike":{"srcTime":1}}', r"s\.sfti: line 3: must be a spike of srcTime, destCore, destAxon"),
        (SFTI + '\n{"spike":{"srcTime":1', r"s\.sfti: spike in line 4: line 1, column"),
        (
            SFTI + '{"spike":{"srcTime":1,"destCore":-4,"destAxon":0}}',
            r"no legal spikes \(spikes\.core|spike 0: \(2, -4, 0\)",
        ),
        (SFTI + f'{{"spike":{{"srcTime":{10**20},"destCore":0,"destAxon":0}}}}', r"spike 0: \(1000"),
        ("", r"s\.sfti: line 1: missing"),
    ],
)
def test_broken_text_of_ibm_is_refused_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "s.sfti").write_text(text)
    with pytest.raises(FormatError, match=message):
        read_sfti(tmp_path / "s.sfti")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tick,core\n", r"line 1: found 'tick,core', allowed tick,core,axon; tick,line; tick,pin,core,neuron"),
        ("", r"line 1: found ''"),
        ("tick,line\n1,2\n1,2,3\n", r"line 3: found '1,2,3', must be 2 integers"),
        ("tick,line\n1, 2\n", r"line 2: found '1, 2'"),
        ("tick,line\n-1,2\n", r"no legal spikes \(spikes\.tick"),
        ("tick,line\n1,9999999999\n", r"spike 0: \(1, 9999999999\), allowed 0\.\.2147483647"),
    ],
)
def test_broken_columns_are_refused_with_their_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(FormatError, match=rf"s\.csv: {message}"):
        read_csv(tmp_path / "s.csv")


def test_an_npz_of_other_spikes_is_refused(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", KIND, VERSION, {"of": "dreams"}, {})
    with pytest.raises(FormatError, match=r"a\.npz: field of is 'dreams', allowed axons, lines, pins"):
        load_spikes(tmp_path / "a.npz")
    for arrays in ({"tick": ints(1)}, {"tick": ints(1), "line": ints(-1)}, {"tick": ints(1), "lines": ints(1)}):
        write_arrays(tmp_path / "b.npz", KIND, VERSION, {"of": "lines"}, arrays)
        with pytest.raises(FormatError, match=r"b\.npz: no legal spikes \("):
            load_spikes(tmp_path / "b.npz")


def test_gzip_is_unpacked_up_to_a_limit(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(5000)))
    assert unpacked(tmp_path / "a.gz", 5000) == bytes(5000)
    with pytest.raises(FormatError, match=r"a\.gz: more than 4,999 bytes unpacked; split the file"):
        unpacked(tmp_path / "a.gz", 4999)
    (tmp_path / "b.gz").write_bytes(gzip.compress(bytes(5000))[:-9])
    with pytest.raises(FormatError, match=r"b\.gz: broken gzip"):
        unpacked(tmp_path / "b.gz")

"""IBM's raw binary spikes: input and output records read, input written, whatever is broken refused."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interchange_cases import ibm_graph, ints, random_spikes, same

from deploy.emulator import Emulator
from deploy.files import FormatError
from deploy.formats import kind_at, load_spikes, save_spikes
from deploy.raw_spikes import read_sfri, write_sfri
from deploy.spikes import AxonSpikes, PinSpikes, addressed, run

HEADER = b'{"class":"SpikeWriter","nscsVersion":"1.4.0","encoding":"RAWI3","defaultDestinationDelay":1}\xff'
OUTPUT = b'{"class":"SpikeWriter","nscsVersion":"1.4.0","encoding":"RAWO6"}\xff'


def words(*values: int) -> bytes:
    return struct.pack(f">{len(values)}i", *values)


def test_input_is_what_pytruenorth_writes(tmp_path: Path) -> None:
    spikes = AxonSpikes(ints(4, 1), ints(2, 300), ints(9, 255))
    write_sfri(spikes, tmp_path / "s.sfri")
    assert (tmp_path / "s.sfri").read_bytes() == HEADER + words(3, 2, 9, 0, 300, 255)
    assert same(read_sfri(tmp_path / "s.sfri"), spikes)


@given(
    st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 65_535), st.integers(0, 255)), max_size=20), st.booleans()
)
def test_input_keeps_ticks_of_integration(
    tmp_path_factory: pytest.TempPathFactory, table: list[tuple[int, int, int]], packed: bool
) -> None:
    columns = np.array(table, np.int32).reshape(-1, 3)
    spikes = AxonSpikes(*(np.ascontiguousarray(column) for column in columns.T))
    path = tmp_path_factory.mktemp("raw") / "s.sfri"
    write_sfri(spikes, path)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert same(read_sfri(path), spikes)


def test_output_names_pins_by_negative_cores(tmp_path: Path) -> None:
    (tmp_path / "s.sfro").write_bytes(OUTPUT + words(7, 0, 250, -32, 5, 1) + words(9, 3, 8, -33, 255, 1))
    assert kind_at(tmp_path / "s.sfro") == "sfri"
    expected = PinSpikes(ints(7, 9), ints(5, 511), ints(0, 3), ints(250, 8))
    assert same(load_spikes(tmp_path / "s.sfro"), expected)


def test_a_record_of_spikes_between_cores_is_what_enters_them(tmp_path: Path) -> None:
    (tmp_path / "s.sfro").write_bytes(OUTPUT + words(7, 0, 250, 4, 5, 3) + words(9, 3, 8, 900, 255, 15))
    assert same(load_spikes(tmp_path / "s.sfro"), AxonSpikes(ints(10, 24), ints(4, 900), ints(5, 255)))


def test_the_text_of_a_record_says_the_same(tmp_path: Path) -> None:
    text = '{"class":"SpikeWriter","encoding":"TEXT","nscsVersion":"1.4.0"}\n'
    text += '    {"version":"sfto1.0", "defaultDestinationDelay" : 1}\n'
    line = '{"spike":{"srcTime":%d,"srcCore":%d,"srcNeuron":%d,"destCore":%d,"destAxon":%d,"destDelay":%d}}\n'
    spikes = [(7, 0, 250, -32, 5, 1), (9, 3, 8, -33, 255, 1)]
    (tmp_path / "s.sfto").write_text(text + "".join(line % spike for spike in spikes))
    (tmp_path / "s.sfro").write_bytes(OUTPUT + b"".join(words(*spike) for spike in spikes))
    assert kind_at(tmp_path / "s.sfto") == "sfti"
    assert same(load_spikes(tmp_path / "s.sfto"), load_spikes(tmp_path / "s.sfro"))
    (tmp_path / "t.sfto").write_text(
        (tmp_path / "s.sfto").read_text() + '{"spike":{"srcTime":1,"destCore":0,"destAxon":0}}'
    )
    with pytest.raises(FormatError, match=r"t\.sfto: spike 2: \(1, 0, 0\), allowed six numbers"):
        load_spikes(tmp_path / "t.sfto")


def test_a_header_of_several_lines_is_read(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(HEADER.replace(b",", b" ,\n ").replace(b":1}", b": 15 }\n") + words(0, 1, 2))
    assert same(load_spikes(tmp_path / "s"), AxonSpikes(ints(15), ints(1), ints(2)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (HEADER[:-1], r"byte 0xFF after the header is missing"),
        (HEADER.replace(b"RAWI3", b"RAWI4"), r"encoding is 'RAWI4', allowed RAWI3, RAWO6"),
        (HEADER.replace(b'"RAWI3"', b"[3]"), r"encoding is '\[3\]', allowed RAWI3, RAWO6"),
        (HEADER.replace(b":1}", b":16}"), r"defaultDestinationDelay is 16, allowed 0\.\.15"),
        (HEADER.replace(b',"defaultDestinationDelay":1', b""), r"defaultDestinationDelay is None, allowed 0\.\.15"),
        (HEADER + words(1, 2), r"8 bytes of spikes, must be a multiple of 12"),
        (HEADER + words(2147483647, 0, 0), r"spike 0: \(2147483648, 0, 0\), allowed 0\.\."),
        (OUTPUT + words(1, 2, 3), r"12 bytes of spikes, must be a multiple of 24"),
        (
            OUTPUT + words(1, 0, 0, -31, 5, 1),
            r"spike 0: \(1, 0, 0, -31, 5, 1\), allowed six numbers, to a core or to -32",
        ),
        (OUTPUT + words(1, 0, 0, -32, 256, 1), r"spike 0: \(1, 0, 0, -32, 256, 1\), allowed six numbers"),
        (OUTPUT + words(-1, 0, 0, -32, 5, 1), r"spike 0: \(4294967295, 5, 0, 0\), allowed 0\.\."),
        (OUTPUT + words(1, 0, 0, -(1 << 31), 5, 1), r"spike 0: \(1, 5497558\d+, 0, 0\), allowed 0\.\."),
        (
            OUTPUT + words(1, 0, 0, -32, 5, 1) + words(1, 0, 0, 4, 5, 1),
            r"1 spikes to pins and 1 to cores, must be of one sort; record either",
        ),
    ],
)
def test_a_broken_record_is_refused_with_its_place(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "s.sfri").write_bytes(data)
    with pytest.raises(FormatError, match=rf"s\.sfri: {message}"):
        read_sfri(tmp_path / "s.sfri")


def test_pins_can_not_be_written_raw(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"spikes of pins can not be written as sfri; take \.npz, \.csv"):
        save_spikes(PinSpikes(ints(1), ints(2), ints(-1), ints(-1)), tmp_path / "s.sfri", "sfri")


def test_a_graph_does_alike_with_raw_and_with_text_input(tmp_path: Path) -> None:
    graph = ibm_graph(5, cores=3)
    spikes = random_spikes(graph, 12, 1)
    for name in ("s.sfri", "s.sfti"):
        save_spikes(spikes, tmp_path / name, name[2:])
    runs = []
    for name in ("s.sfri", "s.sfti"):
        found = load_spikes(tmp_path / name)
        assert isinstance(found, AxonSpikes)
        driven, lines = addressed(graph, found)
        runs.append(run(Emulator(driven), lines, 15))
    assert same(*runs) and len(runs[0].tick)

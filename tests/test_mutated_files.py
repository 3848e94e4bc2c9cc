"""Files with errors of every sort: each is refused with one clear error or read as a whole, and nothing else."""

from __future__ import annotations

import contextlib
import gzip
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import SPECS, random_graph
from interchange_cases import RECORDS, SMALL_IBM, ibm_graph, ranc_graph_case, random_spikes

from deploy.chip import CHIPS, CompileError
from deploy.compiled import load_compiled, save_compiled
from deploy.compiler import compile_spec
from deploy.emulator import EmulationError, Emulator
from deploy.files import FormatError
from deploy.formats import Loaded, kind_at, load, load_spikes, save, save_spikes
from deploy.graphs import load_graph, save_graph
from deploy.ibm_reader import read_model
from deploy.ibm_text import model_text
from deploy.ranc import RancConfig, config_text, read_config, read_output
from deploy.raw_spikes import read_sfri
from deploy.replay import Played, Replay, load_replay, save_replay
from deploy.side import side_path
from deploy.spec import load_spec, save_spec
from deploy.spike_files import load_spikes as load_own_spikes
from deploy.spike_files import read_csv, read_sfcp, read_sfti

WORDS = [b"-1", b"0", b"1e9", b"1.5", b"NaN", b"-Infinity", b"true", b"null", b'""', b'"x"', b"[]", b"{}", b"[[[["]
WORDS += [b"9" * 25, b"9" * 5000, b"4294967296", b"-2147483649", b"65536", b"}]", b"/*", b"*/", b"//", b",", b":", b'"']
WORDS += [
    b"\x00",
    b'"core":',
    b'"0:999999999"',
    b'"7x999999999"',
    b"\\u0000",
    b'"\\ud800"',
    b"\xef\xbb\xbf",
    b"\xff\xfe",
]
WORDS += [b"PK\x03\x04", b"\x1f\x8b", b"\xfe\xfc\xfe\xfc", b"[" * 3000, b'{"a":' * 3000]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to three errors: flipped bits, cut or doubled pieces, numbers and words replaced, text put in."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(ERRORS)(bytearray(data), rng)
    return bytes(data)


def _flip(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 8))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def _cut(data: bytearray, rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data) + 1)]


def _piece(data: bytearray, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(start + rng.choice((1, 2, 5, 40, 300)), len(data))


def _drop(data: bytearray, rng: random.Random) -> bytearray:
    start, stop = _piece(data, rng)
    return data[:start] + data[stop:]


def _double(data: bytearray, rng: random.Random) -> bytearray:
    start, stop = _piece(data, rng)
    return data[:stop] + data[start:]


def _insert(data: bytearray, rng: random.Random) -> bytearray:
    start, stop = _piece(data, rng)
    return data[:start] + rng.choice(WORDS) + data[rng.choice((start, stop)) :]


def _number(data: bytearray, rng: random.Random) -> bytearray:
    """A number replaced, or a word put where a number stood, so that texts stay well-formed."""
    places = [i for i in range(len(data)) if 48 <= data[i] <= 57 and (i == 0 or not 48 <= data[i - 1] <= 57)]
    if not places:
        return data
    start = rng.choice(places)
    stop = start
    while stop < len(data) and 48 <= data[stop] <= 57:
        stop += 1
    new = str(rng.choice((0, 1, 2, 7, 15, 16, 255, 256, 257, 70000, 1 << 31, 1 << 32))).encode()
    return data[:start] + (new if rng.random() < 0.7 else rng.choice(WORDS)) + data[stop:]


def _digit(data: bytearray, rng: random.Random) -> bytearray:
    """One digit for another: what most often is legal and something else."""
    places = [i for i in range(len(data)) if 48 <= data[i] <= 57]
    if places:
        data[rng.choice(places)] = rng.randrange(48, 58)
    return data


Error = Callable[[bytearray, random.Random], bytearray]
ERRORS: list[Error] = [_flip, _cut, _drop, _double, _insert, _number, _number, _digit, _digit]


@dataclass(frozen=True)
class Kind:
    """A whole file, how it is read, and what tells that a reading is the original's."""

    data: bytes
    read: Callable[[Path], Any]
    digest: Callable[[Any], str] | None  # None: a file that carries no digest may become another legal one


def _array_digest(record: Any) -> str:
    return repr([(name, value.tolist()) for name, value in sorted(vars(record).items())])


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kind]:
    """Every kind of file, small enough that thousands can be tried."""
    folder = tmp_path_factory.mktemp("whole")
    graph, ranc = random_graph(3, cores=2, axons=9, neurons=7, lines=3), ranc_graph_case(4, cores=2, axons=5, neurons=6)
    spikes = random_spikes(ranc, 6, 1, share=0.5)
    save_graph(graph, folder / "graph.npz", {"a": [1, "x"]})
    ids = np.arange(7)
    played = Played("Pong", "chip", None, {"sticky": 0.0}, 3, ("NOOP", "FIRE"), "ab", {"chip": "cd"}, {"numpy": "1"})
    sums = (ids * 977).astype(np.uint16)
    save_replay(Replay(played, (ids % 2).astype(np.uint8), sums, sums + 1, 9, (2.0,)), folder / "replay.npz")
    save_compiled(compile_spec(SPECS["one_layer"](), CHIPS["tiny"], seed=1), folder / "chip.npz", {"a": "b"})
    save(Loaded(ranc, {}, spikes), folder / "grid.ranc.json", "ranc")
    for name in ("spikes.npz", "spikes.csv", "spikes.csv.gz", "spikes.sfti", "spikes.sfti.gz", "spikes.sfri"):
        save_spikes(spikes, folder / name, "spikes" if name.endswith("npz") else name.split(".")[1])
    (folder / "record.sfcp").write_bytes(SFCP)
    (folder / "record.sfro").write_bytes(SFRO)
    (folder / "record.sfto").write_text(SFTO)
    save_spec(SPECS["one_layer"](), folder / "student.npz", {"a": "b"})
    save(Loaded(ibm_graph(2, cores=2, axons=9, neurons=7), {}), folder / "sided.json", "ibm")
    (folder / "records.json").write_text(RECORDS)
    (folder / "out.txt").write_text("\ufeff0 0 0 \n1 0 1 \n")
    records = read_model_text(folder, SMALL_IBM)
    config = read_config(folder / "grid.config.json")

    def data(name: str) -> bytes:
        return (folder / name).read_bytes()

    return {
        "graph": Kind(data("graph.npz"), load_graph, lambda found: found[0].digest + repr(found[1])),
        "chip": Kind(data("chip.npz"), load_compiled, lambda found: found[0].digest + repr(found[1])),
        "own spikes": Kind(data("spikes.npz"), load_own_spikes, _array_digest),
        "student": Kind(data("student.npz"), load_spec, lambda found: found[0].digest + repr(found[1])),
        "replay": Kind(data("replay.npz"), load_replay, lambda found: repr(found) + str(found.picture.tolist())),
        "side file": Kind(data("sided.json.side.npz"), beside(folder / "sided.json"), graph_digest),
        "ibm": Kind(SMALL_IBM.encode(), load, None),
        "pytruenorth": Kind(data("records.json"), load, None),
        "ibm model": Kind(records, read_model, None),
        "ranc": Kind(data("grid.ranc.json"), lambda path: load(path, folder / "grid.config.json"), None),
        "config": Kind(config_text(config).encode(), read_config, None),
        "csv": Kind(data("spikes.csv"), read_csv, None),
        "sfti": Kind(data("spikes.sfti"), read_sfti, None),
        "sfti.gz": Kind(data("spikes.sfti.gz"), read_sfti, _array_digest),
        "csv.gz": Kind(data("spikes.csv.gz"), read_csv, _array_digest),
        "sfri": Kind(data("spikes.sfri"), read_sfri, None),
        "sfro": Kind(data("record.sfro"), read_sfri, None),
        "sfto": Kind(data("record.sfto"), read_sfti, None),
        "sfcp": Kind(data("record.sfcp"), read_sfcp, None),
        "output": Kind(data("out.txt"), read_output, None),
        "any spikes": Kind(data("spikes.sfti"), load_spikes, None),
    }


def graph_digest(found: Loaded) -> str:
    return found.graph.digest + repr(found.extra)


def beside(model: Path) -> Callable[[Path], Loaded]:
    """Reads a model with the given side file in place of its own."""

    def read(path: Path) -> Loaded:
        side_path(model).write_bytes(path.read_bytes())
        return load(model)

    return read


def read_model_text(folder: Path, text: str) -> bytes:
    """The same model with comments, as this project writes it."""
    (folder / "model.json").write_text(text)
    return model_text(read_model(folder / "model.json")).encode()


SFRO = b'{"class":"SpikeWriter","nscsVersion":"1.4.0","encoding":"RAWO6"}\xff'
SFRO += struct.pack(">18i", *(7, 0, 25, -32, 5, 1), *(7, 1, 8, -33, 255, 1), *(9, 1, 9, -32, 4, 2))
SFTO = """{"class":"SpikeWriter","encoding":"TEXT","nscsVersion":"1.4.0"}
{"version":"sfto1.0", "defaultDestinationDelay" : 1}
{"spike":{"srcTime":0,"srcCore":0,"srcNeuron":4,"destCore":1130,"destAxon":102,"destDelay":1}}
{"spike":{"srcTime":3,"srcCore":0,"srcNeuron":10,"destCore":874,"destAxon":190,"destDelay":2}}
"""
SFCP = b'{"class":"SpikeWriter","encoding":"CONNPIN"}\n{"connectors":[{"ID":0,"csize":9,"bpp":8,"delayMode":1}]}\n\xff'
SFCP += b"\xfe\xfc\xfe\xfc\x00\x00\x00\x02" + bytes(8) + b"\x00\x00\x00\x02\x03\x08\x01\x01"
SFCP += b"\xfe\xfc\xfe\xfc\xff\xff\xff\xff" + bytes(8)


def outcome(kind: Kind, data: bytes, path: Path, whole: str | None) -> str:
    """ "refused" or "read"; whatever else comes of a file is a failure of the test."""
    path.write_bytes(data)
    try:
        found = kind.read(path)
    except (FormatError, CompileError) as error:
        return "refused" if 0 < len(str(error)) < 20_000 else "refused at no or any length"
    if kind.digest is not None:
        assert kind.digest(found) == whole, "a changed file of ours is refused or says the same"
    elif isinstance(found, Loaded):
        # What is read runs; a potential may leave its range, which a file can not know.
        with contextlib.suppress(EmulationError):
            Emulator(found.graph, seed=1).step(np.ones(found.graph.n_inputs, bool))
    elif isinstance(found, RancConfig):
        assert 1 <= found.num_neurons <= 4096
    return "read"


def try_errors(kinds: dict[str, Kind], count: int, path: Path) -> dict[str, dict[str, int]]:
    """`count` files in turn over all kinds; how many of each were refused and how many read."""
    # A stream for each kind, so that a longer file of one kind draws no other errors for the rest.
    rng = {name: random.Random(f"1234 {name}") for name in kinds}
    whole = {}
    for name, kind in kinds.items():
        path.write_bytes(kind.data)
        found = kind.read(path)
        whole[name] = kind.digest(found) if kind.digest else None
    tally = {name: {"refused": 0, "read": 0} for name in kinds}
    for index in range(count):
        name = list(kinds)[index % len(kinds)]
        tally[name][outcome(kinds[name], mutated(kinds[name].data, rng[name]), path, whole[name])] += 1
    return tally


@pytest.mark.parametrize("count", [650, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_changed_file_is_refused_or_read_and_nothing_else(count: int, kinds: dict[str, Kind], tmp_path: Path) -> None:
    tally = try_errors(kinds, count, tmp_path / "file")
    for name in kinds:
        assert tally[name]["refused"] > count / len(kinds) / 4, f"{name}: {tally[name]}"
    for text in ("ibm", "ranc", "config", "csv", "sfti", "sfcp", "sfri", "sfro", "sfto", "pytruenorth", "output"):
        assert tally[text]["read"] > count / len(kinds) / 200, f"{text}: hardly a change was legal, {tally[text]}"


def test_files_of_other_kinds_are_refused_by_every_reader(kinds: dict[str, Kind], tmp_path: Path) -> None:
    path = tmp_path / "file"
    for name, kind in kinds.items():
        for other, data in kinds.items():
            graphs = {"ibm", "ibm model", "pytruenorth", "ranc", "graph", "chip"}
            alike = (
                {name, other} <= graphs
                or name == "any spikes"
                or {name, other} in ({"csv", "csv.gz"}, {"sfri", "sfro"})
            )
            if data.data == kind.data or alike or {name, other} <= {"sfti", "sfti.gz", "sfto", "any spikes"}:
                continue
            path.write_bytes(data.data)
            with pytest.raises((FormatError, CompileError), match="file"):
                kind.read(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"{}",
        b"[]",
        b"null",
        b"\x00" * 99,
        b"PK\x05\x06" + bytes(18),
        gzip.compress(b"", mtime=0),
        b"\xff" * 99,
    ],
)
def test_files_without_content_are_refused_by_every_reader(data: bytes, kinds: dict[str, Kind], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(data)
    for kind in kinds.values():
        with pytest.raises(FormatError, match="file"):
            kind.read(tmp_path / "file")


def test_the_kind_of_any_bytes_is_told_or_refused(kinds: dict[str, Kind], tmp_path: Path) -> None:
    rng = random.Random(7)
    known = set()
    for index in range(300):
        kind = list(kinds.values())[index % len(kinds)]
        (tmp_path / "file").write_bytes(mutated(kind.data, rng))
        with contextlib.suppress(FormatError):
            known.add(kind_at(tmp_path / "file"))
    assert known >= {"graph", "chip", "ibm", "ranc", "sfti", "sfcp", "csv"}


def test_errors_are_drawn_alike_by_equal_seeds_only() -> None:
    data = SMALL_IBM.encode()
    draws = [mutated(data, random.Random(seed)) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]

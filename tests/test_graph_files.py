"""A core graph as a file: whole or refused, every wrong field named, sizes known before anything is allocated."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import equal_runs, random_graph
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.cores import CoreGraph, graph_arrays
from deploy.emulator import Emulator
from deploy.files import HEADER, FormatError, digest_of, kind_of, read_arrays, write_arrays
from deploy.graphs import (
    KIND,
    VERSION,
    canonical,
    load_graph,
    neurons_of_type,
    pack_crossbar,
    plain_crossbar,
    save_graph,
)

Arrays = dict[str, np.ndarray[Any, Any]]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 130), st.integers(1, 90), st.booleans())
def test_what_is_read_is_what_was_written(
    tmp_path: Path, seed: int, cores: int, axons: int, neurons: int, stochastic: bool
) -> None:
    graph = random_graph(seed, cores, axons, neurons, lines=7, stochastic=stochastic)
    extra = {"name": "x", "list": [1, {"é": None}]}
    digest = save_graph(graph, tmp_path / "g.npz", extra)
    read, found = load_graph(tmp_path / "g.npz")
    assert read.digest == graph.digest and found == extra
    assert digest == save_graph(read, tmp_path / "h.npz", found)
    assert (tmp_path / "g.npz").read_bytes() == (tmp_path / "h.npz").read_bytes()
    other = random_graph(seed + 1, cores, axons, neurons, lines=7)
    assert save_graph(other, tmp_path / "o.npz", extra) != digest


def rewrite(path: Path, change: Callable[[dict[str, Any], Arrays], None]) -> None:
    """A file whose digest is right and whose contents are not."""
    save_graph(random_graph(3), path)
    facts, arrays, _ = read_arrays(path, KIND, VERSION[0])
    change(facts, arrays)
    write_arrays(path, KIND, VERSION, facts, arrays)


def several(facts: dict[str, Any], arrays: Arrays) -> None:
    facts["graph"]["origin"] = 3
    del facts["extra"], arrays["delay"]
    arrays["seed"] = arrays["seed"].astype(np.int64)
    arrays["type_leak"] = arrays["type_leak"][:-1]
    arrays["crossbar"] = arrays["crossbar"][0]
    arrays["surplus"] = np.zeros(1)


def test_every_wrong_field_is_named_at_once(tmp_path: Path) -> None:
    rewrite(tmp_path / "g.npz", several)
    with pytest.raises(FormatError, match=r"g\.npz: 7 fields are wrong; make the file again") as error:
        load_graph(tmp_path / "g.npz")
    assert str(error.value).splitlines()[1:] == [
        "graph.origin: 3, must be of type str",
        "extra: missing or no JSON object",
        "crossbar: 2 axes, must have 3",
        "seed: dtype int64, must be uint32",
        "delay: missing",
        "type_leak: shape [25], axis T is 26 in the fields before",
        "surplus: unknown",
    ]


def test_a_value_out_of_range_is_named(tmp_path: Path) -> None:
    rewrite(tmp_path / "g.npz", lambda facts, arrays: arrays["crossbar_of"].fill(99))
    with pytest.raises(FormatError, match=r"1 fields are wrong.*\ncrossbar_of: values 99\.\.99, allowed 0\.\.4"):
        load_graph(tmp_path / "g.npz")


@pytest.mark.parametrize("facts", [{}, {"graph": [], "extra": {}}, {"graph": {"origin": "imported"}, "extra": []}])
def test_facts_of_another_shape_are_refused(tmp_path: Path, facts: dict[str, Any]) -> None:
    write_arrays(tmp_path / "g.npz", KIND, VERSION, facts, graph_arrays(random_graph(3)))
    with pytest.raises(FormatError, match=r"fields are wrong; make the file again\ngraph"):
        load_graph(tmp_path / "g.npz")


def handmade(path: Path, members: dict[str, bytes], digest: str = "") -> None:
    """An npz with these members beside a header of ours."""
    header = {"kind": KIND, "version": list(VERSION), "digest": digest, "facts": {}}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(HEADER, json.dumps(header))
        for name, data in members.items():
            archive.writestr(name, data)


def npy(shape: str, data: bytes, version: tuple[int, int] = (1, 0)) -> bytes:
    head = f"{{'descr': '<u8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H", len(head)) + head + data


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("(1099511627776,)", r"delay\.npy: the header claims 8,796,093,022,208 bytes, there are 16"),
        ("(3,)", r"delay\.npy: the header claims 24 bytes, there are 16"),
        ("(-2,)", r"delay\.npy: the header claims -16 bytes, there are 16"),
        ("((((", r"not a readable file"),
        ("'", r"not a readable file"),
    ],
)
def test_a_header_that_claims_more_than_there_is_is_refused(tmp_path: Path, shape: str, message: str) -> None:
    handmade(tmp_path / "g.npz", {"delay.npy": npy(shape, bytes(16))})
    with pytest.raises(FormatError, match=message):
        load_graph(tmp_path / "g.npz")


def test_another_version_of_arrays_is_refused(tmp_path: Path) -> None:
    handmade(tmp_path / "g.npz", {"delay.npy": npy("(2,)", bytes(16), (3, 0))})
    with pytest.raises(FormatError, match=r"delay\.npy: npy version \(3, 0\), allowed 1\.0 and 2\.0"):
        load_graph(tmp_path / "g.npz")


def test_a_file_that_announces_too_much_is_refused_unread(tmp_path: Path) -> None:
    handmade(tmp_path / "g.npz", {"delay.npy": npy("(2,)", bytes(16))})
    with pytest.raises(FormatError, match=r"\d+ bytes unpacked, allowed 100"):
        read_arrays(tmp_path / "g.npz", KIND, VERSION[0], limit=100)


def test_a_member_that_unpacks_to_more_than_it_announces_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.npz"
    handmade(path, {"delay.npy": npy("(131072,)", bytes(1 << 20))})
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02")
    assert struct.unpack_from("<I", data, place + 24)[0] > 1 << 20
    struct.pack_into("<I", data, place + 24, 100)
    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"g\.npz: not a readable file of ours"):
        load_graph(path)


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.npz"
    save_graph(random_graph(3), path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("delay.npy", b"")
    with pytest.raises(FormatError, match="two members of one name"):
        load_graph(path)


def test_the_kind_of_a_file_is_told_without_reading_it(tmp_path: Path) -> None:
    save_graph(random_graph(3), tmp_path / "g.npz")
    assert kind_of(tmp_path / "g.npz") == KIND
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    (tmp_path / "none").write_text("{}")
    assert kind_of(tmp_path / "other.npz") is None and kind_of(tmp_path / "none") is None


def test_a_header_nested_too_deep_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "g.npz", "w") as archive:
        archive.writestr(HEADER, "[" * 200_000)
    with pytest.raises(FormatError, match="not a readable file of ours"):
        load_graph(tmp_path / "g.npz")


@pytest.mark.parametrize("seed", range(6))
def test_a_canonical_graph_does_the_same(seed: int) -> None:
    graph = random_graph(seed)
    assert equal_runs(Emulator(graph), Emulator(canonical(graph)), 30, seed) > 0


@pytest.mark.parametrize("seed", range(6))
def test_dictionaries_in_another_order_are_the_same_graph(seed: int) -> None:
    graph = random_graph(seed)
    rng = np.random.default_rng(seed)
    order, types = rng.permutation(len(graph.crossbar)), rng.permutation(len(graph.types.leak))
    columns = {name: value[types] for name, value in vars(graph.types).items()}
    back = np.concatenate([[0], np.argsort(types) + 1])
    shuffled = replace(
        graph,
        crossbar=graph.crossbar[order],
        crossbar_of=np.argsort(order)[graph.crossbar_of].astype(np.int32),
        types=replace(graph.types, **columns),
        neuron_type=back[graph.neuron_type].astype(np.uint16),
    )
    assert shuffled.digest != graph.digest
    assert canonical(shuffled).digest == canonical(graph).digest == canonical(canonical(graph)).digest
    moved = replace(graph, delay=np.where(graph.delay > 1, graph.delay - 1, graph.delay).astype(np.uint8))
    assert canonical(moved).digest != canonical(graph).digest


def test_synapses_are_packed_as_a_graph_holds_them() -> None:
    graph = random_graph(5)
    core = 2
    bits = plain_crossbar(graph, core)
    for neuron, axon in np.argwhere(np.ones_like(bits))[::7]:
        word = int(graph.crossbar[graph.crossbar_of[core], axon // 64, neuron])
        there = graph.neuron_type[core, neuron] > 0 and graph.axon_type[core, axon] != CoreGraph.UNUSED_AXON
        assert bits[neuron, axon] == bool(word >> int(axon % 64) & 1 and there)
    packed = pack_crossbar(bits)
    assert int(packed[1, 3]) == sum(int(b) << i for i, b in enumerate(bits[3, 64:]))


def test_the_neurons_of_a_type_are_listed_in_spans() -> None:
    graph = random_graph(1, cores=12, axons=5, neurons=6)
    kinds = np.zeros((12, 6), np.uint16)
    kinds[0, [0, 1, 2, 5]] = kinds[4, 3] = 2
    assert neurons_of_type(replace(graph, neuron_type=kinds), 1) == "core 0 neurons 0-2, 5; core 4 neurons 3"
    kinds = np.full_like(kinds, 2)
    assert neurons_of_type(replace(graph, neuron_type=kinds), 1).endswith("core 7 neurons 0-5; and 4 more cores")
    assert neurons_of_type(replace(graph, neuron_type=kinds), 0) == ""


@pytest.mark.slow
def test_a_full_chip_without_anything_shared_stays_below_45_mb(tmp_path: Path) -> None:
    rng, cores = np.random.default_rng(0), 4096
    small = random_graph(0, cores=1, axons=256, neurons=256, lines=0)
    whole = replace(
        small,
        crossbar=rng.integers(0, 1 << 64, (cores, 4, 256), np.uint64),
        crossbar_of=np.arange(cores, dtype=np.int32),
        axon_type=np.repeat(small.axon_type, cores, axis=0),
        seed=rng.integers(0, 1 << 32, cores, np.uint32),
        neuron_type=rng.integers(1, len(small.types.leak) + 1, (cores, 256)).astype(np.uint16),
        target_core=rng.integers(0, cores, (cores, 256)).astype(np.int32),
        target_axon=rng.integers(0, 256, (cores, 256)).astype(np.uint8),
        delay=rng.integers(1, 16, (cores, 256)).astype(np.uint8),
    )
    save_graph(whole, tmp_path / "g.npz")
    assert (tmp_path / "g.npz").stat().st_size <= 45_000_000
    assert load_graph(tmp_path / "g.npz")[0].digest == whole.digest


def test_the_digest_covers_names_shapes_and_kinds() -> None:
    one = {"a": np.zeros(4, np.uint8)}
    others = [
        {"b": one["a"]},
        {"a": one["a"].reshape(2, 2)},
        {"a": one["a"].view(np.int8)},
        {"a": one["a"] + np.uint8(1)},
    ]
    digests = {digest_of(arrays, {}) for arrays in [one, *others]} | {digest_of(one, {"x": 1})}
    assert len(digests) == 6

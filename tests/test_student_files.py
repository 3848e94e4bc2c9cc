"""A student as a file: whole or refused, with the file and the field named."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import SPECS, one_layer, pictures, two_heads

from deploy.files import HEADER, FormatError, digest_of, read_arrays, write_arrays, write_whole
from deploy.spec import KIND, VERSION, load_spec, save_spec


@pytest.mark.parametrize("name", SPECS)
def test_what_is_read_is_what_was_written(name, tmp_path):
    spec, path = SPECS[name](), tmp_path / "new" / "student.npz"
    save_spec(spec, path, {"teacher": "abc", "score": 1.5})
    read, origin = load_spec(path)
    assert read.digest == spec.digest and origin == {"teacher": "abc", "score": 1.5}
    assert np.array_equal(read.run(pictures(spec, 3)), spec.run(pictures(spec, 3)))
    assert [file.name for file in path.parent.iterdir()] == ["student.npz"]


def test_equal_students_make_equal_files_and_the_origin_decides_nothing(tmp_path):
    for name, origin in (("a", None), ("b", None), ("c", {"x": 1})):
        save_spec(two_heads(), tmp_path / name, origin)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c and load_spec(tmp_path / "a")[0].digest == load_spec(tmp_path / "c")[0].digest


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "student.npz"
    save_spec(one_layer(), path)
    return path


def test_a_file_cut_off_anywhere_is_refused(saved):
    data = saved.read_bytes()
    for length in range(0, len(data), 7):
        saved.write_bytes(data[:length])
        with pytest.raises(FormatError, match=r"student\.npz: not a readable file of ours"):
            load_spec(saved)


def refused_of(path: Path, flips: Iterable[int]) -> int:
    """How many of these flipped bits make the file unreadable; the others change nothing (dates and the like)."""
    data, digest, messages = bytearray(path.read_bytes()), one_layer().digest, list[str]()
    for bit in flips:
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        data[bit // 8] ^= 1 << bit % 8
        try:
            assert load_spec(path)[0].digest == digest, bit
        except FormatError as error:
            messages.append(str(error))
    assert all(str(path) in message for message in messages)
    return len(messages)


def test_a_flipped_bit_is_refused_or_changes_nothing(saved):
    flips = range(0, 8 * saved.stat().st_size, 23)
    assert refused_of(saved, flips) > len(flips) / 2


def test_a_bit_that_announces_encryption_is_refused(saved):
    data = bytearray(saved.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] ^= 1  # the flags of the first member in the table of contents
    saved.write_bytes(data)
    with pytest.raises(FormatError, match=r"student\.npz: not a readable file of ours \(.*encrypted"):
        load_spec(saved)


@pytest.mark.slow
def test_every_flipped_bit_is_refused_or_changes_nothing(saved):
    bits = 8 * saved.stat().st_size
    assert refused_of(saved, range(bits)) > bits / 2


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive at all", b"\x93NUMPY" + bytes(64)])
def test_a_foreign_file_is_refused(content, tmp_path):
    path = tmp_path / "foreign.npz"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"foreign\.npz: not a readable file of ours"):
        load_spec(path)


def test_a_foreign_archive_is_refused(tmp_path):
    np.savez(tmp_path / "plain.npz", weights=np.ones(3))
    with pytest.raises(FormatError, match=r"plain\.npz: not a readable file of ours \(.*header\.json"):
        load_spec(tmp_path / "plain.npz")


def test_pickled_arrays_are_never_loaded(saved):
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("evil.npy", _pickled())
    with pytest.raises(FormatError, match="not a readable file of ours"):
        load_spec(saved)


def _pickled() -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([{}], object), allow_pickle=True)
    return out.getvalue()


def rewrite_header(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(members[HEADER])
    members[HEADER] = json.dumps(change(header) or header).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


HEADERS = {
    "another kind": (lambda h: h.update(kind="spikecade-chip"), r"field kind is 'spikecade-chip', must be 'spikecade-"),
    "no kind": (lambda h: h.pop("kind") and None, r"field kind is None"),
    "a newer version": (lambda h: h.update(version=[2, 0]), r"field version is \[2, 0\], this program reads 1\.x"),
    "no version": (lambda h: h.pop("version") and None, r"field version is None"),
    "a version that is none": (lambda h: h.update(version="1.0"), r"field version is 1\.0"),
    "no facts": (lambda h: h.update(facts=[1]), r"field facts is missing"),
    "changed facts": (lambda h: h["facts"].update(origin={"x": 1}), r"field digest is [0-9a-f]+, the contents have"),
    "no digest": (lambda h: h.pop("digest") and None, r"field digest is None"),
    "no object": (lambda h: [1], r"field header\.json is no JSON object"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_wrong_header_is_refused_with_its_field(case, saved):
    change, message = HEADERS[case]
    rewrite_header(saved, change)
    with pytest.raises(FormatError, match=r"student\.npz: " + message):
        load_spec(saved)


def test_a_newer_file_of_the_same_format_is_read(saved):
    rewrite_header(saved, lambda header: header.update(version=[1, 7]))
    assert load_spec(saved)[0].digest == one_layer().digest


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> None:
    """Write a file whose digest is right and whose contents are not."""
    facts, arrays, _ = read_arrays(path, KIND, VERSION[0])
    change(facts, arrays)
    write_arrays(path, KIND, VERSION, facts, arrays)


CONTENTS = {
    "an array missing": (lambda f, a: a.pop("layer0.leak"), r"'layer0\.leak'"),
    "a fact missing": (lambda f, a: f.pop("heads"), r"'heads'"),
    "no layers named": (lambda f, a: f.update(names=[]), r"no legal student"),
    "names that are none": (lambda f, a: f.update(names=7), r"no legal student"),
    "a head that is none": (lambda f, a: f.update(heads=["Pong"]), r"no legal student"),
    "a stride of zero": (lambda f, a: f["conv layer0"].update(stride=0), r"layer0: groups, stride"),
    "a shape of two": (lambda f, a: f["conv layer0"].update(in_shape=[3, 5]), r"no legal student"),
    "a shape of words": (lambda f, a: f["conv layer0"].update(in_shape=["a", "b", "c"]), r"six whole numbers"),
    "weights of floats": (
        lambda f, a: a.update({"layer0.weights": np.ones((7, 3, 3, 3))}),
        r"layer0: weights is float64",
    ),
    "no weights left": (lambda f, a: a.update({"layer0.weights": np.ones((0, 3, 3, 3), np.int8)}), r"not empty"),
    "votes of two axes": (lambda f, a: a.update(vote=a["vote"][None]), r"vote: int16 of 2 axes"),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_illegal_contents_are_refused_with_the_file(case, saved):
    change, message = CONTENTS[case]
    rewrite(saved, change)
    with pytest.raises(FormatError, match=r"student\.npz: no legal student") as caught:
        load_spec(saved)
    assert caught.match(message)


def test_a_missing_file_is_no_broken_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.npz"):
        load_spec(tmp_path / "absent.npz")


def test_the_digest_of_contents_sees_names_types_shapes_and_facts():
    two = np.array([[1, 2], [3, 4]], np.int8)
    found = [
        digest_of({"a": two}, {"x": 1}),
        digest_of({"b": two}, {"x": 1}),
        digest_of({"a": two.T}, {"x": 1}),
        digest_of({"a": two.astype(np.int16)}, {"x": 1}),
        digest_of({"a": two.view(np.uint8)}, {"x": 1}),
        digest_of({"a": two.reshape(4)}, {"x": 1}),
        digest_of({"a": two}, {"x": 2}),
    ]
    assert len(set(found)) == 7
    assert digest_of({"a": two, "b": two}, {"x": 1, "y": 2}) == digest_of({"b": two, "a": two}, {"y": 2, "x": 1})
    assert digest_of({"a": np.asfortranarray(two)}, {"x": 1}) == found[0]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deploy.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old" and [file.name for file in tmp_path.iterdir()] == ["file"]

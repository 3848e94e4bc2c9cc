"""Whole files: written or not, read or refused; and the question for memory."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from deploy import files as deploy_files
from rl import files, memory
from rl.files import FormatError, digest, need_place, plain, read_json, tidy, write_json, write_whole

# Neither library may import the other's: what one can do, the other can.
both = pytest.mark.parametrize("write_whole", [files.write_whole, deploy_files.write_whole], ids=["rl", "deploy"])


@both
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(write_whole, tmp_path, monkeypatch):
    path = tmp_path / "deep" / "facts"
    write_whole(path, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device: '.*/deep/facts'$"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in path.parent.iterdir()] == ["facts"]


@both
def test_a_write_stopped_from_the_keyboard_leaves_nothing(write_whole, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "x", b"new")
    assert not list(tmp_path.iterdir())


def test_what_a_kill_left_is_removed_and_nothing_else(tmp_path):
    for name in ("a.part", "a", "below/b.part"):
        write_whole(tmp_path / name, b"")
    tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a", "b.part"]


def test_a_place_is_good_where_a_folder_can_be_made_and_nothing_is_made(tmp_path, monkeypatch):
    need_place(tmp_path / "a" / "b")
    need_place(tmp_path)
    monkeypatch.chdir(tmp_path)
    need_place(Path("a/b"))
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"Not a directory: .*file"):
        need_place(tmp_path / "file" / "b" / "c")
    monkeypatch.setattr("os.access", lambda path, how: False)
    with pytest.raises(PermissionError, match=r"Permission denied"):
        need_place(tmp_path / "a")


def test_json_comes_back_equal(tmp_path):
    value = {"b": [1, 2.5, None], "a": {"é": True}}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value


def test_equal_objects_have_equal_bytes():
    assert plain({"a": 1, "b": 2}) == plain({"b": 2, "a": 1})


def test_digest_is_sha256_in_hex():
    assert digest(b"spike") == hashlib.sha256(b"spike").hexdigest()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": 1', r"x.json: not readable as JSON \(.*\); make or fetch it again$"),
        (b"\xff\xfe\x00", r"x.json: not readable as JSON"),
        (b'{"a": NaN}', r"NaN is no number"),
        (b"[1]", r"x.json: holds a list, must be a JSON object"),
        (b"[" * 200_000, r"x.json: not readable as JSON"),
    ],
)
def test_what_is_no_json_object_is_refused(tmp_path, text, message):
    (tmp_path / "x.json").write_bytes(text)
    with pytest.raises(FormatError, match=message):
        read_json(tmp_path / "x.json")


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_memory_is_refused_with_both_numbers_and_the_advice(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: memory.RESERVE + 3_000_000_000)
    memory.need_memory(3_000_000_000, "here", "unused")
    with pytest.raises(MemoryError, match=r"^here: needs 3\.01 GB of memory, 3\.00 GB are available; record fewer$"):
        memory.need_memory(3_010_000_000, "here", "record fewer")


def test_unknown_memory_refuses_nothing(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    memory.need_memory(1 << 60, "here", "unused")


def test_the_tightest_known_limit_counts(monkeypatch):
    monkeypatch.setattr(memory, "_machine_bytes", lambda: 7)
    monkeypatch.setattr(memory, "_container_bytes", lambda: 5)
    assert memory.available_bytes() == 5
    monkeypatch.setattr(memory, "_container_bytes", lambda: None)
    assert memory.available_bytes() == 7


def group(folder, version, limit, used, active=0, inactive=0):
    names, prefix = memory.FILES[version][:2], memory.FILES[version][2]
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(f"{prefix}active_file {active}\n{prefix}inactive_file {inactive}\nshmem 99\n")


@pytest.mark.parametrize(("version", "line", "top"), [(2, "0::/a/b", "."), (1, "4:cpu,memory:/a/b", "memory")])
def test_the_tightest_control_group_above_counts(version, line, top, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "OWN_CGROUPS", tmp_path / "own")
    assert memory._container_bytes() is None
    (tmp_path / "own").write_text(f"9:name=systemd:/a\n{line}\n")
    none = "max" if version == 2 else 9223372036854771712
    group(tmp_path / top / "a/b", version, none, 10)
    assert memory._container_bytes() is None
    group(tmp_path / top / "a", version, 5000, 3000, active=200, inactive=30)
    assert memory._container_bytes() == 2230
    group(tmp_path / top, version, 4000, 3000)  # all that a container sees of the path
    assert memory._container_bytes() == 1000


def test_this_machine_answers():
    found = memory.available_bytes()
    assert found is None or found > 0

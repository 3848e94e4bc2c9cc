"""A shard as bytes and back: nothing lost, nothing inconsistent accepted."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_cases import SMALL, episode

from rl import shards
from rl.files import FormatError
from rl.recording import join_episodes
from rl.shards import (
    CAPPED,
    END,
    FIRST,
    GREEDY,
    OVER,
    TRUNCATED,
    Codec,
    Columns,
    EpisodeTable,
    Shard,
    faults,
    pack,
    unpack,
)


def shard_of(*lengths: int) -> Shard:
    return join_episodes([episode(steps, seed) for seed, steps in enumerate(lengths, start=1)])


def changed(shard: Shard, **columns: np.ndarray) -> Shard:
    """The shard with some columns or table columns replaced."""
    names = {f.name for f in fields(Columns)}
    mine = {name: array for name, array in columns.items() if name in names}
    table = {name: array for name, array in columns.items() if name not in names}
    return Shard(shard.frames, replace(shard.columns, **mine), replace(shard.episodes, **table))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 13), min_size=1, max_size=5), st.integers(1, 17), st.sampled_from([1, 3, 9]))
def test_a_shard_comes_back_bit_for_bit(lengths, chunk_rows, level):
    shard = shard_of(*lengths)
    back = unpack(pack(shard, Codec(chunk_rows, level)), "here")
    assert np.array_equal(back.frames, shard.frames)
    for kind in ("columns", "episodes"):
        for field in fields(getattr(shard, kind)):
            old, new = getattr(getattr(shard, kind), field.name), getattr(getattr(back, kind), field.name)
            assert old.dtype == new.dtype and np.array_equal(old, new), field.name


def test_frames_are_decoded_in_place_and_the_room_stays_writable():
    shard, room = shard_of(3, 7), np.zeros((14, 84, 84), np.uint8)
    unpack(pack(shard, SMALL), "here", room[1:13])
    assert np.array_equal(room[1:13], shard.frames) and not room[0].any() and not room[13].any()
    room[13] = 1


def test_room_of_another_size_is_refused():
    with pytest.raises(FormatError, match=r"^here: field rows: found 12, must be 11;"):
        unpack(pack(shard_of(3, 7), SMALL), "here", np.zeros((11, 84, 84), np.uint8))


def test_labels_are_stored_without_rounding():
    q = np.array([[4.0000005, 4.0, -7e-42]], np.float32)
    shard = join_episodes([episode(1, 5, q=q, action=np.zeros(1, np.uint8))])
    assert unpack(pack(shard, SMALL), "here").columns.q[0].tolist() == q[0].tolist()


def test_equal_shards_have_equal_bytes():
    assert pack(shard_of(4, 6), SMALL) == pack(shard_of(4, 6), SMALL)


def test_every_truncation_is_refused():
    data = pack(shard_of(3, 7), SMALL)
    for size in [*range(40), *range(40, len(data), 97), len(data) - 1]:
        with pytest.raises(FormatError, match=r"^here: field .*record or fetch it again$"):
            unpack(data[:size], "here")


def test_a_newer_shard_is_refused(monkeypatch):
    monkeypatch.setattr(shards, "VERSION", (2, 0))
    data = pack(shard_of(3), SMALL)
    monkeypatch.undo()
    with pytest.raises(FormatError, match=r"^here: field version: found \[2, 0\], this program reads 1\.x;"):
        unpack(data, "here")


def test_a_foreign_file_is_refused():
    with pytest.raises(FormatError, match=r"field magic: found b'PK.*', must be b'SPIKEROW'"):
        unpack(b"PK\3\4" + bytes(60), "here")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"rows": 12', b'"rows": 13', r"field frames: holds|field q: holds|field frames: 3 chunks"),
        (b'"rows": 12', b'"rows": -2', r"field rows: found -2, must be a positive number"),
        (b'"rows": 12', b'"rowz": 12', r"field 'rows' missing"),
        (b'"actions": 3', b'"actions": 4', r"field q: holds 144 bytes, must be 192"),
        (b'"chunk_rows": 5', b'"chunk_rows": 9', r"field frames: 3 chunks, must be 2 for 12 rows"),
        (b'"length": [3, 7]', b'"length": [7, 3]', r"field episodes.start: episodes do not follow"),
        (b'"frames": [', b'"frames": [7,', r"field frames: the header counts other bytes"),
        (b'"columns": {', b'"columns": [', r"field header: not readable as JSON"),
    ],
)
def test_a_changed_header_is_refused(old, new, message):
    data = pack(shard_of(3, 7), SMALL)
    assert data.count(old) == 1
    whole = data.replace(old, new)
    size = int.from_bytes(data[8:12], "little") + len(new) - len(old)
    with pytest.raises(FormatError, match=message):
        unpack(whole[:8] + size.to_bytes(4, "little") + whole[12:], "here")


def with_bit(flags: np.ndarray, row: int, bit: int) -> np.ndarray:
    made = flags.copy()
    made[row] ^= bit
    return made


FLAGS = shard_of(3, 7).columns.flags


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"flags": with_bit(FLAGS, 2, FIRST)}, r"^flags: is_first is wrong in 1 rows from row 2, by the episode table"),
        ({"flags": with_bit(FLAGS, 5, END)}, r"^flags: end is wrong in 1 rows from row 5"),
        ({"flags": with_bit(FLAGS, 10, TRUNCATED)}, r"^flags: truncated is wrong in 1 rows from row 10"),
        ({"end": np.array([OVER, CAPPED], np.uint8)}, r"^flags: terminated is wrong in 1 rows from row 10"),
        ({"flags": with_bit(FLAGS, 3, GREEDY)}, r"^flags: an extra row that ends an episode has other flags"),
        ({"returns": np.array([1e9, 0.0])}, r"^episodes.returns: episode 0 says 1e\+09, its rewards sum to"),
        ({"length": np.array([3, 6])}, r"^episodes.start: episodes do not follow one another over 12 rows"),
        ({"start": np.array([0, 5])}, r"^episodes.start"),
        ({"q": np.ones((12, 3), np.float32)}, r"^q: an extra row that ends an episode has an action, a reward or q"),
    ],
)
def test_rows_that_disagree_with_the_table_are_found(columns, message):
    shard = changed(shard_of(3, 7), **columns)
    assert list(faults(shard_of(3, 7))) == []
    assert re.search(message, "\n".join(faults(shard)), re.MULTILINE)
    with pytest.raises(FormatError, match=r"^here: field "):
        unpack(pack(shard, SMALL), "here")


def test_a_greedy_row_must_choose_the_argmax():
    q = np.zeros((5, 3), np.float32)
    q[:, 1] = 1
    greedy = np.array([True, False, True, True, False])
    shard = join_episodes([episode(5, 1, q=q, greedy=greedy, action=np.array([1, 0, 1, 1, 2], np.uint8))])
    wrong = changed(shard, action=np.array([1, 0, 1, 0, 2, 0], np.uint8))
    assert list(faults(wrong)) == ["flags: 1 rows from row 3 are marked greedy, their action is not the argmax of q"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk_rows": 0}, r"^Codec.chunk_rows: found 0, allowed 1\.\.4096$"),
        ({"level": 23}, r"^Codec.level: found 23, allowed 1\.\.22$"),
    ],
)
def test_a_codec_checks_its_numbers(changes, message):
    with pytest.raises(ValueError, match=message):
        Codec(**changes)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("reward", np.zeros(12), r"^Columns.reward: found float64 \[12\], must be float32 \[12\]$"),
        ("q", np.full((12, 3), np.nan, np.float32), r"^Columns.q: found NaN or infinity, must be finite$"),
        ("action", np.full(12, 3, np.uint8), r"^Columns.action: values 3\.\.3, allowed 0\.\.2$"),
        ("flags", np.full(12, 64, np.uint8), r"^Columns.flags: values 64\.\.64, allowed 0\.\.63$"),
        ("lives", np.zeros(11, np.uint8), r"^Columns.lives: found uint8 \[11\], must be uint8 \[12\]$"),
    ],
)
def test_columns_name_the_wrong_field(name, array, message):
    with pytest.raises(ValueError, match=message):
        changed(shard_of(3, 7), **{name: array})


def test_the_table_and_the_shard_check_their_shapes():
    shard = shard_of(3, 7)
    with pytest.raises(ValueError, match=r"^EpisodeTable.env: found int64 \[3\], must be int64 \[2\]"):
        replace(shard.episodes, env=np.zeros(3, np.int64))
    with pytest.raises(ValueError, match=r"^EpisodeTable.end: values 9\.\.9, allowed 0\.\.2"):
        replace(shard.episodes, end=np.full(2, 9, np.uint8))
    with pytest.raises(ValueError, match=r"^Shard.frames: found uint8 \[12, 84, 83\], must be uint8 \[12, 84, 84\]"):
        Shard(shard.frames[:, :, 1:], shard.columns, shard.episodes)


def test_reprs_show_shapes_and_no_values():
    shard = shard_of(3, 7)
    assert repr(shard) == "Shard(12 rows, 2 episodes)"
    assert "q float32 [12, 3]" in repr(shard.columns) and "start int64 [2]" in repr(shard.episodes)
    assert isinstance(shard.episodes, EpisodeTable) and len(shard.episodes) == 2

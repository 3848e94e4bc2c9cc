"""Shards: rows of whole episodes as bytes and back, without loss.

One shard file is `MAGIC | header bytes u32 | header JSON | frame chunks | columns`. Consecutive frames hardly differ,
so they are compressed in chunks of many frames. Numbers of several bytes are stored as byte planes: the planes of sign
and exponent then shrink to almost nothing, the noise of the mantissa stays.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from rl.files import FormatError, plain

MAGIC = b"SPIKEROW"
VERSION = (1, 0)
FRAME = (84, 84)
FRAME_BYTES = FRAME[0] * FRAME[1]
UNKNOWN_LIVES = 255
# Bits of the flags column.
FIRST, TERMINATED, TRUNCATED, LIFE_LOST, GREEDY, END = 1, 2, 4, 8, 16, 32
# How an episode ended: the recording stopped, game over, the frame cap.
CUT, OVER, CAPPED = 0, 1, 2


def need_array(name: str, array: NDArray[Any], dtype: type, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the array has this dtype and shape; afterwards it is read-only."""
    if array.dtype != np.dtype(dtype) or array.shape != shape:
        raise ValueError(f"{name}: found {array.dtype} {list(array.shape)}, must be {np.dtype(dtype)} {list(shape)}")
    array.flags.writeable = False


def shapes(record: Any) -> str:
    """A record's arrays as text: names, dtypes and shapes, never values."""
    arrays = ((f.name, getattr(record, f.name)) for f in fields(record))
    parts = [f"{name} {a.dtype} {list(a.shape)}" for name, a in arrays if isinstance(a, np.ndarray)]
    return f"{type(record).__name__}({', '.join(parts)})"


@dataclass(frozen=True)
class Codec:
    """How frames are compressed; chosen by `bench/codec.py`."""

    chunk_rows: int = 256  # consecutive frames compressed together
    level: int = 9  # of zstd

    def __post_init__(self) -> None:
        for name, value, high in (("chunk_rows", self.chunk_rows, 4096), ("level", self.level, 22)):
            if not (isinstance(value, int) and 1 <= value <= high):
                raise ValueError(f"Codec.{name}: found {value!r}, allowed 1..{high}")


@dataclass(frozen=True, eq=False, repr=False)
class Columns:
    """Everything of R rows but the pictures, for A actions."""

    action: NDArray[np.uint8]  # [R]  0 in the extra row that ends an episode
    reward: NDArray[np.float32]  # [R]  raw, of the step this row's action led to; 0 in an extra row
    flags: NDArray[np.uint8]  # [R]  FIRST .. END
    lives: NDArray[np.uint8]  # [R]  with this picture; UNKNOWN_LIVES if not recorded
    q: NDArray[np.float32]  # [R, A]  of the teacher; 0 in an extra row

    __repr__ = shapes

    def __post_init__(self) -> None:
        rows = self.flags.shape[0]
        for name in ("action", "flags", "lives"):
            need_array(f"Columns.{name}", getattr(self, name), np.uint8, (rows,))
        need_array("Columns.reward", self.reward, np.float32, (rows,))
        need_array("Columns.q", self.q, np.float32, (rows, self.q.shape[-1]))
        _need_values("Columns.action", self.action, 0, self.q.shape[1] - 1)
        _need_values("Columns.flags", self.flags, 0, 2 * END - 1)
        for name in ("reward", "q"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"Columns.{name}: found NaN or infinity, must be finite")


@dataclass(frozen=True, eq=False, repr=False)
class EpisodeTable:
    """E episodes, in row order; an episode of n decisions has n + 1 rows."""

    start: NDArray[np.int64]  # [E]  first row
    length: NDArray[np.int64]  # [E]  decisions
    returns: NDArray[np.float64]  # [E]  sum of raw rewards
    end: NDArray[np.uint8]  # [E]  CUT, OVER or CAPPED
    env: NDArray[np.int64]  # [E]  which environment of the recorder
    seed: NDArray[np.int64]  # [E]  that environment's seed
    epsilon: NDArray[np.float64]  # [E]  share of random actions

    __repr__ = shapes

    def __post_init__(self) -> None:
        for name, kind in TABLE.items():
            need_array(f"EpisodeTable.{name}", getattr(self, name), kind, (len(self.start),))
        _need_values("EpisodeTable.end", self.end, CUT, CAPPED)

    def __len__(self) -> int:
        return len(self.start)


TABLE: dict[str, type] = {
    "start": np.int64,
    "length": np.int64,
    "returns": np.float64,
    "end": np.uint8,
    "env": np.int64,
    "seed": np.int64,
    "epsilon": np.float64,
}


def _need_values(name: str, array: NDArray[Any], low: int, high: int) -> None:
    if array.size and not (low <= array.min() and array.max() <= high):
        raise ValueError(f"{name}: values {array.min()}..{array.max()}, allowed {low}..{high}")


@dataclass(frozen=True, eq=False, repr=False)
class Shard:
    """R rows of whole episodes."""

    frames: NDArray[np.uint8]  # [R, 84, 84]  newest picture of each row
    columns: Columns
    episodes: EpisodeTable  # start counts from this shard's first row

    def __post_init__(self) -> None:
        need_array("Shard.frames", self.frames, np.uint8, (len(self.columns.flags), *FRAME))

    def __repr__(self) -> str:
        return f"Shard({len(self.frames)} rows, {len(self.episodes)} episodes)"


def pack(shard: Shard, codec: Codec) -> bytes:
    """A shard as the bytes of its file."""
    squeeze = zstandard.ZstdCompressor(level=codec.level).compress
    rows, step = len(shard.frames), codec.chunk_rows
    chunks = [squeeze(shard.frames[i : i + step].tobytes()) for i in range(0, rows, step)]
    columns = {f.name: squeeze(_planes(getattr(shard.columns, f.name))) for f in fields(Columns)}
    header = {
        "version": list(VERSION),
        "rows": rows,
        "actions": shard.columns.q.shape[1],
        "chunk_rows": step,
        "frames": [len(chunk) for chunk in chunks],
        "columns": {name: len(data) for name, data in columns.items()},
        "episodes": {name: getattr(shard.episodes, name).tolist() for name in TABLE},
    }
    text = plain(header)
    return b"".join([MAGIC, struct.pack("<I", len(text)), text, *chunks, *columns.values()])


def part_bytes(data: bytes) -> dict[str, int]:
    """Bytes of a sound shard's file by what they hold: frames, each column, and the header with its episode table."""
    header, payload = _header(data)
    parts = {"frames": sum(header["frames"]), **header["columns"]}
    return {**parts, "header": len(data) - len(payload)}


def unpack(data: bytes, where: str, into: NDArray[np.uint8] | None = None) -> Shard:
    """A shard from the bytes of its file, frames decoded into `into` [R, 84, 84] if given.

    Raises FormatError naming `where` and the field: nothing that is not wholly consistent is returned.
    """
    try:
        shard = _unpack(data, into)
    except (KeyError, TypeError, ValueError, OverflowError, struct.error, zstandard.ZstdError, RecursionError) as cause:
        missing = "missing" if isinstance(cause, KeyError) else ""
        raise FormatError(f"{where}: field {cause} {missing}".rstrip() + "; record or fetch it again") from cause
    found = next(faults(shard), None)
    if found:
        raise FormatError(f"{where}: field {found}; record or fetch it again")
    return shard


def _unpack(data: bytes, into: NDArray[np.uint8] | None) -> Shard:
    header, payload = _header(data)
    rows, step = header["rows"], header["chunk_rows"]
    sizes = [*header["frames"], *(header["columns"][f.name] for f in fields(Columns))]
    parts = list(_parts(payload, sizes))
    n_chunks = -(-rows // step)
    if len(header["frames"]) != n_chunks:
        raise ValueError(f"frames: {len(header['frames'])} chunks, must be {n_chunks} for {rows} rows")
    frames = np.empty((rows, *FRAME), np.uint8) if into is None else into
    if frames.shape != (rows, *FRAME):
        raise ValueError(f"rows: found {rows}, must be {len(frames)}")
    for i, part in enumerate(parts[:n_chunks]):
        chunk = frames[i * step : (i + 1) * step]
        chunk[...] = np.frombuffer(_expand("frames", part, chunk.nbytes), np.uint8).reshape(chunk.shape)
    # The caller may own `into` and go on filling it: only this view becomes read-only.
    return Shard(frames.view(), _columns(parts[n_chunks:], rows, header["actions"]), _table(header["episodes"]))


def _header(data: bytes) -> tuple[dict[str, Any], memoryview]:
    fixed = len(MAGIC) + 4
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError(f"magic: found {data[: len(MAGIC)]!r}, must be {MAGIC!r}")
    (size,) = struct.unpack_from("<I", data, len(MAGIC))
    try:
        header = json.loads(data[fixed : fixed + size])
    except ValueError as cause:
        raise ValueError(f"header: not readable as JSON ({cause})") from cause
    if header["version"][0] != VERSION[0]:
        raise ValueError(f"version: found {header['version']}, this program reads {VERSION[0]}.x")
    for name in ("rows", "actions", "chunk_rows"):
        if not (isinstance(header[name], int) and header[name] > 0):
            raise ValueError(f"{name}: found {header[name]!r}, must be a positive number")
    return header, memoryview(data)[fixed + size :]


def _parts(payload: memoryview, sizes: list[int]) -> Iterator[memoryview]:
    if any(not isinstance(size, int) or size < 0 for size in sizes) or sum(sizes) != len(payload):
        raise ValueError(f"frames: the header counts other bytes than the {len(payload)} that follow it")
    at = 0
    for size in sizes:
        yield payload[at : at + size]
        at += size


def _expand(name: str, part: memoryview, size: int) -> bytes:
    # Asked first: a damaged size would be allocated before anything fails.
    found = zstandard.frame_content_size(part)
    if found != size:
        raise ValueError(f"{name}: holds {found} bytes, must be {size}")
    try:
        return zstandard.ZstdDecompressor().decompress(part)
    except zstandard.ZstdError as cause:
        raise ValueError(f"{name}: not readable ({cause})") from cause


def _columns(parts: list[memoryview], rows: int, actions: int) -> Columns:
    kinds: dict[str, tuple[type, tuple[int, ...]]] = {
        "action": (np.uint8, (rows,)),
        "reward": (np.float32, (rows,)),
        "flags": (np.uint8, (rows,)),
        "lives": (np.uint8, (rows,)),
        "q": (np.float32, (rows, actions)),
    }
    made = {name: _from_planes(name, part, *kinds[name]) for name, part in zip(kinds, parts, strict=True)}
    return Columns(**made)


def _planes(array: NDArray[Any]) -> bytes:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(-1, array.itemsize).T.tobytes()


def _from_planes(name: str, part: memoryview, kind: type, shape: tuple[int, ...]) -> NDArray[Any]:
    item = np.dtype(kind).newbyteorder("<")
    data = _expand(name, part, int(np.prod(shape)) * item.itemsize)
    planes = np.frombuffer(data, np.uint8).reshape(item.itemsize, -1)
    return np.ascontiguousarray(planes.T).view(item).reshape(shape).astype(kind, copy=False)


def _table(columns: dict[str, list[Any]]) -> EpisodeTable:
    return EpisodeTable(**{name: np.array(columns[name], kind) for name, kind in TABLE.items()})


def join(tables: list[EpisodeTable], rows: list[int]) -> EpisodeTable:
    """One table from those of consecutive shards of so many rows each; starts count from the first row of all."""
    offsets: NDArray[np.int64] = np.cumsum([0, *rows[:-1]], dtype=np.int64)
    starts = [table.start + offset for table, offset in zip(tables, offsets, strict=True)]
    rest = [f.name for f in fields(EpisodeTable) if f.name != "start"]
    columns = {name: np.concatenate([getattr(table, name) for table in tables]) for name in rest}
    return EpisodeTable(start=np.concatenate(starts), **columns)


def faults(shard: Shard) -> Iterator[str]:
    """Each way in which rows and episode table disagree, as *field: what was found, what is allowed*."""
    table, columns = shard.episodes, shard.columns
    last = table.start + table.length  # the extra row
    starts = np.concatenate([[0], last + 1])
    if not (table.length > 0).all() or not np.array_equal(starts[:-1], table.start) or starts[-1] != len(columns.flags):
        yield f"episodes.start: episodes do not follow one another over {len(columns.flags)} rows"
        return
    yield from _flag_faults(columns.flags, table, last)
    sums = np.add.reduceat(columns.reward.astype(np.float64), table.start)
    for i in np.flatnonzero(~np.isclose(sums, table.returns)):
        yield f"episodes.returns: episode {i} says {table.returns[i]:g}, its rewards sum to {sums[i]:g}"
    chosen = np.take_along_axis(columns.q, columns.action[:, None].astype(np.int64), axis=1)[:, 0]
    wrong = np.flatnonzero((columns.flags & GREEDY != 0) & (chosen != columns.q.max(axis=1)))
    if len(wrong):
        yield f"flags: {len(wrong)} rows from row {wrong[0]} are marked greedy, their action is not the argmax of q"
    if columns.q[last].any() or columns.reward[last].any() or columns.action[last].any():
        yield "q: an extra row that ends an episode has an action, a reward or q, all must be 0"


def _flag_faults(flags: NDArray[np.uint8], table: EpisodeTable, last: NDArray[np.int64]) -> Iterator[str]:
    expected = {
        "is_first": (FIRST, table.start),
        "end": (END, last),
        "terminated": (TERMINATED, last[table.end == OVER] - 1),
        "truncated": (TRUNCATED, last[table.end == CAPPED] - 1),
    }
    for name, (bit, rows) in expected.items():
        found = np.flatnonzero(flags & bit)
        if not np.array_equal(found, rows):
            odd = np.setxor1d(found, rows)
            yield f"flags: {name} is wrong in {len(odd)} rows from row {odd[0]}, by the episode table"
    if (flags[last] & ~np.uint8(END)).any():
        yield "flags: an extra row that ends an episode has other flags than end"

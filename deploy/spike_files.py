"""Spikes as files: ours, comma-separated text, and IBM's text (.sfti, .sfto) and binary (.sfcp) forms."""

from __future__ import annotations

import gzip
import io
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from deploy.cores import FIRST_PIN_CORE, PIN_ROW
from deploy.files import FormatError, read_arrays, write_arrays, write_whole
from deploy.spikes import LAST, AxonSpikes, LineSpikes, PinSpikes, Spikes
from deploy.strict_json import parse, read_text

KIND, VERSION = "spikecade-spikes", (1, 0)
MAX_TEXT = 1 << 30  # bytes of a compressed text, unpacked
SFTI_HEADER = '{"class":"SpikeWriter","encoding":"TEXT","nscsVersion":"1.4.0"}\n'
_COLUMNS: Mapping[tuple[str, ...], type[Spikes]] = {
    ("tick", "core", "axon"): AxonSpikes,
    ("tick", "line"): LineSpikes,
    ("tick", "pin", "core", "neuron"): PinSpikes,
}
_OF: Mapping[str, type[Spikes]] = {"axons": AxonSpikes, "lines": LineSpikes, "pins": PinSpikes}
_SPIKE = re.compile(r'\{"spike":\{"srcTime":(\d{1,9}),"destCore":(\d{1,9}),"destAxon":(\d{1,9})\}\}')
_SENT = ("srcTime", "destCore", "destAxon")
_RECORDED = ("srcTime", "srcCore", "srcNeuron", "destCore", "destAxon", "destDelay")
_Record = TypeVar("_Record", bound=Spikes)
_BLOCK, _LAST_TICK = 0xFEFCFEFC, 0xFFFFFFFF


def save_spikes(spikes: Spikes, path: Path) -> str:
    """Write spikes as an npz of ours; returns the digest of its contents (hex)."""
    of = next(name for name, kind in _OF.items() if isinstance(spikes, kind))
    return write_arrays(path, KIND, VERSION, {"of": of}, dict(vars(spikes)))


def load_spikes(path: Path) -> Spikes:
    """Read an npz of ours; raises FormatError naming the file and the field."""
    facts, arrays, _ = read_arrays(path, KIND, VERSION[0])
    kind = _OF.get(str(facts.get("of")))
    if kind is None:
        raise FormatError(f"{path}: field of is {facts.get('of')!r}, allowed {', '.join(_OF)}; make the file again")
    try:
        return kind(**arrays)
    except (TypeError, ValueError) as cause:
        raise FormatError(f"{path}: no legal spikes ({cause}); make the file again") from cause


def write_csv(spikes: Spikes, path: Path) -> None:
    """A header with the names of the columns, then one spike a line."""
    names = next(names for names, kind in _COLUMNS.items() if isinstance(spikes, kind))
    table = np.stack([getattr(spikes, name) for name in names], axis=1)
    lines = [",".join(names), *(",".join(map(str, row)) for row in table.tolist())]
    _write_text("\n".join(lines) + "\n", path)


def read_csv(path: Path) -> Spikes:
    """Read comma-separated spikes, gzipped or not; the header says which kind they are."""
    lines = read_text(unpacked(path), path).splitlines()
    names = tuple(lines[0].split(",")) if lines else ()
    if names not in _COLUMNS:
        allowed = "; ".join(",".join(known) for known in _COLUMNS)
        raise FormatError(f"{path}: line 1: found {','.join(names)[:60]!r}, allowed {allowed}")
    rows = [_numbers(line, len(names), path, number) for number, line in enumerate(lines[1:], 2)]
    return _made(_COLUMNS[names], rows, len(names), path)


def write_sfti(spikes: AxonSpikes, path: Path) -> None:
    """IBM's text of input spikes, gzipped where the name ends in .gz.

    A spike is integrated `defaultDestinationDelay` ticks after its srcTime. It is 1 here, 0 where tick 0 has spikes.
    """
    delay = 0 if bool((spikes.tick == 0).any()) else 1
    lines = [f'{{"version":"sfti1.0", "defaultDestinationDelay" : {delay}}}\n']
    for tick, core, axon in zip(spikes.tick.tolist(), spikes.core.tolist(), spikes.axon.tolist(), strict=True):
        lines.append(f'{{"spike":{{"srcTime":{tick - delay},"destCore":{core},"destAxon":{axon}}}}}\n')
    _write_text(SFTI_HEADER + "".join(lines), path)


def read_sfti(path: Path) -> AxonSpikes | PinSpikes:
    """Read IBM's text of spikes, gzipped or not: input (.sfti), in the ticks of integration, or output (.sfto).

    Which one it is the spikes say: an output also names its neuron and its own delay, see `recorded`.
    """
    lines = read_text(unpacked(path), path).splitlines()
    first, second = (_line_facts(lines, number, path) for number in (1, 2))
    if first.get("encoding") != "TEXT":
        raise FormatError(f"{path}: line 1: encoding is {first.get('encoding')!r}, must be 'TEXT'")
    delay = second.get("defaultDestinationDelay")
    if type(delay) is not int or not 0 <= delay <= 15:
        raise FormatError(f"{path}: line 2: defaultDestinationDelay is {str(delay)[:40]}, allowed 0..15")
    rows = [_sfti_spike(line, path, number) for number, line in enumerate(lines[2:], 3) if line.strip()]
    if not rows or len(rows[0]) == 3:
        return _made(AxonSpikes, [(row[0] + delay, *row[1:]) for row in rows], 3, path)
    return recorded(rows, path)


def recorded(rows: Sequence[Sequence[int]], path: Path) -> AxonSpikes | PinSpikes:
    """Spikes that a monitor of IBM's recorded: (tick, core, neuron, destination core, its axon, delay) each.

    Those to pins are output. Those to cores are what enters them, in the tick of integration; a record of both is
    refused, since the two are different things.
    """
    for number, row in enumerate(rows):
        if len(row) != 6 or not -1 << 31 <= row[3] <= LAST or FIRST_PIN_CORE < row[3] < 0 or not 0 <= row[4] < PIN_ROW:
            allowed = f"allowed six numbers, to a core or to {FIRST_PIN_CORE} and below, axon 0..{PIN_ROW - 1}"
            raise FormatError(f"{path}: spike {number}: {str(tuple(row))[:80]}, {allowed}; mend the file")
    to_pin = [row[3] <= FIRST_PIN_CORE for row in rows]
    if all(to_pin):
        pins = [PIN_ROW * (FIRST_PIN_CORE - row[3]) + row[4] for row in rows]
        return _made(PinSpikes, [(row[0], pin, *row[1:3]) for row, pin in zip(rows, pins, strict=True)], 4, path)
    if any(to_pin):
        raise FormatError(
            f"{path}: {sum(to_pin)} spikes to pins and {len(rows) - sum(to_pin)} to cores, must be of one sort; "
            "record either, or keep the lines of one"
        )
    return _made(AxonSpikes, [(row[0] + row[5], *row[3:5]) for row in rows], 3, path)


def read_sfcp(path: Path) -> PinSpikes:
    """Read IBM's binary record of output pins. Pins of several connectors are numbered one connector after another.

    The delay that a record may hold beside a pin is that of the neuron's target and is not kept.
    """
    data = unpacked(path)
    head, mark, body = data.partition(b"\xff")
    if not mark:
        raise FormatError(f"{path}: byte 0xFF after the header is missing; name a whole file")
    text = read_text(head, path)
    first, _, second = text.partition("\n")
    if parse(first, path).get("encoding") != "CONNPIN":
        raise FormatError(f"{path}: line 1: encoding must be 'CONNPIN'")
    connectors = _connectors(parse(second, path), path)
    try:
        rows = _sfcp_rows(body, connectors)
    except (struct.error, IndexError, ValueError) as cause:
        raise FormatError(f"{path}: the record is broken ({cause}); name a whole file") from cause
    return _made(PinSpikes, rows, 4, path)


def unpacked(path: Path, limit: int = MAX_TEXT) -> bytes:
    """The bytes of a file, unpacked where it is gzip; raises FormatError where that is broken or too large."""
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return path.read_bytes()
    try:
        with gzip.open(path) as stream:
            data = stream.read(limit + 1)
    except (OSError, EOFError, zlib.error) as cause:
        raise FormatError(f"{path}: broken gzip ({cause}); fetch it again") from cause
    if len(data) > limit:
        raise FormatError(f"{path}: more than {limit:,} bytes unpacked; split the file")
    return data


def _write_text(text: str, path: Path) -> None:
    data = text.encode("ascii")
    if path.suffix == ".gz":
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream:
            stream.write(data)
        data = packed.getvalue()
    write_whole(path, data)


def _numbers(line: str, count: int, path: Path, number: int) -> tuple[int, ...]:
    parts = line.split(",")
    if len(parts) != count or not all(_INTEGER.fullmatch(part) for part in parts):
        raise FormatError(f"{path}: line {number}: found {line[:60]!r}, must be {count} integers")
    return tuple(map(int, parts))


_INTEGER = re.compile(r"-1|[0-9]{1,10}")


def _line_facts(lines: Sequence[str], number: int, path: Path) -> dict[str, Any]:
    if len(lines) < number:
        raise FormatError(f"{path}: line {number}: missing, the header has two lines")
    return parse(lines[number - 1].strip(), f"{path}: header {number}")


def _sfti_spike(line: str, path: Path, number: int) -> tuple[int, ...]:
    if found := _SPIKE.fullmatch(line.strip()):
        return int(found[1]), int(found[2]), int(found[3])
    spike = parse(line.strip(), f"{path}: spike in line {number}").get("spike")
    for keys in (_SENT, _RECORDED):
        if type(spike) is dict and set(spike) == set(keys) and all(type(spike[key]) is int for key in keys):
            return tuple(spike[key] for key in keys)
    raise FormatError(f"{path}: line {number}: must be a spike of {', '.join(_SENT)}, or of {', '.join(_RECORDED)}")


def _connectors(facts: Mapping[str, Any], path: Path) -> dict[int, tuple[int, int, int, bool]]:
    """Number -> (first pin, pins, bytes a pin, whether delays follow)."""
    found: dict[int, tuple[int, int, int, bool]] = {}
    first = 0
    listed = facts.get("connectors")
    for item in listed if isinstance(listed, list) else ():
        values = [item.get(key) if isinstance(item, dict) else None for key in ("ID", "csize", "bpp", "delayMode")]
        number, size, bits, delays = (value if type(value) is int else -1 for value in values)
        if bits not in (8, 16) or delays not in (0, 1) or not (0 <= number < 1 << 16 and 0 < size < 1 << 16):
            allowed = "must have ID, csize, bpp 8 or 16, delayMode 0 or 1"
            raise FormatError(f"{path}: connectors: {str(values)[:80]}, {allowed}")
        found[number] = (first, size, bits // 8, delays == 1)
        first += size
    if not found:
        raise FormatError(f"{path}: connectors: missing, must name at least one")
    return found


def _sfcp_rows(body: bytes, connectors: Mapping[int, tuple[int, int, int, bool]]) -> list[tuple[int, ...]]:
    rows: list[tuple[int, ...]] = []
    at = 0
    while True:
        mark, tick = struct.unpack_from(">II", body, at)
        if mark != _BLOCK:
            raise ValueError(f"byte {at}: {mark:#x}, must be {_BLOCK:#x}")
        at += 16
        if tick == _LAST_TICK:
            if at != len(body):
                raise ValueError(f"byte {at}: more after the last tick")
            return rows
        while struct.unpack_from(">I", body, at)[0] != _BLOCK:
            pins, at = _sfcp_group(body, at, connectors)
            rows += [(tick, pin, -1, -1) for pin in pins]


def _sfcp_group(body: bytes, at: int, connectors: Mapping[int, tuple[int, int, int, bool]]) -> tuple[list[int], int]:
    number, count = struct.unpack_from(">HH", body, at)
    if number not in connectors:
        raise ValueError(f"byte {at}: connector {number}, the header names {sorted(connectors)[:5]}")
    first, size, width, delays = connectors[number]
    pins = np.frombuffer(body, f">u{width}", count, at + 4)
    if count and int(pins.max()) >= size:
        raise ValueError(f"byte {at}: pin {pins.max()}, connector {number} has {size}")
    return (first + pins.astype(int)).tolist(), at + 4 + count * (width + delays)


def _made(kind: Callable[..., _Record], rows: Sequence[Sequence[int]], width: int, path: Path) -> _Record:
    """A record of rows of any integers; the record checks the ranges."""
    for number, row in enumerate(rows):
        if len(row) != width or max(row) > LAST or min(row) < -1:
            raise FormatError(f"{path}: spike {number}: {str(tuple(row))[:60]}, allowed 0..{LAST}")
    table: NDArray[np.int32] = np.array(rows, np.int32).reshape(len(rows), width)
    try:
        return kind(*(np.ascontiguousarray(column) for column in table.T))
    except ValueError as cause:
        raise FormatError(f"{path}: no legal spikes ({cause}); mend the file") from cause

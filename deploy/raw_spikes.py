"""IBM's raw spikes (.sfri): RAWI3, what enters by axon, and RAWO6, what leaves by pin.

A JSON header, byte 0xFF, then big-endian words of 32 bits, as pytruenorth writes and reads them (vmonaco/pytruenorth,
`spikes2raw` and `run_nscs`). Of RAWO6's six words a spike the second, third and sixth have no published meaning.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.cores import FIRST_PIN_CORE, pin_of
from deploy.files import FormatError, write_whole
from deploy.spike_files import unpacked
from deploy.spikes import LAST, AxonSpikes, PinSpikes
from deploy.strict_json import parse, read_text

WORDS = {"RAWI3": 3, "RAWO6": 6}  # of a spike
_HEADER = '{"class":"SpikeWriter","nscsVersion":"1.4.0","encoding":"RAWI3","defaultDestinationDelay":%d}'


def write_sfri(spikes: AxonSpikes, path: Path) -> None:
    """IBM's raw input: (tick, core, axon) a spike, sent a tick before it counts; in that tick where tick 0 has any."""
    delay = 0 if bool((spikes.tick == 0).any()) else 1
    words = np.stack([spikes.tick - delay, spikes.core, spikes.axon], axis=1).astype(">u4")
    write_whole(path, (_HEADER % delay).encode() + b"\xff" + words.tobytes())


def read_sfri(path: Path) -> AxonSpikes | PinSpikes:
    """Read IBM's raw input or output; the ticks of input are those of integration, of output those of the spike."""
    head, mark, body = unpacked(path).partition(b"\xff")
    if not mark:
        raise FormatError(f"{path}: byte 0xFF after the header is missing; name a whole file")
    facts = parse(read_text(head, path), path)
    encoding = facts.get("encoding")
    if type(encoding) is not str or encoding not in WORDS:
        raise FormatError(f"{path}: encoding is {str(encoding)[:40]!r}, allowed {', '.join(WORDS)}; name such a file")
    count = WORDS[encoding]
    if len(body) % (4 * count):
        raise FormatError(f"{path}: {len(body)} bytes of spikes, must be a multiple of {4 * count}; name a whole file")
    words = np.frombuffer(body, ">u4").reshape(-1, count).astype(np.int64)
    return _entering(facts, words, path) if encoding == "RAWI3" else _leaving(words, path)


def _entering(facts: dict[str, Any], words: NDArray[np.int64], path: Path) -> AxonSpikes:
    delay = facts.get("defaultDestinationDelay")
    if type(delay) is not int or not 0 <= delay <= 15:
        raise FormatError(f"{path}: defaultDestinationDelay is {str(delay)[:40]}, allowed 0..15; mend the header")
    table = words + np.array([delay, 0, 0])
    _need_range(table, path, "(tick, core, axon)")
    return AxonSpikes(*(np.ascontiguousarray(column, np.int32) for column in table.T))


def _leaving(words: NDArray[np.int64], path: Path) -> PinSpikes:
    tick, axon = words[:, 0], words[:, 4]
    core = words[:, 3].astype(np.uint32).view(np.int32)  # written as a signed word: -32 and below
    for number in np.flatnonzero((core > FIRST_PIN_CORE) | (axon > 255))[:1]:
        raise FormatError(
            f"{path}: spike {number}: to core {core[number]}, axon {axon[number]}, "
            f"allowed pins: cores {FIRST_PIN_CORE} and below, axons 0..255; name a record of outputs"
        )
    pin = pin_of(core, axon.astype(np.uint8))
    _need_range(np.stack([tick, pin], axis=1), path, "(tick, pin)")
    nobody = np.full(len(pin), -1, np.int32)
    return PinSpikes(tick.astype(np.int32), pin.astype(np.int32), nobody, nobody.copy())


def _need_range(table: NDArray[np.int64], path: Path, names: str) -> None:
    for number in np.flatnonzero((table > LAST).any(axis=1))[:1]:
        raise FormatError(
            f"{path}: spike {number}: {names} is {tuple(table[number].tolist())}, allowed 0..{LAST}; mend the file"
        )

"""IBM's raw spikes (.sfri, .sfro): RAWI3, what enters by axon, and RAWO6, what a monitor recorded.

A JSON header, byte 0xFF, then big-endian words of 32 bits, as pytruenorth writes and reads them (vmonaco/pytruenorth,
`spikes2raw` and `run_nscs`). It takes tick, destination core and axon from words 0, 3 and 4 of RAWO6; IBM's text of the
same record has six fields a spike in that order, so the others are taken as core, neuron and delay.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.files import FormatError, write_whole
from deploy.spike_files import recorded, unpacked
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
    return _entering(facts, words, path) if encoding == "RAWI3" else recorded(_signed(words).tolist(), path)


def _entering(facts: dict[str, Any], words: NDArray[np.int64], path: Path) -> AxonSpikes:
    delay = facts.get("defaultDestinationDelay")
    if type(delay) is not int or not 0 <= delay <= 15:
        raise FormatError(f"{path}: defaultDestinationDelay is {str(delay)[:40]}, allowed 0..15; mend the header")
    table = words + np.array([delay, 0, 0])
    for number in np.flatnonzero((table > LAST).any(axis=1))[:1]:
        raise FormatError(f"{path}: spike {number}: {tuple(table[number].tolist())}, allowed 0..{LAST}; mend the file")
    return AxonSpikes(*(np.ascontiguousarray(column, np.int32) for column in table.T))


def _signed(words: NDArray[np.int64]) -> NDArray[np.int64]:
    """[S, 6] with the destination core as a signed word: pins are at -32 and below."""
    made = words.copy()
    made[:, 3] = words[:, 3].astype(np.uint32).view(np.int32)
    return made

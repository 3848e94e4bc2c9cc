"""Messages to a viewer: a JSON head and plain arrays, deflated; and colour frames as palette and indices."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 1  # of deflate: most of the gain, a tenth of a millisecond
UNKNOWN = 255  # index of a colour that was not met before


def encode(facts: Mapping[str, Any], arrays: Mapping[str, NDArray[np.uint8]]) -> bytes:
    """zlib of: length of the head (u32, little-endian), the head (JSON), the arrays one after another.

    The head is `facts` and "parts": [name, shape] of each array.
    """
    parts = [[name, list(array.shape)] for name, array in arrays.items()]
    assert all(array.dtype == np.uint8 for array in arrays.values()), "bytes only: they have no order"
    head = json.dumps({**facts, "parts": parts}, separators=(",", ":"), allow_nan=False).encode()
    body = (np.ascontiguousarray(array).tobytes() for array in arrays.values())
    return zlib.compress(b"".join([struct.pack("<I", len(head)), head, *body]), LEVEL)


def decode(message: bytes) -> tuple[dict[str, Any], dict[str, NDArray[np.uint8]]]:
    """What `encode` was given; the page does the same."""
    data = zlib.decompress(message)
    start = 4 + struct.unpack_from("<I", data)[0]
    facts: dict[str, Any] = json.loads(data[4:start])
    arrays = {}
    for name, shape in facts.pop("parts"):
        size = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(data, np.uint8, size, start).reshape(shape)
        start += size
    return facts, arrays


def wave_steps(wave: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Spikes [T, C] -> each tick less the one before, modulo 256: mostly zeros, since few cores change in a tick.

    256 spikes, which is all of a core's, are shown as 255.
    """
    shown = np.minimum(wave, 255).astype(np.uint8)
    return np.diff(shown, axis=0, prepend=np.zeros((1, wave.shape[1]), np.uint8))


def bytes_of(values: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Numbers [...] of 0..65535 -> [..., 2], the low byte first."""
    assert not values.size or (values.min() >= 0 and values.max() < 1 << 16)
    return values.astype("<u2")[..., None].view(np.uint8)


class Palette:
    """Colours by index, in the order in which they were met; a console has at most 128 of them."""

    def __init__(self) -> None:
        self._colours = np.zeros((0, 3), np.uint8)
        self._index = np.full(1 << 24, UNKNOWN, np.uint8)  # by red, green, blue: one look-up a pixel

    def split(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Frame [H, W, 3] -> indices [H, W] and colours [n, 3].

        Raises:
            ValueError: more than 255 colours since the beginning.
        """
        wide = frame.astype(np.uint32)
        packed = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
        indices = self._index[packed]
        if (indices == UNKNOWN).any():
            self._learn(np.unique(packed[indices == UNKNOWN]))
            indices = self._index[packed]
        return indices, self._colours

    def _learn(self, packed: NDArray[np.uint32]) -> None:
        count = len(self._colours) + len(packed)
        if count > UNKNOWN:
            raise ValueError(f"palette: found {count} colours, allowed {UNKNOWN}; send such frames some other way")
        self._index[packed] = np.arange(len(self._colours), count)
        colours = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1).astype(np.uint8)
        self._colours = np.concatenate([self._colours, colours])

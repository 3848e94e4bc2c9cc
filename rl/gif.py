"""Pictures -> the bytes of an animated GIF: it moves in TensorBoard, where an mp4 would need a player."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rl.frames import Frames

COLOURS = 256  # that a GIF can hold; a console of 1977 shows 128


def gif(pictures: Frames, period_s: float) -> bytes:
    """Pictures [T, H, W, 3] u8, T > 0, each shown for about `period_s`, over and over.

    A GIF counts hundredths of a second: the period is rounded to one of those, at least two (players slow down less).
    Colours are exact up to 256 in all; where there are more, as many low bits of each are dropped as make it 256.
    """
    indices, palette = indexed(pictures)
    images = [Image.fromarray(picture) for picture in indices]
    for image in images:
        image.putpalette(palette.tobytes())
    file = io.BytesIO()
    duration_ms = 10 * max(2, round(100 * period_s))
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=duration_ms, loop=0, optimize=False)
    return file.getvalue()


def indexed(pictures: Frames) -> tuple[Frames, Frames]:
    """(indices [T, H, W] u8, palette [C, 3] u8) of pictures [T, H, W, 3] u8; C is 1 to 256."""
    for bits in range(8):
        kept = pictures & np.uint8(0xFF << bits & 0xFF)
        packed = _packed(kept)
        # A table of all colours: sorting five million pixels would take a hundred times as long.
        seen = np.zeros(1 << 24, np.bool_)
        seen[packed] = True
        colours = np.flatnonzero(seen)
        if len(colours) <= COLOURS:
            break
    place = np.zeros(1 << 24, np.uint8)
    place[colours] = np.arange(len(colours))
    palette = np.stack([colours >> 16, colours >> 8 & 0xFF, colours & 0xFF], axis=1).astype(np.uint8)
    return place[packed], palette


def _packed(pictures: Frames) -> NDArray[np.uint32]:
    """[..., 3] u8 -> [...] u32: one number a colour."""
    red, green, blue = (pictures[..., i].astype(np.uint32) for i in range(3))
    return np.asarray(red << 16 | green << 8 | blue, np.uint32)

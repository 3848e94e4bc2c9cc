"""GIFs: what is read back is what was shown, exactly up to 256 colours."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from rl.gif import gif, indexed


def read(data):
    """(pictures [T, H, W, 3], period of each in ms) by another reader than ours."""
    image = Image.open(io.BytesIO(data))
    assert image.format == "GIF"
    frames = [(np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(image)]
    return np.stack([picture for picture, _ in frames]), [duration for _, duration in frames]


def pictures(colours, seed=3):
    """[5, 7, 11, 3] of so many colours, all of them there."""
    rng = np.random.default_rng(seed)
    palette = np.stack(np.unravel_index(rng.choice(1 << 24, colours, replace=False), (256, 256, 256)), axis=1)
    index = np.concatenate([np.arange(colours), rng.integers(colours, size=5 * 7 * 11 - colours)])
    return palette[rng.permutation(index)].reshape(5, 7, 11, 3).astype(np.uint8)


@pytest.mark.parametrize("colours", [1, 2, 128, 256])
def test_what_is_read_back_is_what_was_shown(colours):
    shown = pictures(colours)
    shown[1:] = np.roll(shown[1:], 1, axis=1)
    got, _ = read(gif(shown, 0.07))
    # Equal pictures in a row are one that stays longer.
    assert np.array_equal(got, shown if colours > 1 else shown[:1])


def test_equal_pictures_in_a_row_stay_as_long_as_all_of_them():
    shown = pictures(9)
    shown[1] = shown[2] = shown[0]
    got, durations_ms = read(gif(shown, 0.07))
    assert np.array_equal(got, shown[[0, 3, 4]])
    assert durations_ms == [210, 70, 70]


@pytest.mark.parametrize(("period_s", "ms"), [(4 / 60, 70), (2 / 60, 30), (1 / 60, 20), (0.001, 20), (0.5, 500)])
def test_a_period_is_a_whole_number_of_hundredths_at_least_two(period_s, ms):
    assert read(gif(pictures(30), period_s))[1] == [ms] * 5


def test_too_many_colours_lose_their_low_bits():
    shown = pictures(385)
    indices, palette = indexed(shown)
    assert len(palette) <= 256
    assert np.array_equal(read(gif(shown, 0.1))[0], palette[indices])
    lost = shown.astype(int) - palette[indices]
    assert lost.min() == 0
    assert lost.max() > 0
    kept = [len(np.unique((shown >> bits).reshape(-1, 3), axis=0)) for bits in range(8)]
    bits = next(b for b in range(8) if kept[b] <= 256)
    assert np.array_equal(palette[indices], shown >> bits << bits), "no more bits than it takes"

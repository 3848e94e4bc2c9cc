"""Messages come back as they were sent; colours and waves lose nothing on the way."""

from __future__ import annotations

import numpy as np
import pytest

from deploy.arcade.wire import Palette, bytes_of, decode, encode, wave_steps


def test_a_message_comes_back_as_it_was():
    rng = np.random.default_rng(1)
    arrays = {"a": rng.integers(0, 256, (3, 5), dtype=np.uint8), "none": np.zeros((0, 4), np.uint8),
              "b": rng.integers(0, 256, (2, 7, 11), dtype=np.uint8)[:, ::2]}  # fmt: skip
    facts, found = decode(encode({"kind": "picture", "score": -2.5, "name": "½ é"}, arrays))
    assert facts == {"kind": "picture", "score": -2.5, "name": "½ é"}
    assert list(found) == list(arrays)
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)


def test_steps_of_a_wave_add_up_to_it():
    wave = np.array([[3, 0, 256], [255, 0, 7], [2, 9, 255]], np.int32)
    summed = np.cumsum(wave_steps(wave), axis=0, dtype=np.uint8)
    assert summed.tolist() == [[3, 0, 255], [255, 0, 7], [2, 9, 255]], "a core's 256 spikes are shown as 255"


def test_numbers_are_sent_low_byte_first():
    assert bytes_of(np.array([[1, 258], [65535, 0]])).tolist() == [[[1, 0], [2, 1]], [[255, 255], [0, 0]]]


def test_a_frame_is_indices_into_colours_that_keep_their_place():
    palette, rng = Palette(), np.random.default_rng(2)
    colours = rng.integers(0, 256, (9, 3), dtype=np.uint8)
    first, second = colours[rng.integers(0, 4, (6, 5))], colours[rng.integers(0, 9, (7, 5))]
    indices, known = palette.split(first)
    assert np.array_equal(known[indices], first)
    more, grown = palette.split(second)
    assert np.array_equal(grown[more], second)
    assert np.array_equal(grown[: len(known)], known) and np.array_equal(palette.split(first)[0], indices)


def test_more_colours_than_a_byte_names_are_refused():
    frame = np.zeros((16, 16, 3), np.uint8)
    frame[..., 0] = np.arange(256).reshape(16, 16)
    with pytest.raises(ValueError, match=r"^palette: found 256 colours, allowed 255; send such frames some other way$"):
        Palette().split(frame)
    frame[0, 1] = 0
    assert len(Palette().split(frame)[1]) == 255

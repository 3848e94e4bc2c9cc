"""A draw is a pure function of run, core, tick, neuron and use: plain integers give the same, and no two depend."""

from __future__ import annotations

import numpy as np
import pytest
from cases import stream_of, word_of
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.chance import (
    DROP,
    LEAK,
    THRESHOLD,
    drops,
    fast_drops,
    fast_octet,
    fast_word,
    limit_of,
    octet,
    streams,
    word,
)

U64 = st.integers(0, (1 << 64) - 1)
PLACES = st.tuples(U64, st.integers(0, (1 << 44) - 1), st.integers(0, 1023), st.integers(0, 1023))


def as_u64(*values: int) -> list[np.ndarray]:
    return [np.array([value], np.uint64) for value in values]


@settings(max_examples=100, deadline=None)
@given(PLACES)
def test_draws_are_those_of_plain_integers(place: tuple[int, int, int, int]) -> None:
    expected = word_of(*place)
    scalars = [np.uint64(value) for value in place]
    assert int(word(*as_u64(*place))[0]) == int(fast_word(*scalars)) == expected
    assert int(octet(*as_u64(*place))[0]) == int(fast_octet(*scalars)) == expected >> 56


@settings(max_examples=100, deadline=None)
@given(PLACES, st.floats(0, 1))
def test_losses_are_those_of_plain_integers(place: tuple[int, int, int, int], share: float) -> None:
    expected = word_of(*place[:3], DROP) >> 32 < round(share * (1 << 32))
    assert bool(drops(*as_u64(*place[:3]), limit_of(share))[0]) is expected
    assert bool(fast_drops(*(np.uint64(value) for value in place[:3]), limit_of(share))) is expected


def test_streams_are_those_of_plain_integers() -> None:
    seeds = np.array([7, 0, (1 << 32) - 1], np.uint32)
    for run in (0, 1, (1 << 32) - 1):
        assert streams(run, seeds).tolist() == [stream_of(run, core, int(seed)) for core, seed in enumerate(seeds)]


def test_cores_of_one_seed_have_streams_of_their_own() -> None:
    same = np.zeros(5000, np.uint32)
    found = np.concatenate([streams(run, same) for run in (0, 1)])
    assert len(np.unique(found)) == len(found)
    rho = octet(found[:, None], np.uint64(3), np.uint64(9), np.arange(40, dtype=np.uint64)).astype(float)
    between_neighbours = np.corrcoef(rho[:-1].ravel(), rho[1:].ravel())[0, 1]
    assert abs(between_neighbours) < 0.01, "200,000 pairs: one standard deviation is .0022"


def test_the_uses_of_a_neuron_draw_independently() -> None:
    assert len({*range(256), LEAK, THRESHOLD, DROP}) == 259
    tick = np.arange(40_000, dtype=np.uint64)
    draws = np.stack([octet(np.uint64([5]), tick, np.uint64(3), np.uint64(use)) for use in (0, 255, LEAK, THRESHOLD)])
    between = np.corrcoef(draws.astype(float)) - np.eye(4)
    assert np.abs(between).max() < 0.03


@pytest.mark.parametrize("use", [0, 31, LEAK])
def test_a_draw_is_uniform_over_the_octets(use: int) -> None:
    counts = np.bincount(octet(np.uint64([1]), np.arange(256_000, dtype=np.uint64), np.uint64(2), np.uint64(use)))
    chi_squared = float(((counts - 1000) ** 2 / 1000).sum())
    assert len(counts) == 256
    assert 150 < chi_squared < 380, "255 degrees of freedom: about 5 standard deviations each way"


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.25, 0.24, 0.26), (1.0, 1, 1)])
def test_the_share_of_losses_is_the_one_asked_for(share: float, low: float, high: float) -> None:
    tick, neuron = np.arange(400, dtype=np.uint64)[:, None], np.arange(250, dtype=np.uint64)
    assert low <= drops(np.uint64([11]), tick, neuron, limit_of(share)).mean() <= high

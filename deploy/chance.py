"""Random numbers of stochastic neurons and of dropped spikes: ours, documented, the same in every engine.

The chip's own generator is not published, so runs that draw are repeatable here and not exact to silicon. A draw is a
pure function of who asks, when and for what, so that no order of evaluation can change it: the finalizer of SplitMix64
(Steele, Lea, Flood 2014) over those numbers, of which the top bits are used.

A core draws from a stream of its own: the word of the word of (run's seed, core's index) and (the core's seed in the
graph). IBM's files may give many cores one seed, and those draw independently all the same; another run's seed changes
every draw, and equal run, place in the graph, tick and use give equal draws in every engine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

LEAK, THRESHOLD, DROP = 256, 257, 258  # uses beyond the axons 0..255, whose synapses draw by their own number
_STREAM = np.uint64(259)
MAX_NEURONS = 1024  # that `word` tells apart
_STEP, _FIRST, _SECOND = (np.uint64(m) for m in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_A, _B, _C = np.uint64(30), np.uint64(27), np.uint64(31)
_TICK, _USE, _OCTET, _HALF = np.uint64(20), np.uint64(10), np.uint64(56), np.uint64(32)


def word(seed: Any, tick: Any, neuron: Any, use: Any) -> Any:
    """64 random bits, u64, for u64 seed, tick (< 2**44), neuron (< 1,024) and use (< 1,024).

    Scalars or arrays; products wrap, of which numpy warns for scalars of its own, so give it arrays.
    """
    bits = (seed + np.uint64(1)) * _STEP ^ (tick << _TICK) ^ (use << _USE) ^ neuron
    bits = bits * _STEP
    bits = (bits ^ (bits >> _A)) * _FIRST
    bits = (bits ^ (bits >> _B)) * _SECOND
    return bits ^ (bits >> _C)


def octet(seed: Any, tick: Any, neuron: Any, use: Any) -> Any:
    """A draw of 0..255, u64: the rho of the neuron equations. Arguments as in `word`."""
    return word(seed, tick, neuron, use) >> _OCTET


def streams(run: int, seeds: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """The seed [C] that each core's draws take in `word`, from the run's seed (0 .. 2**32 - 1) and the cores' [C]."""
    none, core = np.uint64(0), np.arange(len(seeds), dtype=np.uint64)
    place = word(np.full(len(seeds), run, np.uint64), core, none, _STREAM)
    return np.asarray(word(place, seeds.astype(np.uint64), none, _STREAM), np.uint64)


def limit_of(share: float) -> np.uint64:
    """What `drops` compares with, so that this share (0..1, in steps of 2**-32) of spikes is lost."""
    return np.uint64(round(share * (1 << 32)))


def drops(seed: Any, tick: Any, neuron: Any, limit: Any) -> Any:
    """Whether a neuron's spike of this tick is lost. Arguments as in `word`, and `limit_of` the share."""
    return word(seed, tick, neuron, np.uint64(DROP)) >> _HALF < limit


# The same for compiled loops, u64 scalars only.
fast_word: Any = njit(cache=True, inline="never")(word)


@njit(cache=True)
def fast_octet(seed: Any, tick: Any, neuron: Any, use: Any) -> Any:
    return fast_word(seed, tick, neuron, use) >> _OCTET


@njit(cache=True)
def fast_drops(seed: Any, tick: Any, neuron: Any, limit: Any) -> Any:
    return fast_word(seed, tick, neuron, np.uint64(DROP)) >> _HALF < limit

"""Random numbers of stochastic neurons and of dropped spikes: ours, documented, the same in every engine.

The chip's own generator is not published, so runs that draw are repeatable here and not exact to silicon. A draw is a
pure function of who asks, when and for what, so that no order of evaluation can change it: the finalizer of SplitMix64
(Steele, Lea, Flood 2014) over those numbers, of which the top bits are used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

LEAK, THRESHOLD, DROP = 256, 257, 258  # uses beyond the axons 0..255, whose synapses draw by their own number
_STEP, _FIRST, _SECOND = (np.uint64(m) for m in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_A, _B, _C = np.uint64(30), np.uint64(27), np.uint64(31)
_TICK, _USE, _OCTET = np.uint64(20), np.uint64(10), np.uint64(56)


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


# The same for compiled loops, scalars only.
fast_word: Any = njit(cache=True, inline="never")(word)


@njit(cache=True)
def fast_octet(seed: Any, tick: Any, neuron: Any, use: Any) -> Any:
    return fast_word(seed, tick, neuron, use) >> _OCTET

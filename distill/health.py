"""Health of a folded student: neurons that say nothing because they never spike or always do, and what is connected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor

from deploy.spec import Conv, StudentSpec


def firing(batches: Iterable[Sequence[Tensor]]) -> list[Tensor]:
    """Bits of every level [B, O, H, W], batch after batch -> by level, how often each neuron spikes (0..1) [O, H, W].

    Raises ValueError without a picture.
    """
    spikes: list[Tensor] = []
    pictures = 0
    for levels in batches:
        counts = [level.sum(dim=0) for level in levels]
        spikes = [a + b for a, b in zip(spikes, counts, strict=True)] if spikes else counts
        pictures += len(levels[0])
    if not pictures:
        raise ValueError("health: found no pictures, must be one or more")
    return [count / pictures for count in spikes]


def health(spec: StudentSpec, rates: Sequence[Tensor]) -> dict[str, float]:
    """Of each level, by name: spikes a picture and neuron, shares of neurons that never or always spike, synapses.

    rates as of `firing`, the front's first. Synapses are the mean of a neuron's weights that are not zero, of the
    `MAX_INPUTS` that it may have.
    """
    told: dict[str, float] = {}
    for conv, rate in zip((spec.front, *spec.layers), rates, strict=True):
        told[f"firing/{conv.name}"] = float(rate.mean())
        told[f"dead/{conv.name}"] = float((rate == 0).float().mean())
        told[f"always/{conv.name}"] = float((rate == 1).float().mean())
        told[f"synapses/{conv.name}"] = synapses(conv)
    return told


def synapses(conv: Conv) -> float:
    """Weights of a neuron that are not zero, on average."""
    return float(np.count_nonzero(conv.weights) / len(conv.weights))

"""Health of a folded student: neurons that say nothing because they never spike or always do, and what is connected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deploy.chip import CHIPS, Chip
from deploy.energy import DECISION_RATES, Counts, static_power
from deploy.spec import MAX_INPUTS, Conv, StudentSpec
from deploy.tiling import naive_cores

VOLTAGE = 1.0


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

    rates as of `firing`, the front's first. Synapses are the mean of a neuron's weights that are not zero, `used` is
    their share of the `MAX_INPUTS` that it may have, `zero` the share of its own weights that are zero.
    """
    told: dict[str, float] = {}
    for conv, rate in zip((spec.front, *spec.layers), rates, strict=True):
        told[f"firing/{conv.name}"] = float(rate.mean())
        told[f"dead/{conv.name}"] = float((rate == 0).float().mean())
        told[f"always/{conv.name}"] = float((rate == 1).float().mean())
        told[f"synapses/{conv.name}"] = synapses(conv)
        told[f"used/{conv.name}"] = synapses(conv) / (MAX_INPUTS if conv is not spec.front else conv.fan_in)
        told[f"zero/{conv.name}"] = 1 - synapses(conv) / conv.fan_in
    return told


def synapses(conv: Conv) -> float:
    """Weights of a neuron that are not zero, on average."""
    return float(np.count_nonzero(conv.weights) / len(conv.weights))


def predicted(spec: StudentSpec, rates: Sequence[Tensor], chip: Chip = CHIPS["ns1e"]) -> dict[str, float]:
    """What a student would take before it is compiled: cores by the plain rule, and energy a decision of them, in J.

    Energy is that of cores in use for a thirtieth of a second at 1 V, and of one pass of a picture; the compiler saves
    cores, and adds those that copy input lines (deploy.energy says what the constants rest on).
    """
    cores = sum(naive_cores(spec, chip))
    events = sum(_events(layer, rate) for layer, rate in zip(spec.layers, rates, strict=False))
    seconds = 1 / DECISION_RATES[0]
    energy = static_power(cores, VOLTAGE) * seconds + Counts(events, 0, 0, 0).active_a(VOLTAGE)
    return {"chip/cores": float(cores), "chip/synaptic_events": events, "chip/energy_j": energy}


def _events(layer: Conv, rate: Tensor) -> float:
    """Pairs of an input that fires and a weight on it that is not zero, in a mean picture."""
    weights = torch.from_numpy(np.abs(layer.weights)).float()
    turned = rate[None, torch.from_numpy(layer.order.astype(np.int64))]
    return float(F.conv2d(turned, weights, None, layer.stride, layer.padding, 1, layer.groups).sum())

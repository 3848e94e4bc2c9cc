"""Core graphs for measuring engines: random ones that keep busy, and levelled ones like convolutional nets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.cores import FIRST_PIN_CORE, CoreGraph, NeuronTypes

SIDE = 256  # axons and neurons of a core
AXON_TYPES = 4
KINDS = 4096  # neuron types
QUANTILE = 0.92  # spreads above the mean that a neuron's sum must reach


def busy_graph(
    cores: int, memory: bool = False, longest_delay: int = 1, distinct: int = 4096, seed: int = 1
) -> CoreGraph:
    """Full cores, each axon with one driver, about a fifth of all axons active as long as the one line is.

    The line drives one axon in 32, a random neuron each of the others.
    Up to `distinct` cores have nothing in common; further ones have the crossbars and neurons of those, in turn.
    Weights are up to 96 in magnitude, two of each neuron's four are the negatives of the others, half of the synapses
    are set. A leak (with memory: a threshold, linear reset and a floor) holds the share of firing neurons at a fifth,
    which is a stable point: with fewer active axons sums spread less, but the share falls more slowly.
    """
    rng = np.random.default_rng(seed)
    half = rng.integers(1, 97, (KINDS, AXON_TYPES // 2))
    weight = rng.permuted(np.concatenate([half, -half], axis=1), axis=1)
    spread = np.sqrt(0.2 * SIDE * 0.5 * (weight.astype(float) ** 2).mean(axis=1))
    types = _with_memory(weight, spread) if memory else NeuronTypes.of(weight, -QUANTILE * spread)
    driven = rng.random(cores * SIDE) < 1 / 32
    target = rng.permutation(cores * SIDE).reshape(cores, SIDE)
    kinds = min(cores, distinct)
    of = np.arange(cores) % kinds
    return _graph(
        crossbar=rng.integers(0, 1 << 64, (kinds, SIDE // 64, SIDE), np.uint64),
        crossbar_of=of,
        axon_type=rng.integers(0, AXON_TYPES, (kinds, SIDE))[of],
        types=types,
        neuron_type=rng.integers(1, KINDS + 1, (kinds, SIDE))[of],
        target_core=np.where(driven[target], CoreGraph.NO_TARGET, target // SIDE),
        target_axon=target % SIDE,
        delay=np.where(driven[target], 0, rng.integers(1, longest_delay + 1, (cores, SIDE))),
        input_start=np.array([0, driven.sum()]),
        input_core=np.flatnonzero(driven) // SIDE,
        input_axon=np.flatnonzero(driven) % SIDE,
    )


def _with_memory(weight: NDArray[Any], spread: NDArray[Any]) -> NeuronTypes:
    return NeuronTypes.of(weight, np.zeros(len(weight)), alpha=1.9 * spread, beta=spread, gamma=1)


def layered_graph(levels: int, width: int, prototypes: int = 64, seed: int = 1) -> tuple[CoreGraph, NDArray[np.int32]]:
    """(graph, level of each core) of a trinary network: pairs of axons, a few crossbars, each axon with one driver.

    Every core of a level has 128 neurons in two copies, for the -1 and the +1 axons of an input in the next level, to
    a core chosen at random; the last level's drive pins. So a layer is like a 1x1 convolution of IBM's networks.
    """
    rng = np.random.default_rng(seed)
    cores, pairs = levels * width, SIDE // 2
    signs = rng.integers(-1, 2, (prototypes, pairs, pairs), np.int8)  # [P, input, neuron]
    synapses = np.stack([signs < 0, signs > 0], axis=2).reshape(prototypes, SIDE, pairs)
    bits = np.packbits(np.tile(synapses, 2), axis=1, bitorder="little")  # [P, 32, 256]
    crossbar = np.ascontiguousarray(bits.transpose(0, 2, 1)).view("<u8").transpose(0, 2, 1)
    leak = np.arange(-6, 0)  # about a fifth of all neurons fire
    source = np.concatenate([level * width * pairs + rng.permutation(width * pairs) for level in range(1, levels + 1)])
    core, pair = source // pairs, source % pairs
    target_core = np.tile(core.reshape(cores, pairs), 2)
    target_axon = np.concatenate([2 * pair.reshape(cores, pairs), 2 * pair.reshape(cores, pairs) + 1], axis=1)
    last = np.arange(cores)[:, None] >= cores - width
    inputs = np.arange(width * SIDE)
    graph = _graph(
        crossbar=np.ascontiguousarray(crossbar, np.uint64),
        crossbar_of=rng.integers(0, prototypes, cores),
        axon_type=np.tile(np.arange(SIDE) % 2, (cores, 1)),
        types=NeuronTypes.of(np.tile([-1, 1], (len(leak), 1)), leak),
        neuron_type=np.tile(rng.integers(1, len(leak) + 1, (cores, pairs)), 2),
        target_core=np.where(last, FIRST_PIN_CORE - (np.arange(cores)[:, None] - (cores - width)), target_core),
        target_axon=np.where(last, np.arange(SIDE), target_axon),
        delay=np.ones((cores, SIDE)),
        input_start=np.arange(0, width * SIDE + 1, 2),
        input_core=inputs // SIDE,
        input_axon=inputs % SIDE,
        output_pin=np.arange(width * SIDE),
    )
    return graph, np.repeat(np.arange(levels, dtype=np.int32), width)


_KINDS = {
    "crossbar_of": np.int32,
    "axon_type": np.uint8,
    "neuron_type": np.uint16,
    "target_core": np.int32,
    "target_axon": np.uint8,
    "delay": np.uint8,
    "input_start": np.int32,
    "input_core": np.int32,
    "input_axon": np.uint8,
    "input_delay": np.uint8,
    "output_pin": np.int32,
    "output_answer": np.int16,
}


def _graph(crossbar: NDArray[np.uint64], types: NeuronTypes, **columns: NDArray[Any]) -> CoreGraph:
    pins = columns.setdefault("output_pin", np.zeros(0))
    columns["output_answer"] = np.arange(len(pins)) % 6
    columns["input_delay"] = np.zeros(len(columns["input_core"]))
    made: dict[str, Any] = {name: value.astype(_KINDS[name]) for name, value in columns.items()}
    cores = len(columns["crossbar_of"])
    return CoreGraph("imported", False, crossbar=crossbar, types=types, seed=np.zeros(cores, np.uint32), **made)

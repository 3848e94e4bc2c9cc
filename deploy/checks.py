"""Every rule that a core graph breaks on a chip, as text: where, what was found, what is allowed, what to try."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from deploy.chip import Chip
from deploy.cores import CoreGraph

EVEN_BITS = np.uint64(0x5555_5555_5555_5555)


def graph_violations(graph: CoreGraph, chip: Chip) -> Iterator[str]:
    """What no graph may do on this chip, compiled or imported."""
    cores, axons, neurons = graph.shape
    if cores > chip.cores:
        yield f"graph: {cores} cores used, {chip.cores} exist on {chip.name}; try fewer features or a smaller map"
    if axons > chip.axons or neurons > chip.neurons:
        yield f"graph: cores of {axons}x{neurons}, {chip.axons}x{chip.neurons} on {chip.name}; compile for this chip"
    if graph.types.weight.shape[1] > chip.axon_types:
        yield f"graph: {graph.types.weight.shape[1]} axon types, {chip.axon_types} exist on {chip.name}; use fewer"
    if int(graph.delay.max(initial=0)) > chip.max_delay:
        core, neuron = np.argwhere(graph.delay > chip.max_delay)[0]
        yield (
            f"core {core}, neuron {neuron}: delay {graph.delay[core, neuron]}, "
            f"allowed 1..{chip.max_delay}; relay it through another core"
        )
    yield from _type_violations(graph, chip)


def _type_violations(graph: CoreGraph, chip: Chip) -> Iterator[str]:
    t = graph.types
    for name, values, limit in (
        ("weight", t.weight, chip.max_weight),
        ("leak", t.leak, chip.max_leak),
        ("alpha", t.alpha, chip.max_threshold),
        ("beta", t.beta, chip.max_threshold),
        ("reset", t.reset, chip.max_potential),
        ("initial", t.initial, chip.max_potential),
    ):
        worst = int(np.abs(values.astype(np.int64)).max(initial=0))
        if worst > limit:
            yield f"types.{name}: magnitude {worst}, allowed {limit} on {chip.name}; scale the weights down"


def compiled_violations(graph: CoreGraph, level: NDArray[np.int32]) -> Iterator[str]:
    """What no graph of our compiler may do: axons have one driver each, and a core speaks of one picture."""
    drivers = count_drivers(graph)
    used = graph.axon_type != CoreGraph.UNUSED_AXON
    for wrong, what in (
        (used & (drivers > 1), "drivers, allowed 1; copy the neuron instead"),
        (used & (drivers == 0), "drivers, needs 1; drop the axon"),
        (~used & (drivers > 0), "drivers, but is unused; drop the neuron"),
    ):
        for core, axon in np.argwhere(wrong)[:3]:
            yield f"core {core}, axon {axon}: {drivers[core, axon]} {what}"
    core, neuron = np.nonzero(graph.target_core >= 0)
    late = level[graph.target_core[core, neuron]] - level[core] != graph.delay[core, neuron]
    for c, n in zip(core[late][:3], neuron[late][:3], strict=True):
        yield f"core {c}, neuron {n}: delay {graph.delay[c, n]} misses the level of its target; align the delays"
    yield from _pair_violations(graph)


def _pair_violations(graph: CoreGraph) -> Iterator[str]:
    """Axons 2i and 2i+1 of a tile stand for the weights -1 and +1 of one input: never both."""
    pairs = graph.crossbar & (graph.crossbar >> np.uint64(1)) & EVEN_BITS
    both = np.bitwise_or.reduce(pairs, axis=(1, 2)) != 0
    if graph.axon_type.shape[1] < 2:
        return
    for core in np.flatnonzero(both[graph.crossbar_of] & (graph.axon_type[:, 1] == 1))[:3]:
        yield f"core {core}: weights -1 and +1 on one input, allowed one of them; make the crossbar again"


def count_drivers(graph: CoreGraph) -> NDArray[np.int64]:
    """[C, A] neurons and input lines that drive each axon."""
    c, a, _ = graph.shape
    inside = graph.target_core >= 0
    flat = graph.target_core[inside].astype(np.int64) * a + graph.target_axon[inside]
    lines = graph.input_core.astype(np.int64) * a + graph.input_axon
    return np.bincount(np.concatenate([flat, lines]), minlength=c * a).reshape(c, a)

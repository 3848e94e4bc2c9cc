"""What a compiled graph uses of a chip: (used, available), whole and stage by stage, as data and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.chip import Chip
from deploy.cores import CoreGraph

TICKS_A_PICTURE = 33  # of 1 ms, at 30 pictures a second


@dataclass(frozen=True)
class StageUse:
    """One layer, or the splitters before one: cores first .. first + cores - 1."""

    name: str
    first: int
    cores: int
    level: int  # ticks from the input to its first core
    axons: int
    neurons: int
    synapses: int


@dataclass(frozen=True)
class Usage:
    """(used, available) by name, and the stages in the order of ticks."""

    chip: str
    total: dict[str, tuple[int, int]]
    stages: tuple[StageUse, ...]


def usage(
    graph: CoreGraph, stage: NDArray[np.int32], level: NDArray[np.int32], names: Sequence[str], chip: Chip
) -> Usage:
    """Count what is used. Axons, neurons and synapses are counted against the cores in use.

    `stage` [C] is 2l for splitters before layer l and 2l+1 for its tiles, rising; `level` [C] in ticks.
    """
    axons = (graph.axon_type != CoreGraph.UNUSED_AXON).sum(axis=1)
    neurons = (graph.neuron_type > 0).sum(axis=1)
    synapses = np.bitwise_count(graph.crossbar).sum(axis=(1, 2), dtype=np.int64)[graph.crossbar_of]
    stages = tuple(
        StageUse(
            _stage_name(int(number), names),
            int(np.argmax(stage == number)),
            int((stage == number).sum()),
            int(level[stage == number].min()),
            *(int(counts[stage == number].sum()) for counts in (axons, neurons, synapses)),
        )
        for number in np.unique(stage)
    )
    cores = len(stage)
    total = {
        "cores": (cores, chip.cores),
        "naive cores": (int((stage % 2 == 1).sum()), chip.cores),
        "input fan-out cores": (int((stage == 0).sum()), chip.cores),
        "interior splitter cores": (int(((stage > 0) & (stage % 2 == 0)).sum()), chip.cores),
        "axons": (int(axons.sum()), cores * chip.axons),
        "neurons": (int(neurons.sum()), cores * chip.neurons),
        "synapses": (int(synapses.sum()), cores * chip.axons * chip.neurons),
        "ticks to the votes": (int(level.max()) + 1, TICKS_A_PICTURE),
    }
    return Usage(chip.name, total, stages)


def _stage_name(number: int, names: Sequence[str]) -> str:
    if number % 2:
        return names[number // 2]
    return "input fan-out" if number == 0 else f"fan-out to {names[number // 2]}"


def usage_text(use: Usage) -> str:
    """Two tables: what is used of the chip, and where."""
    lines = [f"{'on ' + use.chip:24} {'used':>12} {'available':>12} {'share':>7}"]
    for name, (used, available) in use.total.items():
        lines.append(f"{name:24} {used:12,} {available:12,} {used / available:7.1%}")
    lines += ["", f"{'stage':24} {'level':>6} {'cores':>6} {'axons':>9} {'neurons':>9} {'synapses':>11}"]
    for s in use.stages:
        lines.append(f"{s.name:24} {s.level:6} {s.cores:6,} {s.axons:9,} {s.neurons:9,} {s.synapses:11,}")
    return "\n".join(lines) + "\n"

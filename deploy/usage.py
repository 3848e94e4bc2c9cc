"""What a compiled graph uses of a chip: (used, available), whole and stage by stage, as data and as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from deploy.chip import Chip
from deploy.cores import CoreGraph
from deploy.history import LAYER
from deploy.reduce import REDUCTIONS

TICKS_A_PICTURE = 33  # of 1 ms, at 30 pictures a second
HISTORY = 2 * LAYER  # the stage of relays that hold earlier pictures
ROWS = (
    "cores",
    "naive cores",
    "layer cores",
    "history cores",
    "input fan-out cores",
    "interior splitter cores",
    "repeater cores",
    "axons",
    "neurons",
    "synapses",
    "crossbars",
    "ticks to the votes",
)  # in the order in which they are told
Row = TypeVar("Row")


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
    naive: int = 0  # cores by the plain rule: groups times equal tiles; splitters have none
    relays: int = 0  # neurons that only repeat an axon


@dataclass(frozen=True)
class Usage:
    """(used, available) by name, and the stages in the order of ticks."""

    chip: str
    total: dict[str, tuple[int, int]]
    stages: tuple[StageUse, ...]
    saved: dict[str, int] = field(default_factory=dict)  # cores by reduction, each beside those before it


def usage(
    graph: CoreGraph,
    stage: NDArray[np.int32],
    level: NDArray[np.int32],
    names: Sequence[str],
    chip: Chip,
    naive: Sequence[int],
    saved: Mapping[str, int],
) -> Usage:
    """Count what is used. Axons, neurons and synapses are counted against the cores in use.

    `stage` [C] is -2 for relays of earlier pictures, 2l for splitters before layer l, 2l+1 for its tiles, 2L for
    repeaters, rising; `level` [C] in ticks;
    `naive` are the cores of each layer by the plain rule (Esser et al. 2016), `saved` those that each reduction saved.
    """
    repeats = (graph.types.weight == 1).all(axis=1) & (graph.types.leak == 0)
    counts = (
        (graph.axon_type != CoreGraph.UNUSED_AXON).sum(axis=1),
        (graph.neuron_type > 0).sum(axis=1),
        np.bitwise_count(graph.crossbar).sum(axis=(1, 2), dtype=np.int64)[graph.crossbar_of],
        np.concatenate([[False], repeats])[graph.neuron_type].sum(axis=1),
    )
    stages = []
    for number in np.unique(stage):
        own = stage == number
        axons, neurons, synapses, relays = (int(count[own].sum()) for count in counts)
        name, plain = _stage_name(int(number), names), int(naive[number // 2]) if number % 2 else 0
        first, ticks = int(np.argmax(own)), int(level[own].min())
        stages.append(StageUse(name, first, int(own.sum()), ticks, axons, neurons, synapses, plain, relays))
    cores = len(stage)
    total = {
        "cores": (cores, chip.cores),
        "naive cores": (sum(naive), chip.cores),
        "layer cores": (int((stage % 2 == 1).sum()), chip.cores),
        "input fan-out cores": (int((stage == 0).sum()), chip.cores),
        "interior splitter cores": (int(((stage > 0) & (stage % 2 == 0) & (stage < 2 * len(names))).sum()), chip.cores),
        "axons": (int(counts[0].sum()), cores * chip.axons),
        "neurons": (int(counts[1].sum()), cores * chip.neurons),
        "synapses": (int(counts[2].sum()), cores * chip.axons * chip.neurons),
        "crossbars": (len(graph.crossbar), cores),
        "ticks to the votes": (int(level[stage == 2 * len(names) - 1].max()) + 1, TICKS_A_PICTURE),
    }
    remembering = int((stage == HISTORY).sum())
    if remembering:
        total["history cores"] = (remembering, chip.cores)
    repeaters = int((stage == 2 * len(names)).sum())
    if repeaters:
        total["repeater cores"] = (repeaters, chip.cores)
    return Usage(chip.name, total, tuple(stages), dict(saved))


def overfull(stage: NDArray[np.int32], names: Sequence[str], chip: Chip) -> Iterator[str]:
    """Which layer to shrink where the cores [C] of these stages are more than a chip has."""
    over = len(stage) - chip.cores
    if over <= 0:
        return
    counts = [int(((stage == 2 * layer) | (stage == 2 * layer + 1)).sum()) for layer in range(len(names))]
    largest = int(np.argmax(counts))
    yield (
        f"{names[largest]}: takes {counts[largest]:,} of {len(stage):,} cores with the splitters before it, and those "
        f"are {over:,} more than {chip.name} has; shrink it first: fewer features or groups, or take a larger CHIP"
    )


def _stage_name(number: int, names: Sequence[str]) -> str:
    if number % 2:
        return names[number // 2]
    if number in (HISTORY, 2 * len(names)):
        return "history" if number == HISTORY else "repeaters"
    return "input fan-out" if number == 0 else f"fan-out to {names[number // 2]}"


def _in_order(found: Mapping[str, Row], order: Iterable[str]) -> list[tuple[str, Row]]:
    """The entries as they are told: files keep them by name."""
    known = list(order)
    return sorted(found.items(), key=lambda entry: known.index(entry[0]) if entry[0] in known else len(known))


def usage_text(use: Usage) -> str:
    """Tables: what is used of the chip, where, and what the reductions saved."""
    lines = [f"{'on ' + use.chip:24} {'used':>12} {'available':>12} {'share':>7}"]
    for name, (used, available) in _in_order(use.total, ROWS):
        lines.append(f"{name:24} {used:12,} {available:12,} {used / available:7.1%}")
    head = ("level", "cores", "naive"), ("axons", "neurons", "synapses", "relays")
    lines += ["", f"{'stage':24}" + "".join(f"{h:>7}" for h in head[0]) + "".join(f"{h:>12}" for h in head[1])]
    for s in use.stages:
        few, many = (s.level, s.cores, s.naive), (s.axons, s.neurons, s.synapses, s.relays)
        lines.append(f"{s.name:24}" + "".join(f"{n:7,}" for n in few) + "".join(f"{n:12,}" for n in many))
    if use.saved:
        lines += ["", f"{'reduction':24} {'cores saved':>12}"]
        lines += [
            f"{name:24} {cores:12,}  {REDUCTIONS.get(name, '')}" for name, cores in _in_order(use.saved, REDUCTIONS)
        ]
    return "\n".join(lines) + "\n"

"""Graphs whose cores can be evaluated level by level, once a picture: what that takes, and the check of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from deploy.cores import RING, CoreGraph
from deploy.emulator import EmulationError
from deploy.engine import memoryless_cores


def check_levels(graph: CoreGraph, level: NDArray[np.int32], ticks: int) -> None:
    """Raise EmulationError unless every core settles: a held picture and one wave of it give equal spikes.

    Level [C] is the tick in which a core integrates the picture that enters in tick 0; `ticks` are run in all. Needed:
    no neuron with a memory, delays that are differences of levels, inputs that arrive at their cores' levels, counted
    modulo the slots of the ring that they wait in.
    """
    problems = [*_level_problems(graph, level, ticks), *_delay_problems(graph, level), *_input_problems(graph, level)]
    if problems:
        raise EmulationError("\n".join(problems))


def _level_problems(graph: CoreGraph, level: NDArray[np.int32], ticks: int) -> Iterator[str]:
    late = np.flatnonzero((level < 0) | (level >= ticks))
    if late.size:
        yield f"core {late[0]}: level {level[late[0]]}, allowed 0..{ticks - 1} in {ticks} ticks; run more ticks"
    kept = np.flatnonzero(~memoryless_cores(graph))
    if kept.size:
        yield f"core {kept[0]}: neurons with a memory, allowed none in a wave; run it tick by tick"


def _delay_problems(graph: CoreGraph, level: NDArray[np.int32]) -> Iterator[str]:
    core, neuron = np.nonzero((graph.target_core >= 0) & (graph.neuron_type > 0))
    needed = level[graph.target_core[core, neuron]] - level[core]
    delay = graph.delay[core, neuron]
    for i in np.flatnonzero(delay != needed)[:1]:
        yield (
            f"core {core[i]}, neuron {neuron[i]}: delay {delay[i]}, must be {needed[i]} between levels; "
            "run it tick by tick"
        )


def _input_problems(graph: CoreGraph, level: NDArray[np.int32]) -> Iterator[str]:
    due = level[graph.input_core] % RING
    entry = np.flatnonzero(graph.input_delay != due)
    for e in entry[:1]:
        yield (
            f"input entry {e}: delay {graph.input_delay[e]}, must be {due[e]}, the level of its core; "
            "run it tick by tick"
        )

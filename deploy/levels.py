"""Graphs whose cores can be evaluated level by level, once a picture: what that takes, and the check of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from deploy.compiled import Compiled
from deploy.cores import CoreGraph
from deploy.emulator import EmulationError
from deploy.engine import memoryless_cores


def need_no_history(compiled: Compiled) -> None:
    """Raise EmulationError where a chip's answer rests on earlier pictures, which cannot be given all at once."""
    if compiled.history > 1:
        raise EmulationError(
            f"chip: history of {compiled.history} pictures, allowed 1 where each is evaluated alone; "
            "play them in order with ChipRunner"
        )


def check_levels(graph: CoreGraph, level: NDArray[np.int32], ticks: int) -> None:
    """Raise EmulationError unless every core settles: a held picture and one wave of it give equal spikes.

    Level [C] is the tick in which a core integrates the picture that enters in tick 0; `ticks` are run in all. Needed:
    no neuron with a memory, delays that are differences of levels, inputs that arrive at their cores' levels.
    """
    problems = [*_level_problems(graph, level, ticks), *_delay_problems(graph, level)]
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
    entry = np.flatnonzero(graph.input_delay != level[graph.input_core])
    for e in entry[:1]:
        yield (
            f"input entry {e}: delay {graph.input_delay[e]}, must be {level[graph.input_core[e]]}, the level of its "
            "core; run it tick by tick"
        )

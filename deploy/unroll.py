"""A chip with a history as one without: each core once for every picture that it speaks of, each line once a picture.

Between two pictures lies one interval. Where a spike waits longer than its core and its target lie apart in level, by
whole intervals, its target gets what the core said so many pictures ago. In the unrolled graph that is said by a copy
of the core, which stands as many intervals earlier; so nothing is left that remembers, and every rule of graphs that
are evaluated level by level holds. Cores that carry no earlier picture, nearly all, stand once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.compiled import Compiled
from deploy.cores import FIRST_PIN_CORE, RING, CoreGraph
from deploy.emulator import Bits, EmulationError
from deploy.graphs import plain_crossbar
from deploy.levels import check_levels

I32 = NDArray[np.int32]
_PER_CORE = ("crossbar_of", "axon_type", "neuron_type", "seed", "target_axon")


def unrolled(compiled: Compiled) -> tuple[CoreGraph, I32]:
    """(graph of C' cores and history * I lines, newest picture's first; the level of each core [C']).

    The first C cores are what the chip's say of the newest picture, in their order. Levels count from when the oldest
    picture enters, delays of lines are levels modulo the ring's slots. Raises EmulationError where a spike waits for no
    picture of the history. A chip without a history comes back as it is.
    """
    if compiled.history == 1:
        return compiled.graph, compiled.level
    # What comes to a core whole intervals late is of a picture so many back: news of a level within one interval.
    graph, level = compiled.graph, compiled.level % compiled.interval
    ago = _ago(graph.delay, np.where(graph.target_core >= 0, level[graph.target_core] - level[:, None], 0), compiled)
    ago[graph.target_core < 0] = 0
    needed = _needed(graph, level, ago, compiled)
    source, neuron = np.nonzero(graph.target_core >= 0)
    target, axon = graph.target_core[source, neuron], graph.target_axon[source, neuron]
    _need_remembered(needed[target, :, axon], ago[source, neuron], target)
    stands = needed.any(axis=2) | (np.arange(compiled.history) == 0)
    age, core = np.nonzero(stands.T)
    number = np.full(stands.shape, -1, np.int32)
    number[core, age] = np.arange(len(core))
    made: dict[str, Any] = {name: np.ascontiguousarray(getattr(graph, name)[core]) for name in _PER_CORE}
    made["target_core"] = copies = _targets(graph, number, ago, core, age)
    made["delay"] = np.where(copies == CoreGraph.NO_TARGET, 0, graph.delay[core]).astype(np.uint8)
    waits = _ago(graph.input_delay, level[graph.input_core], compiled)
    _need_remembered(needed[graph.input_core, :, graph.input_axon], waits, graph.input_core)
    made |= _lines(graph, number, waits)
    levels = (level[core] + (compiled.history - 1 - age) * compiled.interval).astype(np.int32)
    made["input_delay"] = (levels[made["input_core"]] % RING).astype(np.uint8)
    return replace(graph, **made), levels


def levelled(compiled: Compiled) -> tuple[CoreGraph, I32]:
    """`unrolled`, and checked: its cores may be evaluated once a picture, level by level. Raises EmulationError."""
    graph, level = unrolled(compiled)
    check_levels(graph, level, (compiled.history - 1) * compiled.interval + compiled.picture_ticks)
    return graph, level


def _ago(delay: NDArray[np.uint8], due: I32, compiled: Compiled) -> NDArray[np.int64]:
    """Whole intervals that spikes wait beyond what is due; what lies between two is told by `check_levels`."""
    return (delay.astype(np.int64) - due) // compiled.interval


def _needed(graph: CoreGraph, level: I32, ago: NDArray[np.int64], compiled: Compiled) -> Bits:
    """[C, history, A] axons that are listened to, by picture: all in the newest one's copies, else what those ask for.

    Latest copy first: whoever a copy speaks to comes after it, so all of its listeners are known by then.
    """
    needed = np.zeros((graph.shape[0], compiled.history, graph.shape[1]), bool)
    age = np.tile(np.arange(compiled.history), len(level))
    core = np.repeat(np.arange(len(level)), compiled.history)
    for place in np.argsort(age * compiled.interval - level[core], kind="stable"):
        live = _live(graph, needed, ago, int(core[place]), int(age[place]))
        if live.any():
            needed[core[place], age[place]] = plain_crossbar(graph, int(core[place]))[live].any(axis=0)
    return needed


def _live(graph: CoreGraph, needed: Bits, ago: NDArray[np.int64], core: int, age: int) -> Bits:
    """[N] neurons of a copy whose word somebody listens to."""
    if age == 0:
        return np.asarray(graph.neuron_type[core] > 0)
    target, news = graph.target_core[core], age - ago[core]
    heard = (target >= 0) & (news >= 0) & (news < needed.shape[1])
    there = (np.where(heard, index, 0) for index in (target, news, graph.target_axon[core]))
    return np.asarray(heard & needed[tuple(there)])


def _need_remembered(asked: Bits, ago: NDArray[np.int64], core: NDArray[Any]) -> None:
    """`asked` [E, history] by axon's driver and picture, `ago` [E] of the driver."""
    history = asked.shape[1]
    entry, age = np.nonzero(asked)
    beyond = age + ago[entry]
    wrong = np.flatnonzero((beyond < 0) | (beyond >= history))
    if wrong.size:
        raise EmulationError(
            f"core {core[entry[wrong[0]]]}: hears of the picture {beyond[wrong[0]]} before the newest, allowed "
            f"0..{history - 1} with a history of {history}; run it tick by tick"
        )


def _targets(
    graph: CoreGraph, number: I32, ago: NDArray[np.int64], core: NDArray[np.intp], age: NDArray[np.intp]
) -> I32:
    """[C', N] the copy of the target for which a core's word of that age is news; pins hear of the newest alone."""
    target, news = graph.target_core[core], age[:, None] - ago[core]
    inside = (target >= 0) & (news >= 0)
    copy = np.where(inside, number[np.where(inside, target, 0), np.where(inside, news, 0)], -1)
    pins = (target <= FIRST_PIN_CORE) & (age == 0)[:, None]
    found = np.where(copy >= 0, copy, CoreGraph.NO_TARGET)
    return np.asarray(np.where(pins, target, found), np.int32)


def _lines(graph: CoreGraph, number: I32, ago: NDArray[np.int64]) -> dict[str, Any]:
    """The input table: line i of the picture k ago is line k * I + i and enters the copies of its cores."""
    lines, history = graph.n_inputs, number.shape[1]
    entry, age = np.nonzero(number[graph.input_core] >= 0)
    known = (age + ago[entry] >= 0) & (age + ago[entry] < history)  # others enter axons that nobody listens to
    entry, age = entry[known], age[known]
    line = (age + ago[entry]) * lines + np.repeat(np.arange(lines), np.diff(graph.input_start))[entry]
    order = np.argsort(line, kind="stable")
    counts = np.bincount(line, minlength=history * lines)
    return {
        "input_start": np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        "input_core": number[graph.input_core[entry], age][order].astype(np.int32),
        "input_axon": graph.input_axon[entry][order],
    }

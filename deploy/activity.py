"""How often everything on a chip fires in a mean tick: recorded with any engine, or as if it always did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deploy.cores import RING, CoreGraph, described
from deploy.emulator import Bits, EmulationError
from deploy.engine import memoryless_cores
from deploy.engines import Engine
from deploy.flows import F64

EVERY_NEURON = "every neuron in every tick, an upper bound"


@dataclass(frozen=True, eq=False, repr=False)
class Activity:
    """What a graph of C cores, N neurons a core and I input lines does in a mean tick."""

    spikes: F64  # [C, N]  of each neuron
    lines: F64  # [I]  of each input line
    events: F64  # [C]  synaptic events: pairs of an active axon and a set synapse
    ticks: int  # counted; 0: nothing was measured
    source: str  # of the numbers, in words

    __repr__ = described

    @property
    def measured(self) -> bool:
        return self.ticks > 0


def every_neuron(graph: CoreGraph) -> Activity:
    """As if all neurons and lines were active in every tick: more than any run can do."""
    spikes, lines = (graph.neuron_type > 0).astype(np.float64), np.ones(graph.n_inputs)
    driven = _driven(graph, spikes > 0, lines > 0)
    events = (driven * synapses_of_axons(graph)).sum(axis=1)
    return Activity(spikes, lines, events.astype(np.float64), 0, EVERY_NEURON)


def record_held(engine: Engine, pictures: Bits, settle_ticks: int) -> Activity:
    """Hold each picture [B, I] until it has gone through, then count one tick; raises EmulationError.

    On a graph without memory every later tick of a held picture repeats the same counts, and each core speaks of each
    picture for as many ticks as the others: the mean over the pictures is that of play.
    """
    graph = engine.graph
    _need_pictures(graph, pictures)
    if not memoryless_cores(graph).all():
        raise EmulationError(
            "record_held: found neurons that keep a potential, allowed none; record every tick with record_ticks"
        )
    engine.reset()
    counts, synapses = _Counts(graph), synapses_of_axons(graph)
    for lines in pictures:
        engine.hold(lines, settle_ticks)
        counts.add(engine.fired, lines, _driven(graph, engine.fired, lines), synapses)
    return counts.mean(f"{len(pictures):,} held pictures")


def record_ticks(engine: Engine, lines: Bits) -> Activity:
    """Count every tick from the first on while lines [T, I] enter, one row a tick; any graph."""
    graph = engine.graph
    _need_pictures(graph, lines)
    engine.reset()
    queue = np.zeros((RING, *graph.axon_type.shape), bool)
    counts, synapses = _Counts(graph), synapses_of_axons(graph)
    for tick, row in enumerate(lines):
        _enter(graph, row, tick, queue)
        axons = queue[tick % RING].copy()
        queue[tick % RING] = False
        fired = engine.step(row)
        core, neuron = np.nonzero(fired & (graph.target_core >= 0))
        slot = (tick + graph.delay[core, neuron]) % RING
        queue[slot, graph.target_core[core, neuron], graph.target_axon[core, neuron]] = True
        counts.add(fired, row, axons, synapses)
    return counts.mean(f"{len(lines):,} ticks")


class _Counts:
    """Sums over ticks."""

    def __init__(self, graph: CoreGraph) -> None:
        self._spikes = np.zeros(graph.neuron_type.shape)
        self._lines = np.zeros(graph.n_inputs)
        self._events = np.zeros(graph.shape[0])
        self._ticks = 0

    def add(self, fired: Bits, lines: Bits, axons: Bits, synapses: NDArray[np.int32]) -> None:
        self._spikes += fired
        self._lines += lines
        self._events += np.einsum("ca,ca->c", axons, synapses)
        self._ticks += 1

    def mean(self, source: str) -> Activity:
        n = self._ticks
        return Activity(self._spikes / n, self._lines / n, self._events / n, n, source)


def synapses_of_axons(graph: CoreGraph) -> NDArray[np.int32]:
    """[C, A] set synapses of each axon."""
    return _rows(graph.crossbar, graph.shape[1])[graph.crossbar_of]


@njit(cache=True)
def _rows(crossbar: NDArray[np.uint64], axons: int) -> NDArray[np.int32]:
    """[P, A] bits set in each row of crossbars [P, W, N]."""
    counts = np.zeros((crossbar.shape[0], axons), np.int32)
    for p in range(crossbar.shape[0]):
        for k in range(crossbar.shape[1]):
            for n in range(crossbar.shape[2]):
                word = crossbar[p, k, n]
                for bit in range(min(64, axons - 64 * k)):
                    counts[p, 64 * k + bit] += np.int32(word >> np.uint64(bit) & np.uint64(1))
    return counts


def _driven(graph: CoreGraph, fired: Bits, lines: Bits) -> Bits:
    """[C, A] axons that these neurons [C, N] and lines [I] drive, whenever their spikes arrive."""
    axons = np.zeros(graph.axon_type.shape, bool)
    core, neuron = np.nonzero(fired & (graph.target_core >= 0))
    axons[graph.target_core[core, neuron], graph.target_axon[core, neuron]] = True
    entry = np.repeat(lines, np.diff(graph.input_start))
    axons[graph.input_core[entry], graph.input_axon[entry]] = True
    return axons


def _enter(graph: CoreGraph, lines: Bits, tick: int, queue: Bits) -> None:
    entry = np.repeat(lines, np.diff(graph.input_start))
    slot = (tick + graph.input_delay[entry].astype(np.int64)) % RING
    queue[slot, graph.input_core[entry], graph.input_axon[entry]] = True


def _need_pictures(graph: CoreGraph, lines: Bits) -> None:
    if lines.ndim != 2 or lines.shape[1] != graph.n_inputs or not len(lines) or lines.dtype != np.bool_:
        raise EmulationError(
            f"activity: found {lines.dtype} {list(lines.shape)}, allowed bool [1 or more, {graph.n_inputs}]; "
            "give one row of lines a picture or tick"
        )

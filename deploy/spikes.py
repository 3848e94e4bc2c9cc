"""Spikes as records: what enters a graph by axon or by line, and what leaves it by pin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.cores import CoreGraph, described, need, pin_of
from deploy.emulator import Bits, EmulationError
from deploy.engines import Engine
from deploy.graphs import with_lines

LAST = (1 << 31) - 1


@dataclass(frozen=True, eq=False, repr=False)
class AxonSpikes:
    """Input by address: the axon is 1 in that tick, which integrates it. Equal entries count once."""

    tick: NDArray[np.int32]  # [S]
    core: NDArray[np.int32]  # [S]
    axon: NDArray[np.int32]  # [S]

    __repr__ = described

    def __post_init__(self) -> None:
        _check(self, ("tick", "core", "axon"))


@dataclass(frozen=True, eq=False, repr=False)
class LineSpikes:
    """Input by line of the graph: the line is 1 in that step."""

    tick: NDArray[np.int32]  # [S]
    line: NDArray[np.int32]  # [S]

    __repr__ = described

    def __post_init__(self) -> None:
        _check(self, ("tick", "line"))


@dataclass(frozen=True, eq=False, repr=False)
class PinSpikes:
    """Output: the pin spiked in that tick, by this neuron; core and neuron are -1 where a file does not say."""

    tick: NDArray[np.int32]  # [S]
    pin: NDArray[np.int32]  # [S]
    core: NDArray[np.int32]  # [S]
    neuron: NDArray[np.int32]  # [S]

    __repr__ = described

    def __post_init__(self) -> None:
        _check(self, ("tick", "pin"))
        _check(self, ("core", "neuron"), low=-1)

    def bits(self, ticks: int, pins: NDArray[np.int32]) -> Bits:
        """[ticks, O] of the pins in rising order; those of later ticks and of other pins are left out."""
        found = np.zeros((ticks, len(pins)), bool)
        place = np.minimum(np.searchsorted(pins, self.pin), max(len(pins) - 1, 0))
        inside = self.tick < ticks
        inside &= pins[place] == self.pin if len(pins) else False
        found[self.tick[inside], place[inside]] = True
        return found


Spikes = AxonSpikes | LineSpikes | PinSpikes


def _check(record: Spikes, names: tuple[str, ...], low: int = 0) -> None:
    for name in names:
        need(f"spikes.{name}", getattr(record, name), np.int32, (record.tick.size,), low, LAST)


def addressed(graph: CoreGraph, spikes: AxonSpikes) -> tuple[CoreGraph, LineSpikes]:
    """The graph with a line for each axon that spikes name, and the spikes on these lines.

    Any axon may be named, one that a neuron drives as well: spikes that meet there count once. Raises EmulationError
    where an axon does not exist.
    """
    c, a, _ = graph.shape
    beyond = np.flatnonzero((spikes.core >= c) | (spikes.axon >= a))
    if beyond.size:
        core, axon = spikes.core[beyond[0]], spikes.axon[beyond[0]]
        raise EmulationError(
            f"input: {beyond.size} spikes to axons that are none, first core {core}, axon {axon}; "
            f"the graph has {c} cores of {a} axons, name the spikes of this graph"
        )
    address, line = np.unique(spikes.core.astype(np.int64) * a + spikes.axon, return_inverse=True)
    return with_lines(graph, address // a, address % a), LineSpikes(spikes.tick, line.astype(np.int32))


def on_axons(graph: CoreGraph, spikes: LineSpikes) -> AxonSpikes:
    """The same input by address, for formats that know no lines; a line's delay is added to the tick."""
    _check_lines(graph, spikes)
    count = np.diff(graph.input_start)[spikes.line]
    first = np.repeat(graph.input_start[spikes.line], count)
    entry = first + np.arange(len(first)) - np.repeat(np.cumsum(count) - count, count)
    tick = np.repeat(spikes.tick, count) + graph.input_delay[entry]
    return AxonSpikes(tick.astype(np.int32), graph.input_core[entry], graph.input_axon[entry].astype(np.int32))


def rows(graph: CoreGraph, spikes: LineSpikes, ticks: int) -> Iterator[Bits]:
    """The lines [I] of each tick; spikes after the last one are left out."""
    _check_lines(graph, spikes)
    order = np.argsort(spikes.tick, kind="stable")
    starts = np.searchsorted(spikes.tick[order], np.arange(ticks + 1))
    for tick in range(ticks):
        lines = np.zeros(graph.n_inputs, bool)
        lines[spikes.line[order[starts[tick] : starts[tick + 1]]]] = True
        yield lines


def run(engine: Engine, spikes: LineSpikes, ticks: int) -> PinSpikes:
    """What leaves an engine's graph over so many ticks, by tick, pin, core and neuron, from its present state."""
    core, neuron, _ = engine.graph.pins()
    pin = pin_of(engine.graph.target_core[core, neuron], engine.graph.target_axon[core, neuron])
    order = np.lexsort((neuron, core, pin))
    core, neuron, pin = core[order], neuron[order], pin[order]
    fired = [np.flatnonzero(engine.step(lines)[core, neuron]) for lines in rows(engine.graph, spikes, ticks)]
    tick = np.repeat(np.arange(ticks), [len(row) for row in fired])
    which = np.concatenate([np.zeros(0, np.intp), *fired])
    columns = (tick, pin[which], core[which], neuron[which])
    return PinSpikes(*(column.astype(np.int32) for column in columns))


def all_pins(graph: CoreGraph) -> NDArray[np.int32]:
    """Pins from 0 to the last one, as formats have them that number outputs without gaps."""
    return np.arange(int(graph.output_pin.max(initial=-1)) + 1, dtype=np.int32)


def _check_lines(graph: CoreGraph, spikes: LineSpikes) -> None:
    if spikes.line.size and int(spikes.line.max()) >= graph.n_inputs:
        raise EmulationError(
            f"input: spikes on line {spikes.line.max()}, the graph has {graph.n_inputs}; name the spikes of this graph"
        )

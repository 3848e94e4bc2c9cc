"""Spikes and estimated energy of a chip while it plays: table look-ups a decision, equal to `deploy.energy`."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.activity import synapses_of_axons
from deploy.cells import on_mesh
from deploy.chip import chip_named
from deploy.compiled import Compiled
from deploy.energy import TICKS_A_SECOND, Counts, static_power

VOLTAGE = 1.0
SECOND_S = 1.0


class EnergyMeter:
    """Counts of one tick from the neurons that fired in it and the lines that entered."""

    def __init__(self, compiled: Compiled) -> None:
        graph, chip = compiled.graph, chip_named(compiled.usage.chip)
        synapses = synapses_of_axons(graph)
        inside, core = graph.target_core >= 0, np.maximum(graph.target_core, 0)
        cells = on_mesh(compiled.place, chip)
        hops = np.abs(cells[core] - cells[:, None]).sum(axis=2)
        boards = cells // np.array([chip.width, chip.height], np.int32)
        edges = np.abs(boards[core] - boards[:, None]).sum(axis=2)
        events = synapses[core, graph.target_axon]
        self._by_neuron = np.stack([inside * table for table in (events, hops, edges)], axis=-1).astype(np.float32)
        entered = synapses[graph.input_core, graph.input_axon]
        before = np.concatenate([[0], np.cumsum(entered)])
        self._by_line = np.diff(before[graph.input_start]).astype(np.float64)  # [I] events
        self.static_w = static_power(graph.shape[0], VOLTAGE)

    def counts(self, fired: NDArray[np.bool_], lines: NDArray[np.bool_]) -> Counts:
        """Fired [C, N] and lines [I] of a settled tick -> its counts.

        Two drivers of one axon count twice; compiled graphs have one.
        """
        events, hops, edges = self._by_neuron[fired].sum(axis=0, dtype=np.float64).tolist()
        return Counts(events + float(self._by_line[lines].sum()), float(fired.sum()), hops, edges)


@dataclass(frozen=True)
class Reading:
    """Of the last second on the game's clock."""

    spikes: int  # that the emulation ran
    power_w: float  # estimated of the chip at its own tick rate: cores in use leak, events cost (variant A)
    static_w: float  # the part of it that leaks


class LastSecond:
    """Adds decisions up and forgets those more than a second old."""

    def __init__(self, meter: EnergyMeter) -> None:
        self._meter = meter
        self._kept: deque[tuple[float, int, float]] = deque()

    def add(self, at_s: float, spikes: int, counts: Counts) -> None:
        """A decision at this time: spikes of all its ticks, counts of a settled one."""
        self._kept.append((at_s, spikes, counts.active_a(VOLTAGE)))
        while self._kept[0][0] <= at_s - SECOND_S:
            self._kept.popleft()

    def clear(self) -> None:
        """Somebody without a chip plays."""
        self._kept.clear()

    def reading(self) -> Reading | None:
        """None before the first decision."""
        if not self._kept:
            return None
        active_j = sum(joules for _, _, joules in self._kept) / len(self._kept)
        static = self._meter.static_w
        return Reading(sum(spikes for _, spikes, _ in self._kept), static + active_j * TICKS_A_SECOND, static)

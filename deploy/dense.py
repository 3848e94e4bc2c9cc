"""The dense engine: the same spikes as the emulator, every core in every tick, on all processors.

What it costs hardly depends on what happens on the chip: a tick takes about as long as streaming its crossbars.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deploy.cores import CoreGraph
from deploy.damage import Damage, no_damage
from deploy.emulator import Bits, check_lines, check_run
from deploy.engine import pins_of, unpack_words
from deploy.kernels import Words
from deploy.team import Team, plan_of, threads_for


class DenseEngine:
    """Runs a CoreGraph like `Emulator`, with the same methods and the same spikes, no lock held."""

    def __init__(
        self, graph: CoreGraph, *, seed: int | None = None, damage: Damage | None = None, threads: int | None = None
    ) -> None:
        """Arguments and errors as of `Emulator`; results do not depend on `threads` (default: as many as help)."""
        check_run(graph, seed, damage)
        cores = len(graph.crossbar_of)
        self.graph, self._pins, self.tick = graph, graph.pins(), 0
        self._team = Team(graph, damage or no_damage(graph), seed or 0, threads or threads_for(cores))
        self._order, self._all = np.arange(cores, dtype=np.int32), np.array([[0, cores]], np.int32)

    def reset(self) -> None:
        """Back to before the first tick: initial potentials, nothing under way."""
        self.tick = 0
        self._team.reset()

    def step(self, lines: Bits) -> Bits:
        """One tick. Lines [I] -> spikes [C, N]; raises EmulationError where a potential leaves +-393,215."""
        self.hold(lines, 1)
        return self.fired

    def hold(self, lines: Bits, ticks: int) -> None:
        """The same lines [I] for several ticks."""
        check_lines(self.graph, lines)
        self._run(lines[None], np.zeros(ticks, np.int32), 0)

    def spikes(self, lines: Bits) -> Words:
        """Lines [T, I], one row a tick -> every spike [T, C, V]: bit b of word k is neuron 64k+b."""
        check_lines(self.graph, lines, ticks=True)
        record = self._run(lines, np.arange(len(lines), dtype=np.int32), len(lines))
        return record[:, :, : -(-self.graph.shape[2] // 64)]

    def _run(self, lines: Bits, row: NDArray[np.int32], kept: int) -> Words:
        record = np.zeros((kept, *self._team.state.fired.shape), np.uint64)
        self.tick += self._team.run(plan_of(self._order, self._all, lines, row, record), self.tick)
        return record

    @property
    def fired(self) -> Bits:
        """[C, N] spikes of the last tick."""
        return unpack_words(self._team.state.fired, self.graph.shape[2])

    @property
    def potential(self) -> NDArray[np.int32]:
        """[C, N] potentials after the last tick."""
        return self._team.state.potential[:, : self.graph.shape[2]].copy()

    @property
    def spikes_per_core(self) -> NDArray[np.int32]:
        """[C] spikes of the last tick."""
        return np.asarray(np.bitwise_count(self._team.state.fired).sum(axis=1, dtype=np.int32))

    def pins(self) -> Bits:
        """[O] pins that spiked in the last tick, whatever their delay; several neurons on one pin are OR-ed."""
        return pins_of(self._team.state.sent, self._pins, len(self.graph.output_pin))

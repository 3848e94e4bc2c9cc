"""An engine that keeps what went by: the spikes of every core in every tick of the last picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deploy.cores import CoreGraph
from deploy.emulator import Bits
from deploy.engines import Engine


class Witness:
    """Runs another engine one tick at a time and keeps the last hold; the spikes are those of that engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.graph: CoreGraph = engine.graph
        self.reset()

    def reset(self) -> None:
        """Back to before the first tick, with nothing seen."""
        self._engine.reset()
        self.tick = self._engine.tick
        self.lines: Bits = np.zeros(self.graph.n_inputs, bool)  # [I]  of the last hold
        self.wave: NDArray[np.int32] = np.zeros((0, self.graph.shape[0]), np.int32)  # [T, C]  spikes, tick by tick

    def step(self, lines: Bits) -> Bits:
        """One tick; raises EmulationError as the engine does."""
        self.hold(lines, 1)
        return self.fired

    def hold(self, lines: Bits, ticks: int) -> None:
        """The same lines [I] for several ticks."""
        wave = np.zeros((ticks, self.graph.shape[0]), np.int32)
        for tick in range(ticks):
            self._engine.hold(lines, 1)
            wave[tick] = self._engine.spikes_per_core
        self.lines, self.wave, self.tick = lines.copy(), wave, self._engine.tick

    def spikes(self, lines: Bits) -> NDArray[np.uint64]:
        words = self._engine.spikes(lines)
        self.tick = self._engine.tick
        return words

    def pins(self) -> Bits:
        return self._engine.pins()

    @property
    def fired(self) -> Bits:
        return self._engine.fired

    @property
    def potential(self) -> NDArray[np.int32]:
        return self._engine.potential

    @property
    def spikes_per_core(self) -> NDArray[np.int32]:
        return self._engine.spikes_per_core

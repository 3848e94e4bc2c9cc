"""Pictures in, votes out: a compiled student on an engine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deploy.compiled import Compiled
from deploy.cores import CoreGraph
from deploy.emulator import Bits
from deploy.engine import LazyEngine
from deploy.engines import Engine


class ChipRunner:
    """Plays a compiled student: holds a picture's bits until its votes are out."""

    def __init__(self, compiled: Compiled, engine: Callable[[CoreGraph], Engine] = LazyEngine) -> None:
        self.compiled = compiled
        self.engine = engine(compiled.graph)

    def answer(self, bits: Bits) -> NDArray[np.int32]:
        """Front bits, [I] or any shape of I -> votes [n_answers], read `latency_ticks` after the first injection."""
        self.engine.hold(np.ascontiguousarray(bits.reshape(-1)), self.compiled.latency_ticks)
        return self._votes()

    def answers(self, bits: Bits) -> NDArray[np.int32]:
        """Front bits [B, ...] -> votes [B, n_answers]: a picture enters in every tick, its votes leave later.

        Equal to `answer` on each, since a compiled graph has no memory and its delays are aligned.
        """
        lines, wait = bits.reshape(len(bits), self.compiled.graph.n_inputs), self.compiled.latency_ticks - 1
        votes = np.zeros((len(bits), self.compiled.n_answers), np.int32)
        for tick in range(len(bits) + wait if len(bits) else 0):
            self.engine.step(lines[min(tick, len(bits) - 1)])
            if tick >= wait:
                votes[tick - wait] = self._votes()
        return votes

    @property
    def spikes_per_core(self) -> NDArray[np.int32]:
        """[C] spikes of the last tick; `compiled.place` says where each core lies."""
        return self.engine.spikes_per_core

    def _votes(self) -> NDArray[np.int32]:
        answers = self.compiled.graph.output_answer[self.engine.pins()]
        counted = np.bincount(answers[answers >= 0], minlength=self.compiled.n_answers)
        return counted.astype(np.int32)

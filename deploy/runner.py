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
    """Plays a compiled student: holds a picture's bits until its votes are out.

    A chip with a history remembers the pictures before; each is held for one interval, and they must come in order.
    """

    def __init__(self, compiled: Compiled, engine: Callable[[CoreGraph], Engine] = LazyEngine) -> None:
        self.compiled = compiled
        self.engine = engine(compiled.graph)

    def answer(self, bits: Bits) -> NDArray[np.int32]:
        """Bits -> votes [n_answers], read in the last of `picture_ticks`.

        Bits of the newest picture, [I] or any shape of I: the answer to it and to those answered before. Bits of a
        whole history, `history * I` of them, newest picture first: the answer to these, whatever came before.
        """
        for picture in self._oldest_first(bits):
            self.engine.hold(picture, self.compiled.picture_ticks)
        return self._votes()

    def ticks_for(self, bits: Bits) -> int:
        """Ticks that `answer` takes for these bits."""
        return len(self._oldest_first(bits)) * self.compiled.picture_ticks

    def answers(self, bits: Bits) -> NDArray[np.int32]:
        """Bits [B, ...] -> votes [B, n_answers], equal to `answer` on each in turn.

        Without a history a picture enters in every tick and its votes leave later, since the graph has no memory and
        its delays are aligned.
        """
        if self.compiled.history > 1:
            in_turn = [self.answer(picture) for picture in bits]
            return np.array(in_turn, np.int32).reshape(len(bits), self.compiled.n_answers)
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

    def _oldest_first(self, bits: Bits) -> Bits:
        """Pictures [1 or history, I] in the order in which they are held."""
        pictures = self.compiled.history if bits.size == self.compiled.history * self.compiled.graph.n_inputs else 1
        return np.ascontiguousarray(bits.reshape(pictures, -1)[::-1])

    def _votes(self) -> NDArray[np.int32]:
        answers = self.compiled.graph.output_answer[self.engine.pins()]
        counted = np.bincount(answers[answers >= 0], minlength=self.compiled.n_answers)
        return counted.astype(np.int32)

"""One picture through a levelled chip: each core once, in the tick in which the picture reaches it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deploy.compiled import Compiled
from deploy.cores import CoreGraph
from deploy.damage import no_damage
from deploy.emulator import Bits, check_lines
from deploy.engine import pins_of
from deploy.levels import check_levels
from deploy.team import Team, plan_of, threads_for
from deploy.unroll import levelled


class Wave:
    """Runs a graph without memory whose delays follow its levels: what a held picture settles to, in one pass."""

    def __init__(
        self, graph: CoreGraph, level: NDArray[np.int32], ticks: int | None = None, threads: int | None = None
    ) -> None:
        """Level [C] of each core, below `ticks`; raises EmulationError where the graph is not of that kind."""
        deepest = int(level.max(initial=0)) + 1
        check_levels(graph, level, deepest if ticks is None else ticks)
        self.graph, self._pins = graph, graph.pins()
        self._team = Team(graph, no_damage(graph), 0, threads or threads_for(len(level) // deepest))
        self._order = np.argsort(level, kind="stable").astype(np.int32)
        ends = np.searchsorted(level[self._order], np.arange(deepest + 1)).astype(np.int32)
        self._spans = np.stack([ends[:-1], ends[1:]], axis=1)
        self._row = np.where(np.arange(deepest) == 0, 0, -1).astype(np.int32)
        self._none = np.zeros((0, *self._team.state.fired.shape), np.uint64)

    def run(self, lines: Bits) -> None:
        """Lines [I]; afterwards `pins` and `spikes_per_core` are those of this picture."""
        check_lines(self.graph, lines)
        self._team.run(plan_of(self._order, self._spans, lines[None], self._row, self._none), 0)

    def pins(self) -> Bits:
        """[O] pins that spiked; several neurons on one pin are OR-ed."""
        return pins_of(self._team.state.sent, self._pins, len(self.graph.output_pin))

    @property
    def spikes_per_core(self) -> NDArray[np.int32]:
        """[C] spikes of the picture."""
        return np.asarray(np.bitwise_count(self._team.state.fired).sum(axis=1, dtype=np.int32))


class WaveRunner:
    """Votes of a compiled student, one picture at a time; equal to `ChipRunner.answer`."""

    def __init__(self, compiled: Compiled, threads: int | None = None) -> None:
        """Errors as of `Wave`."""
        self.compiled = compiled
        self._wave = Wave(*levelled(compiled), threads=threads)

    def answer(self, bits: Bits) -> NDArray[np.int32]:
        """Front bits, [I] or any shape of I, with a history of all its pictures, newest first -> votes [n_answers]."""
        self._wave.run(np.ascontiguousarray(bits.reshape(-1)))
        answers = self.compiled.graph.output_answer[self._wave.pins()]
        return np.bincount(answers[answers >= 0], minlength=self.compiled.n_answers).astype(np.int32)

    @property
    def spikes_per_core(self) -> NDArray[np.int32]:
        """[C] spikes of the last picture; `compiled.place` says where each core lies."""
        return self._wave.spikes_per_core[: self.compiled.graph.shape[0]]

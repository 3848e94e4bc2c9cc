"""One picture through a levelled chip: each core once, in the tick in which the picture reaches it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from deploy.compiled import Compiled
from deploy.cores import CoreGraph
from deploy.damage import no_damage
from deploy.dense import run_of, threads_for, threads_own
from deploy.dense_kernels import begin, run_cores
from deploy.dense_layout import layout_of
from deploy.emulator import Bits, check_lines
from deploy.engine import pins_of, tables_of
from deploy.levels import check_levels, need_no_history


class Wave:
    """Runs a graph without memory whose delays follow its levels: what a held picture settles to, in one pass."""

    def __init__(
        self, graph: CoreGraph, level: NDArray[np.int32], ticks: int | None = None, threads: int | None = None
    ) -> None:
        """Level [C] of each core, below `ticks`; raises EmulationError where the graph is not of that kind."""
        deepest = int(level.max(initial=0)) + 1
        check_levels(graph, level, deepest if ticks is None else ticks)
        whole = no_damage(graph)
        self.graph, self._tables, self._layout = graph, tables_of(graph, 0, whole), layout_of(graph, whole)
        self._orders = [np.flatnonzero(level == tick).astype(np.int32) for tick in range(deepest)]
        self._threads = threads or threads_for(len(level) // deepest)
        self._pool = ThreadPoolExecutor(self._threads - 1) if self._threads > 1 else None
        self._run = run_of(graph, self._layout, self._threads, False)
        self._own = threads_own(graph, self._tables, whole, self._run)
        self._pins = graph.pins()

    def run(self, lines: Bits) -> None:
        """Lines [I]; afterwards `pins` and `spikes_per_core` are those of this picture."""
        check_lines(self.graph, lines)
        begin(self._layout, self._run, lines, 0)
        for tick, order in enumerate(self._orders):
            self._run.cursor[:] = 0
            if self._pool is None:
                self._part(order, tick, 0)
            else:
                self._together(self._pool, order, tick)

    def _together(self, pool: ThreadPoolExecutor, order: NDArray[np.int32], tick: int) -> None:
        others = [pool.submit(self._part, order, tick, thread) for thread in range(1, self._threads)]
        self._part(order, tick, 0)
        for other in others:
            other.result()

    def _part(self, order: NDArray[np.int32], tick: int, thread: int) -> None:
        run_cores(self._layout, self._run, self._tables, self._own[thread], order, tick, thread)

    def pins(self) -> Bits:
        """[O] pins that spiked; several neurons on one pin are OR-ed."""
        return pins_of(self._run.sent, self._pins, len(self.graph.output_pin))

    @property
    def spikes_per_core(self) -> NDArray[np.int32]:
        """[C] spikes of the picture."""
        return np.asarray(np.bitwise_count(self._run.fired).sum(axis=1, dtype=np.int32))


class WaveRunner:
    """Votes of a compiled student, one picture at a time; equal to `ChipRunner.answer`."""

    def __init__(self, compiled: Compiled, threads: int | None = None) -> None:
        """Errors as of `Wave`; a chip with a history is refused too."""
        need_no_history(compiled)
        self.compiled = compiled
        self._wave = Wave(compiled.graph, compiled.level, compiled.latency_ticks, threads)

    def answer(self, bits: Bits) -> NDArray[np.int32]:
        """Front bits, [I] or any shape of I -> votes [n_answers]."""
        self._wave.run(np.ascontiguousarray(bits.reshape(-1)))
        answers = self.compiled.graph.output_answer[self._wave.pins()]
        return np.bincount(answers[answers >= 0], minlength=self.compiled.n_answers).astype(np.int32)

    @property
    def spikes_per_core(self) -> NDArray[np.int32]:
        """[C] spikes of the last picture; `compiled.place` says where each core lies."""
        return self._wave.spikes_per_core

"""The dense engine: the same spikes as the emulator, every core in every tick, on all processors.

What it costs hardly depends on what happens on the chip: a tick takes about as long as streaming its crossbars.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from deploy.cores import RING, CoreGraph
from deploy.damage import Damage, no_damage
from deploy.dense_kernels import APART, Layout, Run, begin, run_cores, run_ticks
from deploy.dense_layout import layout_of
from deploy.emulator import Bits, check_lines, check_run, per_neuron, potential_error
from deploy.engine import pins_of, state_of, tables_of, unpack_words
from deploy.kernels import State, Tables

FEW = 256  # cores: with fewer, waking a second thread costs more than it saves


class DenseEngine:
    """Runs a CoreGraph like `Emulator`, with the same methods and the same spikes, no lock held."""

    def __init__(
        self, graph: CoreGraph, *, seed: int | None = None, damage: Damage | None = None, threads: int | None = None
    ) -> None:
        """Arguments and errors as of `Emulator`; results do not depend on `threads` (default: as many as help)."""
        check_run(graph, seed, damage)
        self.graph, self._damage = graph, damage or no_damage(graph)
        self._tables = tables_of(graph, seed or 0, self._damage)
        self._layout = layout_of(graph, self._damage)
        self._threads = threads or threads_for(len(graph.crossbar_of))
        self._pool = ThreadPoolExecutor(self._threads - 1) if self._threads > 1 else None
        self._order = np.arange(len(graph.crossbar_of), dtype=np.int32)
        self._pins = graph.pins()
        self.reset()

    def reset(self) -> None:
        """Back to before the first tick: initial potentials, nothing under way."""
        self.tick = 0
        self._run = run_of(self.graph, self._layout, self._threads, self._damage.lost > 0)
        self._own = threads_own(self.graph, self._tables, self._damage, self._run)

    def step(self, lines: Bits) -> Bits:
        """One tick. Lines [I] -> spikes [C, N]; raises EmulationError where a potential leaves +-393,215."""
        self.hold(lines, 1)
        return self.fired

    def hold(self, lines: Bits, ticks: int) -> None:
        """The same lines [I] for several ticks."""
        check_lines(self.graph, lines)
        if self._pool is None:
            shared = (self._layout, self._run, self._tables)
            done = run_ticks(*shared, self._own[0], self._order, lines, self.tick, ticks)
            self._finish(done)
            return
        for _ in range(ticks):
            self._tick_together(self._pool, lines)

    def _tick_together(self, pool: ThreadPoolExecutor, lines: Bits) -> None:
        begin(self._layout, self._run, lines, self.tick)
        others = [pool.submit(self._part, thread) for thread in range(1, self._threads)]
        self._part(0)
        for other in others:
            other.result()
        self._finish(1)

    def _part(self, thread: int) -> None:
        run_cores(self._layout, self._run, self._tables, self._own[thread], self._order, self.tick, thread)

    def _finish(self, done: int) -> None:
        faults = self._run.fault[self._run.fault[:, 0] >= 0]
        if len(faults):
            core, neuron = (int(where) for where in faults[faults[:, 0].argmin()])
            raise potential_error(self.tick + (done if self._pool is None else 0), core, neuron)
        self.tick += done

    @property
    def fired(self) -> Bits:
        """[C, N] spikes of the last tick."""
        return unpack_words(self._run.fired, self.graph.shape[2])

    @property
    def potential(self) -> NDArray[np.int32]:
        """[C, N] potentials after the last tick."""
        return self._run.potential[:, : self.graph.shape[2]].copy()

    @property
    def spikes_per_core(self) -> NDArray[np.int32]:
        """[C] spikes of the last tick."""
        return np.asarray(np.bitwise_count(self._run.fired).sum(axis=1, dtype=np.int32))

    def pins(self) -> Bits:
        """[O] pins that spiked in the last tick, whatever their delay; several neurons on one pin are OR-ed."""
        return pins_of(self._run.sent, self._pins, len(self.graph.output_pin))


def threads_for(cores: int) -> int:
    """As many as there are processors, fewer where the graph is small."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(usable, cores // FEW))


def run_of(graph: CoreGraph, layout: Layout, threads: int, lossy: bool) -> Run:
    """The state before the first tick."""
    (c, _, n), words = graph.shape, layout.keep.shape[1]
    fired = np.zeros((c, layout.routed.shape[1]), np.uint64)
    potential = np.zeros((c, layout.threshold.shape[1]), np.int32)
    potential[:, :n] = per_neuron(graph, graph.types.initial)
    return Run(
        ring=np.zeros((threads, RING, c * words), np.uint64),
        words=np.zeros((c, words), np.uint64),
        fired=fired,
        sent=fired.copy() if lossy else fired,
        potential=potential,
        fault=np.full((threads, 2), -1, np.int32),
        cursor=np.zeros(threads * APART, np.int64),
    )


def threads_own(graph: CoreGraph, tables: Tables, damage: Damage, run: Run) -> list[State]:
    """What each thread needs to run the lazy engine's full rule on a core: scratch of its own, the rest shared."""
    shared = state_of(graph, tables, damage)._replace(words=run.words, potential=run.potential)
    own = ("output", "hits", "total", "fault")
    return [shared._replace(**{name: getattr(shared, name).copy() for name in own}) for _ in run.fault]

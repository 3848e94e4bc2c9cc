"""Threads that run the dense kernels together: the one that calls and helpers that wait in a pool."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from deploy.atomics import APART
from deploy.cores import RING, CoreGraph
from deploy.damage import Damage
from deploy.dense_kernels import BEGUN, STOP, Layout, Plan, Run, run_ticks
from deploy.dense_layout import layout_of
from deploy.emulator import per_neuron, potential_error
from deploy.engine import state_of, tables_of
from deploy.kernels import State, Tables, Words

FEW = 256  # cores: with fewer, waiting for a second thread costs more than it saves


class Team:
    """A graph laid out for the dense kernels, what a run changes, and who runs it."""

    def __init__(self, graph: CoreGraph, damage: Damage, seed: int, threads: int) -> None:
        self._graph, self._damage, self._threads = graph, damage, threads
        self._tables, self._layout = tables_of(graph, seed, damage), layout_of(graph, damage)
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None
        self.reset()

    def reset(self) -> None:
        """Back to before the first tick."""
        self.state = run_of(self._graph, self._layout, self._threads, self._damage.lost > 0)
        self._own = threads_own(self._graph, self._tables, self._damage, self.state)

    def run(self, plan: Plan, first: int) -> int:
        """The ticks of a plan; returns the ticks done; raises EmulationError where a potential leaves its range."""
        done = self._part(plan, first, 0) if self._pool is None else self._together(self._pool, plan, first)
        faults = self.state.fault[self.state.fault[:, 0] >= 0]
        if len(faults):
            core, neuron = (int(where) for where in faults[faults[:, 0].argmin()])
            raise potential_error(first + done, core, neuron)
        return done

    def _together(self, pool: ThreadPoolExecutor, plan: Plan, first: int) -> int:
        self.state.turn[:] = 0
        helpers: list[Future[int]] = []
        try:
            helpers.extend(pool.submit(self._part, plan, first, thread) for thread in range(1, self._threads))
            return self._part(plan, first, 0)
        finally:
            # Where this thread was interrupted before it began, the others must not wait for it.
            self.state.turn[BEGUN] = STOP
            for helper in helpers:
                helper.result()

    def _part(self, plan: Plan, first: int, thread: int) -> int:
        return run_ticks(self._layout, self.state, self._tables, self._own[thread], plan, first, thread)


def plan_of(
    order: NDArray[np.int32], spans: NDArray[np.int32], lines: NDArray[np.bool_], row: NDArray[np.int32], record: Words
) -> Plan:
    """A plan with the layout that the kernels are compiled for; fields as of `Plan`."""
    return Plan(order, spans, np.ascontiguousarray(lines), row, record)


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
        turn=np.zeros(2 * APART, np.int64),
        total=np.zeros((threads, layout.threshold.shape[1]), np.int16),
        segments=np.zeros((threads, layout.segments.shape[1]), np.uint16),
    )


def threads_own(graph: CoreGraph, tables: Tables, damage: Damage, run: Run) -> list[State]:
    """What each thread needs to run the lazy engine's full rule on a core: scratch of its own, the rest shared."""
    shared = state_of(graph, tables, damage)._replace(words=run.words, potential=run.potential)
    own = ("output", "hits", "total", "fault")
    return [shared._replace(**{name: getattr(shared, name).copy() for name in own}) for _ in run.fault]

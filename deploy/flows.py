"""Who sends how many spikes to whom: a core graph folded to pairs of cores, for placement and for traffic."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deploy.chip import CompileError
from deploy.cores import CoreGraph

I32 = NDArray[np.int32]
F64 = NDArray[np.float64]


class Flows(NamedTuple):
    """Spikes from core to core, one entry a pair, targets rising within a core; self loops left out."""

    start: I32  # [C+1]  core c sends entries start[c] up to start[c+1]
    other: I32  # [E]  to this core
    weight: F64  # [E]  so many spikes

    @property
    def source(self) -> NDArray[np.intp]:
        """[E] the sending core of each entry."""
        return np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))


class Neighbours(NamedTuple):
    """The same seen from both ends: everything that a core sends or gets, neighbours rising within a core."""

    start: I32  # [C+1]
    other: I32  # [E]
    sent: F64  # [E]  spikes to the neighbour
    got: F64  # [E]  spikes from it
    weight: F64  # [E]  both


def flows(graph: CoreGraph, spikes: NDArray[np.floating] | None = None) -> Flows:
    """Fold a graph. `spikes` [C, N] of each neuron, [C] of each core, or None: one of every neuron.

    Raises CompileError where they do not fit the graph.
    """
    weight = neuron_spikes(graph, spikes)
    count = _count(graph.target_core)
    start = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
    other, total = np.empty(start[-1], np.int32), np.empty(start[-1])
    _fill(graph.target_core, weight, start, other, total)
    return Flows(start, other, total)


def neuron_spikes(graph: CoreGraph, spikes: NDArray[np.floating] | None) -> F64:
    """Spikes of each neuron [C, N]; those of a core are shared out evenly among its neurons."""
    used = graph.neuron_type > 0
    if spikes is None:
        return used.astype(np.float64)
    if spikes.shape not in (used.shape, used.shape[:1]):
        c, n = used.shape
        raise CompileError(
            f"spikes: found {list(spikes.shape)}, allowed [{c}] or [{c}, {n}]; record them on this graph"
        )
    if not bool(np.isfinite(spikes).all()) or float(spikes.min(initial=0.0)) < 0.0:
        raise CompileError("spikes: found negative or infinite counts, allowed 0 and more; record them again")
    if spikes.ndim == 2:
        return np.ascontiguousarray(spikes, np.float64)
    share = spikes / np.maximum(used.sum(axis=1), 1)
    return np.asarray(used * share[:, None], np.float64)


def neighbours(one_way: Flows) -> Neighbours:
    """Both directions of each pair in one entry."""
    order = np.argsort(one_way.other, kind="stable")
    c, source = len(one_way.start) - 1, one_way.source
    back = Flows(
        np.searchsorted(one_way.other[order], np.arange(c + 1)).astype(np.int32),
        source[order].astype(np.int32),
        one_way.weight[order],
    )
    room = 2 * len(one_way.other)
    start, other = np.zeros(c + 1, np.int32), np.empty(room, np.int32)
    sent, got = np.zeros(room), np.zeros(room)
    used = _merge(one_way, back, start, other, sent, got)
    sent, got = sent[:used].copy(), got[:used].copy()
    return Neighbours(start, other[:used].copy(), sent, got, sent + got)


@njit(cache=True)
def _count(target: I32) -> I32:
    """[C] distinct other cores that the neurons of each core drive."""
    cores, neurons = target.shape
    seen, count = np.full(cores, -1, np.int32), np.zeros(cores, np.int32)
    for c in range(cores):
        for n in range(neurons):
            t = target[c, n]
            if t >= 0 and t != c and seen[t] != c:
                seen[t] = c
                count[c] += 1
    return count


@njit(cache=True)
def _fill(target: I32, spikes: F64, start: I32, other: I32, total: F64) -> None:
    """Write the targets of each core in rising order and the spikes that go to them."""
    cores, neurons = target.shape
    sums, seen = np.zeros(cores), np.full(cores, -1, np.int32)
    for c in range(cores):
        at = start[c]
        for n in range(neurons):
            t = target[c, n]
            if t < 0 or t == c:
                continue
            if seen[t] != c:
                seen[t], sums[t], other[at] = c, 0.0, t
                at += 1
            sums[t] += spikes[c, n]
        other[start[c] : at].sort()
        for e in range(start[c], at):
            total[e] = sums[other[e]]


@njit(cache=True)
def _merge(one: Flows, back: Flows, start: I32, other: I32, sent: F64, got: F64) -> int:
    """Merge two sorted lists a core; returns the entries written."""
    at = 0
    for c in range(len(start) - 1):
        i, j = one.start[c], back.start[c]
        while i < one.start[c + 1] or j < back.start[c + 1]:
            left = one.other[i] if i < one.start[c + 1] else np.int32(2147483647)
            right = back.other[j] if j < back.start[c + 1] else np.int32(2147483647)
            other[at] = min(left, right)
            if left <= right:
                sent[at] = one.weight[i]
                i += 1
            if right <= left:
                got[at] = back.weight[j]
                j += 1
            at += 1
        start[c + 1] = at
    return at

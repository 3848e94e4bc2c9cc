"""The inner loops of the dense engine, compiled: every core in every tick, at the speed at which memory streams.

A core's axons are put in the order of their types, so that sixteen of them fill a 16-bit lane of one neuron and hardly
any group mixes types; what an active axon adds is then counted by `vectors.weigh`. Spikes wait in a ring of axon words,
one ring a thread, which are OR-ed when they are delivered: no thread writes where another does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deploy import kernels
from deploy.chance import fast_drops
from deploy.emulator import MAX_POTENTIAL
from deploy.kernels import LAST, Flags, Tables, Words
from deploy.vectors import BLOCK, lowest, reaches, take, weigh

MEMORYLESS, MEMORY, SCALAR = 0, 1, 2  # how a core is evaluated; scalar: by the lazy engine's full rule
CHUNK = 32  # cores that a thread takes at once
APART = 8  # counters, so that two threads' never share a line of the cache

I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


class Rules(NamedTuple):
    """Leak, thresholds and resets of R distinct rows of M neurons, for the vector form of the neuron equations.

    A reset is (V & keep) + add: of the sum after the leak, all or nothing is kept.
    """

    leak: I16  # [R, M]
    alpha: I32  # [R, M]  fires where V >= alpha
    low: I32  # [R, M]  else the negative rule where V < low
    add_up: I32  # [R, M]
    add_down: I32  # [R, M]
    flags: NDArray[np.uint8]  # [R, M]  1: the leak follows V's sign, 2: keep after a spike, 4: keep after the negative


class Layout(NamedTuple):
    """What never changes. C cores, W words of axons, M neurons in whole blocks, V = M/64 words of neurons."""

    way: NDArray[np.uint8]  # [C]  MEMORYLESS, MEMORY, SCALAR
    blocks: I32  # [C]  blocks of neurons up to the last in use
    lanes: NDArray[np.uint16]  # [P, M/BLOCK, groups, BLOCK] in one row
    lanes_at: I64  # [C]  where a core's begin
    segments: NDArray[np.uint16]  # [L, 1 + 2S]  groups, then (group, its axons of one type) for each segment
    starts: I64  # [L, G+1]  segments of each type
    segments_of: I32  # [C]
    weight: I16  # [U, G, M]
    weight_of: I32  # [C]
    threshold: I16  # [C, M]  of memoryless neurons
    ones: I16  # [M]
    rules: Rules
    rule_of: I32  # [C]
    wire: NDArray[Any]  # [C, N]  16 * address of the target + delay
    routed: Words  # [C, V]  neurons with a target on the chip
    keep: Words  # [C, W]  axons that are not broken
    stuck: Words  # [C, W]  axons that are always active
    input_start: I32  # [I+1]
    input_wire: NDArray[Any]  # [E]  -1: to an axon that nobody reads


class Run(NamedTuple):
    """What a run changes; all threads share it."""

    ring: Words  # [threads, RING, C*W]  spikes under way, by tick mod RING
    words: Words  # [C, W]  the axons of this tick
    fired: Words  # [C, V]
    sent: Words  # [C, V]  those that are not lost; the same array where none is
    potential: I32  # [C, M]
    fault: I32  # [threads, 2]  core, neuron of a potential out of range; -1: none
    cursor: I64  # [threads * APART]  cores of each thread's share that have been taken


@njit(cache=True, nogil=True)
def begin(d: Layout, s: Run, lines: Flags, tick: int) -> None:
    """Input of a tick, before its cores run."""
    s.cursor[:] = 0
    for line in np.flatnonzero(lines):
        for e in range(d.input_start[line], d.input_start[line + 1]):
            if d.input_wire[e] >= 0:
                _send(s.ring[0], tick, np.int64(d.input_wire[e]))


@njit(cache=True, nogil=True)
def run_cores(d: Layout, s: Run, t: Tables, own: kernels.State, order: I32, tick: int, thread: int) -> None:
    """Evaluate the cores in `order` that no other thread takes. `own` is this thread's, but for the potentials."""
    total = np.empty(d.threshold.shape[1], np.int16)
    segments = np.empty(d.segments.shape[1], np.uint16)
    threads, n = s.ring.shape[0], len(order)
    for turn in range(threads):
        # Its own share, whose state is in this processor's cache; then what the others have not begun.
        whose = (thread + turn) % threads
        share = order[n * whose // threads : n * (whose + 1) // threads]
        while True:
            first = take(s.cursor, APART * whose, CHUNK)
            if first >= len(share):
                break
            _run_chunk(d, s, t, own, _chunk(share, first, tick), tick, thread, segments, total)


@njit(cache=True, nogil=True)
def _run_chunk(
    d: Layout,
    s: Run,
    t: Tables,
    own: kernels.State,
    cores: I32,
    tick: int,
    thread: int,
    segments: Any,
    total: I16,
) -> None:
    for core in cores:
        _deliver(d, s, core, tick)
        # Written out: handing so many arrays on to a function of its own costs as much as the core.
        if d.way[core] == SCALAR:
            _scalar(s, t, own, core, tick, thread)
            continue
        _sum(d, s, core, segments, total)
        words_at = np.int64(core) * s.fired.shape[1]
        if d.way[core] == MEMORYLESS:
            reaches(total, d.threshold, np.int64(core) * len(total), d.blocks[core], s.fired, words_at)
        else:
            _remember(d, s, core, total, thread)
            reaches(total, d.ones, 0, d.blocks[core], s.fired, words_at)
    # Apart from the sums, whose streaming the mispredicted branches of the spikes' loops would break off.
    for core in cores:
        if t.loss_limit != 0:
            _lose(s, t, core, tick)
        _route(s.sent[core], d.routed[core], d.wire[core], s.ring[thread], tick)


@njit(cache=True, nogil=True)
def _chunk(share: I32, first: int, tick: int) -> I32:
    """The next cores. There and back again: what the last tick left in the cache comes first."""
    last, n = min(first + CHUNK, len(share)), len(share)
    return share[first:last] if tick & 1 else share[n - last : n - first]


@njit(cache=True, nogil=True)
def run_ticks(
    d: Layout, s: Run, t: Tables, own: kernels.State, order: I32, lines: Flags, first: int, ticks: int
) -> int:
    """By one thread: ticks with the same lines; returns the ticks done, fewer only at a fault."""
    for tick in range(first, first + ticks):
        begin(d, s, lines, tick)
        run_cores(d, s, t, own, order, tick, 0)
        if s.fault[0, 0] >= 0:
            return tick - first
    return ticks


@njit(cache=True, nogil=True)
def _send(ring: Words, tick: int, wire: Any) -> None:
    address = wire >> 4
    ring[(tick + wire) & LAST, address >> 6] |= np.uint64(1) << np.uint64(address & 63)


@njit(cache=True, nogil=True)
def _deliver(d: Layout, s: Run, core: int, tick: int) -> None:
    """The axon words of this tick; their places in the rings are cleared."""
    slot, n = tick & LAST, s.words.shape[1]
    for w in range(n):
        word = np.uint64(0)
        for thread in range(s.ring.shape[0]):
            sent = s.ring[thread, slot, core * n + w]
            if sent != 0:  # or else the line would move from one processor to the other for nothing
                word |= sent
                s.ring[thread, slot, core * n + w] = 0
        s.words[core, w] = (word & d.keep[core, w]) | d.stuck[core, w]


@njit(cache=True, nogil=True)
def _sum(d: Layout, s: Run, core: int, segments: Any, total: I16) -> None:
    """total[n] = weights of the set synapses of active axons."""
    row = d.segments_of[core]
    segments[0] = d.segments[row, 0]
    for i in range(1, len(segments), 2):
        group = np.int64(d.segments[row, i])
        bits = s.words[core, group >> 2] >> np.uint64(16 * (group & 3))
        segments[i] = group
        segments[i + 1] = np.uint16(bits) & d.segments[row, i + 1]
    weight_at = np.int64(d.weight_of[core]) * d.weight[0].size
    weigh(d.lanes, d.lanes_at[core], d.blocks[core], segments, d.starts, row, d.weight, weight_at, total)


@njit(cache=True, nogil=True)
def _remember(d: Layout, s: Run, core: int, total: I16, thread: int) -> None:
    """The full rule of deterministic neurons, in vectors. Leaves in `total` 1 where a neuron fires."""
    r, row, v, n = d.rules, d.rule_of[core], s.potential[core], d.blocks[core] * BLOCK
    leak, alpha, low, add_up, add_down = r.leak[row], r.alpha[row], r.low[row], r.add_up[row], r.add_down[row]
    flags, worst, none = r.flags[row], np.int32(0), np.int32(0)
    for j in range(n):
        before = np.int32(v[j] + total[j])
        sign = np.int32(before > 0) - np.int32(before < 0)
        follows = flags[j] & 1 != 0
        after = np.int32(before + leak[j] * (sign if follows else np.int32(1)))
        crossed = np.int32(after > 0) - np.int32(after < 0) != sign
        after = none if follows and crossed else after
        worst = max(worst, abs(after))
        up = np.int32((after if flags[j] & 2 else none) + add_up[j])
        down = np.int32((after if flags[j] & 4 else none) + add_down[j])
        fires = after >= alpha[j]
        v[j] = up if fires else (down if after < low[j] else after)
        total[j] = np.int16(fires) | np.int16((abs(after) > MAX_POTENTIAL) << 1)
    if worst > MAX_POTENTIAL:
        _report(s, thread, core, np.flatnonzero(total[:n] > 1)[0])


@njit(cache=True, nogil=True)
def _report(s: Run, thread: int, core: int, neuron: int) -> None:
    """Keep the fault of the lowest core."""
    if s.fault[thread, 0] < 0 or core < s.fault[thread, 0]:
        s.fault[thread, 0], s.fault[thread, 1] = core, neuron


@njit(cache=True, nogil=True)
def _scalar(s: Run, t: Tables, own: kernels.State, core: int, tick: int, thread: int) -> None:
    kernels.tick_neurons(t, own, core, tick)
    s.fired[core, : len(own.output)] = own.output
    if own.fault[0] >= 0:
        _report(s, thread, core, own.fault[1])
        own.fault[0] = -1


@njit(cache=True, nogil=True)
def _lose(s: Run, t: Tables, core: int, tick: int) -> None:
    for w in range(s.fired.shape[1]):
        left = kept = s.fired[core, w]
        while left != 0:
            j = lowest(left)
            left &= left - np.uint64(1)
            if fast_drops(t.loss[core], np.uint64(tick), np.uint64(64 * w + j), t.loss_limit):
                kept ^= np.uint64(1) << np.uint64(j)
        s.sent[core, w] = kept


@njit(cache=True, nogil=True)
def _route(sent: Words, routed: Words, wire: NDArray[Any], ring: Words, tick: int) -> None:
    """Send a core's spikes on their way."""
    for w in range(len(sent)):
        left = sent[w] & routed[w]
        while left != 0:
            _send(ring, tick, np.int64(wire[64 * w + lowest(left)]))
            left &= left - np.uint64(1)

"""The inner loops of the dense engine, compiled: every core in every tick, at the speed at which memory streams.

A core's axons are put in the order of their types, so that sixteen of them fill a 16-bit lane of one neuron and hardly
any group mixes types; what an active axon adds is then counted by `vectors.weigh`. Spikes wait in a ring of axon words,
one ring a thread, which are OR-ed when they are delivered: no thread writes where another does.

The threads of a team (`deploy.team`) each run all ticks of a plan. Thread 0 begins a tick when the others have done the
one before; they wait for that in the loop itself, since waking a thread up takes a good part of a tick.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deploy import kernels
from deploy.atomics import APART, put, take, wait
from deploy.chance import fast_drops
from deploy.emulator import MAX_POTENTIAL
from deploy.kernels import LAST, Flags, Tables, Words, kernel
from deploy.vectors import BLOCK, lowest, reaches, weigh

MEMORYLESS, MEMORY, SCALAR = 0, 1, 2  # how a core is evaluated; scalar: by the lazy engine's full rule
CHUNK = 32  # cores that a thread takes at once
BEGUN, DONE = 0, APART  # places in `Run.turn`: ticks that thread 0 has begun; ticks done by the others, in all
STOP = 1 << 62  # as the ticks begun: there are no more

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
    blocks: I32  # [C]  blocks of neurons to evaluate: up to the last in use, of twins the first half
    twin: Flags  # [C]  without memory, and the second half of the neurons does what the first half does
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
    turn: I64  # [2 * APART]  at BEGUN and DONE
    total: I16  # [threads, M]  scratch of each thread, as is
    segments: NDArray[np.uint16]  # [threads, 1 + 2S]


class Plan(NamedTuple):
    """What a team does in T ticks."""

    order: I32  # [any]  cores
    spans: I32  # [1..T, 2]  (first, last + 1) in `order` of the cores of a tick; the last row holds for those left
    lines: Flags  # [L, I]
    row: I32  # [T]  which of them enters in a tick, -1: none
    record: Words  # [T, C, V]  becomes every spike; [0, ..]: none is kept


@kernel
def run_ticks(d: Layout, s: Run, t: Tables, own: kernels.State, p: Plan, first: int, thread: int) -> int:
    """The ticks of a plan, called by each thread of a team; returns the ticks done, fewer only at a fault.

    `own` is this thread's, but for the potentials. `turn` must be 0 before the first of them calls.
    """
    others = s.ring.shape[0] - 1
    for k in range(len(p.row)):
        if thread == 0:
            wait(s.turn, DONE, others * k)
            if _faulty(s):
                put(s.turn, BEGUN, STOP)
                return k - 1
            _begin(d, s, p, k, first + k)
            put(s.turn, BEGUN, k + 1)
        elif wait(s.turn, BEGUN, k + 1) == STOP:
            return k
        _run_cores(d, s, t, own, p, k, first + k, thread)
        if thread != 0:
            take(s.turn, DONE, 1)
    if thread == 0:
        wait(s.turn, DONE, others * len(p.row))
        return len(p.row) - int(_faulty(s))
    return len(p.row)


@kernel
def _faulty(s: Run) -> bool:
    found = False
    for thread in range(len(s.fault)):
        found |= s.fault[thread, 0] >= 0
    return found


@kernel
def _begin(d: Layout, s: Run, p: Plan, k: int, tick: int) -> None:
    """Input of a tick, before its cores run."""
    s.cursor[:] = 0
    row = p.row[k]
    for line in range(p.lines.shape[1] if row >= 0 else 0):
        if p.lines[row, line]:
            for e in range(d.input_start[line], d.input_start[line + 1]):
                if d.input_wire[e] >= 0:
                    _send(s.ring[0], tick, np.int64(d.input_wire[e]))


@kernel
def _run_cores(d: Layout, s: Run, t: Tables, own: kernels.State, p: Plan, k: int, tick: int, thread: int) -> None:
    """Evaluate the cores of a tick that no other thread takes."""
    threads, span = s.ring.shape[0], min(k, len(p.spans) - 1)
    before, n = p.spans[span, 0], p.spans[span, 1] - p.spans[span, 0]
    for turn in range(threads):
        # Its own share, whose state is in this processor's cache; then what the others have not begun.
        whose = (thread + turn) % threads
        start, stop = before + n * whose // threads, before + n * (whose + 1) // threads
        while True:
            taken = take(s.cursor, APART * whose, CHUNK)
            if taken >= stop - start:
                break
            last = min(taken + CHUNK, stop - start)
            # There and back again: what the last tick left in the cache comes first.
            chunk = (start + taken, start + last) if tick & 1 else (stop - last, stop - taken)
            _run_chunk(d, s, t, own, p, chunk, k, tick, thread)


@kernel
def _run_chunk(
    d: Layout,
    s: Run,
    t: Tables,
    own: kernels.State,
    p: Plan,
    chunk: tuple[int, int],
    k: int,
    tick: int,
    thread: int,
) -> None:
    total, segments = s.total[thread], s.segments[thread]
    for place in range(chunk[0], chunk[1]):
        core = p.order[place]
        _deliver(d, s, core, tick)
        # Written out: handing so many arrays on to a function of its own costs as much as the core.
        if d.way[core] == SCALAR:
            _scalar(s, t, own, core, tick, thread)
            continue
        _sum(d, s, core, segments, total)
        words_at = np.int64(core) * s.fired.shape[1]
        if d.way[core] == MEMORYLESS:
            reaches(total, d.threshold, np.int64(core) * len(total), d.blocks[core], s.fired, words_at)
            if d.twin[core]:
                half = s.fired.shape[1] // 2
                for w in range(half):
                    s.fired[core, half + w] = s.fired[core, w]
        else:
            _remember(d, s, core, total, thread)
            reaches(total, d.ones, 0, d.blocks[core], s.fired, words_at)
    # Apart from the sums, whose streaming the mispredicted branches of the spikes' loops would break off.
    for place in range(chunk[0], chunk[1]):
        core = p.order[place]
        if t.loss_limit != 0:
            _lose(s, t, core, tick)
        _route(s.sent[core], d.routed[core], d.wire[core], s.ring[thread], tick)
        if len(p.record) > 0:
            for w in range(p.record.shape[2]):
                p.record[k, core, w] = s.fired[core, w]


@kernel
def _send(ring: Words, tick: int, wire: Any) -> None:
    address = wire >> 4
    ring[(tick + wire) & LAST, address >> 6] |= np.uint64(1) << np.uint64(address & 63)


@kernel
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


@kernel
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


@kernel
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
        first = 0
        while total[first] <= 1:
            first += 1
        _report(s, thread, core, first)


@kernel
def _report(s: Run, thread: int, core: int, neuron: int) -> None:
    """Keep the fault of the lowest core."""
    if s.fault[thread, 0] < 0 or core < s.fault[thread, 0]:
        s.fault[thread, 0], s.fault[thread, 1] = core, neuron


@kernel
def _scalar(s: Run, t: Tables, own: kernels.State, core: int, tick: int, thread: int) -> None:
    kernels.tick_neurons(t, own, core, tick)
    for w in range(len(own.output)):
        s.fired[core, w] = own.output[w]
    if own.fault[0] >= 0:
        _report(s, thread, core, own.fault[1])
        own.fault[0] = -1


@kernel
def _lose(s: Run, t: Tables, core: int, tick: int) -> None:
    for w in range(s.fired.shape[1]):
        left = kept = s.fired[core, w]
        while left != 0:
            j = lowest(left)
            left &= left - np.uint64(1)
            if fast_drops(t.loss[core], np.uint64(tick), np.uint64(64 * w + j), t.loss_limit):
                kept ^= np.uint64(1) << np.uint64(j)
        s.sent[core, w] = kept


@kernel
def _route(sent: Words, routed: Words, wire: NDArray[Any], ring: Words, tick: int) -> None:
    """Send a core's spikes on their way."""
    for w in range(len(sent)):
        left = sent[w] & routed[w]
        while left != 0:
            _send(ring, tick, np.int64(wire[64 * w + lowest(left)]))
            left &= left - np.uint64(1)

"""The inner loops of the lazy engine, compiled. Only changes travel: a spike that repeats costs nothing.

Every axon's bit is kept. When a neuron's output differs from its last one, its target axon is flipped `delay` ticks
later, through a ring of pending flips; the same for input lines. That is exact where an axon has one driver; shared
axons count their active drivers instead. A core without memory is evaluated only when one of its axons flipped.

Broken axons are constant and nothing is sent to them. Where spikes are lost, what travels is the change of what was
sent, so each core's output is drawn from anew in every tick, evaluated or not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from deploy.chance import LEAK, THRESHOLD, fast_drops, fast_octet
from deploy.cores import RING
from deploy.emulator import MAX_POTENTIAL

F = TypeVar("F", bound=Callable[..., Any])
Flags = NDArray[np.bool_]
Words = NDArray[np.uint64]
I32 = NDArray[np.int32]
LAST = RING - 1  # a mask: slots come round by tick & LAST
GATHER = np.uint64(0x0102_0408_1020_4080)


def kernel(function: F) -> F:
    """Compile a loop that makes no array, without reference counts: tables and state would take a third of a tick."""
    options: Any = {"cache": True, "nogil": True, "_nrt": False}
    return cast(F, njit(**options)(function))


class Tables(NamedTuple):
    """What never changes. C cores, W words of axons, V words of neurons, S shared axons, T types (0: no neuron)."""

    crossbar: Words  # [P, W, N]
    crossbar_of: I32  # [C]
    plane: Words  # [C, G, W]  axons of each type
    weight: NDArray[np.int16]  # [C, G, N]  0 at stochastic synapses
    threshold: I32  # [C, N]  a memoryless neuron fires where its sum reaches this
    memoryless: Flags  # [C]
    neurons: I32  # [C]  neurons up to the last one in use
    neuron_type: NDArray[np.uint16]  # [C, N]  0 where dead
    leak: I32  # [T+1], as are those below
    alpha: I32
    beta: I32
    gamma: I32
    kappa: I32
    epsilon: I32
    after: I32  # the reset value
    negative_inclusive: bool
    drawing: Flags  # [C]  has neurons that draw random numbers
    drawn_weight: NDArray[np.int16]  # [T+1, G+1]  of stochastic synapses, else 0
    random_leak: I32  # [T+1]
    random_mask: I32  # [T+1]
    stream: Words  # [C]  of the draws
    loss: Words  # [C]  stream of the losses
    loss_limit: np.uint64  # 0: nothing is lost
    routed: Words  # [C, V]  neurons with a working target on the chip
    wire: NDArray[np.int64]  # [C, N]  where a spike goes and when, see `_flip`
    shared_axon: NDArray[np.int64]  # [S]  bit address of each axon with several drivers
    input_start: I32  # [I+1]
    input_wire: NDArray[np.int64]  # [E]


class State(NamedTuple):
    """What a run changes."""

    lines: Flags  # [I]  input of the last tick
    flips: Words  # [RING, C*W]  axons that will flip, by tick mod RING
    steps: I32  # [RING, S]  change of the active drivers of shared axons
    drivers: I32  # [S]  active drivers of shared axons
    words: Words  # [C, W]  the axons
    stale: Flags  # [C]  must be evaluated though nothing flipped
    fired: Words  # [C, V]  the last output
    sent: Words  # [C, V]  those of its spikes that are not lost; the same array as `fired` where none ever is
    output: Words  # [V]  the output under way
    hits: I32  # [N]  synapses hit
    total: I32  # [N]  weighted
    flags: NDArray[np.uint8]  # [64*V]  1 where a neuron fires
    eights: Words  # [8*V]  the same bytes, eight a word
    potential: I32  # [C, N]
    fault: I32  # [2]  core, neuron of a potential out of range; -1: none


def _popcount(typing_context: Any, word: Any) -> Any:
    """Bits set in a u64, by LLVM's own instruction, so that loops of it become vector code."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = builder.module.declare_intrinsic("llvm.ctpop", [ir.IntType(64)])
        return builder.call(function, args)

    return types.uint64(types.uint64), generate


popcount: Any = intrinsic(_popcount)


@kernel
def run(t: Tables, s: State, lines: Flags, first: int, ticks: int) -> int:
    """Run ticks first .. first + ticks - 1 with the same lines; returns the ticks done, fewer only at a fault."""
    for tick in range(first, first + ticks):
        _inject(t, s, lines, tick)
        _meet(t, s, tick)
        for core in range(len(t.crossbar_of)):
            flipped = _deliver(s, core, tick)
            if not t.memoryless[core]:
                tick_neurons(t, s, core, tick)
            elif flipped:
                _evaluate(t, s, core)
            elif t.loss_limit == 0:
                continue
            else:
                for w in range(len(s.output)):
                    s.output[w] = s.fired[core, w]
            if t.loss_limit != 0:
                _lose(t, s, core, tick)
            _route(t, s, core, tick)
        if s.fault[0] >= 0:
            return tick - first
    return ticks


@kernel
def run_rows(t: Tables, s: State, lines: Flags, first: int, spikes: Words) -> int:
    """Run a tick for each row of lines [T, I], and keep its spikes [T, C, V]; returns as `run`."""
    for k in range(len(lines)):
        if run(t, s, lines[k], first + k, 1) == 0:
            return k
        for core in range(s.fired.shape[0]):
            for w in range(s.fired.shape[1]):
                spikes[k, core, w] = s.fired[core, w]
    return len(lines)


@kernel
def _flip(s: State, tick: int, wire: int, up: bool) -> None:
    """A driver of an axon went up or down in `tick`.

    A wire is 16 * address + delay. The address counts bits of `State.words`; a shared axon's wire is ~(16 * index +
    delay) instead, hence negative.
    """
    if wire >= 0:
        _toggle(s, (tick + (wire & LAST)) & LAST, wire >> 4)
    else:
        s.steps[(tick + (~wire & LAST)) & LAST, ~wire >> 4] += 1 if up else -1


@kernel
def _toggle(s: State, slot: int, address: int) -> None:
    s.flips[slot, address >> 6] ^= np.uint64(1) << np.uint64(address & 63)


@kernel
def _inject(t: Tables, s: State, lines: Flags, tick: int) -> None:
    for line in range(len(lines)):
        if lines[line] != s.lines[line]:
            s.lines[line] = lines[line]
            for e in range(t.input_start[line], t.input_start[line + 1]):
                _flip(s, tick, t.input_wire[e], lines[line])


@kernel
def _meet(t: Tables, s: State, tick: int) -> None:
    """Shared axons: active as long as one driver is (OR)."""
    slot = tick & LAST
    for i in range(len(t.shared_axon)):
        if s.steps[slot, i] != 0:
            before = s.drivers[i] > 0
            s.drivers[i] += s.steps[slot, i]
            s.steps[slot, i] = 0
            if before != (s.drivers[i] > 0):
                _toggle(s, slot, t.shared_axon[i])


@kernel
def _deliver(s: State, core: int, tick: int) -> bool:
    """Flip what is due on a core's axons; whether anything was."""
    slot = tick & LAST
    flipped = s.stale[core]
    s.stale[core] = False
    n_words = s.words.shape[1]
    for w in range(n_words):
        flips = s.flips[slot, core * n_words + w]
        if flips != 0:
            s.words[core, w] ^= flips
            s.flips[slot, core * n_words + w] = 0
            flipped = True
    return bool(flipped)


@kernel
def _integrate(t: Tables, s: State, core: int) -> None:
    """s.total[n] = weights of the set synapses of active axons, type by type."""
    n = t.neurons[core]
    crossbar = t.crossbar[t.crossbar_of[core]]
    s.total[:n] = 0
    for g in range(t.plane.shape[1]):
        any_active = False
        for w in range(crossbar.shape[0]):
            active = s.words[core, w] & t.plane[core, g, w]
            if active == 0:
                continue
            row = crossbar[w]
            if any_active:
                for j in range(n):
                    s.hits[j] += np.int32(popcount(active & row[j]))
            else:
                any_active = True
                for j in range(n):
                    s.hits[j] = np.int32(popcount(active & row[j]))
        if any_active:
            weight = t.weight[core, g]
            for j in range(n):
                s.total[j] += weight[j] * s.hits[j]


@kernel
def _evaluate(t: Tables, s: State, core: int) -> None:
    """The output of a memoryless core: sum + leak >= 1."""
    _integrate(t, s, core)
    threshold = t.threshold[core]
    for j in range(len(threshold)):
        s.flags[j] = np.uint8(s.total[j] >= threshold[j])
    for w in range(len(s.output)):
        word = np.uint64(0)
        for part in range(8):
            # Eight bytes of 0 or 1 become eight bits: the product puts byte i at bit 56 + i.
            word |= ((s.eights[8 * w + part] * GATHER) >> np.uint64(56)) << np.uint64(8 * part)
        s.output[w] = word


@kernel
def tick_neurons(t: Tables, s: State, core: int, tick: int) -> None:
    """The full rule for each neuron of a core with memory: leak, fire, reset."""
    _integrate(t, s, core)
    drawing = t.drawing[core]
    if drawing:
        _draw_synapses(t, s, core, tick)
    s.output[:] = 0
    for j in range(t.neurons[core]):
        kind = t.neuron_type[core, j]
        if kind == 0:
            continue
        leak, alpha, beta = t.leak[kind], t.alpha[kind], t.beta[kind]
        if drawing:
            leak = _drawn_leak(leak, t.random_leak[kind], t.stream[core], tick, j)
            eta = _drawn_eta(t.random_mask[kind], t.stream[core], tick, j)
            alpha, beta = alpha + eta, beta + (np.int32(0) if t.kappa[kind] == 1 else eta)
        v = _leaked(s.potential[core, j] + s.total[j], leak, t.epsilon[kind])
        if abs(v) > MAX_POTENTIAL and s.fault[0] < 0:
            s.fault[0], s.fault[1] = core, j
        if v >= alpha:
            s.output[j >> 6] |= np.uint64(1) << np.uint64(j & 63)
            v = _after_spike(t.gamma[kind], t.after[kind], v, alpha)
        elif v < -beta or (t.negative_inclusive and v == -beta):
            v = _after_negative(t.gamma[kind], t.kappa[kind], t.after[kind], v, beta)
        s.potential[core, j] = v


@kernel
def _rho(stream: Any, tick: int, j: int, use: Any) -> Any:
    """A draw of 0..255 as i32: numba makes floats of sums of signed and unsigned numbers."""
    return np.int32(fast_octet(stream, np.uint64(tick), np.uint64(j), np.uint64(use)))


@kernel
def _drawn_leak(leak: Any, random: int, stream: Any, tick: int, j: int) -> Any:
    """A neuron's signed leak in this tick: where it is random, the sign where the magnitude reaches a draw, else 0."""
    if random == 0:
        return leak
    return np.int32(np.sign(leak)) if abs(leak) >= _rho(stream, tick, j, LEAK) else np.int32(0)


@kernel
def _drawn_eta(bits: Any, stream: Any, tick: int, j: int) -> Any:
    """What a neuron adds to its thresholds in this tick."""
    return _rho(stream, tick, j, THRESHOLD) & np.int32((1 << bits) - 1) if bits != 0 else np.int32(0)


@kernel
def _draw_synapses(t: Tables, s: State, core: int, tick: int) -> None:
    """s.total[n] += sgn(S) * [|S| >= rho] for each set stochastic synapse of an active axon."""
    crossbar = t.crossbar[t.crossbar_of[core]]
    for g in range(t.plane.shape[1]):
        for w in range(crossbar.shape[0]):
            active = s.words[core, w] & t.plane[core, g, w]
            for j in range(t.neurons[core] if active != 0 else 0):
                weight = t.drawn_weight[t.neuron_type[core, j], g]
                if weight != 0:
                    hits = _reached(active & crossbar[w, j], w, abs(np.int32(weight)), t.stream[core], tick, j)
                    s.total[j] += np.sign(weight) * hits


@kernel
def _reached(axons: Any, w: int, magnitude: Any, stream: Any, tick: int, j: int) -> int:
    """How many of the axons, bits of word w, draw no more than the magnitude."""
    count = 0
    while axons != 0:
        lowest = axons & (~axons + np.uint64(1))
        axons ^= lowest
        if magnitude >= _rho(stream, tick, j, np.uint64(w << 6) + popcount(lowest - np.uint64(1))):
            count += 1
    return count


@kernel
def _leaked(v: Any, leak: Any, epsilon: int) -> Any:
    if epsilon == 0:
        return v + leak
    sign = np.sign(v)
    after = v + leak * sign
    return after if np.sign(after) == sign else 0


@kernel
def _after_spike(gamma: int, after: int, v: int, alpha: int) -> int:
    if gamma == 0:
        return after
    return v - alpha if gamma == 1 else v


@kernel
def _after_negative(gamma: int, kappa: int, after: int, v: int, beta: int) -> int:
    if kappa == 1:
        return -beta
    if gamma == 0:
        return -after
    return v + beta if gamma == 1 else v


@kernel
def _lose(t: Tables, s: State, core: int, tick: int) -> None:
    """Keep what fired, and take the spikes that this tick loses out of the output under way."""
    for w in range(len(s.output)):
        s.fired[core, w] = s.output[w]
        left = s.output[w]
        while left != 0:
            lowest = left & (~left + np.uint64(1))
            left ^= lowest
            j = np.uint64(w << 6) + popcount(lowest - np.uint64(1))
            if fast_drops(t.loss[core], np.uint64(tick), j, t.loss_limit):
                s.output[w] ^= lowest


@kernel
def _route(t: Tables, s: State, core: int, tick: int) -> None:
    """Send the changes of a core's output on their way."""
    for w in range(len(s.output)):
        changed = (s.output[w] ^ s.sent[core, w]) & t.routed[core, w]
        s.sent[core, w] = s.output[w]
        while changed != 0:
            lowest = changed & (~changed + np.uint64(1))
            changed ^= lowest
            j = (w << 6) + np.int64(popcount(lowest - np.uint64(1)))
            up = (s.output[w] & lowest) != 0
            _flip(s, tick, t.wire[core, j], up)

"""The lazy engine: the same spikes as the emulator, by compiled loops that follow only what changes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.chance import limit_of, streams
from deploy.checks import count_drivers
from deploy.cores import RING, CoreGraph
from deploy.damage import STUCK, WHOLE, Damage, no_damage, without_dead
from deploy.emulator import (
    MAX_POTENTIAL,
    Bits,
    check_lines,
    check_run,
    drawing_cores,
    drawn_weights,
    fixed_weights,
    pack_words,
    per_neuron,
    potential_error,
    type_planes,
)
from deploy.kernels import State, Tables, run, run_rows

NEVER = 1 << 30  # a threshold that no sum reaches


class LazyEngine:
    """Runs a CoreGraph like `Emulator`, with the same methods and the same spikes, one thread, no lock held."""

    def __init__(self, graph: CoreGraph, *, seed: int | None = None, damage: Damage | None = None) -> None:
        """Arguments and errors as of `Emulator`."""
        check_run(graph, seed, damage)
        self.graph, self._damage = graph, damage or no_damage(graph)
        self._tables = tables_of(graph, seed or 0, self._damage)
        self._pins = graph.pins()
        self.reset()

    def reset(self) -> None:
        """Back to before the first tick: initial potentials, nothing under way."""
        self.tick = 0
        self._state = state_of(self.graph, self._tables, self._damage)

    def step(self, lines: Bits) -> Bits:
        """One tick. Lines [I] -> spikes [C, N]; raises EmulationError where a potential leaves +-393,215."""
        self.hold(lines, 1)
        return self.fired

    def hold(self, lines: Bits, ticks: int) -> None:
        """The same lines [I] for several ticks. Cores without memory are evaluated when an axon of theirs changes."""
        check_lines(self.graph, lines)
        self._done(run(self._tables, self._state, lines, self.tick, ticks))

    def spikes(self, lines: Bits) -> NDArray[np.uint64]:
        """Lines [T, I], one row a tick -> every spike [T, C, V]: bit b of word k is neuron 64k+b."""
        check_lines(self.graph, lines, ticks=True)
        found = np.zeros((len(lines), *self._state.fired.shape), np.uint64)
        done = run_rows(self._tables, self._state, np.ascontiguousarray(lines), self.tick, found)
        self._done(done)
        return found

    def _done(self, ticks: int) -> None:
        if self._state.fault[0] >= 0:
            raise potential_error(self.tick + ticks, *(int(where) for where in self._state.fault))
        self.tick += ticks

    @property
    def fired(self) -> Bits:
        """[C, N] spikes of the last tick."""
        return unpack_words(self._state.fired, self.graph.shape[2])

    @property
    def potential(self) -> NDArray[np.int32]:
        """[C, N] potentials after the last tick."""
        return self._state.potential.copy()

    @property
    def spikes_per_core(self) -> NDArray[np.int32]:
        """[C] spikes of the last tick."""
        return np.asarray(np.bitwise_count(self._state.fired).sum(axis=1, dtype=np.int32))

    def pins(self) -> Bits:
        """[O] pins that spiked in the last tick, whatever their delay; several neurons on one pin are OR-ed."""
        return pins_of(self._state.sent, self._pins, len(self.graph.output_pin))


def pins_of(
    sent: NDArray[np.uint64], pins: tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]], count: int
) -> Bits:
    """[count] pins that the spikes [C, V] drive; `pins` as of `CoreGraph.pins`."""
    core, neuron, index = pins
    driven = np.zeros(count, bool)
    driven[index[(sent[core, neuron >> 6] >> (neuron & 63).astype(np.uint64)) & np.uint64(1) != 0]] = True
    return driven


def tables_of(whole: CoreGraph, seed: int, damage: Damage) -> Tables:
    """Lay a graph out for the kernels and find where their shortcuts hold."""
    graph = without_dead(whole, damage)
    types, broken = graph.types, damage.axon != WHOLE
    extra = {
        name: np.concatenate([[0], getattr(types, name)]).astype(np.int32)
        for name in ("leak", "alpha", "beta", "gamma", "kappa", "epsilon", "random_leak", "random_mask")
    }
    shared = np.argwhere(count_drivers(graph) > 1)
    input_start, entry = _working_entries(graph, broken)
    return Tables(
        crossbar=np.ascontiguousarray(graph.crossbar),
        crossbar_of=graph.crossbar_of,
        plane=np.ascontiguousarray(np.stack(type_planes(graph), axis=1)),
        weight=_weights(graph),
        threshold=np.where(graph.neuron_type > 0, 1 - per_neuron(graph, types.leak), NEVER).astype(np.int32),
        memoryless=memoryless_cores(graph),
        neurons=_last_used(graph),
        neuron_type=graph.neuron_type,
        **extra,
        after=np.concatenate([[0], types.reset]).astype(np.int32),
        negative_inclusive=graph.negative_inclusive,
        drawing=drawing_cores(graph),
        drawn_weight=drawn_weights(graph),
        stream=streams(seed, graph.seed),
        loss=streams(damage.seed, graph.seed),
        loss_limit=limit_of(damage.lost),
        routed=pack_words((graph.target_core >= 0) & ~_aims_at(graph, broken)),
        wire=_wires(graph, shared, graph.target_core, graph.target_axon, graph.delay),
        shared_axon=_address(graph, *shared.T),
        input_start=input_start,
        input_wire=_wires(graph, shared, graph.input_core, graph.input_axon, graph.input_delay)[entry],
    )


def _aims_at(graph: CoreGraph, broken: Bits) -> Bits:
    """[C, N] True where a neuron's target is a broken axon [C, A] of the chip."""
    core, axon = np.maximum(graph.target_core, 0), np.minimum(graph.target_axon, broken.shape[1] - 1)
    return np.asarray(broken[core, axon] & (graph.target_core >= 0))


def _working_entries(graph: CoreGraph, broken: Bits) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """(where each line starts [I+1], entries of the input table) without those at broken axons."""
    works = ~broken[graph.input_core, graph.input_axon]
    before = np.concatenate([[0], np.cumsum(works)])
    return before[graph.input_start].astype(np.int32), np.flatnonzero(works)


def state_of(graph: CoreGraph, tables: Tables, damage: Damage) -> State:
    """The state before the first tick."""
    (c, a, n), shared = graph.shape, len(tables.shared_axon)
    axon_words, neuron_words = -(-a // 64), -(-n // 64)
    eights = np.zeros(8 * neuron_words, "<u8")
    fired = np.zeros((c, neuron_words), np.uint64)
    return State(
        lines=np.zeros(graph.n_inputs, bool),
        flips=np.zeros((RING, c * axon_words), np.uint64),
        steps=np.zeros((RING, shared), np.int32),
        drivers=np.zeros(shared, np.int32),
        words=pack_words(damage.axon == STUCK),
        stale=np.ones(c, bool),
        fired=fired,
        sent=fired.copy() if damage.lost > 0 else fired,
        output=np.zeros(neuron_words, np.uint64),
        hits=np.zeros(n, np.int32),
        total=np.zeros(n, np.int32),
        flags=eights.view(np.uint8),
        eights=eights,
        potential=per_neuron(graph, graph.types.initial),
        fault=np.full(2, -1, np.int32),
    )


def memoryless_cores(graph: CoreGraph) -> NDArray[np.bool_]:
    """[C] True where every neuron is a function of the axons alone, so that equal axons give equal spikes.

    Types whose sums could leave the range of a potential are left to the full rule, which watches it.
    """
    worst = graph.shape[1] * np.abs(graph.types.weight.astype(int)).max(axis=1) + np.abs(graph.types.leak.astype(int))
    kinds = np.concatenate([[True], graph.types.memoryless & (worst <= MAX_POTENTIAL)])
    return np.asarray(kinds[graph.neuron_type].all(axis=1))


def _weights(graph: CoreGraph) -> NDArray[np.int16]:
    """[C, G, N]"""
    fixed = fixed_weights(graph)
    table = np.concatenate([np.zeros_like(fixed[:1]), fixed])
    return np.ascontiguousarray(table[graph.neuron_type].transpose(0, 2, 1))


def unpack_words(words: NDArray[np.uint64], bits: int) -> Bits:
    """Words [C, V] -> the first bits [C, bits] of each row, as `pack_words` packs them."""
    flat = words.astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(flat, axis=1, count=bits, bitorder="little").astype(bool)


def _last_used(graph: CoreGraph) -> NDArray[np.int32]:
    """[C] neurons up to the last one in use."""
    n = graph.shape[2]
    return np.asarray((np.arange(1, n + 1) * (graph.neuron_type > 0)).max(axis=1), np.int32)


def _address(graph: CoreGraph, core: NDArray[Any], axon: NDArray[Any]) -> NDArray[np.int64]:
    """Axons counted through all cores, whole words a core."""
    return np.asarray(core.astype(np.int64) * (graph.crossbar.shape[1] * 64) + axon)


def _wires(
    graph: CoreGraph, shared: NDArray[np.intp], core: NDArray[Any], axon: NDArray[Any], delay: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """Where spikes go and when, as `kernels._flip` reads it. Targets off the chip give values never used."""
    address, known = _address(graph, core, axon), _address(graph, *shared.T)
    index = np.searchsorted(known, address)
    if not len(known):
        return address * RING + delay
    meets = known[np.minimum(index, len(known) - 1)] == address
    return np.where(meets, ~(index * RING + delay.astype(np.int64)), address * RING + delay)

"""The chip, tick by tick, in plain numpy: the definition of what a core graph does.

Terms and order follow Cassidy et al. 2013 and Akopyan et al. 2015. Potentials are int32; a potential beyond +-393,215
is refused rather than wrapped or clamped, since what silicon does there is not published.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deploy.cores import RING, CoreGraph

MAX_POTENTIAL = 393_215
PARAMETERS = ("leak", "alpha", "beta", "gamma", "kappa", "epsilon", "reset")
Bits = NDArray[np.bool_]


class EmulationError(RuntimeError):
    """A graph or an input that the emulator can not run exactly."""


class Emulator:
    """Runs a CoreGraph of C cores, A axons and N neurons a core, I input lines and O output pins."""

    def __init__(self, graph: CoreGraph) -> None:
        """Raises EmulationError where the graph draws random numbers."""
        refuse_stochastic(graph)
        self.graph = graph
        self._planes = type_planes(graph)
        self._weights = [per_neuron(graph, column) for column in graph.types.weight.T]
        self._of = {name: per_neuron(graph, getattr(graph.types, name)) for name in PARAMETERS}  # each [C, N]
        self._line_of = np.repeat(np.arange(graph.n_inputs), np.diff(graph.input_start))
        self._pins = graph.pins()
        self.reset()

    def reset(self) -> None:
        """Back to before the first tick: initial potentials, nothing under way."""
        c, a, n = self.graph.shape
        self.tick = 0  # ticks done
        self.potential = per_neuron(self.graph, self.graph.types.initial)  # [C, N] i32
        self.fired: Bits = np.zeros((c, n), bool)  # [C, N] spikes of the last tick
        self._queue = np.zeros((RING, c, a), bool)

    def step(self, lines: Bits) -> Bits:
        """One tick: deliver, integrate, leak, fire, reset, route. Lines [I] -> spikes [C, N].

        Raises EmulationError where a potential leaves +-393,215.
        """
        axons = self._deliver(lines)
        self._integrate(axons)
        self._leak()
        self._check_potential()
        self.fired = self._fire_and_reset()
        self._route(self.fired)
        self.tick += 1
        return self.fired

    def hold(self, lines: Bits, ticks: int) -> None:
        """The same lines [I] for several ticks."""
        for _ in range(ticks):
            self.step(lines)

    def pins(self) -> Bits:
        """[O] pins that spiked in the last tick, whatever their delay; several neurons on one pin are OR-ed."""
        core, neuron, index = self._pins
        pins = np.zeros(len(self.graph.output_pin), bool)
        np.logical_or.at(pins, index, self.fired[core, neuron])
        return pins

    @property
    def spikes_per_core(self) -> NDArray[np.int32]:
        """[C] spikes of the last tick."""
        return np.asarray(self.fired.sum(axis=1, dtype=np.int32))

    def _deliver(self, lines: Bits) -> Bits:
        """The axons [C, A] of this tick. Spikes that meet on an axon count once."""
        check_lines(self.graph, lines)
        entry = lines[self._line_of]
        slot = (self.tick % RING + self.graph.input_delay[entry]) % RING
        self._queue[slot, self.graph.input_core[entry], self.graph.input_axon[entry]] = True
        axons: Bits = self._queue[self.tick % RING].copy()
        self._queue[self.tick % RING] = False
        return axons

    def _integrate(self, axons: Bits) -> None:
        """V += weight of the axon's type, for each set synapse of an active axon."""
        words = pack_words(axons)  # [C, W]
        crossbar = self.graph.crossbar[self.graph.crossbar_of]  # [C, W, N]
        for plane, weight in zip(self._planes, self._weights, strict=True):
            count = np.bitwise_count(crossbar & (words & plane)[:, :, None]).sum(axis=1, dtype=np.int32)
            self.potential += count * weight

    def _leak(self) -> None:
        """V += leak; with epsilon the leak follows the sign of V and stops at 0."""
        leak, reversal = self._of["leak"], self._of["epsilon"] == 1
        before = np.sign(self.potential)
        self.potential += np.where(reversal, leak * before, leak)
        self.potential[reversal & (np.sign(self.potential) != before)] = 0

    def _fire_and_reset(self) -> Bits:
        """Spike where V >= alpha, else the negative rule below -beta."""
        v, gamma, kappa = self.potential, self._of["gamma"], self._of["kappa"]
        alpha, beta, r = self._of["alpha"], self._of["beta"], self._of["reset"]
        exists = self.graph.neuron_type > 0
        fired = exists & (v >= alpha)
        below = v <= -beta if self.graph.negative_inclusive else v < -beta
        negative = exists & ~fired & below
        after_spike = np.select([gamma == 0, gamma == 1], [r, v - alpha], v)
        after_negative = np.select([kappa == 1, gamma == 0, gamma == 1], [-beta, -r, v + beta], v)
        self.potential = np.select([fired, negative], [after_spike, after_negative], v).astype(np.int32)
        return fired

    def _route(self, fired: Bits) -> None:
        """Each spike to its one target, which integrates it `delay` ticks later."""
        core, neuron = np.nonzero(fired & (self.graph.target_core >= 0))
        slot = (self.tick % RING + self.graph.delay[core, neuron]) % RING
        self._queue[slot, self.graph.target_core[core, neuron], self.graph.target_axon[core, neuron]] = True

    def _check_potential(self) -> None:
        beyond = np.argwhere(np.abs(self.potential) > MAX_POTENTIAL)
        if beyond.size:
            raise potential_error(self.tick, *beyond[0])


def refuse_stochastic(graph: CoreGraph) -> None:
    """Raise EmulationError where a neuron in use draws random numbers: the chip's generator is not published."""
    used = np.unique(graph.neuron_type)
    random = [t for t in used[used > 0] if graph.types.stochastic[t - 1]]
    if random:
        raise EmulationError(
            f"neuron type {random[0]}: stochastic flags set, as in {len(random)} types in use; only deterministic "
            "neurons are exact, clear the flags"
        )


def check_lines(graph: CoreGraph, lines: Bits) -> None:
    """Raise EmulationError where an input is not one bool a line."""
    if lines.shape != (graph.n_inputs,) or lines.dtype != np.bool_:
        raise EmulationError(
            f"input: {lines.dtype} {list(lines.shape)}, must be bool [{graph.n_inputs}]; give one value a line"
        )


def potential_error(tick: int, core: int, neuron: int) -> EmulationError:
    return EmulationError(
        f"tick {tick}, core {core}, neuron {neuron}: potential beyond +-{MAX_POTENTIAL}; use a floor or a linear reset"
    )


def per_neuron(graph: CoreGraph, column: NDArray[np.generic]) -> NDArray[np.int32]:
    """One parameter of the neuron table [T], for every neuron [C, N]; 0 where there is no neuron."""
    return np.concatenate([[0], column]).astype(np.int32)[graph.neuron_type]


def pack_words(axons: Bits) -> NDArray[np.uint64]:
    """Bits [..., A] -> words [..., ceil(A/64)], bit b of word k is axon 64k+b."""
    padded = np.zeros((*axons.shape[:-1], -(-axons.shape[-1] // 64) * 64), bool)
    padded[..., : axons.shape[-1]] = axons
    return np.packbits(padded, axis=-1, bitorder="little").view("<u8").astype(np.uint64)


def type_planes(graph: CoreGraph) -> list[NDArray[np.uint64]]:
    """For each axon type, the words [C, W] of the axons that have it."""
    return [pack_words(graph.axon_type == g) for g in range(graph.types.weight.shape[1])]

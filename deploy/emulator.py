"""The chip, tick by tick, in plain numpy: the definition of what a core graph does.

Terms and order follow Cassidy et al. 2013 and Akopyan et al. 2015. Potentials are int32; a potential beyond +-393,215
after the leak is refused rather than wrapped or clamped, since what silicon does there is not published.

Exactness to silicon is claimed for deterministic neurons alone. Stochastic synapses, leaks and thresholds follow the
published rules with draws of our own (`chance`), where a run's seed asks for them: a magnitude m acts where m >= rho,
rho uniform in 0..255, so with chance min(m + 1, 256) / 256. A weight or leak of 0 has no sign and adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from deploy.chance import LEAK, MAX_NEURONS, THRESHOLD, drops, limit_of, octet, streams
from deploy.cores import RING, CoreGraph
from deploy.damage import SILENT, STUCK, Damage, no_damage, without_dead

MAX_POTENTIAL = 393_215
PARAMETERS = ("leak", "alpha", "beta", "gamma", "kappa", "epsilon", "reset", "random_leak", "random_mask")
Bits = NDArray[np.bool_]


class EmulationError(RuntimeError):
    """A graph or an input that the emulator can not run exactly."""


class Emulator:
    """Runs a CoreGraph of C cores, A axons and N neurons a core, I input lines and O output pins."""

    def __init__(self, graph: CoreGraph, *, seed: int | None = None, damage: Damage | None = None) -> None:
        """`seed` of this run's draws, which only graphs with stochastic neurons need; `damage` of the chip.

        Raises EmulationError where the graph draws and no seed is given, or where seed or damage do not fit it.
        """
        check_run(graph, seed, damage)
        self.graph, self._damage = graph, damage or no_damage(graph)
        self._alive = without_dead(graph, self._damage)
        self._planes = type_planes(graph)
        self._weights = [per_neuron(self._alive, column) for column in fixed_weights(graph).T]
        self._of = {name: per_neuron(self._alive, getattr(graph.types, name)) for name in PARAMETERS}  # each [C, N]
        self._drawing, self._drawn = drawing_cores(self._alive), drawn_weights(graph)
        self._draws = bool(self._drawing.any())
        self._stream = streams(seed or 0, graph.seed)[:, None]  # [C, 1] of the draws
        self._loss = streams(self._damage.seed, graph.seed)[:, None]  # [C, 1] of the losses
        self._line_of = np.repeat(np.arange(graph.n_inputs), np.diff(graph.input_start))
        self._pins = graph.pins()
        self.reset()

    def reset(self) -> None:
        """Back to before the first tick: initial potentials, nothing under way."""
        c, a, n = self.graph.shape
        self.tick = 0  # ticks done
        self.potential = per_neuron(self.graph, self.graph.types.initial)  # [C, N] i32
        self.fired: Bits = np.zeros((c, n), bool)  # [C, N] spikes of the last tick
        self._sent = self.fired  # [C, N] those of them that are not lost
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
        self._sent = self.fired & ~self._lost()
        self._route(self._sent)
        self.tick += 1
        return self.fired

    def hold(self, lines: Bits, ticks: int) -> None:
        """The same lines [I] for several ticks."""
        for _ in range(ticks):
            self.step(lines)

    def spikes(self, lines: Bits) -> NDArray[np.uint64]:
        """Lines [T, I], one row a tick -> every spike [T, C, V]: bit b of word k is neuron 64k+b."""
        check_lines(self.graph, lines, ticks=True)
        c, _, n = self.graph.shape
        return np.stack([np.zeros((c, -(-n // 64)), np.uint64), *(pack_words(self.step(row)) for row in lines)])[1:]

    def pins(self) -> Bits:
        """[O] pins that spiked in the last tick, whatever their delay; several neurons on one pin are OR-ed."""
        core, neuron, index = self._pins
        pins = np.zeros(len(self.graph.output_pin), bool)
        np.logical_or.at(pins, index, self._sent[core, neuron])
        return pins

    @property
    def spikes_per_core(self) -> NDArray[np.int32]:
        """[C] spikes of the last tick."""
        return np.asarray(self.fired.sum(axis=1, dtype=np.int32))

    def _deliver(self, lines: Bits) -> Bits:
        """The axons [C, A] of this tick, as the cores read them. Spikes that meet on an axon count once."""
        check_lines(self.graph, lines)
        entry = lines[self._line_of]
        slot = (self.tick % RING + self.graph.input_delay[entry]) % RING
        self._queue[slot, self.graph.input_core[entry], self.graph.input_axon[entry]] = True
        axons: Bits = self._queue[self.tick % RING].copy()
        self._queue[self.tick % RING] = False
        return np.asarray((axons & (self._damage.axon != SILENT)) | (self._damage.axon == STUCK))

    def _integrate(self, axons: Bits) -> None:
        """V += weight of the axon's type, for each set synapse of an active axon."""
        words = pack_words(axons)  # [C, W]
        crossbar = self.graph.crossbar[self.graph.crossbar_of]  # [C, W, N]
        for plane, weight in zip(self._planes, self._weights, strict=True):
            count = np.bitwise_count(crossbar & (words & plane)[:, :, None]).sum(axis=1, dtype=np.int32)
            self.potential += count * weight
        if self._draws:
            for core in np.flatnonzero(self._drawing):
                self._draw_synapses(int(core), np.flatnonzero(axons[core]))

    def _draw_synapses(self, core: int, active: NDArray[np.intp]) -> None:
        """V += sgn(S) * [|S| >= rho], for each set stochastic synapse of a core's active axons."""
        weight = self._drawn[self._alive.neuron_type[core]]  # [N, G+1]
        kind = np.minimum(self.graph.axon_type[core, active], weight.shape[1] - 1)
        s = weight.T[kind].astype(np.int32)  # [active axons, N]
        words = self.graph.crossbar[self.graph.crossbar_of[core], active >> 6]
        hit = (words >> (active & 63).astype(np.uint64)[:, None]) & np.uint64(1) != 0
        rho = self._rho(active[:, None], slice(core, core + 1))
        self.potential[core] += np.where(hit & (np.abs(s) >= rho), np.sign(s), 0).sum(axis=0, dtype=np.int32)

    def _rho(self, use: NDArray[np.intp] | int, cores: slice = slice(None)) -> NDArray[np.int32]:
        """This tick's draws 0..255 for one use, or some [.., 1], by each neuron of the cores."""
        neuron = np.arange(self.graph.shape[2], dtype=np.uint64)
        rho = octet(self._stream[cores], np.uint64(self.tick), neuron, np.asarray(use, np.uint64))
        return np.asarray(rho, np.int32)

    def _leak_now(self) -> NDArray[np.int32]:
        """[C, N] signed leaks of this tick: with c_lambda, the sign where the magnitude reaches a draw, else 0."""
        leak = self._of["leak"]
        if not self._draws:
            return leak
        return np.where(self._of["random_leak"] == 0, leak, np.sign(leak) * (np.abs(leak) >= self._rho(LEAK)))

    def _eta(self) -> NDArray[np.int32]:
        """[C, N] what this tick's draws add to the thresholds: rho & (2**TM - 1)."""
        mask = (1 << self._of["random_mask"]) - 1
        return mask & self._rho(THRESHOLD) if self._draws else np.zeros_like(mask)

    def _leak(self) -> None:
        """V += leak; with epsilon the leak follows the sign of V and stops at 0."""
        leak, reversal = self._leak_now(), self._of["epsilon"] == 1
        before = np.sign(self.potential)
        self.potential += np.where(reversal, leak * before, leak)
        self.potential[reversal & (np.sign(self.potential) != before)] = 0

    def _fire_and_reset(self) -> Bits:
        """Spike where V >= alpha + eta, else the negative rule below -(beta + eta), with kappa below -beta."""
        v, gamma, kappa = self.potential, self._of["gamma"], self._of["kappa"]
        alpha, beta, r, eta = self._of["alpha"], self._of["beta"], self._of["reset"], self._eta()
        alpha, beta = alpha + eta, np.where(kappa == 1, beta, beta + eta)
        exists = self._alive.neuron_type > 0
        fired = exists & (v >= alpha)
        below = v <= -beta if self.graph.negative_inclusive else v < -beta
        negative = exists & ~fired & below
        after_spike = np.select([gamma == 0, gamma == 1], [r, v - alpha], v)
        after_negative = np.select([kappa == 1, gamma == 0, gamma == 1], [-beta, -r, v + beta], v)
        self.potential = np.select([fired, negative], [after_spike, after_negative], v).astype(np.int32)
        return fired

    def _lost(self) -> Bits:
        """[C, N] neurons whose spike of this tick would be lost on its way."""
        if self._damage.lost == 0:
            return np.zeros_like(self.fired)
        neuron = np.arange(self.graph.shape[2], dtype=np.uint64)
        return np.asarray(drops(self._loss, np.uint64(self.tick), neuron, limit_of(self._damage.lost)), bool)

    def _route(self, sent: Bits) -> None:
        """Each spike to its one target, which integrates it `delay` ticks later."""
        core, neuron = np.nonzero(sent & (self.graph.target_core >= 0))
        slot = (self.tick % RING + self.graph.delay[core, neuron]) % RING
        self._queue[slot, self.graph.target_core[core, neuron], self.graph.target_axon[core, neuron]] = True

    def _check_potential(self) -> None:
        beyond = np.argwhere(np.abs(self.potential) > MAX_POTENTIAL)
        if beyond.size:
            raise potential_error(self.tick, *beyond[0])


def check_run(graph: CoreGraph, seed: int | None, damage: Damage | None) -> None:
    """Raise EmulationError with all that keeps a graph from running with this seed and damage."""
    problems = [*_seed_problems(graph, seed), *(_damage_problems(graph, damage) if damage else ())]
    if problems:
        raise EmulationError("\n".join(problems))


def _seed_problems(graph: CoreGraph, seed: int | None) -> Iterator[str]:
    """Draws are asked for by a seed: the chip's own generator is not published."""
    used = np.unique(graph.neuron_type)
    random = [t for t in used[used > 0] if graph.types.stochastic[t - 1]]
    if seed is None and random:
        yield (
            f"neuron type {random[0]}: stochastic flags set, as in {len(random)} types in use; only deterministic "
            "neurons are exact, clear the flags or give a seed"
        )
    if seed is not None and not 0 <= seed < 1 << 32:
        yield f"seed: {seed}, allowed 0..{(1 << 32) - 1}; give another"
    if seed is not None and random:
        yield from _width_problems(graph, "stochastic neurons")


def _damage_problems(graph: CoreGraph, damage: Damage) -> Iterator[str]:
    c, a, n = graph.shape
    for name, found, allowed in (("dead", damage.dead.shape, (c, n)), ("axon", damage.axon.shape, (c, a))):
        if found != allowed:
            yield f"damage.{name}: shape {list(found)}, must be {list(allowed)}; make it for this graph"
    if damage.lost > 0:
        yield from _width_problems(graph, "lost spikes")


def _width_problems(graph: CoreGraph, what: str) -> Iterator[str]:
    if graph.shape[2] > MAX_NEURONS:
        yield f"graph: {graph.shape[2]} neurons a core, allowed {MAX_NEURONS} with {what}; split the cores"


def drawing_cores(graph: CoreGraph) -> Bits:
    """[C] True where a neuron of the core draws random numbers."""
    return np.asarray(np.concatenate([[False], graph.types.stochastic])[graph.neuron_type].any(axis=1))


def _drawn(graph: CoreGraph) -> Bits:
    """[T, G] True where an axon type is a stochastic synapse of a neuron type."""
    kinds = np.arange(graph.types.weight.shape[1])
    return np.asarray((graph.types.random_weight[:, None] >> kinds) & 1 != 0)


def fixed_weights(graph: CoreGraph) -> NDArray[np.int16]:
    """[T, G] the weights that are added as they are; 0 at stochastic synapses."""
    return np.where(_drawn(graph), 0, graph.types.weight).astype(np.int16)


def drawn_weights(graph: CoreGraph) -> NDArray[np.int16]:
    """[T+1, G+1] the weights of stochastic synapses, else 0: of no neuron (type 0) and on an unused axon (the last)."""
    weight = np.where(_drawn(graph), graph.types.weight, 0).astype(np.int16)
    return np.pad(weight, ((1, 0), (0, 1)))


def check_lines(graph: CoreGraph, lines: Bits, ticks: bool = False) -> None:
    """Raise EmulationError where an input is not one bool a line, or with `ticks` one row of that for each tick."""
    shape = (*lines.shape[: int(ticks)], graph.n_inputs)
    if lines.shape != shape or lines.ndim != len(shape) or lines.dtype != np.bool_:
        wanted = f"bool [{'T, ' if ticks else ''}{graph.n_inputs}]"
        raise EmulationError(f"input: {lines.dtype} {list(lines.shape)}, must be {wanted}; give one value a line")


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

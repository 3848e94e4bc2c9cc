"""Repeaters: relays for spikes whose target lies farther away than a packet travels.

All spikes that arrive on one level then take one tick more: the far ones through a relay on a free cell in between, the
others by waiting. Levels after it shift, so the graph computes what it did, later.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.cells import I32, Mask, on_chips, on_mesh
from deploy.chip import Chip, CompileError, refuse
from deploy.cores import RING, CoreGraph, NeuronTypes
from deploy.emulator import pack_words

Far = NDArray[np.intp]  # [F, 2]  core, neuron


@dataclass(frozen=True, eq=False)
class Repeated:
    """A graph whose every spike is within reach. Old cores keep their numbers and places, repeaters come after them."""

    graph: CoreGraph
    level: NDArray[np.int32]  # [C]  ticks from the input to the core
    place: NDArray[np.int16]  # [C, 3]  chip, x, y
    shifted: NDArray[np.int32]  # [old levels]  what each level has become
    repeaters: int  # cores added


def far_spikes(graph: CoreGraph, place: NDArray[np.int16], chip: Chip) -> Far:
    """(core, neuron) of every spike whose target is farther than `chip.reach` in x or in y."""
    xy = on_mesh(place, chip)
    far = np.zeros(graph.target_core.shape, bool)
    target = np.maximum(graph.target_core, 0)
    for axis in (0, 1):
        far |= np.abs(xy[target, axis] - xy[:, axis, None]) > chip.reach
    return np.argwhere(far & (graph.target_core >= 0))


def repeat(
    graph: CoreGraph,
    level: NDArray[np.int32],
    place: NDArray[np.int16],
    chip: Chip,
    forbidden: Mask | None = None,
    interval: int = 0,
) -> Repeated:
    """Add repeaters until every spike is within reach; equal arguments give an equal result.

    The graph comes back as it is where nothing is too far. `forbidden` as in `place`. `interval`: ticks from picture to
    picture where the graph has a history: by so many, and their multiples, spikes go on waiting longer. Raises
    CompileError where a delay grows beyond the chip's, where no free cell lies on the way, or where the graph was not
    made by our compiler.
    """
    done = Repeated(graph, level, place, np.arange(int(level.max(initial=-1)) + 1, dtype=np.int32), 0)
    while len(far := far_spikes(done.graph, done.place, chip)):
        if graph.origin != "compiled":
            raise CompileError(f"repeat: found {graph.origin} graph, allowed compiled; place it within reach")
        done = _once(done, far, chip, forbidden, interval)
    return done


@dataclass
class _Relay:
    """A repeater core being filled."""

    x: int
    y: int
    level: int  # of its targets, before the shift
    sends: list[tuple[int, int]]  # (core, neuron) whose spikes it repeats, in the order of its axons


def _once(done: Repeated, far: Far, chip: Chip, forbidden: Mask | None, interval: int) -> Repeated:
    """One tick more before every level that a far spike arrives on, and one relay for each of them."""
    graph, cuts = done.graph, np.unique(done.level[done.graph.target_core[far[:, 0], far[:, 1]]])
    shift = np.searchsorted(cuts, np.arange(int(done.level.max()) + 1), side="right")
    relays = _relays(done, far, chip, forbidden)
    moved = (done.level + shift[done.level]).astype(np.int32)
    levels = np.concatenate([moved, [r.level + shift[r.level] - 1 for r in relays]]).astype(np.int32)
    places = np.concatenate([done.place, on_chips(np.array([(r.x, r.y) for r in relays], np.int32), chip)])
    return Repeated(
        _with_relays(graph, relays, done.level, levels, chip, interval),
        levels,
        places,
        (done.shifted + shift[done.shifted]).astype(np.int32),
        done.repeaters + len(relays),
    )


def _relays(done: Repeated, far: Far, chip: Chip, forbidden: Mask | None) -> list[_Relay]:
    """Repeater cores for these spikes: one that is open and on the way, else a new one near the middle of the way."""
    xy, target = on_mesh(done.place, chip), done.graph.target_core
    free = np.ones(chip.mesh, bool) if forbidden is None else ~forbidden
    free[xy[:, 0], xy[:, 1]] = False
    slots, relays = min(done.graph.shape[1:]), list[_Relay]()
    open_of: dict[int, list[_Relay]] = {}  # by the level of the targets
    for core, neuron in far:
        to = int(target[core, neuron])
        near = open_of.setdefault(int(done.level[to]), [])
        relay = next((r for r in near if _on_the_way(xy[core], xy[to], r, chip)), None)
        if relay is None:
            x, y = _between(xy[core], xy[to], free, chip)
            free[x, y] = False
            relay = _Relay(x, y, int(done.level[to]), [])
            relays.append(relay)
            near.append(relay)
        relay.sends.append((int(core), int(neuron)))
        if len(relay.sends) == slots:
            near.remove(relay)
    return relays


def _on_the_way(start: I32, end: I32, relay: _Relay, chip: Chip) -> bool:
    """Within reach of the sender, and of the target too where one relay can do it."""
    there = max(abs(relay.x - int(end[0])), abs(relay.y - int(end[1])))
    here = max(abs(relay.x - int(start[0])), abs(relay.y - int(start[1])))
    return here <= chip.reach and there <= max(chip.reach, int(np.abs(end - start).max()) - chip.reach)


def _between(start: I32, end: I32, free: Mask, chip: Chip) -> tuple[int, int]:
    """The free cell nearest to the middle of the way, of those within reach of the sender that lead on far enough."""
    x, y = np.nonzero(free)
    here = np.maximum(np.abs(x - start[0]), np.abs(y - start[1]))
    there = np.maximum(np.abs(x - end[0]), np.abs(y - end[1]))
    good = (here <= chip.reach) & (there <= max(chip.reach, int(np.abs(end - start).max()) - chip.reach))
    if not good.any():
        # No cell leads on as far as it should; any that comes nearer will do, for one more relay behind it.
        good = (here <= chip.reach) & (there < np.abs(end - start).max())
    if not good.any():
        raise CompileError(
            f"repeat: no free cell on the way from {tuple(map(int, start))} to {tuple(map(int, end))}, allowed up to "
            f"{chip.reach} cells apart on {chip.name}; try fewer cores or another seed"
        )
    way = (np.abs(2 * x - start[0] - end[0]) + np.abs(2 * y - start[1] - end[1]))[good]
    best = int(np.argmin(way))
    return int(x[good][best]), int(y[good][best])


def _with_relays(
    graph: CoreGraph,
    relays: list[_Relay],
    before: NDArray[np.int32],
    levels: NDArray[np.int32],
    chip: Chip,
    interval: int,
) -> CoreGraph:
    """The graph with relay cores behind its own and every delay what it was beyond the difference of two levels.

    `before`: levels of its own cores until now. Whole intervals are waited out on the way to a relay.
    """
    cores, axons, neurons = graph.shape
    types, relay_type = _relay_type(graph.types)
    more = len(relays)
    wide = {
        "axon_type": np.full((more, axons), CoreGraph.UNUSED_AXON, np.uint8),
        "neuron_type": np.zeros((more, neurons), np.uint16),
        "target_core": np.full((more, neurons), CoreGraph.NO_TARGET, np.int32),
        "target_axon": np.zeros((more, neurons), np.uint8),
        "seed": np.zeros(more, np.uint32),
    }
    made: dict[str, Any] = {name: np.concatenate([getattr(graph, name), rows]) for name, rows in wide.items()}
    for i, relay in enumerate(relays):
        used, (core, neuron) = len(relay.sends), np.array(relay.sends).T
        made["axon_type"][cores + i, :used], made["neuron_type"][cores + i, :used] = 0, relay_type
        for name in ("target_core", "target_axon"):
            made[name][cores + i, :used] = made[name][core, neuron]
        made["target_core"][core, neuron], made["target_axon"][core, neuron] = cores + i, np.arange(used)
    crossbar, crossbar_of = _crossbars(graph, [len(relay.sends) for relay in relays])
    whole = _intervals(graph.delay, graph.target_core, before, interval)
    delay = np.concatenate([graph.delay, np.zeros((more, neurons), np.uint8)])
    whole = np.concatenate([whole, np.zeros((more, neurons), np.int32)])
    entered = graph.input_delay.astype(np.int32) - before[graph.input_core]
    return replace(
        graph,
        types=types,
        crossbar=crossbar,
        crossbar_of=crossbar_of,
        delay=_delays(made["target_core"], delay, levels, whole, chip),
        input_delay=_input_delays(graph, levels, entered),
        **made,
    )


def _intervals(
    delay: NDArray[np.uint8], target: NDArray[np.int32], levels: NDArray[np.int32], interval: int
) -> NDArray[np.int32]:
    """[C, N] ticks that spikes between cores wait beyond the difference of levels: whole intervals, none without."""
    due = levels[np.maximum(target, 0)] - levels[:, None]
    return np.where((target >= 0) & (interval > 0), delay.astype(np.int32) - due, 0).astype(np.int32)


def _delays(
    target: NDArray[np.int32],
    before: NDArray[np.uint8],
    levels: NDArray[np.int32],
    whole: NDArray[np.int32],
    chip: Chip,
) -> NDArray[np.uint8]:
    """[C, N] between cores the difference of their levels and whole intervals, elsewhere as before; raises CompileError
    beyond the most, and where the first picture of a chain would come before it is sent.
    """
    waits = np.where(target >= 0, levels[np.maximum(target, 0)] - levels[:, None] + whole, before)
    wrong = (waits > chip.max_delay) | ((target >= 0) & (waits < 1))
    refuse(
        [
            f"core {core}, neuron {neuron}: delay {waits[core, neuron]} with repeaters, allowed 1..{chip.max_delay}; "
            "try another seed, a smaller board or, with a history, another interval"
            for core, neuron in np.argwhere(wrong)[:3]
        ]
    )
    return waits.astype(np.uint8)


def _input_delays(graph: CoreGraph, levels: NDArray[np.int32], beyond: NDArray[np.int32]) -> NDArray[np.uint8]:
    """[E] the level of the core that a line enters, and what the host waits `beyond` it."""
    waits = levels[graph.input_core] + beyond
    if int(waits.max(initial=0)) >= RING:
        raise CompileError(
            f"repeat: an input enters at level {waits.max()} with repeaters, allowed up to {RING - 1}; "
            "try another seed or a smaller board"
        )
    return waits.astype(np.uint8)


def _relay_type(types: NeuronTypes) -> tuple[NeuronTypes, int]:
    """A table with a neuron that repeats one axon of type 0, and that neuron's number; found there or added."""
    fits = types.memoryless & (types.weight == 1).all(axis=1) & (types.leak == 0)
    if fits.any():
        return types, int(np.argmax(fits)) + 1
    one = NeuronTypes.of(np.ones((1, types.weight.shape[1]), np.int16), np.zeros(1, np.int16))
    joined = {name: np.concatenate([column, getattr(one, name)]) for name, column in vars(types).items()}
    return NeuronTypes(**joined), len(types.leak) + 1


def _crossbars(graph: CoreGraph, used: list[int]) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """The graph's crossbars, and one that repeats its first axons for each number of them."""
    _, axons, neurons = graph.shape
    sizes, which = np.unique(used, return_inverse=True)
    diagonal = [pack_words(np.eye(neurons, axons, dtype=bool) & (np.arange(neurons) < n)[:, None]).T for n in sizes]
    crossbar = np.concatenate([graph.crossbar, np.stack(diagonal)])
    crossbar_of = np.concatenate([graph.crossbar_of, len(graph.crossbar) + which.reshape(-1)])
    return np.ascontiguousarray(crossbar), crossbar_of.astype(np.int32)

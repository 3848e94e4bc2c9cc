"""Every rule that a core graph breaks on a chip, as text: where, what was found, what is allowed, what to try."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from deploy.chip import Chip, CompileError
from deploy.cores import CoreGraph, pin_of
from deploy.graphs import neurons_of_type

MOST_LINES = 200  # of a report


def refuse_all(problems: Iterable[str]) -> None:
    """Raise one CompileError that lists the violations, and counts those beyond the first 200; nothing where none."""
    listed = list(problems)
    if not listed:
        return
    more = [f"and {len(listed) - MOST_LINES} more"] if len(listed) > MOST_LINES else []
    raise CompileError(f"{len(listed)} limits broken\n" + "\n".join([*listed[:MOST_LINES], *more]))


def graph_violations(graph: CoreGraph, chip: Chip, stochastic: bool = False) -> Iterator[str]:
    """What no graph may do on this chip, compiled or imported; random draws only where `stochastic` asks for them.

    Potentials need no check of their own: within these limits no neuron that resets passes 262,143 + 256 * 255 + 255,
    and those with gamma 1 or 2 have no bound before they run.
    """
    cores, axons, neurons = graph.shape
    if cores > chip.cores:
        yield f"graph: {cores} cores used, {chip.cores} exist on {chip.name}; try fewer features or a smaller map"
    if axons > chip.axons or neurons > chip.neurons:
        yield f"graph: cores of {axons}x{neurons}, {chip.axons}x{chip.neurons} on {chip.name}; compile for this chip"
    if graph.types.weight.shape[1] > chip.axon_types:
        yield f"graph: {graph.types.weight.shape[1]} axon types, {chip.axon_types} exist on {chip.name}; use fewer"
    for core, neuron in np.argwhere(graph.delay > chip.max_delay):
        delay = graph.delay[core, neuron]
        yield f"core {core}, neuron {neuron}: delay {delay}, allowed 1..{chip.max_delay}; relay it through another core"
    for entry in np.flatnonzero(graph.input_delay > chip.max_delay):
        line = int(np.searchsorted(graph.input_start, entry, side="right")) - 1
        yield (
            f"input line {line}, core {graph.input_core[entry]}, axon {graph.input_axon[entry]}: delay "
            f"{graph.input_delay[entry]}, allowed 0..{chip.max_delay}; relay it through another core"
        )
    yield from _type_violations(graph, chip)
    if not stochastic:
        yield from _random_violations(graph)


def _type_violations(graph: CoreGraph, chip: Chip) -> Iterator[str]:
    t = graph.types
    for name, values, limit in (
        ("weight", t.weight, chip.max_weight),
        ("leak", t.leak, chip.max_leak),
        ("alpha", t.alpha, chip.max_threshold),
        ("beta", t.beta, chip.max_threshold),
        ("reset", t.reset, chip.max_potential),
        ("initial", t.initial, chip.max_potential),
    ):
        for at in np.argwhere(np.abs(values.astype(np.int64)) > limit):
            value, place = values[tuple(at)], "".join(f"[{i}]" for i in at)
            yield (
                f"types.{name}{place}: magnitude {abs(int(value))}, allowed {limit} on {chip.name}; "
                f"scale it down{_neurons(graph, int(at[0]))}"
            )


def _random_violations(graph: CoreGraph) -> Iterator[str]:
    for kind in np.flatnonzero(graph.types.stochastic):
        yield (
            f"types[{kind}]: draws random numbers, allowed only on request; the real chip's are not "
            f"public{_neurons(graph, int(kind))}"
        )


def _neurons(graph: CoreGraph, kind: int) -> str:
    """Where a type is used."""
    return f" ({neurons_of_type(graph, kind) or 'no neuron'})"


def compiled_violations(graph: CoreGraph, level: NDArray[np.int32], interval: int = 0) -> Iterator[str]:
    """What no graph of our compiler may do: axons have one driver each, pins too, and a core speaks of one picture.

    `interval`: ticks from picture to picture where the graph remembers some; a spike may then wait for a later one.
    """
    drivers = count_drivers(graph)
    used = graph.axon_type != CoreGraph.UNUSED_AXON
    for wrong, what in (
        (used & (drivers > 1), "drivers, allowed 1; copy the neuron instead"),
        (used & (drivers == 0), "drivers, needs 1; drop the axon"),
        (~used & (drivers > 0), "drivers, but is unused; drop the neuron"),
    ):
        for core, axon in np.argwhere(wrong):
            yield f"core {core}, axon {axon}: {drivers[core, axon]} {what}"
    core, neuron = np.nonzero(graph.target_core >= 0)
    due = level[graph.target_core[core, neuron]] - level[core]
    for i in np.flatnonzero(_mistimed(graph.delay[core, neuron], due, interval)):
        delay = graph.delay[core[i], neuron[i]]
        yield f"core {core[i]}, neuron {neuron[i]}: delay {delay}, its target is due after {due[i]}; align the delays"
    yield from _line_violations(graph, level, interval)
    yield from _pin_violations(graph)
    yield from _pair_violations(graph)


def _mistimed(delay: NDArray[np.uint8], due: NDArray[np.int32], interval: int) -> NDArray[np.bool_]:
    """Where a delay is neither what is due nor, with a history, that and whole intervals."""
    apart = delay.astype(np.int32) - due
    return np.asarray(apart % interval != 0 if interval else apart != 0)


def _line_violations(graph: CoreGraph, level: NDArray[np.int32], interval: int) -> Iterator[str]:
    lines = np.repeat(np.arange(graph.n_inputs), np.diff(graph.input_start))
    for entry in np.flatnonzero(_mistimed(graph.input_delay, level[graph.input_core], interval)):
        core = graph.input_core[entry]
        yield (
            f"input line {lines[entry]}, core {core}, axon {graph.input_axon[entry]}: delay "
            f"{graph.input_delay[entry]}, the core is due after {level[core]}; align the delays"
        )


def _pin_violations(graph: CoreGraph) -> Iterator[str]:
    core, neuron, _ = graph.pins()
    pins = pin_of(graph.target_core[core, neuron], graph.target_axon[core, neuron])
    _, which, count = np.unique(pins, return_inverse=True, return_counts=True)
    for i in np.flatnonzero(count[which] > 1):
        yield f"core {core[i]}, neuron {neuron[i]}: pin {pins[i]} has {count[which[i]]} drivers, allowed 1; use another"


def _pair_violations(graph: CoreGraph) -> Iterator[str]:
    """An even axon of type 0 and the type 1 behind it are the weights -1 and +1 of one input: never both."""
    kinds = np.full((len(graph.axon_type), 64 * graph.crossbar.shape[1]), CoreGraph.UNUSED_AXON, np.uint8)
    kinds[:, : graph.axon_type.shape[1]] = graph.axon_type
    first = np.zeros(kinds.shape, bool)
    first[:, ::2] = (kinds[:, ::2] == 0) & (kinds[:, 1::2] == 1)
    pairs = np.packbits(first, axis=1, bitorder="little").view("<u8").astype(np.uint64)  # [C, W]
    both = graph.crossbar & (graph.crossbar >> np.uint64(1))
    suspects = np.bitwise_or.reduce(both, axis=2)[graph.crossbar_of] & pairs
    for core in np.unique(np.nonzero(suspects)[0]):
        found = both[graph.crossbar_of[core]] & pairs[core][:, None]
        for word, neuron in np.argwhere(found):
            for bit in (bit for bit in range(64) if int(found[word, neuron]) >> bit & 1):
                where = f"core {core}, neuron {neuron}, axons {64 * word + bit} and {64 * word + bit + 1}"
                yield f"{where}: weights -1 and +1 on one input, allowed one of them; make the crossbar again"


def cell_violations(place: NDArray[np.int16], chip: Chip) -> Iterator[str]:
    """What no placement [C, 3] (chip, x, y) may do: cells must exist and hold one core."""
    for core in np.flatnonzero(
        ((place < 0) | (place >= (chip.chips_x * chip.chips_y, chip.width, chip.height))).any(1)
    ):
        yield f"core {core}: place {_cell(place[core])} does not exist on {chip.name}; place it again"
    cells, which, count = np.unique(place, axis=0, return_inverse=True, return_counts=True)
    for cell in np.flatnonzero(count > 1):
        cores = ", ".join(str(core) for core in np.flatnonzero(which.ravel() == cell))
        yield f"place: {_cell(cells[cell])} holds cores {cores}, allowed one; place them again"


def _cell(cell: NDArray[np.int16]) -> str:
    return f"chip {cell[0]}, x {cell[1]}, y {cell[2]}"


def reach_violations(graph: CoreGraph, place: NDArray[np.int16], chip: Chip) -> Iterator[str]:
    """Neurons whose targets lie farther off than a packet travels, given places [C, 3] (chip, x, y)."""
    place = place.astype(np.int64)
    chips = np.stack([place[:, 0] % chip.chips_x, place[:, 0] // chip.chips_x], axis=1)
    xy = chips * (chip.width, chip.height) + place[:, 1:]
    if (np.ptp(xy, axis=0) <= chip.reach).all():
        return
    core, neuron = np.nonzero(graph.target_core >= 0)
    hops = xy[graph.target_core[core, neuron]] - xy[core]
    for i in np.flatnonzero((np.abs(hops) > chip.reach).any(axis=1)):
        target, (dx, dy) = graph.target_core[core[i], neuron[i]], hops[i]
        where = f"core {core[i]}, neuron {neuron[i]}: target core {target} lies {dx}, {dy} away"
        yield f"{where}, allowed {chip.reach} in x and in y; relay it through a core between"


def count_drivers(graph: CoreGraph) -> NDArray[np.int64]:
    """[C, A] neurons and input lines that drive each axon."""
    c, a, _ = graph.shape
    inside = graph.target_core >= 0
    flat = graph.target_core[inside].astype(np.int64) * a + graph.target_axon[inside]
    lines = graph.input_core.astype(np.int64) * a + graph.input_axon
    return np.bincount(np.concatenate([flat, lines]), minlength=c * a).reshape(c, a)

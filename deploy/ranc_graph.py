"""RANC's grids as core graphs and core graphs as RANC's grids, with the same spikes in the same ticks.

Delay d is RANC's destination_tick d - 1, and our tick t is its tick t + 1. Its reset type 1 is `negative_inclusive`. A
neuron of RANC that can do nothing (no synapse, all parameters 0, a threshold of the largest integer) stands for a place
without neuron. What a grid says and a graph has no room for goes to `extra["ranc"]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.chip import refuse
from deploy.cores import FIRST_PIN_CORE, CoreGraph, NeuronTypes, pin_of, pin_target
from deploy.files import FormatError
from deploy.graphs import Extra, free_axons, pack_crossbar, plain_crossbar, unspeakable
from deploy.ibm_graph import no_lines
from deploy.ranc import INT32, Packet, RancConfig, RancCore, RancModel, config_of
from deploy.spikes import AxonSpikes

NEVER = 1 << 30  # thresholds from here up are met by no potential, and the largest that a graph holds
SHOWN = 20
# column -> what a core graph holds of it
_LIMITS = {
    "weights": (-(1 << 15), (1 << 15) - 1),
    "leak": (-(1 << 15), (1 << 15) - 1),
    "positive_threshold": (0, INT32[1]),
    "negative_threshold": (-(1 << 30), 0),
    "reset_potential": (-(1 << 30), 1 << 30),
    "current_potential": (-(1 << 30), 1 << 30),
}
_PARAMETERS = ("leak", "positive_threshold", "negative_threshold", "reset_mode", "reset_potential", "current_potential")


def ranc_graph(model: RancModel, source: Path | str) -> tuple[CoreGraph, AxonSpikes, Extra]:
    """(graph, its packets as spikes, extra); raises FormatError that lists every neuron a graph can not hold."""
    problems = [problem for index, core in enumerate(model.cores) for problem in _neuron_problems(index, core)]
    if not model.cores:
        problems = ["cores: none; a graph has at least one"]
    if problems:
        head = f"{source}: no graph can be made of this grid, {len(problems)} reasons"
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise FormatError("\n".join([head, *problems[:SHOWN], *more]))
    target, axon, delay = _targets(model)
    types, neuron_type = _types(model)
    crossbar, crossbar_of = _crossbars(model)
    routed = (neuron_type > 0) & (target != CoreGraph.NO_TARGET)
    graph = CoreGraph(
        origin="imported",
        negative_inclusive=model.config.neuron_reset_type == 1,
        crossbar=crossbar,
        crossbar_of=crossbar_of,
        axon_type=_axon_types(model),
        types=types,
        seed=np.zeros(len(model.cores), np.uint32),
        neuron_type=neuron_type,
        target_core=np.where(routed, target, CoreGraph.NO_TARGET).astype(np.int32),
        target_axon=np.where(routed, axon, 0).astype(np.uint8),
        delay=np.where(routed, delay, 0).astype(np.uint8),
        **no_lines(np.arange(model.num_outputs)),
    )
    return free_axons(graph), packet_spikes(model), {"ranc": _extra(model, routed)}


def packet_spikes(model: RancModel) -> AxonSpikes:
    """The input as spikes: list i with destination_tick k is integrated in our tick i + k."""
    place = {core.coordinates: index for index, core in enumerate(model.cores)}
    found = [(i + p.tick, place[p.core], p.axon) for i, packets in enumerate(model.packets) for p in packets]
    table = np.array(found, np.int32).reshape(-1, 3)
    return AxonSpikes(*(np.ascontiguousarray(column) for column in table.T))


def graph_ranc(graph: CoreGraph, extra: Mapping[str, Any] | None = None, spikes: AxonSpikes | None = None) -> RancModel:
    """The grid of a graph, with spikes as packets of destination_tick 0.

    Made of `extra["ranc"]` where that is there, its packets too unless others are given; else cores row by row, the bus
    after the last. Raises CompileError that lists all neurons which RANC's terms can not express, FormatError where
    `extra` is of another graph. Input lines and answers have no place in a grid, see `deploy.side`.
    """
    refuse([*_export_problems(graph)])
    facts = (extra or {}).get("ranc")
    try:
        return _grid(graph, _fresh_extra(graph) if facts is None else facts, spikes)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as cause:
        raise FormatError(f"extra.ranc: does not fit the graph ({cause!r}); convert the RANC input again") from cause


def _neuron_problems(index: int, core: RancCore) -> Iterator[str]:
    columns = {**core.columns, "weights": core.weights}
    for name, (low, high) in _LIMITS.items():
        wrong = (columns[name] < low) | (columns[name] > high)
        for neuron in np.flatnonzero(wrong.any(axis=1) if wrong.ndim > 1 else wrong):
            found = columns[name][neuron]
            yield f"core {index}, neuron {neuron}: {name} {found.tolist()}, allowed {low}..{high}"


def _table(core: RancCore) -> NDArray[np.int64]:
    """[n, weights and _PARAMETERS]"""
    return np.column_stack([core.weights, *(core.columns[name] for name in _PARAMETERS)])


def _types(model: RancModel) -> tuple[NeuronTypes, NDArray[np.uint16]]:
    g = model.config.num_weights
    tables = [_table(core) for core in model.cores]
    there = [~_inert(table, core) for table, core in zip(tables, model.cores, strict=True)]
    kinds, kind = np.unique(
        np.concatenate([t[m] for t, m in zip(tables, there, strict=True)]), axis=0, return_inverse=True
    )
    if len(kinds) > 65_535:
        raise FormatError(f"grid: {len(kinds)} kinds of neurons, allowed 65535; convert fewer cores")
    neuron_type = np.zeros((len(tables), model.config.num_neurons), np.uint16)
    start = 0
    for index, mask in enumerate(there):
        count = int(mask.sum())
        neuron_type[index, np.flatnonzero(mask)] = kind.reshape(-1)[start : start + count] + 1
        start += count
    leak, alpha, beta, gamma, reset, initial = kinds[:, g:].T
    types = NeuronTypes.of(
        kinds[:, :g],
        leak,
        alpha=np.minimum(alpha, NEVER),
        beta=-beta,
        gamma=gamma,
        kappa=0,
        reset=reset,
        initial=initial,
    )
    return types, neuron_type


def _axon_types(model: RancModel) -> NDArray[np.uint8]:
    """[C, A]; lists may be shorter than a core."""
    made = np.full((len(model.cores), model.config.num_axons), CoreGraph.UNUSED_AXON, np.uint8)
    for index, core in enumerate(model.cores):
        made[index, : len(core.axons)] = core.axons
    return made


def _crossbars(model: RancModel) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Crossbars [P, W, N] once by content, and which core has which [C]."""
    places: dict[bytes, int] = {}
    words: list[NDArray[np.uint64]] = []
    crossbar_of = np.zeros(len(model.cores), np.int32)
    for index, core in enumerate(model.cores):
        synapses = np.zeros((model.config.num_neurons, model.config.num_axons), bool)
        synapses[: len(core.connections), : len(core.axons)] = core.connections
        packed = pack_crossbar(synapses)
        crossbar_of[index] = places.setdefault(packed.tobytes(), len(words))
        words += [packed] if len(places) > len(words) else []
    return np.stack(words), crossbar_of


def _inert(table: NDArray[np.int64], core: RancCore) -> NDArray[np.bool_]:
    """[n] True for what an exporter writes where there is no neuron."""
    blank = table.copy()
    blank[:, core.weights.shape[1] + _PARAMETERS.index("positive_threshold")] -= INT32[1]
    return np.asarray(~blank.any(axis=1) & ~core.connections.any(axis=1))


def _targets(model: RancModel) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Target core, axon and delay [C, N]; NO_TARGET where a neuron points at a cell without a core."""
    place = {core.coordinates: index for index, core in enumerate(model.cores)}
    shape = (len(model.cores), model.config.num_neurons)
    target, axon, delay = (
        np.full(shape, CoreGraph.NO_TARGET, np.int64),
        np.zeros(shape, np.int64),
        np.ones(shape, np.int64),
    )
    for index, core in enumerate(model.cores):
        n = len(core.offsets)
        cells = map(tuple, (core.offsets + np.array(core.coordinates)).tolist())
        found = np.array([FIRST_PIN_CORE if cell == model.bus else place.get(cell, -1) for cell in cells], np.int64)
        to = core.columns["destination_axon"]
        pin_core, pin_axon = pin_target(to)
        target[index, :n] = np.where(found <= FIRST_PIN_CORE, pin_core, found)
        axon[index, :n] = np.where(found <= FIRST_PIN_CORE, pin_axon, to)
        delay[index, :n] = core.columns["destination_tick"] + 1
    return target, axon, delay


def _extra(model: RancModel, routed: NDArray[np.bool_]) -> dict[str, Any]:
    loose, thresholds = [], []
    for index, core in enumerate(model.cores):
        columns = core.columns
        for neuron in np.flatnonzero(~routed[index, : len(core.offsets)]).tolist():
            said = [int(columns[key][neuron]) for key in ("destination_axon", "destination_tick")]
            loose.append([index, neuron, *core.offsets[neuron].tolist(), *said])
        for neuron in np.flatnonzero(columns["positive_threshold"] > NEVER).tolist():
            thresholds.append([index, neuron, int(columns["positive_threshold"][neuron])])
    return {
        "config": asdict(model.config),
        "bus": list(model.bus),
        "num_outputs": model.num_outputs,
        "cores": [[*core.coordinates, len(core.axons), len(core.offsets)] for core in model.cores],
        "loose": loose,
        "thresholds": thresholds,
        "lists": len(model.packets),
        "packets": [[i, *p.core, p.axon, p.tick] for i, packets in enumerate(model.packets) for p in packets],
    }


def _fresh_extra(graph: CoreGraph) -> dict[str, Any]:
    """A grid as square as can be: cores row by row, then the bus, then at least one cell that stays empty."""
    c, a, n = graph.shape
    width = ceil(sqrt(c + 2))
    cells = [(cell % width, cell // width) for cell in range(c + 2)]
    g = max(graph.types.weight.shape[1], 4)
    config = RancConfig(n, a, width, -(-(c + 2) // width), g, neuron_reset_type=int(graph.negative_inclusive))
    last = [int(np.flatnonzero(kinds)[-1]) + 1 if kinds.any() else 0 for kinds in graph.neuron_type]
    nowhere = (graph.neuron_type == 0) | ((graph.target_core < 0) & (graph.target_core > FIRST_PIN_CORE))
    loose = []
    for core, neuron in np.argwhere(nowhere).tolist():
        if neuron < last[core]:
            offset = (cells[c + 1][0] - cells[core][0], cells[c + 1][1] - cells[core][1])
            loose.append([core, neuron, *offset, 0, 0])
    return {
        "config": asdict(config),
        "bus": list(cells[c]),
        "num_outputs": max(int(graph.output_pin.max(initial=0)) + 1, 1),
        "cores": [[*cells[core], a, last[core]] for core in range(c)],
        "loose": loose,
        "thresholds": [],
        "lists": 0,
        "packets": [],
    }


def _grid(graph: CoreGraph, facts: Mapping[str, Any], spikes: AxonSpikes | None) -> RancModel:
    kept_config = config_of(facts["config"], "extra.ranc.config")
    config = replace(kept_config, neuron_reset_type=int(graph.negative_inclusive))
    c, a, n = graph.shape
    if (len(facts["cores"]), config.num_axons, config.num_neurons) != (c, a, n):
        raise ValueError(f"{len(facts['cores'])} cores of {config.num_axons}x{config.num_neurons}")
    cells = np.array([core[:2] for core in facts["cores"]], np.int64)
    bus = np.array(facts["bus"], np.int64)
    kept: dict[int, dict[int, list[int]]] = {}
    for core, neuron, *said in facts["loose"]:
        kept.setdefault(int(core), {})[int(neuron)] = said
    thresholds = {(int(core), int(neuron)): int(value) for core, neuron, value in facts["thresholds"]}
    cores = [
        _core(graph, index, core, cells, bus, kept.get(index, {}), config.num_weights)
        for index, core in enumerate(facts["cores"])
    ]
    for (index, neuron), value in thresholds.items():
        cores[index].columns["positive_threshold"][neuron] = value
    places = [(int(x), int(y)) for x, y in cells]
    packets = _packets(spikes, places) if spikes is not None else _packets_again(facts)
    return RancModel(config, packets, (int(bus[0]), int(bus[1])), int(facts["num_outputs"]), tuple(cores))


def _core(
    graph: CoreGraph,
    index: int,
    said: list[int],
    cells: NDArray[np.int64],
    bus: NDArray[np.int64],
    kept: Mapping[int, list[int]],
    axon_types: int,
) -> RancCore:
    axons, neurons = int(said[2]), int(said[3])
    kind = graph.neuron_type[index, :neurons].astype(int)
    table = _columns(graph.types, axon_types)[kind]
    dest = graph.target_core[index, :neurons]
    to_pin = dest <= FIRST_PIN_CORE
    cell = np.where(to_pin[:, None], bus[None], cells[np.maximum(dest, 0)])
    aim = np.column_stack(
        [cell - cells[index], graph.target_axon[index, :neurons], graph.delay[index, :neurons].astype(int) - 1]
    )
    aim[to_pin, 2] = pin_of(dest[to_pin], graph.target_axon[index, :neurons][to_pin])
    for neuron, target in kept.items():
        aim[neuron] = target
    columns = dict(zip(_PARAMETERS, table[:, axon_types:].T.copy(), strict=True))
    columns |= {"destination_axon": aim[:, 2], "destination_tick": aim[:, 3]}
    known = graph.axon_type[index, :axons] < graph.types.weight.shape[1]
    return RancCore(
        coordinates=(int(said[0]), int(said[1])),
        axons=np.where(known, graph.axon_type[index, :axons], 0).astype(np.uint8),
        connections=plain_crossbar(graph, index)[:neurons, :axons],
        weights=table[:, :axon_types],
        offsets=aim[:, :2],
        columns=columns,
    )


def _columns(types: NeuronTypes, axon_types: int) -> NDArray[np.int64]:
    """[T + 1, weights and _PARAMETERS]; row 0 is no neuron."""
    weight = np.zeros((len(types.leak), axon_types), np.int64)
    weight[:, : types.weight.shape[1]] = types.weight
    parts = (types.leak, types.alpha, -types.beta.astype(np.int64), types.gamma, types.reset, types.initial)
    table = np.column_stack([weight, *parts]).astype(np.int64)
    none = np.zeros((1, table.shape[1]), np.int64)
    none[0, axon_types + _PARAMETERS.index("positive_threshold")] = INT32[1]
    return np.concatenate([none, table])


def _packets(spikes: AxonSpikes, places: list[tuple[int, int]]) -> tuple[tuple[Packet, ...], ...]:
    lists: list[list[Packet]] = [[] for _ in range(int(spikes.tick.max(initial=-1)) + 1)]
    once = np.unique(np.stack([spikes.tick, spikes.core, spikes.axon], axis=1), axis=0)
    for tick, core, axon in once.tolist():
        lists[tick].append(Packet(places[core], axon, 0))
    return tuple(tuple(found) for found in lists)


def _packets_again(facts: Mapping[str, Any]) -> tuple[tuple[Packet, ...], ...]:
    lists: list[list[Packet]] = [[] for _ in range(int(facts["lists"]))]
    for i, x, y, axon, tick in facts["packets"]:
        lists[i].append(Packet((int(x), int(y)), int(axon), int(tick)))
    return tuple(tuple(found) for found in lists)


def _export_problems(graph: CoreGraph) -> Iterator[str]:
    t = graph.types
    if not graph.shape[0]:
        yield "graph: no cores, a grid has at least one"
    # Without negative weights or leak V stays at or above where it starts, hence no floor is ever met.
    edge = int(graph.negative_inclusive)
    rising = (t.weight >= 0).all(axis=1) & (t.leak >= 0) & (t.initial >= edge - t.beta)
    rising &= ((t.gamma != 0) | (t.reset >= edge - t.beta)) & ((t.gamma != 1) | (edge - t.beta <= 0))
    floored = (t.gamma == 0) & (t.reset == t.beta)
    rules = (
        (t.random_weight > 0, "stochastic synapses, RANC has none; clear the flags"),
        (t.random_leak > 0, "a stochastic leak, RANC has none; clear the flag"),
        (t.random_mask > 0, "a stochastic threshold, RANC has none; clear the mask"),
        ((t.epsilon > 0) & (t.leak != 0), "a leak that follows the sign of V, RANC has none; clear the flag"),
        (t.gamma == 2, "no reset (gamma 2), RANC has 0 and 1; use a linear reset"),
        ((t.kappa > 0) & ~floored & ~rising, "a floor at -beta, RANC has none; use reset 0 to R = beta, or raise beta"),
    )
    yield from unspeakable(graph, rules, "RANC")

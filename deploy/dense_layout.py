"""A core graph as the dense kernels read it: axons by type, lanes of sixteen, tables that cores share."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.cores import RING, CoreGraph
from deploy.damage import SILENT, STUCK, Damage, without_dead
from deploy.dense_kernels import MEMORY, MEMORYLESS, SCALAR, Layout, Rules
from deploy.emulator import MAX_POTENTIAL, Bits, drawing_cores, fixed_weights, pack_words, per_neuron, type_planes
from deploy.engine import memoryless_cores
from deploy.vectors import BLOCK

NEVER = 1 << 30  # a threshold that no potential reaches
NARROW = (1 << 15) - 1  # sums stay below, in magnitude; as a threshold, one that no sum reaches
GROUP = 16  # axons of a lane


def layout_of(whole: CoreGraph, damage: Damage) -> Layout:
    """Lay a graph out for the kernels."""
    graph = without_dead(whole, damage)
    n = graph.shape[2]
    width = -(-n // BLOCK) * BLOCK
    way = ways(graph)
    twin = twins(graph, way, width)
    axons = order_axons(graph, way == SCALAR)
    lanes, lanes_at = _lanes(graph, axons, width)
    weight, weight_of = _weights(graph, way, width)
    rules, rule_of = _rules(graph, way, width)
    threshold = np.where(graph.neuron_type > 0, 1 - per_neuron(graph, graph.types.leak), NARROW).clip(-NARROW, NARROW)
    return Layout(
        way=way,
        blocks=np.where(twin, width // BLOCK // 2, -(-_last_used(graph) // BLOCK)).astype(np.int32),
        twin=twin,
        lanes=lanes,
        lanes_at=lanes_at,
        segments=axons.segments,
        starts=axons.starts,
        segments_of=axons.row,
        weight=weight,
        weight_of=weight_of,
        threshold=_padded(threshold, width, NARROW).astype(np.int16),
        ones=np.ones(width, np.int16),
        rules=rules,
        rule_of=rule_of,
        **_routes(graph, axons, width),
        keep=axons.words(damage.axon != SILENT),
        stuck=axons.words(damage.axon == STUCK),
    )


def ways(graph: CoreGraph) -> NDArray[np.uint8]:
    """[C] how each core is evaluated: scalar where it draws numbers or where its sums could leave 16 bits."""
    wide = ~_narrow(graph)
    beyond = np.abs(per_neuron(graph, graph.types.initial)).max(axis=1) > MAX_POTENTIAL
    way = np.where(memoryless_cores(graph) & ~beyond, MEMORYLESS, MEMORY)
    return np.where(wide | drawing_cores(graph), SCALAR, way).astype(np.uint8)


def twins(graph: CoreGraph, way: NDArray[np.uint8], width: int) -> Bits:
    """[C] True where a core without memory is two equal halves: each neuron of a student's core often has a copy."""
    half, n = width // 2, graph.shape[2]
    if n != width or half % BLOCK:
        return np.zeros(len(way), bool)
    types = (graph.neuron_type[:, :half] == graph.neuron_type[:, half:]).all(axis=1)
    synapses = (graph.crossbar[:, :, :half] == graph.crossbar[:, :, half:]).all(axis=(1, 2))
    return np.asarray(types & synapses[graph.crossbar_of] & (way == MEMORYLESS))


def _narrow(graph: CoreGraph) -> Bits:
    """[C] True where no sum of weights that a core's synapses allow reaches 2**15 - 1 in magnitude."""
    weight = fixed_weights(graph).astype(np.int64)
    if graph.shape[1] * int(np.abs(weight).max(initial=0)) < NARROW:
        return np.ones(len(graph.crossbar_of), bool)
    table = np.concatenate([np.zeros_like(weight[:1]), weight])
    planes = np.stack(type_planes(graph), axis=1)  # [C, G, W]
    return np.array([_most(graph, core, planes[core], table) < NARROW for core in range(len(planes))])


def _most(graph: CoreGraph, core: int, planes: NDArray[np.uint64], table: NDArray[np.int64]) -> int:
    """The largest magnitude of a sum of weights [T+1, G] in a core, whatever its axons."""
    crossbar = graph.crossbar[graph.crossbar_of[core]]  # [W, N]
    synapses = np.bitwise_count(crossbar & planes[:, :, None]).sum(axis=1, dtype=np.int64)  # [G, N]
    weighted = synapses * table[graph.neuron_type[core]].T
    return int(max(weighted.clip(0).sum(axis=0).max(), (-weighted).clip(0).sum(axis=0).max()))


@dataclass(frozen=True)
class Axons:
    """Where each core keeps its axons: by type, unused ones nowhere. L distinct rows of axon types."""

    place: NDArray[np.int32]  # [C, A]  bit of the axon in its core's words, -1: nowhere
    row: NDArray[np.int32]  # [C]  which of the L
    segments: NDArray[np.uint16]  # [L, 1 + 2S]  as `Layout.segments`
    starts: NDArray[np.int64]  # [L, G+1]

    def words(self, axons: Bits) -> NDArray[np.uint64]:
        """Bits of axons [C, A] -> words [C, W] in this order."""
        moved = np.zeros_like(axons)
        core, axon = np.nonzero(axons & (self.place >= 0))
        moved[core, self.place[core, axon]] = True
        return pack_words(moved)


def order_axons(graph: CoreGraph, as_they_are: Bits) -> Axons:
    """Sort each core's axons by type, but for those cores [C] whose kernel expects them as they are."""
    kinds = graph.types.weight.shape[1]
    keys = np.concatenate([graph.axon_type, as_they_are[:, None]], axis=1)
    first, row = distinct_rows(keys)
    made = [_order(key[:-1], kinds, bool(key[-1])) for key in keys[first]]
    longest = max(len(segments) for _, segments, _ in made)
    table = np.zeros((len(made), longest), np.uint16)
    for line, (_, segments, _) in zip(table, made, strict=True):
        line[: len(segments)] = segments
    place = np.stack([place for place, _, _ in made])[row]
    return Axons(place, row, table, np.stack([starts for _, _, starts in made]))


def _order(
    axon_type: NDArray[np.uint8], kinds: int, as_they_are: bool
) -> tuple[NDArray[np.int32], list[int], NDArray[np.int64]]:
    """(place [A], segments, starts [G+1]) of one row of axon types."""
    used = np.flatnonzero(axon_type != CoreGraph.UNUSED_AXON)
    if as_they_are:
        return np.arange(len(axon_type), dtype=np.int32), [0], np.zeros(kinds + 1, np.int64)
    used = used[np.argsort(axon_type[used], kind="stable")]
    place = np.full(len(axon_type), -1, np.int32)
    place[used] = np.arange(len(used))
    segments, starts = [-(-len(used) // GROUP)], [0]
    ends = np.searchsorted(axon_type[used], np.arange(kinds + 1))
    for first, last in pairwise(ends):
        for group in range(first // GROUP, -(-last // GROUP) if last > first else 0):
            bits = np.arange(GROUP * group, GROUP * (group + 1))
            segments += [group, int(((bits >= first) & (bits < last)) @ (1 << np.arange(GROUP)))]
        starts.append(len(segments) // 2)
    return place, segments, np.array(starts)


def _lanes(graph: CoreGraph, axons: Axons, width: int) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """(lanes of every distinct pair of a crossbar and an order, one after another; where each core's begin [C])."""
    pairs = np.stack([graph.crossbar_of, axons.row], axis=1)
    first, of = distinct_rows(pairs)
    made = [_lanes_of(graph, axons, core, width) for core in first]
    starts = np.cumsum([0, *(len(lanes) for lanes in made)])
    return np.concatenate(made), starts[of].astype(np.int64)


def _lanes_of(graph: CoreGraph, axons: Axons, core: int, width: int) -> NDArray[np.uint16]:
    """One core's lanes [width/BLOCK, groups, BLOCK] in one row; none where it has no groups."""
    groups, n = int(axons.segments[axons.row[core], 0]), graph.shape[2]
    axon = np.flatnonzero(axons.place[core] >= 0)
    words = graph.crossbar[graph.crossbar_of[core]]
    bits = np.unpackbits(words.astype("<u8").T.copy().view(np.uint8), axis=1, bitorder="little")  # [N, 64W]
    moved = np.zeros((width, groups * GROUP), np.uint8)
    if not groups:
        return np.zeros(0, np.uint16)
    moved[:n, axons.place[core, axon]] = bits[:, axon]
    lanes = np.packbits(moved, axis=1, bitorder="little").view("<u2").astype(np.uint16)  # [width, groups]
    return lanes.reshape(-1, BLOCK, groups).transpose(0, 2, 1).reshape(-1)


def _weights(graph: CoreGraph, way: NDArray[np.uint8], width: int) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
    """(distinct tables of weights [U, G, width], which of them each core has [C]).

    Where no neuron has a memory, those that do not exist take the weights of one that does: the cores of a trinary
    network then all share one table.
    """
    table = np.concatenate([np.zeros((1, graph.types.weight.shape[1]), np.int16), fixed_weights(graph)])
    kind = graph.neuron_type.copy()
    kind[way == MEMORYLESS] = np.where(
        kind[way == MEMORYLESS] > 0, kind[way == MEMORYLESS], kind[way == MEMORYLESS].max(axis=1, keepdims=True)
    )
    # Types that differ in other things have equal weights.
    distinct, same = np.unique(table, axis=0, return_inverse=True)
    table_of = same.reshape(-1)[kind]
    first, of = distinct_rows(table_of)
    return _padded(distinct[table_of[first]].transpose(0, 2, 1), width, 0), of


def _rules(graph: CoreGraph, way: NDArray[np.uint8], width: int) -> tuple[Rules, NDArray[np.int32]]:
    """(distinct rows of rules [R, width], which of them each core has [C]) for cores with a memory."""
    kinds = np.where((way == MEMORY)[:, None], graph.neuron_type, 0)
    first, of = distinct_rows(kinds)
    rows = _padded(kinds[first], width, 0)
    t = graph.types
    alpha, beta, reset = (column.astype(np.int64) for column in (t.alpha, t.beta, t.reset))
    saturates = t.kappa == 1
    add_up = np.select([t.gamma == 0, t.gamma == 1], [reset, -alpha], 0)
    add_down = np.select([saturates, t.gamma == 0, t.gamma == 1], [-beta, -reset, beta], 0)
    flags = t.epsilon + 2 * (t.gamma > 0) + 4 * ((t.gamma > 0) & ~saturates)

    def of_rows(column: NDArray[Any], absent: int, kind: type) -> NDArray[Any]:
        return np.asarray(np.concatenate([[absent], column]).astype(kind)[rows])

    made: dict[str, Any] = {
        "leak": of_rows(t.leak, 0, np.int16),
        "alpha": of_rows(alpha, NEVER + 1, np.int32),
        "low": of_rows(-beta + int(graph.negative_inclusive), -NEVER - 1, np.int32),
        "add_up": of_rows(add_up, 0, np.int32),
        "add_down": of_rows(add_down, 0, np.int32),
        "flags": of_rows(flags, 0, np.uint8),
    }
    return Rules(**made), of


def _routes(graph: CoreGraph, axons: Axons, width: int) -> dict[str, Any]:
    """Where spikes and input lines go: `wire`, `routed`, `input_start`, `input_wire` of a Layout."""
    words = graph.crossbar.shape[1]
    small = len(graph.crossbar_of) * words * 64 * RING < 1 << 31
    inside = graph.target_core >= 0
    core, axon = np.where(inside, graph.target_core, 0), np.where(inside, graph.target_axon, 0)
    wire = _wire(axons, words, core, axon, graph.delay)
    return {
        "wire": wire.astype(np.int32 if small else np.int64),
        "routed": pack_words(_padded(inside & (wire >= 0), width, False)),
        "input_start": graph.input_start,
        "input_wire": _wire(axons, words, graph.input_core, graph.input_axon, graph.input_delay),
    }


def _wire(
    axons: Axons, words: int, core: NDArray[np.integer], axon: NDArray[np.integer], delay: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """16 * address + delay; -1 where the axon is nowhere."""
    place = axons.place[core, axon]
    address = core.astype(np.int64) * (words * 64) + place
    return np.where(place >= 0, address * RING + delay, -1)


def distinct_rows(rows: NDArray[Any]) -> tuple[list[int], NDArray[np.int32]]:
    """(index of the first of each kind of row, kind of every row), in the order in which they appear."""
    kinds: dict[bytes, int] = {}
    of = np.array([kinds.setdefault(row.tobytes(), len(kinds)) for row in rows], np.int32)
    return np.unique(of, return_index=True)[1].tolist(), of


def _padded(array: NDArray[Any], width: int, filling: int) -> NDArray[Any]:
    """The last axis longer; contiguous, as the kernels read it."""
    missing = [(0, 0)] * (array.ndim - 1) + [(0, width - array.shape[-1])]
    return np.ascontiguousarray(np.pad(array, missing, constant_values=filling))


def _last_used(graph: CoreGraph) -> NDArray[np.int32]:
    n = graph.shape[2]
    return np.asarray((np.arange(1, n + 1) * (graph.neuron_type > 0)).max(axis=1), np.int32)

"""Drafts of cores -> a CoreGraph in layer order, with delays and shared crossbars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from deploy.chip import Chip
from deploy.cores import CoreGraph, NeuronTypes
from deploy.emulator import pack_words
from deploy.fanout import Draft, FanOut
from deploy.lower import SIGNS, Tile, core_axons
from deploy.reduce import Network

RELAY = 1  # neuron type number of the splitters; those of the layers follow, one a leak


@dataclass(frozen=True, eq=False)
class Assembled:
    """A graph and what is known about its cores."""

    graph: CoreGraph
    level: NDArray[np.int32]  # [C]  ticks from the input to the core
    stage: NDArray[np.int32]  # [C]  2l: splitters before layer l; 2l+1: its tiles; -2: relays of earlier pictures
    probe_core: NDArray[np.int32]  # [all neurons of all layers]  -1: nobody reads it, so it was not built
    probe_neuron: NDArray[np.uint8]  # the neuron that stands for it on that core
    layer_levels: tuple[int, ...]


def assemble(fan: FanOut, net: Network, chip: Chip) -> Assembled:
    """Number the cores by stage, set delays by level, write every table."""
    stage = np.array([2 * draft.layer + (draft.depth == 0) for draft in fan.cores], np.int32)
    # By level inside a stage, then as made: ids run layer by layer, as in IBM's files.
    order = np.lexsort((fan.level, stage))
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    drafts, level = [fan.cores[old] for old in order], fan.level[order]
    graph = _graph(fan, drafts, number, level, net, chip)
    probe_core, probe_neuron = _probes(drafts, net)
    return Assembled(graph, level, stage[order], probe_core, probe_neuron, fan.layer_levels)


def _graph(
    fan: FanOut,
    drafts: Sequence[Draft],
    number: NDArray[np.int64],
    level: NDArray[np.int32],
    net: Network,
    chip: Chip,
) -> CoreGraph:
    core, axon, delay = _targets(drafts, number, level, chip)
    types, neuron_type = _types(drafts, chip)
    crossbar, crossbar_of = _crossbars(drafts, chip)
    entry_core = number[fan.entry[:, 0]]
    pins = np.flatnonzero(net.vote >= 0)
    return CoreGraph(
        origin="compiled",
        negative_inclusive=False,
        crossbar=crossbar,
        crossbar_of=crossbar_of,
        axon_type=_axon_types(drafts, chip),
        types=types,
        seed=np.zeros(len(drafts), np.uint32),
        neuron_type=neuron_type,
        target_core=core,
        target_axon=axon,
        delay=delay,
        input_start=np.searchsorted(fan.line, np.arange(net.lines + 1)).astype(np.int32),
        input_core=entry_core.astype(np.int32),
        input_axon=fan.entry[:, 1].astype(np.uint8),
        input_delay=(level[entry_core] + fan.entry[:, 2]).astype(np.uint8),
        output_pin=pins.astype(np.int32),
        output_answer=net.vote[pins].astype(np.int16),
    )


def _targets(
    drafts: Sequence[Draft], number: NDArray[np.int64], level: NDArray[np.int32], chip: Chip
) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.uint8]]:
    """(target core, target axon, delay), each [C, N]. A spike waits until its target is due."""
    shape = (len(drafts), chip.neurons)
    core, axon = np.full(shape, CoreGraph.NO_TARGET, np.int32), np.zeros(shape, np.uint8)
    delay = np.zeros(shape, np.uint8)
    for i, draft in enumerate(drafts):
        n = len(draft.source)
        to, axon[i, :n] = draft.targets[:, 0], draft.targets[:, 1]
        inside, near = to >= 0, number[np.maximum(to, 0)]
        core[i, :n] = np.where(inside, near, to)
        delay[i, :n] = np.where(inside, level[near] - level[i] + draft.targets[:, 2], 1)
    return core, axon, delay


def _types(drafts: Sequence[Draft], chip: Chip) -> tuple[NeuronTypes, NDArray[np.uint16]]:
    """The relay and one type a leak, and the type of every neuron."""
    found = [np.unique(tile.leak) for draft in drafts for tile in draft.tiles]
    leaks = np.unique(np.concatenate(found))
    trinary = np.zeros((len(leaks), chip.axon_types), np.int16)
    trinary[:, :2] = SIGNS
    relay = np.ones((1, chip.axon_types), np.int16)
    neuron_type = np.zeros((len(drafts), chip.neurons), np.uint16)
    for i, draft in enumerate(drafts):
        own = [np.searchsorted(leaks, tile.leak) + RELAY + 1 for tile in draft.tiles]
        kinds = np.concatenate([*own, np.full(draft.n_axons, RELAY)])
        neuron_type[i, : len(draft.source)] = kinds[draft.source]
    return NeuronTypes.of(np.concatenate([relay, trinary]), np.concatenate([[0], leaks])), neuron_type


def _axon_types(drafts: Sequence[Draft], chip: Chip) -> NDArray[np.uint8]:
    """[C, A]: 0 and 1 in turn where axons come in pairs, then single ones, 0 on splitters."""
    kinds = np.full((len(drafts), chip.axons), CoreGraph.UNUSED_AXON, np.uint8)
    for i, draft in enumerate(drafts):
        kinds[i, : draft.n_axons] = 0
        if draft.tiles:
            for tile, at in zip(draft.tiles, core_axons(draft.tiles)[0], strict=True):
                kinds[i, at] = tile.kernel.kind
    return kinds


def _crossbars(drafts: Sequence[Draft], chip: Chip) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """(distinct crossbars [P, W, N], the one of each core [C])."""
    columns: dict[tuple[int, ...], NDArray[np.uint64]] = {}  # by identity of the kernels, which tiles share
    known: dict[bytes, int] = {}
    distinct: list[NDArray[np.uint64]] = []
    relays = relay_columns(chip)
    crossbar_of = np.zeros(len(drafts), np.int32)
    for i, draft in enumerate(drafts):
        kernels = tuple(id(tile.kernel) for tile in draft.tiles)
        if kernels not in columns:
            columns[kernels] = np.concatenate([_columns(draft.tiles, chip), relays])
        # Between the columns of the tiles and those of the relays there is no gap: neuron sources index both.
        crossbar = np.zeros((columns[kernels].shape[1], chip.neurons), np.uint64)
        crossbar[:, : len(draft.source)] = columns[kernels][draft.source].T
        crossbar_of[i] = known.setdefault(sha256(crossbar.tobytes()).digest(), len(distinct))
        if crossbar_of[i] == len(distinct):
            distinct.append(crossbar)
    return np.stack(distinct), crossbar_of


def _columns(tiles: Sequence[Tile], chip: Chip) -> NDArray[np.uint64]:
    """Columns [base neurons, W] of the tiles of a core, each on axons of its own."""
    axons = np.zeros((sum(len(tile.outputs) for tile in tiles), chip.axons), bool)
    first = 0
    for tile, at in zip(tiles, core_axons(tiles)[0] if tiles else [], strict=True):
        kernel, last = tile.kernel, first + len(tile.outputs)
        axons[first:last, at] = (kernel.weights[kernel.row] == np.array(SIGNS)[kernel.kind][:, None]).T
        first = last
    return pack_words(axons)


def relay_columns(chip: Chip) -> NDArray[np.uint64]:
    """Columns [A, W] that each repeat one axon."""
    return pack_words(np.eye(chip.axons, dtype=bool))


def _probes(drafts: Sequence[Draft], net: Network) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """For every neuron of every layer, (core, neuron) of the first copy of the one that stands for it."""
    sizes = net.sizes[1:]
    firsts = np.cumsum([0, *sizes])
    core, neuron = np.full(firsts[-1], -1, np.int32), np.zeros(firsts[-1], np.uint8)
    for i, draft in enumerate(drafts):
        if draft.tiles:
            features = firsts[draft.tiles[0].layer] + np.concatenate([tile.outputs for tile in draft.tiles])
            core[features], neuron[features] = i, np.arange(len(features))
    stand = np.concatenate([first + level.stand.ravel() for first, level in zip(firsts, net.levels[1:], strict=False)])
    return core[stand], neuron[stand]

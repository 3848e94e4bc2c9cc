"""Drafts of cores -> a CoreGraph in layer order, with levels, delays and shared crossbars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.chip import Chip
from deploy.cores import CoreGraph, NeuronTypes
from deploy.emulator import pack_words
from deploy.fanout import Draft, FanOut

RELAY = 1  # neuron type number of the splitters; those of the layers follow, one a leak


@dataclass(frozen=True, eq=False)
class Assembled:
    """A graph and what is known about its cores."""

    graph: CoreGraph
    level: NDArray[np.int32]  # [C]  ticks from the input to the core
    stage: NDArray[np.int32]  # [C]  2l: splitters before layer l; 2l+1: its tiles
    probe_core: NDArray[np.int32]  # [all neurons of all layers]  -1: nobody reads it, so it was not built
    probe_neuron: NDArray[np.uint8]  # the neuron that stands for it on that core
    layer_levels: tuple[int, ...]


def assemble(fan: FanOut, sizes: Sequence[int], n_lines: int, vote: NDArray[np.int16], chip: Chip) -> Assembled:
    """Number the cores by stage, align delays by level, write every table. `sizes` are the neurons of each layer."""
    stage = np.array([2 * draft.layer + (draft.depth == 0) for draft in fan.cores], np.int32)
    # By depth inside a stage, then as made: ids run layer by layer, as in IBM's files.
    order = np.lexsort((np.array([draft.depth for draft in fan.cores]), stage))
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    drafts = [fan.cores[old] for old in order]
    layer_levels = np.cumsum(fan.depths) + np.arange(len(fan.depths))
    level = _levels(drafts, fan.depths, layer_levels)
    graph = _graph(fan, drafts, number, level, n_lines, vote, chip)
    probe_core, probe_neuron = _probes(drafts, sizes)
    levels = tuple(int(ticks) for ticks in layer_levels[: len(sizes)])
    return Assembled(graph, level, stage[order], probe_core, probe_neuron, levels)


def _levels(drafts: Sequence[Draft], depths: Sequence[int], layers: NDArray[np.int64]) -> NDArray[np.int32]:
    """Ticks from the input to each core. All tiles of a layer share one level, so the votes leave together."""
    before = layers - np.array(depths) - 1  # splitters of depth d before layer l run d ticks after layer l-1
    levels = [before[d.layer] + d.depth if d.depth else layers[d.layer] for d in drafts]
    return np.array(levels, np.int32)


def _graph(
    fan: FanOut,
    drafts: Sequence[Draft],
    number: NDArray[np.int64],
    level: NDArray[np.int32],
    n_lines: int,
    vote: NDArray[np.int16],
    chip: Chip,
) -> CoreGraph:
    core, axon, delay = _targets(drafts, number, level, chip)
    types, neuron_type = _types(drafts, chip)
    crossbar, crossbar_of = _crossbars(drafts, chip)
    entry_core = number[fan.entry[:, 0]]
    pins = np.flatnonzero(vote >= 0)
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
        input_start=np.searchsorted(fan.line, np.arange(n_lines + 1)).astype(np.int32),
        input_core=entry_core.astype(np.int32),
        input_axon=fan.entry[:, 1].astype(np.uint8),
        input_delay=level[entry_core].astype(np.uint8),
        output_pin=pins.astype(np.int32),
        output_answer=vote[pins].astype(np.int16),
    )


def _targets(
    drafts: Sequence[Draft], number: NDArray[np.int64], level: NDArray[np.int32], chip: Chip
) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.uint8]]:
    """(target core, target axon, delay), each [C, N]. A spike waits until its target's level is due."""
    shape = (len(drafts), chip.neurons)
    core, axon, delay = np.full(shape, CoreGraph.NO_TARGET, np.int32), np.zeros(shape, np.uint8), np.zeros(shape, int)
    for i, draft in enumerate(drafts):
        n = len(draft.base)
        to, axon[i, :n] = draft.targets[:, 0], draft.targets[:, 1]
        inside, near = to >= 0, number[np.maximum(to, 0)]
        core[i, :n] = np.where(inside, near, to)
        delay[i, :n] = np.where(inside, level[near] - level[i], 1)
    return core, axon, delay.astype(np.uint8)


def _types(drafts: Sequence[Draft], chip: Chip) -> tuple[NeuronTypes, NDArray[np.uint16]]:
    """The relay and one type a leak, and the type of every neuron."""
    tiles = [draft.tile for draft in drafts if draft.tile]
    leaks = np.unique(np.concatenate([tile.leak for tile in tiles]))
    trinary = np.zeros((len(leaks), chip.axon_types), np.int16)
    trinary[:, :2] = (-1, 1)
    relay = np.ones((1, chip.axon_types), np.int16)
    neuron_type = np.zeros((len(drafts), chip.neurons), np.uint16)
    for i, draft in enumerate(drafts):
        kinds = RELAY if draft.tile is None else RELAY + 1 + np.searchsorted(leaks, draft.tile.leak)[draft.base]
        neuron_type[i, : len(draft.base)] = kinds
    return NeuronTypes.of(np.concatenate([relay, trinary]), np.concatenate([[0], leaks])), neuron_type


def _axon_types(drafts: Sequence[Draft], chip: Chip) -> NDArray[np.uint8]:
    """[C, A]: 0 and 1 in turn where axons come in pairs, 0 on splitters."""
    kinds = np.full((len(drafts), chip.axons), CoreGraph.UNUSED_AXON, np.uint8)
    for i, draft in enumerate(drafts):
        if draft.tile is None:
            kinds[i, : draft.base.max() + 1] = 0
        else:
            used = 2 * len(draft.tile.inputs)
            kinds[i, :used] = np.arange(used) % 2
    return kinds


def _crossbars(drafts: Sequence[Draft], chip: Chip) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """(distinct crossbars [P, W, N], the one of each core [C])."""
    columns: dict[int, NDArray[np.uint64]] = {}  # by identity of the weights, which tiles share
    known: dict[bytes, int] = {}
    distinct: list[NDArray[np.uint64]] = []
    crossbar_of = np.zeros(len(drafts), np.int32)
    for i, draft in enumerate(drafts):
        if draft.tile is not None and id(draft.tile.weights) not in columns:
            columns[id(draft.tile.weights)] = _pair_columns(draft.tile.weights, chip)
        base = relay_columns(chip) if draft.tile is None else columns[id(draft.tile.weights)]
        crossbar = np.zeros((base.shape[1], chip.neurons), np.uint64)
        crossbar[:, : len(draft.base)] = base[draft.base].T
        crossbar_of[i] = known.setdefault(crossbar.tobytes(), len(distinct))
        if crossbar_of[i] == len(distinct):
            distinct.append(crossbar)
    return np.stack(distinct), crossbar_of


def _pair_columns(weights: NDArray[np.int8], chip: Chip) -> NDArray[np.uint64]:
    """Trinary weights [n, m] -> columns [m, W]: -1 connects the even axon of an input, +1 the odd one."""
    axons = np.zeros((weights.shape[1], chip.axons), bool)
    axons[:, 0 : 2 * len(weights) : 2] = weights.T == -1
    axons[:, 1 : 2 * len(weights) : 2] = weights.T == 1
    return pack_words(axons)


def relay_columns(chip: Chip) -> NDArray[np.uint64]:
    """Columns [A, W] that each repeat one axon."""
    return pack_words(np.eye(chip.axons, dtype=bool))


def _probes(drafts: Sequence[Draft], sizes: Sequence[int]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """For every neuron of every layer, (core, neuron) of its first copy."""
    firsts = np.cumsum([0, *sizes])
    core, neuron = np.full(firsts[-1], -1, np.int32), np.zeros(firsts[-1], np.uint8)
    for i, draft in enumerate(drafts):
        if draft.tile is not None:
            features = firsts[draft.layer] + draft.tile.outputs
            core[features], neuron[features] = i, np.arange(len(features))
    return core, neuron

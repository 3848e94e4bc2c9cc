"""Many pictures at once through one chip: every core once a batch, 64 pictures a machine word.

For scoring: a compiled student's graph has no memory and its delays are aligned, so each core is a function of one
picture and may be evaluated for all pictures together; one with a history is unrolled into such a graph. Everything is
read from the cores' own tables.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.adders import EIGHT, FLIP, LONGS, NOWHERE
from deploy.batch_kernels import Places, Programs, run_batch
from deploy.compiled import Compiled
from deploy.cores import CoreGraph
from deploy.dense_layout import distinct_rows
from deploy.emulator import Bits, EmulationError
from deploy.unroll import levelled

TOGETHER = 64 * LONGS  # pictures of one wave


class BatchRunner:
    """Votes of a compiled student for many pictures; equal to `ChipRunner.answer` on each."""

    def __init__(self, compiled: Compiled, threads: int | None = None) -> None:
        """Raises EmulationError for a graph with neurons that remember, or delays that do not follow its levels."""
        graph, level = levelled(compiled)
        self._graph = graph
        self.compiled, self._threads = compiled, threads or os.cpu_count() or 1
        self._programs, program = programs_of(graph)
        order = np.argsort(level, kind="stable").astype(np.int32)
        self._places = Places(order, program, _targets(graph))
        self._line_of = np.repeat(np.arange(graph.n_inputs), np.diff(graph.input_start))
        cores, self._axons, _ = graph.shape
        self._input_row = graph.input_core.astype(np.int64) * self._axons + graph.input_axon
        self._axon_rows = cores * self._axons

    def answers(self, bits: Bits) -> NDArray[np.int32]:
        """Front bits [B, ...] -> votes [B, n_answers]; raises EmulationError where they do not fit.

        Of a chip with a history, the bits of all its pictures, newest first.
        """
        wanted = self._graph.n_inputs
        if bits.dtype != np.bool_ or bits.ndim < 1 or bits.size != len(bits) * wanted:
            raise EmulationError(
                f"input: {bits.dtype} {list(bits.shape)}, must be bool [B, {wanted}]; give one value a line"
            )
        lines = bits.reshape(len(bits), wanted)
        parts = [lines[start : start + TOGETHER] for start in range(0, len(lines), TOGETHER)]
        with ThreadPoolExecutor(self._threads) as pool:
            votes = list(pool.map(self._votes, parts))
        return np.concatenate([np.zeros((0, self.compiled.n_answers), np.int32), *votes])

    def _votes(self, lines: Bits) -> NDArray[np.int32]:
        """[B, n_answers] of lines [B, I]."""
        graph = self._graph
        rows = np.zeros((self._axon_rows + len(graph.output_pin) + 1, LONGS), np.uint64)
        np.bitwise_or.at(rows, self._input_row, _pack_pictures(lines)[self._line_of])
        run_batch(self._programs, self._places, rows, self._axons)
        pins = _unpack_pictures(rows[self._axon_rows : -1], len(lines))
        votes = [
            pins[graph.output_answer == answer].sum(axis=0, dtype=np.int32) for answer in range(self.compiled.n_answers)
        ]
        return np.stack(votes, axis=1)


def _pack_pictures(lines: Bits) -> NDArray[np.uint64]:
    """Bits [B, I] of up to 512 pictures -> words [I, LONGS]: bit b of word k is picture 64k+b."""
    padded = np.zeros((lines.shape[1], TOGETHER), bool)
    padded[:, : len(lines)] = lines.T
    return np.packbits(padded, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def _unpack_pictures(words: NDArray[np.uint64], count: int) -> NDArray[np.uint8]:
    """Words [O, LONGS] -> bits [O, count]."""
    return np.unpackbits(words.astype("<u8").view(np.uint8), axis=1, count=count, bitorder="little")


def _targets(graph: CoreGraph) -> NDArray[np.int64]:
    """[C, N] row of each neuron's axon, or behind all axons the row of its pin; -1: none."""
    cores, axons, _ = graph.shape
    inside = graph.target_core >= 0
    rows = np.where(inside, graph.target_core.astype(np.int64) * axons + graph.target_axon, -1)
    core, neuron, index = graph.pins()
    rows[core, neuron] = cores * axons + index
    return rows


@dataclass(frozen=True)
class _Column:
    """A neuron's sum: entries of each power of two, what their count must reach, its bits, who else fires so."""

    powers: tuple[tuple[int, ...], ...]
    threshold: int
    planes: int
    copies: tuple[int, ...]


def programs_of(graph: CoreGraph) -> tuple[Programs, NDArray[np.int32]]:
    """(programs of all distinct cores, which of them each core has [C])."""
    keys = np.concatenate(
        [graph.crossbar_of[:, None].astype(np.int64), graph.axon_type.astype(np.int64), graph.neuron_type], axis=1
    )
    first, program = distinct_rows(keys)
    powers = max(1, int(np.abs(graph.types.weight.astype(int)).max(initial=0)).bit_length())
    made = [list(_columns(graph, core, powers)) for core in first]
    columns = [column for each in made for column in each]
    sizes = np.array([[len(power) for power in column.powers] for column in columns], np.int64).reshape(-1, powers)
    ends = np.cumsum(sizes).reshape(sizes.shape)
    programs = Programs(
        columns=np.cumsum([0, *(len(each) for each in made)]).astype(np.int32),
        entry_at=np.concatenate([(ends - sizes)[:, :1], ends], axis=1).astype(np.int32),
        entry=np.array([e for column in columns for power in column.powers for e in power], np.uint16),
        threshold=np.array([column.threshold for column in columns], np.int32),
        planes=np.array([column.planes for column in columns], np.int32),
        copies=np.cumsum([0, *(len(column.copies) for column in columns)]).astype(np.int32),
        copy=np.array([j for column in columns for j in column.copies], np.int32),
    )
    return programs, program


def _columns(graph: CoreGraph, core: int, powers: int) -> Iterator[_Column]:
    """The distinct neurons of a core."""
    words = graph.crossbar[graph.crossbar_of[core]]
    alike: dict[bytes, list[int]] = {}
    for j in np.flatnonzero(graph.neuron_type[core]):
        alike.setdefault(words[:, j].tobytes() + graph.neuron_type[core, j].tobytes(), []).append(int(j))
    table = np.pad(graph.types.weight.astype(np.int64), ((0, 0), (0, 1)))  # the last: an unused axon
    kinds = np.minimum(graph.axon_type[core], table.shape[1] - 1)
    for copies in alike.values():
        kind = int(graph.neuron_type[core, copies[0]]) - 1
        reached = np.unpackbits(words[:, copies[0]].astype("<u8").view(np.uint8), count=len(kinds), bitorder="little")
        yield _column(reached * table[kind][kinds], int(graph.types.leak[kind]), powers, tuple(copies))


def _column(weight: NDArray[np.int64], leak: int, powers: int, copies: tuple[int, ...]) -> _Column:
    """Sum of weights + leak >= 1, with -w * x written as w * (1 - x) - w, so that only magnitudes are added."""
    by_power, largest, added = [], 0, 0
    for power in range(powers):
        chosen = (np.abs(weight) >> power) & 1 == 1
        plus, minus = _blocks(chosen & (weight > 0), 0), _blocks(chosen & (weight < 0), FLIP)
        by_power.append((*plus, *minus))
        # The filling of flipped blocks counts in every picture.
        added += (len(minus) - int((chosen & (weight < 0)).sum())) << power
        largest += (len(plus) + len(minus)) << power
    threshold = 1 - leak - int(weight[weight < 0].sum()) + added
    highest = max((power + 3 for power, entries in enumerate(by_power) if entries), default=0)
    planes = max(largest.bit_length(), max(threshold, 0).bit_length(), highest)
    return _Column(tuple(by_power), threshold, planes, copies)


def _blocks(chosen: Bits, flag: int) -> list[int]:
    """The chosen axons as whole blocks, `flag` on the first entry of each."""
    axons = np.flatnonzero(chosen).tolist()
    axons += [NOWHERE] * (-len(axons) % EIGHT)
    return [axon + (0 if i % EIGHT else flag) for i, axon in enumerate(axons)]

"""Small tiles into shared cores: two-dimensional bin packing by axons and neurons, largest first, best fit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deploy.chip import Chip

Count = NDArray[np.int64]


def pack(axons: Count, neurons: Count, chip: Chip) -> Count:
    """The core [T] of each tile, numbered from 0 without gaps. A tile that needs more neurons than a core has gets
    one to itself. Tiles of equal size are packed in their order, so neighbours share a core.
    """
    base = chip.neurons + 1
    numbers, kind_of = np.unique(axons * base + np.minimum(neurons, chip.neurons), return_inverse=True)
    kinds = np.stack(np.divmod(numbers, base), axis=1)
    items = np.split(np.argsort(kind_of, kind="stable"), np.cumsum(np.bincount(kind_of))[:-1])
    core_of = np.zeros(len(axons), np.int64)
    bins = _Bins(chip)
    share = kinds / (chip.axons, chip.neurons)
    for kind in sorted(range(len(kinds)), key=lambda i: (-share[i].max(), -share[i].sum())):
        bins.add(items[kind], int(kinds[kind, 0]), int(kinds[kind, 1]), core_of)
    return core_of


class _Bins:
    """Cores being filled, by what is left in them."""

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self._count = 0
        self._open: dict[tuple[int, int], Count] = {}

    def add(self, items: NDArray[np.intp], axons: int, neurons: int, core_of: Count) -> None:
        """Give every item of one size a core, in the fullest that hold it, then in new ones."""
        while len(items):
            fitting = [room for room in self._open if room[0] >= axons and room[1] >= neurons]
            if not fitting:
                self._fill_new(items, axons, neurons, core_of)
                return
            room = min(fitting, key=lambda left: left[0] / self._chip.axons + left[1] / self._chip.neurons)
            cores = self._open.pop(room)
            used = cores[: len(items)]
            core_of[items[: len(used)]] = used
            items = items[len(used) :]
            self._put(room, cores[len(used) :])
            self._put((room[0] - axons, room[1] - neurons), used)

    def _fill_new(self, items: NDArray[np.intp], axons: int, neurons: int, core_of: Count) -> None:
        """Empty cores, each filled with as many of the items as it holds."""
        limits = ((self._chip.axons, axons), (self._chip.neurons, neurons))
        each = min(limit // size for limit, size in limits if size)
        core_of[items] = self._count + np.arange(len(items)) // each
        whole, rest = divmod(len(items), each)
        for cores, held in ((np.arange(whole), each), (np.arange(whole, whole + 1), rest)):
            if held:
                left = self._chip.axons - held * axons, self._chip.neurons - held * neurons
                self._put(left, self._count + cores)
        self._count += -(-len(items) // each)

    def _put(self, room: tuple[int, int], cores: Count) -> None:
        if len(cores):
            self._open[room] = np.concatenate([self._open.get(room, cores[:0]), cores])

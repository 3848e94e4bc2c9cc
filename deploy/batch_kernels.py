"""The inner loops of batched evaluation, compiled: a bit a picture, a row of words for each axon and pin."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deploy.adders import LONGS, at_least, count, merge
from deploy.kernels import I32, Words


class Programs(NamedTuple):
    """What to add up: distinct neurons ("columns") of distinct cores ("programs"), one after another."""

    columns: I32  # [programs + 1]  columns of each
    entry_at: I32  # [columns, powers + 1]  entries of weight 2**p of each, whole blocks
    entry: NDArray[np.uint16]  # as `adders.count` reads them
    threshold: I32  # [columns]  fires where the counted sum reaches this
    planes: I32  # [columns]  bits of the largest sum, the threshold among them
    copies: I32  # [columns + 1]  neurons that fire alike
    copy: I32


class Places(NamedTuple):
    """Where each core's spikes go."""

    order: I32  # [C]  cores by their levels
    program: I32  # [C]
    target: NDArray[np.int64]  # [C, N]  row of an axon or a pin, -1: none


@njit(cache=True, nogil=True)
def run_batch(p: Programs, at: Places, rows: Words, axons: int) -> None:
    """One wave of 512 pictures. rows u64 [C * axons + pins + 1, LONGS]: the inputs are set, all else is 0."""
    sums, fires = np.empty((p.planes.max() if len(p.planes) else 0, LONGS), np.uint64), np.empty((1, LONGS), np.uint64)
    nowhere = len(rows) - 1
    for core in at.order:
        base = np.int64(core) * axons
        for column in range(p.columns[at.program[core]], p.columns[at.program[core] + 1]):
            planes = p.planes[column]
            for plane in range(planes):
                sums[plane] = 0
            for power in range(p.entry_at.shape[1] - 1):
                first, last = p.entry_at[column, power], p.entry_at[column, power + 1]
                if last > first:
                    count(rows, base, nowhere, p.entry, first, last, sums, power, planes)
            at_least(sums, planes, max(0, p.threshold[column]), fires)
            for i in range(p.copies[column], p.copies[column + 1]):
                if at.target[core, p.copy[i]] >= 0:
                    merge(rows, at.target[core, p.copy[i]], fires)

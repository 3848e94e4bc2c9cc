"""What this machine can do at most, measured on all its processors: memory read, words counted in cache."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from deploy.kernels import popcount

CACHED_WORDS = 1024  # the crossbar of a core: 8 KiB


def processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_gb_a_second(arrays: list[NDArray[np.uint64]]) -> float:
    """Gigabytes of memory read in a second, a thread an array; arrays far beyond the caches."""
    return sum(array.nbytes for array in arrays) / _seconds_together([partial(_read, a) for a in arrays]) / 1e9


def counted_gwords_a_second(threads: int, rounds: int) -> float:
    """10^9 words of 64 bits masked and counted in a second, all in the first cache."""
    words = np.random.default_rng(1).integers(0, 1 << 64, (threads, CACHED_WORDS), np.uint64)
    return threads * rounds * CACHED_WORDS / _seconds_together([partial(_count, row, rounds) for row in words]) / 1e9


def _seconds_together(works: Sequence[Callable[[], Any]]) -> float:
    with ThreadPoolExecutor(len(works)) as pool:
        list(pool.map(lambda work: work(), works[:1]))  # loads the kernel
        start = time.perf_counter()
        for done in [pool.submit(work) for work in works]:
            done.result()
        return time.perf_counter() - start


@njit(cache=True, nogil=True)
def _read(words: NDArray[np.uint64]) -> int:
    total = np.uint64(0)
    for i in range(len(words)):
        total += words[i]
    return int(total)


@njit(cache=True, nogil=True)
def _count(words: NDArray[np.uint64], rounds: int) -> int:
    total = np.uint64(0)
    for r in range(rounds):
        mask = np.uint64(r)
        for i in range(len(words)):
            total += popcount(words[i] & mask)
    return int(total)

"""Prioritised replay (Schaul et al. 2016): what was learnt badly is drawn more often, and weighs less when it is.

In the form of Dopamine's Rainbow: a row's priority is the square root of its last loss, its weight in an update the
inverse square root of its chance, scaled to 1 at most in a batch. A row that was never drawn has the highest priority
met so far.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

LEAST = 1e-5  # priority of what was learnt to perfection: it may be wrong again


class Priorities:
    """A sum tree over the rows of E rings of L rows: leaf e * L + row % L."""

    def __init__(self, n_envs: int, length: int, n_steps: int, unseen: int) -> None:
        """`n_steps` that must be known of a decision; the oldest `unseen` rows have no whole stack."""
        self._length, self._n, self._unseen = length, n_steps, unseen
        self._tree = np.zeros(2 << (n_envs * length - 1).bit_length())  # node i has the children 2i and 2i + 1
        self._top = 1.0
        self._known, self._gone = (
            np.zeros(n_envs, np.int64),
            np.zeros(n_envs, np.int64),
        )  # rows up to which that was seen

    def renew(self, flags: NDArray[np.uint8], head: NDArray[np.int64], idle: int) -> None:
        """Rows have been added: `head` [E] of each ring; those with a flag of `idle` are never drawn."""
        _renew(self._tree, flags, head, self._known, self._gone, self._n, self._unseen, idle, self._top)

    def draw(self, rng: np.random.Generator, batch: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Leaves [B], one from each of B equal parts of all priority, and their weights [B]."""
        leaves, weight = np.empty(batch, np.int64), np.empty(batch)
        _draw(self._tree, (np.arange(batch) + rng.random(batch)) / batch, leaves, weight)
        return leaves, (weight / weight.max()).astype(np.float32)

    def learnt(self, leaves: NDArray[np.int64], losses: NDArray[np.float32]) -> None:
        """Losses [B] of leaves [B]; a row that has been overwritten since is left alone."""
        priority = np.sqrt(losses.astype(np.float64)) + LEAST
        self._top = max(self._top, float(priority.max()))
        _learnt(self._tree, leaves, priority)

    @property
    def leaves(self) -> NDArray[np.float64]:
        """What each row weighs [E * L]; 0 where none can be drawn."""
        half = len(self._tree) // 2
        return self._tree[half : half + len(self._known) * self._length].copy()

    @property
    def top(self) -> float:
        """The highest priority met so far."""
        return self._top

    def restore(self, leaves: NDArray[np.float64], top: float) -> None:
        """What rows weighed before [E * L], where they can still be drawn."""
        self._top = top
        _restore(self._tree, leaves)


@numba.njit(cache=True)
def _set(tree, leaf, priority):  # type: ignore[no-untyped-def]
    node = leaf + len(tree) // 2
    tree[node] = priority
    while node > 1:
        node //= 2
        tree[node] = tree[2 * node] + tree[2 * node + 1]  # from both: differences would drift


@numba.njit(cache=True)
def _renew(tree, flags, head, known, gone, n, unseen, idle, top):  # type: ignore[no-untyped-def]
    length = flags.shape[1]
    for e in range(len(head)):
        oldest = head[e] - length + unseen if head[e] > length else 0
        for row in range(max(gone[e], oldest - length), oldest):
            _set(tree, e * length + row % length, 0.0)
        gone[e] = max(gone[e], oldest)
        for row in range(max(known[e], oldest), head[e] - n):
            if not flags[e, row % length] & idle:
                _set(tree, e * length + row % length, top)
        known[e] = max(known[e], head[e] - n)


@numba.njit(cache=True)
def _restore(tree, leaves):  # type: ignore[no-untyped-def]
    for leaf in range(len(leaves)):
        if leaves[leaf] > 0 and tree[leaf + len(tree) // 2] > 0:
            _set(tree, leaf, leaves[leaf])


@numba.njit(cache=True)
def _draw(tree, shares, leaves, weight):  # type: ignore[no-untyped-def]
    half = len(tree) // 2
    for b in range(len(shares)):
        left, node = shares[b] * tree[1], 1
        while node < half:
            node *= 2
            if left >= tree[node] and tree[node + 1] > 0:
                left -= tree[node]
                node += 1
        leaves[b] = node - half
        weight[b] = (tree[1] / tree[node]) ** 0.5


@numba.njit(cache=True)
def _learnt(tree, leaves, priority):  # type: ignore[no-untyped-def]
    for b in range(len(leaves)):
        if tree[leaves[b] + len(tree) // 2] > 0:
            _set(tree, leaves[b], priority[b])

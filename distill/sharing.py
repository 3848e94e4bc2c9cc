"""One batch in several parts, in threads and in processes: what a layer must know of all of it is added up."""

from __future__ import annotations

import threading
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from rl.parallel import ALONE, Team

F64 = NDArray[np.float64]


class Sharing(Protocol):
    """Where one part of a batch meets the others."""

    def total(self, own: F64) -> F64:
        """The sum over all parts of an array that each of them has."""
        ...


class Whole:
    """A batch in one part."""

    def total(self, own: F64) -> F64:
        return own


WHOLE = Whole()


class Seat:
    """One thread's place at a table."""

    def __init__(self, table: Table, number: int) -> None:
        self._table, self._number = table, number

    def total(self, own: F64) -> F64:
        return self._table.total(self._number, own)


class Table:
    """Threads that wait for one another at every sum; of several processes, one thread of each speaks for it.

    Parts are added in the order of their seats: equal parts give an equal sum, to the bit.
    """

    def __init__(self, parts: int, team: Team = ALONE) -> None:
        self._team, self._given = team, [np.zeros(0)] * parts
        self._sum = np.zeros(0)
        self._meeting = threading.Barrier(parts, action=self._add)
        self.seats: list[Seat] = [Seat(self, number) for number in range(parts)]

    def total(self, number: int, own: F64) -> F64:
        self._given[number] = own
        self._meeting.wait()
        return self._sum  # stands until all have come again, so all have read it

    def _add(self) -> None:
        together = self._given[0].copy()
        for part in self._given[1:]:
            together += part
        self._sum = self._team.total(torch.from_numpy(together)).numpy()

    def leave(self) -> None:
        """One part failed: the others must not wait for it."""
        self._meeting.abort()

"""What levels that stand still say of a picture, and what its teacher hints: worked out once, kept from then on.

The first levels have the largest maps and are most of an update. Once they learn no more their bits are the same at
every draw, so a picture needs to be shown to them once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.sources import Lesson
from rl.memory import need_memory

Rows = NDArray[np.int64]
Shown = Callable[[Tensor], tuple[Tensor, Tensor | None]]  # stacks [B, 21, 21, 64] -> bits [B, N] packed, hints [B, K]


class Memo:
    """Packed bits and hints of R rows, as far as they are known."""

    def __init__(self, rows: int, words: int, hints: int) -> None:
        """Raises MemoryError before it takes any."""
        need_memory(rows * (words + 4 * hints), "distill", "lower distill.still_decisions or distill.online_rows")
        self._bits: NDArray[np.uint8] = np.zeros((rows, words), np.uint8)
        self._hints: NDArray[np.float32] = np.zeros((rows, hints), np.float32)
        self._known = np.zeros(rows, np.bool_)

    def note(self, rows: Rows, bits: Tensor, hints: Tensor | None) -> None:
        """Rows, of pictures that are new there, are known from now on."""
        self._bits[rows], self._known[rows] = bits.numpy(), True
        if hints is not None:
            self._hints[rows] = hints.numpy()

    def forget(self) -> None:
        """Nothing is known of any row from now on."""
        self._known[:] = False

    def look(self, rows: Rows, find: Callable[[Rows], tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor | None]:
        """Bits [B, N] and hints [B, K] of rows; what is not known of them is found, and known from then on."""
        fresh = np.unique(rows[~self._known[rows]])
        if len(fresh):
            self.note(fresh, *find(fresh))
        hinted = torch.from_numpy(self._hints[rows]) if self._hints.size else None
        return torch.from_numpy(self._bits[rows]), hinted


class Source(Protocol):
    """Where lessons come from, by row."""

    unit: float

    def draw(self, rng: np.random.Generator, batch: int) -> Rows: ...

    def pictures(self, rows: Rows) -> Tensor: ...

    def labels(self, rows: Rows) -> Tensor: ...


class Remembering:
    """A source whose lessons hold what is remembered of their pictures in place of the pictures."""

    def __init__(self, source: Source, memo: Memo, shown: Shown, among: Rows | None = None) -> None:
        """`among`: the rows that are drawn from now on, the memo's in this order; None: all, by their own number."""
        self._source, self._memo, self._shown, self._among = source, memo, shown, among

    def lesson(self, rng: np.random.Generator, batch: int) -> Lesson:
        """As of the source itself."""
        places = self._places(rng, batch)
        bits, hints = self._memo.look(places, lambda fresh: self._shown(self._source.pictures(self._rows(fresh))))
        nothing = torch.empty((batch, 0), dtype=torch.uint8)
        labels = self._source.labels(self._rows(places))
        return Lesson(nothing, labels, self._source.unit, hints=hints, known=bits)

    def note(self, rows: Rows, bits: Tensor, hints: Tensor | None) -> None:
        """What is said of pictures that are new in these rows of the source."""
        self._memo.note(rows, bits, hints)

    def forget(self) -> None:
        """What is remembered is shown anew when it is drawn."""
        self._memo.forget()

    def _places(self, rng: np.random.Generator, batch: int) -> Rows:
        if self._among is None:
            return self._source.draw(rng, batch)
        return rng.integers(len(self._among), size=batch)

    def _rows(self, places: Rows) -> Rows:
        return places if self._among is None else self._among[places]

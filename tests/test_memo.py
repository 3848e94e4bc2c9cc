"""What is remembered of pictures: packed bits, found once, replaced where other pictures come to lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.memo import Memo
from distill.packing import packed, unpacked

SHAPE = (2, 3, 5)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_packed_bits_come_back_whatever_their_number(batch, side, features, seed):
    rng = np.random.default_rng(seed)
    bits = torch.from_numpy(rng.integers(0, 2, (batch, side, side, features)))
    words = packed(bits.bfloat16())
    assert words.dtype == torch.uint8 and words.shape == (batch, -(-side * side * features // 8))
    for kind in (torch.bfloat16, torch.float32):
        assert torch.equal(unpacked(words, (side, side, features), kind), bits.to(kind))


def test_the_first_bit_is_the_lowest():
    assert packed(torch.tensor([[1.0, 0, 0, 1, 0, 0, 0, 0, 1]]).view(1, 1, 1, 9)).tolist() == [[9, 1]]


class Finder:
    """What is found of row r: r as its one word, -r as its one hint."""

    def __init__(self, hinted: bool = True) -> None:
        self.asked: list[list[int]] = []
        self.hinted = hinted

    def __call__(self, rows):
        self.asked.append(rows.tolist())
        words = torch.from_numpy(rows[:, None].astype(np.uint8))
        return words, -words.float() if self.hinted else None


def test_each_row_is_found_once_even_if_it_is_drawn_twice():
    own, find = Memo(7, 1, 1), Finder()
    bits, hints = own.look(np.array([5, 2, 5]), find)
    assert (bits.flatten().tolist(), hints.flatten().tolist()) == ([5, 2, 5], [-5, -2, -5])
    bits, _ = own.look(np.array([2, 6]), find)
    assert bits.flatten().tolist() == [2, 6]
    assert find.asked == [[2, 5], [6]]
    own.look(np.array([5, 6]), find)
    assert len(find.asked) == 2


def test_what_is_noted_takes_the_place_of_what_was_found_and_is_not_looked_for():
    own, find = Memo(7, 1, 1), Finder()
    own.look(np.array([1, 3]), find)
    own.note(np.array([3, 4]), torch.tensor([[8], [9]], dtype=torch.uint8), torch.tensor([[0.5], [0.25]]))
    bits, hints = own.look(np.array([4, 1, 3]), find)
    assert (bits.flatten().tolist(), hints.flatten().tolist()) == ([9, 1, 8], [0.25, -1, 0.5])
    assert find.asked == [[1, 3]]


def test_what_is_forgotten_is_found_again():
    own, find = Memo(7, 1, 1), Finder()
    for _ in range(2):
        own.look(np.array([1, 3]), find)
        own.forget()
    assert find.asked == [[1, 3], [1, 3]]


def test_without_hints_there_are_none():
    assert Memo(7, 1, 0).look(np.array([1]), Finder(hinted=False))[1] is None


def test_a_memory_that_does_not_fit_is_refused_before_it_is_taken(monkeypatch):
    monkeypatch.setattr("rl.memory.available_bytes", lambda: 1_000)
    with pytest.raises(MemoryError, match=r"distill.*lower distill.still_decisions or distill.online_rows"):
        Memo(100, 9, 2)

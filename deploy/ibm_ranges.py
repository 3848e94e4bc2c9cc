"""The lists of IBM's model files, integers and "a:b", "a:step:b", "VxN": expanded, and written back as IBM does."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

Item = int | str
_RANGE = re.compile(r"(-?\d{1,9}):(?:(-?\d{1,9}):)?(-?\d{1,9})")
_REPEAT = re.compile(r"(-?\d{1,9})x(\d{1,9})")


def expand(items: Sequence[object], limit: int) -> list[int]:
    """The integers of a list; raises ValueError naming the item that is none or leads beyond `limit` values."""
    values: list[int] = []
    for place, item in enumerate(items):
        span = _span(item)
        if span is None:
            raise ValueError(f"item {place} is {str(item)[:40]!r}, allowed are integers, 'a:b', 'a:step:b' and 'VxN'")
        # Lengths are known before anything is made: "0:999999999" must cost nothing.
        count, numbers = span
        if len(values) + count > limit:
            raise ValueError(f"more than {limit} values at item {place}, {str(item)[:40]!r}")
        values.extend(numbers)
    return values


def _span(item: object) -> tuple[int, Iterable[int]] | None:
    """How many values an item stands for, and these; None where it is no such item."""
    if type(item) is int:
        return 1, (item,)
    if not isinstance(item, str):
        return None
    if found := _REPEAT.fullmatch(item):
        count = int(found[2])
        return (count, itertools.repeat(int(found[1]), count)) if count else None
    found = _RANGE.fullmatch(item)
    if not found:
        return None
    first, step, last = int(found[1]), int(found[2] or 1), int(found[3])
    if step == 0 or (last - first) * step < 0 or (last - first) % step:
        return None
    numbers = range(first, last + (1 if step > 0 else -1), step)
    return len(numbers), numbers


def compress(values: Sequence[int]) -> list[Item]:
    """Left to right, three or more equal values or equal steps as one item: how IBM's environment writes lists."""
    items: list[Item] = []
    at = 0
    while at < len(values):
        length = _run(values, at)
        first, step = values[at], values[at + 1] - values[at] if length > 1 else 0
        if length < 3:
            items.append(first)
            at += 1
            continue
        items.append(_spelt(first, step, length))
        at += length
    return items


def repeat(value: int, count: int) -> list[Item]:
    """One value for the rest of a list: written as "VxN" even where N is 1."""
    return [f"{value}x{count}"] if count else []


def _run(values: Sequence[int], at: int) -> int:
    """How many values from there on have one step."""
    end = at + 1
    while end < len(values) and values[end] - values[end - 1] == values[at + 1] - values[at]:
        end += 1
    return end - at


def _spelt(first: int, step: int, length: int) -> str:
    if step == 0:
        return f"{first}x{length}"
    last = first + step * (length - 1)
    return f"{first}:{last}" if step == 1 else f"{first}:{step}:{last}"

"""JSON of foreign formats: integers only, no key twice, C comments where allowed; every fault by line and column."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.files import FormatError

SHOWN = 20  # faults listed in one error
Where = tuple[str | int, ...]  # keys and indices from the top; a repeated key is followed by its count from 0
# Every alternative also takes what is not closed up to the end: no text makes these take more than linear time.
_COMMENT = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z))|/\*.*?(?:\*/|\Z)|//[^\n]*', re.DOTALL)
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_INTEGER = re.compile(r"-?\d{1,4300}")


class Repeated(list[Any]):
    """The values of a key that one object holds several times, in order."""


class _RefusedError(ValueError):
    """Legal JSON that these formats do not allow."""


def read_text(data: bytes, source: Path | str) -> str:
    """UTF-8 with or without a byte order mark; raises FormatError at the first byte that is none."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise FormatError(f"{source}: byte {cause.start} is no UTF-8 text; name a text file") from cause


def parse(text: str, source: Path | str, comments: bool = False, repeats: Collection[str] = ()) -> dict[str, Any]:
    """The object that a text holds; raises FormatError with line, column and reason.

    Keys of `repeats` may stand several times in one object and then give `Repeated`.
    """
    plain = blank_comments(text) if comments else text

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        return made if len(made) == len(pairs) else _gather(pairs, repeats)

    try:
        top = json.loads(plain, object_pairs_hook=members, parse_float=_no_float, parse_constant=_no_float)
    except json.JSONDecodeError as cause:
        raise FormatError(_at(source, cause.lineno, cause.colno, f"{cause.msg}; mend the text")) from cause
    except RecursionError as cause:
        raise FormatError(f"{source}: brackets nested too deep; no such file has more than a dozen levels") from cause
    except ValueError as cause:
        where = _first_refused(plain, repeats)
        line, column = _line(plain, where) if where >= 0 else (1, 1)
        reason = cause if isinstance(cause, _RefusedError) else "a number of too many digits"
        raise FormatError(_at(source, line, column, f"{reason}, allowed are integers and keys that differ")) from cause
    if not isinstance(top, dict):
        raise FormatError(_at(source, 1, 1, f"found {type(top).__name__}, must be one object; name a model file"))
    return top


class Checker:
    """Reads members of parsed objects and notes every fault instead of stopping at the first."""

    def __init__(self) -> None:
        self.faults: list[tuple[Where, str]] = []

    def fault(self, where: Where, reason: str) -> None:
        self.faults.append((where, reason))

    def known(self, holder: Mapping[str, Any], allowed: Collection[str], where: Where) -> None:
        """No other keys: what is not known might decide something."""
        for key in holder:
            if key not in allowed:
                self.fault((*where, key), f"unknown key, allowed {', '.join(sorted(allowed))}")

    def integer(self, holder: Mapping[str, Any], key: str, where: Where, low: int, high: int) -> int:
        """The integer of that key; a legal one where it is missing or wrong."""
        value = holder.get(key)
        if type(value) is int and low <= value <= high:
            return value
        said = "missing" if key not in holder else f"found {str(value)[:40]}, allowed integers {low}..{high}"
        self.fault((*where, key), said)
        return max(low, 0)


def faults_error(
    source: Path | str, text: str, faults: Sequence[tuple[Where, str]], repeats: Collection[str] = ()
) -> FormatError:
    """One error that lists faults by place: line, column, the keys that lead there, the reason."""
    found = _positions(
        blank_comments(text), {where[:n] for where, _ in faults[:SHOWN] for n in range(len(where) + 1)}, repeats
    )
    lines = []
    for where, reason in faults[:SHOWN]:
        # What is missing is shown where the object begins that lacks it.
        nearest = next(where[:n] for n in range(len(where), -1, -1) if where[:n] in found or not n)
        line, column = found.get(nearest, (1, 1))
        lines.append(f"line {line}, column {column}: {spell(where)}: {reason}")
    if len(faults) > SHOWN:
        lines.append(f"and {len(faults) - SHOWN} more")
    return FormatError(f"{source}: {len(faults)} fields are wrong; mend the file\n" + "\n".join(lines))


def spell(where: Where) -> str:
    """("core", 2, "neurons", "types", 0) -> core[2].neurons.types[0]"""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where).removeprefix(".") or "top"


def blank_comments(text: str) -> str:
    """The text with spaces in place of comments."""
    return _COMMENT.sub(_blank, text)


def _blank(found: re.Match[str]) -> str:
    """Strings as they are; comments as spaces, lines kept, so that positions stay true."""
    return found[1] if found[1] is not None else re.sub(r"[^\n]", " ", found[0])


def _gather(pairs: list[tuple[str, Any]], repeats: Collection[str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, count in Counter(name for name, _ in pairs).items():
        values = [value for key, value in pairs if key == name]
        if count > 1 and name not in repeats:
            raise _RefusedError(f"key {name!r} stands {count} times")
        made[name] = Repeated(values) if count > 1 else values[0]
    return made


def _no_float(token: str) -> Any:
    raise _RefusedError(f"found {token[:40]}")


def _at(source: Path | str, line: int, column: int, reason: str) -> str:
    return f"{source}: line {line}, column {column}: {reason}"


def _line(text: str, offset: int) -> tuple[int, int]:
    """Line and column, both from 1, of a place in a text."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


@dataclass
class _Level:
    """One open bracket of a text: where in it the walk is."""

    counts: Counter[str] | None  # of an object's keys so far; None: a list
    step: str | int
    awaits: bool = False  # an object's key is read, its value comes


@dataclass(frozen=True)
class _Found:
    """A key or a value of a text."""

    where: Where
    offset: int
    word: str
    is_key: bool
    count: int  # of a key so far


def _scan(text: str, repeats: Collection[str]) -> Iterator[_Found]:
    """Keys and values in order, of a text that is JSON at least up to where the caller stops."""
    levels: list[_Level] = []
    for token in _TOKEN.finditer(text):
        word, level = token[0], levels[-1] if levels else None
        if word in ("}", "]"):
            if not levels:
                return
            levels.pop()
        elif word == "," and level and isinstance(level.step, int):
            level.step += 1
        elif word == ":" and level:
            level.awaits = True
        elif level and level.counts is not None and not level.awaits and word[0] == '"':
            level.step = json.loads(word) if "\\" in word else word[1:-1]
            level.counts[level.step] += 1
            yield _Found(_where(levels, repeats), token.start(), word, True, level.counts[level.step])
        elif word not in (",", ":"):
            yield _Found(_where(levels, repeats), token.start(), word, False, 0)
            if level:
                level.awaits = False
            if word in ("{", "["):
                levels.append(_Level(Counter(), "") if word == "{" else _Level(None, 0))


def _where(levels: list[_Level], repeats: Collection[str]) -> Where:
    steps: list[str | int] = []
    for depth, level in enumerate(levels):
        steps.append(level.step)
        if depth == 0 and level.counts is not None and level.step in repeats:
            steps.append(level.counts[str(level.step)] - 1)
    return tuple(steps)


def _first_refused(text: str, repeats: Collection[str]) -> int:
    """Offset of the first number that is no integer of bearable length or key that stands twice, -1: none."""
    for found in _scan(text, repeats):
        twice = found.is_key and found.count > 1 and found.where[-1] not in repeats
        number = not found.is_key and found.word[0] not in '"{[' and found.word not in ("true", "false", "null")
        if twice or (number and not _INTEGER.fullmatch(found.word)):
            return found.offset
    return -1


def _positions(text: str, wanted: set[Where], repeats: Collection[str]) -> dict[Where, tuple[int, int]]:
    """Line and column of the values at these places; of the key's own place where a value is missing."""
    return {found.where: _line(text, found.offset) for found in _scan(text, repeats) if found.where in wanted}

"""Settings: YAML owns values, frozen dataclasses own names and types; unknown and missing keys are errors."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class SettingsError(ValueError):
    """A setting that is unknown, missing or of the wrong type or value."""


def build(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """Make a settings dataclass from plain values; every wrong key and value in one SettingsError."""
    if not isinstance(values, Mapping):
        raise SettingsError(f"{where}: found {values!r}, must be a group of keys")
    hints = typing.get_type_hints(kind)
    problems = [
        *_unknown(values, hints, where),
        *(f"{within(where, k)}: missing" for k in sorted(hints.keys() - values)),
    ]
    made: dict[str, Any] = {}
    for key, hint in hints.items():
        if key not in values:
            continue
        try:
            made[key] = _value(hint, values[key], within(where, key))
        except SettingsError as problem:
            problems.append(str(problem))
    if problems:
        raise SettingsError("\n".join(problems))
    try:
        return kind(**made)
    except SettingsError as problem:
        raise SettingsError(_from_the_root(str(problem), where)) from None


def _from_the_root(problem: str, where: str) -> str:
    """A record's own complaint, which begins with the name of its group, with that of what the group lies in before."""
    above, _, _ = where.rpartition(".")
    return problem if problem.startswith(f"{above.partition('.')[0]}.") else within(above, problem)


def within(where: str, key: str) -> str:
    """The name of a key of a group; of the outermost one, which has no name, the key alone."""
    return f"{where}.{key}" if where else key


def _unknown(values: Mapping[str, Any], hints: Mapping[str, Any], where: str) -> list[str]:
    return [within(where, unknown(key, hints)) for key in sorted(str(key) for key in values.keys() - hints.keys())]


def unknown(key: str, known: Iterable[str]) -> str:
    """The complaint about a key that does not exist, with the nearest one that does."""
    names = sorted(set(known))
    near = difflib.get_close_matches(key, names, n=1)
    return f"{key}: unknown key; " + (f"did you mean {near[0]}?" if near else f"allowed {', '.join(names)}")


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise SettingsError(f"{where}: found {value!r}, must be a list")
        return tuple(_value(typing.get_args(hint)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return None if value is None else _value(typing.get_args(hint)[0], value, where)
    return _scalar(hint, value, where)


def _scalar(hint: type, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise SettingsError(f"{where}: found {value!r}, must be of type {hint.__name__}")
    return value


def need(ok: bool, where: str, found: Any, allowed: str) -> None:
    """Raise SettingsError unless ok: *where: found ..., allowed ...*."""
    if not ok:
        raise SettingsError(f"{where}: found {found!r}, allowed {allowed}")


def need_begun_alike(where: str, name: str, begun: Any, asked: Any) -> None:
    """Raise SettingsError where a run that goes on began as another model and that is not asked, or the reverse."""
    if bool(begun) != bool(asked):
        found = "as another model" if begun else "from nothing"
        raise SettingsError(f"{where}: begun {found}, {name} says otherwise; say it as then, or use another root=...")

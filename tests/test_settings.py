"""Settings: every wrong key and value in one message."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from rl.settings import SettingsError, build, need


@dataclass(frozen=True)
class Inner:
    depth: int
    rate: float

    def __post_init__(self) -> None:
        need(self.depth >= 0, "inner.depth", self.depth, "0 or more")
        need(self.rate > 0, "top.inner.rate", self.rate, "above 0")  # named in full


@dataclass(frozen=True)
class Outer:
    name: str
    widths: tuple[int, ...]
    limit: float | None
    on: bool
    inner: Inner

    def __post_init__(self) -> None:
        need(self.name != "", "name", self.name, "any but none")


GOOD = {"name": "a", "widths": [3, 5], "limit": None, "on": True, "inner": {"depth": 2, "rate": 0.5}}


def test_plain_values_become_records():
    assert build(Outer, GOOD, "top") == Outer("a", (3, 5), None, True, Inner(2, 0.5))


def test_a_whole_number_will_do_for_a_float():
    built = build(Outer, GOOD | {"limit": 3, "inner": {"depth": 2, "rate": 1}}, "top")
    assert (type(built.limit), type(built.inner.rate)) == (float, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widhts": 1}, r"^top\.widhts: unknown key; did you mean widths\?$"),
        ({"zzz": 1}, r"^top\.zzz: unknown key; allowed inner, limit, name, on, widths$"),
        ({7: 1}, r"^top\.7: unknown key; allowed"),
        ({"name": 3}, r"^top\.name: found 3, must be of type str$"),
        ({"name": None}, r"^top\.name: found None, must be of type str$"),
        ({"on": 1}, r"^top\.on: found 1, must be of type bool$"),
        ({"widths": 3}, r"^top\.widths: found 3, must be a list$"),
        ({"widths": "35"}, r"^top\.widths: found '35', must be a list$"),
        ({"widths": [3, 0.5]}, r"^top\.widths\[1\]: found 0\.5, must be of type int$"),
        ({"widths": [True]}, r"^top\.widths\[0\]: found True, must be of type int$"),
        ({"limit": "3"}, r"^top\.limit: found '3', must be of type float$"),
        ({"limit": True}, r"^top\.limit: found True, must be of type float$"),
        ({"inner": 3}, r"^top\.inner: found 3, must be a group of keys$"),
        ({"inner": {"depth": 1}}, r"^top\.inner\.rate: missing$"),
        ({"inner": {"depth": 1.0, "rate": 1}}, r"^top\.inner\.depth: found 1\.0, must be of type int$"),
        ({"name": ""}, r"^name: found '', allowed any but none$"),
        ({"inner": {"depth": -1, "rate": 1}}, r"^top\.inner\.depth: found -1, allowed 0 or more$"),
        ({"inner": {"depth": 1, "rate": 0}}, r"^top\.inner\.rate: found 0\.0, allowed above 0$"),
    ],
)
def test_a_wrong_setting_is_named(change, message):
    with pytest.raises(SettingsError, match=message):
        build(Outer, GOOD | change, "top")


def test_all_that_is_wrong_is_said_at_once():
    values = {"nmae": "a", "widths": [], "limit": "x", "on": True, "inner": {"depht": 1, "rate": "fast"}}
    with pytest.raises(SettingsError) as found:
        build(Outer, values, "top")
    assert str(found.value).splitlines() == [
        "top.nmae: unknown key; did you mean name?",
        "top.name: missing",
        "top.limit: found 'x', must be of type float",
        "top.inner.depht: unknown key; did you mean depth?",
        "top.inner.depth: missing",
        "top.inner.rate: found 'fast', must be of type float",
    ]


def test_no_group_at_all_is_refused():
    with pytest.raises(SettingsError, match=r"^top: found \[1\], must be a group of keys$"):
        build(Outer, [1], "top")  # type: ignore[arg-type]

"""JSON of foreign formats: integers, keys that differ, comments; each fault by line and column."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.files import FormatError
from deploy.strict_json import SHOWN, Repeated, faults_error, parse, read_text, spell

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=5), st.booleans())
def test_what_the_standard_library_writes_is_read_alike(facts: dict[str, object], comments: bool) -> None:
    assert parse(json.dumps(facts), "a", comments) == facts


def test_comments_are_read_where_allowed_and_strings_keep_what_looks_like_one() -> None:
    text = '{"a": 1, /* "b": [ */ "c": "/* no */ // no", // to the end "d": 2\n "e": [1 /**/, 2]}'
    assert parse(text, "a", comments=True) == {"a": 1, "c": "/* no */ // no", "e": [1, 2]}
    with pytest.raises(FormatError, match=r"a: line 1, column 10: .*; mend the text"):
        parse(text, "a")


def test_a_named_key_may_stand_several_times_in_order() -> None:
    found = parse('{"core": 2, "x": 0, "core": 1}', "a", repeats=("core",))
    assert isinstance(found["core"], Repeated) and list(found["core"]) == [2, 1]
    assert parse('{"core": 2}', "a", repeats=("core",)) == {"core": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,\n "b": }', r"f: line 2, column 7: Expecting value"),
        (
            '{"a": 1,\n "a": 2}',
            r"f: line 2, column 2: key 'a' stands 2 times, allowed are integers and keys that differ",
        ),
        ('{"a": [0, 1.0]}', r"f: line 1, column 11: found 1\.0, allowed are integers"),
        ('{"a": -1e5}', r"f: line 1, column 7: found -1e5"),
        ('{"a":\n NaN}', r"f: line 2, column 2: found NaN"),
        ('{"a": -Infinity}', r"f: line 1, column 7: found -Infinity"),
        ('{"a": ' + "7" * 5000 + "}", r"f: line 1, column 7: a number of too many digits"),
        ('{"a": ' + "[" * 200_000, r"f: brackets nested too deep"),
        ('{"a": "\n"}', r"f: line 1, column 8: Invalid control character"),
        ("[1]", r"f: line 1, column 1: found list, must be one object"),
        ("", r"f: line 1, column 1: Expecting value"),
        ('{"a": 1} x', r"f: line 1, column 10: Extra data"),
    ],
)
def test_a_fault_is_told_with_line_and_column(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse(text, "f")


def test_faults_of_meaning_are_placed_too_and_all_at_once() -> None:
    text = '{ /* 1\n 2 */ "core": {"a": [0, {"b": 5}]},\n"core":\n {"a": 7}, "\\u0078": 3}'
    faults = [
        (("core", 0, "a", 1, "b"), "one"),
        (("core", 1, "a"), "two"),
        (("core", 1, "missing"), "three"),
        (("x",), "four"),
        (("nowhere", 4), "five"),
    ]
    error = str(faults_error("f", text, faults, repeats=("core",)))
    assert error.splitlines() == [
        "f: 5 fields are wrong; mend the file",
        "line 2, column 31: core[0].a[1].b: one",
        "line 4, column 8: core[1].a: two",
        "line 4, column 2: core[1].missing: three",
        "line 4, column 22: x: four",
        "line 1, column 1: nowhere[4]: five",
    ]


def test_of_many_faults_the_first_are_shown_and_the_rest_counted() -> None:
    error = str(faults_error("f", "{}", [(("a",), "wrong")] * (SHOWN + 3)))
    assert error.count("wrong") == SHOWN + 1 and error.endswith("and 3 more")


def test_places_are_spelt_as_in_code() -> None:
    assert spell(("core", 2, "types", 0)) == "core[2].types[0]"
    assert spell(()) == "top"


def test_a_byte_order_mark_is_skipped_and_other_bytes_are_refused() -> None:
    assert read_text(b"\xef\xbb\xbf{}", "f") == "{}"
    with pytest.raises(FormatError, match=r"f: byte 2 is no UTF-8 text"):
        read_text(b"{}\xff", "f")


@pytest.mark.parametrize("text", ['{"a": ' + '\\"' * 200_000, "{" + "/*" * 200_000, '{"a": "' + "\\" * 200_001])
def test_text_that_is_never_closed_is_refused_in_one_pass(text: str) -> None:
    # Looking for the end from every beginning would take hours here.
    with pytest.raises(FormatError, match=r"f: line 1, column \d+: "):
        parse(text, "f", comments=True)

"""Panels: whole XML, everything on the sheet, places that are the values, numbers on an axis that never meet."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.curves import COLOURS
from deploy.panels import COLUMNS, WIDTH, Panel, Section, Sheet, Span, axis, panels_svg

SVG = "{http://www.w3.org/2000/svg}"
PLAYERS = ("teacher", "student", "a < b")


def sheet(*sections, players=PLAYERS):
    return Sheet("three & more", "5 episodes", players, sections)


def one(*spans, title="IQM"):
    return Section("Share", (Panel(title, spans),))


def two():
    return one(Span("teacher", 4.0, 0.0, 10.0), Span("a < b", 6.0, 5.0, 8.0))


def drawn(shown):
    return ElementTree.fromstring(panels_svg(shown))


def bars(tree):
    return [node for node in tree.iter(f"{SVG}rect") if node.get("fill-opacity")]


def test_equal_sheets_are_equal_text_and_others_differ():
    assert panels_svg(sheet(two())) == panels_svg(sheet(two()))
    assert panels_svg(sheet(two())) != panels_svg(sheet(one(Span("teacher", 4.0, 0.0, 10.0))))


def test_words_are_shown_as_they_are():
    texts = [node.text for node in drawn(sheet(two())).iter(f"{SVG}text")]
    assert texts[:2] == ["three & more", "5 episodes"]
    assert {"Share", "IQM", *PLAYERS, "0", "5", "10"} <= set(texts)


def test_bars_and_strokes_are_in_proportion_to_values():
    tree = drawn(sheet(two()))
    (x1, width1), (x2, width2) = ((float(n.get("x")), float(n.get("width"))) for n in bars(tree))
    assert width2 / width1 == pytest.approx(0.3, abs=0.005)
    assert (x2 - x1) / width1 == pytest.approx(0.5, abs=0.005)
    strokes = [float(n.get("x1")) for n in tree.iter(f"{SVG}line") if n.get("stroke") in COLOURS]
    assert [(x - x1) / width1 for x in strokes] == pytest.approx([0.4, 0.6], abs=0.005)


def test_a_player_keeps_its_row_and_colour_where_another_is_absent():
    names = {n.text: n for n in drawn(sheet(two())).iter(f"{SVG}text")}
    for node, player in zip(bars(drawn(sheet(two()))), ("teacher", "a < b"), strict=True):
        assert node.get("fill") == names[player].get("fill") == COLOURS[PLAYERS.index(player)]
        assert abs(float(node.get("y")) + 6 - (float(names[player].get("y")) - 4)) < 0.2


def test_panels_go_on_in_a_new_row():
    many = Section(
        "Each game", tuple(Panel(f"game {i}", (Span("teacher", i, i - 1, i + 1),)) for i in range(2 * COLUMNS + 1))
    )
    places = {n.text: (float(n.get("x")), float(n.get("y"))) for n in drawn(sheet(many)).iter(f"{SVG}text")}
    rows = [places[f"game {i}"] for i in range(2 * COLUMNS + 1)]
    assert [x for x, _ in rows[:COLUMNS]] == [x for x, _ in rows[COLUMNS : 2 * COLUMNS]]
    assert len({y for _, y in rows}) == 3


SPANS = st.tuples(st.floats(-1e5, 1e5), st.floats(0, 1e4), st.floats(0, 1e4)).map(
    lambda drawn: Span("teacher", drawn[0], drawn[0] - drawn[1], drawn[0] + drawn[2])
)


@given(st.lists(SPANS, min_size=1, max_size=7))
def test_everything_lies_on_the_sheet_and_numbers_of_an_axis_never_meet(spans):
    tree = drawn(sheet(Section("s", tuple(Panel("p", (span,)) for span in spans))))
    height = float(tree.get("height"))
    for node in tree.iter():
        for name, room in (("x1", WIDTH), ("x2", WIDTH), ("x", WIDTH), ("y1", height), ("y2", height), ("y", height)):
            assert 0 <= float(node.get(name, 0)) <= room
    numbers = [n for n in tree.iter(f"{SVG}text") if n.get("font-size") == "11"]
    by_row = sorted((float(n.get("y")), float(n.get("x")), len(n.text)) for n in numbers)
    assert all(b[1] - a[1] >= 3 * (a[2] + b[2]) for a, b in pairwise(by_row) if a[0] == b[0])


@given(st.lists(SPANS, min_size=1, max_size=4))
def test_an_axis_is_wider_than_all_it_holds(spans):
    low, high = axis(spans)
    assert all(low < span.low and span.high < high for span in spans)


def test_a_span_of_no_width_still_has_an_axis_and_a_bar():
    low, high = axis([Span("teacher", 0.0, 0.0, 0.0)])
    assert low < 0 < high
    (bar,) = bars(drawn(sheet(one(Span("teacher", 0.0, 0.0, 0.0)))))
    assert float(bar.get("width")) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Span("chip", 1.0, 2.0, 1.0), r"^span of chip: from 2\.0 to 1\.0, must rise$"),
        (lambda: Panel("IQM", ()), r"^panel IQM: no spans, needs at least one; score a player first$"),
        (
            lambda: sheet(one(Span("chip", 1.0, 0.0, 2.0))),
            r"^sheet\.sections: spans of chip, allowed teacher, student, a < b$",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

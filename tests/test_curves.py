"""Curves: whole XML, everything on the sheet, heights that are the values, names that never meet."""

from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.curves import COLOURS, HEIGHT, LINE, WIDTH, Chart, Curve, Mean, apart, round_steps, svg

SVG = "{http://www.w3.org/2000/svg}"
WHOLE = Mean(0.0, 20.0, 19.5, 20.5)
VALUES = st.floats(-1e6, 1e6)


def chart(*curves, floor=("random play", -20.7), whole=WHOLE):
    return Chart("Pong: a < b & c", "3 episodes", "broken", "score", curves, whole, floor)


def two():
    down = Curve("dead cores", (Mean(0.001, 19.0, 18, 20), Mean(0.01, 5.0, 1, 9), Mean(0.1, -21.0, -21, -21)))
    return chart(down, Curve("lost spikes", (Mean(0.01, 12.0, 11, 13),)))


def drawn(shown):
    return ElementTree.fromstring(svg(shown))


def test_equal_charts_are_equal_text_and_others_differ():
    assert svg(two()) == svg(two())
    assert svg(two()) != svg(chart(*two().curves[:1]))


def test_words_are_shown_as_they_are():
    texts = [node.text for node in drawn(two()).iter(f"{SVG}text")]
    assert texts[0] == "Pong: a < b & c"
    assert {"dead cores", "lost spikes", "whole chip", "random play", "0.1 %", "1 %", "10 %"} <= set(texts)


def test_heights_are_in_proportion_to_values_and_places_to_logarithms():
    dots = [(float(n.get("cx")), float(n.get("cy"))) for n in drawn(two()).iter(f"{SVG}circle")]
    (x1, y1), (x2, y2), (x3, y3) = dots[:3]
    assert (y2 - y1) / (y3 - y1) == pytest.approx((19 - 5) / (19 + 21), abs=0.01)
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)
    assert y1 < y2 < y3, "a lower score lies lower"
    assert dots[3][0] == pytest.approx(x2 + 3, abs=0.2), "kinds of one share stand a little apart"


def test_each_kind_has_its_own_colour_in_dots_line_and_name():
    curves = [Curve(f"kind {i}", (Mean(0.01, i, i - 1, i + 1), Mean(0.1, i, i, i))) for i in range(5)]
    tree = drawn(chart(*curves))
    assert [n.get("stroke") for n in tree.iter(f"{SVG}polyline")] == list(COLOURS[:5])
    names = {n.text: n.get("fill") for n in tree.iter(f"{SVG}text")}
    assert [names[f"kind {i}"] for i in range(5)] == list(COLOURS[:5])


def test_no_level_for_comparison_where_it_is_unknown_or_out_of_sight():
    curve = Curve("dead cores", (Mean(0.1, 19.0, 18, 20),))
    for floor in (None, ("random play", -500.0)):
        assert "random play" not in svg(chart(curve, floor=floor))


@given(st.lists(st.tuples(st.floats(1e-4, 1), VALUES), min_size=1, max_size=6), VALUES)
def test_everything_lies_on_the_sheet(points, level):
    means = tuple(Mean(share, value, value - 1, value + 1) for share, value in sorted(points))
    for node in drawn(chart(Curve("a", means), whole=Mean(0, level, level, level))).iter():
        for name, room in (("x1", WIDTH), ("x2", WIDTH), ("cx", WIDTH), ("y1", HEIGHT), ("y2", HEIGHT), ("cy", HEIGHT)):
            assert 0 <= float(node.get(name, 0)) <= room


@given(VALUES, st.floats(1e-3, 1e6))
def test_steps_are_round_few_equal_and_inside(low, width):
    steps = round_steps(low, low + width)
    assert 1 <= len(steps) <= 7
    assert all(low - 1e-6 * (abs(low) + width) <= step <= low + width * (1 + 1e-6) + 1e-6 * abs(low) for step in steps)
    gaps = [b - a for a, b in pairwise(steps)]
    assert {round(gap / 10 ** math.floor(math.log10(gap) + 1e-9), 3) for gap in gaps} <= {1.0, 2.0, 2.5, 5.0, 10.0}


def test_steps_of_a_plain_case():
    assert round_steps(-21.0, 20.5) == [-20, -10, 0, 10, 20]


@given(st.lists(st.floats(0, 300), min_size=1, max_size=9))
def test_names_keep_their_order_and_distance(places):
    found = apart(places, LINE, 0, 300)
    order = sorted(range(len(places)), key=lambda index: places[index])
    assert all(found[b] - found[a] >= LINE - 1e-9 for a, b in pairwise(order))
    assert max(found) <= 300 + 1e-9 and min(found) >= -1e-9


def test_names_that_are_apart_stay_where_they_are():
    assert apart([200.0, 10.0, 100.0], 17, 0, 300) == [200.0, 10.0, 100.0]


@pytest.mark.parametrize("curves", [(), (Curve("a", ()),)])
def test_a_chart_of_nothing_is_refused(curves):
    with pytest.raises(ValueError, match=r"^chart\.curves: no means, needs at least one; play a point first$"):
        chart(*curves)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_that_has_no_place_is_refused(share):
    with pytest.raises(ValueError, match=r"^chart\.curves: shares must be above 0 and at most 1$"):
        chart(Curve("a", (Mean(share, 1, 0, 2),)))

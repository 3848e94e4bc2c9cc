"""Orders of viewers: each of its kind is read, all else is refused with what is allowed, nothing else ever happens."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.arcade.orders import (
    MOST_CHARACTERS,
    ORDERS,
    Advance,
    Heal,
    Hold,
    Kill,
    Lose,
    OrderError,
    Pause,
    Record,
    Restart,
    Rewind,
    Seek,
    SetGame,
    SetPlayer,
    SetSpeed,
    parse,
)

ORDERLY = [
    ({"do": "player", "name": "teacher"}, SetPlayer("teacher")),
    ({"do": "game", "name": "Pong"}, SetGame("Pong")),
    ({"do": "pause", "on": True}, Pause(True)),
    ({"do": "step"}, Advance()),
    ({"do": "speed", "times": 0.5}, SetSpeed(0.5)),
    ({"do": "speed", "times": 4}, SetSpeed(4.0)),
    ({"do": "restart"}, Restart()),
    ({"do": "kill", "left": 1, "top": 2, "right": 3, "bottom": 2}, Kill(1, 2, 3, 2)),
    ({"do": "heal"}, Heal()),
    ({"do": "lose", "share": 0.25}, Lose(0.25)),
    ({"do": "record", "on": False}, Record(False)),
    ({"do": "replay", "name": "shipped"}, Rewind("shipped")),
    ({"do": "seek", "at": 7}, Seek(7)),
    ({"do": "keys", "keys": ["up", "space"]}, Hold(("up", "space"))),
]


@pytest.mark.parametrize(("message", "order"), ORDERLY, ids=lambda value: str(value))
def test_every_order_is_read(message, order):
    assert parse(json.dumps(message)) == order


def test_every_kind_of_order_is_among_these():
    assert {type(order) for _, order in ORDERLY} == set(ORDERS.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x" * (MOST_CHARACTERS + 1), r"^order: found 513 characters, allowed 512$"),
        ("{", r"^order: no JSON \(.*\), allowed one object$"),
        ('{"do": "step", "do": "step"}', r"^order: no JSON \(a key twice\), allowed one object$"),
        ("[" * 400, r"^order: no JSON \(.*\), allowed one object$"),
        ("[]", r"^order: found list, allowed one object$"),
        ("{}", r"^order\.do: found None, allowed player, game, pause"),
        ('{"do": "reboot"}', r"^order\.do: found 'reboot', allowed player, game"),
        ('{"do": ["step"]}', r"^order\.do: found \['step'\], allowed"),
        ('{"do": "pause"}', r"^order\.on: missing$"),
        ('{"do": "pause", "on": 1}', r"^order\.on: found 1, must be of type bool$"),
        ('{"do": "step", "times": 2}', r"^order\.times: unknown key; allowed $"),
        ('{"do": "speed", "times": 3}', r"^order\.times: found 3\.0, allowed 0\.5, 1, 2, 4$"),
        ('{"do": "lose", "share": NaN}', r"^order\.share: found nan, allowed 0 to 1$"),
        ('{"do": "lose", "share": -0.1}', r"^order\.share: found -0\.1, allowed 0 to 1$"),
        ('{"do": "lose", "share": 1' + "0" * 400 + "}", r"^order: int too large to convert to float"),
        ('{"do": "kill", "left": 3, "top": 0, "right": 2, "bottom": 0}', r"^order\.left, right: found \(3, 2\)"),
        ('{"do": "kill", "left": 0, "top": -1, "right": 0, "bottom": 0}', r"^order\.top, bottom: found \(-1, 0\)"),
        ('{"do": "seek", "at": -1}', r"^order\.at: found -1, allowed 0 to 2147483647$"),
        ('{"do": "keys", "keys": ["up", "f4"]}', r"^order\.keys: found \('up', 'f4'\), allowed up, down, left, right"),
    ],
)  # fmt: skip
def test_what_is_no_order_is_refused_with_what_is_allowed(text, message):
    with pytest.raises(OrderError, match=message):
        parse(text)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
JSON = st.recursive(LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3))
FIELDS = st.sampled_from(["name", "on", "times", "left", "top", "right", "bottom", "share", "keys", "do"])


@given(st.text(max_size=80) | JSON.map(json.dumps)
       | st.tuples(st.sampled_from(sorted(ORDERS)), st.dictionaries(FIELDS, JSON, max_size=4)).map(
           lambda pair: json.dumps(pair[1] | {"do": pair[0]})))  # fmt: skip
def test_whatever_is_said_is_an_order_or_refused(text):
    with contextlib.suppress(OrderError):
        assert type(parse(text)) in ORDERS.values()

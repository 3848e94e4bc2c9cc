"""Loopback alone unless another address is asked for with a token; a request must be meant for this page."""

from __future__ import annotations

import dataclasses

import pytest
from fakes import FakeClock

from deploy.arcade.address import Bucket, Door, WebSettings
from rl.settings import SettingsError

LOCAL = WebSettings("127.0.0.1", 8731, False, None, True)
TOKEN = "0123456789abcdefXYZ"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.0.2", "::1", "localhost"])
def test_loopback_needs_no_leave(host):
    assert dataclasses.replace(LOCAL, host=host).guarded


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"port": 65536}, r"^play\.web\.port: found 65536, allowed 0 \(any free one\) to 65535$"),
        ({"host": "0.0.0.0"}, r"^play\.web\.host: found '0\.0\.0\.0', allowed loopback; another address needs"),
        ({"host": "0.0.0.0", "exposed": True}, r"needs play\.web\.exposed=true and play\.web\.token$"),
        ({"host": "example.org", "token": TOKEN}, r"^play\.web\.host: found 'example\.org'"),
        ({"token": "0123456789abcde"}, r"^play\.web\.token: found '0123456789abcde', allowed 16 or more"),
        ({"token": "0123456789abcde!"}, r"^play\.web\.token: "),
        ({"token": "0123456789abcdeé"}, r"^play\.web\.token: "),
    ],
)
def test_an_unguarded_address_is_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        dataclasses.replace(LOCAL, **changes)


def test_another_address_may_be_had_with_leave_and_a_token():
    assert WebSettings("0.0.0.0", 0, True, TOKEN, False).guarded


@pytest.mark.parametrize(
    ("bound", "header", "known"),
    [
        ("127.0.0.1", "127.0.0.1:8731", True),
        ("127.0.0.1", "localhost:8731", True),
        ("::1", "[::1]:8731", True),
        ("127.0.0.1", "127.0.0.1", False),  # port 80
        ("127.0.0.1", "127.0.0.1:8732", False),
        ("127.0.0.1", "evil.example:8731", False),  # a name made to point here
        ("127.0.0.1", "localhost.evil.example:8731", False),
        ("127.0.0.1", "user@localhost:8731", False),
        ("127.0.0.1", "localhost:8731/x", False),
        ("127.0.0.1", "localhost:x", False),
        ("127.0.0.1", "[::1:8731", False),
        ("127.0.0.1", "", False),
        ("10.0.0.5", "10.0.0.5:8731", True),
        ("10.0.0.5", "localhost:8731", False),
        ("0.0.0.0", "192.168.1.9:8731", True),
        ("0.0.0.0", "evil.example:8731", False),
        ("arcade.example", "arcade.example:8731", True),
    ],
)
def test_the_host_of_a_request_is_the_pages_own(bound, header, known):
    assert Door(bound, 8731, None).knows_host(header) is known
    assert Door(bound, 8731, None).knows_origin(f"http://{header}") is known


@pytest.mark.parametrize("origin", ["null", "", "https://127.0.0.1:8731", "file://", "http://evil.example"])
def test_another_sites_origin_is_known_as_such(origin):
    assert not Door("127.0.0.1", 8731, None).knows_origin(origin)


def test_a_token_is_asked_for_where_there_is_one():
    door = Door("10.0.0.5", 8731, TOKEN)
    assert door.knows_token(TOKEN) and not door.knows_token("") and not door.knows_token(TOKEN + "\ud800")
    assert Door("127.0.0.1", 8731, None).knows_token("anything")


def test_the_address_is_what_a_person_opens():
    assert Door("::1", 8731, None).url == "http://[::1]:8731/"
    assert Door("10.0.0.5", 80, TOKEN).url == f"http://10.0.0.5:80/?token={TOKEN}"


def test_a_bucket_lets_a_burst_pass_and_then_so_many_a_second():
    clock = FakeClock()
    bucket = Bucket(2.0, 3.0, clock.now)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    clock.t_s = 0.5
    assert [bucket.take() for _ in range(2)] == [True, False]
    clock.t_s = 100.0
    assert [bucket.take() for _ in range(4)] == [True, True, True, False], "what is not used is not saved up"

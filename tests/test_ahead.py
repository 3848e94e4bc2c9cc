"""Working ahead changes when things are made, not what is made: order, errors, an early end."""

from __future__ import annotations

import threading

import pytest

from rl.ahead import ahead


def running():
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


@pytest.mark.parametrize("depth", [1, 3, 50])
def test_items_come_in_their_order_and_the_thread_ends(depth):
    assert list(ahead(iter(range(17)), depth)) == list(range(17))
    assert not running()


def test_no_items_are_no_items():
    assert list(ahead(iter(()), 2)) == []


def test_an_error_comes_after_the_items_before_it():
    def broken():
        yield from (1, 2)
        raise OSError("the disk is gone")

    found = []
    with pytest.raises(OSError, match=r"^the disk is gone$"):
        found.extend(item for item in map(found.append, ahead(broken(), 5)) if item)
    assert found == [1, 2] and not running()


def test_no_more_than_the_depth_is_made_ahead():
    made, third = [], threading.Event()

    def counted():
        for i in range(9):
            made.append(i)
            if i == 3:
                third.set()
            yield i

    items = ahead(counted(), 2)
    assert next(items) == 0
    assert third.wait(5), "two wait and one is in hand"
    assert made == [0, 1, 2, 3]
    items.close()


def test_leaving_early_closes_the_iterator_in_its_own_thread():
    told = []

    def endless():
        try:
            while True:
                yield threading.current_thread().name
        finally:
            told.append(threading.current_thread().name)

    items = ahead(endless(), 1)
    assert next(items) == "ahead"
    items.close()
    assert told == ["ahead"] and not running()

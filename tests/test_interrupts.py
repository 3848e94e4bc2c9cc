"""Ctrl-C and SIGTERM end a run in good order."""

from __future__ import annotations

import signal

import pytest

from deploy.interrupts import Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_and_interrupts_nothing(number: signal.Signals) -> None:
    with Interrupts() as interrupts:
        assert interrupts.keep_going()
        signal.raise_signal(number)
        assert not interrupts.keep_going()


def test_a_second_signal_interrupts_at_once() -> None:
    with Interrupts():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_handlers_of_before_come_back() -> None:
    before = [signal.getsignal(number) for number in Interrupts.SIGNALS]
    with Interrupts():
        pass
    assert [signal.getsignal(number) for number in Interrupts.SIGNALS] == before

"""Ctrl-C and SIGTERM end a run in good order."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from deploy.interrupts import Interrupts, interrupts_ignored


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


def test_processes_begun_where_interrupts_are_ignored_do_not_hear_them_and_their_parent_does() -> None:
    program = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    own = signal.getsignal(signal.SIGINT)
    with interrupts_ignored():
        told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout == "True\n"
    assert signal.getsignal(signal.SIGINT) is own

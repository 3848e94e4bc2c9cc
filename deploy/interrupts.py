"""Interrupts: Ctrl-C and SIGTERM as a question that a loop asks, so that a run ends in good order."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """While entered, Ctrl-C and SIGTERM end the run in good order; a second one interrupts at once."""

    SIGNALS: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._caught = False
        self._before: dict[signal.Signals, Any] = {}

    def keep_going(self) -> bool:
        """False once a signal came."""
        return not self._caught

    def __enter__(self) -> Interrupts:
        self._before = {number: signal.signal(number, self._catch) for number in self.SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self._caught:
            raise KeyboardInterrupt
        self._caught = True


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Processes begun here never hear an interrupt: the program that began them ends them, without a trace of each."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

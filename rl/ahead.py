"""Work ahead: an iterator runs in a thread of its own while what it made before is being used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
PATIENCE_S = 0.1  # between two looks at whether anybody still wants the next item


class _Maker(Generic[T]):
    """The thread's side. What waits is an item, or the reason why no more will come: an error, None at the end."""

    def __init__(self, items: Iterator[T], depth: int) -> None:
        self._items, self.waiting = items, queue.Queue[tuple[T] | BaseException | None](depth)
        self.left = threading.Event()
        self.thread = threading.Thread(target=self._run, name="ahead", daemon=True)

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            for item in self._items:
                if not self._hand((item,)):
                    return
        except BaseException as error:  # raised again where the items are taken
            end = error
        finally:
            if isinstance(self._items, Generator):
                self._items.close()  # its `finally` runs in the thread that ran the rest of it
        self._hand(end)

    def _hand(self, item: tuple[T] | BaseException | None) -> bool:
        """Whether it was taken over; False once nobody is there any more."""
        while not self.left.is_set():
            try:
                self.waiting.put(item, timeout=PATIENCE_S)
                return True
            except queue.Full:
                continue
        return False


def ahead(items: Iterator[T], depth: int) -> Iterator[T]:
    """The same items in the same order, at most `depth` of them made before they are asked for.

    What the iterator raises is raised here, after the items before it. Leaving early ends the thread.
    """
    maker = _Maker(items, depth)
    maker.thread.start()
    try:
        while True:
            got = maker.waiting.get()
            if got is None:
                return
            if isinstance(got, BaseException):
                raise got
            yield got[0]
    finally:
        maker.left.set()
        maker.thread.join()

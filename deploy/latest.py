"""A slow screen beside the loop: a thread draws the newest picture whenever it can; the game never waits."""

from __future__ import annotations

import threading

from deploy.screens import Picture, Screen


class Latest:
    """Another screen, shown as many pictures as it can take; those that it cannot are dropped and counted."""

    def __init__(self, screen: Screen, patience_s: float = 2.0) -> None:
        """`patience_s`: how long closing waits for a picture that is still being drawn."""
        self._screen, self._patience_s = screen, patience_s
        self.dropped = 0
        self._next: Picture | None = None
        self._failure: Exception | None = None
        self._closing = False
        self._told = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="screen", daemon=True)
        self._thread.start()

    def show(self, picture: Picture) -> None:
        """Hand over a picture; raises what the screen raised at an earlier one."""
        with self._told:
            if self._failure is not None:
                raise self._failure
            self.dropped += self._next is not None
            self._next = picture
            self._told.notify()

    def keys(self) -> frozenset[str]:
        return self._screen.keys()

    def close(self) -> None:
        """Draw the last picture and close the screen."""
        with self._told:
            self._closing = True
            self._told.notify()
        self._thread.join(self._patience_s)
        self._screen.close()

    def _work(self) -> None:
        while (picture := self._taken()) is not None:
            try:
                self._screen.show(picture)
            except Exception as failure:  # told to the loop at its next picture
                with self._told:
                    self._failure = failure
                return

    def _taken(self) -> Picture | None:
        """The newest picture, as soon as there is one; None where there will be no more."""
        with self._told:
            self._told.wait_for(lambda: self._next is not None or self._closing)
            picture, self._next = self._next, None
            return picture

"""An arcade in small: shows of tiny chips whose loop runs in the test, with something done between two pictures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from fakes import FakeClock
from run_cases import ENV, write_run

from deploy.arcade.cabinet import Stock
from deploy.arcade.orders import Order
from deploy.arcade.show import Show, Snapshot
from deploy.realtime import RealtimeSettings

VIEWER = 7
WAIT_S, LOOK_S = 60.0, 0.01
PERIOD_S = 1 / 32  # exact in binary, so that times are equal and not nearly
Script = dict[int, Callable[["StagedShow"], object]]


def stock(root: Path, games: Iterable[str] = ("Pong",), **changes: object) -> Stock:
    """Players of these games, with files below `root`."""
    for game in games:
        write_run(root, game)
    return Stock(str(root), ENV, 3, **changes)  # type: ignore[arg-type]


class StagedShow(Show):
    """A show whose clock stands still; after picture n of the run, what the script says for n is done."""

    def __init__(self, players: Stock, folder: Path, pictures: int, script: Script, player: str = "chip") -> None:
        self.seen: list[Snapshot] = []
        self._script, self.time = script, FakeClock()
        own = RealtimeSettings(pictures * PERIOD_S, 32, 2)
        super().__init__("Pong", player, players, own, folder, self.time.now, self._next)

    def play(self) -> list[Snapshot]:
        """The whole show, its loop in this thread; the snapshot of each picture."""
        beside = [threading.Thread(target=job, daemon=True) for job in (self.work, self.film)]
        for thread in beside:
            thread.start()
        self.run()
        for thread in beside:
            thread.join(WAIT_S)
            assert not thread.is_alive()
        return self.seen

    def ask(self, *orders: Order) -> None:
        """Give orders, and wait until what they wish for is made."""
        for order in orders:
            self.desk.obey(order, VIEWER)
            assert self.desk.settled(WAIT_S)

    def _next(self, seconds: float) -> None:
        assert self.post.newest is not None
        self.seen.append(self.post.newest)
        self.time.sleep(seconds)
        self._script.get(len(self.seen), lambda show: None)(self)


def asks(*orders: Order) -> Callable[[StagedShow], None]:
    """A line of a script."""
    return lambda show: show.ask(*orders)


def until(happened: Callable[[], bool]) -> None:
    """Wait for another thread."""
    for _ in range(int(WAIT_S / LOOK_S)):
        if happened():
            return
        time.sleep(LOOK_S)
    raise AssertionError(f"not in {WAIT_S:g} s")

"""The show: the real-time loop in a thread of its own, the workshop beside it, and what they leave for viewers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deploy.arcade.cabinet import Cabinet, Stock
from deploy.arcade.desk import Desk, Round, StoppableClock, Wish
from deploy.arcade.orders import Record
from deploy.arcade.recorder import Recorder
from deploy.arcade.reels import open_reel
from deploy.arcade.seat import Seat, Sitter, Thought
from deploy.arcade.wounds import unharmed
from deploy.pacer import Clock, Pacer, Sleep
from deploy.realtime import PlayReport, RealtimeSettings, pictures_per_step, play_realtime
from deploy.replay import ReplayError
from deploy.screens import Picture

WORKS = 30  # pictures whose work is told again, for viewers who missed some
SCORES = 1000  # kept of each player
NOBODY = 0  # the viewer of orders that no viewer gave
PATIENCE_S = 10.0
RATE_S = 1.0  # decisions and pictures are counted over this time


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What there is to see after one picture."""

    number: int  # of pictures over the whole show, from 1
    round: Round
    picture: Picture
    thought: Thought | None
    at: int  # the decision of a replay; 0 in a game that is played now
    at_s: float  # on the game's clock
    works: tuple[tuple[float, bool], ...]  # (seconds, late) of the pictures before this, oldest first
    decisions_per_s: float
    pictures_per_s: float
    scores: tuple[tuple[str, tuple[float, ...]], ...]  # of whole episodes by one player alone, by label


class Post:
    """Holds the newest snapshot; whoever reads late misses those before it."""

    def __init__(self) -> None:
        self.newest: Snapshot | None = None
        self.ring: Callable[[], None] = lambda: None

    def publish(self, snapshot: Snapshot) -> None:
        self.newest = snapshot
        self.ring()


class Ledger:
    """Scores of whole episodes, by who played them alone."""

    def __init__(self) -> None:
        self._scores: dict[str, tuple[float, ...]] = {}

    def add(self, labels: frozenset[str], score: float) -> None:
        """An episode ended; one of several players counts for none."""
        if len(labels) == 1:
            (label,) = labels
            self._scores[label] = (*self._scores.get(label, ()), score)[-SCORES:]

    def all(self) -> tuple[tuple[str, tuple[float, ...]], ...]:
        return tuple(self._scores.items())


class Stage:
    """The loop's screen: leaves a snapshot of each picture and waits for nobody."""

    def __init__(self, post: Post, recorder: Recorder, now: Clock) -> None:
        self._post, self._recorder, self._now, self._number = post, recorder, now, 0
        self._works: deque[tuple[float, bool]] = deque(maxlen=WORKS)
        self._seen: deque[tuple[float, int]] = deque()  # (time, decisions so far) of the last second
        self._ledgers: dict[str, Ledger] = {}
        self._round: Round | None = None
        self._last: Picture | None = None

    def begin(self, round_: Round) -> None:
        """The pictures that follow are of this round."""
        if self._round is not round_:
            self._recorder.cut(round_.number)
        self._round, self._last = round_, None

    def keys(self) -> frozenset[str]:
        return frozenset()

    def close(self) -> None:
        pass

    def show(self, picture: Picture) -> None:
        round_ = self._round
        assert round_ is not None, "begin comes first"
        ledger = self._ledgers.setdefault(round_.cabinet.name, Ledger())
        self._number += 1
        if self._last is not None:
            self._works.append((picture.work_s, picture.late > self._last.late))
            if picture.episode > self._last.episode and round_.replay is None:
                ledger.add(round_.seat.finished, self._last.score)
        self._last = picture
        self._recorder.show(picture)
        at_s = self._now()
        decisions, pictures = self._rates(at_s, round_.seat.decisions)
        thought, scores, works = round_.seat.thought, ledger.all(), tuple(self._works)
        at = 0 if round_.reel is None else round_.reel.shown
        self._post.publish(
            Snapshot(self._number, round_, picture, thought, at, at_s, works, decisions, pictures, scores)
        )

    def _rates(self, at_s: float, decisions: int) -> tuple[float, float]:
        """Decisions and pictures a second, over the last one."""
        self._seen.append((at_s, decisions))
        while at_s - self._seen[0][0] > RATE_S:
            self._seen.popleft()
        span_s = at_s - self._seen[0][0]
        if span_s <= 0:
            return 0.0, 0.0
        return (self._seen[-1][1] - self._seen[0][1]) / span_s, (len(self._seen) - 1) / span_s


class Show:
    """Plays until it is closed."""

    def __init__(
        self, game: str, player: str, stock: Stock, settings: RealtimeSettings, folder: Path, now: Clock, sleep: Sleep
    ) -> None:
        """Load the first game and its player; clips go to `folder`. Raises as `Cabinet` and `make_player`."""
        stock.need_student(game)
        self._stock, self._settings = stock, settings
        self._clock, self._sleep = StoppableClock(now), sleep
        keys = _Keys()
        cabinet = self._cabinet = Cabinet(game, stock, keys)  # of a round of a replay it has another chip
        first = Round(1, cabinet, Seat(cabinet.sit(player, unharmed(cabinet.cores))))
        step = pictures_per_step(stock.env.frames_per_step, settings.frames_per_picture)
        games = tuple(sorted({game, *stock.games()}))
        self.desk, self.post = Desk(first, games, step), Post()
        keys.desk = self.desk
        self._keys = keys
        self.recorder = Recorder(folder, settings.pictures_per_s)
        self.recorder.full = partial(self.desk.obey, Record(False), NOBODY)
        self.error: BaseException | None = None
        self.report: PlayReport | None = None

    def start(self) -> None:
        """Begin, in three threads."""
        jobs = (self.run, self.work, self.film)
        self._threads = [threading.Thread(target=self._whole, args=(job,), daemon=True) for job in jobs]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End all threads and wait for them, for a player under way no longer than PATIENCE_S."""
        self.desk.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _whole(self, job: Callable[[], object]) -> None:
        """A job whose failure, or end, ends the show."""
        try:
            job()
        except BaseException as error:  # told by whoever waits for the show
            self.error = self.error or error
        finally:
            self.desk.close()

    def run(self) -> PlayReport:
        """Play round after round, in this thread, until the desk closes or the seconds are over."""
        stage = Stage(self.post, self.recorder, self._clock.now)
        pacer = Pacer(self._settings.period_s, self._clock.now, self._sleep)
        pictures = iter(self._settings.budget)
        forever = RealtimeSettings(0.0, self._settings.pictures_per_s, self._settings.frames_per_picture)
        while True:
            now = self.desk.begin()
            stage.begin(now)
            title = f"{now.cabinet.name} | {now.seat.sitter.name}"
            keep_going = partial(self._keep_going, pacer, pictures)
            try:
                self.report = play_realtime(
                    now.game, now.seat, stage, pacer, forever, keep_going, title=title, thoughts=now.seat
                )
            except ReplayError as parted:
                self.desk.parted(str(parted))
            if self.desk.closing and self.report is not None:
                return self.report

    def _keep_going(self, pacer: Pacer, pictures: Iterator[int]) -> bool:
        if not self.desk.gate(self._clock):
            return False
        if next(pictures, None) is None:
            self.desk.close()
            return False
        state = self.desk.state
        pacer.period_s = self._settings.period_s / state.speed
        state.round.seat.slowed = state.speed < 1 or state.paused
        return True

    def work(self) -> None:
        """Make what viewers wish for, one after another, until the show ends; what was overtaken is not made."""
        while (wish := self.desk.wish()) is not None:
            try:
                self._grant(wish)
            except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as error:
                self.desk.refused(wish, str(error))

    def film(self) -> None:
        """Begin and end clips, until the show ends; then the last one ends too."""
        under_way = 0
        while (wanted := self.desk.filming(under_way)) is not None:
            under_way = self._film(wanted, under_way)
        self.recorder.stop()

    def _film(self, wanted: int, under_way: int) -> int:
        """End the clip under way and tell of it, else begin the wanted one; which one is under way now, 0: none."""
        try:
            if under_way:
                self.desk.filmed(self.recorder.stop())
                return 0
            self.recorder.start(self.desk.state.round.number)
            return wanted
        except (OSError, RuntimeError) as error:
            self.desk.filmed(None, str(error))
        return 0

    def _grant(self, wish: Wish) -> None:
        now = self.desk.state.round
        if (wish.game, wish.replay) != (now.cabinet.name, now.replay):
            self.desk.granted(wish, self._another(wish, now))
            return
        now.seat.offer(self._sitter(now.cabinet, wish))
        self.desk.granted(wish)

    def _sitter(self, cabinet: Cabinet, wish: Wish) -> Sitter:
        return cabinet.sit(wish.player, wish.wounds or unharmed(cabinet.cores))

    def _another(self, wish: Wish, now: Round) -> Round:
        """A round of another game or of a replay; a player that a game lacks is replaced by its first."""
        number, decisions = now.number + 1, now.seat.decisions
        same = wish.game == now.cabinet.name
        cabinet = self._cabinet if same else Cabinet(wish.game, self._stock, self._keys)
        if wish.replay is not None:
            reel, sitter, shown = open_reel(cabinet.replays[wish.replay], cabinet, self._settings.frames_per_picture)
            self._cabinet = cabinet
            return Round(number, shown, Seat(sitter, decisions), wish.replay, reel)
        player = wish.player if wish.player in cabinet.players else cabinet.players[0]
        seat = Seat(cabinet.sit(player, unharmed(cabinet.cores)), decisions)
        self._cabinet = cabinet
        return Round(number, cabinet, seat)


class _Keys:
    """The keys of a desk that is set up later than the player who reads them."""

    desk: Desk | None = None

    def __call__(self) -> frozenset[str]:
        return frozenset() if self.desk is None else self.desk.keys()

"""The desk: what viewers asked for so far, as one immutable state, and the gate that the loop passes at each picture.

The threads of the show and the server's meet here; each holds the lock for a few assignments and never while it works.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.arcade.cabinet import Cabinet
from deploy.arcade.orders import (
    Advance,
    Heal,
    Hold,
    Kill,
    Lose,
    Order,
    OrderError,
    Pause,
    Record,
    Restart,
    Rewind,
    Seek,
    SetGame,
    SetPlayer,
    SetSpeed,
)
from deploy.arcade.reels import ReelGame
from deploy.arcade.seat import Seat
from deploy.arcade.wounds import Wounds, killed, unharmed
from deploy.pacer import Clock
from deploy.realtime import PacedGame


@dataclass(frozen=True, eq=False)
class Round:
    """A game on its cabinet, and who sits there."""

    number: int  # from 1
    cabinet: Cabinet
    seat: Seat
    replay: str | None = None  # its name, where this is one
    reel: ReelGame | None = None

    @property
    def game(self) -> PacedGame:
        """What is played."""
        return self.cabinet.game if self.reel is None else self.reel


@dataclass(frozen=True, eq=False)
class State:
    """What viewers are told beside the picture."""

    round: Round
    player: str  # as asked for; `round.seat` knows who plays already
    wounds: Wounds
    paused: bool = False
    speed: float = 1.0
    notice: str = ""  # the last thing that could not be done
    recording: bool = False  # as asked for
    clips: tuple[Path, ...] = ()  # finished ones, the newest last


@dataclass(frozen=True)
class Wish:
    """What is still to be made beside the loop; `wounds` matter to a chip alone."""

    game: str
    player: str
    wounds: Wounds | None
    replay: str | None = None


class StoppableClock:
    """A clock that stands still while the game does, so that a pause is no work and makes no picture late."""

    def __init__(self, now: Clock) -> None:
        self._now, self._away_s, self._stopped_s = now, 0.0, 0.0

    def now(self) -> float:
        return self._now() - self._away_s

    def stop(self) -> None:
        self._stopped_s = self._now()

    def go(self) -> None:
        self._away_s += self._now() - self._stopped_s


class Desk:
    """Takes orders from any thread."""

    def __init__(self, first: Round, games: tuple[str, ...], step_pictures: int) -> None:
        """`games` that may be asked for; pictures that one decision takes."""
        self._lock = threading.Condition()
        wounds = unharmed(first.cabinet.cores)
        self.state, self.games = State(first, first.seat.sitter.name, wounds), games
        self._game, self._made = first.cabinet.name, Wish(first.cabinet.name, first.seat.sitter.name, wounds)
        self._replay: str | None = None
        self._step_pictures, self._steps = step_pictures, 0
        self._restart, self._closing = False, False
        self._takes = 0  # clips that were asked for
        self._held: dict[int, frozenset[str]] = {}
        self.ring: Callable[[], None] = lambda: None  # told of every change

    @property
    def closing(self) -> bool:
        return self._closing

    def keys(self) -> frozenset[str]:
        """Keys that any viewer holds."""
        return frozenset[str]().union(*self._held.values())

    def obey(self, order: Order, viewer: int) -> None:
        """Take an order; raises OrderError where this game has no such thing."""
        with self._lock:
            self._obey(order, viewer)
            self._lock.notify_all()
        self.ring()

    def _obey(self, order: Order, viewer: int) -> None:
        match order:
            case SetPlayer(name):
                self._need("player", name, self.state.round.cabinet.players)
                self._replay = None
                self._tell(player=name)
            case SetGame(name):
                self._need("game", name, self.games)
                self._game, self._replay = name, None
            case Rewind(name):
                shown = self.state.round.cabinet  # it is this one's replay, whatever was asked for just before
                self._need("name", name, tuple(shown.replays))
                self._game, self._replay = shown.name, name
            case Seek(at):
                self._seek(at)
            case Pause(on):
                self._steps = 0
                self._tell(paused=on)
            case Advance():
                self._steps += self._step_pictures
                self._tell(paused=True)
            case SetSpeed(times):
                self._tell(speed=times)
            case Restart():
                self._restart = True
            case Record(on):
                self._takes += on and not self.state.recording
                self._tell(recording=on)
            case Hold(keys):
                self._held = {**self._held, viewer: frozenset(keys)}
            case Kill() | Heal() | Lose():
                self._tell(wounds=self._wounded(order))

    def _seek(self, at: int) -> None:
        reel = self.state.round.reel
        if reel is None or at >= len(reel):
            allowed = "while a replay is shown" if reel is None else f"0 to {len(reel) - 1}"
            raise OrderError(f"order.at: found {at}, allowed {allowed}")
        reel.seek(at)
        self._restart = True

    def _need(self, what: str, name: str, allowed: tuple[str, ...]) -> None:
        if name not in allowed:
            raise OrderError(f"order.{what}: found {name!r}, allowed {', '.join(allowed)}")

    def _tell(self, **changes: object) -> None:
        self.state = replace(self.state, **{"notice": "", **changes})  # type: ignore[arg-type]

    def _wounded(self, order: Kill | Heal | Lose) -> Wounds:
        mesh, wounds = self.state.round.cabinet.mesh, self.state.wounds
        if mesh is None:
            raise OrderError(f"order: {self.state.round.cabinet.name} has no chip to break; play a game with one")
        if self.state.round.reel is not None:
            raise OrderError("order: found a replay, allowed a game that is played now; choose a player first")
        match order:
            case Kill():
                return killed(wounds, mesh.cells, order)
            case Lose(share):
                return replace(wounds, lost=share)
        return unharmed(len(wounds.dead))

    def forget(self, viewer: int) -> None:
        """A viewer left: its keys are let go."""
        self._held = {other: keys for other, keys in self._held.items() if other != viewer}

    def close(self) -> None:
        """End the show."""
        with self._lock:
            self._closing = True
            self._lock.notify_all()

    def gate(self, clock: StoppableClock) -> bool:
        """Passed by the loop before each picture, waiting there while paused; False ends the run of this round."""
        with self._lock:
            if not self._may_go():
                clock.stop()
                self._lock.wait_for(self._may_go)
                clock.go()
            self._steps = max(0, self._steps - 1)
            return not (self._closing or self._restart)

    def _may_go(self) -> bool:
        return not self.state.paused or self._steps > 0 or self._restart or self._closing

    def begin(self) -> Round:
        """The round to play now; what asked for a new beginning is answered with it."""
        with self._lock:
            self._restart = False
            if self.state.paused:  # its first decision is shown all the same
                self._steps = self._step_pictures
            return self.state.round

    def wish(self) -> Wish | None:
        """Wait for something to make beside the loop; None when the show ends."""
        with self._lock:
            self._lock.wait_for(lambda: self._closing or self._wanted() != self._made)
            return None if self._closing else self._wanted()

    def _wanted(self) -> Wish:
        state = self.state
        chip = state.player == "chip"
        return Wish(self._game, state.player, state.wounds if chip else None, self._replay)

    def granted(self, wish: Wish, round_: Round | None = None) -> None:
        """It was made and its player offered; `round_` where it is another game, which begins at once."""
        with self._lock:
            self._made = wish
            if round_ is not None:
                name, wounds = round_.seat.sitter.name, unharmed(round_.cabinet.cores)
                self._tell(round=round_, player=name, wounds=wounds, recording=False, notice=self.state.notice)
                self._made = Wish(wish.game, name, wounds if name == "chip" else None, round_.replay)
                self._restart = True
            self._lock.notify_all()
        self.ring()

    def refused(self, wish: Wish, why: str) -> None:
        """It could not be made: all stays as it is, and viewers are told."""
        with self._lock:
            current = self.state.round
            if self._game == wish.game:
                self._game = current.cabinet.name
            if self._replay == wish.replay:
                self._replay = current.replay
            if self.state.player == wish.player:
                self.state = replace(self.state, player=current.seat.sitter.name)
            self._tell(notice=why)
            self._made = self._wanted()
            self._lock.notify_all()
        self.ring()

    def parted(self, why: str) -> None:
        """The replay does not come out as recorded: tell of it and wait until somebody plays in its place."""
        with self._lock:
            shown, self._replay = self.state.round, None
            self._tell(player=shown.cabinet.players[0], notice=why)
            self._lock.notify_all()
        self.ring()
        with self._lock:
            self._lock.wait_for(lambda: self._closing or self.state.round is not shown)

    def settled(self, timeout_s: float) -> bool:
        """Wait until all that was asked for is made; whether it was in time."""
        with self._lock:
            return self._lock.wait_for(lambda: self._wanted() == self._made, timeout_s)

    def filming(self, now: int) -> int | None:
        """Wait until another clip is wanted than the one under way `now`; its number, 0: none. None when the show ends.

        By number: whoever ends a clip and asks for the next at once wants two.
        """
        with self._lock:
            self._lock.wait_for(lambda: self._closing or self._take() != now)
            return None if self._closing else self._take()

    def _take(self) -> int:
        return self._takes if self.state.recording else 0

    def filmed(self, clip: Path | None, notice: str = "") -> None:
        """A clip ended, or could not begin or end for the reason in `notice`."""
        with self._lock:
            clips = self.state.clips if clip is None else (*self.state.clips, clip)
            self._tell(clips=clips, recording=self.state.recording and not notice, notice=notice)
        self.ring()

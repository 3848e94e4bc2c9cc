"""Real time: thirty times a second sense, think, act, show; nothing is dropped and lateness is counted."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from deploy.pacer import Pacer, pace
from deploy.screens import QUIT, Picture, Screen
from rl.loop import Player, Step
from rl.settings import need


class PacedGame(Protocol):
    """A game whose steps can be run a few emulator frames at a time."""

    actions: tuple[str, ...]  # meanings, by action id
    frames_per_step: int

    def reset(self) -> NDArray[np.uint8]:
        """Begin an episode; the first picture stack [4, 84, 84] u8."""

    def open(self, action: int) -> None:
        """Begin a step."""

    def advance(self, frames: int) -> None:
        """Run up to that many emulator frames of the open step; stops early at the end of the episode."""

    def close(self) -> Step:
        """End the step."""

    def screen(self) -> NDArray[np.uint8]:
        """The colour frame [210, 160, 3] as it stands."""


@runtime_checkable
class Thinking(Protocol):
    """A player that shows how it came to its last decision."""

    @property
    def votes(self) -> NDArray[np.int32] | None:
        """Votes [A] by action id; None before the first decision."""

    @property
    def activity(self) -> NDArray[np.int32] | None:
        """Spikes per core [64, 64]; negative where no core is in use; None without a chip."""


class NoThoughts:
    """A player that does not say how it decides."""

    votes: NDArray[np.int32] | None = None
    activity: NDArray[np.int32] | None = None


def thoughts_of(player: Player) -> Thinking:
    """The player itself where it is Thinking, else NoThoughts."""
    return player if isinstance(player, Thinking) else NoThoughts()


@dataclass(frozen=True)
class RealtimeSettings:
    """What a real-time run may choose."""

    seconds: float  # of pictures; 0: until stopped
    pictures_per_s: int
    frames_per_picture: int  # emulator frames from one picture to the next

    def __post_init__(self) -> None:
        need(self.seconds >= 0, "realtime.seconds", self.seconds, "0 (until stopped) and above")
        need(self.pictures_per_s >= 1, "realtime.pictures_per_s", self.pictures_per_s, "1 and above; try 30")
        frames = self.frames_per_picture
        need(frames >= 1, "realtime.frames_per_picture", frames, "1 and above; try 2")

    @property
    def period_s(self) -> float:
        """Seconds that one picture may take."""
        return 1 / self.pictures_per_s

    @property
    def budget(self) -> range | itertools.count[int]:
        """One entry for each picture of the run; a run of any length has at least one."""
        return range(max(1, round(self.seconds * self.pictures_per_s))) if self.seconds else itertools.count()


@dataclass(frozen=True)
class Turn:
    """What happened between one picture and the next."""

    action: int
    decided: bool  # the action was chosen in this turn
    reward: float  # raw; 0 while the step is still open
    ended: bool  # the episode ended in this turn


def pictures_per_step(frames_per_step: int, frames_per_picture: int) -> int:
    """Pictures from one decision to the next; raises SettingsError where that is no whole number."""
    allowed = f"divisors of frames_per_step ({frames_per_step}); try {frames_per_step}"
    need(frames_per_step % frames_per_picture == 0, "realtime.frames_per_picture", frames_per_picture, allowed)
    return frames_per_step // frames_per_picture


def turns(game: PacedGame, player: Player, frames_per_picture: int) -> Iterator[Turn]:
    """Play for ever, one Turn a picture; pace, pictures and statistics are consumers.

    Raises:
        SettingsError: a step is not a whole number of pictures; raised here, not at the first turn.
    """
    return _turns(game, player, frames_per_picture, pictures_per_step(game.frames_per_step, frames_per_picture))


def _turns(game: PacedGame, player: Player, frames_per_picture: int, parts: int) -> Iterator[Turn]:
    while True:
        obs, ended = game.reset(), False
        player.reset()
        while not ended:
            action = player.act(obs)
            game.open(action)
            for part in range(parts - 1):
                game.advance(frames_per_picture)
                yield Turn(action, decided=part == 0, reward=0.0, ended=False)
            game.advance(frames_per_picture)
            step = game.close()
            obs, ended = step.obs, step.ended
            yield Turn(action, decided=parts == 1, reward=step.reward, ended=ended)


@dataclass(frozen=True)
class PlayReport:
    """What a real-time run came to."""

    title: str
    seconds: float  # wall clock, of this run
    pictures: int
    pictures_per_s: float  # as achieved
    late: int
    decisions: int
    episodes: int  # finished
    scores: tuple[float, ...]  # raw, of finished episodes
    running_score: float  # of the episode under way
    period_s: float  # what the work of a picture may take
    work_p50_s: float
    work_p99_s: float
    work_max_s: float

    def to_json(self) -> dict[str, Any]:
        """Plain values for report.json."""
        return dataclasses.asdict(self) | {"scores": list(self.scores)}

    def __str__(self) -> str:
        mean = f", mean score {sum(self.scores) / len(self.scores):g}" if self.scores else ""
        p50, p99, most, period = (1000 * s for s in (self.work_p50_s, self.work_p99_s, self.work_max_s, self.period_s))
        return (
            f"{self.title}: {self.pictures} pictures in {self.seconds:.1f} s ({self.pictures_per_s:.2f} a second), "
            f"{self.late} late, {self.decisions} decisions\n"
            f"work per picture: p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {most:.2f} ms of {period:.1f} ms\n"
            f"{self.episodes} episodes finished{mean}; {self.running_score:g} in the one under way"
        )


class Tally:
    """Counts over the turns of a run."""

    def __init__(self) -> None:
        self.decisions, self.running_score = 0, 0.0
        self.scores: list[float] = []
        self._ended = False

    @property
    def episode(self) -> int:
        """The episode that the picture belongs to, from 1."""
        return len(self.scores) + 1 - self._ended

    @property
    def score(self) -> float:
        """The score to show: at the end of an episode, its final one."""
        return self.scores[-1] if self._ended else self.running_score

    def count(self, turn: Turn) -> None:
        """Add one turn."""
        self.decisions += turn.decided
        self.running_score += turn.reward
        self._ended = turn.ended
        if turn.ended:
            self.scores.append(self.running_score)
            self.running_score = 0.0


def play_realtime(
    game: PacedGame,
    player: Player,
    screen: Screen,
    pacer: Pacer,
    settings: RealtimeSettings,
    keep_going: Callable[[], bool],
    *,
    title: str = "",
    thoughts: Thinking | None = None,
    tell: Callable[[PlayReport], None] = lambda report: None,
) -> PlayReport:
    """Play in real time until the seconds are over, keep_going() says no, or the screen's quit key is held.

    Args:
        title: game and player in words, for pictures and report.
        thoughts: who shows votes and activity; the player itself unless given (a wrapped player needs it).
        tell: told the report however the run ends, also by an exception.

    Raises:
        SettingsError: the game's step is not a whole number of pictures.
    """
    tally = Tally()
    mind = thoughts_of(player) if thoughts is None else thoughts
    played = turns(game, player, settings.frames_per_picture)
    pacer.start()
    try:
        for _ in settings.budget:
            held = screen.keys()
            if QUIT in held or not keep_going():
                break
            turn = next(played)
            tally.count(turn)
            screen.show(_picture(game, turn, mind, tally, pacer, title))
            pacer.wait()
    finally:
        report = _report(tally, pacer, title)
        tell(report)
    return report


def _picture(game: PacedGame, turn: Turn, mind: Thinking, tally: Tally, pacer: Pacer, title: str) -> Picture:
    return Picture(
        frame=game.screen().copy(),  # the emulator may write into the same memory while a screen still draws it
        title=title,
        actions=game.actions,
        action=turn.action,
        votes=None if mind.votes is None else mind.votes.astype(np.int32),
        activity=None if mind.activity is None else mind.activity.astype(np.int32),
        score=tally.score,
        episode=tally.episode,
        pictures=len(pacer.work_s),
        late=pacer.late,
        work_s=pacer.last_work_s,
        period_s=pacer.period_s,
        recent=tuple(pacer.recent),
    )


def _report(tally: Tally, pacer: Pacer, title: str) -> PlayReport:
    kept, seconds = pace(pacer.work_s, pacer.late), pacer.elapsed_s
    return PlayReport(
        title=title,
        seconds=seconds,
        pictures=kept.pictures,
        pictures_per_s=kept.pictures / seconds if seconds > 0 else 0.0,
        late=kept.late,
        decisions=tally.decisions,
        episodes=len(tally.scores),
        scores=tuple(tally.scores),
        running_score=tally.running_score,
        period_s=pacer.period_s,
        work_p50_s=kept.work_p50_s,
        work_p99_s=kept.work_p99_s,
        work_max_s=kept.work_max_s,
    )

"""Runs taken down as they are played, played again from a replay, and looked at in any order."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.pacer import Pacer
from deploy.players import make_player
from deploy.realtime import (
    NoThoughts,
    PacedGame,
    PlayReport,
    RealtimeSettings,
    Thinking,
    pictures_per_step,
    play_realtime,
    thoughts_of,
    turns,
)
from deploy.replay import Check, Played, Record, Replay, check_thought, differences
from deploy.reports import model_digests, present_digests
from deploy.screens import Screen
from rl.games import EnvSettings, ScalarGame, rom_path
from rl.loop import Player, Step
from rl.manifest import versions
from rl.settings import SettingsError, build

# Players of integers alone: on every machine they think the same. Of all others only the actions are played again.
REPEATABLE = ("chip", "spec", "student", "int8", "int4")
REPLAY = "replay.npz"  # its name beside a run's video, and in models/


class Ledger(Protocol):
    """A Record, or a Check."""

    def began(self, obs: NDArray[np.uint8]) -> None: ...
    def decided(self, action: int, votes: NDArray[np.int32] | None, activity: NDArray[np.int32] | None) -> None: ...
    def stepped(self, obs: NDArray[np.uint8], reward: float, ended: bool) -> None: ...


class RecordedGame:
    """A game whose every decision goes to a ledger, as seen by one player; nothing else of it changes."""

    def __init__(self, game: PacedGame, mind: Thinking, ledger: Ledger) -> None:
        self._game, self._mind, self._ledger = game, mind, ledger
        self.actions, self.frames_per_step = game.actions, game.frames_per_step

    def reset(self) -> NDArray[np.uint8]:
        obs = self._game.reset()
        self._ledger.began(obs)
        return obs

    def open(self, action: int) -> None:
        # The player has just chosen it: its thoughts are those of this decision.
        self._ledger.decided(action, self._mind.votes, self._mind.activity)
        self._game.open(action)

    def advance(self, frames: int) -> None:
        self._game.advance(frames)

    def close(self) -> Step:
        step = self._game.close()
        self._ledger.stepped(step.obs, step.reward, step.ended)
        return step

    def screen(self) -> NDArray[np.uint8]:
        return self._game.screen()


class Again:
    """Plays recorded actions; a player thinks along, so that its votes and spikes can be watched."""

    def __init__(self, replay: Replay, thinker: Player | None) -> None:
        self._actions: Iterator[int] = iter(replay.action.tolist())
        self._thinker = thinker
        self._mind = None if thinker is None else thoughts_of(thinker)

    def reset(self) -> None:
        if self._thinker is not None:
            self._thinker.reset()

    def act(self, obs: NDArray[np.uint8]) -> int:
        if self._thinker is not None:
            self._thinker.act(obs)
        return next(self._actions)

    @property
    def votes(self) -> NDArray[np.int32] | None:
        return None if self._mind is None else self._mind.votes

    @property
    def activity(self) -> NDArray[np.int32] | None:
        return None if self._mind is None else self._mind.activity


def env_of(replay: Replay) -> EnvSettings:
    """How the recorded game was run; raises SettingsError where this is no such setting."""
    return build(EnvSettings, replay.played.env, "replay.env")


def rom_digest(game: str) -> str:
    """md5 of a game's ROM."""
    return hashlib.md5(rom_path(game).read_bytes(), usedforsecurity=False).hexdigest()


def played_with(
    game: str, player: str, student: str | None, env: EnvSettings, seed: int, actions: tuple[str, ...],
    models: Mapping[str, str],
) -> Played:  # fmt: skip
    """What is written beside a run of this program; `models` as of `deploy.reports.model_digests`."""
    return Played(game, player, student, asdict(env), seed, actions, rom_digest(game), models, versions())


def record_episode(game: PacedGame, player: Player, played: Played, at_most: int) -> Replay:
    """One episode, as fast as it can be played, or its first so many decisions."""
    record = Record()
    recorded = RecordedGame(game, thoughts_of(player), record)
    for turn in islice(turns(recorded, player, game.frames_per_step), at_most):
        if turn.ended:
            break
    found = record.replay(played)
    assert found is not None
    return found


def check_replay(replay: Replay, name: str, game: PacedGame, thinker: Player | None) -> Iterator[int]:
    """Play all of it again as fast as it goes, one number a decision; raises ReplayError where the runs part."""
    again, check = Again(replay, thinker), Check(replay, name, thinker is not None)
    played = turns(RecordedGame(game, again, check), again, game.frames_per_step)
    for at, _ in enumerate(islice(played, len(replay))):
        yield at


@dataclass(frozen=True, eq=False)
class Scene:
    """One decision of a replay."""

    at: int  # from 0
    obs: NDArray[np.uint8]  # [4, 84, 84]  what was seen
    action: int
    votes: NDArray[np.int32] | None  # [A]  None where nobody thinks along
    activity: NDArray[np.int32] | None  # [64, 64]
    frames: NDArray[np.uint8]  # [P, 210, 160, 3]  the colour pictures of the step that followed
    score: float  # of the episode, after that step
    episode: int  # from 1
    ended: bool  # with that step


@dataclass(frozen=True)
class _Kept:
    obs: bytes
    frames: bytes
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    score: float
    episode: int
    ended: bool


class Reel:
    """Any decision of a replay, in any order.

    The game is played once, as far as somebody looked; its pictures are kept packed, some kB a decision. Thoughts are
    made anew for each look: a chip without a history needs nothing but the picture stack, one with a history is shown
    the stack whole, which gives the same votes.
    """

    def __init__(
        self, replay: Replay, name: str, game: PacedGame, thinker: Player | None, frames_per_picture: int = 2
    ) -> None:
        """`game` freshly made with the replay's settings and seed; `thinker` None: actions alone.

        Raises SettingsError where a step is not a whole number of pictures.
        """
        self._replay, self._name, self._thinker = replay, name, thinker
        self._mind = None if thinker is None else thoughts_of(thinker)
        self._game = RecordedGame(game, NoThoughts(), Check(replay, name, thinks=False))
        self._frames, self._parts = frames_per_picture, pictures_per_step(game.frames_per_step, frames_per_picture)
        self._kept: list[_Kept] = []
        self._obs: NDArray[np.uint8] | None = None  # of the next decision; None: an episode begins
        self._score, self._episode, self._thought = 0.0, 1, -2

    def __len__(self) -> int:
        return len(self._replay)

    def at(self, decision: int) -> Scene:
        """That decision, 0 to len - 1; one not yet reached is played up to, about a thousand a second.

        Raises:
            ReplayError: the game or the thinker parts from the replay before or at it.
            IndexError: there is no such decision.
        """
        if not 0 <= decision < len(self):
            raise IndexError(f"{self._name}: decision {decision}, allowed 0..{len(self) - 1}")
        while len(self._kept) <= decision:
            self._kept.append(self._play())
        kept = self._kept[decision]
        obs, frames = (
            np.frombuffer(zlib.decompress(packed), np.uint8).reshape(shape)
            for packed, shape in zip((kept.obs, kept.frames), kept.shapes, strict=True)
        )
        votes, activity = self._think(decision, obs)
        action = int(self._replay.action[decision])
        return Scene(decision, obs, action, votes, activity, frames, kept.score, kept.episode, kept.ended)

    def _play(self) -> _Kept:
        """The next decision that nobody has looked at."""
        obs = self._game.reset() if self._obs is None else self._obs
        self._game.open(int(self._replay.action[len(self._kept)]))
        frames = np.stack([self._picture() for _ in range(self._parts)])
        step = self._game.close()
        score, episode = self._score + step.reward, self._episode
        self._obs = None if step.ended else step.obs
        self._score, self._episode = (0.0, episode + 1) if step.ended else (score, episode)
        shapes = (obs.shape, frames.shape)
        return _Kept(
            zlib.compress(obs.tobytes(), 1), zlib.compress(frames.tobytes(), 1), shapes, score, episode, step.ended
        )

    def _picture(self) -> NDArray[np.uint8]:
        self._game.advance(self._frames)
        return self._game.screen().copy()

    def _think(self, at: int, obs: NDArray[np.uint8]) -> tuple[NDArray[np.int32] | None, NDArray[np.int32] | None]:
        if self._thinker is None or self._mind is None:
            return None, None
        begins = at == 0 or self._kept[at - 1].ended
        if begins or at != self._thought + 1:
            self._thinker.reset()
        self._thinker.act(obs)
        self._thought = at
        votes, activity = self._mind.votes, self._mind.activity
        if self._replay.thinks:
            check_thought(self._replay, self._name, at, votes, activity)
        return votes, activity


# A whole run again, before a screen


def thinker_of(replay: Replay, game: PacedGame, root: str) -> Player | None:
    """The player of the run where it thinks alike everywhere, else none; raises SettingsError where it is missing.

    Of its models those are taken that it played with, from the run or from what ships, where they are still there.
    """
    own = replay.played
    if own.player not in REPEATABLE or not replay.thinks:
        return None
    return make_player(own.player, own.game, game.actions, root, own.seed, frozenset, None, own.student, own.models)


def present_differences(replay: Replay, root: str) -> list[str]:
    """What is not as it was when the run was recorded, in words."""
    own = replay.played
    if own.player in REPEATABLE:  # it plays again, and its files must be there
        models = model_digests(own.game, root, [own.player], own.student, own.models)
    else:
        models = present_digests(own.game, root, own.student, own.models)
    return differences(replay, models, versions(), rom_digest(own.game))


def play_again(
    replay: Replay, name: str, root: str, open_screen: Callable[[], AbstractContextManager[Screen]], pacer: Pacer,
    asked: RealtimeSettings, keep_going: Callable[[], bool],
) -> PlayReport:  # fmt: skip
    """Play it again, all of it or the first seconds; the screen is entered once all else is there.

    Raises:
        ReplayError: the runs part; the screen is left by then.
        SettingsError: the game has other actions, or the player's files are missing.
    """
    own = replay.played
    game = ScalarGame(own.game, env_of(replay), own.seed)
    if game.actions != own.actions:
        raise SettingsError(f"{name}: actions {', '.join(own.actions)}; here {', '.join(game.actions)}")
    thinker = thinker_of(replay, game, root)
    player = Again(replay, thinker)
    pictures = len(replay) * pictures_per_step(game.frames_per_step, asked.frames_per_picture)
    whole_s = pictures / asked.pictures_per_s
    pace = RealtimeSettings(min(asked.seconds or whole_s, whole_s), asked.pictures_per_s, asked.frames_per_picture)
    recorded = RecordedGame(game, player, Check(replay, name, thinker is not None))
    with open_screen() as screen:
        title = f"{own.game} | {own.player} | replay"
        return play_realtime(recorded, player, screen, pacer, pace, keep_going, title=title)

"""A replay on the page: the recorded run as a game and a player, from any of its decisions on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy.arcade.cabinet import Cabinet
from deploy.arcade.seat import Sitter
from deploy.realtime import NoThoughts, Thinking, thoughts_of
from deploy.replay import Replay, check_thought, load_replay
from deploy.replaying import Reel, Scene, env_of
from rl.games import ScalarGame
from rl.loop import Player, Step
from rl.settings import SettingsError

PLAYER = "replay"


class ReelGame:
    """A recorded game: its steps come from the reel, whatever is played, and it begins anew after its last one."""

    def __init__(self, reel: Reel, actions: tuple[str, ...], frames_per_step: int) -> None:
        self.actions, self.frames_per_step = actions, frames_per_step
        self._reel, self._at, self._part, self._score = reel, 0, 0, 0.0
        self._wanted: int | None = None
        self.scene: Scene = reel.at(0)
        self._frame: NDArray[np.uint8] = self.scene.frames[0]
        self._shown = 0

    def __len__(self) -> int:
        return len(self._reel)

    @property
    def shown(self) -> int:
        """The decision whose picture the screen shows."""
        return self._shown

    def seek(self, decision: int) -> None:
        """Go on from that decision at the next reset; from any thread."""
        self._wanted = decision

    def reset(self) -> NDArray[np.uint8]:
        """Raises ReplayError where the run parts from what was recorded, as `close` does."""
        if self._wanted is not None:
            self._at, self._wanted = self._wanted, None
        self._score = 0.0  # the first reward after a leap brings all of the episode's score
        self.scene = self._reel.at(self._at)
        self._frame = self.scene.frames[0]
        return self.scene.obs

    def open(self, action: int) -> None:
        self._part, self._shown = 0, self._at

    def advance(self, frames: int) -> None:
        self._frame = self.scene.frames[self._part]
        self._part += 1

    def close(self) -> Step:
        scene, self._at = self.scene, (self._at + 1) % len(self._reel)
        reward, self._score = scene.score - self._score, scene.score
        ended = scene.ended or self._at == 0
        if not ended:
            self.scene = self._reel.at(self._at)
        return Step(self.scene.obs, reward, life_lost=False, terminated=ended, truncated=False)

    def screen(self) -> NDArray[np.uint8]:
        return self._frame  # of the step that was closed last, whose successor may be loaded already


class ReelPlayer:
    """Plays what was recorded; a player thinks along, and must think what was recorded of it."""

    def __init__(self, game: ReelGame, replay: Replay, name: str, thinker: Player | None) -> None:
        self._game, self._replay, self._name, self._thinker = game, replay, name, thinker
        self._mind: Thinking = NoThoughts() if thinker is None else thoughts_of(thinker)

    def reset(self) -> None:
        if self._thinker is not None:
            self._thinker.reset()

    def act(self, obs: NDArray[np.uint8]) -> int:
        """The recorded action; raises ReplayError where the thought is another than the recorded one."""
        scene = self._game.scene
        if self._thinker is not None:
            self._thinker.act(obs)
            check_thought(self._replay, self._name, scene.at, self.votes, self.activity)
        return scene.action

    @property
    def votes(self) -> NDArray[np.int32] | None:
        return self._mind.votes

    @property
    def activity(self) -> NDArray[np.int32] | None:
        return self._mind.activity


def open_reel(path: Path, cabinet: Cabinet, frames_per_picture: int) -> tuple[ReelGame, Sitter, Cabinet]:
    """A replay as game and player, all of it played once, and the cabinet with its chip.

    A player of integers thinks along, on the models that the replay names; those of another student, too.

    Raises:
        FormatError: no replay.
        SettingsError: of another game or actions, or the player's files are missing.
        CompileError: the chip that is there is of another student than the one that is there.
        ReplayError: the game parts from what was recorded.
    """
    replay = load_replay(path)
    _need_game(path, replay, cabinet)
    own = replay.played
    game = ScalarGame(own.game, env_of(replay), own.seed)
    shown, thinker = cabinet.again(replay)
    reel = Reel(replay, str(path), game, None, frames_per_picture)
    reel.at(len(reel) - 1)  # leaps are short from here on
    made = ReelGame(reel, game.actions, game.frames_per_step)
    player = ReelPlayer(made, replay, str(path), None if thinker is None else thinker.player)
    if thinker is None:
        return made, Sitter(PLAYER, PLAYER, player), shown
    return made, replace(thinker, name=PLAYER, label=PLAYER, player=player), shown


def _need_game(path: Path, replay: Replay, cabinet: Cabinet) -> None:
    own = replay.played
    if (own.game, own.actions) != (cabinet.name, cabinet.game.actions):
        raise SettingsError(f"{path}: of {own.game} with {', '.join(own.actions)}, allowed this game and its actions")

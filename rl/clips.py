"""A clip: the first seconds of a policy's play in colour, from the screen that the policy never sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from rl.frames import Frames, stack_blocks
from rl.games import FRAMES_PER_SECOND, ScalarGame
from rl.loop import Epsilon, Step, moments
from rl.scores import Protocol

CLIP_S = 10.0


@dataclass(frozen=True, eq=False)
class Clip:
    """Pictures of play and how fast to show them."""

    pictures: Frames  # [T, 210, 160, 3]  one a decision
    period_s: float  # from one to the next, of the console's time


class _Filmed:
    """A game that keeps what it showed."""

    def __init__(self, game: ScalarGame) -> None:
        self._game = game
        self.actions = game.actions
        self.pictures: list[Frames] = []

    def reset(self) -> Frames:
        return self._game.reset()

    def step(self, action: int) -> Step:
        """One decision; its picture holds the last two frames, since many games draw a thing in every other one."""
        self._game.open(action)
        self._game.advance(self._game.frames_per_step - 1)
        before = self._game.screen()
        self._game.advance(1)
        self.pictures.append(np.maximum(before, self._game.screen()))
        return self._game.close()


class _One:
    """A batched policy as a player of one game."""

    def __init__(self, act: Callable[[Frames], NDArray[np.int64]]) -> None:
        self._act = act

    def reset(self) -> None:
        pass

    def act(self, obs: Frames) -> int:
        return int(self._act(stack_blocks(obs[None]))[0])


def film(act: Callable[[Frames], NDArray[np.int64]], game: str, rules: Protocol, seconds: float = CLIP_S) -> Clip:
    """The beginning of a protocol's first episode: at most so many of the console's seconds, or to its end.

    `act`: stacks [B, 21, 21, 64] -> actions [B], as `scores.evaluate` takes it. It plays what that scored, unless a
    batch of one adds up in another order.
    """
    filmed = _Filmed(ScalarGame(game, rules.env, rules.seed))
    player = Epsilon(_One(act), rules.epsilon, len(filmed.actions), rules.seed)
    period_s = rules.env.frames_per_step / FRAMES_PER_SECOND
    for moment in islice(moments(filmed, player), max(1, round(seconds / period_s))):
        if moment.step.ended:
            break
    return Clip(np.stack(filmed.pictures), period_s)

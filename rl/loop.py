"""Play: the one interface of everything that plays, and the one loop that every other program consumes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Step:
    """What a game answers to one action."""

    obs: NDArray[np.uint8]  # [4, 84, 84]  newest frame last
    reward: float  # raw, summed over the step's frames
    life_lost: bool  # a life went and the episode goes on: a terminal for the learner alone
    terminated: bool  # game over
    truncated: bool  # cut off at the frame cap: its discount stays

    @property
    def ended(self) -> bool:
        return self.terminated or self.truncated


@dataclass(frozen=True, eq=False)
class Moment:
    """One decision and what it led to."""

    obs: NDArray[np.uint8]  # [4, 84, 84]  what the player saw
    action: int
    step: Step


class Player(Protocol):
    """Chooses actions: teacher, student, spec, chip, human or random."""

    def reset(self) -> None:
        """A new episode begins."""

    def act(self, obs: NDArray[np.uint8]) -> int:
        """The action for a picture stack [4, 84, 84] u8."""


class Game(Protocol):
    """An episode at a time."""

    actions: tuple[str, ...]  # meanings, by action id

    def reset(self) -> NDArray[np.uint8]:
        """Begin an episode; the first picture stack [4, 84, 84] u8."""

    def step(self, action: int) -> Step:
        """One agent step."""


def moments(game: Game, player: Player) -> Iterator[Moment]:
    """Play for ever, one Moment a step; budgets, statistics and recording are consumers."""
    while True:
        obs = game.reset()
        player.reset()
        ended = False
        while not ended:
            action = player.act(obs)
            step = game.step(action)
            yield Moment(obs, action, step)
            obs, ended = step.obs, step.ended


def seen(game: Game, player: Player, count: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """(what a player sees in so many decisions [count, 4, 84, 84], which of these begin an episode [count])."""
    played = list(islice(moments(game, player), count))
    ended = [moment.step.ended for moment in played]
    return np.stack([moment.obs for moment in played]), np.array([True, *ended[:-1]])


class RandomPlayer:
    """Uniform over the action set: the zero of every normalised score."""

    def __init__(self, n_actions: int, seed: int) -> None:
        self._n, self._rng = n_actions, np.random.default_rng(seed)

    def reset(self) -> None:
        pass

    def act(self, obs: NDArray[np.uint8]) -> int:
        return int(self._rng.integers(self._n))


class Strays:
    """The random actions of one episode: which decisions they replace, and by what."""

    def __init__(self, epsilon: float, n_actions: int, seed: int) -> None:
        self._epsilon, self._n, self._rng = epsilon, n_actions, np.random.default_rng(seed)

    def instead(self, action: int) -> int:
        """The action itself, or with probability epsilon a uniform one."""
        stray = self._rng.random() < self._epsilon
        return int(self._rng.integers(self._n)) if stray else action


class Epsilon:
    """Another player, with a share of uniformly random actions."""

    def __init__(self, player: Player, epsilon: float, n_actions: int, seed: int) -> None:
        self._player, self._strays = player, Strays(epsilon, n_actions, seed)

    def reset(self) -> None:
        self._player.reset()

    def act(self, obs: NDArray[np.uint8]) -> int:
        return self._strays.instead(self._player.act(obs))

"""Scores: raw full-game returns under a named protocol, with their interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl.board import Ticker
from rl.frames import BlockStacks, Frames, blocks
from rl.games import EnvSettings, ScalarGame, VectorGame
from rl.loop import Epsilon, Player, Strays, moments
from rl.settings import SettingsError, need

# Random and human scores (Mnih et al. 2015; google-deepmind/dqn_zoo atari_data.py).
REFERENCE = {
    "BeamRider": (363.9, 16926.5),
    "Breakout": (1.7, 30.5),
    "Enduro": (0.0, 860.5),
    "Freeway": (0.0, 29.6),
    "MsPacman": (307.3, 6951.6),
    "Pong": (-20.7, 14.6),
    "Qbert": (163.9, 13455.0),
    "Riverraid": (1338.5, 17118.0),
    "Seaquest": (68.4, 42054.7),
    "SpaceInvaders": (148.0, 1668.7),
}


@dataclass(frozen=True)
class Protocol:
    """How scores are taken: print it beside every score."""

    name: str
    env: EnvSettings
    epsilon: float  # share of random actions
    episodes: int
    seed: int  # of the first episode; episode i runs with seed + i

    def __post_init__(self) -> None:
        need(self.episodes >= 1, "protocol.episodes", self.episodes, "1 or more")
        need(0 <= self.epsilon <= 1, "protocol.epsilon", self.epsilon, "0 to 1")


def protocol(name: str, episodes: int, seed: int) -> Protocol:
    """A protocol by name. nature: no-op starts, own actions, epsilon .01. machado: sticky .25, all 18 actions."""
    if name == "nature":
        return Protocol(name, EnvSettings(4, 0.0, 30, False, 108_000), 0.01, episodes, seed)
    if name == "machado":  # Machado et al. 2018: the stickiness is the randomness
        return Protocol(name, EnvSettings(4, 0.25, 1, True, 108_000), 0.0, episodes, seed)
    raise SettingsError(f"protocol: found {name!r}, allowed nature, machado")


@dataclass(frozen=True)
class Score:
    """Episode returns of one player."""

    game: str
    player: str
    protocol: Protocol
    returns: tuple[float, ...]  # raw, full games, in the order of their seeds

    @property
    def mean(self) -> float:
        return float(np.mean(self.returns))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the mean."""
        return bootstrap(self.returns)

    @property
    def human_normalised(self) -> float | None:
        """(score - random) / (human - random), where both are published."""
        if self.game not in REFERENCE:
            return None
        random, human = REFERENCE[self.game]
        return (self.mean - random) / (human - random)

    def to_json(self) -> dict[str, Any]:
        low, high = self.interval
        facts = asdict(self) | {"returns": list(self.returns), "mean": self.mean, "low": low, "high": high}
        spread = {"std": float(np.std(self.returns)), "median": float(np.median(self.returns))}
        return facts | spread | {"human_normalised": self.human_normalised}


def bootstrap(returns: Sequence[float], samples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean."""
    values = np.asarray(returns, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(len(values), size=(samples, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def evaluate(
    act: Callable[[Frames], NDArray[np.int64]],
    game: str,
    rules: Protocol,
    threads: int,
    player: str,
    ticker: Ticker | None = None,
) -> Score:
    """Score a batched policy, one env an episode so that short games are not favoured.

    `act`: stacks [B, 21, 21, 64] -> actions [B]. Equal to `episode_return` of the same policy, episode by episode.
    """
    games = VectorGame(game, rules.env, rules.episodes, rules.seed, threads)
    strays = [Strays(rules.epsilon, len(games.actions), rules.seed + i) for i in range(games.n)]
    stacks = BlockStacks(blocks(games.first))
    returns, open_ = np.zeros(games.n), np.ones(games.n, bool)
    try:
        while open_.any():
            actions = np.zeros(games.n, np.int64)
            # Finished games idle on: their actions count for nothing.
            chosen = act(stacks.now[open_])
            actions[open_] = [strays[i].instead(int(a)) for i, a in zip(np.flatnonzero(open_), chosen, strict=True)]
            step = games.step(actions)
            returns += step.reward * open_
            open_ &= ~step.ended
            if ticker:
                ticker.show(games.n - int(open_.sum()), f"{player}: {games.n - int(open_.sum())} episodes over")
            stacks.push(blocks(step.first), step.ended)
    finally:
        games.close()
    return Score(game, player, rules, tuple(map(float, returns)))


def episode_return(player: Player, game: str, rules: Protocol, index: int) -> float:
    """Raw return of episode `index` of a protocol, played one decision at a time."""
    seed = rules.seed + index
    one = ScalarGame(game, rules.env, seed)
    total = 0.0
    for moment in moments(one, Epsilon(player, rules.epsilon, len(one.actions), seed)):
        total += moment.step.reward
        if moment.step.ended:
            break
    return total

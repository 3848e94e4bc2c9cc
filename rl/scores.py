"""Scores: raw full-game returns under a named protocol, with their interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rl.frames import BlockStacks, Frames, blocks
from rl.games import EnvSettings, ScalarGame, VectorGame
from rl.loop import Epsilon, Player, Strays, moments
from rl.settings import SettingsError, need
from rl.statistics import estimate, iqm, mean

if TYPE_CHECKING:  # it brings torch along, and who only reads scores plays without
    from rl.board import Ticker

# (random play, a professional human tester): raw scores of whole games, no-op starts, at most 108,000 frames, as
# collected in google-deepmind/dqn_zoo, dqn_zoo/atari_data.py; Mnih et al. 2015 print most of them.
REFERENCE: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "Alien": (227.8, 7127.7),
        "Amidar": (5.8, 1719.5),
        "Assault": (222.4, 742.0),
        "Asterix": (210.0, 8503.3),
        "Asteroids": (719.1, 47388.7),
        "Atlantis": (12850.0, 29028.1),
        "BankHeist": (14.2, 753.1),
        "BattleZone": (2360.0, 37187.5),
        "BeamRider": (363.9, 16926.5),
        "Berzerk": (123.7, 2630.4),
        "Bowling": (23.1, 160.7),
        "Boxing": (0.1, 12.1),
        "Breakout": (1.7, 30.5),
        "Centipede": (2090.9, 12017.0),
        "ChopperCommand": (811.0, 7387.8),
        "CrazyClimber": (10780.5, 35829.4),
        "Defender": (2874.5, 18688.9),
        "DemonAttack": (152.1, 1971.0),
        "DoubleDunk": (-18.6, -16.4),
        "Enduro": (0.0, 860.5),
        "FishingDerby": (-91.7, -38.7),
        "Freeway": (0.0, 29.6),
        "Frostbite": (65.2, 4334.7),
        "Gopher": (257.6, 2412.5),
        "Gravitar": (173.0, 3351.4),
        "Hero": (1027.0, 30826.4),
        "IceHockey": (-11.2, 0.9),
        "Jamesbond": (29.0, 302.8),
        "Kangaroo": (52.0, 3035.0),
        "Krull": (1598.0, 2665.5),
        "KungFuMaster": (258.5, 22736.3),
        "MontezumaRevenge": (0.0, 4753.3),
        "MsPacman": (307.3, 6951.6),
        "NameThisGame": (2292.3, 8049.0),
        "Phoenix": (761.4, 7242.6),
        "Pitfall": (-229.4, 6463.7),
        "Pong": (-20.7, 14.6),
        "PrivateEye": (24.9, 69571.3),
        "Qbert": (163.9, 13455.0),
        "Riverraid": (1338.5, 17118.0),
        "RoadRunner": (11.5, 7845.0),
        "Robotank": (2.2, 11.9),
        "Seaquest": (68.4, 42054.7),
        "Skiing": (-17098.1, -4336.9),
        "Solaris": (1236.3, 12326.7),
        "SpaceInvaders": (148.0, 1668.7),
        "StarGunner": (664.0, 10250.0),
        "Surround": (-10.0, 6.5),
        "Tennis": (-23.8, -8.3),
        "TimePilot": (3568.0, 5229.2),
        "Tutankham": (11.4, 167.6),
        "UpNDown": (533.4, 11693.2),
        "Venture": (0.0, 1187.5),
        "VideoPinball": (16256.9, 17667.9),
        "WizardOfWor": (563.5, 4756.5),
        "YarsRevenge": (3092.9, 54576.9),
        "Zaxxon": (32.5, 9173.3),
    }
)

# Rules by name: how games run, share of random actions. FIRE, where a game has it, is pressed once at every start.
PROTOCOLS: Mapping[str, tuple[EnvSettings, float]] = MappingProxyType(
    {
        # Mnih et al. 2015: no-op starts, own actions. They draw 5 % of actions at random, we 1 %.
        "nature": (EnvSettings(4, 0.0, 30, False, 108_000), 0.01),
        # Rusu et al. 2015, Policy Distillation; no-op starts stand in for theirs by people, which are not to be had.
        "rusu": (EnvSettings(4, 0.0, 30, False, 108_000), 0.05),
        # Machado et al. 2018: the stickiness is the randomness, all 18 actions.
        "machado": (EnvSettings(4, 0.25, 1, True, 108_000), 0.0),
        # Castro et al. 2018, Dopamine: sticky, own actions.
        "dopamine": (EnvSettings(4, 0.25, 1, False, 108_000), 0.001),
        # ALE/<Game>-v5 of gymnasium as it comes: sticky, own actions, greedy.
        "v5": (EnvSettings(4, 0.25, 1, False, 108_000), 0.0),
    }
)


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
    """One of PROTOCOLS by name, over so many episodes; raises SettingsError for any other."""
    if name not in PROTOCOLS:
        raise SettingsError(f"protocol: found {name!r}, allowed {', '.join(PROTOCOLS)}")
    env, epsilon = PROTOCOLS[name]
    return Protocol(name, env, epsilon, episodes, seed)


def rules_of(env: EnvSettings, epsilon: float, episodes: int, seed: int) -> Protocol:
    """The protocol of a run's own settings, by the name that PROTOCOLS have for them, else "own"."""
    name = next((name for name, rules in PROTOCOLS.items() if rules == (env, epsilon)), "own")
    return Protocol(name, env, epsilon, episodes, seed)


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
        spread["iqm"] = float(iqm(np.asarray(self.returns)[:, None]))
        return facts | spread | {"human_normalised": self.human_normalised}


def in_words(env: Mapping[str, Any]) -> str:
    """The rules of an env, as fields of EnvSettings, for people."""
    return (
        f"sticky {env['sticky']}, up to {env['noop_max'] - 1} no-ops, cap {env['max_frames']:,} frames, "
        f"{env['frames_per_step']} frames a decision"
    )


def points(score: float) -> str:
    """A score for people: whole points from a thousand on, hundredths below."""
    return f"{score:,.0f}" if abs(score) >= 999.995 else f"{score:.2f}"


def bootstrap(returns: Sequence[float], samples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean."""
    found = estimate(mean, np.asarray(returns, np.float64)[:, None], samples=samples, seed=seed)
    return found.low, found.high


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
    returns, open_, steps = np.zeros(games.n), np.ones(games.n, bool), 0
    try:
        while open_.any():
            actions = np.zeros(games.n, np.int64)
            # Finished games idle on: their actions count for nothing.
            chosen = act(stacks.now[open_])
            actions[open_] = [strays[i].instead(int(a)) for i, a in zip(np.flatnonzero(open_), chosen, strict=True)]
            step = games.step(actions)
            returns += step.reward * open_
            open_ &= ~step.ended
            steps += 1
            if ticker:
                over = games.n - int(open_.sum())
                # In games whose episodes are all as long, steps are the only sign of life.
                ticker.show(over, f"{player}: {over} episodes over, {steps:,} decisions into the others")
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

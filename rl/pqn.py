"""PQN: parallelised Q-learning without replay and without a target net (Gallici et al. 2024, arXiv 2407.04811).

Many envs play a rollout; its lambda-returns, from the values that chose its actions, are learnt for a few epochs while
the next rollout is played. A sample costs three forward passes, where Double DQN's costs five.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl.agent import Agent
from rl.frames import CELLS, CHANNELS, Frames, described
from rl.games import VectorStep
from rl.memory import need_memory
from rl.settings import need


@dataclass(frozen=True)
class PqnSettings:
    """Rollouts and their returns."""

    rollout_steps: int  # decisions of each env
    epochs: int  # times a rollout is learnt
    trace: float  # lambda: 0 is one step, 1 the whole rollout

    def __post_init__(self) -> None:
        need(self.rollout_steps >= 2, "pqn.rollout_steps", self.rollout_steps, "2 or more")
        need(self.epochs >= 1, "pqn.epochs", self.epochs, "1 or more")
        need(0 <= self.trace <= 1, "pqn.trace", self.trace, "0 to 1")


@dataclass(frozen=True, eq=False, repr=False)
class Samples:
    """A batch with the returns that its values should become."""

    obs: Frames  # [B, 21, 21, 64]  block layout
    action: NDArray[np.int64]  # [B]
    returns: NDArray[np.float32]  # [B]

    __repr__ = described


class Pqn(Agent[Samples]):
    """Learns returns that are known before: the norm in the network does what a target net does elsewhere."""

    def _goal(self, part: Samples, quantiles: Tensor) -> Tensor:
        return torch.from_numpy(part.returns)[:, None]


def lambda_returns(
    reward: NDArray[np.float32],
    best: NDArray[np.float32],
    terminal: NDArray[np.bool_],
    cut: NDArray[np.bool_],
    gamma: float,
    trace: float,
) -> NDArray[np.float32]:
    """Q(lambda) returns [T, E] (Gallici et al. 2024, section 3) of rewards [T, E]; episodes may end anywhere in them.

    `best` [T + 1, E]: highest value of each state, the one after the last included. `terminal`: nothing follows.
    `cut`: the episode was cut off, and `best` of the next row belongs to another; the value of the last state seen,
    a step older, stands for that of the one which was not.
    """
    returns = np.empty_like(reward)
    ahead = best[-1]
    for t in reversed(range(len(reward))):
        mixed = best[t + 1] if t == len(reward) - 1 else (1 - trace) * best[t + 1] + trace * ahead
        after = np.where(terminal[t], 0, np.where(cut[t], best[t], mixed))
        ahead = returns[t] = reward[t] + gamma * after
    return returns


class Rollouts:
    """The rollout being played and the one being learnt, T steps of E envs each."""

    def __init__(self, n_envs: int, settings: PqnSettings, gamma: float) -> None:
        """Raises MemoryError before it takes any."""
        steps = settings.rollout_steps
        need_memory(2 * steps * n_envs * CELLS * CELLS * CHANNELS, "rollouts", "lower teacher.pqn.rollout_steps")
        self._settings, self._gamma = settings, gamma
        self._played, self._learnt = (np.zeros((steps, n_envs, CELLS, CELLS, CHANNELS), np.uint8) for _ in range(2))
        self._actions: NDArray[np.int64] = np.zeros((2, steps, n_envs), np.int64)  # learnt, played
        self._reward: NDArray[np.float32] = np.zeros((steps, n_envs), np.float32)
        self._best: NDArray[np.float32] = np.zeros((steps + 1, n_envs), np.float32)
        self._terminal, self._cut = (np.zeros((steps, n_envs), bool) for _ in range(2))
        self._returns: NDArray[np.float32] = np.zeros((steps, n_envs), np.float32)
        self._order: NDArray[np.int64] = np.zeros(0, np.int64)  # of samples still to be learnt
        self._step = 0

    @property
    def waiting(self) -> int:
        """Samples still to be learnt."""
        return len(self._order)

    def add(
        self,
        stacks: Frames,
        best: NDArray[np.float32],
        actions: NDArray[np.int64],
        step: VectorStep,
        rng: np.random.Generator,
    ) -> None:
        """One step of all envs: stacks [E, 21, 21, 64] with their highest values [E], and what came of the actions."""
        if self._step == len(self._reward):
            self._turn(best, rng)
        at = self._step
        self._played[at], self._best[at], self._actions[1, at] = stacks, best, actions
        self._reward[at] = np.clip(step.reward, -1, 1)
        self._terminal[at], self._cut[at] = step.terminated | step.life_lost, step.truncated
        self._step += 1

    def _turn(self, best: NDArray[np.float32], rng: np.random.Generator) -> None:
        """The rollout is whole once the values behind its last step are known: from now on it is learnt."""
        self._best[-1] = best
        self._returns = lambda_returns(
            self._reward, self._best, self._terminal, self._cut, self._gamma, self._settings.trace
        )
        self._played, self._learnt = self._learnt, self._played
        self._actions[0] = self._actions[1]
        self._order = np.concatenate([rng.permutation(self._returns.size) for _ in range(self._settings.epochs)])
        self._step = 0

    def sample(self, size: int) -> Samples:
        """The next `size` samples of this epoch's order."""
        assert size <= self.waiting, f"{size} samples of {self.waiting}"
        chosen, self._order = self._order[:size], self._order[size:]
        obs = self._learnt.reshape(-1, *self._learnt.shape[2:])[chosen]
        return Samples(obs, self._actions[0].reshape(-1)[chosen], self._returns.reshape(-1)[chosen])

"""Which of the actions that are played are random ones, and for how long."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LAW = 2.0  # a random action lasts n steps with a chance as 1 / n**LAW


def epsilon_at(frames: int, final: float, decay_frames: int) -> float:
    """Chance that a random action begins: linear from 1 to `final`, then flat."""
    return 1.0 + (final - 1.0) * min(1.0, frames / decay_frames)


class Exploration:
    """Epsilon-greedy play of E envs; a random action may last (Dabney, Ostrovski & Barreto 2021).

    With `most` of 1 that is plain epsilon-greedy. Where only a long run of one action is ever rewarded, as in crossing
    a road, plain random play never finds out.
    """

    def __init__(self, n_envs: int, n_actions: int, most: int) -> None:
        """`most`: steps that a random action lasts at the longest."""
        self._n_actions, self._most = n_actions, most
        self._left, self._stray = np.zeros(n_envs, np.int64), np.zeros(n_envs, np.int64)

    def choose(self, greedy: NDArray[np.int64], epsilon: float, rng: np.random.Generator) -> NDArray[np.int64]:
        """Actions [E] in place of the greedy ones [E], where a random one goes on or begins."""
        begins = (self._left == 0) & (rng.random(len(greedy)) < epsilon)
        count = int(begins.sum())
        self._stray[begins] = rng.integers(self._n_actions, size=count)
        self._left[begins] = 1 if self._most == 1 else np.minimum(rng.zipf(LAW, count), self._most)
        lasts = self._left > 0
        self._left[lasts] -= 1
        return np.where(lasts, self._stray, greedy)

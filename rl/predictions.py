"""Values that the network predicted, against the returns that came: they run away before the score does."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

LIVES = 50  # whose mean is told, as of the training score


class Predictions:
    """Predicted and realised value of all states of the last lives, of E envs, as they end.

    Realised is the discounted sum of clipped rewards from a state to the end of its life, as played: with its random
    actions, so that a sound prediction lies a little above. What is cut off at the frame cap has no such sum and is
    left out.
    """

    def __init__(self, envs: int, gamma: float) -> None:
        self._gamma = gamma
        self._weight, self._predicted, self._realised, self._states = (np.zeros(envs) for _ in range(4))
        self._lives: deque[tuple[float, float, float]] = deque(maxlen=LIVES)  # sums of both; states

    def note(
        self, value: NDArray[np.float32], reward: NDArray[np.float32], over: NDArray[np.bool_], cut: NDArray[np.bool_]
    ) -> None:
        """One step of every env, all [E]: value of the action taken, raw reward; a life is over, an episode cut off."""
        # A reward counts gamma**k in the return of the state k decisions before it: its weight in their sum is that
        # of all states so far, and no reward need be kept.
        self._weight = 1 + self._gamma * self._weight
        self._predicted += value
        self._realised += np.clip(reward, -1, 1) * self._weight
        self._states += 1
        closed = over | cut
        if not closed.any():
            return
        sums = np.stack([self._predicted, self._realised, self._states], axis=1)
        self._lives.extend((float(q), float(g), float(n)) for q, g, n in sums[over & ~cut])
        for sum_ in (self._weight, self._predicted, self._realised, self._states):
            sum_[closed] = 0

    def means(self) -> dict[str, float]:
        """Over the states of the last lives; empty before the first has ended."""
        if not self._lives:
            return {}
        predicted, realised, states = (sum(part) for part in zip(*self._lives, strict=True))
        return {"value/predicted": predicted / states, "value/realised": realised / states}

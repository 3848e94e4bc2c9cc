"""The seat at the controls: one player for the loop, whoever sits there; the change comes between two decisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.arcade.witness import Witness
from deploy.realtime import thoughts_of
from rl.loop import Player

Sees = Callable[[NDArray[np.uint8]], NDArray[np.bool_]]  # picture stack [4, 84, 84] -> bits [K, H, W]


@dataclass(frozen=True, eq=False)
class Sitter:
    """A player with what can be watched of it."""

    name: str  # as viewers ask for it
    label: str  # under which its scores are kept
    player: Player
    sees: Sees | None = None  # what its first layer sees; None: it looks at the pictures themselves
    witness: Witness | None = None  # of a chip


@dataclass(frozen=True, eq=False)
class Thought:
    """One decision, of a chip of C cores and N neurons a core where one decided."""

    number: int  # from 1, over the whole show
    player: str
    stack: NDArray[np.uint8]  # [4, 84, 84]  newest last
    bits: NDArray[np.bool_] | None  # [K, H, W]
    wave: NDArray[np.int32] | None  # [T, C]  spikes of each core in each tick of the decision
    fired: NDArray[np.bool_] | None  # [C, N]  in the last of these ticks
    lines: NDArray[np.bool_] | None  # [I]  that entered


class Seat:
    """Plays whoever was offered last."""

    def __init__(self, first: Sitter, decisions: int = 0) -> None:
        """Decisions were counted before this seat."""
        self.sitter, self._offered = first, first
        self.decisions = decisions
        self.thought: Thought | None = None
        self.finished: frozenset[str] = frozenset()  # labels of all who played in the last whole episode
        self.slowed = False  # time is given to think now: at half speed or step by step
        self._labels: set[str] = set()
        self._helped = False

    def offer(self, sitter: Sitter) -> None:
        """Seat another one before the next decision; from any thread."""
        self._offered = sitter

    def reset(self) -> None:
        self.finished = frozenset(f"{label}, slowed" if self._helped else label for label in self._labels)
        self._labels, self._helped = set(), False
        self.sitter = self._offered
        self.sitter.player.reset()

    def act(self, obs: NDArray[np.uint8]) -> int:
        if self._offered is not self.sitter:
            self.sitter = self._offered
            self.sitter.player.reset()
        action = self.sitter.player.act(obs)
        self._labels.add(self.sitter.label)
        self._helped |= self.slowed and self.sitter.name == "human"  # to the others time is nothing
        self.decisions += 1
        self.thought = self._thought(obs)
        return action

    @property
    def votes(self) -> NDArray[np.int32] | None:
        return thoughts_of(self.sitter.player).votes

    @property
    def activity(self) -> NDArray[np.int32] | None:
        """For clips; the page draws the whole wave instead."""
        return thoughts_of(self.sitter.player).activity

    def _thought(self, obs: NDArray[np.uint8]) -> Thought:
        own = self.sitter
        bits = None if own.sees is None else own.sees(obs)
        if own.witness is None:
            return Thought(self.decisions, own.name, obs.copy(), bits, None, None, None)
        seen = own.witness
        return Thought(self.decisions, own.name, obs.copy(), bits, seen.wave, seen.fired, seen.lines)

"""A human at the keyboard: arrows and space become the nearest action that the game has."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

VERTICAL = {-1: "UP", 0: "", 1: "DOWN"}
HORIZONTAL = {-1: "LEFT", 0: "", 1: "RIGHT"}


class HumanPlayer:
    """Plays what the held keys say: up, down, left, right, space; two opposite arrows cancel out."""

    def __init__(self, keys: Callable[[], frozenset[str]], actions: tuple[str, ...]) -> None:
        """Take a source of held keys and the game's action meanings, by action id."""
        self._keys = keys
        ways = itertools.product((-1, 0, 1), (-1, 0, 1), (False, True))
        self._table = {way: _nearest(*way, actions) for way in ways}

    def reset(self) -> None:
        pass

    def act(self, obs: NDArray[np.uint8]) -> int:
        """The action for the keys held now; the picture stack [4, 84, 84] u8 is for other players."""
        held = self._keys()
        down = ("down" in held) - ("up" in held)
        right = ("right" in held) - ("left" in held)
        return self._table[down, right, "space" in held]


def _nearest(down: int, right: int, fire: bool, actions: tuple[str, ...]) -> int:
    wishes = (*_wishes(down, right, fire), "NOOP")
    return next((actions.index(wish) for wish in wishes if wish in actions), 0)


def _wishes(down: int, right: int, fire: bool) -> Iterator[str]:
    """Action meanings from exact to crude."""
    moves = tuple(filter(None, _moves(down, right)))
    if fire:
        yield from (f"{move}FIRE" for move in moves)
        yield "FIRE"  # where moving and firing do not combine, the rarer key wins: it serves the ball
    yield from moves


def _moves(down: int, right: int) -> Iterator[str]:
    yield VERTICAL[down] + HORIZONTAL[right]
    yield HORIZONTAL[right]
    yield VERTICAL[down]
    # A game of one axis takes the other arrows for it: Pong's paddle goes up with RIGHT and down with LEFT.
    yield HORIZONTAL[-down]
    yield VERTICAL[-right]

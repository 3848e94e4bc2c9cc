"""Held keys become the nearest action that a game has."""

from __future__ import annotations

import pytest
from fakes import PONG, stack

from deploy.human import HumanPlayer

FULL = (
    "NOOP FIRE UP RIGHT LEFT DOWN UPRIGHT UPLEFT DOWNRIGHT DOWNLEFT UPFIRE RIGHTFIRE LEFTFIRE DOWNFIRE "
    "UPRIGHTFIRE UPLEFTFIRE DOWNRIGHTFIRE DOWNLEFTFIRE"
)
BREAKOUT = "NOOP FIRE RIGHT LEFT"
FREEWAY = "NOOP UP DOWN"
INVADERS = "NOOP FIRE RIGHT LEFT RIGHTFIRE LEFTFIRE"
PACMAN = "NOOP UP RIGHT LEFT DOWN UPRIGHT UPLEFT DOWNRIGHT DOWNLEFT"


@pytest.mark.parametrize(
    ("actions", "held", "meaning"),
    [
        (FULL, "", "NOOP"),
        (FULL, "up space right", "UPRIGHTFIRE"),
        (FULL, "down left", "DOWNLEFT"),
        (FULL, "left right", "NOOP"),
        (FULL, "left right up", "UP"),
        (FULL, "quit", "NOOP"),
        (" ".join(PONG), "up", "RIGHT"),
        (" ".join(PONG), "right", "RIGHT"),
        (" ".join(PONG), "down", "LEFT"),
        (" ".join(PONG), "down space", "LEFTFIRE"),
        (INVADERS, "left up", "LEFT"),
        (INVADERS, "left up space", "LEFTFIRE"),
        (BREAKOUT, "left space", "FIRE"),
        (BREAKOUT, "left", "LEFT"),
        (FREEWAY, "up", "UP"),
        (FREEWAY, "right", "UP"),
        (FREEWAY, "space", "NOOP"),
        (FREEWAY, "down space", "DOWN"),
        (PACMAN, "up left space", "UPLEFT"),
    ],
)
def test_held_keys_choose_the_nearest_action(actions: str, held: str, meaning: str) -> None:
    names = tuple(actions.split())
    player = HumanPlayer(lambda: frozenset(held.split()), names)
    player.reset()
    assert names[player.act(stack(0))] == meaning


def test_keys_are_read_at_each_decision() -> None:
    held = iter([frozenset({"up"}), frozenset({"down"})])
    player = HumanPlayer(lambda: next(held), PONG)
    assert [player.act(stack(0)), player.act(stack(0))] == [2, 3]


def test_without_a_noop_the_first_action_stands_for_it() -> None:
    assert HumanPlayer(frozenset, ("UP", "DOWN")).act(stack(0)) == 0

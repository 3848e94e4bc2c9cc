"""Shared fakes: a clock that only moves when told, taped games and players, pictures to show."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.screens import MESH, Picture
from rl.loop import Step

PONG = ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE")


class FakeClock:
    """Time that passes only by sleeping and by hand; use numbers that are exact in binary."""

    def __init__(self, t_s: float = 0.0) -> None:
        self.t_s = t_s
        self.slept_s: list[float] = []

    def now(self) -> float:
        return self.t_s

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.t_s += seconds


def stack(value: int) -> NDArray[np.uint8]:
    """A picture stack [4, 84, 84] of one grey value."""
    return np.full((4, 84, 84), value, np.uint8)


class TapedPacedGame:
    """Episodes of so many steps, each rewarded with 1.5; writes what is asked of it on a tape.

    Picture stacks hold the number of steps since the reset; the colour frame is one array, overwritten at each advance.
    """

    actions: tuple[str, ...] = PONG

    def __init__(
        self,
        tape: list[str],
        steps: int,
        frames_per_step: int = 4,
        during: Callable[[], None] = lambda: None,
    ) -> None:
        self.frames_per_step = frames_per_step
        self._tape, self._steps, self._during = tape, steps, during
        self._step = 0
        self._frame = np.zeros((210, 160, 3), np.uint8)

    def reset(self) -> NDArray[np.uint8]:
        self._tape.append("reset")
        self._step = 0
        return stack(0)

    def open(self, action: int) -> None:
        self._tape.append(f"open {action}")

    def advance(self, frames: int) -> None:
        self._tape.append(f"advance {frames}")
        self._frame += 1
        self._during()

    def close(self) -> Step:
        self._tape.append("close")
        self._step += 1
        return Step(stack(self._step), 1.5, life_lost=False, terminated=self._step == self._steps, truncated=False)

    def screen(self) -> NDArray[np.uint8]:
        return self._frame


class TapedPlayer:
    """Plays the number it sees as its action and writes it on the tape."""

    def __init__(self, tape: list[str]) -> None:
        self._tape = tape

    def reset(self) -> None:
        self._tape.append("player reset")

    def act(self, obs: NDArray[np.uint8]) -> int:
        seen = int(obs[-1, 0, 0])
        self._tape.append(f"act on {seen}")
        return seen


class TapedScreen:
    """Keeps every picture and writes it on the tape; holds down the keys that it is given, one set a picture."""

    def __init__(self, tape: list[str], keys: Iterable[frozenset[str]] = ()) -> None:
        self.pictures: list[Picture] = []
        self._tape, self._keys = tape, iter(keys)

    def show(self, picture: Picture) -> None:
        self._tape.append("show")
        self.pictures.append(picture)

    def keys(self) -> frozenset[str]:
        return next(self._keys, frozenset())

    def close(self) -> None:
        self._tape.append("screen closed")


def a_picture(**changes: Any) -> Picture:
    """A Pong picture with votes and core activity; any field may be changed."""
    rng = np.random.default_rng(5)
    activity = rng.integers(0, 200, (MESH, MESH)).astype(np.int32)
    activity[48:] = -1
    picture = Picture(
        frame=rng.integers(0, 256, (210, 160, 3), dtype=np.uint8),
        title="Pong | chip",
        actions=PONG,
        action=2,
        votes=np.array([3, 0, 40, 11, 7, 2], np.int32),
        activity=activity,
        score=-3.0,
        episode=2,
        pictures=1234,
        late=1,
        work_s=0.0125,
        period_s=0.03125,
    )
    return dataclasses.replace(picture, **changes)

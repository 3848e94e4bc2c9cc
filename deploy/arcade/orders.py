"""What a viewer may ask for: one small JSON object a message, parsed into a frozen record or refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from rl.settings import SettingsError, build, need

MOST_CHARACTERS = 512  # of a message
SPEEDS = (0.5, 1.0, 2.0, 4.0)
KEYS = ("up", "down", "left", "right", "space")
MOST_DECISIONS = 1 << 31  # of a replay
MOST_SIDE = 1 << 15  # cores along a mesh of any number of chips


class OrderError(ValueError):
    """A message that asks for nothing that exists: *order: found, allowed*."""


@dataclass(frozen=True)
class SetPlayer:
    """Let another one play on, from the next decision."""

    name: str


@dataclass(frozen=True)
class SetGame:
    """Play another game."""

    name: str


@dataclass(frozen=True)
class Pause:
    """Stop the game where it is, or go on."""

    on: bool


@dataclass(frozen=True)
class Advance:
    """Pause, and play one decision."""


@dataclass(frozen=True)
class SetSpeed:
    """Times the game's own speed."""

    times: float

    def __post_init__(self) -> None:
        need(self.times in SPEEDS, "order.times", self.times, ", ".join(f"{speed:g}" for speed in SPEEDS))


@dataclass(frozen=True)
class Restart:
    """Begin a new episode; the one under way is not counted."""


@dataclass(frozen=True)
class Kill:
    """Break every core in a rectangle of the mesh, corners included, in cores from the upper left."""

    left: int
    top: int
    right: int
    bottom: int

    def __post_init__(self) -> None:
        for low, high, name in ((self.left, self.right, "left, right"), (self.top, self.bottom, "top, bottom")):
            need(0 <= low <= high < MOST_SIDE, f"order.{name}", (low, high), f"0 to {MOST_SIDE - 1}, rising")


@dataclass(frozen=True)
class Heal:
    """Mend everything."""


@dataclass(frozen=True)
class Lose:
    """Drop this share of all spikes on their way."""

    share: float

    def __post_init__(self) -> None:
        need(0 <= self.share <= 1, "order.share", self.share, "0 to 1")


@dataclass(frozen=True)
class Record:
    """Begin a clip of what is shown, or end it."""

    on: bool


@dataclass(frozen=True)
class Rewind:
    """Show a replay of this game; any player or game leads back."""

    name: str


@dataclass(frozen=True)
class Seek:
    """Go on from this decision of the replay."""

    at: int

    def __post_init__(self) -> None:
        need(0 <= self.at < MOST_DECISIONS, "order.at", self.at, f"0 to {MOST_DECISIONS - 1}")


@dataclass(frozen=True)
class Hold:
    """The keys that this viewer holds down now."""

    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        need(set(self.keys) <= set(KEYS), "order.keys", self.keys, ", ".join(KEYS))


Order = SetPlayer | SetGame | Pause | Advance | SetSpeed | Restart | Kill | Heal | Lose | Record | Rewind | Seek | Hold
ORDERS: Mapping[str, type[Order]] = MappingProxyType(
    {
        "player": SetPlayer,
        "game": SetGame,
        "pause": Pause,
        "step": Advance,
        "speed": SetSpeed,
        "restart": Restart,
        "kill": Kill,
        "heal": Heal,
        "lose": Lose,
        "record": Record,
        "replay": Rewind,
        "seek": Seek,
        "keys": Hold,
    }
)


def parse(text: str) -> Order:
    """The order in a message: {"do": its name, and each field of its record}; raises OrderError."""
    if len(text) > MOST_CHARACTERS:
        raise OrderError(f"order: found {len(text):,} characters, allowed {MOST_CHARACTERS}")
    try:
        found = json.loads(text, object_pairs_hook=_members)
    except (ValueError, RecursionError) as cause:
        raise OrderError(f"order: no JSON ({cause}), allowed one object") from cause
    if not isinstance(found, dict):
        raise OrderError(f"order: found {type(found).__name__}, allowed one object")
    name = found.pop("do", None)
    if not isinstance(name, str) or name not in ORDERS:
        raise OrderError(f"order.do: found {name!r}, allowed {', '.join(ORDERS)}")
    try:
        return build(ORDERS[name], found, "order")
    except SettingsError as cause:
        raise OrderError(str(cause)) from cause
    except OverflowError as cause:
        raise OrderError(f"order: {cause}, allowed numbers of usual size") from cause


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key twice")
    return made

"""Replays: a run as its seed and actions, with a sum of every picture and thought, so that it can be run again exactly.

A minute of play takes some three kB. The sums do not build on each other: any decision can be checked by itself, and
the first that does not agree is where the runs part.
"""

from __future__ import annotations

import json
import zlib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.cores import described, need
from deploy.files import FormatError, read_arrays, write_arrays

KIND, VERSION = "spikecade-replay", (1, 0)
LIMIT = 64 << 20  # bytes unpacked: a replay of two weeks
U16 = NDArray[np.uint16]
_KINDS: Mapping[str, Any] = MappingProxyType(
    {"game": str, "player": str, "student": str | None, "env": dict, "seed": int, "actions": list, "rom": str,
     "models": dict, "versions": dict}
)  # fmt: skip


class ReplayError(RuntimeError):
    """A run that does not come out as it was recorded: *replay: where it parts; what differs; what to try*."""


@dataclass(frozen=True)
class Played:
    """What a run was played with; plain JSON values."""

    game: str
    player: str  # as of `make play`
    student: str | None  # games of a student of several, Pong-Breakout; None: the game's own
    env: Mapping[str, Any]  # as of rl.games.EnvSettings
    seed: int  # of the game
    actions: tuple[str, ...]  # meanings, by action id
    rom: str  # md5
    models: Mapping[str, str]  # sha256 of each file that decides how the player plays
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _KINDS} | {
            "actions": list(self.actions),
            **{name: dict(getattr(self, name)) for name in ("env", "models", "versions")},
        }


@dataclass(frozen=True, eq=False, repr=False)
class Replay:
    """A run of T decisions, over any number of episodes."""

    played: Played
    action: NDArray[np.uint8]  # [T]  in force for one step each
    picture: U16  # [T]  `picture_sum` of what each decision saw
    thought: U16  # [T]  `thought_sum` of how it was made; [0] where the player shows none
    end: int  # `picture_sum` of what the last step led to
    scores: tuple[float, ...]  # raw, of finished episodes

    __repr__ = described

    def __post_init__(self) -> None:
        count = len(self.action)
        if not count:
            raise ValueError("action: no decisions, must be one or more")
        need("action", self.action, np.uint8, (count,), 0, len(self.played.actions) - 1)
        need("picture", self.picture, np.uint16, (count,), 0, 0xFFFF)
        need("thought", self.thought, np.uint16, (count if len(self.thought) else 0,), 0, 0xFFFF)
        if not 0 <= self.end <= 0xFFFF:
            raise ValueError(f"end: {self.end}, allowed 0..65535")

    def __len__(self) -> int:
        return len(self.action)

    @property
    def thinks(self) -> bool:
        """Whether the player's votes and spikes were recorded: it is one that can be run again."""
        return len(self.thought) > 0


def picture_sum(frames: NDArray[np.uint8], score: float, ended: bool) -> int:
    """16 bits of a CRC over grey pictures, the episode's score so far and whether it is over."""
    words = np.float64(score).astype("<f8").tobytes() + bytes([ended])
    return zlib.crc32(words, zlib.crc32(frames.tobytes())) & 0xFFFF


def thought_sum(votes: NDArray[np.int32] | None, activity: NDArray[np.int32] | None) -> int:
    """16 bits of a CRC over the votes of a decision and the spikes of each core."""
    told = [np.ascontiguousarray(part, "<i4") for part in (votes, activity) if part is not None]
    return zlib.crc32(b"".join(part.tobytes() for part in told)) & 0xFFFF


class _Sums:
    """The picture that the next decision sees, summed with the score so far."""

    def __init__(self) -> None:
        self.now, self.score = 0, 0.0

    def began(self, obs: NDArray[np.uint8]) -> None:
        self.score = 0.0
        self.now = picture_sum(obs, self.score, False)

    def stepped(self, obs: NDArray[np.uint8], reward: float, ended: bool) -> None:
        self.score += reward
        # One picture of the stack is new; the others were summed before.
        self.now = picture_sum(obs[-1:], self.score, ended)


class Record:
    """Takes a run down as it is played: `began` at each reset, then `decided` and `stepped` in turn."""

    def __init__(self) -> None:
        self._action, self._picture, self._thought = array("B"), array("H"), array("H")
        self._scores: list[float] = []
        self._sums, self._thinks = _Sums(), True
        self._steps = self._end = 0

    def began(self, obs: NDArray[np.uint8]) -> None:
        """An episode begins with this picture stack [4, 84, 84]."""
        self._sums.began(obs)

    def decided(self, action: int, votes: NDArray[np.int32] | None, activity: NDArray[np.int32] | None) -> None:
        """An action was chosen, by these votes [A] and with this activity [64, 64]; None where there are none."""
        self._action.append(action)
        self._picture.append(self._sums.now)
        self._thought.append(thought_sum(votes, activity))
        self._thinks = self._thinks and votes is not None

    def stepped(self, obs: NDArray[np.uint8], reward: float, ended: bool) -> None:
        """The step led to this picture stack and raw reward."""
        self._sums.stepped(obs, reward, ended)
        self._steps, self._end = self._steps + 1, self._sums.now
        if ended:
            self._scores.append(self._sums.score)

    def replay(self, played: Played) -> Replay | None:
        """What was taken down, without a step that is still open; None where no step was finished."""
        if not self._steps:
            return None
        rows = (self._action, self._picture, self._thought)
        action, picture, thought = (np.array(own[: self._steps]) for own in rows)
        return Replay(played, action, picture, thought if self._thinks else thought[:0], self._end, tuple(self._scores))


class Check:
    """Compares a run with its replay as it is played again; the methods of `Record`, and where they part an error."""

    def __init__(self, replay: Replay, name: str, thinks: bool) -> None:
        """`name` of the file, for messages; `thinks`: a player thinks along and must think the same."""
        self._replay, self._name = replay, name
        self._sums, self._thinks = _Sums(), thinks and replay.thinks
        self.decisions = 0

    def began(self, obs: NDArray[np.uint8]) -> None:
        """As of `Record`."""
        self._sums.began(obs)

    def decided(self, action: int, votes: NDArray[np.int32] | None, activity: NDArray[np.int32] | None) -> None:
        """As of `Record`; raises ReplayError where picture, score or thought are not those recorded."""
        at, own = self.decisions, self._replay
        if self._sums.now != own.picture[at]:
            raise _parts(self._name, own, at, "the picture or the score")
        if self._thinks:
            check_thought(own, self._name, at, votes, activity)
        self.decisions += 1

    def stepped(self, obs: NDArray[np.uint8], reward: float, ended: bool) -> None:
        """As of `Record`; raises ReplayError where the last step does not end as recorded."""
        self._sums.stepped(obs, reward, ended)
        if self.decisions == len(self._replay) and self._sums.now != self._replay.end:
            raise _parts(self._name, self._replay, self.decisions, "the picture or the score after the last step")


def check_thought(
    replay: Replay, name: str, at: int, votes: NDArray[np.int32] | None, activity: NDArray[np.int32] | None
) -> None:
    """Raise ReplayError where a decision was not made by these votes and with this activity."""
    if thought_sum(votes, activity) != replay.thought[at]:
        raise _parts(name, replay, at, f"the {replay.played.player}'s votes or spikes")


def _parts(name: str, replay: Replay, at: int, what: str) -> ReplayError:
    return ReplayError(
        f"{name}: diverges at decision {at} of {len(replay)}: found another result in {what}, allowed is what was "
        "recorded, to the bit; play with the versions and models that it names, or record the run again"
    )


def differences(replay: Replay, models: Mapping[str, str], versions: Mapping[str, str], rom: str) -> list[str]:
    """What is not as it was when the run was recorded; a replay may agree all the same."""
    own = replay.played
    found = [f"{name}: recorded with {said[:12]}, here {models.get(name, 'none')[:12]}"
             for name, said in own.models.items() if models.get(name) != said]  # fmt: skip
    found += [f"{name}: recorded with {said}, here {versions.get(name, 'none')}"
              for name, said in own.versions.items() if versions.get(name) != said]  # fmt: skip
    return found + ([f"ROM: recorded with {own.rom}, here {rom}"] if own.rom != rom else [])


def save_replay(replay: Replay, path: Path) -> str:
    """Write a replay; returns the digest of its contents."""
    facts = replay.played.to_json() | {"end": replay.end, "scores": list(replay.scores)}
    arrays = {name: getattr(replay, name) for name in ("action", "picture", "thought")}
    return write_arrays(path, KIND, VERSION, facts, arrays)


def load_replay(path: Path) -> Replay:
    """Read a replay; raises FormatError for any file that is not a whole and legal one."""
    facts, arrays, _ = read_arrays(path, KIND, VERSION[0], LIMIT)
    try:
        played = _played(facts)
        scores = tuple(float(score) for score in facts["scores"])
        if not isinstance(facts["end"], int):
            raise TypeError(f"end: found {facts['end']!r}, must be a whole number")
        return Replay(played, arrays["action"], arrays["picture"], arrays["thought"], facts["end"], scores)
    except (KeyError, TypeError, ValueError) as cause:
        reason = f"field {cause} is missing" if isinstance(cause, KeyError) else str(cause)
        raise FormatError(f"{path}: no legal replay ({reason}); record the run again") from cause


def _played(facts: Mapping[str, Any]) -> Played:
    own = {name: facts[name] for name in _KINDS}
    for name, kind in _KINDS.items():
        if not isinstance(own[name], kind) or isinstance(own[name], bool):
            raise TypeError(f"{name}: found {json.dumps(own[name])[:80]}, must be of type {kind}")
    words = [*own["actions"], *own["models"].values(), *own["versions"].values()]
    if not all(isinstance(word, str) for word in words) or not own["actions"]:
        raise TypeError("actions, models, versions: must hold words, and one action or more")
    return Played(**own | {"actions": tuple(own["actions"])})

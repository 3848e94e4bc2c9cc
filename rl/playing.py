"""Play to be recorded: many games in lockstep, in groups that take turns; whole episodes come out.

While one group's games run in their own threads, the values of the next group are computed: no core waits. Which groups
there are changes the order in which episodes come out, and in them no more than the last bit of q, since the values of
a smaller batch may be added up in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import zstandard
from numpy.typing import NDArray

from rl.frames import SIDE, BlockStacks, Frames, blocks
from rl.games import EnvSettings, VectorGame
from rl.recording import EpisodeRows

Labels = Callable[[Frames], NDArray[np.float32]]  # stacks [B, 21, 21, 64] -> the teacher's values [B, A]
PIECE = 256  # pictures of an open episode that are packed together: an episode of hours stays small


class Act(Protocol):
    """Chooses the actions of one group's games."""

    def __call__(self, stacks: Frames, first: NDArray[np.bool_], q: NDArray[np.float32]) -> NDArray[np.int64]:
        """Actions [B] for stacks [B, 21, 21, 64]; `first` [B]: an episode begins; `q` [B, A]: labels, 0 without."""


@dataclass(frozen=True, eq=False)
class Cast:
    """Who plays, and who says what the best move would have been."""

    player: dict[str, Any]  # name and digests, as the manifest keeps them
    teacher: dict[str, Any]  # digest and score of the network whose values are the labels; digest None: no labels
    actions: tuple[str, ...]  # meanings by id; labels are in this order
    labels: Labels | None  # None: q is recorded as zeros
    act: Callable[[int], Act]  # for a group of so many games


def best(stacks: Frames, first: NDArray[np.bool_], q: NDArray[np.float32]) -> NDArray[np.int64]:
    """The teacher's own play: lowest action id on a tie."""
    return np.asarray(q.argmax(axis=1))


class _Tape:
    """The episode under way in one game; pictures are packed piece by piece, quickly, and unpacked at its end."""

    def __init__(self, actions: int) -> None:
        self._row = np.dtype([("frame", "u1", (SIDE, SIDE)), ("action", "u1"), ("reward", "f4"),
                              ("q", "f4", (actions,)), ("life_lost", "?")])  # fmt: skip
        self._open, self._rows = np.empty(PIECE, self._row), 0
        self._frames, self._rest = list[bytes](), list[dict[str, NDArray[Any]]]()

    def add(self, **row: Any) -> None:
        at = self._rows % PIECE
        for name, value in row.items():
            self._open[name][at] = value
        self._rows += 1
        if at == PIECE - 1:
            self._pack(PIECE)

    def _pack(self, rows: int) -> None:
        done = self._open[:rows]
        self._frames.append(zstandard.ZstdCompressor(level=1).compress(done["frame"].tobytes()))
        self._rest.append({name: done[name].copy() for name in self._row.names or () if name != "frame"})

    def taken(self, last: Frames) -> dict[str, NDArray[Any]] | None:
        """The columns of the episode, its `last` picture [84, 84] included; None before any decision. Then empty."""
        rows = self._rows
        if rows % PIECE:
            self._pack(rows % PIECE)
        pieces, rest = self._frames, self._rest
        self._rows, self._frames, self._rest = 0, [], []
        if not rows:
            return None
        frames = np.empty((rows + 1, SIDE, SIDE), np.uint8)
        for i, piece in enumerate(pieces):
            part = frames[i * PIECE : min((i + 1) * PIECE, rows)]
            part[...] = np.frombuffer(zstandard.ZstdDecompressor().decompress(piece), np.uint8).reshape(part.shape)
        frames[rows] = last
        return {"frames": frames, **{name: np.concatenate([part[name] for part in rest]) for name in rest[0]}}


class _Group:
    """Some of the games: decided on together, then left to run until it is their turn again."""

    def __init__(self, games: VectorGame, cast: Cast, seed: int, first_env: int, epsilon: float) -> None:
        """`games` with seeds from `seed` on; `first_env`: how many games the groups before have."""
        self._games, self._cast, self._act = games, cast, cast.act(games.n)
        self._seed, self._first_env, self._epsilon = seed, first_env, epsilon
        self._newest, self._first = games.first, np.ones(games.n, np.bool_)
        self._stacks = BlockStacks(blocks(games.first))
        self._tapes = [_Tape(len(cast.actions)) for _ in range(games.n)]
        self._q, self._actions = self._no_labels(), np.zeros(games.n, np.int64)
        self._runs = False

    def _no_labels(self) -> NDArray[np.float32]:
        return np.zeros((self._games.n, len(self._cast.actions)), np.float32)

    def _labels(self) -> NDArray[np.float32]:
        return self._no_labels() if self._cast.labels is None else self._cast.labels(self._stacks.now)

    def begin(self, stray: NDArray[np.bool_], instead: NDArray[np.int64]) -> None:
        """Start a step of all games; where `stray` [B], the player's action gives way to the one `instead` [B]."""
        self._q = self._labels()
        self._actions = np.where(stray, instead, self._act(self._stacks.now, self._first, self._q))
        self._games.send(self._actions)
        self._runs = True

    def finish(self) -> Iterator[EpisodeRows]:
        """Wait for the step under way, if any; the episodes that ended in it."""
        if not self._runs:
            return
        step, self._runs = self._games.recv(), False
        for e, tape in enumerate(self._tapes):
            tape.add(frame=self._newest[e], action=self._actions[e], reward=step.reward[e], q=self._q[e],
                     life_lost=step.life_lost[e])  # fmt: skip
        for e in np.flatnonzero(step.ended).tolist():
            yield from self._episode(e, step.frames[e], bool(step.terminated[e]), bool(step.truncated[e]))
        self._newest, self._first = step.first, step.ended
        self._stacks.push(blocks(step.first), step.ended)

    def cut(self) -> Iterator[EpisodeRows]:
        """The episodes under way, as far as they came: the recording stops here."""
        for e in range(len(self._tapes)):
            yield from self._episode(e, self._newest[e], False, False)

    def _episode(self, e: int, last: Frames, terminated: bool, truncated: bool) -> Iterator[EpisodeRows]:
        columns = self._tapes[e].taken(last)
        if columns is None:
            return
        labelled = self._cast.labels is not None
        greedy = (columns["q"].argmax(axis=1) == columns["action"]) & labelled
        env = self._first_env + e
        yield EpisodeRows(**columns, greedy=greedy, terminated=terminated, truncated=truncated, env=env,
                          seed=self._seed + e, epsilon=self._epsilon)  # fmt: skip

    def close(self) -> None:
        self._games.close()


@dataclass(frozen=True)
class Lanes:
    """How many games run, and how they share the machine."""

    envs: int
    groups: int
    threads: int  # of each group's games

    def sizes(self) -> list[int]:
        """Games of each group, no group empty."""
        return [len(part) for part in np.array_split(np.arange(self.envs), min(self.groups, self.envs))]


def episodes(
    cast: Cast,
    game: str,
    env: EnvSettings,
    lanes: Lanes,
    epsilon: float,
    seed: int,
    decisions: int,
    going: Callable[[int], bool],
) -> Iterator[EpisodeRows]:
    """Episodes in the order in which they end, then those under way, until `decisions` are played.

    So many or a few more, a whole round of all games. A share `epsilon` of actions is uniformly random. Before every
    round `going` hears how many decisions are played and says whether to play on.
    """
    sizes, groups = lanes.sizes(), list[_Group]()
    firsts = np.cumsum([0, *sizes]).tolist()
    rng = np.random.default_rng(seed)
    try:
        for first, size in zip(firsts, sizes, strict=False):
            games = VectorGame(game, env, size, seed + first, lanes.threads)
            groups.append(_Group(games, cast, seed + first, first, epsilon))
        played = 0
        while played < decisions and going(played):
            # Drawn for all games at once: how they are grouped must not change what is played.
            stray = rng.random(lanes.envs) < epsilon
            instead = rng.integers(len(cast.actions), size=lanes.envs)
            for group, first, size in zip(groups, firsts, sizes, strict=False):
                yield from group.finish()
                group.begin(stray[first : first + size], instead[first : first + size])
            played += lanes.envs
        for group in groups:
            yield from group.finish()
        for group in groups:
            yield from group.cut()
    finally:
        for group in groups:
            group.close()

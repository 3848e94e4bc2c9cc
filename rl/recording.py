"""Recording: episodes in, shards and a manifest out; an interrupted recording goes on where it stopped."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rl.files import digest, plain, write_whole
from rl.manifest import (
    COMPLETE,
    NAME,
    RECORDING,
    Entry,
    Facts,
    Manifest,
    Returns,
    now,
    read_manifest,
    read_shard,
    shard_name,
    write_manifest,
)
from rl.shards import (
    CAPPED,
    CUT,
    END,
    FIRST,
    FRAME,
    GREEDY,
    LIFE_LOST,
    OVER,
    TERMINATED,
    TRUNCATED,
    UNKNOWN_LIVES,
    Codec,
    Columns,
    EpisodeTable,
    Shard,
    join,
    need_array,
    pack,
    shapes,
)


class RecordingError(RuntimeError):
    """A recording that cannot go on; everything before it is safe."""


@dataclass(frozen=True, eq=False, repr=False)
class EpisodeRows:
    """One whole episode of L decisions: L + 1 pictures, the last one terminal."""

    frames: NDArray[np.uint8]  # [L + 1, 84, 84]  newest picture of each stack
    action: NDArray[np.uint8]  # [L]
    reward: NDArray[np.float32]  # [L]  raw
    q: NDArray[np.float32]  # [L, A]  of the teacher
    greedy: NDArray[np.bool_]  # [L]  the action is the argmax of q
    life_lost: NDArray[np.bool_]  # [L]  a life went in this step and the episode went on
    terminated: bool  # game over
    truncated: bool  # the frame cap; neither: the recording stopped
    env: int  # which environment of the recorder
    seed: int  # that environment's seed
    epsilon: float  # share of random actions
    lives: NDArray[np.uint8] | None = None  # [L + 1]  with each picture

    __repr__ = shapes

    def __post_init__(self) -> None:
        steps, actions = self.q.shape if self.q.ndim == 2 else (len(self.action), 0)
        if steps < 1 or actions < 1:
            raise ValueError(
                f"EpisodeRows.q: found shape {list(self.q.shape)}, must be [L, A] with one decision or more"
            )
        need_array("EpisodeRows.frames", self.frames, np.uint8, (steps + 1, *FRAME))
        need_array("EpisodeRows.q", self.q, np.float32, (steps, actions))
        need_array("EpisodeRows.action", self.action, np.uint8, (steps,))
        need_array("EpisodeRows.reward", self.reward, np.float32, (steps,))
        need_array("EpisodeRows.greedy", self.greedy, np.bool_, (steps,))
        need_array("EpisodeRows.life_lost", self.life_lost, np.bool_, (steps,))
        if self.lives is not None:
            need_array("EpisodeRows.lives", self.lives, np.uint8, (steps + 1,))
        self._check_values()

    def _check_values(self) -> None:
        if self.action.max() >= self.q.shape[1]:
            raise ValueError(f"EpisodeRows.action: found {self.action.max()}, allowed 0..{self.q.shape[1] - 1}")
        if not (np.isfinite(self.q).all() and np.isfinite(self.reward).all()):
            raise ValueError("EpisodeRows.q, reward: found NaN or infinity, must be finite")
        chosen = np.take_along_axis(self.q, self.action[:, None].astype(np.int64), axis=1)[:, 0]
        wrong = np.flatnonzero(self.greedy & (chosen != self.q.max(axis=1)))
        if len(wrong):
            raise ValueError(f"EpisodeRows.greedy: decision {wrong[0]} is marked, its action is not the argmax of q")
        if self.terminated and self.truncated:
            raise ValueError("EpisodeRows.truncated: found with terminated, must be one of them or neither")
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"EpisodeRows.epsilon: found {self.epsilon!r}, allowed 0..1")

    def columns(self) -> Columns:
        """The L + 1 rows without their pictures."""
        flags = GREEDY * self.greedy + LIFE_LOST * self.life_lost.astype(np.uint8)
        flags[0] |= FIRST
        flags[-1] |= TERMINATED * self.terminated | TRUNCATED * self.truncated
        return Columns(
            action=_extended(self.action),
            reward=_extended(self.reward),
            flags=np.append(flags, END).astype(np.uint8),
            lives=np.full(len(self.frames), UNKNOWN_LIVES, np.uint8) if self.lives is None else self.lives,
            q=_extended(self.q),
        )

    def table(self) -> EpisodeTable:
        """The episode as a table of one line."""
        end = OVER if self.terminated else CAPPED if self.truncated else CUT
        return EpisodeTable(
            start=np.zeros(1, np.int64),
            length=np.array([len(self.action)], np.int64),
            returns=np.array([self.reward.sum(dtype=np.float64)]),
            end=np.array([end], np.uint8),
            env=np.array([self.env], np.int64),
            seed=np.array([self.seed], np.int64),
            epsilon=np.array([self.epsilon], np.float64),
        )


def _extended(array: NDArray[Any]) -> NDArray[Any]:
    """The array with one more row of zeros."""
    return np.concatenate([array, np.zeros_like(array[:1])])


def join_episodes(episodes: list[EpisodeRows]) -> Shard:
    """Whole episodes, one after the other."""
    columns = [episode.columns() for episode in episodes]
    joined = {f.name: np.concatenate([getattr(c, f.name) for c in columns]) for f in fields(Columns)}
    table = join([episode.table() for episode in episodes], [len(episode.frames) for episode in episodes])
    return Shard(np.concatenate([episode.frames for episode in episodes]), Columns(**joined), table)


class RolloutWriter:
    """Writes a dataset folder. A shard is written when `shard_rows` are there, its episodes whole.

    A folder that holds an interrupted recording of the same facts is gone on with, by its own codec: `episodes` and
    `table` say what is there, so that the recorder can seed the rest anew. Use as a context manager: leaving it
    normally writes what is pending and marks the dataset complete, leaving it by an error writes what is pending.
    """

    def __init__(self, folder: Path, facts: Facts, shard_rows: int = 16384, codec: Codec | None = None) -> None:
        if shard_rows < 1:
            raise ValueError(f"RolloutWriter.shard_rows: found {shard_rows}, must be 1 or more")
        self._folder, self._shard_rows = folder, shard_rows
        self._tables: list[EpisodeTable] = []
        self._pending: list[EpisodeRows] = []
        self._manifest = self._resumed(facts, codec or Codec())

    def __repr__(self) -> str:
        return f"RolloutWriter({self._manifest.facts.game}, {self.decisions} decisions, {self.episodes} episodes)"

    @property
    def decisions(self) -> int:
        """Decisions so far, pending ones included."""
        return self._manifest.decisions + sum(len(episode.action) for episode in self._pending)

    @property
    def episodes(self) -> int:
        """Episodes so far, pending ones included."""
        return self._manifest.episodes + len(self._pending)

    @property
    def table(self) -> EpisodeTable | None:
        """The episodes on disk, starts as in the whole dataset; None before the first shard."""
        return join(self._tables, [entry.rows for entry in self._manifest.shards]) if self._tables else None

    @property
    def manifest(self) -> Manifest:
        """What is on disk."""
        return self._manifest

    def add_episode(self, episode: EpisodeRows) -> None:
        """Append an episode; raises ValueError for another action set, RecordingError where writing fails."""
        if self._manifest.status == COMPLETE:
            raise RecordingError(f"{self._folder}: already complete; record into another folder")
        actions = len(self._manifest.facts.actions)
        if episode.q.shape[1] != actions:
            raise ValueError(f"EpisodeRows.q: found {episode.q.shape[1]} actions, the dataset has {actions}")
        self._pending.append(episode)
        if sum(len(pending.frames) for pending in self._pending) >= self._shard_rows:
            self.flush()

    def flush(self) -> None:
        """Write pending episodes as a shard; raises RecordingError and keeps them pending when that fails."""
        if self._pending:
            shard = join_episodes(self._pending)
            data = pack(shard, self._manifest.codec)
            self._save(shard_name(len(self._manifest.shards)), data, shard)
            self._pending.clear()

    def close(self, complete: bool = True) -> Manifest:
        """Write what is pending; `complete` says that nothing more will come."""
        self.flush()
        if complete and self._manifest.status != COMPLETE:
            manifest = replace(self._manifest, status=COMPLETE)
            self._guarded(NAME, lambda: write_manifest(self._folder, manifest))
            self._manifest = manifest
        return self._manifest

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After a failed write another attempt would fail the same way and hide the first message.
        if kind is None or not issubclass(kind, RecordingError):
            self.close(complete=kind is None)

    def _save(self, name: str, data: bytes, shard: Shard) -> None:
        decisions, episodes = int(shard.episodes.length.sum()), len(shard.episodes)
        entry = Entry(name, len(shard.frames), decisions, episodes, len(data), digest(data))
        shards = (*self._manifest.shards, entry)
        tables = [*self._tables, shard.episodes]
        returns = Returns.of(join(tables, [e.rows for e in shards]))
        manifest = replace(self._manifest, shards=shards, returns=returns)
        self._guarded(name, lambda: write_whole(self._folder / name, data))
        # The manifest comes last: a shard that it does not list does not exist.
        self._guarded(NAME, lambda: write_manifest(self._folder, manifest))
        self._manifest, self._tables = manifest, tables

    def _guarded(self, name: str, write: Any) -> None:
        try:
            write()
        except OSError as cause:
            raise RecordingError(
                f"{self._folder / name}: could not be written ({cause.strerror or cause}); "
                f"the {self._manifest.episodes} episodes before it are safe; make room and record again into the same "
                "folder"
            ) from cause

    def _resumed(self, facts: Facts, codec: Codec) -> Manifest:
        if not (self._folder / NAME).exists():
            return Manifest(facts, codec, RECORDING, now(), None, ())
        manifest = read_manifest(self._folder)
        there, here = manifest.facts.as_json(), facts.as_json()
        for name in sorted(here | there):
            was, now_is = there.get(name), here.get(name)
            # As bytes, because JSON turned tuples within into lists.
            if plain({name: was}) != plain({name: now_is}):
                raise RecordingError(
                    f"{self._folder / NAME}: field {name} is {was!r}, this recording has {now_is!r}; "
                    "record into another folder"
                )
        self._tables = [read_shard(self._folder, entry, len(facts.actions)).episodes for entry in manifest.shards]
        return manifest

"""Rollouts: a recorded dataset, checked, decoded once, drawn from as picture stacks with the teacher's Q.

`python -m rl.rollouts info DIR` describes a dataset (`--plot OUT.svg` draws it), `verify DIR` checks all of it,
`export DIR OUT` writes it for Minari and `import IN DIR` reads it back, both without loss.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rl import inspection, minari_files
from rl.command import run
from rl.files import FormatError
from rl.manifest import Facts, Manifest, read_manifest, read_shard
from rl.memory import available_bytes, need_memory
from rl.recording import RecordingError
from rl.settings import SettingsError
from rl.shards import END, FRAME, FRAME_BYTES, Columns, EpisodeTable, Shard, join, shapes
from rl.stacks import ages, need_rows, stacks_of


@dataclass(frozen=True, eq=False, repr=False)
class Sample:
    """B decisions."""

    rows: NDArray[np.int64]  # [B]
    obs: NDArray[np.uint8]  # [B, 4, 84, 84]  newest picture last
    action: NDArray[np.uint8]  # [B]
    reward: NDArray[np.float32]  # [B]  raw
    q: NDArray[np.float32]  # [B, A]  of the teacher

    __repr__ = shapes


class Rollouts:
    """T rows of whole episodes; open one with `Rollouts.open`."""

    def __init__(self, manifest: Manifest, frames: NDArray[np.uint8], columns: Columns, episodes: EpisodeTable) -> None:
        self.manifest = manifest
        self.frames = frames  # [T, 84, 84] u8, newest picture of each row
        self.columns = columns
        self.episodes = episodes
        self.decisions: NDArray[np.int64] = np.flatnonzero(columns.flags & END == 0)  # [D]  rows that are no extra rows
        self._ages = ages(episodes.start, len(frames))

    def __repr__(self) -> str:
        return f"Rollouts({self.facts.game}, {len(self.decisions)} decisions, {len(self.episodes)} episodes)"

    @classmethod
    def open(cls, folder: Path, spill: Path | None = None) -> Rollouts:
        """Read and check a dataset folder; frames go to memory, or to an unnamed file in the folder `spill`.

        Raises FormatError naming the file and the field, MemoryError before anything is allocated.
        """
        manifest = read_manifest(folder)
        if not manifest.shards:
            raise FormatError(f"{folder}: field shards is empty; record into it first")
        frames = _room(manifest.rows, str(folder), spill)
        shards, at, actions = [], 0, len(manifest.facts.actions)
        for entry in manifest.shards:
            shards.append(_lean(read_shard(folder, entry, actions, frames[at : at + entry.rows])))
            at += entry.rows
        columns = {f.name: np.concatenate([getattr(c, f.name) for c, _ in shards]) for f in fields(Columns)}
        table = join([episodes for _, episodes in shards], [entry.rows for entry in manifest.shards])
        frames.flags.writeable = False
        return cls(manifest, frames, Columns(**columns), table)

    @classmethod
    def open_bounded(cls, folder: Path, share: float = 0.25) -> Rollouts:
        """`open`, with the frames in memory only where they take at most `share` of what is available there.

        Larger ones lie in an unnamed file in the dataset's own folder and are read through the system's cache, which
        takes what memory there is and gives it back: as fast as memory while they fit there, then as the disk.
        """
        wanted, free = read_manifest(folder).rows * FRAME_BYTES, available_bytes()
        return cls.open(folder, folder if free is not None and wanted > share * free else None)

    @property
    def facts(self) -> Facts:
        """Game, actions, environment, teacher."""
        return self.manifest.facts

    @property
    def q(self) -> NDArray[np.float32]:
        """[T, A] of the teacher."""
        return self.columns.q

    @property
    def action(self) -> NDArray[np.uint8]:
        """[T] action ids."""
        return self.columns.action

    @property
    def reward(self) -> NDArray[np.float32]:
        """[T] raw rewards of the step that a row's action led to."""
        return self.columns.reward

    @property
    def flags(self) -> NDArray[np.uint8]:
        """[T] bits FIRST .. END of rl.shards."""
        return self.columns.flags

    def stacks(self, rows: NDArray[np.int64], out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """[B, 4, 84, 84] u8 for rows [B]: newest picture last, zero before an episode's first; raises IndexError."""
        rows = need_rows(rows, len(self.frames), "Rollouts.stacks")
        return stacks_of(self.frames, self._ages, rows, out)

    def take(self, rows: NDArray[np.int64], out: NDArray[np.uint8] | None = None) -> Sample:
        """These rows, in this order."""
        return Sample(rows, self.stacks(rows, out), self.action[rows], self.reward[rows], self.q[rows])

    def sample(
        self,
        rng: np.random.Generator,
        batch: int,
        among: NDArray[np.int64] | None = None,
        out: NDArray[np.uint8] | None = None,
    ) -> Sample:
        """`batch` decisions, uniform with replacement, `among` these rows if given."""
        rows = self.decisions if among is None else among
        return self.take(rows[rng.integers(len(rows), size=batch)], out)

    def rows_of(self, episodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Decisions of these episodes, in row order."""
        chosen = np.zeros(len(self.episodes), np.bool_)
        chosen[episodes] = True
        return self.decisions[np.repeat(chosen, self.episodes.length)]

    def split(self, held_out: float = 0.1, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(train, held-out) decisions. Episodes are never divided: neighbouring pictures are nearly the same.

        `held_out` is the share of episodes, at least one on each side; raises ValueError where that cannot be.
        """
        count = len(self.episodes)
        if not (0 < held_out < 1 and count > 1):
            raise ValueError(
                f"Rollouts.split: {count} episodes, held_out {held_out}; needs 2 or more and 0 < held_out < 1"
            )
        kept = min(max(round(count * held_out), 1), count - 1)
        order = np.random.default_rng(seed).permutation(count)
        return self.rows_of(order[kept:]), self.rows_of(order[:kept])


def _lean(shard: Shard) -> tuple[Columns, EpisodeTable]:
    """A shard without its frames, which lie in the whole already."""
    return shard.columns, shard.episodes


def _room(rows: int, where: str, spill: Path | None) -> NDArray[np.uint8]:
    """[rows, 84, 84] u8, not filled."""
    if spill is None:
        need_memory(rows * FRAME_BYTES, where, "open it with spill=, or record fewer decisions")
        return np.empty((rows, *FRAME), np.uint8)
    spill.mkdir(parents=True, exist_ok=True)
    # Unnamed: nothing stays behind, and no stale copy can ever be taken for the dataset.
    with tempfile.TemporaryFile(dir=spill) as file:
        _reserve(file.fileno(), rows * FRAME_BYTES, spill)
        return np.memmap(file, np.uint8, "r+", shape=(rows, *FRAME))


def _reserve(file: int, size: int, spill: Path) -> None:
    # Asked for at once: a disk that fills up under a memmap kills the process without a word.
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as cause:
        raise MemoryError(f"{spill}: needs {size / 1e9:.2f} GB of disk ({cause.strerror}); spill elsewhere") from cause


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; the exit status is 0 only when the dataset is sound and the job was done."""
    chosen = _parser().parse_args(arguments)
    try:
        problems: list[str] = chosen.work(chosen)
    except (FormatError, SettingsError, MemoryError, OSError, RecordingError) as error:
        problems = [str(error)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rl.rollouts", description="Work on a recorded dataset.")
    commands = parser.add_subparsers(required=True, metavar="info|verify|export|import")
    dataset = "the folder that holds manifest.json"
    info = commands.add_parser("info", help="describe it")
    info.add_argument("folder", type=Path, help=dataset)
    info.add_argument("--plot", type=_svg, metavar="OUT.svg", help="draw it too")
    info.set_defaults(work=lambda own: inspection.info(own.folder, plot=own.plot))
    verify = commands.add_parser("verify", help="check all of it")
    verify.add_argument("folder", type=Path, help=dataset)
    verify.set_defaults(work=lambda own: inspection.verify(own.folder))
    export = commands.add_parser("export", help="write it as a Minari dataset")
    export.add_argument("folder", type=Path, help=dataset)
    export.add_argument("out", type=Path, help="a new folder; Minari's files go to its folder data")
    export.set_defaults(work=_export)
    import_ = commands.add_parser("import", help="read a Minari dataset that export wrote")
    import_.add_argument("source", type=Path, help="the folder that holds data")
    import_.add_argument("folder", type=Path, help="a new folder")
    import_.set_defaults(work=_import)
    return parser


def _svg(text: str) -> Path:
    if not text.endswith(".svg"):
        raise argparse.ArgumentTypeError(f"found {text!r}, must end in .svg")
    return Path(text)


def _export(own: argparse.Namespace) -> list[str]:
    manifest = minari_files.export(own.folder, own.out)
    print(f"{own.out}: {manifest.decisions:,} decisions in {manifest.episodes:,} episodes, digest {manifest.digest}")
    return []


def _import(own: argparse.Namespace) -> list[str]:
    manifest = minari_files.import_(own.source, own.folder)
    print(f"{own.folder}: {manifest.decisions:,} decisions in {manifest.episodes:,} episodes, digest {manifest.digest}")
    return []


if __name__ == "__main__":
    run(main)

"""Where a training run stands, on disk: two whole states, and the replay as segments of the rows added between them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zstandard
from torch import Tensor

from rl.checkpoint import STATE, read_tensors, write_tensors
from rl.files import FormatError, tidy
from rl.frames import BLOCK, CELLS
from rl.replay import Replay, Rows
from rl.settings import SettingsError

SEGMENT = "spikecade-replay"
SEGMENT_ROWS = 32_768  # at most: two are in memory at once while they are read, 0.46 GB
KEEP = 2  # states; the older one is what a damaged newest falls back to


@dataclass(frozen=True)
class Saved:
    """A state read back."""

    facts: dict[str, Any]
    tensors: dict[str, Tensor]
    folder: Path

    def replay(self) -> Iterator[Rows]:
        """The replay's rows, oldest segment first."""
        for name in self.facts["segments"]:
            yield read_segment(self.folder / name)


class StateStore:
    """States of one run. `identity`: settings that a run cannot change half-way."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self._folder, self._identity = folder, dict(identity)
        self._segments: list[tuple[str, list[int]]] = []  # name, rows of each env up to where it goes
        self._count = 0  # states ever written

    def newest(self) -> Saved | None:
        """The newest whole state, None for a new run; says so where it had to fall back to the one before."""
        states = sorted(self._folder.glob("state-*.safetensors"), reverse=True)
        problems = []
        for path in states:
            try:
                saved = self._read(path)
            except (FormatError, FileNotFoundError) as problem:
                problems.append(str(problem))
                continue
            for reason in problems:
                print(f"going back to {path.name}: {reason}")
            return saved
        if problems:
            raise FormatError("\n".join([*problems, f"{self._folder}: no whole state left; remove it to begin anew"]))
        return None

    def _read(self, path: Path) -> Saved:
        facts, tensors = read_tensors(path, STATE)
        changed = [k for k, v in _plain(self._identity).items() if facts["identity"].get(k) != v]
        if changed:
            raise SettingsError(
                f"{path}: begun with another {', '.join(changed)}; use the same settings, or another root=..."
            )
        saved = Saved(facts, tensors, self._folder)
        for name in facts["segments"]:  # all of it must be readable before any of it is used
            read_segment(self._folder / name)
        self._segments = list(zip(facts["segments"], facts["stops"], strict=True))
        self._count = facts["count"]
        return saved

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], replay: Replay | None) -> None:
        """Write a state; what it needs of the replay, if there is one, goes into a new segment first."""
        count = self._count + 1
        # A damaged state of this number goes first: killed between the two writes, it must not meet the new segment.
        (self._folder / f"state-{count:06}.safetensors").unlink(missing_ok=True)
        segments = [] if replay is None else self._add(replay, f"replay-{count:06}")
        whole = {**facts, "identity": _plain(self._identity), "count": count}
        whole |= {"segments": [s[0] for s in segments], "stops": [s[1] for s in segments]}
        write_tensors(self._folder / f"state-{count:06}.safetensors", STATE, whole, tensors)
        # A segment dropped just now still serves the state before.
        self._clean({name for name, _ in [*self._segments, *segments]})
        self._segments, self._count = segments, count

    def _add(self, replay: Replay, name: str) -> list[tuple[str, list[int]]]:
        """Write the rows that no segment has yet; the segments that hold a row still in the replay."""
        begin = np.array(self._segments[-1][1]) if self._segments else np.zeros_like(replay.head)
        added: list[tuple[str, list[int]]] = []
        while not added or (begin < replay.head - 1).any():
            rows = replay.rows(begin, SEGMENT_ROWS)
            part = f"{name}-{len(added)}.safetensors" if added else f"{name}.safetensors"
            write_segment(self._folder / part, rows)
            added.append((part, rows.stop.tolist()))
            begin = rows.stop
            del rows  # before the next ones are taken
        oldest = replay.head - replay.length
        return [s for s in [*self._segments, *added] if (np.array(s[1]) > oldest).any()]

    def _clean(self, needed: set[str]) -> None:
        """Remove states beyond the last two, segments that neither of them reads, and what a kill left half-written."""
        tidy(self._folder)
        states = sorted(self._folder.glob("state-*.safetensors"))
        for path in states[:-KEEP]:
            path.unlink()
        for path in self._folder.glob("replay-*.safetensors"):
            if path.name not in needed:
                path.unlink()


def write_segment(path: Path, rows: Rows) -> None:
    """Rows of the replay, frames compressed: some 40 to 400 bytes each instead of 7,056."""
    packed = zstandard.ZstdCompressor(level=1).compress(np.ascontiguousarray(rows.cells).data)  # a view, no copy
    tensors = {name: torch.from_numpy(getattr(rows, name)) for name in ("begin", "stop", "action", "reward", "flags")}
    tensors["cells"] = torch.frombuffer(bytearray(packed), dtype=torch.uint8)
    write_tensors(path, SEGMENT, {"rows": len(rows.action)}, tensors)


def read_segment(path: Path) -> Rows:
    facts, tensors = read_tensors(path, SEGMENT)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    size = facts["rows"] * CELLS * CELLS * BLOCK * BLOCK
    cells = np.frombuffer(zstandard.ZstdDecompressor().decompress(arrays.pop("cells").tobytes(), size), np.uint8)
    return Rows(cells=cells.reshape(-1, CELLS, CELLS, BLOCK * BLOCK), **arrays)


def _plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back: tuples are lists."""
    return json.loads(json.dumps(identity))  # type: ignore[no-any-return]

"""The manifest of a dataset: what was recorded, from what, and the digest of each shard."""

from __future__ import annotations

import dataclasses
import math
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl.files import FormatError, digest, plain, read_json, write_json
from rl.shards import CUT, Codec, EpisodeTable, Shard, unpack

NAME, KIND, VERSION = "manifest.json", "spikecade-rollouts", (1, 1)
FIRST_VERSION = (1, 0)  # did not say who played
RECORDING, COMPLETE = "recording", "complete"
SHARD_NAME = re.compile(r"^shard-\d{5}\.spk$")


@dataclass(frozen=True)
class Facts:
    """What a recorder knows before the first step. Values are plain JSON."""

    game: str  # CamelCase ALE name
    rom_md5: str
    actions: tuple[str, ...]  # meanings, by action id
    env: dict[str, Any]  # every argument of the environment, preprocessing included
    teacher: dict[str, Any]  # whose values q are: digest of the checkpoint, score; digest None: q was not recorded
    epsilon: float  # behaviour: share of random actions
    seeds: tuple[int, ...]  # of the recorder's environments
    versions: dict[str, str]  # see versions()
    player: dict[str, Any] = dataclasses.field(default_factory=dict)  # who acted: name, digests; files of 1.0: empty

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            kind = _KINDS[field.name]
            if not isinstance(getattr(self, field.name), kind):
                raise TypeError(f"facts.{field.name}: found {getattr(self, field.name)!r}, must be a {kind.__name__}")
        if not self.actions or not all(isinstance(name, str) for name in self.actions):
            raise ValueError(f"facts.actions: found {self.actions!r}, must be names")
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"facts.epsilon: found {self.epsilon!r}, allowed 0..1")
        plain(self.as_json())

    @property
    def labelled(self) -> bool:
        """Whether q holds a teacher's values; zeros where not."""
        return self.teacher.get("digest", "") is not None

    def as_json(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        plain_values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        if not self.player:  # as files of 1.0 have it, so that their digests stay what they were
            del plain_values["player"]
        return plain_values


_KINDS: dict[str, type] = {
    "game": str,
    "rom_md5": str,
    "actions": tuple,
    "env": dict,
    "teacher": dict,
    "epsilon": float,
    "seeds": tuple,
    "versions": dict,
    "player": dict,
}


@dataclass(frozen=True)
class Entry:
    """One complete shard."""

    name: str
    rows: int
    decisions: int
    episodes: int
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and SHARD_NAME.match(self.name)):
            raise ValueError(f"shards.name: found {self.name!r}, must be like shard-00000.spk")
        for name in ("rows", "decisions", "episodes", "bytes"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise ValueError(
                    f"shards.{name}: found {getattr(self, name)!r} for {self.name}, must be a positive number"
                )
        if self.rows != self.decisions + self.episodes:
            raise ValueError(f"shards.rows: found {self.rows} for {self.name}, must be decisions + episodes")


@dataclass(frozen=True)
class Returns:
    """Raw returns of the episodes that came to their end."""

    episodes: int
    mean: float
    std: float  # of the sample, 0 for one episode
    min: float
    max: float

    @classmethod
    def of(cls, table: EpisodeTable) -> Returns | None:
        """None where no episode came to its end."""
        done = table.returns[table.end != CUT]
        if not len(done):
            return None
        spread = float(done.std(ddof=1)) if len(done) > 1 else 0.0
        return cls(len(done), float(done.mean()), spread, float(done.min()), float(done.max()))


@dataclass(frozen=True)
class Manifest:
    """A dataset's contents, checked field by field."""

    facts: Facts
    codec: Codec
    status: str  # RECORDING (may be resumed) or COMPLETE
    made: str  # UTC date and time of the first shard
    returns: Returns | None
    shards: tuple[Entry, ...]

    def __post_init__(self) -> None:
        if self.status not in (RECORDING, COMPLETE):
            raise ValueError(f"status: found {self.status!r}, allowed {RECORDING}, {COMPLETE}")
        for i, entry in enumerate(self.shards):
            if entry.name != shard_name(i):
                raise ValueError(f"shards.name: found {entry.name} at place {i}, must be {shard_name(i)}")

    @property
    def rows(self) -> int:
        return sum(entry.rows for entry in self.shards)

    @property
    def decisions(self) -> int:
        return sum(entry.decisions for entry in self.shards)

    @property
    def episodes(self) -> int:
        return sum(entry.episodes for entry in self.shards)

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self.shards)

    @property
    def digest(self) -> str:
        """sha256 (hex) of facts and shards: equal recordings are equal, whenever they were made."""
        contents = [entry.sha256 for entry in self.shards]
        return digest(plain({"facts": self.facts.as_json(), "shards": contents}))


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.spk"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions(
    packages: Iterable[str] = ("ale-py", "gymnasium", "torch", "numpy", "zstandard", "spikecade"),
) -> dict[str, str]:
    """Installed versions by package, python's own included; 'none' where a package is not installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def manifest_json(manifest: Manifest) -> dict[str, Any]:
    """The contents of a manifest's file, their digest included."""
    body: dict[str, Any] = {
        "kind": KIND,
        "version": list(VERSION if manifest.facts.player else FIRST_VERSION),
        "facts": manifest.facts.as_json(),
        "codec": dataclasses.asdict(manifest.codec),
        "status": manifest.status,
        "made": manifest.made,
        "counts": {name: getattr(manifest, name) for name in ("rows", "decisions", "episodes", "bytes")},
        "returns": dataclasses.asdict(manifest.returns) if manifest.returns else None,
        "shards": [dataclasses.asdict(entry) for entry in manifest.shards],
    }
    return {**body, "digest": digest(plain(body))}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `folder/manifest.json`, whole or not at all; raises OSError."""
    write_json(folder / NAME, manifest_json(manifest))


def read_manifest(folder: Path) -> Manifest:
    """Read and check `folder/manifest.json`; raises FormatError naming the file and the field."""
    path = folder / NAME
    try:
        body = read_json(path)
    except (FileNotFoundError, NotADirectoryError) as cause:
        raise FormatError(f"{path}: not found, so no dataset; make rollouts records one") from cause
    try:
        return manifest_from(body)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as cause:
        missing = " missing" if isinstance(cause, KeyError) else ""
        raise FormatError(f"{path}: field {cause}{missing}; record or fetch it again") from cause


def manifest_from(body: dict[str, Any]) -> Manifest:
    """A manifest from the contents of its file; raises KeyError, TypeError, ValueError naming what is wrong."""
    if body["kind"] != KIND:
        raise ValueError(f"kind: found {body['kind']!r}, must be {KIND!r}")
    if body["version"][0] != VERSION[0]:
        raise ValueError(f"version: found {body['version']}, this program reads {VERSION[0]}.x")
    body = dict(body)
    found, contents = body.pop("digest"), digest(plain(body))
    if found != contents:
        raise ValueError(f"digest: found {found}, the contents have {contents}: the file was changed or damaged")
    facts = {**body["facts"], "actions": tuple(body["facts"]["actions"]), "seeds": tuple(body["facts"]["seeds"])}
    manifest = Manifest(
        facts=Facts(**facts),
        codec=Codec(**body["codec"]),
        status=body["status"],
        made=body["made"],
        returns=None if body["returns"] is None else Returns(**body["returns"]),
        shards=tuple(Entry(**entry) for entry in body["shards"]),
    )
    for name, count in body["counts"].items():
        if count != getattr(manifest, name):
            raise ValueError(f"counts.{name}: found {count}, the shards have {getattr(manifest, name)}")
    return manifest


def returns_agree(said: Returns | None, found: Returns | None) -> bool:
    """Whether two statistics of returns are equal but for rounding."""
    if said is None or found is None:
        return said is found
    pairs = zip(dataclasses.astuple(said), dataclasses.astuple(found), strict=True)
    return all(math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) for a, b in pairs)


def read_shard(folder: Path, entry: Entry, actions: int, into: NDArray[np.uint8] | None = None) -> Shard:
    """Read one listed shard of a dataset of so many actions; raises FormatError naming the file and the field."""
    path = folder / entry.name
    try:
        data = path.read_bytes()
    except FileNotFoundError as cause:
        raise FormatError(f"{path}: not found, the manifest lists it; record or fetch it again") from cause
    if len(data) != entry.bytes:
        raise FormatError(
            f"{path}: field bytes is {len(data)}, the manifest says {entry.bytes}; record or fetch it again"
        )
    if digest(data) != entry.sha256:
        raise FormatError(
            f"{path}: field sha256 differs from the manifest's: changed or damaged; record or fetch it again"
        )
    shard = unpack(data, str(path), into)
    if shard.columns.q.shape[1] != actions:
        found = shard.columns.q.shape[1]
        raise FormatError(f"{path}: field actions is {found}, the manifest names {actions}; record or fetch it again")
    counts = (len(shard.frames), int(shard.episodes.length.sum()), len(shard.episodes))
    if counts != (entry.rows, entry.decisions, entry.episodes):
        raise FormatError(
            f"{path}: field rows, decisions, episodes are {counts}, the manifest says "
            f"{(entry.rows, entry.decisions, entry.episodes)}; record or fetch it again"
        )
    return shard

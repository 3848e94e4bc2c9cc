"""Datasets to Minari's files and back, without loss (Farama-Foundation/Minari, extra `minari`).

An observation is the newest picture, raw: Minari's own default is JPEG, which would change it. `infos` hold q, lives
and flags with each picture; an episode's `options` hold its environment, epsilon and digest; the manifest rides along
as text. Which episodes share a shard is kept too, so that a dataset that comes back has the digest that it had.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl.files import FormatError, digest, plain
from rl.manifest import COMPLETE, Manifest, manifest_from, manifest_json, read_manifest, read_shard, write_manifest
from rl.recording import EpisodeRows, RolloutWriter
from rl.settings import SettingsError
from rl.shards import CAPPED, FRAME, GREEDY, LIFE_LOST, OVER, TERMINATED, TRUNCATED, Shard

DATA, OURS = "data", "spikecade_manifest"  # Minari's folder within a dataset's; our key in its metadata
ALL_ROWS = 1 << 62  # shards end where the manifest says, at no number of rows


def _minari() -> Any:
    try:
        import minari
        import minari.dataset._storages.hdf5_storage
    except ImportError as cause:
        raise SettingsError(f"minari: not installed ({cause}); pip install 'spikecade[minari]'") from cause
    return minari


@contextmanager
def _new(folder: Path) -> Iterator[Path]:
    """A folder to write in that becomes `folder` once all is there; raises SettingsError where that exists."""
    if folder.exists():
        raise SettingsError(f"{folder}: exists, must be a new folder; name another one")
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def export(folder: Path, out: Path) -> Manifest:
    """Write the dataset `folder` as the Minari dataset `out`; the manifest of what was written.

    `minari.MinariDataset(out / "data")` opens it; under MINARI_DATASETS_PATH, load_dataset does by its path there.
    Takes 7 kB a decision on disk. Raises FormatError for a damaged dataset, SettingsError where `out` exists or Minari
    is not installed; `out` is whole or absent.
    """
    minari, manifest = _minari(), read_manifest(folder)
    with _new(out) as part:
        _write(minari, folder, manifest, part / DATA, "/".join(out.absolute().parts[-2:]))
    return manifest


def _write(minari: Any, folder: Path, manifest: Manifest, data: Path, name: str) -> None:
    from gymnasium.spaces import Box, Discrete

    storage = minari.dataset.minari_storage.MinariStorage.new(
        data,
        observation_space=Box(0, 255, FRAME, np.uint8),
        action_space=Discrete(len(manifest.facts.actions)),
        data_format="hdf5",
        jpeg_encoding=False,
    )
    facts = manifest.facts
    storage.update_metadata({
        "dataset_id": name if name[-1].isdigit() and "-v" in name else f"{name}-v0",
        "minari_version": minari.__version__,
        "algorithm_name": str(facts.player.get("name", "teacher")),
        "description": f"{facts.game}, recorded by Spikecade: the newest picture of each decision; infos hold q, the "
        "teacher's values, and flags, bits as in rl/shards.py",
        OURS: plain(manifest_json(manifest)).decode(),
    })  # fmt: skip
    buffer = minari.data_collector.EpisodeBuffer
    storage.update_episodes(buffer(**episode) for episode in _episodes(folder, manifest))


def _episodes(folder: Path, manifest: Manifest) -> Iterator[dict[str, Any]]:
    for entry in manifest.shards:
        shard = read_shard(folder, entry, len(manifest.facts.actions))
        for i in range(len(shard.episodes)):
            yield _episode(shard, i)


def _episode(shard: Shard, i: int) -> dict[str, Any]:
    """The arguments of Minari's EpisodeBuffer."""
    table, columns = shard.episodes, shard.columns
    start, length = int(table.start[i]), int(table.length[i])
    rows, decided = slice(start, start + length + 1), slice(start, start + length)
    ended = np.zeros((2, length), np.bool_)
    ended[:, -1] = table.end[i] == OVER, table.end[i] == CAPPED
    arrays: dict[str, NDArray[Any]] = {
        "observations": shard.frames[rows],
        "actions": columns.action[decided],
        "rewards": columns.reward[decided],
        "terminations": ended[0],
        "truncations": ended[1],
    }
    infos: dict[str, NDArray[Any]] = {"q": columns.q[rows], "lives": columns.lives[rows], "flags": columns.flags[rows]}
    facts = {"env": int(table.env[i]), "epsilon": float(table.epsilon[i]), "returns": float(table.returns[i])}
    options = {**facts, "sha256": _digest({**arrays, **infos}, {**facts, "seed": int(table.seed[i])})}
    return {**arrays, "infos": infos, "seed": int(table.seed[i]), "options": options}


def _digest(arrays: dict[str, NDArray[Any]], facts: dict[str, Any]) -> str:
    """sha256 of an episode's arrays, with their names, dtypes and shapes, and of its facts."""
    parts = {name: [str(a.dtype), list(a.shape), digest(a.tobytes())] for name, a in arrays.items()}
    return digest(plain({"arrays": parts, "facts": facts}))


def import_(source: Path, folder: Path) -> Manifest:
    """Read a Minari dataset that `export` wrote into the new dataset folder `folder`.

    Every episode is compared with the digest that it was written with. Where the shards cannot be packed to the same
    bytes (another version of zstd), contents are equal and the dataset's digest is another one. Raises FormatError
    naming the file and the field, SettingsError where `folder` exists or Minari is not installed.
    """
    minari, data = _minari(), source / DATA
    with _new(folder) as part:
        try:
            storage = minari.dataset.minari_storage.MinariStorage.read(data)
            return _read(storage, _said(storage.metadata, data), part, data)
        except FormatError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError, IndexError, OSError) as cause:
            raise FormatError(f"{data}: not readable as an exported dataset ({cause}); export it again") from cause


def _said(metadata: dict[str, Any], data: Path) -> Manifest:
    if OURS not in metadata:
        raise FormatError(
            f"{data}: field {OURS} is missing, so it was not exported from a dataset of ours and has no labels; "
            "record one with make rollouts"
        )
    return manifest_from(json.loads(metadata[OURS]))


def _read(storage: Any, said: Manifest, folder: Path, data: Path) -> Manifest:
    if storage.total_episodes != said.episodes:
        found = f"field total_episodes is {storage.total_episodes}, the manifest says {said.episodes}"
        raise FormatError(f"{data}: {found}; export it again")
    writer, at = RolloutWriter(folder, said.facts, ALL_ROWS, said.codec), 0
    for entry in said.shards:
        for i in range(at, at + entry.episodes):
            (found,), (facts,) = storage.get_episodes([i]), storage.get_episode_metadata([i])
            writer.add_episode(_rows(found, facts, f"{data}: episode {i}"))
        writer.flush()
        at += entry.episodes
    manifest = replace(writer.close(said.status == COMPLETE), made=said.made)
    write_manifest(folder, manifest)
    return manifest


def _rows(found: dict[str, Any], facts: dict[str, Any], where: str) -> EpisodeRows:
    infos, options, steps = found["infos"], facts["options"], len(found["actions"])
    names = ("observations", "actions", "rewards", "terminations", "truncations")
    arrays = {**{name: found[name] for name in names}, **{name: infos[name] for name in ("q", "lives", "flags")}}
    env, epsilon = int(options["env"]), float(options["epsilon"])
    about = {"env": env, "epsilon": epsilon, "returns": float(options["returns"])}
    if _digest(arrays, {**about, "seed": int(facts["seed"])}) != options["sha256"]:
        raise FormatError(f"{where}: field sha256 differs from the contents': changed or damaged; export it again")
    flags = infos["flags"][:steps]
    return EpisodeRows(
        frames=found["observations"],
        action=found["actions"],
        reward=found["rewards"],
        q=infos["q"][:steps],
        greedy=flags & GREEDY != 0,
        life_lost=flags & LIFE_LOST != 0,
        terminated=bool(flags[-1] & TERMINATED),
        truncated=bool(flags[-1] & TRUNCATED),
        env=env,
        seed=int(facts["seed"]),
        epsilon=epsilon,
        lives=infos["lives"],
    )

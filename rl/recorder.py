"""A recording from beginning to end: settings, the facts of the manifest, play, the report. Commands say who plays."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl.ahead import ahead
from rl.board import Ticker
from rl.checkpoint import PolicyCheckpoint, load_policy
from rl.command import Stop, only_one
from rl.files import read_json, write_json
from rl.frames import Frames
from rl.games import SEEDS, EnvSettings, action_meanings, rom_path
from rl.manifest import Facts, versions
from rl.network import QNetwork
from rl.playing import Act, Cast, Labels, Lanes, best, episodes
from rl.recording import RolloutWriter
from rl.settings import SettingsError, need
from rl.stages import TEACHER, find

WAITING = 2  # episodes played while the writer packs those before
# How pictures are made of screens: what learns from them must be shown the same.
PREPROCESSING: Mapping[str, Any] = MappingProxyType(
    {"height": 84, "width": 84, "stack": 4, "grey": True, "resize": "area", "maxpool": True}
)
NO_LABELS = {"digest": None, "score": None}  # the manifest's teacher where q was not recorded


@dataclass(frozen=True)
class RolloutSettings:
    """A recording; see conf/rollouts.yaml."""

    player: str
    decisions: int
    epsilon: float
    envs: int
    groups: int
    threads: int
    seed: int
    shard_rows: int

    def __post_init__(self) -> None:
        need(0 <= self.epsilon <= 1, "rollouts.epsilon", self.epsilon, "0 to 1")
        for name in ("decisions", "envs", "groups", "threads", "shard_rows"):
            need(getattr(self, name) >= 1, f"rollouts.{name}", getattr(self, name), "1 or more")

    @property
    def lanes(self) -> Lanes:
        return Lanes(self.envs, self.groups, self.threads)


@dataclass(frozen=True)
class RolloutRun:
    """The command's settings."""

    name: str
    root: str
    env: EnvSettings
    rollouts: RolloutSettings

    @property
    def folder(self) -> Path:
        """The teacher's dataset is what distillation reads; every other player has a folder of its own."""
        own = self.rollouts.player
        return Path(self.root) / self.name / ("rollouts" if own == "teacher" else f"rollouts-{own}")


def values_of(network: QNetwork, stacks: Frames) -> NDArray[np.float32]:
    """Action values [B, A] of stacks [B, 21, 21, 64] in float32: labels at a low temperature need every bit.

    The batch that a stack is in may change the last bit of its values, since torch adds up in an order that suits the
    batch: labels are those of the batch in which they were played.
    """
    with torch.inference_mode():
        return network(torch.from_numpy(stacks)).numpy()  # type: ignore[no-any-return]


def labels_of(policy: PolicyCheckpoint) -> Labels:
    """The teacher's values, computed by one thread: the games have the other processors."""
    network = policy.build()
    return lambda stacks: values_of(network, stacks)


def teacher_facts(policy: PolicyCheckpoint | None) -> dict[str, Any]:
    """What the manifest says of the network whose values are recorded."""
    return NO_LABELS if policy is None else {"digest": policy.digest, "score": policy.training["score"]}


def teacher_cast(policy: PolicyCheckpoint) -> Cast:
    """The teacher plays, and its own values are the labels."""
    player = {"name": "teacher", "digest": policy.digest}
    return Cast(player, teacher_facts(policy), policy.actions, labels_of(policy), lambda n: best)


def labeller(config: RolloutRun) -> PolicyCheckpoint | None:
    """The teacher whose values go with another player's play, None where none was trained or it knows other actions."""
    actions = action_meanings(config.name, config.env)
    try:
        policy = load_policy(find(TEACHER, config.name, config.root))
        policy.require(config.name, actions, "rollouts")
    except SettingsError as cause:
        print(f"recorded without labels: {cause}")
        return None
    return policy


def cast_of(config: RolloutRun, player: dict[str, Any], act: Callable[[int], Act]) -> Cast:
    """Any player, with the teacher's values as labels where there is a teacher."""
    policy = labeller(config)
    labels = None if policy is None else labels_of(policy)
    return Cast(player, teacher_facts(policy), action_meanings(config.name, config.env), labels, act)


def facts_of(config: RolloutRun, cast: Cast) -> Facts:
    """What the dataset's manifest says of its making."""
    own = config.rollouts
    return Facts(
        game=config.name,
        rom_md5=hashlib.md5(rom_path(config.name).read_bytes(), usedforsecurity=False).hexdigest(),
        actions=cast.actions,
        env=asdict(config.env) | dict(PREPROCESSING) | {"envs": own.envs, "groups": own.groups},
        teacher=cast.teacher,
        epsilon=own.epsilon,
        seeds=(own.seed,),
        versions=versions(),
        player=cast.player,
    )


def record(config: RolloutRun, cast: Cast, folder: Path, stop: Stop) -> RolloutWriter:
    """Play until there are decisions enough; a recording under way is gone on with, from seeds not used before.

    The episodes under way at the end, or at a stop, are recorded as far as they came: leaving them out would leave out
    the long ones more often. Raises KeyboardInterrupt at a stop; what was played is kept and is not called complete.
    """
    own = config.rollouts
    writer = RolloutWriter(folder, facts_of(config, cast), own.shard_rows)
    began = writer.decisions
    left, scores = own.decisions - began, list[float]()
    seed = (own.seed + 100_003 * writer.episodes) % SEEDS

    def tell(decisions: int) -> None:
        last = f"  last score {scores[-1]:.0f}" if scores else ""
        ticker.show(min(decisions, own.decisions), f"{decisions:,} decisions{last}")

    def going(played: int) -> bool:
        tell(began + played)
        return not stop

    with Ticker(own.decisions, began) as ticker, writer:
        play = episodes(cast, config.name, config.env, own.lanes, own.epsilon, seed, left, going)
        for episode in ahead(play, WAITING):
            writer.add_episode(episode)
            scores.append(float(episode.reward.sum()))
        if writer.decisions < own.decisions:
            raise KeyboardInterrupt  # leaving the writer by it keeps what is there and does not call it complete
        if left > 0:
            tell(writer.decisions)
    return writer


def record_and_report(config: RolloutRun, cast: Cast) -> int:
    """What every recording command does once it knows who plays; its exit status."""
    torch.set_num_threads(1)
    folder = config.folder
    with only_one(folder):
        spent, stop = Spent(folder), Stop()
        try:
            writer = record(config, cast, folder, stop)
        except KeyboardInterrupt:
            spent.keep()
            print(f"{folder}: stopped; the same command goes on")
            return stop.status()
        finally:
            stop.restore()
        path = folder / "report.json"
        before = read_json(path) if path.exists() else {}
        done = before.get("digest") == writer.manifest.digest  # nothing more was played: what is told stays
        report = before if done else _report(writer, spent.wall_s) | {"settings": asdict(config)}
        write_json(path, report)
        spent.forget()
    print(f"{folder}: {_sentence(report)}")
    return 0


class Spent:
    """Seconds that a recording has taken, those of sittings before that were stopped included."""

    def __init__(self, folder: Path) -> None:
        """Begins to count; raises FormatError where what an earlier sitting kept cannot be read."""
        self._path, self._start_s = folder / "spent.json", time.monotonic()
        self._before_s = float(read_json(self._path).get("wall_s", 0)) if self._path.exists() else 0.0

    @property
    def wall_s(self) -> float:
        return self._before_s + time.monotonic() - self._start_s

    def keep(self) -> None:
        """For the sitting that goes on."""
        write_json(self._path, {"wall_s": self.wall_s})

    def forget(self) -> None:
        """It is over."""
        self._path.unlink(missing_ok=True)


def _report(writer: RolloutWriter, wall_s: float) -> dict[str, Any]:
    manifest = writer.manifest
    return {
        "what": "rollouts",
        "game": manifest.facts.game,
        "player": manifest.facts.player,
        "decisions": manifest.decisions,
        "episodes": manifest.episodes,
        "bytes_per_decision": manifest.bytes / manifest.decisions,
        "returns": asdict(manifest.returns) if manifest.returns else None,
        "wall_s": wall_s,
        "digest": manifest.digest,
        "versions": manifest.facts.versions,
    }


def _sentence(report: dict[str, Any]) -> str:
    returns = report["returns"]
    score = "none ended" if returns is None else f"{returns['episodes']} whole, mean score {returns['mean']:.2f}"
    counts = f"{report['decisions']:,} decisions in {report['episodes']} episodes"
    return f"{counts}, {score}, {report['bytes_per_decision']:.0f} bytes a decision"

"""make rollouts: the teacher plays, and a replay dataset keeps what it saw, did and thought."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from rl.board import Ticker
from rl.checkpoint import PolicyCheckpoint, load_policy
from rl.command import Stop, launch, only_one, run, settings
from rl.files import write_json
from rl.frames import BlockStacks, Frames, blocks
from rl.games import SEEDS, EnvSettings, VectorGame, VectorStep, action_meanings, rom_path
from rl.manifest import Facts, versions
from rl.network import QNetwork
from rl.recording import EpisodeRows, RolloutWriter
from rl.settings import need
from rl.stages import TEACHER, find


@dataclass(frozen=True)
class RolloutSettings:
    """A recording; see conf/rollouts.yaml."""

    decisions: int
    epsilon: float
    envs: int
    threads: int
    seed: int
    shard_rows: int

    def __post_init__(self) -> None:
        need(0 <= self.epsilon <= 1, "rollouts.epsilon", self.epsilon, "0 to 1")
        need(self.decisions >= 1, "rollouts.decisions", self.decisions, "1 or more")
        need(self.envs >= 1, "rollouts.envs", self.envs, "1 or more")
        need(self.shard_rows >= 1, "rollouts.shard_rows", self.shard_rows, "1 or more")


@dataclass(frozen=True)
class RolloutRun:
    """The command's settings."""

    name: str
    root: str
    env: EnvSettings
    rollouts: RolloutSettings


class _Open:
    """The episode under way in one env."""

    def __init__(self, first: Frames) -> None:
        self.frames = [first]
        self.actions: list[int] = []
        self.rewards: list[float] = []
        self.values: list[NDArray[np.float32]] = []
        self.lives: list[bool] = []

    def add(self, frame: Frames, action: int, reward: float, values: NDArray[np.float32], life_lost: bool) -> None:
        self.frames.append(frame)
        self.actions.append(action)
        self.rewards.append(reward)
        self.values.append(values)
        self.lives.append(life_lost)

    def closed(self, terminated: bool, truncated: bool, env: int, seed: int, epsilon: float) -> EpisodeRows:
        q = np.stack(self.values)
        action = np.array(self.actions, np.uint8)
        return EpisodeRows(
            frames=np.stack(self.frames),
            action=action,
            reward=np.array(self.rewards, np.float32),
            q=q,
            greedy=q.argmax(axis=1) == action,
            life_lost=np.array(self.lives),
            terminated=terminated,
            truncated=truncated,
            env=env,
            seed=seed,
            epsilon=epsilon,
        )


def values_of(network: QNetwork, stacks: Frames) -> NDArray[np.float32]:
    """Action values [B, A] of stacks [B, 21, 21, 64] in float32: labels at a low temperature need every bit."""
    with torch.no_grad():
        return network(torch.from_numpy(stacks)).numpy()  # type: ignore[no-any-return]


def episodes(
    network: QNetwork, game: str, env: EnvSettings, own: RolloutSettings, seed: int, stop: Stop
) -> Iterator[EpisodeRows]:
    """Whole episodes until a signal, in the order in which they end."""
    games = VectorGame(game, env, own.envs, seed, own.threads)
    rng = np.random.default_rng(seed)
    stacks = BlockStacks(blocks(games.first))
    open_ = [_Open(frame) for frame in games.first]
    try:
        while not stop:
            q = values_of(network, stacks.now)
            actions = q.argmax(axis=1)
            stray = rng.random(own.envs) < own.epsilon
            actions[stray] = rng.integers(len(games.actions), size=int(stray.sum()))
            step = games.step(actions)
            for e, episode in enumerate(open_):
                episode.add(step.frames[e], int(actions[e]), float(step.reward[e]), q[e], bool(step.life_lost[e]))
            yield from _ended(open_, step, own, seed)
            stacks.push(blocks(step.first), step.ended)
    finally:
        games.close()


def _ended(open_: list[_Open], step: VectorStep, own: RolloutSettings, seed: int) -> Iterator[EpisodeRows]:
    for e in np.flatnonzero(step.ended):
        done, open_[e] = open_[e], _Open(step.first[e])
        yield done.closed(bool(step.terminated[e]), bool(step.truncated[e]), int(e), seed + int(e), own.epsilon)


def facts_of(config: RolloutRun, policy: PolicyCheckpoint) -> Facts:
    """What the dataset's manifest says of its making."""
    own = config.rollouts
    preprocessing = {"height": 84, "width": 84, "stack": 4, "grey": True, "resize": "area", "maxpool": True}
    return Facts(
        game=config.name,
        rom_md5=hashlib.md5(rom_path(config.name).read_bytes(), usedforsecurity=False).hexdigest(),
        actions=policy.actions,
        env=asdict(config.env) | preprocessing | {"envs": own.envs},
        teacher={"digest": policy.digest, "score": policy.training["score"]},
        epsilon=own.epsilon,
        seeds=(own.seed,),
        versions=versions(),
    )


def record(config: RolloutRun, policy: PolicyCheckpoint, folder: Path, stop: Stop) -> RolloutWriter:
    """Play until there are decisions enough; a recording under way is gone on with, from seeds not used before."""
    own = config.rollouts
    writer = RolloutWriter(folder, facts_of(config, policy), own.shard_rows)
    began = writer.decisions
    ticker = Ticker(own.decisions, began)
    with writer:
        if began >= own.decisions:
            return writer
        seed = (own.seed + 100_003 * writer.episodes) % SEEDS
        for episode in episodes(policy.build(), config.name, config.env, own, seed, stop):
            writer.add_episode(episode)
            ticker.show(writer.decisions, f"{writer.decisions:,} decisions  last score {episode.reward.sum():.0f}")
            if writer.decisions >= own.decisions:
                return writer
        raise KeyboardInterrupt  # leaving the writer by it keeps what is there and does not call it complete


def command(config: RolloutRun) -> int:
    torch.set_num_threads(1)
    policy = load_policy(find(TEACHER, config.name, config.root))
    policy.require(config.name, action_meanings(config.name, config.env), "rollouts")
    folder = Path(config.root) / config.name / "rollouts"
    with only_one(folder):
        start, stop = time.monotonic(), Stop()
        try:
            writer = record(config, policy, folder, stop)
        except KeyboardInterrupt:
            print(f"{folder}: stopped; the same command goes on")
            return stop.status()
        finally:
            stop.restore()
        report = _report(writer, time.monotonic() - start)
        write_json(folder / "report.json", report)
    returns = report["returns"]
    print(
        f"{folder}: {writer.decisions:,} decisions in {writer.episodes} episodes, mean score {returns['mean']:.2f}, "
        f"{report['bytes_per_decision']:.0f} bytes a decision"
    )
    return 0


def _report(writer: RolloutWriter, wall_s: float) -> dict[str, Any]:
    manifest = writer.manifest
    assert manifest.returns is not None
    return {
        "what": "rollouts",
        "game": manifest.facts.game,
        "decisions": manifest.decisions,
        "episodes": manifest.episodes,
        "bytes_per_decision": manifest.bytes / manifest.decisions,
        "returns": asdict(manifest.returns),
        "wall_s": wall_s,
        "digest": manifest.digest,
        "versions": manifest.facts.versions,
    }


@hydra.main(version_base=None, config_path="../conf", config_name="rollouts")
def main(tree: DictConfig) -> None:
    """Record, or go on recording."""
    run(lambda: command(settings(RolloutRun, OmegaConf.to_container(tree, resolve=True))))  # type: ignore[arg-type]


if __name__ == "__main__":
    launch(main)

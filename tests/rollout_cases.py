"""Small recordings for the tests of the dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rl.manifest import Facts
from rl.recording import EpisodeRows, RolloutWriter
from rl.shards import Codec

ACTIONS = ("NOOP", "FIRE", "LEFT")
SMALL = Codec(chunk_rows=5, level=1)
FACTS = Facts(
    game="Pong",
    rom_md5="60e0ea3cbe0913d39803477945e9e5ec",
    actions=ACTIONS,
    env={"repeat_action_probability": 0.25, "frameskip": 4},
    teacher={"digest": "ab" * 32, "score": 19.5},
    epsilon=0.05,
    seeds=(11, 12),
    versions={"numpy": "2"},
)


def episode(steps: int, seed: int, **changes: Any) -> EpisodeRows:
    """A random episode of so many decisions, every picture different and none of them black."""
    rng = np.random.default_rng(seed)
    q = rng.normal(size=(steps, len(ACTIONS))).astype(np.float32)
    greedy = rng.random(steps) < 0.75
    action = np.where(greedy, q.argmax(axis=1), rng.integers(len(ACTIONS), size=steps)).astype(np.uint8)
    values: dict[str, Any] = {
        "frames": rng.integers(1, 256, (steps + 1, 1, 84), dtype=np.uint8) * np.ones((1, 84, 1), np.uint8),
        "action": action,
        "reward": rng.integers(-2, 8, steps).astype(np.float32),
        "q": q,
        "greedy": greedy,
        "life_lost": rng.random(steps) < 0.25,
        "terminated": seed % 3 != 0,
        "truncated": False,
        "env": seed % 2,
        "seed": 11 + seed % 2,
        "epsilon": 0.05,
        "lives": rng.integers(0, 5, steps + 1, dtype=np.uint8),
    }
    return EpisodeRows(**{**values, **changes})


def record(folder: Path, lengths: list[int], shard_rows: int = 9, codec: Codec = SMALL) -> list[EpisodeRows]:
    """A complete dataset of episodes of these lengths; returns them."""
    episodes = [episode(steps, seed) for seed, steps in enumerate(lengths, start=1)]
    with RolloutWriter(folder, FACTS, shard_rows, codec) as writer:
        for one in episodes:
            writer.add_episode(one)
    return episodes


def plain_stack(one: EpisodeRows, i: int) -> np.ndarray:
    """The stack of row i of an episode, the slow way."""
    stack = np.zeros((4, 84, 84), np.uint8)
    for k, j in enumerate(range(i - 3, i + 1)):
        if j >= 0:
            stack[k] = one.frames[j]
    return stack

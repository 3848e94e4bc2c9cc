"""Shared cases of distillation: small students that look trained, a teacher that knows nothing, its recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deploy.spec import Head
from distill.settings import DistillRun, DistillSettings
from distill.student import LayerSettings, Normalised, Student, StudentSettings
from rl.checkpoint import PolicyCheckpoint, half, load_policy, save_policy
from rl.frames import Frames
from rl.games import EnvSettings, action_meanings
from rl.network import NetworkSettings, QNetwork
from rl.playing import episodes
from rl.recorder import RolloutRun, RolloutSettings, facts_of, teacher_cast
from rl.recording import RolloutWriter

torch.set_num_threads(1)  # small networks: more threads only wait for one another
SHORT = EnvSettings(frames_per_step=4, sticky=0.0, noop_max=30, full_actions=False, max_frames=40)
SMALL = (LayerSettings(8, 2, 4, 4, 0, False), LayerSettings(12, 2, 1, 1, 0, True), LayerSettings(21, 1, 3, 2, 0, False))


def heads(*counts: int) -> tuple[Head, ...]:
    """One head for each number of actions."""
    starts = np.cumsum([0, *counts])
    return tuple(Head(f"Game{i}", tuple(f"A{a}" for a in range(n)), int(starts[i])) for i, n in enumerate(counts))


def student(layers: Sequence[LayerSettings] = SMALL, counts: Sequence[int] = (3,), seed: int = 0) -> Student:
    """A student fresh from its seed."""
    torch.manual_seed(seed)
    return Student(StudentSettings(4, tuple(layers)), heads(*counts))


def trained_looking(layers: Sequence[LayerSettings], counts: Sequence[int], seed: int) -> Student:
    """A student with statistics and biases of both signs, ready to play; no sum lies nearer a threshold than 1/2."""
    made = student(layers, counts, seed)
    spans = [4000.0] + [2.0] * len(layers)
    with torch.no_grad():
        for level, span in zip(made.normalised, spans, strict=True):
            level.variance.copy_(torch.rand(level.variance.shape) * span**2 + 0.25)
            level.bias.copy_(torch.randn(level.bias.shape) * 0.7)
            whole = (torch.randn(level.mean.shape) * span).round()
            level.mean.copy_(level.bias.double() * level.deviation - whole - 0.5)
    return made.eval()


def stacks(batch: int, seed: int = 0) -> Frames:
    """Picture stacks [batch, 4, 84, 84] u8 with flat areas, as games have."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (batch, 4, 12, 12)).astype(np.uint8)
    noise = rng.integers(0, 2, (batch, 4, 84, 84)).astype(np.uint8)
    return coarse.repeat(7, axis=2).repeat(7, axis=3) ^ noise


def levels(made: Student) -> list[Normalised]:
    return list(made.normalised)


def teacher(game: str, root: Path, seed: int = 0) -> PolicyCheckpoint:
    """An untrained teacher, where `make teacher` would have left it."""
    torch.manual_seed(seed)
    actions, network = action_meanings(game, SHORT), NetworkSettings((4, 4, 4), 16)
    params = half(QNetwork(len(actions), network).state_dict())
    training = {"frames": 0, "score": {"mean": 1.5}}
    policy = PolicyCheckpoint(game, actions, SHORT, network, params, training)
    path = root / game / "teacher" / "policy.safetensors"
    save_policy(policy, path)
    return load_policy(path)


def record(policy: PolicyCheckpoint, root: Path, count: int = 12) -> Path:
    """A dataset of that teacher in `count` short episodes, where `make rollouts` would have left it."""
    steps = count * SHORT.max_frames // SHORT.frames_per_step
    own = RolloutSettings("teacher", decisions=steps, epsilon=0.25, envs=3, groups=1, threads=1, seed=5, shard_rows=64)
    run, cast = RolloutRun(policy.game, str(root), SHORT, own), teacher_cast(policy)
    folder = root / policy.game / "rollouts"
    with RolloutWriter(folder, facts_of(run, cast), own.shard_rows) as writer:
        for episode in episodes(cast, policy.game, SHORT, own.lanes, own.epsilon, own.seed, steps, lambda played: True):
            writer.add_episode(episode)
    return folder


def prepared(root: Path, *games: str) -> Path:
    """A root in which everything that distillation reads is there."""
    for game in games:
        record(teacher(game, root), root)
    return root


TINY = DistillSettings(
    seed=3,
    start=(),
    mode="both",
    loss="kl",
    unit="value",
    temperature=0.25,
    temperature_start=0.5,
    cool_updates=10,
    updates=6,
    batch=8,
    shares=(),
    learning_rate=0.0625,
    schedule="cosine",
    warmup_updates=2,
    still_levels=0,
    still_updates=2,
    still_decisions=1_000,
    hysteresis=0.1,
    readouts=0.3,
    hints=3.3,
    hint_axes=7,
    surrogate_width=1.0,
    shift=0,
    decisions=0,
    envs=2,
    online_rows=64,
    online_start_updates=1,
    online_epsilon=0.25,
    online_falls=0.0,
    held_out=0.25,
    threads=1,
    bf16=True,
    log_updates=2,
    exam_updates=4,
    checkpoint_s=1e9,
    eval_start_updates=0,
    eval_updates=3,
    eval_episodes=2,
    report_episodes=2,
    epsilon=0.0,
    calibrate_batches=2,
)


def linked(ready: Path, root: Path) -> Path:
    """The teachers and datasets of `ready` in a root of its own, to write in."""
    for game in ready.iterdir():
        (root / game.name).mkdir(parents=True)
        for stage in ("teacher", "rollouts"):
            (root / game.name / stage).symlink_to(game / stage)
    return root


def tiny_run(root: Path, games: Sequence[str] = ("Pong",), **changes: Any) -> DistillRun:
    """A distillation of seconds."""
    own = replace(TINY, **changes)
    return DistillRun(tuple(games), str(root), str(root / "alone"), SHORT, StudentSettings(4, SMALL), own)

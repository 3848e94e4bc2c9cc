"""Small things to train with: taped vector steps, tiny networks, tiny runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from rl.agent import AgentSettings
from rl.games import EnvSettings, VectorStep
from rl.network import NetworkSettings
from rl.pqn import PqnSettings
from rl.replay import Replay
from rl.trainer import TeacherRun, TeacherSettings

NATURE = EnvSettings(frames_per_step=4, sticky=0.0, noop_max=30, full_actions=False, max_frames=108_000)
TINY_NET = NetworkSettings(channels=(3, 4, 5), hidden=7)
TINY_AGENT = AgentSettings(
    learning_rate=1e-3,
    adam_epsilon=1e-5,
    gamma=0.75,
    n_steps=3,
    batch=6,
    quantiles=1,
    dueling=False,
    advantage=0.0,
    prioritised=False,
    target_updates=4,
    max_grad_norm=10.0,
    bf16=False,
)


class Tape:
    """Random vector steps of E envs, and every row that they should become, as plain Python lists."""

    def __init__(self, envs: int, seed: int = 0, end: float = 0.15, life: float = 0.1, cut: float = 0.5) -> None:
        self._rng, self._envs, self._rates = np.random.default_rng(seed), envs, (end, life, cut)
        self.first = self._frames()
        # (frame, action or None where an episode's last frame lies, reward, terminal, episode begins)
        self.rows: list[list[list[Any]]] = [[[frame, None, 0.0, False, True]] for frame in self.first]

    def _frames(self) -> np.ndarray:
        return self._rng.integers(0, 256, (self._envs, 84, 84), dtype=np.uint8)

    def step(self) -> tuple[np.ndarray, VectorStep]:
        end, life, cut = self._rates
        ended = self._rng.random(self._envs) < end
        truncated = ended & (self._rng.random(self._envs) < cut)
        lost = ~ended & (self._rng.random(self._envs) < life)
        frames, fresh = self._frames(), self._frames()
        first = np.where(ended[:, None, None], fresh, frames)
        reward = self._rng.integers(-3, 4, self._envs).astype(np.float32) / 2
        actions = self._rng.integers(0, 18, self._envs)
        for e, rows in enumerate(self.rows):
            rows[-1][1:4] = int(actions[e]), float(reward[e]), bool(lost[e] or (ended[e] and not truncated[e]))
            if ended[e]:
                rows.append([frames[e], None, 0.0, False, False])
            rows.append([first[e], None, 0.0, False, bool(ended[e])])
        return actions, VectorStep(frames, first, reward, lost, ended & ~truncated, truncated)

    def begin_anew(self) -> np.ndarray:
        """What a resumed run does: the newest frame is gone, the row before it closes its episode."""
        frames = self._frames()
        for e, rows in enumerate(self.rows):
            rows.pop()
            if rows:
                rows[-1][1] = None
            rows.append([frames[e], None, 0.0, False, True])
        return frames


def taped_replay(steps: int, envs: int = 3, capacity: int = 150, **rates: Any) -> tuple[Tape, Replay]:
    """A replay that has seen so many steps of a tape."""
    tape = Tape(envs, **rates)
    replay = Replay(envs, capacity, tape.first)
    for _ in range(steps):
        replay.add(*tape.step())
    return tape, replay


def teacher(root: Path, env: EnvSettings | None = None, **changes: Any) -> TeacherRun:
    """A run of some hundred frames."""
    own = TeacherSettings(
        algo="ddqn",
        start=None,
        seed=5,
        train_frames=1_600,
        envs=2,
        device="cpu",
        env_threads=1,
        learner_threads=2,
        replay_rows=300,
        learn_start_frames=200,
        updates_per_step=1,
        epsilon_final=0.1,
        epsilon_decay_frames=1_000,
        stray_steps=1,
        rate_decay_frames=400,
        rate_hold_frames=0,
        rate_final=0.25,
        checkpoint_s=1e9,
        eval_frames=1_000_000,
        eval_episodes=1,
        confirm_episodes=0,
        stop_score=None,
        report_episodes=2,
        network=TINY_NET,
        agent=TINY_AGENT,
        pqn=PqnSettings(rollout_steps=5, epochs=3, trace=0.5),
    )
    env = env or dataclasses.replace(NATURE, max_frames=240)
    return TeacherRun("Breakout", str(root), env, dataclasses.replace(own, **changes))

"""Stable-Baselines3's DQN at its zoo's Atari settings, timed; run by `bench.teacher` in an environment of its own.

Prints the decisions a second while it learns: one update of 32 transitions every 4 decisions, acting and learning.
"""

from __future__ import annotations

import sys
import time


def main(game: str, decisions: int, warm: int) -> None:
    """Learn from decision `warm` on; the clock starts there."""
    import ale_py
    import gymnasium
    from stable_baselines3 import DQN
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    class Clock(BaseCallback):  # type: ignore[misc]
        """When the first update was over."""

        start = 0.0

        def _on_step(self) -> bool:
            if self.num_timesteps == warm + 4:
                self.start = time.perf_counter()
            return True

    gymnasium.register_envs(ale_py)
    env = VecFrameStack(make_atari_env(f"{game}NoFrameskip-v4", n_envs=1, seed=1), n_stack=4)
    model = DQN(
        "CnnPolicy",
        env,
        buffer_size=10_000,
        learning_rate=1e-4,
        batch_size=32,
        learning_starts=warm,
        target_update_interval=1_000,
        train_freq=4,
        gradient_steps=1,
        exploration_fraction=0.1,
        exploration_final_eps=0.01,
        seed=1,
    )
    clock = Clock()
    model.learn(warm + 4 + decisions, callback=clock)
    print(decisions / (time.perf_counter() - clock.start))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

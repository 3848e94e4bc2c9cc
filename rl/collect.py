"""make rollouts: the teacher plays, and a replay dataset keeps what it saw, did and thought.

`rollouts.player=random` records random play with the teacher's values, where there is a teacher. The players of the
other rooms are recorded by `python -m deploy.collect`, in the same way and with the same settings.
"""

from __future__ import annotations

from dataclasses import replace

import hydra
from omegaconf import DictConfig, OmegaConf

from rl.checkpoint import load_policy
from rl.command import launch, run, settings
from rl.games import action_meanings
from rl.playing import Cast, best
from rl.recorder import RolloutRun, cast_of, record_and_report, teacher_cast
from rl.settings import need
from rl.stages import TEACHER, find

PLAYERS = ("teacher", "random")


def command(config: RolloutRun) -> int:
    own = config.rollouts
    need(
        own.player in PLAYERS, "rollouts.player", own.player, f"{', '.join(PLAYERS)}; python -m deploy.collect has more"
    )
    if own.player == "teacher":
        return record_and_report(config, _teacher(config))
    uniform = replace(config, rollouts=replace(own, epsilon=1.0))
    return record_and_report(uniform, cast_of(uniform, {"name": "random"}, lambda n: best))


def _teacher(config: RolloutRun) -> Cast:
    policy = load_policy(find(TEACHER, config.name, config.root))
    policy.require(config.name, action_meanings(config.name, config.env), "rollouts")
    return teacher_cast(policy)


@hydra.main(version_base=None, config_path="../conf", config_name="rollouts")
def main(tree: DictConfig) -> None:
    """Record, or go on recording."""
    run(lambda: command(settings(RolloutRun, OmegaConf.to_container(tree, resolve=True))))  # type: ignore[arg-type]


if __name__ == "__main__":
    launch(main)

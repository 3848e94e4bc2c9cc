"""make rollouts PLAYER=chip: a student or its chip plays, and a dataset keeps its play with the teacher's values.

The same recording, settings and files as rl.collect has for the teacher; the dataset lies beside the teacher's, in a
folder named after the player, and its manifest says which models played.
"""

from __future__ import annotations

from collections.abc import Callable

import hydra
import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from deploy.batch import BatchRunner
from deploy.players import action_ids, load_chip, make_player
from deploy.reports import model_digests
from deploy.spec import load_spec
from rl.command import launch, run, settings
from rl.frames import Frames, pixels
from rl.games import action_meanings
from rl.loop import Player
from rl.playing import Act
from rl.recorder import RolloutRun, cast_of, record_and_report
from rl.settings import need
from rl.stages import STUDENT, find

PLAYERS = ("chip", "spec", "student")


class OneByOne:
    """A player of its own for each game of a group: for a chip that remembers the pictures before."""

    def __init__(self, make: Callable[[], Player], n: int) -> None:
        self._players = [make() for _ in range(n)]

    def __call__(self, stacks: Frames, first: NDArray[np.bool_], q: NDArray[np.float32]) -> NDArray[np.int64]:
        for e in np.flatnonzero(first):
            self._players[e].reset()
        acting = zip(self._players, pixels(stacks), strict=True)
        return np.array([player.act(obs) for player, obs in acting], np.int64)


def act_of(config: RolloutRun) -> Callable[[int], Act]:
    """The player's actions for a group of so many games: in one batch wherever that is the same play."""
    name, player, actions = config.name, config.rollouts.player, action_meanings(config.name, config.env)
    if player != "chip":
        spec, _ = load_spec(find(STUDENT, name, config.root))
        ids = action_ids(spec.head(name).actions, actions, f"{player} of {name}")
        return lambda n: lambda stacks, first, q: ids[spec.act(pixels(stacks), name)]
    spec, compiled = load_chip(name, config.root)
    head = spec.head(name)
    ids = action_ids(head.actions, actions, f"{player} of {name}")
    if compiled.history > 1:
        make = make_player
        return lambda n: OneByOne(lambda: make(player, name, actions, config.root, config.rollouts.seed, frozenset), n)
    runner = BatchRunner(compiled, threads=1)  # the games have the other processors

    def act(stacks: Frames, first: NDArray[np.bool_], q: NDArray[np.float32]) -> NDArray[np.int64]:
        votes = runner.answers(spec.transduce(pixels(stacks)))
        return np.asarray(ids[votes[:, head.start : head.stop].argmax(axis=1)])

    return lambda n: act


def command(config: RolloutRun) -> int:
    player = config.rollouts.player
    need(
        player in PLAYERS, "rollouts.player", player, f"{', '.join(PLAYERS)}; python -m rl.collect has teacher, random"
    )
    act = act_of(config)
    models = model_digests(config.name, config.root, [player])
    return record_and_report(config, cast_of(config, {"name": player, "models": models}, act))


@hydra.main(version_base=None, config_path="../conf", config_name="rollouts")
def main(tree: DictConfig) -> None:
    """Record, or go on recording."""
    run(lambda: command(settings(RolloutRun, OmegaConf.to_container(tree, resolve=True))))  # type: ignore[arg-type]


if __name__ == "__main__":
    launch(main)

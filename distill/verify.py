"""make verify, first half: the student as trained against its integers, level by level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from deploy.spec import StudentSpec, load_spec
from distill.export import Folded, export
from distill.latent import load_latent
from distill.student import Student
from rl.command import launch, run, settings
from rl.frames import stack_blocks
from rl.games import EnvSettings, ScalarGame
from rl.loop import Epsilon, seen
from rl.rollouts import Rollouts
from rl.settings import SettingsError, need
from rl.stages import STUDENT, find, label

BATCH = 100


@dataclass(frozen=True)
class VerifySettings:
    """How much is compared."""

    decisions: int
    plain_decisions: int  # of the second half of `make verify`
    seed: int

    def __post_init__(self) -> None:
        need(self.decisions >= 1, "verify.decisions", self.decisions, "1 or more")
        allowed = f"1 to {self.decisions}, verify.decisions"
        need(1 <= self.plain_decisions <= self.decisions, "verify.plain_decisions", self.plain_decisions, allowed)


@dataclass(frozen=True)
class VerifyRun:
    """The command's settings."""

    games: tuple[str, ...]
    root: str
    env: EnvSettings
    verify: VerifySettings

    def __post_init__(self) -> None:
        need(len(self.games) >= 1, "games", self.games, "one or more")


class IntegersPlayer:
    """Plays a student's integers as they are defined."""

    def __init__(self, spec: StudentSpec, game: str) -> None:
        self._spec, self._game = spec, game

    def reset(self) -> None:
        pass

    def act(self, obs: NDArray[np.uint8]) -> int:
        return int(self._spec.act(obs[None], self._game)[0])


def recorded(config: VerifyRun, game: str, spec: StudentSpec) -> Iterator[NDArray[np.uint8]]:
    """Picture stacks, batches of [B, 4, 84, 84], from the game's dataset, else played here and now by the student."""
    own, folder = config.verify, Path(config.root) / game / "rollouts"
    starts = range(0, own.decisions, BATCH)
    if (folder / "manifest.json").exists():
        rollouts, rng = Rollouts.open(folder), np.random.default_rng(own.seed)
        yield from (rollouts.sample(rng, BATCH).obs for _ in starts)
        return
    print(f"pictures: no dataset in {folder}, the student plays {own.decisions} decisions of {game}")
    one = ScalarGame(game, config.env, own.seed)
    player = Epsilon(IntegersPlayer(spec, game), 0.05, len(one.actions), own.seed)
    obs, _ = seen(one, player, own.decisions)
    yield from (obs[start : start + BATCH] for start in starts)


@torch.no_grad()
def compare(student: Student, spec: StudentSpec, obs: NDArray[np.uint8]) -> tuple[str | None, int]:
    """(first difference of the folded student on torch, decisions whose unfolded votes differ) on [B, 4, 84, 84]."""
    bits = spec.transduce(obs)
    expected = [bits, *spec.trace(bits)]
    found = Folded(spec).levels(torch.from_numpy(obs))
    names = ["front", *(layer.name for layer in spec.layers)]
    for name, ours, theirs in zip(names, expected, found, strict=True):
        wrong = np.argwhere(ours != theirs.numpy().astype(bool))
        if len(wrong):
            picture, channel, y, x = (int(i) for i in wrong[0])
            return f"{name}, picture {picture}, channel {channel}, y {y}, x {x}: student and spec differ", 0
    votes = student.votes(torch.from_numpy(stack_blocks(obs))).numpy()
    return None, int((votes != spec.run(bits)).any(axis=1).sum())


def command(config: VerifyRun) -> int:
    name = label(config.games)
    path = find(STUDENT, name, config.root)
    latent = path.with_name("latent.safetensors")
    spec, _ = load_spec(path)
    if not latent.exists():
        print(f"student: only its integers are here ({path}); they are the student, the cores are compared with them")
        return 0
    student, digest, _ = load_latent(latent)
    if not digest == spec.digest == export(student).digest:
        raise SettingsError(f"{latent}: folds to another spec than {path}; run make distill again")
    total, unfolded = 0, 0
    for game in config.games:
        for obs in recorded(config, game, spec):
            different, apart = compare(student, spec, obs)
            if different:
                print(f"not equal: {different}")
                return 1
            total, unfolded = total + len(obs), unfolded + apart
    print(
        f"{name}: folded student = spec on {total:,} decisions, every level, spike for spike; the student with its "
        f"floating-point norm votes otherwise on {unfolded}"
    )
    return 0


@hydra.main(version_base=None, config_path="../conf", config_name="verify")
def main(tree: DictConfig) -> None:
    """Compare."""
    plain: Any = OmegaConf.to_container(tree, resolve=True)
    run(lambda: command(settings(VerifyRun, plain)))


if __name__ == "__main__":
    launch(main)

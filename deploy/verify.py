"""make verify: the chip's cores against the student's integers, every spike of every layer and every vote."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import hydra
import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from deploy.activity import record_held
from deploy.chip import chip_named
from deploy.compiled import Compiled
from deploy.emulator import Emulator
from deploy.energy import Energy, estimate
from deploy.engine import LazyEngine
from deploy.players import SpecPlayer, load_chip
from deploy.spec import StudentSpec
from deploy.verification import Difference, Verifier
from rl.board import Ticker
from rl.command import launch, run, settings
from rl.files import write_json
from rl.games import EnvSettings, ScalarGame
from rl.loop import Epsilon, seen
from rl.manifest import versions
from rl.rollouts import Rollouts
from rl.settings import need
from rl.shards import FIRST
from rl.stages import label

BATCH = 50
ENERGY_PICTURES = 50


@dataclass(frozen=True)
class VerifySettings:
    """How much is compared."""

    decisions: int
    plain_decisions: int  # of them, on the plain emulator too: it is the definition, and slow
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


def recorded(config: VerifyRun, game: str, spec: StudentSpec) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Picture stacks [D, 4, 84, 84] from the game's dataset, else played here and now by the student; and which of
    them follow no other [D]. A chip with a history is shown whole episodes in order, else decisions are drawn.
    """
    own, folder = config.verify, Path(config.root) / game / "rollouts"
    if (folder / "manifest.json").exists():
        print(f"pictures: {folder}")
        rollouts, rng = Rollouts.open(folder), np.random.default_rng(own.seed)
        if spec.history == 1:
            return rollouts.sample(rng, own.decisions).obs, np.ones(own.decisions, bool)
        rows = in_order(rollouts, rng, own.decisions)
        return rollouts.stacks(rows), rollouts.flags[rows] & FIRST != 0
    print(f"pictures: no dataset in {folder}, the student plays {own.decisions} decisions of {game}")
    one = ScalarGame(game, config.env, own.seed)
    player = Epsilon(SpecPlayer(spec, game), 0.05, len(one.actions), own.seed)
    return seen(one, player, own.decisions)


def in_order(rollouts: Rollouts, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Rows of so many decisions, at most all: episodes drawn without replacement, each from its first decision on."""
    rows, left = [], count
    for episode in rng.permutation(len(rollouts.episodes)):
        rows.append(rollouts.rows_of(np.array([episode]))[:left])
        left -= len(rows[-1])
        if left == 0:
            break
    return np.concatenate(rows)


def differences(
    config: VerifyRun, spec: StudentSpec, compiled: Compiled, obs: NDArray[np.uint8], begins: NDArray[np.bool_]
) -> Iterator[Difference]:
    """Differences found, batch by batch; the lazy engine on all pictures, the plain one on the first few."""
    ticker, few = Ticker(len(obs)), config.verify.plain_decisions
    chip, plain = Verifier(spec, compiled), Verifier(spec, compiled, Emulator)
    for start in range(0, len(obs), BATCH):
        bits, alone = spec.transduce(obs[start : start + BATCH]), begins[start : start + BATCH]
        found, left = chip.first_difference(bits, alone), few - start
        if found is None and left > 0:
            found = plain.first_difference(bits[:left], alone[:left])
        if found:
            yield replace(found, picture=start + found.picture)
        ticker.show(min(start + BATCH, len(obs)), "spec = cores so far")


def energy(compiled: Compiled, bits: NDArray[np.bool_]) -> Energy:
    """What these pictures' bits, as they enter a chip in order, cost there: an estimate at 1 V."""
    lines = bits.reshape(-1, compiled.graph.n_inputs)
    activity = record_held(LazyEngine(compiled.graph), lines, compiled.picture_ticks)
    chip, stages = chip_named(compiled.usage.chip), compiled.usage.stages
    return estimate(compiled.graph, chip, compiled.place, stages, compiled.latency_ticks, activity)


def command(config: VerifyRun) -> int:
    name = label(config.games)
    spec, compiled = load_chip(name, config.root)
    proof = Path(config.root) / name / "chip" / "verify.json"
    proof.unlink(missing_ok=True)  # what fails now leaves no success of earlier
    start, compared, plain, costs = time.monotonic(), 0, 0, []
    for game in config.games:
        obs, begins = recorded(config, game, spec)
        for different in differences(config, spec, compiled, obs, begins):
            print(f"not equal: {different}")
            return 1
        compared, plain = compared + len(obs), plain + min(len(obs), config.verify.plain_decisions)
        costs.append(energy(compiled, spec.newest(obs[:ENERGY_PICTURES])))
    neurons = int((compiled.probe_core >= 0).sum())
    facts = {
        "what": "verify",
        "games": list(config.games),
        "decisions": compared,
        "plain_decisions": plain,
        "neurons": neurons,
        "spec": spec.digest,
        "graph": compiled.digest,
        "energy": {game: cost.as_dict for game, cost in zip(config.games, costs, strict=True)},
        "wall_s": time.monotonic() - start,
        "settings": asdict(config),
        "versions": versions(),
    }
    write_json(proof, facts)
    print(
        f"{name}: spec = cores on {compared:,} decisions, {neurons:,} neurons and every vote, spike for spike "
        f"({plain:,} decisions on the plain emulator too)"
    )
    for game, cost in zip(config.games, costs, strict=True):
        whole = cost.whole
        print(
            f"{game}: some {1e3 * whole.static_w:.1f} mW static and {1e3 * whole.active_a_w:.1f} mW active at "
            f"{cost.voltage} V and {cost.ticks_a_second:,.0f} ticks/s (estimate; `make inspect` for more)"
        )
    return 0


@hydra.main(version_base=None, config_path="../conf", config_name="verify")
def main(tree: DictConfig) -> None:
    """Compare."""
    run(lambda: command(settings(VerifyRun, OmegaConf.to_container(tree, resolve=True))))  # type: ignore[arg-type]


if __name__ == "__main__":
    launch(main)

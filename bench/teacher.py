"""How fast the teacher learns: as it is set, and at the settings of Stable-Baselines3's DQN beside that very program.

Decisions a second while acting and learning, turn by turn with the peer, beside the matrix products that this machine
can do at most. The peer gets an environment of its own, which shares our torch, so that both compute with the same.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from bench.emulator import summary
from bench.limits import processors
from bench.report import FOLDER, write_report
from rl.command import CONF, settings
from rl.frames import CELLS, CHANNELS
from rl.network import NetworkSettings
from rl.trainer import SHARES, TeacherRun, Trainer

PEER = "stable-baselines3==2.9.2"
NATURE = NetworkSettings(channels=(32, 64, 64), hidden=512)
PASSES = 5  # forward passes that a sample costs: one with a gradient is three, and both nets value its next state
AS_PEER, PEER, LIMIT = "at the settings of SB3", "SB3 DQN", "limit: bf16 products"
SIDE = 2048  # of the matrices whose product says what the machine can do


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    runs: int = 3
    decisions: int = 4_000  # timed in each run
    peer: bool = True


def run_of(game: str, *more: str) -> TeacherRun:
    """A game's teacher as it is set, or as `more` says, learning at once."""
    with initialize_config_dir(str(CONF), version_base=None):
        tree = OmegaConf.to_container(compose("teacher", [f"game={game}", f"name={game}", *more]), resolve=True)
    run: TeacherRun = settings(TeacherRun, tree)  # type: ignore[arg-type]
    return replace(run, teacher=replace(run.teacher, replay_rows=32_768, learn_start_frames=2_000))


def as_the_peer(run: TeacherRun) -> TeacherRun:
    """One update of 32 every 4 decisions, drawn evenly, of mean values, the network of Mnih et al. 2015."""
    agent = replace(run.teacher.agent, batch=32, n_steps=1, prioritised=False, quantiles=1, dueling=False, advantage=0)
    own = replace(run.teacher, envs=4, updates_per_step=1, network=NATURE, agent=agent)
    return replace(run, teacher=own)


def multiply_adds(network: NetworkSettings) -> int:
    """Of one forward pass, the last layer left out."""
    one, two, three = network.channels
    convs = (CELLS - 1) ** 2 * one * CHANNELS * 4 + 81 * two * one * 16 + 49 * three * two * 9
    return convs + 49 * three * network.hidden


def ours(run: TeacherRun, decisions: int) -> tuple[float, dict[str, float]]:
    """(decisions a second while learning, shares of the time)."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(run, Path(folder))
        try:
            while not trainer.step():  # until there is enough to learn from
                pass
            trainer.throughput()
            start, steps = time.perf_counter(), max(1, decisions // run.teacher.envs)
            for _ in range(steps):
                trainer.step()
            return steps * run.teacher.envs / (time.perf_counter() - start), trainer.throughput()
        finally:
            trainer.close()


def peer_python(folder: Path) -> Path:
    """The interpreter of an environment with the peer in it, made where there is none."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        where = [str(python), "-c", "import site; print(site.getsitepackages()[0])"]
        site = subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip()
        Path(site, "ours.pth").write_text(sysconfig.get_path("purelib"))
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", PEER], check=True)
    return python


def peer(python: Path, game: str, decisions: int) -> float:
    """Decisions a second of the peer while it learns."""
    script = Path(__file__).with_name("sb3_dqn.py")
    line = [str(python), str(script), game, str(decisions), "200"]
    return float(subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()[-1])


def products(dtype: torch.dtype, threads: int, repeats: int = 5) -> float:
    """10^9 multiply-adds a second in products of square matrices, one a thread."""
    sides = [torch.randn(SIDE, SIDE).to(dtype) for _ in range(threads)]

    def work(matrix: torch.Tensor) -> None:
        torch.set_num_threads(1)
        for _ in range(repeats):
            matrix @ matrix

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, sides))
        start = time.perf_counter()
        list(pool.map(work, sides))
        return threads * repeats * SIDE**3 / (time.perf_counter() - start) / 1e9


def measure(game: str, effort: Effort, folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Every row by turns, so that what else runs on the machine meets all alike; what else the report says."""
    run, threads = run_of(game), processors()
    equal, without_replay, shares = as_the_peer(run), run_of(game, "algo=pqn"), list[dict[str, float]]()

    def default() -> float:
        speed, spent = ours(run, effort.decisions)
        shares.append(spent)
        return speed

    turns: dict[tuple[str, str], Callable[[], float]] = {
        (f"{game} as it is set", "decisions/s"): default,
        (AS_PEER, "decisions/s"): lambda: ours(equal, effort.decisions)[0],
        ("algo=pqn", "decisions/s"): lambda: ours(without_replay, effort.decisions)[0],
        (LIMIT, "10^9 MAC/s"): partial(products, torch.bfloat16, threads),
    }
    if effort.peer:
        python = peer_python(folder / "sb3")
        turns[PEER, "decisions/s"] = lambda: peer(python, game, effort.decisions // 4)
    values: dict[tuple[str, str], list[float]] = {key: [] for key in turns}
    for _ in range(effort.runs):
        for key, turn in turns.items():
            values[key].append(turn())
    rows = [summary(*key, seen) for key, seen in values.items()]
    mean = {f"time/{name}_share": sum(s[f"time/{name}_share"] for s in shares) / len(shares) for name in SHARES}
    return rows, {"shares": mean, **ratios(run, rows)}


def ratios(run: TeacherRun, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What the medians say of each other."""
    medians, own = {row["what"]: row["median"] for row in rows}, run.teacher
    speed, equal, limit = rows[0]["median"], medians[AS_PEER], medians[LIMIT]
    samples = speed * own.updates_per_step * own.agent.batch / own.envs
    found = {
        "samples_a_second": samples,
        "share_of_limit": samples * PASSES * multiply_adds(own.network) / 1e9 / limit,
    }
    return found | ({"times_the_peer": equal / medians[PEER]} if PEER in medians else {})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--game", default="Pong")
    parser.add_argument("--runs", type=int, default=Effort.runs)
    parser.add_argument("--decisions", type=int, default=Effort.decisions)
    parser.add_argument("--no-peer", dest="peer", action="store_false")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    own = parser.parse_args(arguments)
    rows, extra = measure(own.game, Effort(own.runs, own.decisions, own.peer), own.folder / "peers")
    path = write_report("teacher", rows, extra, own.folder)
    table = Table("what", "median", "low", "high", "unit", title=f"teacher of {own.game}, {os.cpu_count()} processors")
    for row in rows:
        table.add_row(row["what"], *(f"{row[key]:,.0f}" for key in ("median", "low", "high")), row["unit"])
    for name, value in {**extra.pop("shares"), **extra}.items():
        table.add_row(name, f"{value:,.3f}", "", "", "")
    Console().print(table, f"written to {path}")


if __name__ == "__main__":
    main()

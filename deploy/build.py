"""make compile: a student's integers -> a placed core graph that equals them."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from deploy.chip import chip_named
from deploy.compiled import save_compiled
from deploy.compiler import compile_spec
from deploy.reduce import reductions
from deploy.spec import load_spec
from deploy.usage import usage_text
from rl.command import launch, run, settings
from rl.files import write_json
from rl.manifest import versions
from rl.settings import need
from rl.stages import CHIP, STUDENT, find, label


@dataclass(frozen=True)
class ChipSettings:
    """What the compiler may choose."""

    board: str
    seed: int
    host_copies: int
    reduce: tuple[str, ...]
    interval: int  # ticks
    broken_routers: tuple[tuple[int, ...], ...]  # (x, y) on the board
    splitters: bool  # between layers

    def __post_init__(self) -> None:
        need(self.interval >= 1, "chip.interval", self.interval, "1 or more ticks")
        pairs = all(len(cell) == 2 for cell in self.broken_routers)
        need(pairs, "chip.broken_routers", self.broken_routers, "pairs [x, y]")
        need(self.host_copies >= 1, "chip.host_copies", self.host_copies, "1 or more")


@dataclass(frozen=True)
class BuildRun:
    """The command's settings."""

    games: tuple[str, ...]
    root: str
    chip: ChipSettings

    def __post_init__(self) -> None:
        need(len(self.games) >= 1, "games", self.games, "one or more")


def command(config: BuildRun) -> int:
    name = label(config.games)
    spec, origin = load_spec(find(STUDENT, name, config.root))
    start = time.monotonic()
    own = config.chip
    broken = [(x, y) for x, y in own.broken_routers]
    chip = chip_named(own.board)
    compiled = compile_spec(spec, chip, own.seed, own.host_copies, own.reduce, own.interval, broken, own.splitters)
    wall_s = time.monotonic() - start
    path = Path(config.root) / name / CHIP
    save_compiled(compiled, path, {"student": origin})
    text = usage_text(compiled.usage)
    facts = {
        "what": "chip",
        "games": list(config.games),
        "spec": spec.digest,
        "graph": compiled.digest,
        "usage": asdict(compiled.usage),
        "latency_ticks": compiled.latency_ticks,
        "history": compiled.history,
        "interval_ticks": compiled.interval,
        "mean_hops": list(compiled.mean_hops),
        "file_bytes": path.stat().st_size,
        "wall_s": wall_s,
        "settings": asdict(config),
        "versions": versions(),
    }
    write_json(path.parent / "report.json", facts)
    print(text)
    print(f"{path}: {path.stat().st_size:,} bytes, compiled in {wall_s:.1f} s")
    return 0


def spelled_out(tree: dict[str, Any]) -> dict[str, Any]:
    """`chip.reduce: true` as the list of all reductions, false as an empty one."""
    chip = tree["chip"]
    if isinstance(chip.get("reduce"), bool):
        chip["reduce"] = list(reductions(chip["reduce"]))
    return tree


@hydra.main(version_base=None, config_path="../conf", config_name="build")
def main(tree: DictConfig) -> None:
    """Compile a student."""
    values: Any = OmegaConf.to_container(tree, resolve=True)
    run(lambda: command(settings(BuildRun, spelled_out(values))))


if __name__ == "__main__":
    launch(main)

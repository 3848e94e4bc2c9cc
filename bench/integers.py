"""One game in four precisions: the float teacher, its integers of 8 and 4 bits, the trinary student and its chip.

Scores come from `make score`'s reports under the root, else from the shipped cards; sizes and products from the models
themselves; decisions a second are measured here: of one thread's processor time, one decision at a time as in play.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from bench.report import FOLDER, write_report
from deploy.compiled import load_compiled
from deploy.gather import joules
from deploy.players import load_own, make_player
from deploy.spec import StudentSpec, load_spec
from rl.checkpoint import PolicyCheckpoint, load_policy
from rl.files import read_json
from rl.games import EnvSettings, ScalarGame, action_meanings
from rl.loop import Player, RandomPlayer, moments
from rl.network import QNetwork
from rl.settings import SettingsError
from rl.stages import CHIP, INT4, INT8, MODELS, STUDENT, TEACHER, find, shipped_card

ENV = EnvSettings(4, 0.0, 30, False, 108_000)
PLAYERS = {
    "teacher": "float teacher",
    "int8": "8-bit",
    "int4": "4-bit",
    "spec": "trinary, its integers",
    "chip": "trinary, chip",
}
WARM = 20  # decisions before the clock


def float_size(policy: PolicyCheckpoint) -> tuple[int, int]:
    """(bytes in float32, multiply-adds of a decision) of a teacher; norms left out, as of integers."""
    network = policy.build()
    products = list[int]()

    def count(layer: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        products.append(output[0].numel() * weight[0].numel())

    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 21, 21, 64, dtype=torch.uint8))
    return _parameters(network), sum(products)


def _parameters(network: QNetwork) -> int:
    return sum(value.numel() * value.element_size() for value in network.parameters())


def trinary_size(spec: StudentSpec) -> tuple[int, int, int]:
    """(bytes, multiply-adds of the front, additions of the layers): two bits a trinary weight, arrays for the rest."""
    products = [math.prod(conv.out_shape) * conv.fan_in for conv in (spec.front, *spec.layers)]
    packed = math.ceil(sum(layer.weights.size for layer in spec.layers) / 4)
    rest = spec.vote.nbytes + sum(conv.leak.nbytes for conv in (spec.front, *spec.layers))
    return packed + spec.front.weights.nbytes + rest, products[0], sum(products[1:])


def size_of(player: str, game: str, root: str) -> dict[str, int]:
    """Bytes and work of a decision; raises SettingsError where its model is missing."""
    if player == "teacher":
        size, products = float_size(load_policy(find(TEACHER, game, root)))
        return {"bytes": size, "multiply_adds": products, "additions": 0}
    if player in ("int8", "int4"):
        spec = load_own(INT8 if player == "int8" else INT4, game, root)
        return {"bytes": spec.parameter_bytes, "multiply_adds": spec.multiply_adds, "additions": 0}
    size, products, additions = trinary_size(load_spec(find(STUDENT, game, root))[0])
    return {"bytes": size, "multiply_adds": products, "additions": additions}


def scores_of(game: str, root: str, protocol: str, models: Path = MODELS) -> dict[str, dict[str, Any]]:
    """Each player's score with where it is from; a run's own before a shipped one."""
    found: dict[str, dict[str, Any]] = {}
    for path in (models / game / "card.json", Path(root) / game / "score" / protocol / "report.json"):
        if not path.exists():
            continue
        facts = read_json(path)
        if facts["protocol"]["name"] == protocol:
            found |= {player: {**own, "from": str(path)} for player, own in facts["scores"].items()}
    if "student" in found:  # the same function
        found.setdefault("spec", found["student"])
    return found


def energy_of(game: str, root: str, models: Path = MODELS) -> float | None:
    """J a decision of a chip that runs all the time, as a card estimates it; None where none tells of this chip."""
    told = shipped_card(game, models).get("chip", {})
    if "energy" not in told:
        return None
    compiled, _ = load_compiled(find(CHIP, game, root))
    return joules(told["energy"]) if told["graph"] == compiled.digest else None


def seen(game: str, count: int) -> NDArray[np.uint8]:
    """Picture stacks [count, 4, 84, 84] of random play."""
    own = ScalarGame(game, ENV, 1)
    play = moments(own, RandomPlayer(len(own.actions), 1))
    return np.stack([moment.obs for moment, _ in zip(play, range(count), strict=False)])


def speed(player: Player, obs: NDArray[np.uint8]) -> float:
    """Decisions a second of processor time; the first few are not counted."""
    player.reset()
    for one in obs[:WARM]:
        player.act(one)
    start = time.process_time()
    for one in obs[WARM:]:
        player.act(one)
    return (len(obs) - WARM) / (time.process_time() - start)


def rows_of(game: str, root: str, protocol: str, obs: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """A row a player whose model is there."""
    scores, rows = scores_of(game, root, protocol), []
    for player, what in PLAYERS.items():
        try:
            with redirect_stdout(StringIO()):
                size = size_of(player, game, root)
                made = make_player(player, game, action_meanings(game, ENV), root, 1, frozenset)
                energy = energy_of(game, root) if player == "chip" else None
        except SettingsError as missing:
            print(f"{game}: no {player} ({missing})")
            continue
        score = scores.get(player, {})
        told = {name: score.get(name) for name in ("mean", "low", "high", "of_teacher", "from")}
        told["episodes"] = len(score.get("returns", ()))
        row = {"game": game, "player": player, "what": what, **told, **size}
        rows.append(row | {"joules": energy, "decisions_per_s": speed(made, obs)})
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as Markdown."""
    heads = (
        "game",
        "network",
        "score",
        "of teacher",
        "episodes",
        "bytes",
        "multiply-adds",
        "mJ a decision",
        "decisions/s",
    )
    lines = [heads, ("---",) * len(heads)]
    for row in rows:
        work = f"{row['multiply_adds'] / 1e6:.2f} M" + (
            f" + {row['additions'] / 1e6:.2f} M adds" if row["additions"] else ""
        )
        score = "not scored" if row["mean"] is None else f"{row['mean']:.2f} ({row['low']:.2f} .. {row['high']:.2f})"
        share = "-" if row["of_teacher"] is None else f"{row['of_teacher']:.3f}"
        energy = "unknown" if row["joules"] is None else f"{1000 * row['joules']:.2f}"
        cells = (row["game"], row["what"], score, share, str(row["episodes"] or "-"), f"{row['bytes']:,}", work, energy)
        lines.append((*cells, f"{row['decisions_per_s']:,.0f}"))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--games", default="Pong", help="names with commas between them")
    parser.add_argument("--root", default="runs")
    parser.add_argument("--protocol", default="nature", help="of the scores")
    parser.add_argument("--decisions", type=int, default=300, help="that speed is measured on")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    own = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = list[dict[str, Any]]()
    for game in own.games.split(","):
        rows += rows_of(game, own.root, own.protocol, seen(game, WARM + own.decisions))
    path = write_report("integers", rows, {"protocol": own.protocol, "decisions": own.decisions}, own.folder)
    Console().print(table(rows), f"\nwritten to {path}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()

"""make board: what is on disk as one TensorBoard, all players of a game under the same tags, before it is opened."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from deploy.figures import figures, pixels
from deploy.films import clip_pictures, with_films
from deploy.gather import Game, gather
from rl.board import Board, Charts
from rl.command import launch, run, settings
from rl.files import write_json
from rl.manifest import versions
from rl.stages import MODELS

WHOLE = 100  # x of a training's end, in per cent
CLIP_S, PICTURES_A_SECOND = 4.0, 10
Point = tuple[int, Mapping[str, float]]


@dataclass(frozen=True)
class BoardSettings:
    """What is shown."""

    protocol: str  # of the scores


@dataclass(frozen=True)
class BoardRun:
    """The command's settings."""

    root: str
    board: BoardSettings


def layout(games: Sequence[Game]) -> Charts:
    """A chart a game with the scores of all players over their training, and intervals."""
    return {
        "score over training, in per cent": {g.name: ["Multiline", [f"{g.name}/score"]] for g in games},
        "score with its 95 % interval": {
            g.name: ["Margin", [f"{g.name}/score", f"{g.name}/low", f"{g.name}/high"]] for g in games
        },
    }


def points(game: Game, player: str) -> Iterator[Point]:
    """(per cent of the training, score with its interval) of a player; who does not learn has one score all along."""
    learning, result = game.learning.get(player), game.results.get(player)
    if learning is not None and learning.at:
        rows = zip(learning.at, learning.mean, learning.low, learning.high, strict=True)
        for at, *values in rows:
            yield round(WHOLE * at / learning.at[-1]), _tagged(game, *values)
    if result is not None:
        final = _tagged(game, result.mean, result.low, result.high)
        if learning is None:
            yield 0, final
        yield WHOLE + 1, final  # after its last evaluation


def _tagged(game: Game, mean: float, low: float, high: float) -> dict[str, float]:
    return {f"{game.name}/score": mean, f"{game.name}/low": low, f"{game.name}/high": high}


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str | float]]:
    """Settings as one level: groups by dotted name, lists as words."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{name}.")
        elif isinstance(value, bool | int | float | str):
            yield f"{before}{name}", value
        else:
            yield f"{before}{name}", str(value)


def write_player(folder: Path, player: str, games: Sequence[Game]) -> None:
    """Scores, hyper-parameters with what came of them, and clips of one player in all games."""
    with Board(folder / player) as board:
        for game in games:
            for at, values in points(game, player):
                board.write(at, values)
            if player in game.results:
                board.trial(game.name, *_trial(game, player))
            if player in game.clips:
                clip = clip_pictures(game.clips[player], CLIP_S, PICTURES_A_SECOND)
                board.clip(0, f"{game.name}/play", clip, 1 / PICTURES_A_SECOND)


def _trial(game: Game, player: str) -> tuple[dict[str, str | float], dict[str, float]]:
    own = game.results[player]
    found = {"final/score": own.mean, "final/of_teacher": own.share, "final/human_normalised": own.human}
    values = {"game": game.name, "player": player, **dict(flat(game.settings.get(player, {})))}
    return values, {name: value for name, value in found.items() if value is not None}


def write_board(folder: Path, games: Sequence[Game]) -> list[str]:
    """All of it, in place of what an earlier run left; returns the players."""
    shutil.rmtree(folder, ignore_errors=True)
    players = list(dict.fromkeys(player for game in games for player in [*game.results, *game.learning]))
    for player in players:
        write_player(folder, player, games)
    with Board(folder / "figures") as board:
        board.charts(layout(games))
        for title, figure in figures(games).items():
            board.image(0, title, pixels(figure))
    return players


def command(config: BoardRun) -> int:
    root = Path(config.root)
    games = list(with_films(gather(root, MODELS, config.board.protocol), config.root, root / "report" / "clips"))
    folder = root / "board"
    players = write_board(folder, games)
    facts = {"what": "board", "games": [game.name for game in games], "players": players}
    write_json(folder / "report.json", facts | {"settings": asdict(config), "versions": versions()})
    print(f"{folder}: {', '.join(players)} in {', '.join(game.name for game in games)}")
    return 0


@hydra.main(version_base=None, config_path="../conf", config_name="board")
def main(tree: DictConfig) -> None:
    """Write the board."""
    run(lambda: command(settings(BoardRun, OmegaConf.to_container(tree, resolve=True))))  # type: ignore[arg-type]


if __name__ == "__main__":
    launch(main)

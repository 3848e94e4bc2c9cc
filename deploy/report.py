"""make report: all scores, costs and curves on disk as one HTML page; the README's table and figure from the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from deploy.cards import results, with_results
from deploy.figures import bars, figures, png
from deploy.gather import Game, gather
from deploy.pacer import Pacer, VirtualClock
from deploy.realtime import RealtimeSettings
from deploy.replay import load_replay
from deploy.replaying import play_again
from deploy.report_page import page
from deploy.video import VideoScreen
from rl.board import Ticker
from rl.command import launch, run, settings
from rl.files import write_json, write_whole
from rl.manifest import versions
from rl.stages import MODELS

SCORES = Path("docs") / "scores.png"
FILM_S = 12.0


@dataclass(frozen=True)
class ReportSettings:
    """What is reported."""

    protocol: str  # of the scores
    readme: bool  # renew the README's table and its figure too


@dataclass(frozen=True)
class ReportRun:
    """The command's settings."""

    root: str
    report: ReportSettings


def with_films(games: list[Game], root: str, folder: Path) -> Iterator[Game]:
    """Games, those without a clip of their chip with one of the replay that ships: its first seconds."""
    ticker = Ticker(len(games))
    for done, game in enumerate(games):
        ticker.show(done, f"clips: {game.name}")
        if "chip" in game.clips or game.replay is None:
            yield game
        else:
            yield replace(game, clips={**game.clips, "chip": film(game.replay, root, folder / f"{game.name}.mp4")})
    ticker.close()


def film(path: Path, root: str, video: Path) -> Path:
    """An mp4 of a replay's first seconds; one that is newer than the replay is kept."""
    if video.exists() and video.stat().st_mtime > path.stat().st_mtime:
        return video
    clock = VirtualClock()
    pace = RealtimeSettings(FILM_S, 30, 2)
    pacer = Pacer(pace.period_s, clock.now, clock.sleep)
    play_again(load_replay(path), str(path), root, lambda: VideoScreen(video), pacer, pace, lambda: True)
    return video


def renew_readme(models: Path) -> list[Path]:
    """Write the README's table and figure of what ships; returns what was written."""
    readme = models.parent / "README.md"
    write_whole(readme, with_results(readme.read_text(), results(models)).encode())
    figure = bars(gather(models.parent / "no-runs", models))
    assert figure is not None, "a card always has scores"
    write_whole(models.parent / SCORES, png(figure))
    return [readme, models.parent / SCORES]


def command(config: ReportRun) -> int:
    own, folder = config.report, Path(config.root) / "report"
    games = list(with_films(gather(Path(config.root), MODELS, own.protocol), config.root, folder / "clips"))
    text = page(games, figures(games), versions())
    write_whole(folder / "report.html", text.encode())
    facts = {"games": {game.name: _facts(game) for game in games}, "settings": asdict(config), "versions": versions()}
    write_json(folder / "report.json", {"what": "report", **facts})
    renewed = renew_readme(MODELS) if own.readme else []
    print(f"{len(games)} games: {', '.join(game.name for game in games)}")
    print(*(f"written: {path}" for path in (folder / "report.html", *renewed)), sep="\n")
    return 0


def _facts(game: Game) -> dict[str, object]:
    scores = {player: asdict(own) for player, own in game.results.items()}
    return {"source": game.source, "scores": scores, "costs": None if game.costs is None else asdict(game.costs)}


@hydra.main(version_base=None, config_path="../conf", config_name="report")
def main(tree: DictConfig) -> None:
    """Report."""
    run(lambda: command(settings(ReportRun, OmegaConf.to_container(tree, resolve=True))))  # type: ignore[arg-type]


if __name__ == "__main__":
    launch(main)

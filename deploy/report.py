"""make report: all scores, costs and curves on disk as one HTML page; the README's table and figure from the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from deploy.cards import results, with_results
from deploy.figures import bars, figures, png
from deploy.films import with_films
from deploy.gather import Game, gather
from deploy.report_page import page
from rl.command import launch, run, settings
from rl.files import write_json, write_whole
from rl.manifest import versions
from rl.stages import MODELS

SCORES = Path("docs") / "scores.png"


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

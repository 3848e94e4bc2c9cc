"""Figures of what was gathered: learning curves, scores with intervals, games by players, costs against scores."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deploy.gather import PLAYERS, Game, Learning, Result

# Okabe and Ito 2008: told apart by all; the blue lighter, so that it shows on dark paper too.
COLOURS = {"teacher": "#1f87c7", "student": "#d55e00", "int8": "#009e73", "int4": "#cc79a7", "chip": "#e69f00"}
OTHER = "#56b4e9"
INK, DIM, RULE = "#1f2937", "#6b7280", "#e5e7eb"
STYLE: Mapping[str, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.edgecolor": DIM,
    "axes.labelcolor": DIM,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "xtick.color": DIM,
    "ytick.color": DIM,
    "legend.frameon": False,
    "svg.fonttype": "none",  # words stay words
    "svg.hashsalt": "spikecade",  # equal figures are equal text
}
ACROSS = 3  # games side by side
CELL = (3.6, 2.5)  # inches


@contextmanager
def styled() -> Iterator[None]:
    """While entered, what is drawn has our style; nothing outside changes."""
    with matplotlib.rc_context(dict(STYLE)):  # type: ignore[arg-type]  # its keys are a literal type
        yield


def svg(figure: Figure) -> str:
    """A figure as an SVG element without a background; equal figures give equal text."""
    out = io.StringIO()
    with styled():
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def png(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as the bytes of a PNG on white."""
    out = io.BytesIO()
    with styled():
        figure.savefig(out, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return out.getvalue()


def pixels(figure: Figure, dpi: int = 110) -> NDArray[np.uint8]:
    """A figure as an image [H, W, 3] on white."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png(figure, dpi))).convert("RGB"), np.uint8)


def figures(games: Sequence[Game]) -> dict[str, Figure]:
    """All figures that there is something to draw for, by title."""
    made = {
        "Learning curves": learning_curves(games),
        "Scores with 95 % intervals": bars(games),
        "Games by players": heat_map(games),
        "Cores and energy against score": costs(games),
    }
    return {title: figure for title, figure in made.items() if figure is not None}


def _colour(player: str) -> str:
    return COLOURS.get(player, OTHER)


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    """A figure of so many equal panels."""
    across = min(ACROSS, count)
    down = -(-count // across)
    figure = Figure(figsize=(CELL[0] * across, CELL[1] * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel().tolist()
    for spare in axes[count:]:
        spare.set_visible(False)
    return figure, axes[:count]


def learning_curves(games: Sequence[Game]) -> Figure | None:
    """A panel for each game and learner, with the final scores of the others as dashed lines; None without curves."""
    shown = [(game, player, own) for game in games for player, own in game.learning.items()]
    if not shown:
        return None
    with styled():
        figure, axes = _grid(len(shown))
        for axis, (game, player, own) in zip(axes, shown, strict=True):
            _curve(axis, game, player, own)
    return figure


def _curve(axis: Axes, game: Game, player: str, own: Learning) -> None:
    most = max([*own.at, *(at for at, _ in own.meanwhile)])
    scale, unit = (1e6, f"million {own.unit}") if most >= 1e6 else (1e3, f"thousand {own.unit}")
    at, colour = np.asarray(own.at) / scale, _colour(player)
    if own.meanwhile:
        rows = np.asarray(own.meanwhile)
        axis.plot(rows[:, 0] / scale, rows[:, 1], color=colour, linewidth=1, alpha=0.65, label="while training")
    if own.at:
        axis.fill_between(at, own.low, own.high, color=colour, alpha=0.18, linewidth=0)
        axis.plot(at, own.mean, color=colour, linewidth=1.8, marker="o", markersize=3, label="evaluated, 95 %")
    for other, result in game.results.items():
        axis.axhline(result.mean, color=_colour(other), linewidth=1, linestyle="--", label=f"{other}, final")
    axis.set(title=f"{game.name}: {player}", xlabel=unit, ylabel="score")
    axis.legend(fontsize=7, loc="best")


def bars(games: Sequence[Game]) -> Figure | None:
    """A panel a game: a bar for each player, a whisker for its interval; None without scores."""
    shown = [game for game in games if game.results]
    if not shown:
        return None
    with styled():
        figure, axes = _grid(len(shown))
        for axis, game in zip(axes, shown, strict=True):
            _bars(axis, game)
    return figure


def _bars(axis: Axes, game: Game) -> None:
    names, results = list(game.results), list(game.results.values())
    heights = [own.mean for own in results]
    # A percentile interval of few episodes may leave its mean out: a whisker has no negative length.
    errors = [[max(0.0, own.mean - own.low) for own in results], [max(0.0, own.high - own.mean) for own in results]]
    axis.bar(names, heights, yerr=errors, color=[_colour(name) for name in names], width=0.62, capsize=4,
             error_kw={"elinewidth": 1.2, "ecolor": INK})  # fmt: skip
    for index, own in enumerate(results):
        axis.annotate(f"{own.mean:.4g}", (index, own.high), (0, 3), textcoords="offset points", ha="center", fontsize=8)
    axis.margins(y=0.18)
    axis.grid(False, axis="x")
    axis.set(title=game.name, ylabel="mean raw score")


def heat_map(games: Sequence[Game]) -> Figure | None:
    """Human-normalised scores, a row a game and a column a player; None where no game has published references."""
    shown = [game for game in games if any(own.human is not None for own in game.results.values())]
    if not shown:
        return None
    players = [name for name in PLAYERS if any(name in game.results for game in shown)]
    table = np.array([[_human(game.results.get(name)) for name in players] for game in shown])
    with styled():
        figure = Figure(figsize=(1.6 + 1.0 * len(players), 0.9 + 0.42 * len(shown)), layout="constrained")
        axis = figure.subplots()
        # Beyond twice a human nothing more can be told apart by colour, and the number is in the cell.
        axis.imshow(np.clip(table, 0, 2), cmap="viridis", vmin=0, vmax=2, aspect="auto")
        for (row, column), value in np.ndenumerate(table):
            words = "-" if math.isnan(value) else f"{value:.2f}"
            ink = "white" if value < 1.2 else "black"
            axis.text(column, row, words, ha="center", va="center", color=DIM if math.isnan(value) else ink)
        axis.set_xticks(range(len(players)), players)
        axis.set_yticks(range(len(shown)), [game.name for game in shown])
        axis.grid(False)
        axis.tick_params(length=0)
        axis.set_title("human-normalised score (0 random, 1 human)")
    return figure


def _human(own: Result | None) -> float:
    return math.nan if own is None or own.human is None else own.human


def costs(games: Sequence[Game]) -> Figure | None:
    """Each chip's share of its teacher against its cores, and against the energy of a decision; None without chips."""
    shown = [(game, game.costs, game.results["chip"]) for game in games if game.costs and "chip" in game.results]
    if not shown:
        return None
    with_energy = [own for _, own, _ in shown if own.decision_j is not None]
    with styled():
        figure, (left, right) = _grid(2)
        right.set_visible(bool(with_energy))
        for game, own, result in shown:
            share = math.nan if result.share is None else result.share
            _dot(left, own.cores, share, game.name)
            if own.decision_j is not None:
                _dot(right, 1e3 * own.decision_j, share, game.name)
        for axis, across in ((left, "cores used"), (right, "mJ a decision, estimated (static and active)")):
            axis.axhline(1.0, color=_colour("teacher"), linewidth=1, linestyle="--")
            axis.set(xlabel=across, ylabel="share of the teacher's score")
            axis.set_xlim(left=0)
            axis.set_ylim(0, 1.2)
    return figure


def _dot(axis: Axes, x: float, y: float, name: str) -> None:
    axis.plot([x], [y], "o", color=_colour("chip"), markersize=7)
    axis.annotate(name, (x, y), (7, 5), textcoords="offset points", fontsize=8)

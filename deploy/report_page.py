"""What was gathered as one HTML page: no network, no script; tables, figures and moving pictures inside the file."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from deploy.figures import DIM, INK, RULE, svg
from deploy.films import small_clip
from deploy.gather import Game, Result
from rl.scores import points

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1f2937; --dim: #6b7280; --rule: #e5e7eb; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171d; --ink: #e2e5ec; --dim: #9aa3b5; --rule: #2c313c; --link: #7db4ff; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; background: var(--paper); color: var(--ink);
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; font-size: 1.2rem; } h3 { margin: 1.5rem 0 .5rem; font-size: 1rem; }
p.note { color: var(--dim); max-width: 60rem; } a { color: var(--link); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--rule); text-align: right; }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--dim); font-weight: 600; } td small { color: var(--dim); }
figure { margin: 0; } figcaption { color: var(--dim); font-size: .85rem; }
figure svg { max-width: 100%; height: auto; }
.clips { display: flex; flex-wrap: wrap; gap: 1.5rem; } .clips video { border-radius: 4px; max-width: 100%; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; } dt { color: var(--dim); }
dd { margin: 0; overflow-wrap: anywhere; }
"""
# The figures' greys follow the page's theme; their other colours are read on both.
THEME = {INK: "var(--ink)", DIM: "var(--dim)", RULE: "var(--rule)"}


def page(games: Sequence[Game], figures: Mapping[str, Figure], versions: Mapping[str, str]) -> str:
    """The whole document; equal facts give equal text."""
    body = [
        "<h1>Spikecade: what plays how well</h1>",
        f"<p class='note'>{len(games)} game{'s' * (len(games) != 1)}. Every number is read from a report or card that "
        "a command wrote; the file beside each game says which.</p>",
        *_scores([game for game in games if game.results]),
        *(part for title, figure in figures.items() for part in _figure(title, figure)),
        "<h2>Each game</h2>",
        *(part for game in games for part in _game(game)),
        f"<h2>Versions</h2><p class='note'>{escape(', '.join(f'{k} {v}' for k, v in sorted(versions.items())))}</p>",
    ]
    return (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n<title>Spikecade report</title>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def themed(drawing: str) -> str:
    """An SVG whose greys are the page's variables."""
    for colour, variable in THEME.items():
        drawing = drawing.replace(colour, variable)
    return drawing


def _scores(games: Sequence[Game]) -> Iterator[str]:
    if not games:
        return
    players = list(dict.fromkeys(player for game in games for player in game.results))
    heads = ["game", *players, "chip of teacher", "cores", "latency", "a decision"]
    yield "<h2>Results</h2><p class='note'>Mean raw full-game score with its 95 % bootstrap interval.</p>"
    yield _table(heads, [_row(game, players) for game in games])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Heads are escaped; cells are HTML."""
    head = "".join(f"<th scope='col'>{escape(word)}</th>" for word in heads)
    body = "".join(
        f"<tr><th scope='row'>{row[0]}</th>{''.join(f'<td>{cell}</td>' for cell in row[1:])}</tr>\n" for row in rows
    )
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>"


def _row(game: Game, players: Sequence[str]) -> list[str]:
    chip, costs = game.results.get("chip"), game.costs
    return [
        escape(game.name),
        *(_score(game.results.get(player)) for player in players),
        "-" if chip is None or chip.share is None else f"{chip.share:.3f}",
        "-" if costs is None else f"{costs.cores:,} <small>of {costs.available:,}</small>",
        "-" if costs is None else f"{costs.latency_ticks} ticks",
        "-" if costs is None or costs.decision_j is None else f"{1e3 * costs.decision_j:.2f} mJ",
    ]


def _score(own: Result | None) -> str:
    return "-" if own is None else f"{points(own.mean)} <small>({points(own.low)} .. {points(own.high)})</small>"


def _figure(title: str, figure: Figure) -> Iterator[str]:
    yield f"<h2>{escape(title)}</h2>"
    yield f"<figure role='img' aria-label='{escape(title)}'>{themed(svg(figure))}</figure>"


def _game(game: Game) -> Iterator[str]:
    yield f"<h3>{escape(game.name)}</h3>"
    facts = list(_facts(game))
    yield "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts) + "</dl>"
    clips = [_clip(game.name, player, path) for player, path in game.clips.items()]
    if clips:
        yield f"<div class='clips'>{''.join(clips)}</div>"


def _facts(game: Game) -> Iterator[tuple[str, str]]:
    if game.source:
        rules = game.protocol
        env = rules["env"]
        yield "scores from", game.source
        yield (
            "protocol",
            f"{rules['name']}: {rules['episodes']} episodes from seed {rules['seed']}, epsilon {rules['epsilon']}, "
            f"sticky {env['sticky']}, {env['frames_per_step']} frames a decision, cap {env['max_frames']:,} frames",
        )
    for player, own in game.results.items():
        human = "" if own.human is None else f", {own.human:.3f} human-normalised"
        share = "" if own.share is None else f", {own.share:.3f} of the teacher"
        yield player, f"{own.mean:.2f} ({own.low:.2f} .. {own.high:.2f}) in {own.episodes} episodes{human}{share}"
    for player, learning in game.learning.items():
        told = [*learning.at, *(at for at, _ in learning.meanwhile)]
        count = len(learning.at)
        words = f"{count} evaluation{'s' * (count != 1)} in {max(told):,.0f} {learning.unit}"
        yield f"{player}, learning", words


def _clip(game: str, player: str, path: Path) -> str:
    moving = base64.b64encode(small_clip(path)).decode()
    words = escape(f"{game} played by {player}")
    video = f"<video controls loop muted playsinline preload='metadata' aria-label='{words}'"
    return f"<figure>{video} src='data:video/mp4;base64,{moving}'></video><figcaption>{words}</figcaption></figure>"

"""Intervals as an SVG: small panels side by side, a row a player, a bar from low to high, a stroke at the value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from deploy.curves import COLOURS, DIM, INK, RULE, line, round_steps, text

COLUMNS = 4
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 900, 84, 20, 62, 14  # the left margin holds the names of the players
GAP = 26  # between panels
ROW = 20  # height of a player
HEAD, FOOT = 22, 30  # of a panel: its title above, its axis below
TITLE = 30  # of a section
TICK = 34  # width of a short number on an axis
LETTER = 6.5  # width of a digit there


@dataclass(frozen=True)
class Span:
    """A player's value with its interval."""

    player: str
    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"span of {self.player}: from {self.low} to {self.high}, must rise")


@dataclass(frozen=True)
class Panel:
    """One axis with the spans of some players."""

    title: str
    spans: tuple[Span, ...]

    def __post_init__(self) -> None:
        if not self.spans:
            raise ValueError(f"panel {self.title}: no spans, needs at least one; score a player first")


@dataclass(frozen=True)
class Section:
    """Panels of one kind, COLUMNS beside each other."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Sheet:
    """What is drawn; every panel has a row for every player, so that rows are in line."""

    title: str
    subtitle: str
    players: tuple[str, ...]
    sections: tuple[Section, ...]

    def __post_init__(self) -> None:
        spans = [span for section in self.sections for panel in section.panels for span in panel.spans]
        strange = sorted({span.player for span in spans} - set(self.players))
        if strange:
            raise ValueError(f"sheet.sections: spans of {', '.join(strange)}, allowed {', '.join(self.players)}")


def panels_svg(sheet: Sheet) -> str:
    """The sheet as a whole SVG document; equal sheets give equal text."""
    parts, y = list[str](), float(TOP)
    for section in sheet.sections:
        parts.append(text(LEFT, y + 14, section.title, 13, INK, weight="bold"))
        y += TITLE
        for panels in _rows(section.panels):
            parts += _row(panels, sheet.players, y)
            y += _height(sheet.players)
    height = y + BOTTOM
    return "\n".join(
        [
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height:g}' "
            f"width='{WIDTH}' height='{height:g}'>",
            f"<rect width='{WIDTH}' height='{height:g}' fill='white'/>",
            text(LEFT, 26, sheet.title, 16, INK, weight="bold"),
            text(LEFT, 44, sheet.subtitle, 12, DIM),
            *parts,
            "</svg>\n",
        ]
    )


def axis(spans: Sequence[Span]) -> tuple[float, float]:
    """Where an axis begins and ends: a little beyond all intervals, never of no width."""
    low = min(min(span.low, span.value) for span in spans)
    high = max(max(span.high, span.value) for span in spans)
    aside = max(0.08 * (high - low), 0.02 * max(abs(low), abs(high)), 1e-3)
    return low - aside, high + aside


def _rows(panels: Sequence[Panel]) -> Iterator[Sequence[Panel]]:
    for start in range(0, len(panels), COLUMNS):
        yield panels[start : start + COLUMNS]


def _height(players: Sequence[str]) -> float:
    return HEAD + ROW * len(players) + FOOT


def _row(panels: Sequence[Panel], players: Sequence[str], y: float) -> Iterator[str]:
    """Panels beside each other, and the players' names before the first."""
    width = (WIDTH - LEFT - RIGHT - GAP * (COLUMNS - 1)) / COLUMNS
    for index, player in enumerate(players):
        yield text(LEFT - 10, _middle(y, index) + 4, player, 12, _colour(index), "end", weight="bold")
    for column, panel in enumerate(panels):
        yield from _panel(panel, players, LEFT + column * (width + GAP), y, width)


def _middle(y: float, index: int) -> float:
    return y + HEAD + ROW * (index + 0.5)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _panel(panel: Panel, players: Sequence[str], x: float, y: float, width: float) -> Iterator[str]:
    yield text(x + width / 2, y + 14, panel.title, 12, INK, "middle")
    low, high = axis(panel.spans)
    top, bottom = y + HEAD, y + HEAD + ROW * len(players)

    def at(value: float) -> float:
        return x + width * (value - low) / (high - low)

    for value in _ticks(low, high, width):
        yield line(at(value), top, at(value), bottom, RULE, 1)
        yield text(at(value), bottom + 15, f"{value:.10g}", 11, DIM, "middle")
    yield line(x, bottom, x + width, bottom, DIM, 1)
    for span in panel.spans:
        index = players.index(span.player)
        yield from _bar(at(span.low), at(span.value), at(span.high), _middle(y, index), _colour(index))


def _ticks(low: float, high: float, width: float) -> list[float]:
    """Round numbers, as many as there is room for, whose labels meet neither each other nor the next panel's."""
    steps: list[float] = []
    for about in range(int(width / TICK), 0, -1):
        steps = [round(value, 12) for value in round_steps(low, high, about)]
        places = [(width * (value - low) / (high - low), LETTER / 2 * len(f"{value:.10g}")) for value in steps]
        inside = [at - half > -GAP / 2 and at + half < width + GAP / 2 for at, half in places]
        if all(b[0] - a[0] >= a[1] + b[1] + LETTER for a, b in pairwise(places)):
            return [value for value, fits in zip(steps, inside, strict=True) if fits]
    return steps[:1]


def _bar(low: float, value: float, high: float, y: float, colour: str) -> Iterator[str]:
    """The interval as a pale bar, the value as a stroke across it."""
    yield (
        f"<rect x='{low:.1f}' y='{y - 6:.1f}' width='{max(high - low, 1):.1f}' height='12' "
        f"fill='{colour}' fill-opacity='0.3'/>"
    )
    yield line(value, y - 7, value, y + 7, colour, 2.4)

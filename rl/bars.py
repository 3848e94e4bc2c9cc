"""Bars as an SVG: small panels in two columns, one bar a name, numbers at their ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

COLUMNS, WIDTH, ROW, HEAD, GAP = 2, 400, 18, 46, 24  # panels a line, pixels of a panel, of a bar, of its title, between
NAME, VALUE = 118, 62  # pixels for names and numbers
BINS = 14
INK, DIM, BAR = "#1f2937", "#6b7280", "#0072b2"


@dataclass(frozen=True)
class Panel:
    """One group of bars."""

    title: str
    unit: str  # of the values
    bars: tuple[tuple[str, float], ...]  # name, value of 0 or more

    def __post_init__(self) -> None:
        if not self.bars or any(not value >= 0 for _, value in self.bars):
            raise ValueError(f"panel {self.title}: found {self.bars}, needs at least one bar, none below 0")

    @property
    def height(self) -> int:
        return HEAD + ROW * len(self.bars)


def histogram(title: str, unit: str, values: NDArray[np.floating]) -> Panel:
    """How many of the values [N], N > 0, lie in each of up to 14 equal parts of their range."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        return Panel(f"{title} ({unit})", "", ((f"{low:.4g}", float(len(values))),))
    counts, edges = np.histogram(values.astype(np.float64), BINS)
    names = [f"{a:.4g} .. {b:.4g}" for a, b in pairwise(edges)]
    return Panel(f"{title} ({unit})", "", tuple(zip(names, counts.astype(float).tolist(), strict=True)))


def svg(title: str, panels: Sequence[Panel]) -> str:
    """The panels as a whole SVG document; equal panels give equal text."""
    lines = [panels[i : i + COLUMNS] for i in range(0, len(panels), COLUMNS)]
    height = 48 + sum(max(panel.height for panel in line) + GAP for line in lines)
    width = COLUMNS * WIDTH + (COLUMNS + 1) * GAP
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}'"
        " font-family='Helvetica, Arial, sans-serif'>",
        f"<rect width='{width}' height='{height}' fill='white'/>",
        _text(GAP, 30, title, 17, INK, weight="bold"),
    ]
    y = 48
    for line in lines:
        for i, panel in enumerate(line):
            parts += _panel(panel, GAP + i * (WIDTH + GAP), y)
        y += max(panel.height for panel in line) + GAP
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, x: int, y: int) -> Iterator[str]:
    yield _text(x, y + 20, panel.title + (f", {panel.unit}" if panel.unit else ""), 13, INK, weight="bold")
    most = max(value for _, value in panel.bars) or 1.0
    for i, (name, value) in enumerate(panel.bars):
        top, width = y + HEAD - 16 + i * ROW, (WIDTH - NAME - VALUE) * value / most
        yield _text(x + NAME - 8, top + 13, name, 11, DIM, anchor="end")
        yield f"<rect x='{x + NAME}' y='{top + 2}' width='{max(width, 0.5):.1f}' height='{ROW - 5}' fill='{BAR}'/>"
        yield _text(x + NAME + width + 6, top + 13, _number(value), 11, INK)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) and value >= 1 else f"{value:.3g}"


def _text(x: float, y: float, text: str, size: int, colour: str, anchor: str = "start", weight: str = "normal") -> str:
    style = f"font-size='{size}' font-weight='{weight}' fill='{colour}' text-anchor='{anchor}'"
    return f"<text x='{x:.1f}' y='{y:.1f}' {style}>{escape(text)}</text>"

"""Lines over a linear axis, as an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 66, 170, 40, 48  # margins; the right one holds the names
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito 2008
INK, RULE = "#1f2937", "#e5e7eb"
FONT = "font-family='Helvetica, Arial, sans-serif' font-size='12'"
MARKS = 5


@dataclass(frozen=True)
class Line:
    """Points (x, y) by rising x."""

    name: str
    points: tuple[tuple[float, float], ...]


def drawn(title: str, across: str, up: str, lines: Sequence[Line]) -> str:
    """The sheet; a title alone where there is no line."""
    body = [f"<rect width='{WIDTH}' height='{HEIGHT}' fill='white'/>", _text(LEFT, 22, title)]
    points = [point for line in lines for point in line.points]
    if points:
        (x0, x1), (y0, y1) = (_range([point[axis] for point in points]) for axis in (0, 1))

        def at(x: float, y: float) -> tuple[float, float]:
            wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
            return LEFT + wide * (x - x0) / (x1 - x0), HEIGHT - BOTTOM - high * (y - y0) / (y1 - y0)

        for mark in range(MARKS):
            x, y = x0 + (x1 - x0) * mark / (MARKS - 1), y0 + (y1 - y0) * mark / (MARKS - 1)
            (px, _), (_, py) = at(x, y0), at(x0, y)
            body.append(f"<path d='M{LEFT} {py:.1f}H{WIDTH - RIGHT}' stroke='{RULE}'/>")
            body += [_text(LEFT - 8, py + 4, f"{y:.3g}", "end"), _text(px, HEIGHT - BOTTOM + 18, f"{x:,.0f}", "middle")]
        for index, line in enumerate(lines):
            colour, path = COLOURS[index % len(COLOURS)], " ".join("{:.1f},{:.1f}".format(*at(*p)) for p in line.points)
            body.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
            body.append(_text(WIDTH - RIGHT + 12, TOP + 12 + 18 * index, line.name, colour=colour))
        body += [_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, across, "middle"), _text(8, TOP - 4, up)]
    size = f"width='{WIDTH}' height='{HEIGHT}' viewBox='0 0 {WIDTH} {HEIGHT}'"
    return f"<svg xmlns='http://www.w3.org/2000/svg' {size}>\n" + "\n".join(body) + "\n</svg>\n"


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = INK) -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' {FONT} fill='{colour}' text-anchor='{anchor}'>{escape(text)}</text>"

"""Curves as an SVG: means with intervals over a logarithmic share, one curve a kind, on the whole chip's band."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 66, 150, 56, 52  # margins; the right one holds the names of the curves
LINE = 17  # height of a name
LABEL = 44  # width of a share
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito 2008: told apart by all
DIM, RULE, INK, BAND = "#6b7280", "#e5e7eb", "#1f2937", "#eef1f6"
FONT = "font-family='Helvetica, Arial, sans-serif'"
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)  # of round numbers on an axis


@dataclass(frozen=True)
class Mean:
    """A mean with its interval."""

    at: float  # share broken, above 0 to 1; not used for levels
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """Means of one kind, by rising share."""

    name: str
    means: tuple[Mean, ...]


@dataclass(frozen=True)
class Chart:
    """What is drawn: curves, the level they fall from, and a level for comparison (none where it is unknown)."""

    title: str
    subtitle: str
    across: str  # the axes' names
    up: str
    curves: tuple[Curve, ...]
    whole: Mean
    floor: tuple[str, float] | None

    def __post_init__(self) -> None:
        if not any(curve.means for curve in self.curves):
            raise ValueError("chart.curves: no means, needs at least one; play a point first")
        if any(not 0 < mean.at <= 1 for curve in self.curves for mean in curve.means):
            raise ValueError("chart.curves: shares must be above 0 and at most 1")


@dataclass(frozen=True)
class _Scale:
    """From data to the sheet."""

    low: float  # of log10 of the shares
    high: float
    bottom: float
    top: float

    def x(self, share: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log10(share) - self.low) / (self.high - self.low)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - self.bottom) / (self.top - self.bottom)


def svg(chart: Chart) -> str:
    """The chart as a whole SVG document; equal charts give equal text."""
    scale = _scale(chart)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' height='{HEIGHT}'>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='white'/>",
        text(LEFT, 26, chart.title, 16, INK, weight="bold"),
        text(LEFT, 44, chart.subtitle, 12, DIM),
        *_levels(chart, scale),
        *_axes(chart, scale),
        *(part for index, curve in enumerate(chart.curves) for part in _curve(curve, index, len(chart.curves), scale)),
        *_names(chart, scale),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def round_steps(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers within low to high, at most some `about` of them, at equal distances."""
    rough = max(high - low, 1e-9) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in STEPS if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near the wanted ones, in any order, at least `gap` from each other; within low..high where they fit."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    found, edge = [0.0] * len(wanted), low
    for index in order:
        found[index] = max(wanted[index], edge)
        edge = found[index] + gap
    edge = high
    for index in reversed(order):
        found[index] = min(found[index], edge)
        edge = found[index] - gap
    return found


def _scale(chart: Chart) -> _Scale:
    means = [mean for curve in chart.curves for mean in curve.means]
    shares = [math.log10(mean.at) for mean in means]
    values = [value for mean in (*means, chart.whole) for value in (mean.low, mean.high)]
    aside, room = max(0.05 * (max(shares) - min(shares)), 0.08), max(0.06 * (max(values) - min(values)), 0.5)
    return _Scale(min(shares) - aside, max(shares) + aside, min(values) - room, max(values) + room)


def _levels(chart: Chart, scale: _Scale) -> Iterator[str]:
    """The band of the whole chip, and the level for comparison where it lies on the sheet."""
    top, bottom, y = (scale.y(value) for value in (chart.whole.high, chart.whole.low, chart.whole.value))
    width = WIDTH - LEFT - RIGHT
    yield f"<rect x='{LEFT}' y='{top:.1f}' width='{width}' height='{max(bottom - top, 1):.1f}' fill='{BAND}'/>"
    yield line(LEFT, y, WIDTH - RIGHT, y, DIM, 1.2, "5 4")
    if chart.floor is not None and scale.bottom <= chart.floor[1] <= scale.top:
        y = scale.y(chart.floor[1])
        yield line(LEFT, y, WIDTH - RIGHT, y, DIM, 1.2, "1 4")


def _axes(chart: Chart, scale: _Scale) -> Iterator[str]:
    for value in round_steps(scale.bottom, scale.top):
        yield line(LEFT, scale.y(value), WIDTH - RIGHT, scale.y(value), RULE, 1)
        yield text(LEFT - 8, scale.y(value) + 4, f"{value:g}", 12, DIM, "end")
    for share in _shares(chart, scale):
        yield line(scale.x(share), HEIGHT - BOTTOM, scale.x(share), HEIGHT - BOTTOM + 5, DIM, 1)
        yield text(scale.x(share), HEIGHT - BOTTOM + 19, f"{100 * share:g} %", 12, DIM, "middle")
    yield line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, DIM, 1)
    yield text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, chart.across, 12, INK, "middle")
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield text(18, middle, chart.up, 12, INK, "middle", turn=f" transform='rotate(-90 18 {middle:.1f})'")


def _shares(chart: Chart, scale: _Scale) -> list[float]:
    """The shares that were measured; of those whose labels would meet, the lowest."""
    kept: list[float] = []
    for share in sorted({mean.at for curve in chart.curves for mean in curve.means}):
        if not kept or scale.x(share) - scale.x(kept[-1]) >= LABEL:
            kept.append(share)
    return kept


def _curve(curve: Curve, index: int, curves: int, scale: _Scale) -> Iterator[str]:
    """Line, whiskers and dots; kinds stand a little apart so that whiskers of one share do not hide each other."""
    colour, aside = COLOURS[index % len(COLOURS)], 3.0 * (index - (curves - 1) / 2)
    places = [(scale.x(mean.at) + aside, scale.y(mean.value), mean) for mean in curve.means]
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
    yield f"<polyline points='{joined}' fill='none' stroke='{colour}' stroke-width='2' stroke-linejoin='round'/>"
    for x, y, mean in places:
        yield line(x, scale.y(mean.low), x, scale.y(mean.high), colour, 1.4)
        yield f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.6' fill='{colour}' stroke='white' stroke-width='1.2'/>"


def _names(chart: Chart, scale: _Scale) -> Iterator[str]:
    """Each curve's name beside its end, moved where two would meet."""
    drawn = [(curve.name, COLOURS[i % len(COLOURS)], curve.means[-1].value)
             for i, curve in enumerate(chart.curves) if curve.means]  # fmt: skip
    drawn.append(("whole chip", DIM, chart.whole.value))
    if chart.floor is not None and scale.bottom <= chart.floor[1] <= scale.top:
        drawn.append((chart.floor[0], DIM, chart.floor[1]))
    places = apart([scale.y(value) for _, _, value in drawn], LINE, TOP, HEIGHT - BOTTOM)
    for (name, colour, _), y in zip(drawn, places, strict=True):
        yield text(WIDTH - RIGHT + 10, y + 4, name, 12, colour, weight="normal" if colour == DIM else "bold")


def line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float, dash: str = "") -> str:
    """A straight line as SVG."""
    dashed = f" stroke-dasharray='{dash}'" if dash else ""
    ends = f"x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}'"
    return f"<line {ends} stroke='{colour}' stroke-width='{width:g}'{dashed}/>"


def text(
    x: float, y: float, text: str, size: int, colour: str, anchor: str = "start", weight: str = "normal", turn: str = ""
) -> str:
    """Words as SVG, escaped; y is their baseline."""
    style = f"{FONT} font-size='{size}' font-weight='{weight}' fill='{colour}' text-anchor='{anchor}'"
    return f"<text x='{x:.1f}' y='{y:.1f}' {style}{turn}>{escape(text)}</text>"

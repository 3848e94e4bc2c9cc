"""Pictures of a placed chip, drawn on a light ground: which layer lies where, what fires, which links are busy."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from deploy.cells import I32
from deploy.chip import Chip
from deploy.flows import F64
from deploy.traffic import EAST, NORTH, SOUTH, WEST

Image = NDArray[np.uint8]  # [height, width, 3]  RGB
Colour = tuple[int, int, int]

PAPER: Colour = (255, 255, 255)
INK: Colour = (32, 36, 44)
DIM: Colour = (112, 118, 130)
FREE: Colour = (240, 241, 244)
EDGE: Colour = (96, 102, 114)
LATE: Colour = (64, 64, 64)  # cores of no stage: repeaters
MESH_PIXELS, MOST_CELL = 832, 40  # the longer side of a mesh at most, unless cells of 2 pixels need more; of a cell
LEFT, TOP, BOTTOM, LEGEND = 48, 64, 40, 340
GRID_CELL = 6  # cells from this size on are set apart by thin lines, and show patterns
# Light to dark, so that quiet and busy differ in print too (after ColorBrewer's YlOrRd).
HEAT = np.array([(255, 255, 217), (254, 224, 139), (253, 141, 60), (214, 47, 39), (103, 0, 31)], np.float64)


@dataclass(frozen=True)
class Stage:
    """Cores first .. first + cores - 1; fan-out cores are drawn hatched."""

    name: str
    first: int
    cores: int
    fan_out: bool


def layer_colours(count: int) -> list[Colour]:
    """As many colours, neighbours in the list far apart in hue and all apart in hue or lightness."""
    made = []
    for i in range(count):
        red, green, blue = colorsys.hls_to_rgb((0.58 + i * 0.618034) % 1.0, (0.44, 0.62, 0.34)[i % 3], 0.62)
        made.append((round(255 * red), round(255 * green), round(255 * blue)))
    return made


def floorplan(xy: I32, stages: Sequence[Stage], chip: Chip, title: str) -> Image:
    """Layers on the mesh in their colours, for cells xy [C, 2]; fan-out cores hatched in the colour of the layer."""
    stage_of = np.full(len(xy), len(stages))
    for i, stage in enumerate(stages):
        stage_of[stage.first : stage.first + stage.cores] = i
    colours = np.array([*_stage_colours(stages), LATE], np.uint8)
    cells = np.full((chip.mesh[1], chip.mesh[0], 3), FREE, np.uint8)
    cells[xy[:, 1], xy[:, 0]] = colours[stage_of]
    cell = cell_pixels(chip)
    rows = len(stages) + 2
    sheet = _sheet(chip, title, rows)
    room = _mesh(sheet, cells, cell)
    hatched = np.array([*(stage.fan_out for stage in stages), False])[stage_of]
    _hatch(room, xy[hatched], cell)
    _frame(sheet, chip, cell)
    x, y = _legend_corner(chip, cell)
    late = len(xy) - sum(stage.cores for stage in stages)
    for stage, colour in zip(stages, colours.tolist(), strict=False):
        y = _key(sheet, x, y, colour, f"{stage.name}", f"{stage.cores:,}", stage.fan_out)
    if late > 0:
        y = _key(sheet, x, y, LATE, "repeaters", f"{late:,}", False)
    _key(sheet, x, y, FREE, "free", f"{chip.cores - len(xy):,}", False)
    return sheet


def _stage_colours(stages: Sequence[Stage]) -> list[Colour]:
    """A colour a layer; fan-out takes that of the layer it feeds, lighter."""
    colours = layer_colours(sum(not stage.fan_out for stage in stages))
    made, layer = [], 0
    for stage in stages:
        own = colours[min(layer, len(colours) - 1)] if colours else LATE
        made.append(tuple((2 * c + 3 * 255) // 5 for c in own) if stage.fan_out else own)
        layer += not stage.fan_out
    return made  # type: ignore[return-value]


def heat_map(values: F64, xy: I32, chip: Chip, title: str, unit: str, notes: Sequence[str] = ()) -> Image:
    """A value [C] of each core on the mesh, from pale to dark; cores not in use are grey."""
    cells = np.full((chip.mesh[1], chip.mesh[0], 3), FREE, np.uint8)
    top = float(values.max(initial=0.0))
    cells[xy[:, 1], xy[:, 0]] = shade(values / top if top else values)
    sheet, cell = _sheet(chip, title, 12), cell_pixels(chip)
    _mesh(sheet, cells, cell)
    _frame(sheet, chip, cell)
    y = _scale(sheet, *_legend_corner(chip, cell), top, unit)
    _notes(sheet, _legend_corner(chip, cell)[0], y, notes)
    return sheet


def link_map(loads: F64, chip: Chip, title: str, notes: Sequence[str] = ()) -> Image:
    """Spikes a tick on every link, both ways together, from loads [4, width, height] as `link_loads` gives them.

    Links are bars between the middles of cells; where cells are too small for that, each shows its busiest link.
    """
    along_x = (loads[EAST, :-1] + loads[WEST, 1:]).T  # [height, width - 1]
    along_y = (loads[NORTH, :, :-1] + loads[SOUTH, :, 1:]).T  # [height - 1, width]
    top = max(float(along_x.max(initial=0.0)), float(along_y.max(initial=0.0)))
    sheet, cell = _sheet(chip, title, 12), cell_pixels(chip)
    if cell >= GRID_CELL:
        room = _mesh(sheet, np.full((chip.mesh[1], chip.mesh[0], 3), PAPER, np.uint8), cell)
        _bars(room, along_x, along_y, top, cell)
    else:
        busiest = np.zeros(chip.mesh[::-1])
        ends = ((along_x, np.s_[:, :-1]), (along_x, np.s_[:, 1:]), (along_y, np.s_[:-1]), (along_y, np.s_[1:]))
        for side, cells in ends:
            busiest[cells] = np.maximum(busiest[cells], side)
        _mesh(sheet, shade(busiest / top if top else busiest), cell)
    _frame(sheet, chip, cell)
    y = _scale(sheet, *_legend_corner(chip, cell), top, "spikes a tick, both ways")
    _notes(sheet, _legend_corner(chip, cell)[0], y, notes)
    return sheet


def shade(share: F64) -> Image:
    """Colours [..., 3] of values 0..1."""
    at = np.linspace(0.0, 1.0, len(HEAT))
    return np.stack([np.interp(share, at, HEAT[:, k]) for k in range(3)], axis=-1).round().astype(np.uint8)


def cell_pixels(chip: Chip) -> int:
    """Side of a cell; the same for every picture of a chip."""
    return max(2, min(MOST_CELL, MESH_PIXELS // max(chip.mesh)))


def write_png(image: Image) -> bytes:
    """The file's bytes."""
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert done
    return data.tobytes()


def _sheet(chip: Chip, title: str, rows: int) -> Image:
    """Blank paper with a title, room for the mesh, and for a legend of so many rows."""
    cell = cell_pixels(chip)
    wide, high = (side * cell for side in chip.mesh)
    sheet = np.full((TOP + max(high, rows * 24) + BOTTOM, LEFT + wide + LEGEND, 3), PAPER, np.uint8)
    _text(sheet, LEFT, 32, title, INK, 0.6)
    return sheet


def _mesh(sheet: Image, cells: Image, cell: int) -> Image:
    """Paint cells [height, width, 3] at one size; returns that part of the sheet."""
    room = sheet[TOP : TOP + cells.shape[0] * cell, LEFT : LEFT + cells.shape[1] * cell]
    room[:] = cells.repeat(cell, axis=0).repeat(cell, axis=1)
    if cell >= GRID_CELL:
        room[::cell], room[:, ::cell] = PAPER, PAPER
    return room


def _hatch(room: Image, xy: I32, cell: int) -> None:
    """Diagonal lines over these cells, where they are large enough for lines."""
    if cell < GRID_CELL:
        return
    row, column = np.indices(room.shape[:2])
    line = (row + column) % max(4, cell // 3) == 0
    inside = np.zeros((room.shape[0] // cell, room.shape[1] // cell), bool)
    inside[xy[:, 1], xy[:, 0]] = True
    inside = inside.repeat(cell, axis=0).repeat(cell, axis=1) & (row % cell > 0) & (column % cell > 0)
    room[line & inside] = (room[line & inside] * 0.55).astype(np.uint8)


def _bars(room: Image, along_x: F64, along_y: F64, top: float, cell: int) -> None:
    """Links as bars from middle to middle, the wider the busier."""
    half = cell // 2
    for loads, is_x in ((along_x, True), (along_y, False)):
        share = loads / top if top else loads
        colours = shade(share)
        wide = np.maximum(1, np.rint(np.sqrt(share) * (cell - 3) / 2)).astype(int)
        for y, x in np.argwhere(loads > 0):
            at_x, at_y, w = x * cell + half, y * cell + half, int(wide[y, x])
            if is_x:
                room[at_y - w // 2 : at_y - w // 2 + w, at_x : at_x + cell] = colours[y, x]
            else:
                room[at_y : at_y + cell, at_x - w // 2 : at_x - w // 2 + w] = colours[y, x]


def _frame(sheet: Image, chip: Chip, cell: int) -> None:
    """Outlines of the chips, their numbers on a board, and coordinates along two sides."""
    high = chip.mesh[1] * cell
    for number in range(chip.chips_x * chip.chips_y):
        x = LEFT + number % chip.chips_x * chip.width * cell
        y = TOP + number // chip.chips_x * chip.height * cell
        corner = (x + chip.width * cell, y + chip.height * cell)
        cv2.rectangle(sheet, (x, y), corner, EDGE, 1)
        if chip.chips_x * chip.chips_y > 1:
            cv2.rectangle(sheet, (x, y), (x + 6 + 8 * len(str(number)), y + 17), PAPER, cv2.FILLED)
            cv2.rectangle(sheet, (x, y), (x + 6 + 8 * len(str(number)), y + 17), EDGE, 1)
            _text(sheet, x + 4, y + 13, str(number), INK, 0.4)
    for at in _ticks(chip.mesh[0]):
        _text(sheet, LEFT + at * cell + cell // 2, TOP - 8, str(at), DIM, 0.36, centred=True)
    for at in _ticks(chip.mesh[1]):
        words = str(at)
        _text(sheet, LEFT - 8 - 8 * len(words), TOP + at * cell + cell // 2 + 4, words, DIM, 0.36)
    _text(
        sheet, LEFT, TOP + high + 24, f"x to the right, y down, in cores; {chip.name}, {chip.cores:,} cores", DIM, 0.4
    )


def _ticks(side: int) -> list[int]:
    """Round coordinates along a side, ten at most."""
    step = next(s for s in (1, 2, 4, 8, 16, 32, 64, 128, 256) if side / s <= 10)
    return list(range(0, side, step))


def _legend_corner(chip: Chip, cell: int) -> tuple[int, int]:
    return LEFT + chip.mesh[0] * cell + 24, TOP + 8


def _key(sheet: Image, x: int, y: int, colour: Sequence[int], name: str, count: str, hatched: bool) -> int:
    """One line of a legend; returns where the next one goes."""
    cv2.rectangle(sheet, (x, y), (x + 16, y + 14), [int(c) for c in colour], cv2.FILLED)
    if hatched:
        for k in range(3, 30, 5):
            cv2.line(sheet, (x + max(0, k - 14), y + min(14, k)), (x + min(16, k), y + max(0, k - 16)), DIM, 1)
    cv2.rectangle(sheet, (x, y), (x + 16, y + 14), EDGE, 1)
    _text(sheet, x + 26, y + 12, name, INK, 0.42)
    _text(sheet, x + LEGEND - 90, y + 12, count, DIM, 0.42)
    return y + 24


def _scale(sheet: Image, x: int, y: int, top: float, unit: str) -> int:
    """A colour bar with numbers; returns where the next thing goes."""
    high = 160
    bar = shade(np.linspace(1.0, 0.0, high))[:, None]
    sheet[y + 20 : y + 20 + high, x : x + 20] = bar
    cv2.rectangle(sheet, (x, y + 20), (x + 20, y + 20 + high), EDGE, 1)
    _text(sheet, x, y + 8, unit, INK, 0.42)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        _text(sheet, x + 28, y + 24 + round((1 - share) * high), _number(share * top), DIM, 0.42)
    return y + high + 56


def _number(value: float) -> str:
    """Three digits that matter."""
    if value == 0.0 or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def _notes(sheet: Image, x: int, y: int, notes: Sequence[str]) -> None:
    for i, line in enumerate(notes):
        _text(sheet, x, y + 22 * i, line, DIM, 0.42)


def _text(sheet: Image, x: int, y: int, words: str, colour: Colour, size: float, centred: bool = False) -> None:
    """Words on the base line y, from x or around it."""
    if centred:
        x -= cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0] // 2
    cv2.putText(sheet, words, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)

"""The side panel: a Picture's votes, core activity and pace drawn as an image; window and video show the same one."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from deploy.screens import Picture

Image = NDArray[np.uint8]  # [height, width, 3]  RGB
Colour = tuple[int, int, int]

WIDTH, HEIGHT = 340, 420  # the panel is laid out in these units and scaled to the height asked for
MARGIN = 16
VOTES_TOP, VOTES_ROOM = 116, 84
MESH_TOP, MESH_SIDE = 222, 192

GROUND: Colour = (15, 17, 23)
RULE: Colour = (38, 42, 53)
STRIP: Colour = (22, 25, 33)
DIM: Colour = (122, 130, 148)
INK: Colour = (226, 229, 236)
BAR: Colour = (72, 128, 196)
CHOSEN: Colour = (255, 178, 66)
BAD: Colour = (240, 92, 84)
FULL_SPIKES = 256  # one spike of each neuron of a core: the hottest colour


def panel_width(height: int) -> int:
    """Width in pixels of the panel of that height; even, as video wants it."""
    return 2 * round(height * WIDTH / HEIGHT / 2)


def panel(picture: Picture, height: int) -> Image:
    """Draw score, votes, core activity and pace; [height, panel_width(height), 3] RGB."""
    image = np.empty((height, panel_width(height), 3), np.uint8)
    _draw(picture, image)
    return image


def beside(picture: Picture, scale: int) -> Image:
    """The frame scaled up with sharp pixels, the panel to its right; [210 * scale, 160 * scale + panel, 3] RGB."""
    height, width = (scale * side for side in picture.frame.shape[:2])
    image = np.empty((height, width + panel_width(height), 3), np.uint8)
    cv2.resize(picture.frame, (width, height), image[:, :width], interpolation=cv2.INTER_NEAREST)
    _draw(picture, image[:, width:])
    return image


def _draw(picture: Picture, image: Image) -> None:
    sheet = _Sheet(image)
    _heading(sheet, picture)
    _votes(sheet, picture)
    _mesh(sheet, picture)
    _facts(sheet, picture)


def enlarged(image: Image, scale: int) -> Image:
    """Each pixel as a square of scale by scale."""
    height, width = image.shape[:2]
    size = (width * scale, height * scale)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def vote_shares(votes: NDArray[np.int32]) -> NDArray[np.float64]:
    """Length of each action's bar, 0..1: from zero, or from the lowest vote if that is below, to the highest."""
    low, high = min(0, int(votes.min())), int(votes.max())
    return (votes - low) / max(1, high - low)


def pooled(activity: NDArray[np.int32], side: int) -> NDArray[np.int32]:
    """At most side by side values [n, n]: each the busiest of its square of cores."""
    long = max(activity.shape)
    block = -(-long // side)
    count = -(-long // block)
    whole = np.full((count * block, count * block), -1, np.int32)
    whole[: activity.shape[0], : activity.shape[1]] = activity
    return np.asarray(whole.reshape(count, block, count, block).max(axis=(1, 3)), np.int32)


def heat(activity: NDArray[np.int32]) -> Image:
    """Colours [..., 3] of spikes per core; logarithmic on a fixed scale, so that pictures can be compared."""
    share = np.log1p(np.clip(activity, 0, FULL_SPIKES)) / math.log1p(FULL_SPIKES)
    levels = np.rint(255 * (0.06 + 0.94 * share)).astype(np.uint8)  # a silent core still stands out from the ground
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    colours[activity < 0] = GROUND
    return np.asarray(colours, np.uint8)


class _Sheet:
    """An image addressed in layout units; x to the right, y down."""

    def __init__(self, image: Image) -> None:
        self._scale = image.shape[0] / HEIGHT
        self._image = image
        image[0] = GROUND
        image[1:] = image[0]  # several times faster than to fill with a colour, and a window draws 2 MB a picture

    def box(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        left, top, right, bottom = (round(self._scale * at) for at in (x, y, x + width, y + height))
        if right > left and bottom > top:
            cv2.rectangle(self._image, (left, top), (right - 1, bottom - 1), colour, cv2.FILLED)

    def text(self, x: float, y: float, words: str, colour: Colour, size: float = 0.36, right: bool = False) -> None:
        """Words on the base line y, beginning at x or, with right, ending there."""
        size, weight = size * self._scale, max(1, round(size * self._scale * 1.6))
        if right:
            x -= cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, size, weight)[0][0] / self._scale
        at = (round(x * self._scale), round(y * self._scale))
        cv2.putText(self._image, words, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, weight, cv2.LINE_AA)

    def cells(self, x: float, y: float, side: float, colours: Image) -> None:
        """Colours [n, n, 3] in a thin frame, as cells of equal whole pixels: a square at most side wide."""
        cell = max(1, int(side * self._scale) // colours.shape[0])
        left, top, long = round(x * self._scale), round(y * self._scale), cell * colours.shape[0]
        cv2.rectangle(self._image, (left - 1, top - 1), (left + long, top + long), RULE)
        room = self._image[top : top + long, left : left + long]
        room[:] = enlarged(colours, cell)[: room.shape[0], : room.shape[1]]


def _heading(sheet: _Sheet, picture: Picture) -> None:
    right = WIDTH - MARGIN
    sheet.text(MARGIN, 27, picture.title, INK, 0.44)
    sheet.text(right, 27, f"episode {picture.episode}", DIM, right=True)
    sheet.box(MARGIN, 38, right - MARGIN, 1, RULE)
    sheet.text(MARGIN, 79, f"{picture.score:g}", INK, 1.1)
    sheet.text(right, 56, "action", DIM, right=True)
    sheet.text(right, 78, picture.meaning, CHOSEN, 0.56, right=True)


def _votes(sheet: _Sheet, picture: Picture) -> None:
    sheet.text(MARGIN, VOTES_TOP - 10, "votes", DIM)
    n = len(picture.actions)
    columns = 1 if n <= 6 else 2
    rows = -(-n // columns)
    width, height = (WIDTH - 2 * MARGIN) / columns, min(16.0, VOTES_ROOM / rows)
    votes = np.zeros(n, np.int32) if picture.votes is None else picture.votes
    for action, share in enumerate(vote_shares(votes).tolist()):
        number = "" if picture.votes is None else str(votes[action])
        x, y = MARGIN + action // rows * width, VOTES_TOP + action % rows * height
        colour = CHOSEN if action == picture.action else BAR
        _vote(sheet, (x, y, width, height), picture.actions[action], number, share, colour)


def _vote(
    sheet: _Sheet, room: tuple[float, float, float, float], name: str, number: str, share: float, colour: Colour
) -> None:
    """One action: name, bar, number, in a room of (x, y, width, height)."""
    x, y, width, height = room
    size = min(0.36 if width > WIDTH / 2 else 0.28, 0.026 * height)
    start, length = x + 15 + 225 * size, width - 46 - 225 * size  # the longest name is DOWNRIGHTFIRE
    thick = 0.56 * height
    base = y + 0.5 * thick + 11 * size
    ink = CHOSEN if colour == CHOSEN else DIM
    if colour == CHOSEN:
        sheet.box(x, y, 3, thick, CHOSEN)
    sheet.text(x + 8, base, name, ink, size)
    sheet.box(start, y, length, thick, RULE)
    sheet.box(start, y, length * share, thick, colour)
    sheet.text(start + length + 6, base, number, ink, size)


def _mesh(sheet: _Sheet, picture: Picture) -> None:
    sheet.text(MARGIN, MESH_TOP - 8, "spikes per core", DIM)
    if picture.activity is None:
        sheet.box(MARGIN, MESH_TOP, MESH_SIDE, MESH_SIDE, RULE)
        sheet.text(MARGIN + 66, MESH_TOP + 100, "no chip", DIM)
    else:
        sheet.cells(MARGIN, MESH_TOP, MESH_SIDE, heat(pooled(picture.activity, MESH_SIDE)))


def _facts(sheet: _Sheet, picture: Picture) -> None:
    x, y = MARGIN + MESH_SIDE + 16, MESH_TOP + 10
    if picture.activity is not None:
        used, firing = int((picture.activity >= 0).sum()), int((picture.activity > 0).sum())
        _fact(sheet, x, y, "spikes", f"{int(picture.activity.clip(0).sum()):,}")
        _fact(sheet, x, y + 42, "cores firing", f"{firing:,} of {used:,}")
    _fact(sheet, x, y + 84, "work", f"{1000 * picture.work_s:.1f} of {1000 * picture.period_s:.1f} ms")
    _strip(sheet, x, y + 108, picture)
    _fact(sheet, x, y + 152, "late", f"{picture.late:,} of {picture.pictures:,}", BAD if picture.late else INK)


def _fact(sheet: _Sheet, x: float, y: float, name: str, value: str, colour: Colour = INK) -> None:
    sheet.text(x, y, name, DIM)
    sheet.text(x, y + 16, value, colour, 0.38)


def _strip(sheet: _Sheet, x: float, y: float, picture: Picture) -> None:
    """Work of the last pictures as bars under their deadline, newest to the right; a late one is marked."""
    length, tall, bar = WIDTH - MARGIN - x, 24.0, 2.0
    sheet.box(x, y, length, tall, STRIP)
    shown = picture.recent[-int(length // bar) :]
    for index, work in enumerate(shown, start=1):
        high = tall * min(1.0, max(0.06, work.share))
        left = x + length - bar * (len(shown) - index + 1)
        sheet.box(left, y + tall - high, bar, high, BAD if work.late else BAR)
    sheet.box(x, y, length, 1, RULE)

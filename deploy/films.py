"""Clips: of every shipped chip one, from its replay where no score left any; whole, as a small mp4, as pictures."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from deploy.gather import Game
from deploy.pacer import Pacer, VirtualClock
from deploy.realtime import RealtimeSettings
from deploy.replay import ReplayError, load_replay
from deploy.replaying import play_again
from deploy.video import VideoScreen
from rl.board import Ticker
from rl.settings import SettingsError

FILM_S, CLIP_S = 12.0, 8.0
CODEC = {"preset": "slow", "crf": "28", "movflags": "faststart"}


def with_films(games: list[Game], root: str, folder: Path) -> Iterator[Game]:
    """Games, those without a clip of their chip with one of the replay that ships: its first seconds.

    A replay that comes out otherwise here, by other versions than its own, costs its clip alone: stderr says why.
    """
    ticker = Ticker(len(games))
    for done, game in enumerate(games):
        ticker.show(done, f"clips: {game.name}")
        if "chip" in game.clips or game.replay is None:
            yield game
            continue
        try:
            yield replace(game, clips={**game.clips, "chip": film(game.replay, root, folder / f"{game.name}.mp4")})
        except (ReplayError, SettingsError) as error:
            print(f"no clip of {game.name}: {error}", file=sys.stderr)
            yield game
    ticker.close()


def film(path: Path, root: str, video: Path) -> Path:
    """An mp4 of a replay's first seconds; one that is newer than the replay is kept, one that fails leaves none."""
    if video.exists() and video.stat().st_mtime > path.stat().st_mtime:
        return video
    clock = VirtualClock()
    pace = RealtimeSettings(FILM_S, 30, 2)
    pacer = Pacer(pace.period_s, clock.now, clock.sleep)
    with redirect_stdout(io.StringIO()):  # which models it is read from is the replay's to say
        play_again(load_replay(path), str(path), root, lambda: VideoScreen(video), pacer, pace, lambda: True)
    return video


def small_clip(path: Path, seconds: float = CLIP_S) -> bytes:
    """The middle seconds of an mp4, half as large, as an mp4 of some hundred kB."""
    out = io.BytesIO()
    with av.open(str(path)) as source, av.open(out, "w", format="mp4") as target:
        given = source.streams.video[0]
        rate = Fraction(given.average_rate or 30)
        own = target.add_stream("libx264", rate=rate, options=CODEC)
        own.width, own.height, own.pix_fmt = given.width // 4 * 2, given.height // 4 * 2, "yuv420p"
        own.codec_context.thread_count = 1  # more would make other bytes on other machines
        for at, frame in enumerate(_middle(source, given, round(seconds * rate))):
            small = frame.reformat(own.width, own.height, "yuv420p")
            small.pts, small.time_base = at, 1 / rate
            target.mux(own.encode(small))
        target.mux(own.encode(None))
    return out.getvalue()


def clip_pictures(path: Path, seconds: float, a_second: int) -> NDArray[np.uint8]:
    """The middle seconds of an mp4 as pictures [T, H, W, 3] of half its size, so many a second."""
    with av.open(str(path)) as source:
        given = source.streams.video[0]
        rate = Fraction(given.average_rate or 30)
        frames = islice(_middle(source, given, round(seconds * rate)), 0, None, max(1, round(rate / a_second)))
        sides = (given.width // 2, given.height // 2)
        return np.stack([np.asarray(frame.reformat(*sides, "rgb24").to_ndarray(), np.uint8) for frame in frames])


def _middle(source: InputContainer, stream: VideoStream, wanted: int) -> Iterator[av.VideoFrame]:
    first = max(0, (stream.frames - wanted) // 2)
    yield from islice(source.decode(stream), first, first + wanted)

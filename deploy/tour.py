"""make tour: from the screen to a spike to a vote in ten pictures, of one decision of the chip that ships."""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploy.compiled import Compiled
from deploy.emulator import Bits
from deploy.engine import LazyEngine
from deploy.figures import png
from deploy.players import load_chip
from deploy.replay import load_replay
from deploy.replaying import REPLAY, Reel, env_of
from deploy.spec import StudentSpec
from deploy.tour_pictures import PICTURES, Visit
from rl.command import run
from rl.files import write_json, write_whole
from rl.games import ScalarGame
from rl.settings import need
from rl.stages import MODELS

AMONG = range(100, 400)  # decisions: the ball is in play
COLOURS = 96  # of a picture's palette: a third of the bytes, and nothing to be seen of it


@dataclass(frozen=True)
class TourSettings:
    """Which decision is shown."""

    game: str
    out: Path
    decision: int | None  # of the replay that ships; None: the one among AMONG that is decided most clearly


def clearest(reel: Reel, spec: StudentSpec, game: str) -> int:
    """The decision whose first two actions lie furthest apart in votes; the first of equals."""
    head = spec.head(game)
    among = [at for at in AMONG if at < len(reel)] or [0]
    votes = spec.run(spec.transduce(np.stack([reel.at(at).obs for at in among])))[:, head.start : head.stop]
    best = np.sort(votes, axis=1)
    return among[int((best[:, -1] - best[:, -2]).argmax())]


def visit(own: TourSettings) -> Visit:
    """Everything that the pictures show, of one decision."""
    with redirect_stdout(io.StringIO()):  # which files are read is not the point here
        spec, compiled = load_chip(own.game, str(MODELS))  # no run lies there: it is what ships
    path = MODELS / own.game / REPLAY
    replay = load_replay(path)
    reel = Reel(replay, str(path), ScalarGame(own.game, env_of(replay), replay.played.seed), None)
    at = clearest(reel, spec, own.game) if own.decision is None else own.decision
    need(0 < at < len(reel) - 1, "--decision", at, f"1 to {len(reel) - 2}")
    scene = reel.at(at)
    bits = spec.transduce(scene.obs[None])[0]
    changes, fired = wave(compiled, spec.transduce(reel.at(at - 1).obs[None])[0], bits)
    head = spec.head(own.game)
    votes = spec.run(bits[None])[0][head.start : head.stop]
    return Visit(
        game=own.game,
        at=at,
        before=reel.at(at - 1).frames[-1],
        after=scene.frames[-1],
        stack=scene.obs,
        bits=bits,
        actions=head.actions,
        action=scene.action,
        votes=votes,
        compiled=compiled,
        changes=changes,
        fired=fired,
    )


def wave(compiled: Compiled, before: Bits, bits: Bits) -> tuple[NDArray[np.int32], Bits]:
    """(neurons of each core that begin or stop to fire in each tick [T, C], spikes of the last tick [C, N]).

    The chip has the picture before in it when the new one comes.
    """
    engine, count = LazyEngine(compiled.graph), compiled.picture_ticks
    for picture in (*_oldest_first(compiled, before), *_oldest_first(compiled, bits)[:-1]):
        engine.hold(picture, count)
    changes, last = [], engine.fired
    for _ in range(count):
        engine.hold(_oldest_first(compiled, bits)[-1], 1)
        changes.append((engine.fired ^ last).sum(axis=1, dtype=np.int32))
        last = engine.fired
    return np.array(changes), last


def _oldest_first(compiled: Compiled, bits: Bits) -> Bits:
    """The pictures of a history [history, I], as they are held."""
    return np.ascontiguousarray(bits.reshape(compiled.history, -1)[::-1])


def small(data: bytes) -> bytes:
    """A PNG with a palette."""
    out = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(
        out, "PNG", optimize=True
    )
    return out.getvalue()


def command(own: TourSettings) -> int:
    seen = visit(own)
    total = 0
    for number, (name, draw) in enumerate(PICTURES.items(), start=1):
        data = small(png(draw(seen)))
        write_whole(own.out / f"{number:02}-{name}.png", data)
        total += len(data)
    facts = {"what": "tour", "game": own.game, "decision": seen.at, "votes": seen.votes.tolist(),
             "action": seen.actions[seen.action], "core": seen.core, "neurons": list(seen.neurons),
             "graph": seen.compiled.digest}  # fmt: skip
    write_json(own.out / "report.json", facts)
    print(f"{own.out}: {len(PICTURES)} pictures of decision {seen.at} of {own.game}, {total / 1000:.0f} kB")
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the tour."""
    parser = argparse.ArgumentParser(prog="python -m deploy.tour", description=__doc__)
    parser.add_argument("--game", default="Pong", help="one that ships")
    parser.add_argument("--out", type=Path, default=Path("docs/tour"), help="folder for the pictures")
    parser.add_argument("--decision", type=int, help="of the replay that ships; else the one decided most clearly")
    own = parser.parse_args(arguments)
    run(lambda: command(TourSettings(own.game, own.out, own.decision)))


if __name__ == "__main__":
    main()

"""What the page is told: the scene once a round, then pictures with what was thought, as facts and bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.arcade.cabinet import Mesh
from deploy.arcade.desk import Round, State
from deploy.arcade.meter import LastSecond, Reading
from deploy.arcade.orders import SPEEDS
from deploy.arcade.show import Snapshot
from deploy.arcade.wire import Palette, bytes_of, encode, wave_steps

SHOWN_SCORES = 5  # newest of each player
Bytes = NDArray[np.uint8]


def scene_message(round_: Round, games: tuple[str, ...]) -> bytes:
    """Names, and where every core lies: `place` [C, 2, 2], `layer` [C, 2] and `level` [C, 2], low bytes first."""
    cabinet = round_.cabinet
    facts: dict[str, Any] = {
        "kind": "scene",
        "round": round_.number,
        "game": cabinet.name,
        "games": games,
        "players": cabinet.players,
        "replays": list(cabinet.replays),
        "replay": None if round_.reel is None else {"name": round_.replay, "length": len(round_.reel)},
        "actions": cabinet.game.actions,
        "speeds": SPEEDS,
        "mesh": None,
    }
    mesh = cabinet.mesh
    if mesh is None:
        return encode(facts, {})
    facts["mesh"] = _mesh_facts(mesh)
    arrays = {"place": mesh.cells, "layer": mesh.layer, "level": mesh.level}
    return encode(facts, {name: bytes_of(values) for name, values in arrays.items()})


def _mesh_facts(mesh: Mesh) -> dict[str, Any]:
    return {"chip": mesh.chip, "chips": mesh.chips, "size": mesh.size, "layers": mesh.layers, "ticks": mesh.ticks}


class Teller:
    """Makes each message once for all viewers; one a round."""

    def __init__(self, round_: Round, palette: Palette) -> None:
        self.round, self._palette = round_, palette
        meter = round_.cabinet.meter
        self._meter, self._second = meter, None if meter is None else LastSecond(meter)
        self._metered = 0
        self._made: dict[bool, tuple[Snapshot, State, int, bytes]] = {}

    def picture(self, snapshot: Snapshot, state: State, viewers: int, with_thought: bool) -> bytes:
        """The message of this picture: without the thought for those who have it."""
        last = self._made.get(with_thought)
        if last is not None and last[0] is snapshot and last[1] is state and last[2] == viewers:
            return last[3]
        self._measure(snapshot)
        facts = self._facts(snapshot, state) | {"viewers": viewers}
        indices, colours = self._palette.split(snapshot.picture.frame)
        arrays = {"frame": indices, "palette": colours, "dead": np.packbits(state.wounds.dead, bitorder="little")}
        if with_thought and snapshot.thought is not None:
            arrays |= _thought_arrays(snapshot)
        message = encode(facts, arrays)
        self._made[with_thought] = (snapshot, state, viewers, message)
        return message

    def _measure(self, snapshot: Snapshot) -> None:
        thought = snapshot.thought
        if self._second is None or thought is None or thought.number == self._metered:
            return
        self._metered = thought.number
        if thought.fired is None or thought.lines is None or thought.wave is None:
            self._second.clear()
            return
        assert self._meter is not None
        self._second.add(snapshot.at_s, int(thought.wave.sum()), self._meter.counts(thought.fired, thought.lines))

    def _facts(self, snapshot: Snapshot, state: State) -> dict[str, Any]:
        picture, thought = snapshot.picture, snapshot.thought
        reading = None if self._second is None else self._second.reading()
        return {
            "kind": "picture",
            "round": snapshot.round.number,
            "n": snapshot.number,
            "player": None if thought is None else thought.player,
            "asked": state.player,
            "thinks": thought is not None and thought.wave is not None,  # on a chip
            "at": None if snapshot.round.reel is None else snapshot.at,
            "paused": state.paused,
            "speed": state.speed,
            "lost": state.wounds.lost,
            "notice": state.notice,
            "recording": state.recording,
            "clips": [str(clip) for clip in state.clips],
            "score": picture.score,
            "episode": picture.episode,
            "action": picture.action,
            "votes": None if picture.votes is None else picture.votes.tolist(),
            "decision": 0 if thought is None else thought.number,
            "late": picture.late,
            "pictures": picture.pictures,
            "period_ms": 1000 * picture.period_s,
            "works": [[round(1000 * work_s, 2), int(late)] for work_s, late in snapshot.works],
            "decisions_per_s": round(snapshot.decisions_per_s, 2),
            "pictures_per_s": round(snapshot.pictures_per_s, 2),
            "energy": None if reading is None else _energy(reading),
            "scores": [
                {"who": who, "episodes": len(all_), "mean": sum(all_) / len(all_), "last": all_[-SHOWN_SCORES:]}
                for who, all_ in snapshot.scores
            ],
        }


def _energy(reading: Reading) -> dict[str, Any]:
    return {
        "spikes": reading.spikes,
        "power_mw": round(1000 * reading.power_w, 3),
        "static_mw": round(1000 * reading.static_w, 3),
    }


def _thought_arrays(snapshot: Snapshot) -> dict[str, Bytes]:
    """`stack` [4, 84, 84]; of who has them `bits` (packed, low bit first), their shape, and `wave` [T, C]."""
    thought = snapshot.thought
    assert thought is not None
    arrays = {"stack": thought.stack}
    if thought.bits is not None:
        arrays["bits_shape"] = bytes_of(np.array(thought.bits.shape))
        arrays["bits"] = np.packbits(thought.bits.reshape(-1), bitorder="little")
    if thought.wave is not None:
        arrays["wave"] = wave_steps(thought.wave)
    return arrays

"""A cabinet: one game with its chip and all who can play it, made from the files that exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy.arcade.meter import EnergyMeter
from deploy.arcade.seat import Sees, Sitter
from deploy.arcade.witness import Witness
from deploy.arcade.wounds import Wounds, damage_of, unharmed
from deploy.cells import on_mesh
from deploy.chip import chip_named
from deploy.compiled import Compiled
from deploy.cores import CoreGraph
from deploy.engine import LazyEngine
from deploy.engines import Engine
from deploy.players import ChipPlayer, Translated, action_ids, load_chip, make_player
from deploy.realtime import PacedGame
from deploy.replay import Replay
from deploy.replaying import REPLAY, thinker_of
from deploy.spec import StudentSpec, load_spec
from rl.games import EnvSettings, ScalarGame
from rl.loop import Player
from rl.settings import SettingsError, need
from rl.stages import CHIP, INT4, INT8, MODELS, SHIPPED, STUDENT, TEACHER, find, labelled

Keys = Callable[[], frozenset[str]]
STUDENTS = ("spec", "student")  # two names of one player
ALWAYS = ("human", "random")
REPLAYS = 12  # of one's own runs that are offered


@dataclass(frozen=True)
class Stock:
    """Where players come from, for every game of a show."""

    root: str
    env: EnvSettings
    seed: int
    student: str | None = None  # games of a student of several, Pong-Breakout; None: each game's own
    graphs: Mapping[str, str] = field(default_factory=dict)  # a file with the core graph of a game's chip, by game

    def has(self, stage: str, name: str) -> bool:
        """Whether that file was made or ships."""
        return (Path(self.root) / name / stage).exists() or (MODELS / name / SHIPPED[stage]).exists()

    def games(self) -> tuple[str, ...]:
        """Games that have a chip and the student that it came from."""
        folders = [path for room in (Path(self.root), MODELS) if room.is_dir() for path in room.iterdir()]
        names = {path.name for path in folders if path.is_dir() and len(labelled(path.name)) == 1}
        several = labelled(self.student) if self.student and self._both(self.student) else ()
        return tuple(sorted({name for name in names if self._both(name)}.union(several)))

    def _both(self, name: str) -> bool:
        return self.has(STUDENT, name) and self.has(CHIP, name)

    def players(self, game: str) -> tuple[str, ...]:
        """Names of those who can play it."""
        name = self.label(game)
        stages = {"chip": (CHIP, name), "spec": (STUDENT, name), "student": (STUDENT, name),
                  "int8": (INT8, game), "int4": (INT4, game), "teacher": (TEACHER, game)}  # fmt: skip
        made = [player for player, (stage, owner) in stages.items() if self.has(stage, owner)]
        return (*(name for name in made if name != "chip" or self._both(self.label(game))), *ALWAYS)

    def replays(self, game: str) -> Mapping[str, Path]:
        """Replays of a game by name: the one that ships, and the newest of its runs."""
        ships = MODELS / game / REPLAY
        runs = sorted((Path(self.root) / game / "play").glob(f"*/{REPLAY}"), key=lambda path: path.stat().st_mtime)
        own = {path.parent.name: path for path in reversed(runs[-REPLAYS:])}
        return ({"shipped": ships} if ships.exists() else {}) | own

    def label(self, game: str) -> str:
        """The folder of the student that plays a game."""
        return self.student if self.student and game in labelled(self.student) else game

    def need_student(self, game: str) -> None:
        """Raise SettingsError where a student of several was asked for that is not there or not of this game."""
        if self.student is None:
            return
        with redirect_stdout(StringIO()):  # which files are read is said by whoever loads them
            find(STUDENT, self.student, self.root)
        known = labelled(self.student)
        need(game in known, "play.student", self.student, f"one of {game}; this one plays {', '.join(known)}")


@dataclass(frozen=True, eq=False)
class Mesh:
    """Where the C cores of a chip lie and what they belong to."""

    chip: str
    chips: tuple[int, int]  # in x and in y
    size: tuple[int, int]  # cores of one chip in x and in y
    cells: NDArray[np.int32]  # [C, 2]  x, y over all chips
    layer: NDArray[np.int32]  # [C]  index into `layers`
    level: NDArray[np.int32]  # [C]  tick in which a picture reaches the core
    layers: tuple[str, ...]
    ticks: int  # that a picture is held


class Cabinet:
    """One game; makes its players, a chip with any wounds among them."""

    def __init__(self, game: str, stock: Stock, keys: Keys) -> None:
        """Load the game and, where there is one, its chip.

        Raises:
            SettingsError: no such game, or a file that does not fit.
            FormatError: a file that is broken.
        """
        self.name, self._stock, self._keys = game, stock, keys
        self.game: PacedGame = ScalarGame(game, stock.env, stock.seed)
        self.players, self.replays = stock.players(game), stock.replays(game)
        self._model: tuple[StudentSpec, Compiled] | None = None
        self.mesh: Mesh | None = None
        self.meter: EnergyMeter | None = None
        if "chip" in self.players:
            self._take(load_chip(stock.label(game), stock.root, stock.graphs.get(game)))

    @property
    def cores(self) -> int:
        """Of the chip; 0 without one."""
        return 0 if self._model is None else self._model[1].graph.shape[0]

    def sit(self, player: str, wounds: Wounds) -> Sitter:
        """A player by name, ready to play; raises SettingsError where this game has none of that name."""
        if player not in self.players:
            raise SettingsError(f"player of {self.name}: found {player!r}, allowed {', '.join(self.players)}")
        if player == "chip":
            return self._chip(wounds)
        stock = self._stock
        student = stock.student if stock.label(self.name) != self.name else None
        made = make_player(player, self.name, self.game.actions, stock.root, stock.seed, self._keys, student=student)
        return Sitter(player, player, made, self._sees() if player in STUDENTS else None)

    def again(self, replay: Replay) -> tuple[Cabinet, Sitter | None]:
        """This cabinet, with the chip of a replay where one played it, and who thinks along; None where nobody can.

        Of the models those are taken that the replay names, whatever this cabinet plays with. Raises SettingsError
        where the player's files are missing, FormatError or CompileError where they are broken or do not fit.
        """
        own, root = replay.played, self._stock.root
        name = own.student or own.game
        if own.player == "chip" and replay.thinks:
            lent = copy(self)
            lent._take(load_chip(name, root, recorded=own.models))
            return lent, lent._chip(unharmed(lent.cores))
        thinker = thinker_of(replay, self.game, root)
        if thinker is None:
            return self, None
        sees = None
        if own.player in STUDENTS:
            sees = partial(_newest, load_spec(find(STUDENT, name, root, recorded=own.models))[0])
        return self, Sitter(own.player, own.player, thinker, sees)

    def _take(self, model: tuple[StudentSpec, Compiled]) -> None:
        self._model, self.mesh, self.meter = model, mesh_of(model[1]), EnergyMeter(model[1])

    def _chip(self, wounds: Wounds) -> Sitter:
        assert self._model is not None
        spec, compiled = self._model
        seen: list[Witness] = []

        def engine(graph: CoreGraph) -> Engine:
            seen.append(Witness(LazyEngine(graph, damage=damage_of(wounds, graph, self._stock.seed))))
            return seen[0]

        chip = ChipPlayer(spec, compiled, self.name, engine)
        label = "damaged chip" if wounds.any else "chip"
        return Sitter("chip", label, self._known(chip, spec), self._sees(), seen[0])

    def _known(self, chip: ChipPlayer, spec: StudentSpec) -> Player:
        """The chip itself, or translated where the game has more actions than it knows."""
        known, actions = spec.head(self.name).actions, self.game.actions
        if known == actions:
            return chip
        return Translated(chip, action_ids(known, actions, f"chip of {self.name}"), len(actions))

    def _sees(self) -> Sees | None:
        return None if self._model is None else partial(_newest, self._model[0])


def _newest(spec: StudentSpec, stack: NDArray[np.uint8]) -> NDArray[np.bool_]:
    bits: NDArray[np.bool_] = spec.newest(stack[None])[0]
    return bits


def mesh_of(compiled: Compiled) -> Mesh:
    """Cells, layers and levels of a placed chip; cores added after the layers were counted are `repeaters`."""
    chip, stages = chip_named(compiled.usage.chip), compiled.usage.stages
    layer = np.full(compiled.graph.shape[0], len(stages), np.int32)
    for index, stage in enumerate(stages):
        layer[stage.first : stage.first + stage.cores] = index
    names = [stage.name for stage in stages] + ["repeaters"] * bool((layer == len(stages)).any())
    return Mesh(
        chip=chip.name,
        chips=(chip.chips_x, chip.chips_y),
        size=(chip.width, chip.height),
        cells=on_mesh(compiled.place, chip).astype(np.int32),
        layer=layer,
        level=compiled.level,
        layers=tuple(names),
        ticks=compiled.picture_ticks,
    )

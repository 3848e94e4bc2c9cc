"""Players: who may sit at the controls, by name; a player's libraries are loaded only when it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.cells import on_mesh
from deploy.chip import chip_named
from deploy.compiled import Compiled, load_compiled, with_graph
from deploy.cores import CoreGraph
from deploy.engine import LazyEngine
from deploy.engines import Engine
from deploy.human import HumanPlayer
from deploy.integer_spec import IntegerSpec, load_integers
from deploy.realtime import Thinking
from deploy.runner import ChipRunner
from deploy.screens import MESH
from deploy.spec import StudentSpec, load_spec
from deploy.verification import need_same_student
from rl.loop import Player, RandomPlayer
from rl.settings import SettingsError
from rl.stages import CHIP, INT4, INT8, STUDENT, TEACHER, find

PLAYERS = ("chip", "spec", "student", "int8", "int4", "teacher", "human", "random")


class Thinker(Player, Thinking, Protocol):
    """A player that shows its votes and the chip's activity."""


class SpecPlayer:
    """Plays a student's integers as they are defined."""

    def __init__(self, spec: StudentSpec, game: str) -> None:
        self._spec, self._head = spec, spec.head(game)
        self.votes: NDArray[np.int32] | None = None
        self.activity: NDArray[np.int32] | None = None

    def reset(self) -> None:
        self.votes = None

    def act(self, obs: NDArray[np.uint8]) -> int:
        votes = self._spec.run(self._spec.transduce(obs[None]))[0]
        self.votes = votes[self._head.start : self._head.stop]
        return int(self.votes.argmax())


class ChipPlayer:
    """Plays the cores: transduction on the host, all else tick by tick on the emulated chip.

    Every episode begins on a chip that was just switched on, so that it can be repeated whatever was played before. A
    chip with a history is shown an episode's first picture stack whole, and then the newest picture of each.
    """

    def __init__(
        self,
        spec: StudentSpec,
        compiled: Compiled,
        game: str,
        engine: Callable[[CoreGraph], Engine] = LazyEngine,
    ) -> None:
        need_same_student(spec, compiled)
        self._spec, self._head, self._runner = spec, spec.head(game), ChipRunner(compiled, engine)
        self._compiled = compiled
        chip = chip_named(compiled.usage.chip)
        self._cells = tuple(on_mesh(compiled.place, chip).T[::-1])  # row y, column x, over all chips of a board
        self._mesh = (max(MESH, chip.mesh[1]), max(MESH, chip.mesh[0]))
        self.votes: NDArray[np.int32] | None = None
        self.ticks = 0  # run so far
        self._begins = True
        self.act(np.zeros(spec.stack_shape, np.uint8))  # compiles or loads the kernels before the clock runs
        self._begins = True

    @property
    def graph(self) -> str:
        """The digest of the graph that plays, whatever file it came from."""
        return self._compiled.digest

    def reset(self) -> None:
        self.votes, self._begins = None, True
        self._runner.engine.reset()

    @property
    def activity(self) -> NDArray[np.int32] | None:
        """Spikes of each core [64, 64], of a board [256, 256] and more, in the last tick; -1: core not in use."""
        mesh = np.full(self._mesh, -1, np.int32)
        mesh[self._cells] = self._runner.spikes_per_core
        return mesh

    def act(self, obs: NDArray[np.uint8]) -> int:
        sees = self._spec.transduce if self._begins else self._spec.newest
        bits, self._begins = sees(obs[None])[0], False
        votes = self._runner.answer(bits)
        self.ticks += self._runner.ticks_for(bits)
        self.votes = votes[self._head.start : self._head.stop]
        return int(self.votes.argmax())


class IntegerPlayer:
    """Plays a network of 8- or 4-bit integers as it is defined."""

    def __init__(self, spec: IntegerSpec) -> None:
        self._spec = spec
        self.votes: NDArray[np.int32] | None = None  # leads over the worst action, in hundredths of a point
        self.activity: NDArray[np.int32] | None = None  # no chip

    def reset(self) -> None:
        self.votes = None

    def act(self, obs: NDArray[np.uint8]) -> int:
        answers = self._spec.run(obs[None])[0]
        self.votes = (100 * self._spec.value_step * (answers - answers.min())).round().astype(np.int32)
        return int(answers.argmax())


def action_ids(known: tuple[str, ...], actions: tuple[str, ...], who: str) -> NDArray[np.int64]:
    """The game's id of each action that a model knows; raises SettingsError where the game lacks one."""
    lacking = [meaning for meaning in known if meaning not in actions]
    if lacking:
        raise SettingsError(
            f"{who}: knows actions {', '.join(known)}; the game has {', '.join(actions)}, not {', '.join(lacking)}; "
            "use the game and the action set that it was trained on"
        )
    return np.array([actions.index(meaning) for meaning in known])


class Translated:
    """A model that knows fewer actions than the game has: its choice is carried over by meaning."""

    def __init__(self, player: Thinker, ids: NDArray[np.int64], n_actions: int) -> None:
        self._player, self._ids, self._n = player, ids, n_actions

    def reset(self) -> None:
        self._player.reset()

    def act(self, obs: NDArray[np.uint8]) -> int:
        return int(self._ids[self._player.act(obs)])

    @property
    def votes(self) -> NDArray[np.int32] | None:
        if self._player.votes is None:
            return None
        votes = np.zeros(self._n, np.int32)
        votes[self._ids] = self._player.votes
        return votes

    @property
    def activity(self) -> NDArray[np.int32] | None:
        return self._player.activity

    @property
    def graph(self) -> str | None:
        """Of a chip, as of `ChipPlayer`."""
        return getattr(self._player, "graph", None)


def load_chip(
    name: str, root: str, graph: str | None = None, recorded: Mapping[str, str] | None = None
) -> tuple[StudentSpec, Compiled]:
    """The student and chip of a game, or of several by their label, from the run or from what ships; they must match.

    `graph`: a file of any format whose graph the chip takes in place of its own; raises FormatError where it does not
    fit, SettingsError where there is none. `recorded` as of `rl.stages.find`.
    """
    spec, _ = load_spec(find(STUDENT, name, root, recorded=recorded))
    compiled, _ = load_compiled(find(CHIP, name, root, recorded=recorded))
    need_same_student(spec, compiled)
    return spec, compiled if graph is None else _in_foreign_terms(compiled, Path(graph))


def load_own(stage: str, game: str, root: str, recorded: Mapping[str, str] | None = None) -> IntegerSpec:
    """The integers of a game (INT8, INT4), from the run or from what ships; raises SettingsError for another's."""
    path = find(stage, game, root, recorded=recorded)
    spec, _ = load_integers(path)
    if spec.game != game:
        raise SettingsError(f"{path}: integers of {spec.game}, must be of {game}; run make integers GAME={game}")
    return spec


def _in_foreign_terms(compiled: Compiled, path: Path) -> Compiled:
    from deploy.formats import load  # few play from such a file

    if not path.exists():
        raise SettingsError(f"play.chip: {path} does not exist; make it by python -m deploy.convert CHIP {path}")
    print(f"graph: {path}")
    return with_graph(compiled, load(path).graph, str(path))


def make_player(
    name: str,
    game: str,
    actions: tuple[str, ...],
    root: str,
    seed: int,
    keys: Callable[[], frozenset[str]],
    graph: str | None = None,
    student: str | None = None,
    recorded: Mapping[str, str] | None = None,
) -> Player:
    """A player by name; raises before anything is played where its files are missing or of another game.

    `graph` as of `load_chip`, for the chip alone. `student`: the label of the student of several games whose spec or
    chip plays ("Pong-Breakout"); None: the game's own. `recorded` as of `rl.stages.find`.
    """
    if graph is not None and name != "chip":
        raise SettingsError(f"play.chip: a core graph for player {name}, allowed for chip; leave it out")
    if name == "human":
        return HumanPlayer(keys, actions)
    if name == "random":
        return RandomPlayer(len(actions), seed)
    own = student or game
    models: dict[str, Callable[[str, str], tuple[Thinker, tuple[str, ...]]]] = {
        "chip": partial(_chip, own, graph=graph, recorded=recorded),
        "spec": partial(_spec, own, recorded=recorded),
        "student": partial(_spec, own, recorded=recorded),
        "int8": partial(_integers, INT8, recorded=recorded),
        "int4": partial(_integers, INT4, recorded=recorded),
        "teacher": _teacher,
    }
    if name not in models:
        raise SettingsError(f"player: found {name!r}, allowed {', '.join(PLAYERS)}")
    player, known = models[name](game, root)
    ids = action_ids(known, actions, f"{name} of {game}")
    return player if known == actions else Translated(player, ids, len(actions))


def _chip(
    student: str, game: str, root: str, graph: str | None, recorded: Mapping[str, str] | None
) -> tuple[Thinker, tuple[str, ...]]:
    spec, compiled = load_chip(student, root, graph, recorded)
    return ChipPlayer(spec, compiled, game), spec.head(game).actions


def _spec(student: str, game: str, root: str, recorded: Mapping[str, str] | None) -> tuple[Thinker, tuple[str, ...]]:
    spec, _ = load_spec(find(STUDENT, student, root, recorded=recorded))
    return SpecPlayer(spec, game), spec.head(game).actions


def _integers(stage: str, game: str, root: str, recorded: Mapping[str, str] | None) -> tuple[Thinker, tuple[str, ...]]:
    spec = load_own(stage, game, root, recorded)
    return IntegerPlayer(spec), spec.actions


def _teacher(game: str, root: str) -> tuple[Thinker, tuple[str, ...]]:
    import torch  # the others play without it

    from rl.checkpoint import load_policy
    from rl.network import TeacherPlayer

    torch.set_num_threads(1)
    path = find(TEACHER, game, root)
    policy = load_policy(path)
    policy.require(game, policy.actions, str(path))
    return TeacherPlayer(policy.build()), policy.actions

"""What runs a core graph: one interface, a name for each engine."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.cores import CoreGraph, Trace
from deploy.damage import Damage
from deploy.dense import DenseEngine
from deploy.emulator import Bits, EmulationError, Emulator
from deploy.engine import LazyEngine


class Engine(Protocol):
    """What runs a core graph: the plain emulator, which is the definition, or a faster one that equals it."""

    graph: CoreGraph
    tick: int  # ticks done

    def reset(self) -> None: ...
    def step(self, lines: Bits) -> Bits: ...  # [I] -> spikes [C, N]
    def hold(self, lines: Bits, ticks: int) -> None: ...
    def pins(self) -> Bits: ...  # [O] of the last tick
    @property
    def fired(self) -> Bits: ...  # [C, N] of the last tick
    @property
    def potential(self) -> NDArray[np.int32]: ...  # [C, N]
    @property
    def spikes_per_core(self) -> NDArray[np.int32]: ...  # [C] of the last tick


class MakesEngine(Protocol):
    """The constructor that every engine has; a graph that draws random numbers needs a seed."""

    def __call__(self, graph: CoreGraph, *, seed: int | None = None, damage: Damage | None = None) -> Engine: ...


ENGINES: Mapping[str, MakesEngine] = MappingProxyType({"plain": Emulator, "lazy": LazyEngine, "dense": DenseEngine})


def engine_named(name: str) -> MakesEngine:
    """The engine of that name; raises EmulationError listing the known ones."""
    if name not in ENGINES:
        raise EmulationError(f"engine: found {name!r}, allowed {', '.join(ENGINES)}; name one of these")
    return ENGINES[name]


def record(engine: Engine, lines: Bits) -> Trace:
    """Every spike while lines [T, I] enter, one row a tick, from the engine's present state."""
    rows = [np.argwhere(engine.step(row)) for row in lines]
    tick = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    where = np.concatenate([np.zeros((0, 2), np.intp), *rows])
    return Trace(tick.astype(np.int32), where[:, 0].astype(np.int32), where[:, 1].astype(np.int32))

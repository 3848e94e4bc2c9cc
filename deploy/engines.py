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
from deploy.engine import LazyEngine, unpack_words


class Engine(Protocol):
    """What runs a core graph: the plain emulator, which is the definition, or a faster one that equals it."""

    graph: CoreGraph
    tick: int  # ticks done

    def reset(self) -> None: ...
    def step(self, lines: Bits) -> Bits: ...  # [I] -> spikes [C, N]
    def hold(self, lines: Bits, ticks: int) -> None: ...
    def spikes(self, lines: Bits) -> NDArray[np.uint64]: ...  # [T, I] -> every spike [T, C, V], 64 a word
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


AT_ONCE = 1 << 26  # neurons and ticks that are unpacked together

ENGINES: Mapping[str, MakesEngine] = MappingProxyType({"plain": Emulator, "lazy": LazyEngine, "dense": DenseEngine})


def engine_named(name: str) -> MakesEngine:
    """The engine of that name; raises EmulationError listing the known ones."""
    if name not in ENGINES:
        raise EmulationError(f"engine: found {name!r}, allowed {', '.join(ENGINES)}; name one of these")
    return ENGINES[name]


def record(engine: Engine, lines: Bits) -> Trace:
    """Every spike while lines [T, I] enter, one row a tick, from the engine's present state."""
    c, _, n = engine.graph.shape
    ticks = max(1, AT_ONCE // max(1, c * n))
    parts = [np.zeros((0, 3), np.intp)]
    for start in range(0, len(lines), ticks):
        found = engine.spikes(lines[start : start + ticks])
        bits = unpack_words(found.reshape(-1, found.shape[2]), n).reshape(len(found), c, n)
        parts.append(np.argwhere(bits) + np.array([start, 0, 0]))
    tick, core, neuron = np.concatenate(parts).T.astype(np.int32)
    return Trace(tick, core, neuron)

"""What is broken on a chip, as data that every engine honours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.cores import CoreGraph, described, need

WHOLE, SILENT, STUCK = 0, 1, 2  # an axon that works, never carries a spike, carries one in every tick


@dataclass(frozen=True, eq=False, repr=False)
class Damage:
    """Broken parts of C cores of A axons and N neurons.

    A dead neuron never fires and keeps its initial potential. An axon's fault acts where the core reads it, whatever
    its drivers send. A spike is lost on its way, to an axon or to a pin, independently of all others; input spikes are
    not lost. `lost` spikes were sent: they count as fired. Raises ValueError naming the field.
    """

    dead: NDArray[np.bool_]  # [C, N]  neurons
    axon: NDArray[np.uint8]  # [C, A]  WHOLE, SILENT, STUCK
    lost: float  # share of spikes lost, 0..1
    seed: int  # of the losses, see `chance`

    __repr__ = described

    def __post_init__(self) -> None:
        need("damage.dead", self.dead, np.bool_, self.dead.shape, 0, 1)
        need("damage.axon", self.axon, np.uint8, self.axon.shape, WHOLE, STUCK)
        if not 0.0 <= self.lost <= 1.0:
            raise ValueError(f"damage.lost: {self.lost}, allowed 0..1")
        if not 0 <= self.seed < 1 << 32:
            raise ValueError(f"damage.seed: {self.seed}, allowed 0..{(1 << 32) - 1}")


def no_damage(graph: CoreGraph) -> Damage:
    """Everything works."""
    cores, axons, neurons = graph.shape
    return Damage(np.zeros((cores, neurons), bool), np.zeros((cores, axons), np.uint8), 0.0, 0)


def without_dead(graph: CoreGraph, damage: Damage) -> CoreGraph:
    """The graph whose dead neurons do not exist; what they would have begun with is the caller's to keep."""
    return replace(graph, neuron_type=np.where(damage.dead, 0, graph.neuron_type).astype(np.uint16))


def random_damage(
    graph: CoreGraph,
    cores: float = 0.0,
    neurons: float = 0.0,
    silent: float = 0.0,
    stuck: float = 0.0,
    lost: float = 0.0,
    seed: int = 0,
) -> Damage:
    """Each core, neuron and axon broken with the given chance; more of one kind breaks the same ones and others.

    That holds since every part keeps its own number in 0..1 and breaks where that lies below the chance.
    """
    rng = np.random.default_rng(seed)
    c, a, n = graph.shape
    dead = (rng.random((c, 1)) < cores) | (rng.random((c, n)) < neurons)
    quiet, loud = rng.random((c, a)) < silent, rng.random((c, a)) < stuck
    axon: NDArray[Any] = np.where(loud, STUCK, np.where(quiet, SILENT, WHOLE))
    return Damage(dead, axon.astype(np.uint8), lost, seed)

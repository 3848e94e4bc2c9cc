"""What viewers broke on a chip, as a value: dead cores and the share of spikes that get lost."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deploy.arcade.orders import Kill
from deploy.cores import CoreGraph
from deploy.damage import Damage, no_damage


@dataclass(frozen=True, eq=False)
class Wounds:
    """Of a chip of C cores."""

    dead: NDArray[np.bool_]  # [C]
    lost: float = 0.0  # share of spikes, 0..1

    def __post_init__(self) -> None:
        self.dead.flags.writeable = False

    @property
    def any(self) -> bool:
        return self.lost > 0 or bool(self.dead.any())

    def __repr__(self) -> str:
        return f"Wounds({int(self.dead.sum())} of {len(self.dead)} cores dead, {self.lost:g} of spikes lost)"


def unharmed(cores: int) -> Wounds:
    """Everything works."""
    return Wounds(np.zeros(cores, bool))


def killed(wounds: Wounds, cells: NDArray[np.int32], order: Kill) -> Wounds:
    """Wounds with the cores at cells [C, 2] (x, y) inside the rectangle dead too."""
    x, y = cells.T
    inside = (order.left <= x) & (x <= order.right) & (order.top <= y) & (y <= order.bottom)
    return replace(wounds, dead=wounds.dead | inside)


def damage_of(wounds: Wounds, graph: CoreGraph, seed: int) -> Damage:
    """As engines take it: every neuron of a dead core is dead. `seed`: of the losses."""
    whole = no_damage(graph)
    return replace(whole, dead=whole.dead | wounds.dead[:, None], lost=wounds.lost, seed=seed)

"""Delays that a chip can keep: whatever has to wait longer goes through relays on the way."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from deploy.chip import Chip
from deploy.fanout import Draft, FanOut
from deploy.history import LAYER, Targets


def align(fan: FanOut, chip: Chip) -> FanOut:
    """The same spikes in the same ticks with no delay above `chip.max_delay`, at the cost of relay cores.

    A relay waits as long as one neuron can; what has to wait longer takes several. Pins never wait. Relays of spikes
    that wait for a later picture are the chip's history; their levels count from the picture that they carry.
    """
    longest = max(int(targets[:, 2].max(initial=0)) for targets in (fan.entry, *(core.targets for core in fan.cores)))
    if int(fan.level.max(initial=0)) + longest <= chip.max_delay:
        return fan
    relays = _Relays(fan, chip)
    cores = tuple(
        replace(draft, targets=relays.towards(draft.targets, int(fan.level[core])))
        for core, draft in enumerate(fan.cores)
    )
    entry = relays.towards(fan.entry, 0)
    made = relays.drafts()
    level = np.concatenate([fan.level, np.array(relays.levels, np.int32)])
    return replace(fan, cores=(*cores, *made), level=level, entry=entry)


@dataclass
class _Filling:
    """A relay core being filled."""

    number: int
    layer: int
    targets: list[tuple[int, int, int]] = field(default_factory=list)


class _Relays:
    """Relay cores by the layer that they feed and their level. Used only while delays are aligned."""

    def __init__(self, fan: FanOut, chip: Chip) -> None:
        self._fan, self._wait, self._size = fan, chip.max_delay, min(chip.axons, chip.neurons)
        self._open: dict[tuple[int, int], _Filling] = {}
        self._all: list[_Filling] = []
        self.levels: list[int] = []

    def towards(self, targets: Targets, now: int) -> Targets:
        """Targets [n, 3] of neurons that fire in tick `now`, with a relay in place of each that lies too far ahead."""
        inside = targets[:, 0] >= 0
        due = np.where(inside, self._fan.level[np.where(inside, targets[:, 0], 0)], now) + targets[:, 2]
        near = targets.copy()
        for late in np.flatnonzero(due - now > self._wait):
            core, axon, wait = (int(part) for part in targets[late])
            layer = LAYER if wait else self._fan.cores[core].layer
            near[late] = (*self._relay((core, axon, wait), layer, int(due[late]), now + self._wait), 0)
        return near

    def drafts(self) -> list[Draft]:
        return [self._draft(filled) for filled in self._all]

    def _relay(self, target: tuple[int, int, int], layer: int, due: int, now: int) -> tuple[int, int]:
        """The (core, axon) of a relay at level `now` that leads to a target, by way of others where it is far."""
        if due - now > self._wait:
            target = (*self._relay(target, layer, due, now + self._wait), 0)
        filled = self._open.get((layer, now))
        if filled is None or len(filled.targets) == self._size:
            filled = _Filling(len(self._fan.cores) + len(self._all), layer)
            self._open[layer, now] = filled
            self._all.append(filled)
            self.levels.append(now)
        filled.targets.append(target)
        return filled.number, len(filled.targets) - 1

    def _draft(self, filled: _Filling) -> Draft:
        n = len(filled.targets)
        return Draft(filled.layer, 1, (), n, np.arange(n), np.array(filled.targets, np.int64))

"""Delays that a chip can keep: whatever has to wait longer goes through relays on the way."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from deploy.chip import Chip
from deploy.fanout import Draft, FanOut, Targets


def align(fan: FanOut, chip: Chip) -> FanOut:
    """The same spikes in the same ticks with no delay above `chip.max_delay`, at the cost of relay cores.

    A relay waits as long as one neuron can; what has to wait longer takes several. Pins never wait.
    """
    if int(fan.level.max(initial=0)) <= chip.max_delay:
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
    targets: list[tuple[int, int]] = field(default_factory=list)


class _Relays:
    """Relay cores by the layer that they feed and their level. Used only while delays are aligned."""

    def __init__(self, fan: FanOut, chip: Chip) -> None:
        self._fan, self._wait, self._size = fan, chip.max_delay, min(chip.axons, chip.neurons)
        self._open: dict[tuple[int, int], _Filling] = {}
        self._all: list[_Filling] = []
        self.levels: list[int] = []

    def towards(self, targets: Targets, now: int) -> Targets:
        """Targets [n, 2] of neurons that fire in tick `now`, with a relay in place of each that lies too far ahead."""
        inside = targets[:, 0] >= 0
        due = np.where(inside, self._fan.level[np.where(inside, targets[:, 0], 0)], now)
        near = targets.copy()
        for late in np.flatnonzero(due - now > self._wait):
            near[late] = self._relay(int(targets[late, 0]), int(targets[late, 1]), int(due[late]), now + self._wait)
        return near

    def drafts(self) -> list[Draft]:
        return [self._draft(filled) for filled in self._all]

    def _relay(self, core: int, axon: int, due: int, now: int) -> tuple[int, int]:
        """The (core, axon) of a relay at level `now` that leads to a target, by way of others where it is far."""
        layer = self._fan.cores[core].layer
        if due - now > self._wait:
            core, axon = self._relay(core, axon, due, now + self._wait)
        filled = self._open.get((layer, now))
        if filled is None or len(filled.targets) == self._size:
            filled = _Filling(len(self._fan.cores) + len(self._all), layer)
            self._open[layer, now] = filled
            self._all.append(filled)
            self.levels.append(now)
        filled.targets.append((core, axon))
        return filled.number, len(filled.targets) - 1

    def _draft(self, filled: _Filling) -> Draft:
        n = len(filled.targets)
        return Draft(filled.layer, 1, (), n, np.arange(n), np.array(filled.targets, np.int64))

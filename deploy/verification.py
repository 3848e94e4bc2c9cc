"""Spec against cores, layer by layer and vote by vote, on recorded bits. Says where they part first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.chip import CompileError
from deploy.compiled import Compiled
from deploy.cores import CoreGraph
from deploy.emulator import Bits
from deploy.engine import LazyEngine
from deploy.engines import Engine
from deploy.runner import ChipRunner
from deploy.spec import StudentSpec

VOTES = "votes"


@dataclass(frozen=True)
class Difference:
    """Where a chip first says something else than its student: in the lowest layer, then the earliest picture."""

    layer: str  # name of the layer, or "votes"
    picture: int
    channel: int  # votes: the answer
    y: int
    x: int
    expected: int  # spec: spike 0 or 1; votes: their number
    found: int  # cores
    tick: int  # after the picture's injection
    core: int  # votes: -1
    neuron: int  # votes: -1

    def __str__(self) -> str:
        where = f"answer {self.channel}" if self.core < 0 else f"channel {self.channel}, y {self.y}, x {self.x}"
        at = "" if self.core < 0 else f", core {self.core}, neuron {self.neuron}"
        return (
            f"{self.layer}, picture {self.picture}, {where}: the spec says {self.expected}, "
            f"the cores say {self.found} (tick {self.tick}{at})"
        )


def need_same_student(spec: StudentSpec, compiled: Compiled) -> None:
    """Raise CompileError where a chip was compiled from another student."""
    if spec.digest != compiled.spec_digest:
        raise CompileError(
            f"chip: compiled from student {compiled.spec_digest[:12]}, this student is {spec.digest[:12]}; "
            "compile this student"
        )


def first_difference(
    spec: StudentSpec, compiled: Compiled, bits: Bits, engine: Callable[[CoreGraph], Engine] = LazyEngine
) -> Difference | None:
    """Compare every layer's spikes and the votes for bits [B, *bits_shape]; None where all are equal."""
    return Verifier(spec, compiled, engine).first_difference(bits)


def observe(
    compiled: Compiled, bits: Bits, engine: Callable[[CoreGraph], Engine] = LazyEngine
) -> tuple[Bits, NDArray[np.int32]]:
    """(spikes [B, neurons of all layers] as the probes saw them, votes [B, n_answers]), each picture held.

    A neuron that nobody reads, or that never changes, is not on the chip and reads False.
    """
    return _observe(ChipRunner(compiled, engine), bits, np.ones(len(bits), bool))


class Verifier:
    """A chip beside its student, batch after batch: a chip with a history goes on from where the last batch left it."""

    def __init__(
        self, spec: StudentSpec, compiled: Compiled, engine: Callable[[CoreGraph], Engine] = LazyEngine
    ) -> None:
        self._spec, self._compiled, self._runner = spec, compiled, ChipRunner(compiled, engine)

    def first_difference(self, bits: Bits, begins: Bits | None = None) -> Difference | None:
        """As the function of that name. `begins` [B]: pictures that follow none; without it no picture does.

        A picture that follows another enters a chip with a history alone: the chip itself must know those before it.
        """
        spec, compiled = self._spec, self._compiled
        spikes, votes = _observe(self._runner, bits, np.ones(len(bits), bool) if begins is None else begins)
        for index, expected in enumerate(spec.trace(bits)):
            different = _layer_difference(compiled, spec.layers[index].name, index, expected, spikes)
            if different:
                return different
        return _vote_difference(compiled, spec.run(bits), votes)


def _observe(runner: ChipRunner, bits: Bits, begins: Bits) -> tuple[Bits, NDArray[np.int32]]:
    compiled = runner.compiled
    built = compiled.probe_core >= 0
    spikes = np.zeros((len(bits), len(built)), bool)
    votes = np.zeros((len(bits), compiled.n_answers), np.int32)
    for picture, shown in enumerate(bits):
        newest = shown.reshape(-1)[: compiled.graph.n_inputs]
        votes[picture] = runner.answer(shown if begins[picture] else newest)
        # Held to the end, every core still shows what it made of this picture.
        fired = runner.engine.fired
        spikes[picture, built] = fired[compiled.probe_core[built], compiled.probe_neuron[built]]
    return spikes, votes


def _span(compiled: Compiled, index: int) -> slice:
    """The probes of one layer."""
    sizes = [int(np.prod(shape)) for shape in compiled.layer_shapes]
    return slice(sum(sizes[:index]), sum(sizes[: index + 1]))


def _layer_difference(compiled: Compiled, name: str, index: int, expected: Bits, spikes: Bits) -> Difference | None:
    span = _span(compiled, index)
    flat, found = expected.reshape(len(expected), -1), spikes[:, span]
    wrong = np.argwhere((flat != found) & (compiled.probe_core[span] >= 0))
    if not len(wrong):
        return None
    picture, feature = (int(i) for i in wrong[0])
    channel, y, x = (int(i) for i in np.unravel_index(feature, compiled.layer_shapes[index]))
    core, neuron = (int(probe[span][feature]) for probe in (compiled.probe_core, compiled.probe_neuron))
    says = int(flat[picture, feature]), int(found[picture, feature])
    return Difference(name, picture, channel, y, x, *says, int(compiled.level[core]), core, neuron)


def _vote_difference(compiled: Compiled, expected: NDArray[np.int32], votes: NDArray[np.int32]) -> Difference | None:
    wrong = np.argwhere(expected != votes)
    if not len(wrong):
        return None
    picture, answer = (int(i) for i in wrong[0])
    says = int(expected[picture, answer]), int(votes[picture, answer])
    return Difference(VOTES, picture, answer, 0, 0, *says, compiled.latency_ticks - 1, -1, -1)

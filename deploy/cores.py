"""Core graphs: what a chip is loaded with. Records that check themselves; shapes and dtypes beside each field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from deploy.files import digest_of

PIN_ROW = 256  # pins under one target core number, as in IBM's files
FIRST_PIN_CORE = -32  # target cores from here down are output pins
RING = 16  # slots of an axon's spike queue: delays 0 (inputs only) to 15
MOST_PLACES = 200  # of an error


def need(name: str, array: NDArray[Any], kind: type, shape: tuple[int, ...], low: int, high: int) -> None:
    """Check dtype, shape and range of a field and make it read-only; raises ValueError naming the field."""
    need_shape(name, array, kind, shape)
    if array.size and not (low <= array.min() and array.max() <= high):
        raise ValueError(f"{name}: values {array.min()}..{array.max()}, allowed {low}..{high}")


def need_shape(name: str, array: NDArray[Any], kind: type, shape: tuple[int, ...]) -> None:
    """Check dtype and shape of a field and make it read-only; raises ValueError naming the field."""
    if array.dtype != kind:
        raise ValueError(f"{name}: dtype {array.dtype}, must be {np.dtype(kind)}")
    if array.shape != shape:
        raise ValueError(f"{name}: shape {array.shape}, must be {shape}")
    array.flags.writeable = False


def beyond(name: str, array: NDArray[Any], low: int, high: int, axes: tuple[str, ...]) -> Iterator[str]:
    """The values of a field outside low..high: their range first, then each with its place along the named axes."""
    if array.size and not (low <= array.min() and array.max() <= high):
        yield f"{name}: values {array.min()}..{array.max()}, allowed {low}..{high}"
        yield from places(name, (array < low) | (array > high), array, axes, f"{low}..{high}")


def places(name: str, wrong: NDArray[Any], array: NDArray[Any], axes: tuple[str, ...], allowed: str) -> Iterator[str]:
    """One line for each wrong value: "core 3, neuron 7: delay 16, allowed 0..15"."""
    for at in np.argwhere(wrong):
        where = ", ".join(f"{axis} {index}" for axis, index in zip(axes, at, strict=True))
        yield f"{where}: {name} {array[tuple(at)]}, allowed {allowed}"


def refuse_values(problems: Iterator[str]) -> None:
    """Raise one ValueError that lists the problems, and counts those beyond the first 200; nothing where none."""
    listed = list(islice(problems, MOST_PLACES))
    more = sum(1 for _ in problems)
    if listed:
        raise ValueError("\n".join([*listed, *([f"and {more} more"] if more else [])]))


def described(record: Any) -> str:
    """A repr with the shapes of arrays and never their contents."""
    parts = []
    for field in fields(record):
        value = getattr(record, field.name)
        shown = f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else repr(value)
        parts.append(f"{field.name} {shown}")
    return f"{type(record).__name__}({', '.join(parts)})"


@dataclass(frozen=True, eq=False, repr=False)
class NeuronTypes:
    """The parameters of T kinds of neuron over G axon types, in the terms of IBM's model files."""

    weight: NDArray[np.int16]  # [T, G]  added for a spike on an axon of that type
    leak: NDArray[np.int16]  # [T]  added in every tick
    alpha: NDArray[np.int32]  # [T]  fires where V >= alpha
    beta: NDArray[np.int32]  # [T]  magnitude of the negative threshold
    gamma: NDArray[np.uint8]  # [T]  reset: 0 to a value, 1 linear, 2 none
    kappa: NDArray[np.uint8]  # [T]  1: below -beta V becomes -beta
    epsilon: NDArray[np.uint8]  # [T]  1: the leak follows the sign of V
    reset: NDArray[np.int32]  # [T]  R, signed
    initial: NDArray[np.int32]  # [T]  V before the first tick
    random_weight: NDArray[np.uint8]  # [T]  bit g: axon type g is a stochastic synapse
    random_leak: NDArray[np.uint8]  # [T]  1: stochastic leak
    random_mask: NDArray[np.uint8]  # [T]  bits of the random threshold, 0: deterministic

    __repr__ = described

    def __post_init__(self) -> None:
        if self.weight.ndim != 2:
            raise ValueError(f"types.weight: shape {self.weight.shape}, must have 2 axes")
        t, g = self.weight.shape
        need("types.weight", self.weight, np.int16, (t, g), -(1 << 15), (1 << 15) - 1)
        need("types.leak", self.leak, np.int16, (t,), -(1 << 15), (1 << 15) - 1)
        for name, kind in _TYPE_DTYPES.items():
            need_shape(f"types.{name}", getattr(self, name), kind, (t,))
        refuse_values(self._violations())

    def _violations(self) -> Iterator[str]:
        """Every value out of range, with the kind of neuron that has it."""
        large, full = 1 << 30, (1 << self.weight.shape[1]) - 1
        ranges = {"alpha": (0, large), "beta": (0, large), "reset": (-large, large), "initial": (-large, large)}
        ranges |= {"gamma": (0, 2), "kappa": (0, 1), "epsilon": (0, 1), "random_weight": (0, full)}
        ranges |= {"random_leak": (0, 1), "random_mask": (0, 8)}
        for name, (low, high) in ranges.items():
            yield from beyond(f"types.{name}", getattr(self, name), low, high, ("neuron type",))

    @classmethod
    def of(cls, weight: NDArray[Any], leak: NDArray[Any], **others: Any) -> NeuronTypes:
        """Types from weights [T, G] and leaks [T]; whatever is not named is that of a memoryless neuron."""
        defaults = {field.name: 0 for field in fields(cls)} | {"alpha": 1, "kappa": 1} | others
        made: dict[str, NDArray[Any]] = {
            name: np.broadcast_to(np.asarray(value, _TYPE_DTYPES[name]), len(leak)).copy()
            for name, value in defaults.items()
            if name not in ("weight", "leak")
        }
        return cls(np.asarray(weight, np.int16), np.asarray(leak, np.int16), **made)

    @property
    def stochastic(self) -> NDArray[np.bool_]:
        """[T] True where a type draws random numbers."""
        return np.asarray((self.random_weight | self.random_leak | self.random_mask) != 0)

    @property
    def memoryless(self) -> NDArray[np.bool_]:
        """[T] True where V is 0 after every tick, so that a neuron is a function of its axons alone."""
        zero = self.beta | self.gamma | self.reset | self.initial | self.epsilon
        return np.asarray((zero == 0) & (self.alpha == 1) & ~self.stochastic)


_TYPE_DTYPES: Mapping[str, type] = {
    **dict.fromkeys(("alpha", "beta", "reset", "initial"), np.int32),
    **dict.fromkeys(("gamma", "kappa", "epsilon", "random_weight", "random_leak", "random_mask"), np.uint8),
}


@dataclass(frozen=True, eq=False, repr=False)
class CoreGraph:
    """C cores of A axons and N neurons with P distinct crossbars; I input lines, O output pins. No placement.

    `origin` says which rules hold: a compiled graph has one driver an axon and one level a core, an imported one may
    have loops, shared axons and loose ends.
    """

    origin: str  # "compiled" or "imported"
    negative_inclusive: bool  # the negative rule applies at V <= -beta, not only below it
    crossbar: NDArray[np.uint64]  # [P, ceil(A/64), N]  bit b of word k: axon 64k+b reaches the neuron
    crossbar_of: NDArray[np.int32]  # [C]
    axon_type: NDArray[np.uint8]  # [C, A]  0..G-1, UNUSED_AXON
    types: NeuronTypes
    seed: NDArray[np.uint32]  # [C]  of the core's random draws, where neurons draw any
    neuron_type: NDArray[np.uint16]  # [C, N]  1-based, 0: no neuron
    target_core: NDArray[np.int32]  # [C, N]  >= 0 core, NO_TARGET, UNCONNECTED, <= -32 pins
    target_axon: NDArray[np.uint8]  # [C, N]  axon, or place in the row of pins
    delay: NDArray[np.uint8]  # [C, N]  1..15 ticks, 0 where there is no target
    input_start: NDArray[np.int32]  # [I+1]  line i drives entries start[i] up to start[i+1]
    input_core: NDArray[np.int32]  # [E]
    input_axon: NDArray[np.uint8]  # [E]
    input_delay: NDArray[np.uint8]  # [E]  0..15 ticks; 0: integrated in the tick of the step
    output_pin: NDArray[np.int32]  # [O]  pin number = 256 * (-32 - target core) + target axon
    output_answer: NDArray[np.int16]  # [O]  the answer a spike on the pin is a vote for, -1: none

    UNUSED_AXON: ClassVar[int] = 255
    NO_TARGET: ClassVar[int] = -1
    UNCONNECTED: ClassVar[int] = -2

    __repr__ = described

    def __post_init__(self) -> None:
        self._check_shapes()
        # What names a core or a type decides what the rest means, so that alone is told first.
        refuse_values(self._wrong_cores())
        refuse_values(self._wrong_targets())

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cores, axons of a core, neurons of a core."""
        return *self.axon_type.shape, self.neuron_type.shape[1]

    @property
    def n_inputs(self) -> int:
        return len(self.input_start) - 1

    @property
    def n_answers(self) -> int:
        return int(self.output_answer.max(initial=-1)) + 1

    @property
    def digest(self) -> str:
        """sha256 (hex) of everything that decides what the graph computes."""
        return digest_of(graph_arrays(self), graph_facts(self))

    def pins(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """(core, neuron, index into output_pin) of every neuron that drives a pin."""
        core, neuron = np.nonzero(self.target_core <= FIRST_PIN_CORE)
        pin = pin_of(self.target_core[core, neuron], self.target_axon[core, neuron])
        return core, neuron, np.searchsorted(self.output_pin, pin)

    def _check_shapes(self) -> None:
        if self.origin not in ("compiled", "imported"):
            raise ValueError(f"origin: {self.origin!r}, must be 'compiled' or 'imported'")
        if self.axon_type.ndim != 2 or self.crossbar.ndim != 3:
            raise ValueError("axon_type, crossbar: must have 2 and 3 axes")
        (c, a), (p, _, n) = self.axon_type.shape, self.crossbar.shape
        if not (1 <= a <= PIN_ROW and n >= 1):
            raise ValueError(f"axon_type, crossbar: {a} axons and {n} neurons a core, allowed 1..{PIN_ROW} and >= 1")
        need_shape("crossbar", self.crossbar, np.uint64, (p, -(-a // 64), n))
        need_shape("crossbar_of", self.crossbar_of, np.int32, (c,))
        need_shape("axon_type", self.axon_type, np.uint8, (c, a))
        need_shape("seed", self.seed, np.uint32, (c,))
        need_shape("neuron_type", self.neuron_type, np.uint16, (c, n))
        need_shape("target_core", self.target_core, np.int32, (c, n))
        need_shape("target_axon", self.target_axon, np.uint8, (c, n))
        need_shape("delay", self.delay, np.uint8, (c, n))
        self._check_lines()

    def _check_lines(self) -> None:
        entries = len(self.input_core)
        need("input_start", self.input_start, np.int32, (max(len(self.input_start), 1),), 0, entries)
        if self.input_start[0] != 0 or self.input_start[-1] != entries or bool((np.diff(self.input_start) < 0).any()):
            raise ValueError(f"input_start: must rise from 0 to {entries}")
        need_shape("input_core", self.input_core, np.int32, (entries,))
        need_shape("input_axon", self.input_axon, np.uint8, (entries,))
        need_shape("input_delay", self.input_delay, np.uint8, (entries,))
        need("output_pin", self.output_pin, np.int32, (len(self.output_pin),), 0, (1 << 31) - 1)
        need("output_answer", self.output_answer, np.int16, (len(self.output_pin),), -1, (1 << 15) - 1)
        if bool((np.diff(self.output_pin) <= 0).any()):
            raise ValueError("output_pin: must rise, one entry a pin")

    def _wrong_cores(self) -> Iterator[str]:
        """Axon and neuron types, crossbars and target cores that do not exist."""
        g, per_neuron = self.types.weight.shape[1], ("core", "neuron")
        yield from beyond("crossbar_of", self.crossbar_of, 0, len(self.crossbar) - 1, ("core",))
        unknown = (self.axon_type >= g) & (self.axon_type != self.UNUSED_AXON)
        if bool(unknown.any()):
            yield f"axon_type: types beyond {g - 1}, the neurons have {g} weights"
            allowed = f"0..{g - 1} and {self.UNUSED_AXON}"
            yield from places("axon_type", unknown, self.axon_type, ("core", "axon"), allowed)
        yield from beyond("neuron_type", self.neuron_type, 0, len(self.types.leak), per_neuron)
        yield from beyond("target_core", self.target_core, -(1 << 31), self.shape[0] - 1, per_neuron)
        nothing = (self.target_core > FIRST_PIN_CORE) & (self.target_core < self.UNCONNECTED)
        if bool(nothing.any()):
            yield f"target_core: values between {FIRST_PIN_CORE} and {self.UNCONNECTED}, which mean nothing"
            allowed = f"cores, {self.NO_TARGET}, {self.UNCONNECTED} and {FIRST_PIN_CORE} and below"
            yield from places("target_core", nothing, self.target_core, per_neuron, allowed)
        yield from beyond("input_core", self.input_core, 0, self.shape[0] - 1, ("input entry",))

    def _wrong_targets(self) -> Iterator[str]:
        """Axons, delays and pins that do not exist."""
        a, per_neuron, to_core = self.shape[1], ("core", "neuron"), self.target_core >= 0
        yield from beyond("delay", self.delay, 0, RING - 1, per_neuron)
        outside = to_core & (self.target_axon >= a)
        if bool(outside.any()):
            yield f"target_axon: axon {self.target_axon[to_core].max()}, a core has {a}"
            yield from places("target_axon", outside, self.target_axon, per_neuron, f"0..{a - 1}")
        at_once = to_core & (self.delay == 0)
        if bool(at_once.any()):
            yield f"delay: 0 towards a core, allowed 1..{RING - 1}"
            yield from places("delay", at_once, self.delay, per_neuron, f"1..{RING - 1}")
        yield from beyond("input_axon", self.input_axon, 0, a - 1, ("input entry",))
        yield from beyond("input_delay", self.input_delay, 0, RING - 1, ("input entry",))
        used = self.target_core <= FIRST_PIN_CORE
        unknown = np.setdiff1d(pin_of(self.target_core[used], self.target_axon[used]), self.output_pin)
        if unknown.size:
            yield f"output_pin: {unknown.size} pins that neurons drive are missing, first {unknown[0]}"


def pin_of(target_core: NDArray[np.int32], target_axon: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pin numbers of targets outside the chip."""
    return PIN_ROW * (FIRST_PIN_CORE - target_core.astype(np.int64)) + target_axon


def pin_target(pin: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """(target core, target axon) of pin numbers."""
    return (FIRST_PIN_CORE - pin // PIN_ROW).astype(np.int32), (pin % PIN_ROW).astype(np.uint8)


def graph_arrays(graph: CoreGraph) -> dict[str, NDArray[Any]]:
    """Every array of a graph by name, the neuron table's with `type_` before it."""
    own = {f.name: getattr(graph, f.name) for f in fields(graph)}
    arrays = {name: value for name, value in own.items() if isinstance(value, np.ndarray)}
    return arrays | {f"type_{f.name}": getattr(graph.types, f.name) for f in fields(graph.types)}


def graph_facts(graph: CoreGraph) -> dict[str, Any]:
    """What a graph says besides its arrays, as JSON values."""
    return {"origin": graph.origin, "negative_inclusive": graph.negative_inclusive}


def graph_of(facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> CoreGraph:
    """The graph of named arrays; raises KeyError or ValueError naming the field that is missing or wrong."""
    types = NeuronTypes(**{f.name: arrays[f"type_{f.name}"] for f in fields(NeuronTypes)})
    plain = {
        f.name: arrays[f.name] for f in fields(CoreGraph) if f.name not in ("types", "origin", "negative_inclusive")
    }
    return CoreGraph(facts["origin"], bool(facts["negative_inclusive"]), types=types, **plain)


@dataclass(frozen=True, eq=False, repr=False)
class Trace:
    """Every spike of a run, in the order of tick, core, neuron."""

    tick: NDArray[np.int32]  # [S]
    core: NDArray[np.int32]  # [S]
    neuron: NDArray[np.int32]  # [S]

    __repr__ = described

    @property
    def digest(self) -> str:
        """sha256 (hex): equal where two runs spiked alike."""
        return digest_of({"tick": self.tick, "core": self.core, "neuron": self.neuron}, {})

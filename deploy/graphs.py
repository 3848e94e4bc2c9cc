"""Core graphs as files of their own, with whatever a foreign format holds that decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.cores import FIRST_PIN_CORE, CoreGraph, NeuronTypes, graph_arrays, graph_facts, graph_of
from deploy.files import Arrays, FormatError, read_arrays, write_arrays

KIND, VERSION = "spikecade-graph", (1, 0)
Extra = dict[str, Any]

# dtype and axes of every array: C cores, A axons, W words of axons, N neurons, P crossbars, T types, G axon types,
# I + 1 starts, E entries of lines, O pins. What the values may be is the graph's own to say.
_SCHEMA: Mapping[str, tuple[str, str]] = {
    "axon_type": ("u1", "CA"),
    "neuron_type": ("u2", "CN"),
    "crossbar": ("u8", "PWN"),
    "crossbar_of": ("i4", "C"),
    "seed": ("u4", "C"),
    "target_core": ("i4", "CN"),
    "target_axon": ("u1", "CN"),
    "delay": ("u1", "CN"),
    "input_start": ("i4", "I"),
    "input_core": ("i4", "E"),
    "input_axon": ("u1", "E"),
    "input_delay": ("u1", "E"),
    "output_pin": ("i4", "O"),
    "output_answer": ("i2", "O"),
    "type_weight": ("i2", "TG"),
    "type_leak": ("i2", "T"),
    **dict.fromkeys(("type_alpha", "type_beta", "type_reset", "type_initial"), ("i4", "T")),
    **dict.fromkeys(("type_gamma", "type_kappa", "type_epsilon"), ("u1", "T")),
    **dict.fromkeys(("type_random_weight", "type_random_leak", "type_random_mask"), ("u1", "T")),
}


def save_graph(graph: CoreGraph, path: Path, extra: Mapping[str, Any] | None = None) -> str:
    """Write a graph and JSON facts that ride along; returns the digest of the file's contents (hex)."""
    facts = {"graph": graph_facts(graph), "extra": dict(extra or {})}
    return write_arrays(path, KIND, VERSION, facts, graph_arrays(graph))


def load_graph(path: Path) -> tuple[CoreGraph, Extra]:
    """Read (graph, extra); raises FormatError that lists every field which is missing, foreign or of a wrong kind."""
    facts, arrays, _ = read_arrays(path, KIND, VERSION[0])
    problems = [*_fact_problems(facts), *_array_problems(arrays)]
    if not problems:
        try:
            return graph_of(facts["graph"], arrays), facts["extra"]
        except ValueError as cause:
            problems = [str(cause)]
    raise FormatError(f"{path}: {len(problems)} fields are wrong; make the file again\n" + "\n".join(problems))


def _fact_problems(facts: Mapping[str, Any]) -> Iterator[str]:
    graph = facts.get("graph")
    if not isinstance(graph, dict):
        yield "graph: missing or no JSON object"
    else:
        for name, kind in (("origin", str), ("negative_inclusive", bool)):
            if not isinstance(graph.get(name), kind):
                yield f"graph.{name}: {graph.get(name)!r}, must be of type {kind.__name__}"
    if not isinstance(facts.get("extra"), dict):
        yield "extra: missing or no JSON object"


def _array_problems(arrays: Arrays) -> Iterator[str]:
    sizes: dict[str, int] = {}
    for name, (kind, axes) in _SCHEMA.items():
        if name not in arrays:
            yield f"{name}: missing"
            continue
        array = arrays[name]
        if array.dtype != np.dtype(kind):
            yield f"{name}: dtype {array.dtype}, must be {np.dtype(kind)}"
        if array.ndim != len(axes):
            yield f"{name}: {array.ndim} axes, must have {len(axes)}"
            continue
        for axis, size in zip(axes, array.shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                yield f"{name}: shape {list(array.shape)}, axis {axis} is {sizes[axis]} in the fields before"
    for name in sorted(set(arrays) - set(_SCHEMA)):
        yield f"{name}: unknown"


def canonical(graph: CoreGraph) -> CoreGraph:
    """The graph without what decides nothing: equal digests where two graphs are the same but for their dictionaries.

    Crossbars and types in the order of their first use; no synapses of unused axons and absent neurons; nothing said of
    targets that are none; flags that have no effect (a leak of 0 that follows the sign, a floor where the reset is it).
    """
    there, to_core = graph.neuron_type > 0, graph.target_core >= 0
    routed = there & (to_core | (graph.target_core < CoreGraph.UNCONNECTED))
    crossbar, crossbar_of = _used_crossbars(graph)
    types, neuron_type = _used_types(graph)
    return replace(
        graph,
        crossbar=crossbar,
        crossbar_of=crossbar_of,
        types=types,
        neuron_type=neuron_type,
        target_core=np.where(routed, graph.target_core, CoreGraph.NO_TARGET).astype(np.int32),
        target_axon=np.where(routed, graph.target_axon, 0).astype(np.uint8),
        delay=np.where(routed, graph.delay, 0).astype(np.uint8),
    )


def plain_crossbar(graph: CoreGraph, core: int) -> NDArray[np.bool_]:
    """[N, A] synapses of a core that can act: of used axons and of neurons that exist."""
    a = graph.shape[1]
    words = np.ascontiguousarray(graph.crossbar[graph.crossbar_of[core]].T)
    bits = np.unpackbits(words.astype("<u8", copy=False).view(np.uint8), axis=1, count=a, bitorder="little").view(bool)
    bits &= (graph.axon_type[core] < graph.types.weight.shape[1])[None]
    bits &= (graph.neuron_type[core] > 0)[:, None]
    return bits


def pack_crossbar(synapses: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Synapses [N, A] -> words [ceil(A/64), N], as a graph holds them."""
    n, a = synapses.shape
    padded = np.zeros((n, -(-a // 64) * 64), bool)
    padded[:, :a] = synapses
    return np.ascontiguousarray(np.packbits(padded, axis=1, bitorder="little").view("<u8").T.astype(np.uint64))


def _used_crossbars(graph: CoreGraph) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Crossbars that can act [P', W, N], once by content in the order of first use, and which core has which [C]."""
    kept: dict[bytes, int] = {}
    crossbars: list[NDArray[np.uint64]] = []
    crossbar_of = np.zeros(graph.shape[0], np.int32)
    for core in range(graph.shape[0]):
        words = pack_crossbar(plain_crossbar(graph, core))
        crossbar_of[core] = kept.setdefault(words.tobytes(), len(crossbars))
        if len(kept) > len(crossbars):
            crossbars.append(words)
    return np.stack(crossbars) if crossbars else graph.crossbar[:0], crossbar_of


def _used_types(graph: CoreGraph) -> tuple[NeuronTypes, NDArray[np.uint16]]:
    """Types in use, once by content in the order of first use, and which neuron has which [C, N]."""
    t = graph.types
    plain = {f.name: getattr(t, f.name) for f in fields(t)}
    plain["epsilon"] = np.where((t.leak == 0) & (t.random_leak == 0), 0, t.epsilon)
    floored = (t.gamma == 0) & (t.reset == t.beta) & (t.random_mask == 0)
    plain["kappa"] = np.where(floored, 0, t.kappa)
    rows = np.column_stack([column.astype(np.int64) for column in plain.values()])
    number: dict[bytes, int] = {}
    first: list[int] = []
    renamed = np.zeros(len(rows) + 1, np.uint16)
    used, where = np.unique(graph.neuron_type, return_index=True)
    for kind in used[np.argsort(where)]:
        if kind == 0:
            continue
        renamed[kind] = number.setdefault(rows[kind - 1].tobytes(), len(number)) + 1
        if len(number) > len(first):
            first.append(int(kind) - 1)
    columns = {name: column[first].astype(getattr(t, name).dtype) for name, column in plain.items()}
    return NeuronTypes(**columns), renamed[graph.neuron_type]


def free_axons(graph: CoreGraph) -> CoreGraph:
    """The graph with one input line for each axon that reaches a neuron and that no neuron drives, no delay."""
    reached = np.zeros(graph.axon_type.shape, bool)
    for place, axons in enumerate(reached):
        axons |= plain_crossbar(graph, place).any(axis=0)
    inside = (graph.target_core >= 0) & (graph.neuron_type > 0)
    reached[graph.target_core[inside], graph.target_axon[inside]] = False
    core, axon = np.nonzero(reached)
    return with_lines(graph, core, axon)


def with_lines(graph: CoreGraph, core: NDArray[Any], axon: NDArray[Any]) -> CoreGraph:
    """The graph with these axons [I] as its input lines, one each, and no others."""
    return replace(
        graph,
        input_start=np.arange(len(core) + 1, dtype=np.int32),
        input_core=core.astype(np.int32),
        input_axon=axon.astype(np.uint8),
        input_delay=np.zeros(len(core), np.uint8),
    )


def unspeakable(graph: CoreGraph, rules: Iterable[tuple[Any, str]], format_name: str) -> Iterator[str]:
    """Where a graph uses types that another format has no words for ([T] True, and why), or pins without a delay."""
    for wrong, reason in rules:
        for kind in np.flatnonzero(wrong):
            where = neurons_of_type(graph, int(kind))
            if where:
                yield f"{where}: {reason}"
    at_once = (graph.neuron_type > 0) & (graph.target_core <= FIRST_PIN_CORE) & (graph.delay < 1)
    for core, neuron in np.argwhere(at_once):
        yield f"core {core}, neuron {neuron}: delay 0 to a pin, {format_name} has 1..15; set it to 1"


def neurons_of_type(graph: CoreGraph, kind: int, cores: int = 8) -> str:
    """Where the type (from 0) is used, as text: "core 3 neurons 0-12, 40; core 5 ..."; empty where it is not."""
    found = []
    where = np.flatnonzero((graph.neuron_type == kind + 1).any(axis=1))
    for core in where[:cores]:
        neurons = np.flatnonzero(graph.neuron_type[core] == kind + 1)
        found.append(f"core {core} neurons {_spans(neurons)}")
    more = [f"and {len(where) - cores} more cores"] if len(where) > cores else []
    return "; ".join(found + more)


def _spans(numbers: NDArray[np.intp]) -> str:
    """0, 1, 2, 5 -> "0-2, 5"."""
    parts = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)

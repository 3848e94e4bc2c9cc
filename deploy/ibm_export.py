"""Core graphs as IBM's models: as they were where the graph came of one, else with names and numbers of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.chip import refuse
from deploy.cores import CoreGraph, NeuronTypes
from deploy.files import FormatError
from deploy.graphs import canonical, plain_crossbar, unspeakable
from deploy.ibm import NOWHERE, SIGNS, IbmCore, IbmCrossbar, IbmModel, IbmType

SIZE = 256  # axons and neurons of a core in what is written


def graph_model(graph: CoreGraph, extra: Mapping[str, Any] | None = None) -> IbmModel:
    """The model of a graph. Made of `extra["ibm"]` where that is there, else with names and numbers of ours.

    Raises CompileError that lists all neurons which IBM's terms can not express, FormatError where `extra` is of
    another graph. Input lines, answers and unused axons have no place in a model, see `deploy.side`.
    """
    facts = (extra or {}).get("ibm")
    problems = [*_export_problems(graph)]
    refuse(problems)
    if facts is None:
        return _fresh_model(graph)
    try:
        return _model_again(graph, facts)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as cause:
        raise FormatError(f"extra.ibm: does not fit the graph ({cause!r}); convert the IBM model again") from cause


def _model_again(graph: CoreGraph, facts: Mapping[str, Any]) -> IbmModel:
    """The model that `facts` were taken of, everything that decides something from the graph."""
    names, said, (c, _, n) = facts["prototypes"], facts["types"], graph.shape
    if (len(facts["cores"]), len(said)) != (c, len(graph.types.leak)):
        raise ValueError(f"{len(facts['cores'])} cores and {len(said)} types")
    crossbars = [_rows_again(graph, index, facts) for index in range(len(graph.crossbar))]
    numbers = np.array([0, *(k + 1 if facts["records"] else int(t[0][1:], 16) for k, t in enumerate(said))], np.int32)
    targets = _targets(graph, np.array([core["id"] for core in facts["cores"]], np.int32))
    for core, neuron, *target in facts["loose"]:
        targets[core, neuron] = target
    cores = []
    for index, core in enumerate(facts["cores"]):
        crossbar = crossbars[graph.crossbar_of[index]]
        if not np.array_equal(crossbar.axon_type, graph.axon_type[index]):
            raise ValueError(f"core {index} has other axon types than its crossbar")
        inline = names is None or graph.crossbar_of[index] >= len(names)
        made = _core(
            int(core["id"]),
            np.array(core.get("dendrites", range(n)), np.int32),
            numbers[graph.neuron_type[index]],
            targets[index],
            metadata=json.loads(core["metadata"]) if "metadata" in core else None,
            time_scale=int(core["scale"]),
            seed=int(graph.seed[index]),
            prototype="" if inline else crossbar.name,
            crossbar=crossbar if inline else None,
        )
        cores.append(made)
    types = tuple(_type_again(graph.types, k, *kind) for k, kind in enumerate(said))
    declared = None if names is None else tuple(crossbars[: len(names)])
    return IbmModel(json.loads(facts["model"]), declared, types, tuple(cores), bool(facts["records"]))


def _core(
    identity: int, order: NDArray[np.int32], kinds: NDArray[np.int32], targets: NDArray[np.int32], **others: Any
) -> IbmCore:
    """A core whose lists are in that order of its neurons."""
    return IbmCore(
        id=identity,
        dendrites=order,
        types=kinds[order],
        dest_cores=targets[order, 0],
        dest_axons=targets[order, 1],
        dest_delays=targets[order, 2],
        **others,
    )


def _rows_again(graph: CoreGraph, index: int, facts: Mapping[str, Any]) -> IbmCrossbar:
    names = facts["prototypes"] or ()
    name = names[index] if index < len(names) else ""
    users = np.flatnonzero(graph.crossbar_of == index)
    kinds = graph.axon_type[users[0]] if len(users) else np.array(facts["unused_rows"][name], np.uint8)
    n = graph.shape[2]
    words = np.ascontiguousarray(graph.crossbar[index].T).astype("<u8", copy=False).view(np.uint8)
    synapses = np.unpackbits(words, axis=1, count=n, bitorder="little").T
    return IbmCrossbar(name, kinds, np.packbits(synapses, axis=1))


def _type_again(types: NeuronTypes, k: int, name: str, neuron_class: str, signs: list[int]) -> IbmType:
    """Magnitudes from the graph; the sign that a file gives a zero from what was kept of it."""
    values = _values(types, k)
    for sign, magnitude in zip(SIGNS, ("s0", "s1", "s2", "s3", "lambda", "VR"), strict=True):
        said = int(signs[SIGNS.index(sign)])
        values[sign] = said if values[magnitude] == 0 else values[sign]
    return IbmType(str(name), str(neuron_class), values)


def _values(types: NeuronTypes, k: int) -> dict[str, int]:
    """All PARAMETERS of a type; zeros are of sign +1."""
    weight = [int(w) for w in types.weight[k]] + [0] * (4 - types.weight.shape[1])
    leak, reset = int(types.leak[k]), int(types.reset[k])
    made = {f"sigma{g}": _sign(w) for g, w in enumerate(weight)} | {f"s{g}": abs(w) for g, w in enumerate(weight)}
    made |= {f"b{g}": int(types.random_weight[k]) >> g & 1 for g in range(4)}
    made |= {"sigma_lambda": _sign(leak), "lambda": abs(leak), "c_lambda": int(types.random_leak[k])}
    made |= {"epsilon": int(types.epsilon[k]), "alpha": int(types.alpha[k]), "beta": int(types.beta[k])}
    made |= {"TM": int(types.random_mask[k]), "gamma": int(types.gamma[k]), "kappa": int(types.kappa[k])}
    return made | {"sigma_VR": _sign(reset), "VR": abs(reset).bit_length(), "V": int(types.initial[k])}


def _sign(value: int) -> int:
    return -1 if value < 0 else 1


def _targets(graph: CoreGraph, ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """[C, N, 3] destCore, destAxon, destDelay of every neuron, cores by their ids."""
    dest = graph.target_core
    said = np.stack([dest, graph.target_axon.astype(np.int32), graph.delay.astype(np.int32)], axis=-1)
    said[dest >= 0, 0] = ids[dest[dest >= 0]]
    for nowhere, target in NOWHERE.items():
        said[dest == nowhere] = target
    return said


def _fresh_model(graph: CoreGraph) -> IbmModel:
    """With names and numbers of ours, every core filled up to IBM's size."""
    c, _, n = graph.shape
    prototypes, of_core = _prototypes(graph)
    kinds = np.zeros((c, SIZE), np.int32)
    kinds[:, :n] = graph.neuron_type
    targets = np.zeros((c, SIZE, 3), np.int32)
    targets[:, :n] = _targets(graph, np.arange(c, dtype=np.int32))
    targets[kinds == 0] = NOWHERE[CoreGraph.NO_TARGET]
    cores = tuple(
        _core(
            index,
            # Neurons in use first, as IBM's lists have them.
            np.argsort(kinds[index] == 0, kind="stable").astype(np.int32),
            kinds[index],
            targets[index],
            metadata={"coreletClass": graph.origin, "coreletId": 0, "coreNumber": index, "parentCoreletId": [-1]},
            time_scale=0,
            seed=int(graph.seed[index]),
            prototype=prototypes[of_core[index]].name,
            crossbar=None,
        )
        for index in range(c)
    )
    numbers = range(len(graph.types.leak))
    types = tuple(IbmType(f"N{k + 1:08X}", "NeuronGeneral", _values(graph.types, k)) for k in numbers)
    return IbmModel(_header(graph), tuple(prototypes), types, cores, records=False)


def _header(graph: CoreGraph) -> dict[str, Any]:
    return {
        "coreCount": graph.shape[0],
        "neuronclass": "NeuronGeneral",
        "crossbarSize": SIZE,
        "crossbarclass": "CrossbarBinary",
        "buildKey64": canonical(graph).digest,
        "networking": "INTRA",
        "useCrossbarPrototypes": True,
    }


def _prototypes(graph: CoreGraph) -> tuple[list[IbmCrossbar], list[int]]:
    """Crossbars with their axon types, once by content in the order of first use, and which core has which."""
    kept: dict[bytes, int] = {}
    made: list[IbmCrossbar] = []
    of_core = []
    axon_types = graph.types.weight.shape[1]
    for core in range(graph.shape[0]):
        synapses = plain_crossbar(graph, core)
        square = np.zeros((SIZE, SIZE), bool)
        square[: synapses.shape[1], : synapses.shape[0]] = synapses.T
        kinds = np.zeros(SIZE, np.uint8)
        kinds[: graph.shape[1]] = np.where(graph.axon_type[core] < axon_types, graph.axon_type[core], 0)
        rows = np.packbits(square, axis=1)
        of_core.append(kept.setdefault(rows.tobytes() + kinds.tobytes(), len(made)))
        if len(kept) > len(made):
            made.append(IbmCrossbar(f"coreProt{len(made) + 1:07d}", kinds, rows))
    return made, of_core


def _export_problems(graph: CoreGraph) -> Iterator[str]:
    c, a, n = graph.shape
    types = graph.types
    if not c:
        yield "graph: no cores, IBM's models have at least one"
    if a > SIZE or n > SIZE or types.weight.shape[1] > 4:
        yield f"graph: cores of {a}x{n} and {types.weight.shape[1]} axon types, IBM has {SIZE}x{SIZE} and 4"
        return
    reset = np.abs(types.reset.astype(np.int64))
    equal_at_edge = (types.kappa == 1) | (types.gamma == 2) | ((types.gamma == 0) & (types.reset == types.beta))
    equal_at_edge |= (types.gamma == 1) & (types.beta == 0)
    inclusive = graph.negative_inclusive & ~equal_at_edge
    rules = (
        ((np.abs(types.weight) > 255).any(axis=1), "a weight beyond +-255; scale the weights down"),
        (np.abs(types.leak) > 255, "a leak beyond +-255; scale the weights down"),
        ((reset & (reset + 1)) != 0, "a reset value that is not +-(2^k - 1); use one that is"),
        (inclusive, "the negative rule applies at -beta itself, IBM's only below; use another beta"),
    )
    yield from unspeakable(graph, rules, "IBM")

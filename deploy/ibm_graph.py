"""IBM's models as core graphs.

A model knows no input lines: spikes name a core and an axon. A graph made of one gets a line for each axon that reaches
a neuron and that no neuron drives, in the order of core and axon; `deploy.spikes.addressed` gives it others on demand.
What a model says and a graph has no room for goes to `extra["ibm"]`, from which `deploy.ibm_export` makes it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.cores import FIRST_PIN_CORE, PIN_ROW, CoreGraph, NeuronTypes, pin_of
from deploy.files import FormatError
from deploy.graphs import Extra, free_axons, pack_crossbar
from deploy.ibm import NOWHERE, PARAMETERS, SIGNS, IbmCore, IbmCrossbar, IbmModel, IbmType


def model_graph(model: IbmModel, source: Path | str) -> tuple[CoreGraph, Extra]:
    """(graph, extra) of a model; raises FormatError that lists every reason why none can be made."""
    problems = [*_model_problems(model)]
    if problems:
        head = f"{source}: no graph can be made of this model, {len(problems)} reasons"
        raise FormatError("\n".join([head, *problems]))
    crossbars = [*(model.prototypes or ()), *(core.crossbar for core in model.cores if core.crossbar is not None)]
    crossbar_of, lists = _crossbar_of(model), _by_neuron(model)
    kinds, target = _kinds(model, lists["types"]), _targets(model, lists)
    routed = (target >= 0) | (target <= FIRST_PIN_CORE)
    target_axon = np.where(routed, lists["destAxons"], 0).astype(np.uint8)
    to_pin = target <= FIRST_PIN_CORE
    graph = CoreGraph(
        origin="imported",
        negative_inclusive=False,
        crossbar=np.stack([_words(crossbar) for crossbar in crossbars]),
        crossbar_of=crossbar_of,
        axon_type=np.stack([crossbars[index].axon_type for index in crossbar_of]),
        types=_types(model.types),
        seed=np.array([core.seed for core in model.cores], np.uint32),
        neuron_type=kinds,
        target_core=target,
        target_axon=target_axon,
        delay=np.where(routed, lists["destDelays"], 0).astype(np.uint8),
        **no_lines(np.unique(pin_of(target[to_pin], target_axon[to_pin]))),
    )
    return free_axons(graph), {"ibm": _extra(model, _loose(graph, lists))}


def no_lines(pins: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The fields of a graph without input lines whose pins vote for nothing."""
    return {
        "input_start": np.zeros(1, np.int32),
        "input_core": np.zeros(0, np.int32),
        "input_axon": np.zeros(0, np.uint8),
        "input_delay": np.zeros(0, np.uint8),
        "output_pin": pins.astype(np.int32),
        "output_answer": np.full(len(pins), -1, np.int16),
    }


def _model_problems(model: IbmModel) -> Iterator[str]:
    said, cores = int(model.header["coreCount"]), {core.id for core in model.cores}
    if said != len(model.cores):
        yield f"model.coreCount: {said} cores, the file has {len(model.cores)}; take the whole model"
    names, numbers = {p.name for p in model.prototypes or ()}, model.type_numbers
    if len(numbers) < len(model.types):
        yield "neuronTypes: two types of one number; number them apart"
    for core in model.cores:
        if core.time_scale:
            yield f"core {core.id}: timeScaleExponent {core.time_scale}, allowed 0; cores have one clock here"
        if core.crossbar is None and core.prototype not in names:
            yield f"core {core.id}: crossbar {core.prototype!r} is not in the file; take the whole model"
        unknown = sorted(set(core.types[core.types > 0].tolist()) - set(numbers))
        if unknown:
            yield f"core {core.id}: neuron types {unknown[:5]} are not in the file; take the whole model"
        inner = (core.types > 0) & (core.dest_cores >= 0)
        absent = sorted(set(core.dest_cores[inner].tolist()) - cores)
        if absent:
            yield f"core {core.id}: target cores {absent[:5]} are not in the file; take the whole model"
        outside = (core.types > 0) & (core.dest_cores <= FIRST_PIN_CORE) & (core.dest_axons < 0)
        wrong = (inner & ((core.dest_axons < 0) | (core.dest_axons >= model.size))) | outside
        for entry in np.flatnonzero(wrong)[:1]:
            axon, limit = core.dest_axons[entry], model.size if inner[entry] else PIN_ROW
            yield f"core {core.id}, neuron {core.dendrites[entry]}: target axon {axon}, allowed 0..{limit - 1}"
        for entry in np.flatnonzero(inner & (core.dest_delays == 0))[:1]:
            yield f"core {core.id}, neuron {core.dendrites[entry]}: delay 0 towards a core, allowed 1..15"


def _crossbar_of(model: IbmModel) -> NDArray[np.int32]:
    places = {prototype.name: index for index, prototype in enumerate(model.prototypes or ())}
    found, after = [], len(places)
    for core in model.cores:
        found.append(places[core.prototype] if core.crossbar is None else after)
        after += core.crossbar is not None
    return np.array(found, np.int32)


def _by_neuron(model: IbmModel) -> dict[str, NDArray[np.int32]]:
    """[C, N] each list of the cores, by neuron instead of in the order of the file."""
    columns = {"types": "types", "destCores": "dest_cores", "destAxons": "dest_axons", "destDelays": "dest_delays"}
    orders = [np.argsort(core.dendrites) for core in model.cores]
    return {
        key: np.array([getattr(core, name)[order] for core, order in zip(model.cores, orders, strict=True)])
        for key, name in columns.items()
    }


def _kinds(model: IbmModel, numbers: NDArray[np.int32]) -> NDArray[np.uint16]:
    """[C, N] places of types in the model, from 1."""
    known, kind = np.unique(numbers, return_inverse=True)
    places = model.type_numbers
    return np.array([places[int(n)] + 1 if n else 0 for n in known], np.uint16)[kind].reshape(numbers.shape)


def _targets(model: IbmModel, lists: dict[str, NDArray[np.int32]]) -> NDArray[np.int32]:
    """[C, N] as a graph counts cores; what is no neuron has no target."""
    dest, there = lists["destCores"], lists["types"] > 0
    nowhere = (dest == CoreGraph.NO_TARGET) | (dest == CoreGraph.UNCONNECTED)
    target = np.where(there | nowhere, dest, CoreGraph.NO_TARGET).astype(np.int32)
    place = {core.id: index for index, core in enumerate(model.cores)}
    inner = target >= 0
    target[inner] = [place[int(identity)] for identity in target[inner]]
    return target


def _words(crossbar: IbmCrossbar) -> NDArray[np.uint64]:
    n = len(crossbar.axon_type)
    return pack_crossbar(np.unpackbits(crossbar.synapses, axis=1, count=n).view(bool).T)


def _types(types: tuple[IbmType, ...]) -> NeuronTypes:
    column = {key: np.array([kind.values[key] for kind in types], np.int64) for key in PARAMETERS}
    flags = sum((column[f"b{g}"] << g for g in range(4)), np.zeros(len(types), np.int64))
    weight = [column[f"sigma{g}"] * column[f"s{g}"] for g in range(4)]
    return NeuronTypes.of(
        np.stack(weight, axis=1),
        column["sigma_lambda"] * column["lambda"],
        alpha=column["alpha"],
        beta=column["beta"],
        gamma=column["gamma"],
        kappa=column["kappa"],
        epsilon=column["epsilon"],
        reset=column["sigma_VR"] * ((1 << column["VR"]) - 1),
        initial=column["V"],
        random_weight=flags,
        random_leak=column["c_lambda"],
        random_mask=column["TM"],
    )


def _loose(graph: CoreGraph, lists: dict[str, NDArray[np.int32]]) -> list[list[int]]:
    """[core, neuron, destCore, destAxon, delay] where a graph does not keep what the file says of no target."""
    said = np.stack([lists["destCores"], lists["destAxons"], lists["destDelays"]], axis=-1)
    usual = np.zeros_like(said)
    for core, target in NOWHERE.items():
        usual[graph.target_core == core] = target
    routed = (graph.target_core >= 0) | (graph.target_core <= FIRST_PIN_CORE)
    where = np.argwhere((said != usual).any(axis=-1) & ~routed)
    return [[*map(int, at), *map(int, said[tuple(at)])] for at in where]


def _extra(model: IbmModel, loose: list[list[int]]) -> dict[str, Any]:
    used = {core.prototype for core in model.cores}
    return {
        "records": model.records,
        "model": json.dumps(model.header),  # as text, since files of ours sort the keys of facts
        "prototypes": None if model.prototypes is None else [p.name for p in model.prototypes],
        # An axon's type is kept by the cores that have the crossbar; of the others it would be lost.
        "unused_rows": {p.name: p.axon_type.tolist() for p in model.prototypes or () if p.name not in used},
        "types": [[kind.name, kind.neuron_class, [kind.values[sign] for sign in SIGNS]] for kind in model.types],
        "cores": [_core_extra(core, model.size) for core in model.cores],
        "loose": loose,
    }


def _core_extra(core: IbmCore, size: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"id": core.id, "scale": core.time_scale}
    if core.metadata is not None:
        facts["metadata"] = json.dumps(core.metadata)
    if not np.array_equal(core.dendrites, np.arange(size)):
        facts["dendrites"] = core.dendrites.tolist()
    return facts

"""IBM models as text: the layout of IBM's own environment, or that of pytruenorth, to the byte."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deploy.files import write_whole
from deploy.ibm import FLAGS, RECORD, IbmCore, IbmCrossbar, IbmModel, IbmType
from deploy.ibm_ranges import compress, repeat


def write_model(model: IbmModel, path: Path) -> None:
    write_whole(path, model_text(model).encode())


def model_text(model: IbmModel) -> str:
    """The whole file; reading it gives an equal model."""
    return _records_text(model) if model.records else "".join(_lists_text(model))


def _lists_text(model: IbmModel) -> Iterator[str]:
    yield "{\n\t/* General model parameters */\n\t" + _object("model", model.header, 1) + ",\n"
    if model.prototypes is not None:
        yield '\t/* Crossbar type library */\n\t"crossbarTypes":['
        yield ",".join(_prototype_text(prototype) for prototype in model.prototypes)
        yield "\n\t],\n"
    yield '\t/* Neuron type library */\n\t"neuronTypes":[\n'
    yield ",\n".join(f"\t\t{_type_text(kind)}" for kind in model.types) + (" \n" if model.types else "")
    yield "\t]"
    for core in model.cores:
        yield ",\n\t/* Core parameters */\n" + _core_text(core)
    yield "\n}\n"


def _object(key: str, facts: Mapping[str, Any], depth: int) -> str:
    """A key with an object of one line a member."""
    tabs = "\t" * depth
    inner = ",\n".join(f"{tabs}\t{json.dumps(name)}:{_compact(value)}" for name, value in facts.items())
    return f"{json.dumps(key)}:{{\n{inner}\n{tabs}}}"


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _prototype_text(prototype: IbmCrossbar) -> str:
    return f'\n\t\t{{\n\t\t\t"name":{json.dumps(prototype.name)},\n\t\t\t{_crossbar_text(prototype)}\n\t}}'


def _crossbar_text(crossbar: IbmCrossbar) -> str:
    rows = zip(crossbar.axon_type.tolist(), crossbar.synapses, strict=True)
    lines = ",\n".join(f'\t\t\t\t {{"type":"S{kind}","synapses":"{_hex(row)}"}}' for kind, row in rows)
    head = '"crossbar":{\n\t\t\t/* Row parameters */\n\t\t\t"rows":[\n\t\t\t\t/* Parameters */\n'
    return f"{head}{lines} \n\t\t\t]\n\t\t}}"


def _hex(row: Any) -> str:
    return str(row.tobytes().hex(" ").upper())


def _type_text(kind: IbmType) -> str:
    named = {"name": kind.name} | ({"class": kind.neuron_class} if kind.neuron_class else {})
    parts = [f"{json.dumps(key)}:{json.dumps(value)}" for key, value in named.items()]
    # IBM pads flags to five letters.
    parts += [f'"{key}":{_flag(value) if key in FLAGS else value}' for key, value in kind.values.items()]
    return "{" + ",".join(parts) + "}"


def _flag(value: int) -> str:
    return "true " if value else "false"


def _core_text(core: IbmCore) -> str:
    parts = [_object("metadata", core.metadata, 2)] if core.metadata is not None else []
    parts += [f'"id":{core.id}', f'"timeScaleExponent":{core.time_scale}', f'"rngSeed":{core.seed}']
    body = ",\n\t\t".join([*parts, f"/* Core neuron connectivity parameters */\n\t\t{_neurons_text(core)}"])
    return f'\t"core":{{\n\t\t{body},\n\t\t/* Core crossbar parameters */\n\t\t{_own_crossbar(core)}\n\t}}'


def _own_crossbar(core: IbmCore) -> str:
    if core.crossbar is not None:
        return "\t" + _crossbar_text(core.crossbar)
    return _object("crossbar", {"name": core.prototype}, 2)


def _neurons_text(core: IbmCore) -> str:
    """Five lists, each in two parts: the neurons in use, then the rest, which IBM writes as one repeated value."""
    used = int(np.count_nonzero(core.types))
    in_order = bool((core.types[:used] > 0).all())
    lists = {
        "dendrites": core.dendrites,
        "types": core.types,
        "destCores": core.dest_cores,
        "destAxons": core.dest_axons,
        "destDelays": core.dest_delays,
    }
    lines = []
    for key, values in lists.items():
        head, tail = (values[:used].tolist(), values[used:].tolist()) if in_order else (values.tolist(), [])
        same = len(set(tail)) == 1 and key != "dendrites"
        items = compress(head) + (repeat(tail[0], len(tail)) if same else compress(tail))
        lines.append(f'\t\t\t"{key}":{_compact(items)}')
    return '"neurons":{\n\t\t\t/* Parameters */\n' + ",\n".join(lines) + "\n\t\t}"


def _records_text(model: IbmModel) -> str:
    """The dialect of pytruenorth: one JSON object a section, its outer brackets taken off."""
    sections: list[tuple[str, Any]] = [("model", model.header)]
    if model.prototypes is not None:
        crossbars = [{"name": p.name, "crossbar": _rows(p)} for p in model.prototypes]
        sections.append(("crossbarTypes", crossbars))
    sections.append(("neuronTypes", [_type_facts(kind) for kind in model.types]))
    sections += [("core", _core_facts(core, model.types)) for core in model.cores]
    return "{\n" + ",\n".join(json.dumps({key: value}, indent=4)[1:-1].strip("\n") for key, value in sections) + "\n}"


def _rows(crossbar: IbmCrossbar) -> dict[str, Any]:
    rows = zip(crossbar.axon_type.tolist(), crossbar.synapses, strict=True)
    return {"rows": [{"type": f"S{kind}", "synapses": _hex(row)} for kind, row in rows]}


def _type_facts(kind: IbmType) -> dict[str, Any]:
    values = {key: bool(value) if key in FLAGS else value for key, value in kind.values.items()}
    return values | ({"class": kind.neuron_class} if kind.neuron_class else {}) | {"name": kind.name}


def _core_facts(core: IbmCore, types: tuple[IbmType, ...]) -> dict[str, Any]:
    facts: dict[str, Any] = {} if core.metadata is None else {"metadata": core.metadata}
    columns = (core.types, core.dendrites, core.dest_cores, core.dest_axons, core.dest_delays)
    names = ("type", "dendrite", "destCore", "destAxon", "delay")
    assert set(names) == set(RECORD)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    neurons = [dict(zip(names, (types[row[0] - 1].name, *row[1:]), strict=True)) for row in rows]
    crossbar = _rows(core.crossbar) if core.crossbar is not None else {"name": core.prototype}
    facts |= {"id": core.id, "rngSeed": core.seed, "timeScaleExponent": core.time_scale}
    return facts | {"neurons": neurons, "crossbar": crossbar}

"""What foreign formats have no place for, in a file beside theirs, so that a graph comes back whole.

IBM and RANC know neither input lines nor answers nor unused axons, and IBM's cores are always of 256 axons and neurons.
The file belongs to one model file and carries its digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.cores import CoreGraph, NeuronTypes
from deploy.files import FormatError, read_arrays, write_arrays
from deploy.graphs import Extra, free_axons

KIND, VERSION = "spikecade-side", (1, 0)
_LINES = ("input_start", "input_core", "input_axon", "input_delay", "output_pin", "output_answer", "seed")
_PER_NEURON = ("neuron_type", "target_core", "target_axon", "delay")


def side_path(model: Path) -> Path:
    """Where the side file of a model file lies."""
    return model.with_name(model.name + ".side.npz")


def needs_side(graph: CoreGraph, extra: Mapping[str, Any], kind: str) -> bool:
    """Whether a model of that kind ("ibm", "ranc") alone would come back as another graph or lose some of `extra`."""
    inclusive = kind == "ibm" and graph.negative_inclusive
    if set(extra) != {kind} or graph.origin != "imported" or inclusive:
        return True
    plain = free_axons(graph)
    same = all(np.array_equal(getattr(graph, name), getattr(plain, name)) for name in _LINES)
    return not same or bool((graph.output_answer >= 0).any())


def save_side(graph: CoreGraph, extra: Mapping[str, Any], model: Path, content: bytes, kind: str) -> None:
    """Write the side file of a model file of that content."""
    arrays: dict[str, NDArray[Any]] = {name: getattr(graph, name) for name in _LINES}
    arrays["unused_axons"] = np.packbits(graph.axon_type == CoreGraph.UNUSED_AXON, axis=1)
    facts = {
        "model": hashlib.sha256(content).hexdigest(),
        "shape": [*graph.shape, graph.types.weight.shape[1]],
        "origin": graph.origin,
        "negative_inclusive": graph.negative_inclusive,
        "extra": {name: value for name, value in extra.items() if name != kind},
        # IBM's names and numbers are of cores of 256: those that were made up for this file do not outlive it.
        "forgets": [] if kind in extra or kind != "ibm" else [kind],
    }
    write_arrays(side_path(model), KIND, VERSION, facts, arrays)


def with_side(graph: CoreGraph, extra: Extra, model: Path, content: bytes) -> tuple[CoreGraph, Extra]:
    """(graph, extra) as they were before the model was written; unchanged where there is no side file.

    Raises FormatError where the side file is broken or belongs to another model file.
    """
    path = side_path(model)
    if not path.exists():
        return graph, extra
    facts, arrays, _ = read_arrays(path, KIND, VERSION[0])
    if facts.get("model") != hashlib.sha256(content).hexdigest():
        raise FormatError(
            f"{path}: field model is not the digest of {model.name}; remove it, or convert the graph again"
        )
    try:
        kept = {name: value for name, value in extra.items() if name not in facts["forgets"]}
        return _restored(graph, facts, arrays), kept | dict(facts["extra"])
    except (KeyError, TypeError, ValueError, IndexError) as cause:
        raise FormatError(f"{path}: does not fit {model.name} ({cause}); convert the graph again") from cause


def _restored(graph: CoreGraph, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> CoreGraph:
    c, a, n, g = (int(size) for size in facts["shape"])
    if graph.shape[0] != c or a > graph.shape[1] or n > graph.shape[2] or g > graph.types.weight.shape[1]:
        raise ValueError(f"shape {facts['shape']}, the model has {[*graph.shape, graph.types.weight.shape[1]]}")
    columns = {f.name: getattr(graph.types, f.name) for f in fields(NeuronTypes)}
    columns["weight"] = np.ascontiguousarray(graph.types.weight[:, :g])
    unused = np.unpackbits(arrays["unused_axons"], axis=1, count=a).astype(bool)
    return replace(
        graph,
        origin=facts["origin"],
        negative_inclusive=bool(facts["negative_inclusive"]),
        crossbar=np.ascontiguousarray(graph.crossbar[:, : -(-a // 64), :n]),
        axon_type=np.where(unused, CoreGraph.UNUSED_AXON, graph.axon_type[:, :a]).astype(np.uint8),
        types=NeuronTypes(**columns),
        **{name: np.ascontiguousarray(getattr(graph, name)[:, :n]) for name in _PER_NEURON},
        **{name: arrays[name] for name in _LINES},
    )

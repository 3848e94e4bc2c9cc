"""Every kind of file that holds a core graph or spikes: found by content, read and written by kind."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploy import compiled, graphs, raw_spikes, side, spike_files
from deploy.cores import CoreGraph
from deploy.files import FormatError, kind_of, write_whole
from deploy.graphs import Extra
from deploy.ibm_export import graph_model
from deploy.ibm_graph import model_graph
from deploy.ibm_reader import model_of
from deploy.ibm_text import model_text
from deploy.ranc import config_text, input_of, input_text, read_config, read_output
from deploy.ranc_graph import graph_ranc, packet_spikes, ranc_graph
from deploy.spikes import AxonSpikes, LineSpikes, PinSpikes, Spikes
from deploy.strict_json import blank_comments, read_text

GRAPHS = ("graph", "chip", "ibm", "ranc")
SPIKES = ("spikes", "csv", "sfti", "sfri", "sfcp", "ranc_output")
_OURS = {graphs.KIND: "graph", compiled.KIND: "chip", spike_files.KIND: "spikes"}
_SUFFIXES = {
    **{".sfti": "sfti", ".sfti.gz": "sfti", ".sfcp": "sfcp", ".csv": "csv", ".csv.gz": "csv", ".txt": "ranc_output"},
    **{".sfri": "sfri", ".sfro": "sfri", ".sfto": "sfti"},
    **{".ranc.json": "ranc", ".input.json": "ranc", ".json": "ibm", ".npz": "graph"},
}
_FIRST_KEY = re.compile(r'\s*\{\s*"(\w+)"')
_KEYS = {**dict.fromkeys(("model", "crossbarTypes", "neuronTypes", "core"), "ibm")}
_KEYS |= dict.fromkeys(("packets", "output_bus", "cores"), "ranc")


@dataclass(frozen=True, eq=False)
class Loaded:
    """A graph with what its file holds besides: facts that decide nothing, and spikes where the format has any."""

    graph: CoreGraph
    extra: Extra
    spikes: AxonSpikes | None = None


def kind_at(path: Path) -> str:
    """The kind of a file by its content, else by its name: one of GRAPHS or SPIKES; raises FormatError for others."""
    found = _kind_of_content(path) or kind_of_name(path)
    if found is None:
        raise FormatError(f"{path}: no kind of file that is known, allowed {', '.join((*GRAPHS, *SPIKES))}")
    return found


def kind_of_name(path: Path) -> str | None:
    """The kind that the longest known ending of a name stands for."""
    endings = [ending for ending in _SUFFIXES if path.name.lower().endswith(ending)]
    return _SUFFIXES[max(endings, key=len)] if endings else None


def load(path: Path, config: Path | None = None) -> Loaded:
    """Read a graph of any kind; raises FormatError. RANC's config is `config` or lies beside the input file."""
    kind = kind_at(path)
    if kind == "graph":
        return Loaded(*graphs.load_graph(path))
    if kind == "chip":
        return Loaded(compiled.load_compiled(path)[0].graph, {})
    if kind not in ("ibm", "ranc"):
        raise FormatError(f"{path}: a file of spikes ({kind}), must hold a graph: {', '.join(GRAPHS)}")
    content = path.read_bytes()
    text, spikes = read_text(content, path), None
    if kind == "ibm":
        graph, extra = model_graph(model_of(text, path), path)
    else:
        graph, spikes, extra = ranc_graph(input_of(text, read_config(config or config_beside(path)), path), path)
    return Loaded(*side.with_side(graph, extra, path, content), spikes)


def save(loaded: Loaded, path: Path, kind: str, config: Path | None = None) -> list[Path]:
    """Write a graph as "graph", "ibm" or "ranc"; returns the files made. Nothing is written where one can not be."""
    graph, extra = loaded.graph, loaded.extra
    if kind == "graph":
        graphs.save_graph(graph, path, extra)
        return [path]
    files: dict[Path, str] = {}
    if kind == "ibm":
        text = model_text(graph_model(graph, extra))
    elif kind == "ranc":
        model = graph_ranc(graph, extra, loaded.spikes)
        text, files[config or config_beside(path)] = input_text(model), config_text(model.config)
    else:
        raise FormatError(f"{path}: a graph can not be written as {kind}, allowed graph, ibm, ranc; name another --to")
    content = text.encode()
    beside = side.side_path(path)
    if side.needs_side(graph, extra, kind):
        side.save_side(graph, extra, path, content, kind)
        made = [beside]
    else:
        beside.unlink(missing_ok=True)  # of an earlier model of this name
        made = []
    for other, other_text in files.items():
        write_whole(other, other_text.encode())
        made.append(other)
    write_whole(path, content)
    return [path, *made]


def load_spikes(path: Path, config: Path | None = None) -> Spikes:
    """Read spikes of any kind; raises FormatError. Of a RANC input file its packets."""
    kind = kind_at(path)
    readers: Mapping[str, Any] = {
        "spikes": spike_files.load_spikes,
        "csv": spike_files.read_csv,
        "sfti": spike_files.read_sfti,
        "sfri": raw_spikes.read_sfri,
        "sfcp": spike_files.read_sfcp,
        "ranc_output": _read_output,
    }
    if kind == "ranc":
        found = input_of(read_text(path.read_bytes(), path), read_config(config or config_beside(path)), path)
        return packet_spikes(found)
    if kind not in readers:
        raise FormatError(f"{path}: a {kind} file, must hold spikes: {', '.join(SPIKES)} or a RANC input")
    spikes: Spikes = readers[kind](path)
    return spikes


def save_spikes(spikes: Spikes, path: Path, kind: str) -> None:
    """Write spikes as "spikes", "csv" or, by axon, "sfti" and "sfri"."""
    if kind == "sfti" and isinstance(spikes, AxonSpikes):
        spike_files.write_sfti(spikes, path)
    elif kind == "sfri" and isinstance(spikes, AxonSpikes):
        raw_spikes.write_sfri(spikes, path)
    elif kind == "csv":
        spike_files.write_csv(spikes, path)
    elif kind in ("spikes", "graph"):  # what a name that ends in .npz stands for
        spike_files.save_spikes(spikes, path)
    else:
        of = {AxonSpikes: "axons", LineSpikes: "lines", PinSpikes: "pins"}[type(spikes)]
        raise FormatError(
            f"{path}: spikes of {of} can not be written as {kind}; take .npz, .csv, or .sfti or .sfri for axons"
        )


def config_beside(path: Path) -> Path:
    """a.json, a.input.json and a.ranc.json -> a.config.json"""
    stem = path.name.removesuffix(".json").removesuffix(".input").removesuffix(".ranc")
    return path.with_name(f"{stem}.config.json")


def _kind_of_content(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if head[:2] == b"PK":
        return _OURS.get(kind_of(path) or "")
    if head[:2] == b"\x1f\x8b":
        try:
            head = zlib.decompressobj(31).decompress(head, 1 << 16)
        except zlib.error:
            return None
    if b'"SpikeWriter"' in head[:200]:
        return "sfcp" if b'"CONNPIN"' in head[:200] else "sfri" if re.search(rb'"RAW[IO]\d"', head[:200]) else "sfti"
    text = head.decode("utf-8", "replace")
    if text.startswith("tick,"):
        return "csv"
    if re.match("\ufeff[01 ]*\r?\n", text):
        return "ranc_output"
    key = _FIRST_KEY.match(blank_comments(text.removeprefix("\ufeff")))
    return _KEYS.get(key[1]) if key else None


def _read_output(path: Path) -> PinSpikes:
    tick, pin = np.nonzero(read_output(path))
    nobody = np.full(len(tick), -1, np.int32)
    return PinSpikes(tick.astype(np.int32), pin.astype(np.int32), nobody, nobody.copy())

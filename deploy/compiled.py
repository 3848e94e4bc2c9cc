"""A student on a chip, as one record and one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.checks import cell_violations, compiled_violations, graph_violations, refuse_all
from deploy.chip import chip_named
from deploy.cores import CoreGraph, described, graph_arrays, graph_facts, graph_of, need
from deploy.files import FormatError, read_arrays, write_arrays
from deploy.spec import Head
from deploy.usage import StageUse, Usage

KIND, VERSION = "spikecade-chip", (1, 2)  # 1.1: what each reduction saved; 1.2: a history of pictures


@dataclass(frozen=True, eq=False, repr=False)
class Compiled:
    """A placed core graph that equals the student whose digest it carries. C cores, L layers."""

    graph: CoreGraph
    place: NDArray[np.int16]  # [C, 3]  chip, x, y
    level: NDArray[np.int32]  # [C]  ticks from the input to the core; of earlier pictures, from when their bits are due
    probe_core: NDArray[np.int32]  # [neurons of all layers]  layers one after another, (channel, y, x) inside; -1: none
    probe_neuron: NDArray[np.uint8]  # the neuron on that core that stands for it
    layer_shapes: tuple[tuple[int, int, int], ...]  # [L]  channels, height, width
    layer_levels: tuple[int, ...]  # [L]  ticks
    heads: tuple[Head, ...]
    spec_digest: str
    usage: Usage
    mean_hops: tuple[float, float]  # of a spike: before the swaps, and as placed
    seed: int
    history: int = 1  # pictures that the first layer sees
    interval: int = 0  # ticks from one picture to the next; 0: no history, any number from `latency_ticks` on will do

    __repr__ = described

    def __post_init__(self) -> None:
        cores, neurons = self.graph.shape[0], sum(int(np.prod(shape)) for shape in self.layer_shapes)
        need("place", self.place, np.int16, (cores, 3), 0, (1 << 15) - 1)
        need("level", self.level, np.int32, (cores,), 0, 1 << 20)
        need("probe_core", self.probe_core, np.int32, (neurons,), -1, cores - 1)
        need("probe_neuron", self.probe_neuron, np.uint8, (neurons,), 0, self.graph.shape[2] - 1)
        if len(self.layer_levels) != len(self.layer_shapes) or not self.layer_shapes:
            raise ValueError(f"layer_levels: {len(self.layer_levels)} levels for {len(self.layer_shapes)} layers")
        if self.history < 1 or (self.history == 1) != (self.interval == 0) or 0 < self.interval < self.latency_ticks:
            found = f"{self.history} pictures, {self.interval} ticks apart"
            raise ValueError(
                f"history, interval: {found}, must be 1 and 0, or 2 or more and at least the {self.latency_ticks} "
                "ticks to the votes"
            )

    @property
    def latency_ticks(self) -> int:
        """Ticks from a picture's first injection to its votes; they are read after the last of them."""
        return self.layer_levels[-1] + 1

    @property
    def picture_ticks(self) -> int:
        """Ticks that a picture is held before its votes are read: those to the votes, or one interval."""
        return self.interval or self.latency_ticks

    @property
    def n_answers(self) -> int:
        return max(head.stop for head in self.heads)

    @property
    def digest(self) -> str:
        """sha256 (hex) of the graph: equal where the same thing is computed by the same cores."""
        return self.graph.digest


def save_compiled(compiled: Compiled, path: Path, origin: Mapping[str, Any] | None = None) -> str:
    """Write a compiled student, crossbars once by content; returns the digest of the file's contents."""
    own = {name: getattr(compiled, name) for name in ("place", "level", "probe_core", "probe_neuron")}
    facts = {
        "graph": graph_facts(compiled.graph),
        "layer_shapes": [list(shape) for shape in compiled.layer_shapes],
        "layer_levels": list(compiled.layer_levels),
        "heads": [{"game": h.game, "actions": list(h.actions), "start": h.start} for h in compiled.heads],
        "spec_digest": compiled.spec_digest,
        "usage": asdict(compiled.usage),
        "mean_hops": list(compiled.mean_hops),
        "seed": compiled.seed,
        "history": compiled.history,
        "interval_ticks": compiled.interval,
        "origin": dict(origin or {}),
    }
    return write_arrays(path, KIND, VERSION, facts, graph_arrays(compiled.graph) | own)


def load_compiled(path: Path) -> tuple[Compiled, dict[str, Any]]:
    """Read (compiled, origin); raises FormatError for any file that is not a whole and legal compiled student."""
    facts, arrays, _ = read_arrays(path, KIND, VERSION[0])
    try:
        compiled = _compiled(facts, arrays)
        check_compiled(compiled)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as cause:
        reason = f"field {cause} is missing" if isinstance(cause, KeyError) else str(cause)
        raise FormatError(f"{path}: no legal compiled student ({reason}); compile it again") from cause
    return compiled, facts["origin"]


def check_compiled(compiled: Compiled) -> None:
    """Raise CompileError listing every rule of the chip and of compiled graphs that is broken."""
    chip = chip_named(compiled.usage.chip)
    aligned = compiled_violations(compiled.graph, compiled.level, compiled.interval)
    problems = [*graph_violations(compiled.graph, chip), *aligned]
    if compiled.graph.n_answers > compiled.n_answers:
        problems.append(f"output_answer: {compiled.graph.n_answers} answers, the heads have {compiled.n_answers}")
    refuse_all([*problems, *cell_violations(compiled.place, chip)])


def with_graph(chip: Compiled, graph: CoreGraph, name: str) -> Compiled:
    """The compiled student `name` with this graph in place of its own; raises FormatError where it breaks its rules."""
    try:
        made = replace(chip, graph=graph)
        check_compiled(made)
    except ValueError as cause:
        raise FormatError(f"{name}: the graph is not one of this student, name its own chip\n{cause}") from cause
    return made


def _compiled(facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Compiled:
    return Compiled(
        graph=graph_of(facts["graph"], arrays),
        **{name: arrays[name] for name in ("place", "level", "probe_core", "probe_neuron")},
        layer_shapes=tuple((int(c), int(y), int(x)) for c, y, x in facts["layer_shapes"]),
        layer_levels=tuple(int(level) for level in facts["layer_levels"]),
        heads=tuple(Head(h["game"], tuple(h["actions"]), int(h["start"])) for h in facts["heads"]),
        spec_digest=str(facts["spec_digest"]),
        usage=_usage(facts["usage"]),
        mean_hops=(float(facts["mean_hops"][0]), float(facts["mean_hops"][1])),
        seed=int(facts["seed"]),
        history=int(facts.get("history", 1)),  # older files have none
        interval=int(facts.get("interval_ticks", 0)),
    )


def _usage(facts: Mapping[str, Any]) -> Usage:
    total = {str(name): (int(used), int(available)) for name, (used, available) in facts["total"].items()}
    saved = {str(name): int(cores) for name, cores in facts.get("saved", {}).items()}
    return Usage(str(facts["chip"]), total, tuple(StageUse(**stage) for stage in facts["stages"]), saved)

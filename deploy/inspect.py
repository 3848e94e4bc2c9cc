"""make inspect, `python -m deploy.inspect [CHIP_FILE]`: what a chip uses, where it lies, what it does, what that draws.

Prints tables and writes floorplan.png, activity.png, traffic.png and report.json into a folder. CHIP_FILE is a
compiled student, or a graph of its own, which is placed first; without it the chip of a game is looked at.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.activity import Activity, every_neuron, record_held, record_ticks
from deploy.cells import on_mesh
from deploy.chip import CHIPS, Chip, chip_named
from deploy.compiled import load_compiled
from deploy.cores import CoreGraph
from deploy.emulator import Bits
from deploy.energy import STATIC, Energy, energy_text, estimate
from deploy.engines import ENGINES, engine_named, record
from deploy.files import kind_of, write_arrays, write_whole
from deploy.floorplan import Stage, floorplan, heat_map, link_map, write_png
from deploy.flows import flows
from deploy.graphs import KIND as GRAPH_KIND
from deploy.graphs import load_graph
from deploy.place import place
from deploy.spec import load_spec
from deploy.traffic import Traffic, compare, link_loads, port_violations, port_warnings, traffic_text
from deploy.usage import StageUse, usage_text
from rl.command import run
from rl.files import need_place, write_json
from rl.rollouts import Rollouts
from rl.settings import SettingsError, need
from rl.stages import CHIP, STUDENT, find


@dataclass(frozen=True, eq=False)
class Subject:
    """What is looked at: a graph on its chip."""

    name: str
    graph: CoreGraph
    chip: Chip
    place: NDArray[np.int16]  # [C, 3]  chip, x, y
    stages: tuple[StageUse, ...]
    latency_ticks: int  # 0: it has no votes to wait for
    picture_ticks: int  # that a picture is held
    usage: str
    spec_digest: str | None


@dataclass(frozen=True, eq=False)
class Findings:
    """What a run of it showed."""

    activity: Activity
    orders: tuple[Traffic, ...]
    energy: Energy
    warnings: tuple[str, ...]


def open_subject(path: Path, chip: str, seed: int) -> Subject:
    """A compiled student as its file places it, or a graph, placed on the named chip; raises FormatError and others."""
    if kind_of(path) == GRAPH_KIND:
        graph, _ = load_graph(path)
        board = chip_named(chip)
        whole = StageUse("graph", 0, graph.shape[0], 0, 0, 0, 0)
        placed = place(graph, board, seed).place
        return Subject(path.name, graph, board, placed, (whole,), 0, 0, f"{graph!r}\n", None)
    made, _ = load_compiled(path)
    board, text = chip_named(made.usage.chip), usage_text(made.usage)
    name = ", ".join(head.game for head in made.heads)
    ticks = made.latency_ticks, made.picture_ticks
    return Subject(name, made.graph, board, made.place, made.usage.stages, *ticks, text, made.spec_digest)


def random_lines(graph: CoreGraph, count: int, seed: int) -> Bits:
    """Input lines [count, I], half of them set."""
    return np.random.default_rng(seed).random((count, graph.n_inputs)) < 0.5


def recorded_lines(subject: Subject, folder: Path, student: Path, count: int, seed: int) -> Bits:
    """Input lines [count, I] of recorded pictures, through the student's front; in order for one with a history."""
    spec, _ = load_spec(student)
    if spec.digest != subject.spec_digest:
        raise SettingsError(
            f"--student: {student} is {spec.digest[:12]}, the chip was compiled from {str(subject.spec_digest)[:12]}; "
            "name the student of this chip"
        )
    rollouts, rng = Rollouts.open(folder), np.random.default_rng(seed)
    if spec.history > 1:
        first = int(rng.integers(max(len(rollouts.decisions) - count, 0) + 1))
        obs = rollouts.stacks(rollouts.decisions[first : first + count])
    else:
        obs = rollouts.sample(rng, count).obs
    return spec.newest(obs).reshape(len(obs), -1)


def student_of(own: argparse.Namespace) -> Path:
    """The student of the chip that is looked at: of its game, or beside its file."""
    return student_beside(own.chip_file) if own.chip_file else find(STUDENT, own.game, own.root)


def student_beside(chip: Path) -> Path:
    """Where the student of a chip file is kept: beside it, or in its own folder of the run."""
    own = chip.with_name("student.npz")
    return own if own.exists() else chip.parent.parent / "student" / "student.npz"


def count(subject: Subject, lines: Bits, source: str, engine: str) -> Activity:
    """What the lines [B, I] set off: held pictures of a student, one tick a row of any other graph."""
    runs = engine_named(engine)(subject.graph)
    counted = record_held(runs, lines, subject.picture_ticks) if subject.latency_ticks else record_ticks(runs, lines)
    return replace(counted, source=f"{counted.source}, {source}")


def find_out(subject: Subject, activity: Activity, voltage: float, seed: int) -> Findings:
    """What the activity costs, and what the links carry."""
    wait = subject.latency_ticks
    orders = compare(subject.graph, subject.chip, subject.place, activity.spikes, seed)
    energy = estimate(subject.graph, subject.chip, subject.place, subject.stages, wait, activity, voltage)
    said = port_violations(orders[-1], activity) or port_warnings(orders[-1], activity)
    return Findings(activity, orders, energy, tuple(said))


def draw(subject: Subject, found: Findings, out: Path) -> list[Path]:
    """Write the three pictures; returns their paths."""
    xy, chip, placed = on_mesh(subject.place, subject.chip), subject.chip, found.orders[-1]
    per_core = found.activity.spikes.sum(axis=1)
    stages = [Stage(s.name, s.first, s.cores, "fan-out" in s.name) for s in subject.stages]
    loads = link_loads(flows(subject.graph, found.activity.spikes), xy, chip.mesh)
    spiking = [
        found.activity.source,
        f"{per_core.sum():,.0f} spikes a tick in all",
        f"{int((per_core > 0).sum()):,} of {len(per_core):,} cores fire",
    ]
    links = [
        f"busiest link {placed.link.spikes:,.0f} one way,",
        f"{placed.link.where}",
        f"mean {placed.mean_hops:.2f} hops a spike",
        f"row-major order: {found.orders[0].mean_hops:.2f}",
    ]
    if chip.chips_x * chip.chips_y > 1:
        links += [f"busiest port {placed.port.spikes:,.0f} one way,", placed.port.where]
    pictures = {
        "floorplan": floorplan(xy, stages, chip, f"{subject.name}: layers on {chip.name}"),
        "activity": heat_map(per_core, xy, chip, f"{subject.name}: spikes a core", "spikes a tick", spiking),
        "traffic": link_map(loads, chip, f"{subject.name}: links", links),
    }
    for name, image in pictures.items():
        write_whole(out / f"{name}.png", write_png(image))
    return [out / f"{name}.png" for name in pictures]


def save_trace(subject: Subject, lines: Bits, engine: str, path: Path) -> str:
    """Write every spike (tick, core, neuron) while lines [T, I] enter one a tick; returns the digest of the trace."""
    trace = record(engine_named(engine)(subject.graph), lines)
    facts = {"graph": subject.graph.digest, "ticks": len(lines), "engine": engine}
    write_arrays(path, "spikecade-trace", (1, 0), facts, vars(trace))
    return trace.digest


def report(subject: Subject, found: Findings) -> dict[str, Any]:
    """JSON values of everything that was printed."""
    return {
        "what": "inspect",
        "graph": subject.graph.digest,
        "chip": subject.chip.name,
        "source": found.activity.source,
        "placement": [asdict(order) | {"mean_hops": order.mean_hops} for order in found.orders],
        "energy": found.energy.as_dict,
        "warnings": list(found.warnings),
    }


def command(own: argparse.Namespace) -> int:
    need(own.frames >= 1, "--frames", own.frames, "1 or more")
    need(own.trace >= 0, "--trace", own.trace, "0 or more ticks")
    need(own.seed >= 0, "--seed", own.seed, "0 or more")
    path = own.chip_file or find(CHIP, own.game, own.root)
    out = own.out or Path(own.root) / "inspect"
    if not path.exists():
        raise SettingsError(f"{path} does not exist; name a chip or a graph, as make compile leaves it")
    need_place(out)
    subject = open_subject(path, own.chip, own.seed)
    if own.rollouts is None:
        lines, source = random_lines(subject.graph, own.frames, own.seed), "lines at random"
    else:
        student = own.student or student_of(own)
        lines, source = recorded_lines(subject, own.rollouts, student, own.frames, own.seed), str(own.rollouts)
    activity = every_neuron(subject.graph) if own.bound else count(subject, lines, source, own.engine)
    found = find_out(subject, activity, own.voltage, own.seed)
    print(subject.usage, traffic_text(found.orders, found.activity), energy_text(found.energy), sep="\n")
    for warning in found.warnings:
        print(f"warning: {warning}")
    paths = [*draw(subject, found, out), out / "report.json"]
    facts = report(subject, found)
    if own.trace:
        rows = lines[np.arange(own.trace) * len(lines) // own.trace]
        facts["trace"] = save_trace(subject, rows, own.engine, out / "trace.npz")
        paths.append(out / "trace.npz")
        print(f"trace of {own.trace:,} ticks: {facts['trace']}")
    write_json(out / "report.json", facts)
    print("written: " + ", ".join(map(str, paths)))
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.inspect", description=__doc__)
    parser.add_argument("chip_file", type=Path, nargs="?", help="a compiled student, or a graph; else the game's chip")
    parser.add_argument("--game", default="Pong", help="whose chip is looked at where no file is named")
    parser.add_argument("--root", default="runs", help="where a chip of the game's own run would lie")
    parser.add_argument("--out", type=Path, help="folder for pictures and report; else inspect/ under the root")
    parser.add_argument("--frames", type=int, default=20, help="pictures to run; ticks, for a graph")
    parser.add_argument("--rollouts", type=Path, help="dataset folder to take pictures from; else lines at random")
    parser.add_argument("--student", type=Path, help="student of the chip, where it does not lie beside it")
    parser.add_argument("--bound", action="store_true", help="count every neuron in every tick: no run does more")
    parser.add_argument("--trace", type=int, default=0, help="write every spike of so many ticks as well")
    parser.add_argument("--voltage", type=float, default=0.8, help=f"one of {', '.join(map(str, sorted(STATIC)))}")
    parser.add_argument("--chip", default="ns1e", help=f"where to place a graph: {', '.join(sorted(CHIPS))}")
    parser.add_argument("--engine", default="lazy", help=", ".join(ENGINES))
    parser.add_argument("--seed", type=int, default=0)
    own = parser.parse_args(arguments)
    run(lambda: command(own))


if __name__ == "__main__":
    main()

"""Paths of spikes by placement: row-major, random, the curve alone, and swaps; on the published networks and at scale.

Weights are random trinary ones, so that about half of all neurons fire where a trained network lets a quarter; that
changes how much travels, hardly how far. Spikes are measured on held random pictures, except on the synthetic board.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.report import FOLDER, write_report
from deploy.activity import record_held
from deploy.chip import Chip, chip_named
from deploy.compiler import compile_spec
from deploy.cores import CoreGraph, NeuronTypes
from deploy.emulator import pack_words
from deploy.engine import LazyEngine
from deploy.place import place
from deploy.spec import Conv, Head, Shape, StudentSpec, deal_votes
from deploy.traffic import compare
from rl.settings import need

KINDS = {"S": (3, 1, 1), "N": (1, 1, 0), "P": (2, 2, 0), "P4": (4, 2, 1)}  # kernel, stride, padding
# Layers as Esser et al. 2016 and Amir et al. 2017 print them: type-features(groups), the transduction layer first.
CIFAR = (
    "S-16(1) P4-252(2) N-256(2) P-256(8) S-512(32) N-512(4) N-512(4) N-512(4) P-512(16) S-1024(64) N-1024(8)"
    " P-1024(32) N-1024(8) N-1024(8) N-2040(8)"
)
FOUR_CHIPS = (
    "S-64(1) S-256(8) N-256(2) P-256(8) S-512(32) N-512(4) P-512(16) S-1024(64) N-1024(8) P-1024(32) S-2048(128)"
    " N-2048(16) N-2048(16) N-2048(16) N-4096(16)"
)
Layer = tuple[int, int, int, int, int]  # features, kernel, stride, padding, groups
GESTURE: tuple[Layer, ...] = (
    (6, 1, 1, 0, 1),  # its input is binary: a front that passes it on
    (12, 3, 2, 0, 1),
    (252, 4, 2, 0, 2),
    (256, 1, 1, 0, 2),
    (256, 2, 2, 0, 8),
    (512, 3, 1, 1, 32),
    *[(512, 1, 1, 0, 4)] * 3,
    (512, 2, 2, 0, 16),
    (1024, 3, 1, 1, 64),
    *[(1024, 1, 1, 0, 8)] * 2,
    (1024, 2, 2, 0, 32),
    (1024, 1, 1, 0, 8),
    (968, 1, 1, 0, 8),
    (2640, 1, 1, 0, 8),
)


@dataclass(frozen=True)
class Network:
    """A published network and where it runs."""

    name: str
    layers: tuple[Layer, ...]  # the front first
    picture: Shape
    answers: int
    chip: str


def layers_of(text: str) -> tuple[Layer, ...]:
    """Layers as the papers print them."""
    made = []
    for word in text.split():
        kind, _, rest = word.partition("-")
        features, groups = rest.rstrip(")").split("(")
        made.append((int(features), *KINDS[kind], int(groups)))
    return tuple(made)


NETWORKS = {
    "cifar": Network("CIFAR10 on one chip", layers_of(CIFAR), (3, 32, 32), 10, "ns1e"),
    "gesture": Network("gestures on one chip", GESTURE, (6, 64, 64), 11, "ns1e"),
    "four": Network("CIFAR10 on four chips", layers_of(FOUR_CHIPS), (3, 32, 32), 10, "ns16e"),
}


def random_network(network: Network, seed: int = 0) -> StudentSpec:
    """The network with random trinary weights and leaks about zero."""
    rng = np.random.default_rng(seed)
    convs: list[Conv] = []
    for index, (features, kernel, stride, padding, groups) in enumerate(network.layers):
        shape = convs[-1].out_shape if convs else network.picture
        size = (features, shape[0] // groups, kernel, kernel)
        weights = rng.choice((-1, 0, 1), size, p=(0.3, 0.4, 0.3)).astype(np.int8)
        spread = max(int(0.5 * np.sqrt(weights[0].size)), 2)
        leak = rng.integers(-spread, spread + 1, features).astype(np.int32)
        order = rng.permutation(shape[0]).astype(np.int32)
        convs.append(Conv(f"layer{index}", weights, leak, order, groups, stride, padding, shape))
    head = Head("Classes", tuple(f"C{i}" for i in range(network.answers)), 0)
    vote = deal_votes(int(np.prod(convs[-1].out_shape)), network.answers)
    return StudentSpec(convs[0], tuple(convs[1:]), vote, (head,))


def layered_graph(cores: int, layer: int, seed: int = 0) -> CoreGraph:
    """Cores of 256 neurons that fill a board, in layers: each sends to 8 cores about its own place in the next.

    One crossbar and one neuron type for all: it is there to be placed, not to be run.
    """
    rng, side = np.random.default_rng(seed), int(layer**0.5)
    number = np.arange(cores)
    x, y = number % layer % side, number % layer // side
    near = rng.integers(-2, 3, (2, cores, 8))
    to = (np.clip(y[:, None] + near[0], 0, side - 1) * side + np.clip(x[:, None] + near[1], 0, side - 1)).astype(
        np.int64
    )
    target = (number // layer + 1)[:, None] * layer + to
    target_core = np.where(target < cores, target, CoreGraph.NO_TARGET).repeat(32, axis=1).astype(np.int32)
    shape = (cores, 256)
    return CoreGraph(
        origin="imported",
        negative_inclusive=False,
        crossbar=np.ascontiguousarray(pack_words(np.eye(256, dtype=bool)).T[None]),
        crossbar_of=np.zeros(cores, np.int32),
        axon_type=np.zeros(shape, np.uint8),
        types=NeuronTypes.of(np.ones((1, 4), np.int16), np.zeros(1, np.int16)),
        seed=np.zeros(cores, np.uint32),
        neuron_type=np.ones(shape, np.uint16),
        target_core=target_core,
        target_axon=np.broadcast_to(np.arange(256, dtype=np.uint8), shape).copy(),
        delay=(target_core >= 0).astype(np.uint8),
        input_start=np.zeros(1, np.int32),
        input_core=np.zeros(0, np.int32),
        input_axon=np.zeros(0, np.uint8),
        input_delay=np.zeros(0, np.uint8),
        output_pin=np.zeros(0, np.int32),
        output_answer=np.zeros(0, np.int16),
    )


def measure(name: str, graph: CoreGraph, chip: Chip, spikes: NDArray[np.float64] | None, seed: int) -> dict[str, Any]:
    """One row of the report: costs of all orders, and what placing took."""
    start = time.perf_counter()
    placed = place(graph, chip, seed, spikes)
    wall_s = time.perf_counter() - start
    orders = compare(graph, chip, placed.place, spikes, seed)
    rows, ours = orders[0], orders[-1]
    row: dict[str, Any] = {"what": name, "chip": chip.name, "cores": graph.shape[0], "wall_s": wall_s}
    row["measured"] = spikes is not None
    row |= {f"mean_hops {order.order}": order.mean_hops for order in orders}
    row |= {f"crossings {order.order}": order.crossings for order in orders}
    row |= {f"worst_port {order.order}": order.port.spikes for order in orders}
    saved = {name: 1.0 - getattr(ours, name) / max(getattr(rows, name), 1e-300) for name in ("cost", "hops")}
    return row | {f"saved_{name}": share if rows.spikes else 0.0 for name, share in saved.items()}


def network_row(network: Network, pictures: int, seed: int) -> dict[str, Any]:
    """Compile, measure spikes, place by them."""
    chip = chip_named(network.chip)
    made = compile_spec(random_network(network), chip, seed)
    lines = np.random.default_rng(seed).random((pictures, made.graph.n_inputs)) < 0.5
    found = record_held(LazyEngine(made.graph), lines, made.latency_ticks)
    return measure(network.name, made.graph, chip, found.spikes, seed)


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Rows of `measure` for people."""
    shown = Table(
        *("what", "cores", "row-major", "random", "curve", "placed", "cost saved", "port: rows", "port: placed", "s"),
        title="mean hops of a spike; cost (hops + 400 a chip edge) against row-major; spikes a tick, worst port",
    )
    for row in rows:
        hops = (f"{row[f'mean_hops {order}']:.2f}" for order in ("row-major", "random", "curve", "as placed"))
        ports = (f"{row[f'worst_port {order}']:,.0f}" for order in ("row-major", "as placed"))
        shown.add_row(
            row["what"], f"{row['cores']:,}", *hops, f"{row['saved_cost']:.1%}", *ports, f"{row['wall_s']:.1f}"
        )
    return shown


def named(networks: str) -> list[str]:
    """Keys of NETWORKS out of a list with commas; raises SettingsError listing the known ones."""
    names = [name for name in networks.split(",") if name and name != "none"]
    for name in names:
        need(name in NETWORKS, "--networks", name, f"{', '.join(NETWORKS)}, or none")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", default="cifar,gesture", help=f"of {', '.join(NETWORKS)}, or none")
    parser.add_argument("--pictures", type=int, default=10)
    parser.add_argument("--board-cores", type=int, default=0, help="also place so many synthetic cores on ns16e")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    own = parser.parse_args()
    rows = [network_row(NETWORKS[name], own.pictures, own.seed) for name in named(own.networks)]
    if own.board_cores:
        graph = layered_graph(own.board_cores, layer=min(4096, own.board_cores))
        rows.append(measure("synthetic layers", graph, chip_named("ns16e"), None, own.seed))
    path = write_report("placement", rows, {"pictures": own.pictures, "seed": own.seed}, own.folder)
    Console(width=150).print(table(rows), f"written to {path}")


if __name__ == "__main__":
    main()

"""How long a compilation takes and what memory: a full chip, a board of sixteen; the files that come of it.

The networks are of published shapes with random weights: the one-chip network of Esser et al. 2016, and their four-chip
network with four times the features and groups in every layer, as they made the eight-chip one by doubling. Everything
is timed: mapping, checks, placement. Each network takes a process of its own, whose peak memory is told.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.graphs import busy_graph
from bench.placement import CIFAR, FOUR_CHIPS, Layer, Network, layers_of, random_network
from bench.report import FOLDER, write_report
from deploy.chip import chip_named
from deploy.compiled import load_compiled, save_compiled
from deploy.compiler import compile_spec
from deploy.graphs import load_graph, save_graph
from deploy.reduce import REDUCTIONS

TIMES = 4  # the features and groups of the four-chip network


def widened(layers: Sequence[Layer], times: int) -> tuple[Layer, ...]:
    """So many times the features; the groups behind the first layer as well, so that a neuron has as many inputs."""
    first, *rest = layers
    wide = [
        (features * times, kernel, stride, padding, groups * times)
        for features, kernel, stride, padding, groups in rest
    ]
    return (first[0] * times, *first[1:]), *wide


NETWORKS = {
    "chip": Network("full chip: CIFAR10 on one chip", layers_of(CIFAR), (3, 32, 32), 10, "ns1e"),
    "board": Network("board: sixteen chips", widened(layers_of(FOUR_CHIPS), TIMES), (3, 32, 32), 10, "ns16e"),
}


def measure(network: Network, reduced: bool, seed: int = 0) -> dict[str, Any]:
    """Seconds and peak memory of one compilation, of its file and of reading that, in this process."""
    spec, chip = random_network(network, seed), chip_named(network.chip)
    start, before = time.perf_counter(), time.process_time()
    made = compile_spec(spec, chip, seed, reduce=REDUCTIONS if reduced else ())
    compile_s, processor_s = time.perf_counter() - start, time.process_time() - before
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chip.npz"
        save_compiled(made, path, {})
        start = time.perf_counter()
        load_compiled(path)
        load_s, size = time.perf_counter() - start, path.stat().st_size
    return {
        "what": network.name,
        "chip": network.chip,
        "reduced": reduced,
        "cores": made.graph.shape[0],
        "ticks": made.latency_ticks,
        "mean_hops": made.mean_hops[1],
        "compile_s": compile_s,
        "processor_s": processor_s,
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "file_bytes": size,
        "load_s": load_s,
    }


def nothing_shared(cores: int = 4096, tries: int = 3) -> dict[str, Any]:
    """A full chip whose cores have nothing in common: bytes of its file, seconds to read and check it, at best."""
    graph, seconds = busy_graph(cores, distinct=cores), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.npz"
        save_graph(graph, path)
        for _ in range(tries):
            start = time.perf_counter()
            load_graph(path)
            seconds.append(time.perf_counter() - start)
        return {"cores": cores, "file_bytes": path.stat().st_size, "load_s": min(seconds)}


def apart(network: Network, reduced: bool) -> dict[str, Any]:
    """`measure` in a process of its own, so that its peak memory is nobody else's."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (network, reduced))


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """The rows for people."""
    shown = Table("what", "reduced", "cores", "ticks", "compile, s", "processor, s", "peak, GB", "file, MB", "load, s")
    for r in rows:
        seconds = f"{r['compile_s']:.1f}", f"{r['processor_s']:.1f}"
        sizes = f"{r['peak_bytes'] / 1e9:.2f}", f"{r['file_bytes'] / 1e6:.1f}", f"{r['load_s']:.2f}"
        how = "yes" if r["reduced"] else "no"
        shown.add_row(r["what"], how, f"{r['cores']:,}", str(r["ticks"]), *seconds, *sizes)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--reduced", choices=("no", "yes", "both"), default="both")
    parser.add_argument("--cores", type=int, default=4096, help="of the graph that shares nothing")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    own = parser.parse_args()
    ways = {"no": (False,), "yes": (True,), "both": (False, True)}[own.reduced]
    rows = [apart(NETWORKS[name], reduced) for name in own.networks for reduced in ways]
    whole = nothing_shared(own.cores)
    path = write_report("compiling", rows, {"nothing_shared": whole}, own.folder)
    size, load_s = whole["file_bytes"] / 1e6, whole["load_s"]
    said = f"{whole['cores']:,} cores with nothing in common: {size:.1f} MB, {load_s:.2f} s to load"
    Console().print(table(rows), said, f"written to {path}", sep="\n")


if __name__ == "__main__":
    main()

"""Seconds it takes to open a dataset and to draw a batch from it, beside the limit: copying as many bytes."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.codec import play
from bench.report import write_report
from rl.manifest import Facts, versions
from rl.recording import RolloutWriter
from rl.rollouts import Rollouts

BATCH, REPEATS = 256, 200


def record(folder: Path, decisions: int) -> None:
    """Random Pong into a dataset folder."""
    env = {"repeat_action_probability": 0.25, "frameskip": 4}
    facts = Facts(
        "Pong", "", ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE"), env, {}, 1.0, (3,), versions()
    )
    with RolloutWriter(folder, facts) as writer:
        for episode in play("pong", decisions, seed=3):
            writer.add_episode(episode)


def timed(name: str, work: Callable[[], object]) -> dict[str, Any]:
    """Median and 99th percentile of one call, after one that does not count."""
    work()
    spent_ms = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        spent_ms.append(1000 * (time.perf_counter() - began))
    return {"what": name, "p50_ms": float(np.median(spent_ms)), "p99_ms": float(np.percentile(spent_ms, 99))}


def draws(data: Rollouts, where: str) -> list[dict[str, Any]]:
    """Batches of random stacks with labels, into new memory and into a buffer that is used again."""
    rng, out = np.random.default_rng(1), np.empty((BATCH, 4, 84, 84), np.uint8)
    return [
        timed(f"{where}: batch of {BATCH}", lambda: data.sample(rng, BATCH)),
        timed(f"{where}: batch of {BATCH}, buffer used again", lambda: data.sample(rng, BATCH, out=out)),
    ]


def measured(folder: Path, scratch: Path) -> tuple[Rollouts, list[dict[str, Any]], dict[str, Any]]:
    """The dataset with its frames in a file, draws from memory (where it fits) and from the file, and other facts."""
    began = time.perf_counter()
    data = Rollouts.open(folder, scratch)
    open_s = time.perf_counter() - began
    rows = draws(data, "file in the system's cache")
    facts = {
        "rows": len(data.frames),
        "open_s": open_s,
        "open_rows_per_s": len(data.frames) / open_s,
        # What the process itself holds: frames in a file are the system's cache and can be given back at any time.
        "own_mb": _own_bytes() / 1e6,
        "frames_mb": data.frames.nbytes / 1e6,
        "bytes_per_decision": data.manifest.bytes / data.manifest.decisions,
    }
    try:
        rows += draws(Rollouts.open(folder), "memory")
    except MemoryError as short:
        print(short)
    return data, rows, facts


def _own_bytes() -> int:
    """Memory of this process that is no file's; Linux only, 0 elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=32768, help="of random Pong")
    parser.add_argument("--folder", type=Path, help="a recorded dataset instead")
    own = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = own.folder or Path(scratch) / "set"
        if own.folder is None:
            record(folder, own.decisions)
        data, rows, facts = measured(folder, Path(scratch))
    source, target = np.ones((2, BATCH, 4, 84, 84), np.uint8)
    rows.append(timed(f"limit: copy of {source.nbytes / 1e6:.1f} MB in one piece", lambda: np.copyto(target, source)))
    path = write_report("dataset", rows, {"dataset": facts})
    held = f"{facts['own_mb']:,.0f} MB of its own memory, {facts['frames_mb']:,.0f} MB of frames in a file"
    title = f"{data}: opened in {facts['open_s']:.2f} s, {held}"
    table = Table("what", "p50 ms", "p99 ms", title=title)
    for row in rows:
        table.add_row(row["what"], f"{row['p50_ms']:.3f}", f"{row['p99_ms']:.3f}")
    Console().print(table, f"written to {path}")


if __name__ == "__main__":
    main()

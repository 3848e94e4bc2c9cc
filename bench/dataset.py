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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=32768)
    decisions = parser.parse_args().decisions
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "set"
        record(folder, decisions)
        began = time.perf_counter()
        data = Rollouts.open(folder)
        open_s = time.perf_counter() - began
        rows = draws(data, "memory") + draws(Rollouts.open(folder, Path(scratch)), "spilled")
    source, target = np.ones((2, BATCH, 4, 84, 84), np.uint8)
    rows.append(timed(f"limit: copy of {source.nbytes / 1e6:.1f} MB in one piece", lambda: np.copyto(target, source)))
    speed = {"rows": len(data.frames), "open_s": open_s, "open_rows_per_s": len(data.frames) / open_s}
    extra = {"open": speed, "bytes_per_decision": data.manifest.bytes / data.manifest.decisions}
    path = write_report("dataset", rows, extra)
    table = Table("what", "p50 ms", "p99 ms", title=f"{data}: opened in {open_s:.2f} s")
    for row in rows:
        table.add_row(row["what"], f"{row['p50_ms']:.3f}", f"{row['p99_ms']:.3f}")
    Console().print(table, f"written to {path}")


if __name__ == "__main__":
    main()

"""A command's jobs in a sweep (`-m`): each below a root of its own; one that fails does not take the others along.

Hydra's launchers take an exception for a job that failed, go on, and raise the first one once all are over; an exit
would end the sweep.
"""

from __future__ import annotations

import hashlib
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from rl.command import HALT, JobError, run

SHARED = ("game", "root", "smoke")  # keys that need no folder: a game has one of its own below any root
LONGEST = 120  # characters of a folder's name


def run_or_sweep(tree: DictConfig, main: Callable[[DictConfig], int]) -> None:
    """Run a command on its config and exit with its status; in a sweep raise JobError where that is not 0."""
    facts = HydraConfig.get()
    if facts.mode != RunMode.MULTIRUN:
        run(lambda: main(tree))
    tree.root = str(Path(facts.sweep.dir) / folder(facts.overrides.task))
    if status := job_status(lambda: main(tree)):
        print(f"job {' '.join(facts.overrides.task)}: status {status}", file=sys.stderr)
        raise JobError(status)


def folder(words: Sequence[str]) -> str:
    """The name of a job's root: what the command line sets, in any order, as any command can take it as root=..."""
    own = sorted(word for word in words if word.lstrip("+~").partition("=")[0] not in SHARED)
    said = "_".join(own).replace("=", "-")
    name = re.sub(r"[^\w.+-]+", "-", said)
    if name == said and len(name) <= LONGEST:
        return name
    return f"{name[:LONGEST]}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"


def job_status(main: Callable[[], int]) -> int:
    """What a process of the command's own would exit with; after a signal, its number for all that wait behind."""
    if HALT.signal:
        return 128 + HALT.signal
    try:
        with handlers_kept():
            run(main)
    except SystemExit as end:
        status = int(end.code or 0)
    if status > 128:
        HALT.signal = status - 128
    return status


@contextmanager
def handlers_kept() -> Iterator[None]:
    """The next job, and what waits for it, meet the handlers that this one met."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""One training run in several processes, as torchrun starts them: each plays and samples, gradients are averaged.

Settings are a process's own: two of 32 envs and batches of 128 act as one of 64 and batches of 256. Frames are counted
over all of them, so that schedules and budgets mean the same. The first process evaluates, logs and writes the policy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as processes

# Its functions take the group that is there when it is imported as their default, for good. Optimizers import it: after
# the start of a group its threads would outlive the group, and now and then abort the interpreter as it ends.
import torch.distributed.nn.functional
from torch import Tensor

T = TypeVar("T")
PATIENCE = timedelta(hours=6)  # the others wait while the first one evaluates; a process that dies is noticed at once


@dataclass(frozen=True)
class Team:
    """The processes of a run, seen by one of them; this one is alone."""

    rank: int = 0
    size: int = 1

    def folder(self, run: Path) -> Path:
        """Where this process keeps what is its own: the run's folder, or one below it."""
        return run / f"rank-{self.rank}" if self.rank else run

    def average(self, gradients: Sequence[Tensor]) -> None:
        """Every gradient becomes, in place, its mean over the processes."""

    def total(self, own: Tensor) -> Tensor:
        """The sum over the processes of a tensor that each of them has; it may be the one given."""
        return own

    def agree(self, *said: int) -> tuple[int, ...]:
        """For each number the highest that any process said."""
        return said

    def share(self, value: T) -> T:
        """What the first process holds."""
        return value


class Several(Team):
    """Processes that torch.distributed joins."""

    def average(self, gradients: Sequence[Tensor]) -> None:
        # One message: so many small ones would cost as many round trips.
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        processes.all_reduce(flat)
        parts = torch.split(flat.div_(self.size), [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def total(self, own: Tensor) -> Tensor:
        processes.all_reduce(own)
        return own

    def agree(self, *said: int) -> tuple[int, ...]:
        words = torch.tensor(said)
        processes.all_reduce(words, processes.ReduceOp.MAX)
        return tuple(words.tolist())

    def share(self, value: T) -> T:
        held: list[Any] = [value]
        processes.broadcast_object_list(held)
        return held[0]  # type: ignore[no-any-return]


ALONE = Team()


@contextmanager
def team() -> Iterator[Team]:
    """The processes that torchrun began this one with; alone where it did not.

    Where one of them dies, the calls of the others raise RuntimeError.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["WORLD_SIZE"] == "1":
        yield ALONE
        return
    processes.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield Several(processes.get_rank(), processes.get_world_size())
        processes.barrier()  # none leaves while another still waits for its messages
    finally:
        processes.destroy_process_group()

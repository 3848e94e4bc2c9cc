"""Where a teacher learns: the processor, or a GPU where there is one."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

from rl.settings import SettingsError, need

DEVICES = ("auto", "cpu", "cuda")
RESERVE = 1 << 30  # bytes of a GPU left for nets, batches and its own libraries
EAGER_CALLS = 3  # before a function is recorded: libraries choose their kernels in the first ones
CPU = torch.device("cpu")


def device_named(name: str) -> torch.device:
    """The device of a setting; raises SettingsError for a GPU that is not there."""
    need(name in DEVICES, "teacher.device", name, ", ".join(DEVICES))
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return CPU
    if not torch.cuda.is_available():
        raise SettingsError("teacher.device: found 'cuda', no GPU that torch can use is here; try teacher.device=auto")
    return torch.device("cuda")


def processors() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def need_device_memory(device: torch.device, wanted: int, what: str, advice: str) -> None:
    """Raise MemoryError unless a GPU has `wanted` bytes with a reserve; the processor's memory is asked elsewhere."""
    if device.type != "cuda":
        return
    free, _ = torch.cuda.mem_get_info(device)
    if wanted + RESERVE > free:
        left = max(free - RESERVE, 0)
        raise MemoryError(
            f"{what}: needs {wanted / 1e9:.2f} GB of the GPU's memory, {left / 1e9:.2f} GB are available; {advice}"
        )


class Recorded:
    """A function of no arguments that reads and writes the same tensors in every call.

    On a GPU it is recorded as one graph after its first calls, so that its hundred small kernels cost one launch; every
    call does its work once, the recorded ones and those before. Elsewhere it is just called.
    """

    def __init__(self, function: Callable[[], None], device: torch.device) -> None:
        self._function, self._device, self._calls = function, device, 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        self._calls += 1
        if self._device.type != "cuda" or self._calls <= EAGER_CALLS:
            self._function()
            return
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            torch.cuda.synchronize(self._device)
            with torch.cuda.graph(self._graph):  # records, does not run
                self._function()
        self._graph.replay()

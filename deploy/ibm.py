"""IBM's model files (NSCS 1.4.0) and those of pytruenorth as records that keep every field.

Read by `deploy.ibm_reader`, written by `deploy.ibm_text`, made into graphs by `deploy.ibm_graph`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.cores import FIRST_PIN_CORE, PIN_ROW, described

FLAGS = ("b0", "b1", "b2", "b3", "c_lambda", "epsilon", "kappa")
# Every parameter of a neuron type in the order of IBM's files, with what it may be.
PARAMETERS: Mapping[str, tuple[int, int]] = {
    **{f"sigma{g}": (-1, 1) for g in range(4)},
    **{f"s{g}": (0, 255) for g in range(4)},
    **{f"b{g}": (0, 1) for g in range(4)},
    "sigma_lambda": (-1, 1),
    "lambda": (0, 255),
    "c_lambda": (0, 1),
    "epsilon": (0, 1),
    "alpha": (0, 1 << 30),
    "beta": (0, 1 << 30),
    "TM": (0, 8),
    "gamma": (0, 2),
    "kappa": (0, 1),
    "sigma_VR": (-1, 1),
    "VR": (0, 30),
    "V": (-(1 << 30), 1 << 30),
}
LISTS = ("dendrites", "types", "destCores", "destAxons", "destDelays")
RECORD = {"dendrite": "dendrites", "type": "types", "destCore": "destCores", "destAxon": "destAxons"}
RECORD |= {"delay": "destDelays"}
SIGNS = ("sigma0", "sigma1", "sigma2", "sigma3", "sigma_lambda", "sigma_VR")
# Where there is no target: destination core -> core, axon and delay as IBM's environment writes them.
NOWHERE = {-1: (-1, 0, 1), -2: (-2, -1, 1)}
LOWEST_CORE = FIRST_PIN_CORE - (1 << 31) // PIN_ROW + 1  # pins are numbered in 31 bits


@dataclass(frozen=True, eq=False, repr=False)
class IbmCrossbar:
    """A crossbar of N axons and N neurons; a row is an axon."""

    name: str  # "" where a core holds it inline
    axon_type: NDArray[np.uint8]  # [N]  0..3
    synapses: NDArray[np.uint8]  # [N, ceil(N/8)]  most significant bit first: 0x20 in byte 0 is neuron 2

    __repr__ = described


@dataclass(frozen=True)
class IbmType:
    """A kind of neuron, in the order and by the names of the file."""

    name: str
    neuron_class: str  # "" where the file says none
    values: Mapping[str, int]  # all of PARAMETERS, flags as 0 and 1


@dataclass(frozen=True, eq=False, repr=False)
class IbmCore:
    """One core; its lists are in the order of the file and `dendrites` says which neuron each entry is."""

    id: int
    metadata: Mapping[str, Any] | None
    time_scale: int
    seed: int
    dendrites: NDArray[np.int32]  # [N]  a permutation
    types: NDArray[np.int32]  # [N]  number of a type, 0: no neuron
    dest_cores: NDArray[np.int32]  # [N]  >= 0 id of a core, -1 unused, -2 unconnected, <= -32 pins
    dest_axons: NDArray[np.int32]  # [N]  -1..255
    dest_delays: NDArray[np.int32]  # [N]  0..15 ticks
    prototype: str  # name of its crossbar, "" where `crossbar` is inline
    crossbar: IbmCrossbar | None

    __repr__ = described


@dataclass(frozen=True, eq=False, repr=False)
class IbmModel:
    """A model file. `records` tells pytruenorth's dialect, in which neurons are objects and types go by free names."""

    header: Mapping[str, Any]
    prototypes: tuple[IbmCrossbar, ...] | None  # None: the file has no such section
    types: tuple[IbmType, ...]
    cores: tuple[IbmCore, ...]
    records: bool

    def __repr__(self) -> str:
        return f"IbmModel({len(self.cores)} cores, {len(self.types)} types, crossbars of {self.size})"

    @property
    def size(self) -> int:
        """Axons of a core, and neurons."""
        return int(self.header["crossbarSize"])

    @property
    def type_numbers(self) -> dict[int, int]:
        """Number of a type in the cores' lists -> its place in `types`."""
        if self.records:
            return {place + 1: place for place in range(len(self.types))}
        return {int(kind.name[1:], 16): place for place, kind in enumerate(self.types)}

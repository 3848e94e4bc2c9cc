"""What a chip of cores allows, as data. Nothing here knows a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


class CompileError(ValueError):
    """A network that does not fit a chip, or a graph that breaks its rules; all violations at once."""


@dataclass(frozen=True)
class Chip:
    """Limits of one kind of chip, or of a board of equal chips tiled edge to edge.

    Ranges follow Akopyan et al. 2015 and IBM's model files; `max_potential` is the clamp of IBM's neuron reference.
    """

    name: str
    width: int  # cores of one chip in x
    height: int  # cores of one chip in y
    axons: int  # of a core
    neurons: int  # of a core
    chips_x: int = 1
    chips_y: int = 1
    axon_types: int = 4
    max_delay: int = 15  # ticks from a spike to its integration
    max_weight: int = 255  # magnitude, as are the three below
    max_leak: int = 255
    max_threshold: int = 262_143
    max_potential: int = 393_215
    reach: int = 255  # cores a packet can travel in x and in y

    @property
    def mesh(self) -> tuple[int, int]:
        """Cores in x and in y over all chips."""
        return self.width * self.chips_x, self.height * self.chips_y

    @property
    def cores(self) -> int:
        return self.mesh[0] * self.mesh[1]

    @property
    def inputs(self) -> int:
        """Trinary inputs of a core: each takes two axons."""
        return self.axons // 2


CHIPS: Mapping[str, Chip] = MappingProxyType(
    {
        "ns1e": Chip("ns1e", width=64, height=64, axons=256, neurons=256),
        "ns16e": Chip("ns16e", width=64, height=64, axons=256, neurons=256, chips_x=4, chips_y=4),
        # How its four boards are joined is not published: taken as two by two of them, edge to edge.
        "ns16e4": Chip("ns16e4", width=64, height=64, axons=256, neurons=256, chips_x=8, chips_y=8),
        # For tests: no two sizes equal, and more than one 64-bit word of axons.
        "tiny": Chip("tiny", width=11, height=13, axons=70, neurons=44, axon_types=3, max_delay=9),
        # A board of four, each too small for the students of the tests.
        "tiny4": Chip(
            "tiny4", width=7, height=9, axons=70, neurons=44, chips_x=2, chips_y=2, axon_types=3, max_delay=9
        ),
    }
)


def chip_named(name: str) -> Chip:
    """The chip of that name; raises CompileError listing the known ones."""
    if name not in CHIPS:
        raise CompileError(f"chip: found {name!r}, allowed {', '.join(sorted(CHIPS))}; name one of these")
    return CHIPS[name]


def refuse(problems: list[str]) -> None:
    """Raise one CompileError that lists every violation; do nothing where there is none."""
    if problems:
        raise CompileError(f"{len(problems)} limits broken\n" + "\n".join(problems))

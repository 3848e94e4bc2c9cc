"""What a placed graph would draw on silicon: estimates, with the voltage and the constants beside them.

An affine model: cores in use leak, events cost. Variant A prices synaptic events alone and contains the hops of the
networks it was fitted on; variant B splits hops and chip edges off. Total chip power over events (26 pJ) prices
nothing here: it contains the leakage, which is nearly all that a player's chip draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.activity import Activity
from deploy.cells import on_mesh
from deploy.chip import Chip
from deploy.cores import CoreGraph
from deploy.usage import StageUse

TICKS_A_SECOND = 1000.0
DECISION_RATES = (30.0, 60.0)  # a second


class EnergyError(ValueError):
    """An operating point for which nothing is published."""


@dataclass(frozen=True)
class Constant:
    """One number that the estimate rests on."""

    name: str
    value: float
    unit: str
    voltage: float
    certainty: str


STATIC: Mapping[float, Constant] = MappingProxyType(
    {
        1.0: Constant("static power a core", 35.2e-6, "W", 1.0, "derived from Amir et al. 2017, 35.0-36.1 uW"),
        0.8: Constant("static power a core", 15.7e-6, "W", 0.8, "derived from Akopyan et al. 2015, 64.43 mW / 4,096"),
        0.7: Constant("static power a core", 10.25e-6, "W", 0.7, "derived from Akopyan et al. 2015, 42 mW / 4,096"),
    }
)
FIT_VOLTAGE = 0.8
EVENT_A = Constant("synaptic event, variant A", 2.297e-12, "J", 0.8, "second-hand (mimarsinan), fit redone")
EVENT_B = Constant("synaptic event, variant B", 1.48e-12, "J", 0.8, "derived: variant A without its hops")
HOP = Constant("hop of a spike, variant B", 2.45e-12, "J", 0.8, "second-hand (Merolla et al. 2014), taken to 0.8 V")
CROSSING = Constant("chip edge, variant B", 832e-12, "J", 1.8, "second-hand (Merolla et al. 2014), 26 pJ/bit x 32")
SCALING = "active energy is scaled by (V / 0.8)^2, which is assumed: no voltage model is published"


@dataclass(frozen=True)
class Counts:
    """A mean tick."""

    events: float  # pairs of an active axon and a set synapse
    spikes: float  # of neurons, those to output pins with them
    hops: float  # of spikes between cores
    crossings: float  # of chip edges

    def active_a(self, voltage: float) -> float:
        """J, variant A."""
        return EVENT_A.value * self.events * (voltage / FIT_VOLTAGE) ** 2

    def active_b(self, voltage: float) -> float:
        """J, variant B."""
        inside = EVENT_B.value * self.events + HOP.value * self.hops
        return inside * (voltage / FIT_VOLTAGE) ** 2 + CROSSING.value * self.crossings


@dataclass(frozen=True)
class Part:
    """A stage of the graph, or all of it."""

    name: str
    cores: int
    counts: Counts  # a tick
    static_w: float
    active_a_w: float  # at the tick rate
    active_b_w: float


@dataclass(frozen=True)
class Rate:
    """So many decisions a second, each picture held until the next one; J a decision."""

    decisions_a_second: float
    ticks_a_decision: float
    static_j: float
    active_a_j: float
    active_b_j: float


@dataclass(frozen=True)
class Energy:
    """An estimate of power and energy; W and J as the names say, per second and per decision apart."""

    source: str  # of the counts
    measured: bool
    voltage: float
    ticks_a_second: float
    constants: tuple[Constant, ...]
    scaling: str
    whole: Part
    parts: tuple[Part, ...]
    chips: int  # with a core in use
    static_all_cores_w: float  # of these chips with every core counted
    total_a_w: float
    total_b_w: float
    pass_a_j: float  # active, of one picture through all levels once
    pass_b_j: float
    rates: tuple[Rate, ...]
    latency_ticks: int  # to the votes, without the work of the host; 0: the graph has none
    latency_s: float

    @property
    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def estimate(
    graph: CoreGraph,
    chip: Chip,
    place: NDArray[np.int16],
    stages: Sequence[StageUse],
    latency_ticks: int,
    activity: Activity,
    voltage: float = 1.0,
    ticks_a_second: float = TICKS_A_SECOND,
) -> Energy:
    """Energy of C placed cores [C, 3] with this activity; raises EnergyError where no static power is published."""
    per_core = core_counts(graph, chip, place, activity)
    named = [(stage.name, slice(stage.first, stage.first + stage.cores)) for stage in stages]
    behind = max((cores.stop for _, cores in named), default=0)
    if behind < len(per_core):  # what was added after the stages were counted
        named.append(("repeaters", slice(behind, len(per_core))))
    parts = tuple(part(name, per_core[cores], voltage, ticks_a_second) for name, cores in named)
    whole = part("all", per_core, voltage, ticks_a_second)
    chips = len(np.unique(place[:, 0]))
    return Energy(
        source=activity.source,
        measured=activity.measured,
        voltage=voltage,
        ticks_a_second=ticks_a_second,
        constants=(STATIC[voltage], EVENT_A, EVENT_B, HOP, CROSSING),
        scaling=SCALING,
        whole=whole,
        parts=parts,
        chips=chips,
        static_all_cores_w=static_power(chips * chip.width * chip.height, voltage),
        total_a_w=whole.static_w + whole.active_a_w,
        total_b_w=whole.static_w + whole.active_b_w,
        pass_a_j=whole.counts.active_a(voltage),
        pass_b_j=whole.counts.active_b(voltage),
        rates=tuple(_rate(whole, rate, ticks_a_second) for rate in DECISION_RATES),
        latency_ticks=latency_ticks,
        latency_s=latency_ticks / ticks_a_second,
    )


def static_power(cores: int, voltage: float) -> float:
    """W of cores in use, as IBM counts it: leakage scaled by the share of cores used; raises EnergyError."""
    if voltage not in STATIC:
        known = ", ".join(f"{v:g}" for v in sorted(STATIC))
        raise EnergyError(f"voltage: found {voltage:g}, allowed {known}; static power is published at these alone")
    return cores * STATIC[voltage].value


def core_counts(graph: CoreGraph, chip: Chip, place: NDArray[np.int16], activity: Activity) -> NDArray[np.float64]:
    """[C, 4] events, spikes, hops and crossings of a mean tick; a spike's path counts for the core that sends it."""
    xy, target = on_mesh(place, chip), np.maximum(graph.target_core, 0)
    on = xy // np.array([chip.width, chip.height], np.int32)
    inside = activity.spikes * (graph.target_core >= 0)
    paths = [
        sum(np.abs(cell[target, axis] - cell[:, axis, None]) for axis in (0, 1)).astype(np.int32)  # type: ignore[union-attr]
        for cell in (xy, on)
    ]
    spikes = activity.spikes.sum(axis=1)
    return np.stack([activity.events, spikes, *((inside * path).sum(axis=1) for path in paths)], axis=1)


def part(name: str, per_core: NDArray[np.float64], voltage: float, ticks_a_second: float = TICKS_A_SECOND) -> Part:
    """Power of some cores, whose counts [cores, 4] are those of `core_counts`."""
    counts = Counts(*(float(total) for total in per_core.sum(axis=0)))
    return Part(
        name,
        len(per_core),
        counts,
        static_power(len(per_core), voltage),
        counts.active_a(voltage) * ticks_a_second,
        counts.active_b(voltage) * ticks_a_second,
    )


def _rate(whole: Part, decisions: float, ticks_a_second: float) -> Rate:
    powers = (whole.static_w, whole.active_a_w, whole.active_b_w)
    return Rate(decisions, ticks_a_second / decisions, *(power / decisions for power in powers))


def energy_text(e: Energy) -> str:
    """Tables for people: where the power goes, what a decision takes, and what that rests on."""
    votes = e.latency_ticks > 0
    lines = [
        f"energy, an estimate at {e.voltage:g} V and {e.ticks_a_second:,.0f} ticks a second; counts: {e.source}",
        f"{'':24} {'cores':>7} {'events':>12} {'spikes':>9} {'hops':>10} {'edges':>8}"
        f" {'static mW':>10} {'A mW':>9} {'B mW':>9}",
    ]
    for p in (*e.parts, e.whole):
        c = p.counts
        lines.append(
            f"{p.name:24} {p.cores:7,} {c.events:12,.0f} {c.spikes:9,.0f} {c.hops:10,.0f} {c.crossings:8,.0f}"
            f" {1e3 * p.static_w:10.3f} {1e3 * p.active_a_w:9.3f} {1e3 * p.active_b_w:9.3f}"
        )
    lines += [
        f"total {1e3 * e.total_a_w:.2f} mW (variant A), {1e3 * e.total_b_w:.2f} mW (B); static power of all cores of "
        f"{e.chips} chip{'s' * (e.chips > 1)}: {1e3 * e.static_all_cores_w:.2f} mW",
        f"one pass of a picture: {1e6 * e.pass_a_j:.3f} uJ active (A), {1e6 * e.pass_b_j:.3f} uJ (B)",
        *(
            [f"latency {e.latency_ticks} ticks, {1e3 * e.latency_s:.1f} ms to the votes, without the host"]
            if votes
            else []
        ),
        "",
        f"{'decisions/s':>11} {'ticks each':>11} {'static mJ':>10} {'A mJ':>9} {'B mJ':>9}",
    ]
    lines += [
        f"{r.decisions_a_second:11g} {r.ticks_a_decision:11.1f} {1e3 * r.static_j:10.4f} {1e3 * r.active_a_j:9.4f}"
        f" {1e3 * r.active_b_j:9.4f}"
        for r in e.rates
    ]
    lines += ["", f"{'constant':28} {'value':>10}    {'at':>6}  certainty"]
    for k in e.constants:
        shown = f"{k.value * 1e6:7.2f} uW" if k.unit == "W" else f"{k.value * 1e12:7.3f} pJ"
        lines.append(f"{k.name:28} {shown:>10}    {k.voltage:4g} V  {k.certainty}")
    return "\n".join([*lines, e.scaling]) + "\n"

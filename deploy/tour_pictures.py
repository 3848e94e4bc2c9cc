"""The ten pictures of the tour, each drawn from one decision of a chip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from deploy.cells import on_mesh
from deploy.chip import chip_named
from deploy.compiled import Compiled
from deploy.emulator import Bits
from deploy.figures import COLOURS, DIM, INK, RULE, styled

CHOSEN, OTHER, MINUS, PLUS = COLOURS["chip"], COLOURS["teacher"], COLOURS["student"], COLOURS["teacher"]
WIDE = 7.2  # inches
ONE_BIT = ListedColormap(["#ffffff", INK])
HEAT = "inferno"
VOTERS = ("#1f87c7", "#d55e00", "#009e73", "#cc79a7", "#8c6bb1", "#e69f00", "#56b4e9", "#7f7f7f", "#a6761d")
MOST_CORES = 12


@dataclass(frozen=True, eq=False, repr=False)
class Visit:
    """One decision: C cores of A axons and N neurons, T ticks."""

    game: str
    at: int  # of the replay
    before: NDArray[np.uint8]  # [210, 160, 3]  the screen when it was made
    after: NDArray[np.uint8]  # [210, 160, 3]  four frames later
    stack: NDArray[np.uint8]  # [4, 84, 84]
    bits: Bits  # [K, H, W]
    actions: tuple[str, ...]
    action: int
    votes: NDArray[np.int32]  # [A]
    compiled: Compiled
    changes: NDArray[np.int32]  # [T, C]  neurons that begin or stop to fire, since the picture came
    fired: Bits  # [C, N]  in the last tick

    @cached_property
    def active(self) -> Bits:
        """[C, A] axons that carry a spike once the picture has gone through."""
        graph = self.compiled.graph
        axons = np.zeros(graph.axon_type.shape, bool)
        core, neuron = np.nonzero(self.fired & (graph.target_core >= 0))
        axons[graph.target_core[core, neuron], graph.target_axon[core, neuron]] = True
        entry = np.repeat(self.bits.ravel(), np.diff(graph.input_start))
        axons[graph.input_core[entry], graph.input_axon[entry]] = True
        return axons

    @cached_property
    def core(self) -> int:
        """The core that is looked into: of the first layer on the chip, the one with most active axons."""
        graph, first = self.compiled.graph, self.layer(0)
        crossed = np.flatnonzero(first)
        busy = self.active[crossed].sum(axis=1) * (graph.neuron_type[crossed] > 0).any(axis=1)
        return int(crossed[busy.argmax()])

    @cached_property
    def neurons(self) -> tuple[int, int]:
        """Two neurons of that core: one that fired and one that did not, each nearest to its threshold."""
        core, graph = self.core, self.compiled.graph
        used = np.flatnonzero(graph.neuron_type[core] > 0)
        fired = self.fired[core, used]
        ends = np.array([self.path(int(neuron))[-1] for neuron in used])
        told = [used[fired == state][np.abs(ends[fired == state] - 0.5).argmin()] for state in (True, False)]
        return int(told[0]), int(told[1])

    def layer(self, index: int) -> Bits:
        """[C] cores of one of the student's layers."""
        stage = [stage for stage in self.compiled.usage.stages if stage.name[:2].isdigit()][index]
        cores = np.arange(len(self.compiled.place))
        return np.asarray((cores >= stage.first) & (cores < stage.first + stage.cores))

    def synapses(self, core: int) -> Bits:
        """[A, N] of a core."""
        graph = self.compiled.graph
        words = graph.crossbar[graph.crossbar_of[core]]
        bits = words[:, None, :] >> np.arange(64, dtype=np.uint64)[None, :, None] & np.uint64(1)
        return np.asarray(bits.reshape(-1, words.shape[1])[: graph.shape[1]] != 0)

    def path(self, neuron: int) -> NDArray[np.int64]:
        """The potential of a neuron of the core as its axons are added one after another, and the leak last."""
        core, graph = self.core, self.compiled.graph
        kind = graph.neuron_type[core, neuron] - 1
        types = np.where(graph.axon_type[core] == graph.UNUSED_AXON, 0, graph.axon_type[core])
        crossed = self.synapses(core)[:, neuron] & self.active[core]
        added = graph.types.weight[kind, types].astype(np.int64)[crossed]
        return np.concatenate([[0], np.cumsum([*added, int(graph.types.leak[kind])])])

    def mesh(self, values: NDArray[np.int32]) -> NDArray[np.float64]:
        """[height, width] of values [C] where the cores lie; NaN where none is in use."""
        chip = chip_named(self.compiled.usage.chip)
        cells = on_mesh(self.compiled.place, chip)
        board = np.full((chip.mesh[1], chip.mesh[0]), np.nan)
        board[cells[:, 1], cells[:, 0]] = values
        used = np.argwhere(~np.isnan(board))
        low, high = np.maximum(used.min(axis=0) - 1, 0), used.max(axis=0) + 2
        return board[low[0] : high[0], low[1] : high[1]]


def _figure(height: float, title: str) -> Figure:
    figure = Figure(figsize=(WIDE, height), layout="constrained")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left", color=INK)
    return figure


def _bare(axis: Axes, title: str = "") -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(False)
    if title:
        axis.set_title(title, fontsize=8, color=DIM)


def screen(seen: Visit) -> Figure:
    """1: what the television shows."""
    figure = _figure(3.6, f"1. The screen: {seen.game}, decision {seen.at} of the replay")
    axis = figure.subplots()
    axis.imshow(seen.before, interpolation="nearest", aspect="auto")
    _bare(axis, "160 x 210 pixels of 128 colours, 60 a second")
    axis.set_box_aspect(3 / 4)
    return figure


def stack(seen: Visit) -> Figure:
    """2: what a player is given."""
    figure = _figure(2.3, "2. The stack: four grey pictures of 84 x 84")
    for age, (axis, picture) in enumerate(zip(figure.subplots(1, 4), seen.stack, strict=True)):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        _bare(axis, "newest" if age == 3 else f"{3 - age} decision{'s' * (age < 2)} before")
    return figure


def transduction(seen: Visit) -> Figure:
    """3: what enters the chip."""
    count, height, width = seen.bits.shape
    figure = _figure(3.9, f"3. The bits: {count} features of {height} x {width}, {int(seen.bits.sum()):,} of them set")
    across = 8
    for axis, feature in zip(figure.subplots(-(-count // across), across).ravel(), seen.bits, strict=False):
        axis.imshow(feature, cmap=ONE_BIT, vmin=0, vmax=1, interpolation="nearest")
        _bare(axis)
    return figure


def crossbar(seen: Visit) -> Figure:
    """4: one core from inside."""
    graph, core = seen.compiled.graph, seen.core
    chip, x, y = seen.compiled.place[core]
    figure = _figure(4.6, f"4. One core: the crossbar of core ({x}, {y})" + (f" of chip {chip}" if chip else ""))
    axis = figure.subplots()
    synapses, active = seen.synapses(core), seen.active[core]
    signs = np.where(graph.axon_type[core] == graph.UNUSED_AXON, 0, graph.axon_type[core])
    image = np.full((*synapses.shape, 3), 1.0)
    for kind, colour in ((0, PLUS), (1, MINUS)):
        for on, strength in ((False, 0.25), (True, 1.0)):
            where = synapses & ((signs == kind) & (active == on))[:, None]
            image[where] = _paint(colour, strength)
    axis.imshow(image, interpolation="nearest")
    axis.set(xlabel="neurons", ylabel="axons")
    axis.grid(False)
    used = int((graph.axon_type[core] != graph.UNUSED_AXON).sum())
    now = f"strong where the axon carries a spike now ({int(active.sum())} of {used})"
    axis.set_title(f"a dot is a synapse: blue counts +1, red -1; {now}", fontsize=8, color=DIM)
    return figure


def potential(seen: Visit) -> Figure:
    """5: two neurons in one tick."""
    figure = _figure(3.0, "5. A spike: the potential of two neurons of that core, in one tick")
    for axis, neuron, fires in zip(figure.subplots(1, 2), seen.neurons, (True, False), strict=True):
        path = seen.path(neuron)
        colour = CHOSEN if fires else OTHER
        axis.step(range(len(path)), path, where="post", color=colour, linewidth=1.6)
        axis.plot(len(path) - 1, path[-1], "o", color=colour)
        axis.axhline(1, color=MINUS, linestyle="--", linewidth=1)
        axis.annotate("threshold", (0, 1), (2, 3), textcoords="offset points", fontsize=7, color=MINUS)
        state = "reaches the threshold: a spike" if fires else "stays below: silence"
        axis.set_title(f"neuron {neuron}: {state}", fontsize=8, color=DIM)
        axis.set(xlabel="active synapses, one after another; the leak last", ylabel="potential")
    return figure


def layer_on_mesh(seen: Visit) -> Figure:
    """6: where that layer lies, and what it does."""
    figure = _figure(4.2, "6. A layer: spikes of each core of the first layer on the mesh")
    axis = figure.subplots()
    spikes = seen.fired.sum(axis=1).astype(np.int32)
    axis.imshow(np.where(np.isnan(seen.mesh(spikes)), np.nan, 0.0), cmap=ListedColormap([RULE]))
    drawn = axis.imshow(seen.mesh(np.where(seen.layer(0), spikes, -1)), cmap=_over_nothing(), vmin=0)
    axis.set_anchor("W")
    figure.colorbar(drawn, ax=axis, label="spikes of a core", shrink=0.8)
    count = int(seen.layer(0).sum())
    _bare(axis, f"{count:,} cores of the layer fire {int(spikes[seen.layer(0)].sum()):,} spikes; grey: the other cores")
    return figure


def _over_nothing() -> Colormap:
    """The heat of values from 0; below it nothing is painted."""
    heat = ListedColormap(colormaps[HEAT](np.linspace(0.08, 1, 256)))
    return heat.with_extremes(under=(0, 0, 0, 0))


def wave(seen: Visit) -> Figure:
    """7: the picture travels."""
    across = 5
    down = -(-len(seen.changes) // across)
    figure = _figure(1.6 * down + 0.4, f"7. The wave: {len(seen.changes)} ticks from the first bit to the votes")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    most = np.log1p(seen.changes.max())
    for tick, (axis, changed) in enumerate(zip(axes, seen.changes, strict=False)):
        board = seen.mesh(changed)
        axis.imshow(np.where(np.isnan(board), np.nan, 0.0), cmap=ListedColormap([RULE]))
        axis.imshow(np.where(board > 0, np.log1p(board), -1.0), cmap=_over_nothing(), vmin=0, vmax=most)
        _bare(axis)
        axis.set_title(f"tick {tick}: {int((changed > 0).sum()):,} cores", fontsize=7, color=DIM)
    for axis in axes[len(seen.changes) :]:
        axis.set_visible(False)
    return figure


def vote_neurons(seen: Visit) -> Figure:
    """8: the last layer."""
    graph = seen.compiled.graph
    core, neuron, pin = graph.pins()
    cores = np.unique(core)[:MOST_CORES]
    figure = _figure(3.4, f"8. The voters: {len(core):,} neurons of the last layer, a colour an action")
    across = min(4, len(cores))
    axes = figure.subplots(-(-len(cores) // across), across, squeeze=False).ravel()
    for axis, one in zip(axes, cores.tolist(), strict=False):
        here = core == one
        side = int(np.ceil(np.sqrt(graph.shape[2])))
        image = np.ones((side * side, 3))
        for index, answer in zip(neuron[here], graph.output_answer[pin[here]], strict=True):
            image[index] = _paint(VOTERS[answer % len(VOTERS)], 1.0 if seen.fired[one, index] else 0.16)
        axis.imshow(image.reshape(side, side, 3), interpolation="nearest")
        _bare(axis, f"core ({', '.join(map(str, seen.compiled.place[one][1:]))})")
    for axis in axes[len(cores) :]:
        axis.set_visible(False)
    marks = [Patch(color=VOTERS[k % len(VOTERS)], label=name) for k, name in enumerate(seen.actions)]
    figure.legend(handles=marks, loc="outside lower center", ncols=6, fontsize=7)
    return figure


def _paint(colour: str, strength: float) -> NDArray[np.float64]:
    """A colour on white."""
    return 1 - strength * (1 - np.asarray(to_rgb(colour)))


def decision(seen: Visit) -> Figure:
    """9: votes are counted."""
    figure = _figure(2.6, f"9. The decision: {seen.actions[seen.action]}")
    axis = figure.subplots()
    colours = [CHOSEN if action == seen.action else OTHER for action in range(len(seen.actions))]
    axis.barh(seen.actions, seen.votes, color=colours)
    for row, count in enumerate(seen.votes.tolist()):
        axis.annotate(str(count), (count, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axis.invert_yaxis()
    axis.grid(False, axis="y")
    axis.set_xlabel("votes: spikes on the action's output pins in one tick")
    return figure


def next_screen(seen: Visit) -> Figure:
    """10: four frames later."""
    figure = _figure(2.4, "10. The next screen: four frames later, the action held all the while")
    changed = (seen.before != seen.after).any(axis=2)
    pictures = (seen.before, seen.after, np.where(changed[:, :, None], seen.after, 255 - (255 - seen.after) // 4))
    names = ("before", "after", f"what changed: {int(changed.sum()):,} pixels")
    for axis, picture, name in zip(figure.subplots(1, 3), pictures, names, strict=True):
        axis.imshow(picture, interpolation="nearest", aspect="auto")
        axis.set_box_aspect(3 / 4)
        _bare(axis, name)
    return figure


def _styled(draw: Callable[[Visit], Figure]) -> Callable[[Visit], Figure]:
    def drawn(seen: Visit) -> Figure:
        with styled():
            return draw(seen)

    return drawn


PICTURES: Mapping[str, Callable[[Visit], Figure]] = MappingProxyType(
    {
        "screen": _styled(screen),
        "stack": _styled(stack),
        "bits": _styled(transduction),
        "core": _styled(crossbar),
        "spike": _styled(potential),
        "layer": _styled(layer_on_mesh),
        "wave": _styled(wave),
        "voters": _styled(vote_neurons),
        "decision": _styled(decision),
        "next": _styled(next_screen),
    }
)

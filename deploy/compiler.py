"""StudentSpec -> a placed core graph that equals it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from deploy.align import align
from deploy.assemble import Assembled, assemble
from deploy.cells import broken_routers
from deploy.checks import compiled_violations, graph_violations, reach_violations, refuse_all
from deploy.chip import Chip, refuse
from deploy.compiled import Compiled
from deploy.fanout import FanOut, fan_out
from deploy.history import need_time
from deploy.lower import lower
from deploy.place import place
from deploy.reduce import ANALYSED, Network, analyse, reductions, same_network
from deploy.repeat import Repeated, repeat
from deploy.spec import StudentSpec
from deploy.tiling import naive_cores
from deploy.usage import TICKS_A_PICTURE, Usage, overfull, usage


def compile_spec(
    spec: StudentSpec,
    chip: Chip,
    seed: int = 0,
    host_copies: int = 1,
    reduce: bool | Collection[str] = (),
    interval: int = TICKS_A_PICTURE,
    broken: Sequence[tuple[int, int]] = (),
    splitters: bool = True,
) -> Compiled:
    """Map, check, place. Equal arguments give an equal result, to the bit.

    `host_copies`: spikes that the host may inject for one input line, 1 or more; splitter cores do the rest. `reduce`:
    the exact reductions to apply, True for all (`deploy.reduce.REDUCTIONS`). `interval`: ticks from one picture to the
    next, for a student with a history. `broken`: cells (x, y) of the board whose routers no packet may pass.
    `splitters`: False has layers cut such that no splitters stand between them, wherever that can be; each such place
    costs a tick less. Raises CompileError listing every limit of the chip that is broken.
    """
    made, use = unplaced(spec, chip, host_copies, reduce, interval, splitters)
    forbidden = broken_routers(chip, broken) if broken else None
    placed = place(made.graph, chip, seed, forbidden=forbidden)
    apart = interval if spec.history > 1 else 0
    far = repeat(made.graph, made.level, placed.place, chip, forbidden, apart)  # cores between those too far apart
    levels = tuple(int(far.shifted[level]) for level in made.layer_levels)
    need_time(spec.history, interval, levels[-1] + 1)
    refuse_all([*compiled_violations(far.graph, far.level, apart), *reach_violations(far.graph, far.place, chip)])
    return Compiled(
        graph=far.graph,
        place=far.place,
        level=far.level,
        probe_core=made.probe_core,
        probe_neuron=made.probe_neuron,
        layer_shapes=tuple(layer.out_shape for layer in spec.layers),
        layer_levels=levels,
        heads=spec.heads,
        spec_digest=spec.digest,
        usage=_with_repeaters(spec, chip, made, far, use),
        mean_hops=(placed.hops_before, placed.hops),
        seed=seed,
        history=spec.history,
        interval=apart,
    )


def _with_repeaters(spec: StudentSpec, chip: Chip, made: Assembled, far: Repeated, use: Usage) -> Usage:
    """What is used once repeaters have joined, as a stage after all others."""
    if not far.repeaters:
        return use
    stage = np.concatenate([made.stage, np.full(far.repeaters, 2 * len(spec.layers), np.int32)])
    names = [layer.name for layer in spec.layers]
    return usage(far.graph, stage, far.level, names, chip, naive_cores(spec, chip), use.saved)


def unplaced(
    spec: StudentSpec,
    chip: Chip,
    host_copies: int = 1,
    reduce: bool | Collection[str] = (),
    interval: int = TICKS_A_PICTURE,
    splitters: bool = True,
) -> tuple[Assembled, Usage]:
    """(checked graph, what it uses of the chip): everything of `compile_spec` but places."""
    passes = reductions(reduce)
    net, fan = mapped(spec, chip, host_copies, passes, interval, splitters)
    made = assemble(fan, net, chip)
    aligned = compiled_violations(made.graph, made.level, interval if spec.history > 1 else 0)
    names = [layer.name for layer in spec.layers]
    refuse_all([*overfull(made.stage, names, chip), *graph_violations(made.graph, chip), *aligned])
    saved = saved_by(spec, chip, host_copies, passes, interval, splitters, len(fan.cores))
    return made, usage(made.graph, made.stage, made.level, names, chip, naive_cores(spec, chip), saved)


def mapped(
    spec: StudentSpec,
    chip: Chip,
    host_copies: int = 1,
    passes: Collection[str] = (),
    interval: int = TICKS_A_PICTURE,
    splitters: bool = True,
) -> tuple[Network, FanOut]:
    """The network as it is built, and its cores with their targets: analyse, lower, fan out, align."""
    if host_copies < 1:
        refuse([f"host_copies: found {host_copies}, must be 1 or more; a line that is never injected says nothing"])
    net = analyse(spec, passes)  # what never changes, what is equal
    fan = _cores_of(net, chip, host_copies, passes, interval, splitters)
    need_time(spec.history, interval, fan.layer_levels[-1] + 1)
    return net, fan


def _cores_of(
    net: Network, chip: Chip, host_copies: int, passes: Collection[str], interval: int, splitters: bool
) -> FanOut:
    tiles = lower(net, chip, passes, host_copies, splitters)  # layers -> tiles that fit a core
    fan = fan_out(tiles, net, chip, host_copies, passes, interval)  # copies, splitters, the way to earlier pictures
    return align(fan, chip)  # relays where a delay is too long


def saved_by(
    spec: StudentSpec,
    chip: Chip,
    host_copies: int,
    passes: tuple[str, ...],
    interval: int,
    splitters: bool,
    reached: int,
) -> dict[str, int]:
    """Cores that each pass saves where it joins those before it; `reached` is the number with all of them."""
    counts: list[int] = []
    net = None
    for n in range(len(passes)):
        before, joined = net, passes[n - 1 : n]
        if net is None or (joined and joined[0] in ANALYSED):
            net = analyse(spec, passes[:n])
        # A pass that found nothing saves nothing: no need to map the same network again.
        same = before is not None and joined[0] in ANALYSED and same_network(before, net)
        fan = None if same else _cores_of(net, chip, host_copies, passes[:n], interval, splitters)
        counts.append(counts[-1] if fan is None else len(fan.cores))
    return {name: before - after for name, before, after in zip(passes, counts, [*counts, reached][1:], strict=True)}

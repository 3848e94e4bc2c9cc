"""StudentSpec -> a placed core graph that equals it."""

from __future__ import annotations

import math

from deploy.assemble import assemble
from deploy.checks import compiled_violations, graph_violations
from deploy.chip import Chip, refuse
from deploy.compiled import Compiled
from deploy.fanout import fan_out
from deploy.lower import lower
from deploy.place import place
from deploy.spec import StudentSpec
from deploy.usage import usage


def compile_spec(spec: StudentSpec, chip: Chip, seed: int = 0, host_copies: bool = False) -> Compiled:
    """Passes: lower, fan out, assemble, check, place. Equal arguments give an equal result, to the bit.

    `host_copies`: the host injects an input spike once for each axon that reads it, which saves the splitter cores at
    the input and costs input bandwidth. Raises CompileError listing every limit of the chip that is broken.
    """
    sizes = [math.prod(layer.out_shape) for layer in spec.layers]
    n_lines = math.prod(spec.front.out_shape)
    tiles = lower(spec, chip, host_copies)  # layers -> tiles that fit a core
    fan = fan_out(tiles, sizes, n_lines, spec.vote, chip, host_copies)  # copies, splitters
    made = assemble(fan, sizes, n_lines, spec.vote, chip)  # numbers, levels, delays, tables
    refuse([*graph_violations(made.graph, chip), *compiled_violations(made.graph, made.level)])
    placed = place(made.graph, chip, seed)
    return Compiled(
        graph=made.graph,
        place=placed.place,
        level=made.level,
        probe_core=made.probe_core,
        probe_neuron=made.probe_neuron,
        layer_shapes=tuple(layer.out_shape for layer in spec.layers),
        layer_levels=made.layer_levels,
        heads=spec.heads,
        spec_digest=spec.digest,
        usage=usage(made.graph, made.stage, made.level, [layer.name for layer in spec.layers], chip),
        mean_hops=(placed.hops_before, placed.hops),
        seed=seed,
    )

"""Earlier pictures on the chip: the bits of each picture again, intervals later, from chains of relays.

The first layer reads every line in as many blocks as there are pictures, the newest picture's first. The host injects
the newest block alone. A line's copies in block k lead to its readers there and to the line of block k + 1, which is
due one interval later; relays on the way take up the ticks that one neuron can not wait (`deploy.align`). So block 2
goes on where block 1 ends, and one relay holds one line whatever number of axons read it.

A picture is held for the whole interval and its votes are read in the last tick of it, when every block has long
settled. Such a graph remembers `(history - 1) * interval` ticks, which is all that decides its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from deploy.chip import refuse

Targets = NDArray[np.int64]  # [n, 3]  (core, axon, wait) as in `deploy.fanout`
LAYER = -1  # that the relays of earlier pictures feed: the input itself


def entered(
    blocks: Sequence[Sequence[Targets]], interval: int, slots: Sequence[int], serve: Callable[[Targets, int], Targets]
) -> list[Targets]:
    """What the host injects for each line. `blocks`: readers of each line in each block, newest first; `slots`: spikes
    that may carry a line into each block; `serve` brings targets down to so many.
    """
    older = [np.zeros((0, 3), np.int64)] * len(blocks[0])
    for own, most in zip(reversed(blocks), reversed(slots), strict=True):
        lines = [serve(np.concatenate(pair), most) for pair in zip(own, older, strict=True)]
        older = [line + np.array([0, 0, interval]) for line in lines]
    return lines


def slots_of(history: int, interval: int, host_copies: int, max_delay: int) -> list[int]:
    """Spikes that may carry a line into each block. One starts a chain, so that a line is held once; where the host's
    own delays reach back to the oldest picture no relay is needed, and it may inject as many as it may of the newest.
    """
    older = host_copies if (history - 1) * interval <= max_delay else 1
    return [host_copies, *[older] * (history - 1)]


def need_time(history: int, interval: int, latency_ticks: int) -> None:
    """Raise CompileError where the votes of a picture come after the next picture."""
    if history > 1 and interval < latency_ticks:
        refuse(
            [
                f"interval: found {interval} ticks from picture to picture, must be {latency_ticks} or more with a "
                f"history of {history}, the ticks to the votes; try an interval of {latency_ticks} or fewer layers"
            ]
        )

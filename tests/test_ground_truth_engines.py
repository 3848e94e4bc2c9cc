"""Other programs' recordings decide: IBM's Compass and NSCS, RANC's simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import DATA, Recording, needs_data, read_recording, recordings

from deploy.emulator import Emulator
from deploy.engines import Engine

pytestmark = [
    pytest.mark.ground_truth,
    needs_data,
]
# The plain emulator runs the first ticks of every long recording; the others run all of every file.
PLAIN_TICKS = {"compass_vmm": 120, "ranc_large": 12}


def meets(engine: Engine, recorded: Recording, ticks: int) -> None:
    """Every output pin in every tick."""
    for tick in range(ticks):
        engine.step(recorded.lines[tick])
        assert np.array_equal(engine.pins(), recorded.pins[tick]), f"tick {tick}"


def ticks_of(kind: Any, path: Path, recorded: Recording) -> int:
    total = len(recorded.pins)
    return min(total, PLAIN_TICKS.get(path.parent.name, total)) if kind is Emulator else total


@pytest.mark.parametrize("folder", ["compass_vmm", "ranc_traces", "ranc_large", "ibm_traces"])
def test_every_recorded_output_is_met_tick_by_tick(kind: Any, folder: str) -> None:
    paths = recordings(f"{folder}/*.npz")
    if not paths:
        pytest.skip(f"{DATA / folder} holds no recordings")
    for path in paths:
        recorded = read_recording(path)
        assert recorded.pins.any(), f"{path.name} expects silence"
        meets(kind(recorded.graph), recorded, ticks_of(kind, path, recorded))


def test_every_spike_and_last_potential_is_that_of_ranc(kind: Any) -> None:
    for path in recordings("ranc_traces/*.npz"):
        recorded = read_recording(path)
        engine: Engine = kind(recorded.graph)
        n = recorded.graph.shape[2]
        spikes = np.unpackbits(recorded.arrays["all_spikes"], axis=-1, count=n, bitorder="little")
        for tick, lines in enumerate(recorded.lines):
            assert np.array_equal(engine.step(lines), spikes[tick]), f"{path.name}, tick {tick}"
        assert np.array_equal(engine.potential, recorded.arrays["final_potential"]), path.name

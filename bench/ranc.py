"""RANC's own simulator beside our engines: the same graph and input, its output compared, its ticks timed.

The program is built by whoever measures, from github.com/UA-RCL/RANC, folder `simulator`:
`cmake -DCMAKE_BUILD_TYPE=Release . && make ranc_sim`. Times are of the processor, on both sides: a simulator that needs
seconds shares them with whatever else runs, an engine that needs a millisecond does not.
"""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from deploy.cores import FIRST_PIN_CORE, CoreGraph, pin_of
from deploy.emulator import Bits
from deploy.engines import Engine, record
from deploy.ranc import config_text, input_text, read_output
from deploy.ranc_graph import graph_ranc
from deploy.spikes import LineSpikes, PinSpikes, all_pins, on_axons


class RancError(RuntimeError):
    """The simulator did not run, or its run is no measure."""


@dataclass(frozen=True, eq=False)
class RancCase:
    """A graph and T ticks of input as RANC's files, and what must come out."""

    input: Path
    config: Path
    cores: int  # that the simulator runs: every cell of the grid but the bus, those without a core of ours too
    expected: Bits  # [T, O]


def write_case(graph: CoreGraph, lines: Bits, expected: Bits, folder: Path) -> RancCase:
    """Write a graph and its lines [T, I]; raises CompileError for what RANC's terms can not express."""
    tick, line = np.nonzero(lines)
    model = graph_ranc(graph, None, on_axons(graph, LineSpikes(tick.astype(np.int32), line.astype(np.int32))))
    paths = folder / "input.json", folder / "config.json"
    for path, text in zip(paths, (input_text(model), config_text(model.config)), strict=True):
        path.write_text(text)
    return RancCase(*paths, model.config.num_cores_x * model.config.num_cores_y - 1, expected)


def output_of(engine: Engine, lines: Bits) -> Bits:
    """What an engine sends to pins [T, O] while lines [T, I] enter, by the call that is timed."""
    graph, spikes = engine.graph, record(engine, lines)
    core, axon = graph.target_core[spikes.core, spikes.neuron], graph.target_axon[spikes.core, spikes.neuron]
    out = core <= FIRST_PIN_CORE
    pin = pin_of(core[out], axon[out]).astype(np.int32)
    return PinSpikes(spikes.tick[out], pin, spikes.core[out], spikes.neuron[out]).bits(len(lines), all_pins(graph))


def processor_s(work: Callable[[], object]) -> float:
    """Processor seconds of this process and of the programs that it ran and waited for."""
    before = _used_s()
    work()
    return _used_s() - before


def ranc_core_tick_s(program: Path, case: RancCase, skipped: int) -> float:
    """Seconds a core and tick, loading left out: all ticks of the case in one run, less a run of the first `skipped`.

    Raises RancError where a run fails, where its output is not the expected one, and where the longer run is not.
    """
    ticks = len(case.expected)
    if not 0 < skipped < ticks:
        raise RancError(f"ranc: {skipped} ticks to leave out of {ticks}, allowed 1..{ticks - 1}; run more ticks")
    short, long = (processor_s(partial(simulate, program, case, count)) for count in (skipped, ticks))
    if long <= short:
        raise RancError(
            f"ranc: {ticks} ticks took {long:.3f} s and {skipped} took {short:.3f} s, no time is left for the "
            "difference; run more ticks, or a larger graph"
        )
    return (long - short) / (ticks - skipped) / case.cores


def simulate(program: Path, case: RancCase, ticks: int) -> None:
    """Run the simulator and check the output of so many ticks; raises RancError."""
    output = case.input.with_name("output.txt")
    output.unlink(missing_ok=True)
    own = str(ticks + 1)  # its tick 0 is before the first input
    command = [str(program.absolute()), str(case.input), str(output), str(case.config), own, "--report_freq", own + "0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as cause:
        raise RancError(f"{program}: can not be run ({cause.strerror}); give RANC's simulator, built") from cause
    if done.returncode or not output.exists():  # most of its errors end with status 0
        said = (done.stderr + done.stdout).strip()[-500:]
        raise RancError(
            f"{program}: status {done.returncode} and {'an' if output.exists() else 'no'} output, allowed 0 and an "
            f"output; it said: {said}"
        )
    _compare(read_output(output), case.expected[:ticks], program)


def _compare(found: Bits, expected: Bits, program: Path) -> None:
    if found.shape != expected.shape:
        raise RancError(
            f"{program}: {found.shape} ticks and outputs, must be {expected.shape}; is it RANC's simulator?"
        )
    wrong = np.argwhere(found != expected)
    if len(wrong):
        tick, pin = wrong[0]
        raise RancError(
            f"{program}: {len(wrong)} of {expected.size} spikes of its output are not ours, first tick {tick}, output "
            f"{pin}; find out which side is wrong by `python -m deploy.run`"
        )


def _used_s() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)

"""What a training run will hold in memory, told before it begins: refused there, not hours later where it is taken."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from rl.device import CPU
from rl.frames import CELLS, CHANNELS, SIDE
from rl.games import action_meanings
from rl.memory import need_memory
from rl.network import LearningNetwork
from rl.replay import ROW_BYTES
from rl.trainer import TeacherRun, device_of
from rl.training_state import SEGMENT_ROWS

# Torch, numba and the board, in memory before a run asks for any; measured: 600 MiB with CUDA's libraries, 320 without.
PROGRAM_BYTES = (700 if torch.version.cuda else 400) << 20
FRAME_BYTES = SIDE * SIDE
GAME_BYTES = 2 << 20  # of one emulator with its buffers; measured 1.5 MB


def held(config: TeacherRun) -> dict[str, int]:
    """Bytes at most of one process of a run, by what takes them."""
    own = config.teacher
    parts = {"nets and optimiser": _net_bytes(config)}
    if own.algo == "pqn":
        parts["rollouts"] = 2 * own.pqn.rollout_steps * own.envs * CELLS * CELLS * CHANNELS
    else:
        rows = own.replay_rows // own.envs * own.envs
        # A segment of a checkpoint, twice: read while the one before is put back.
        row = ROW_BYTES if device_of(own) == CPU else ROW_BYTES - FRAME_BYTES  # a GPU holds the frames itself
        parts |= {"replay": rows * row, "checkpoints": 2 * min(rows, SEGMENT_ROWS) * ROW_BYTES}
    parts["games"] = (own.envs + max(own.eval_episodes, own.confirm_episodes, own.report_episodes)) * GAME_BYTES
    return dict(sorted(parts.items(), key=lambda part: -part[1])) | {"program": PROGRAM_BYTES}


def _net_bytes(config: TeacherRun) -> int:
    """Nets, their gradients, optimiser and a checkpoint of them; what a batch leaves in them for its gradient."""
    own = config.teacher
    with torch.device("meta"):
        actions = len(action_meanings(config.name, config.env))
        net = LearningNetwork(actions, own.agent.quantiles, own.agent.dueling, own.network)
    count = sum(parameter.numel() for parameter in net.parameters())
    # Floats of a parameter: three nets and two slots of the optimiser; a gradient of each thread, stacked, and their
    # sum; at a checkpoint four of them, three times over.
    floats = 3 + 2 + 2 * own.learner_threads + 1 + 3 * 4
    one, two, three = own.network.channels
    outputs = one * 20 * 20 + two * 9 * 9 + three * 7 * 7 + own.network.hidden
    return 4 * (floats * count + 6 * own.agent.batch * outputs)  # convolution, norm and ReLU, each with its gradient


def told(parts: dict[str, int]) -> str:
    """The parts on one line, in GB."""
    return ", ".join(f"{what} {size / 1e9:.2f}" for what, size in parts.items())


def need_room(config: TeacherRun, folder: Path) -> None:
    """Print what the run will hold; raises MemoryError, with the setting to change, unless that is available."""
    parts, processes = held(config), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's, on this machine
    each = "" if processes == 1 else f" in each of {processes} processes"
    print(f"{folder}: will hold up to {sum(parts.values()) / 1e9:.2f} GB of memory{each}: {told(parts)}", flush=True)
    advice = "lower teacher.pqn.rollout_steps" if config.teacher.algo == "pqn" else "lower teacher.replay_rows"
    need_memory(processes * (sum(parts.values()) - parts["program"]), f"{folder}, beside the program", advice)

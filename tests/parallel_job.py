"""One process of a team, as torchrun starts it: what it saw goes into a file of its own, for the tests to compare."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import torch

from rl.agent import DoubleDqn, split
from rl.parallel import Team, team
from rl.trainer import Trainer
from tests.training_cases import TINY_AGENT, TINY_NET, taped_replay, teacher

STEPS = 45


def flat(tensors):
    return torch.cat([tensor.detach().flatten() for tensor in tensors]).numpy()


def one_update(batch, average=None):
    """(gradient, weights) after the first update of a net that is always the same.

    A tenth of its gradient is what Adam's first moment is then.
    """
    torch.manual_seed(3)
    agent = DoubleDqn(18, TINY_NET, dataclasses.replace(TINY_AGENT, batch=10), threads=2)
    agent.average = average
    agent.learn(batch, 1e-3)
    moments = (10 * own["exp_avg"] for own in agent._optimiser.state.values())
    return flat(moments), flat(agent.online.parameters())


def whole_batch():
    return taped_replay(60)[1].sample(np.random.default_rng(2), 10, 3, 0.75)


def weights(trainer):
    return flat(tensor for _, tensor in sorted(trainer._agent.state().items()))


def play(us: Team, folder: Path):
    """What a run of some steps leaves, and what it finds when it goes on."""
    run = Trainer(teacher(folder), folder, us)
    seen = {"first": run._games.first.copy(), "begun": weights(run)}
    for _ in range(STEPS):
        run.step()
    seen |= {"weights": weights(run), "actions": run._replay._action.copy(), "frames": run.frames}
    seen |= {"updates": run._agent.updates}
    run.best = 4.5 if us.rank == 0 else None
    run.save()
    run.close()
    again = Trainer(teacher(folder), folder, us)
    seen |= {"weights_again": weights(again), "actions_again": again._replay._action.copy()}
    seen |= {"frames_again": again.frames, "best_again": again.best, "resumed": again.resumed}
    again.step()
    seen |= {"weights_on": weights(again)}
    again.close()
    return seen


def threads_of_gloo() -> list[str]:
    """The threads of this process that send and receive; they are not Python's, so the system is asked."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


def main(out: Path) -> None:
    with team() as us:
        part = split(whole_batch(), us.size)[us.rank]
        gradient, after = one_update(part, us.average)
        seen = {"gradient": gradient, "after": after, "own": one_update(part)[0]}
        seen |= {"agreed": us.agree(us.rank, 3 - us.rank, 0), "shared": us.share([us.rank, us.size])}
        seen |= play(us, out / "run")
    np.savez(out / f"seen-{us.rank}.npz", **seen, left=threads_of_gloo())


if __name__ == "__main__":
    main(Path(sys.argv[1]))

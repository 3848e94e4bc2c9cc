"""The student in the game itself: rollouts of its own policy, and what each action was worth beyond expectation.

What a state is worth is said by the teacher's values: a critic that is there already. Rewards are clipped and a lost
life ends an episode, as when it learned them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from distill.loss import kl
from distill.sources import Lesson
from rl.checkpoint import PolicyCheckpoint
from rl.frames import BlockStacks, Frames, blocks
from rl.games import EnvSettings, VectorGame

F32 = NDArray[np.float32]
Seen = tuple[Tensor, Tensor | None]  # logits [B, A] of the policy; bits [B, N] of the last still level, packed


@dataclass(frozen=True, eq=False)
class Played(Lesson):
    """Decisions that were played."""

    action: Tensor = field(kw_only=True)  # [B] i64
    advantage: Tensor = field(kw_only=True)  # [B] float32: what the action was worth beyond the state's value

    def cut(self, start: int, stop: int) -> Played:
        return self.rows(slice(start, stop))

    def rows(self, rows: slice | Tensor) -> Played:
        """Some of its decisions, in this order."""
        return Played(
            self.cells[rows],
            self.q[rows],
            self.unit,
            known=None if self.known is None else self.known[rows],
            action=self.action[rows],
            advantage=self.advantage[rows],
        )


def advantages(reward: F32, discount: F32, value: F32, trace: float) -> F32:
    """Generalised advantages [T, B] (Schulman et al. 2016, equation 16) of rewards and discounts [T, B].

    value [T+1, B]; a discount of 0 ends an episode: nothing behind it counts.
    """
    found, ahead = np.zeros_like(reward), np.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        ahead = reward[t] + discount[t] * (value[t + 1] + trace * ahead) - value[t]
        found[t] = ahead
    return found


def policy_gradient(
    entropy: float, anchor: float, temperature: float, play_temperature: float
) -> Callable[[Tensor, Lesson], Tensor]:
    """Loss of played decisions: -advantage * ln pi(action), less entropy, plus the pull of the teacher's labels.

    pi is the policy that played: softmax of logits / play_temperature. `temperature` is of the teacher's side.
    """

    def loss(logits: Tensor, lesson: Lesson) -> Tensor:
        assert isinstance(lesson, Played)
        log = F.log_softmax(logits / play_temperature, dim=1)
        chosen = log.gather(1, lesson.action[:, None])[:, 0]
        spread = -(log.exp() * log).sum(dim=1)
        own = -(lesson.advantage * chosen + entropy * spread).mean()
        return own + anchor * kl(logits, lesson.q / lesson.unit, temperature) if anchor else own

    return loss


class Actor:
    """Plays many games in lockstep by a softmax policy; hands out what it played."""

    def __init__(self, teacher: PolicyCheckpoint, env: EnvSettings, envs: int, seed: int) -> None:
        self._teacher = teacher.build()
        self._games = VectorGame(teacher.game, env, envs, seed, 1)
        teacher.require(teacher.game, self._games.actions, "finetune")
        self._rng = np.random.default_rng(seed)
        self._stacks = BlockStacks(blocks(self._games.first))
        self._open, self.returns = np.zeros(envs), list[float]()
        self.points = list[float]()  # a decision, of the newest rollouts: they vary less than whole games

    def rollout(self, seen: Callable[[Frames], Seen], steps: int, gamma: float, trace: float) -> Played:
        """`steps` of every game as one lesson [steps * envs]; advantages have mean 0 and deviation 1."""
        cells, known, values, actions, rewards, discounts = [], [], [], [], [], []
        raw = 0.0
        for _ in range(steps):
            stacks = self._stacks.now
            logits, bits = seen(stacks)
            policy = F.softmax(logits.double(), dim=1).numpy()
            action = (policy.cumsum(axis=1) > self._rng.random((len(policy), 1))).argmax(axis=1)
            cells.append(torch.from_numpy(stacks))
            known.append(bits)
            values.append(self._values())
            actions.append(action)
            step = self._games.step(action)
            over = step.ended | step.life_lost
            rewards.append(np.clip(step.reward, -1, 1).astype(np.float32))
            discounts.append(np.where(over, 0, gamma).astype(np.float32))
            self._stacks.push(blocks(step.first), step.ended)
            self._count(step.reward, step.ended)
            raw += float(step.reward.mean())
        self.points = [*self.points, raw / steps][-20:]
        value = np.stack([*values, self._values()]).max(axis=2)
        found = advantages(np.stack(rewards), np.stack(discounts), value, trace).ravel()
        found = (found - found.mean()) / (found.std() + 1e-6)
        q, action = (torch.from_numpy(np.concatenate(part)) for part in (values, actions))
        remembered = [bits for bits in known if bits is not None]
        told = torch.cat(remembered) if remembered else None
        return Played(torch.cat(cells), q, known=told, action=action, advantage=torch.from_numpy(found))

    def _values(self) -> F32:
        """The teacher's [B, A] of the pictures that are shown."""
        with torch.no_grad():
            return self._teacher(torch.from_numpy(self._stacks.now)).numpy()  # type: ignore[no-any-return]

    def _count(self, reward: NDArray[np.floating], ended: NDArray[np.bool_]) -> None:
        self._open += reward
        self.returns = [*self.returns, *self._open[ended].tolist()][-20:]
        self._open[ended] = 0

    def close(self) -> None:
        self._games.close()

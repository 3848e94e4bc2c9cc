"""Learners of action values, and Double DQN (van Hasselt, Guez & Silver 2016): one net picks, the other values.

What is learnt of a return is its mean, or several of its quantiles (Dabney et al. 2018), whose mean picks. Actions that
are not the best may be valued below what they bring, so that the best one stands out (Bellemare et al. 2016).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rl.adam import ClippedAdam
from rl.checkpoint import load_optimiser, optimiser_tensors
from rl.device import CPU
from rl.frames import Frames
from rl.network import LearningNetwork, NetworkSettings, copy_parameters, rounded
from rl.replay import Transitions
from rl.settings import need


class Batch(Protocol):
    """What every learner needs of a batch; a frozen dataclass of arrays."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def obs(self) -> Frames: ...  # [B, 21, 21, 64]

    @property
    def action(self) -> NDArray[np.int64]: ...  # [B]


B = TypeVar("B", bound=Batch)
MAX_GAP = 1.0  # points, as Vieillard et al. (2020) bound what they take off: one bad guess can not sink an action
WARMUP_UPDATES = 1000  # as long as Adam's second moment remembers: before that its steps are too long
Gradients = list[Future[tuple[tuple[Tensor, ...], Tensor, float, float]]]  # under way, one for each part of a batch


@dataclass(frozen=True)
class AgentSettings:
    """The learner."""

    learning_rate: float
    adam_epsilon: float
    gamma: float  # discount a step
    n_steps: int  # rewards summed before the bootstrap
    batch: int  # transitions an update
    quantiles: int  # of a return that are learnt; 1: its mean alone
    dueling: bool  # what all actions share is learnt apart
    advantage: float  # share of its gap to the best action that an action's goal is lowered by, of Double DQN alone
    prioritised: bool  # what was learnt badly is drawn more often
    target_updates: int  # updates between two copies of the online net into the target net
    max_grad_norm: float
    bf16: bool  # compute in bfloat16 where it is safe; weights, targets and loss stay float32

    def __post_init__(self) -> None:
        need(self.learning_rate > 0, "agent.learning_rate", self.learning_rate, "above 0")
        need(self.adam_epsilon > 0, "agent.adam_epsilon", self.adam_epsilon, "above 0")
        need(0 <= self.gamma <= 1, "agent.gamma", self.gamma, "0 to 1")
        need(self.n_steps >= 1, "agent.n_steps", self.n_steps, "1 or more")
        need(self.batch >= 1, "agent.batch", self.batch, "1 or more")
        need(self.quantiles >= 1, "agent.quantiles", self.quantiles, "1 or more")
        need(0 <= self.advantage < 1, "agent.advantage", self.advantage, "0 to below 1")
        need(self.target_updates >= 1, "agent.target_updates", self.target_updates, "1 or more")
        need(self.max_grad_norm > 0, "agent.max_grad_norm", self.max_grad_norm, "above 0")


def double_q_target(online: Tensor, target: Tensor, returns: Tensor, discount: Tensor) -> Tensor:
    """returns + discount * target[argmax mean online]: quantiles [B, A, N] at the bootstrap state, the rest [B]."""
    best = online.mean(dim=2).argmax(dim=1)
    return returns[:, None] + discount[:, None] * chosen_of(target, best)


def action_gap(quantiles: Tensor, action: Tensor) -> Tensor:
    """How far an action [B] lies below the best one by its mean of quantiles [B, A, N] -> [B], at most MAX_GAP."""
    means = quantiles.mean(dim=2)
    own = means.gather(1, action[:, None])[:, 0]
    return (means.max(dim=1).values - own).clamp(max=MAX_GAP)


def chosen_of(quantiles: Tensor, action: Tensor) -> Tensor:
    """Quantiles [B, A, N] of one action [B] each -> [B, N]."""
    return quantiles.gather(1, action[:, None, None].expand(-1, 1, quantiles.shape[2]))[:, 0]


def quantile_loss(quantiles: Tensor, goals: Tensor) -> Tensor:
    """Loss [B] of N quantiles [B, N] against M samples of the return [B, M]: Huber's, of each pair, with threshold 1.

    Over- and underestimates weigh as the quantile demands (Dabney et al. 2018, equation 10); one alone is the mean.
    """
    shape = (*quantiles.shape, goals.shape[1])
    values, samples = quantiles[:, :, None].expand(shape), goals[:, None, :].expand(shape)
    loss = F.smooth_l1_loss(values, samples, reduction="none")
    count = quantiles.shape[1]
    if count > 1:
        levels = (torch.arange(count, device=loss.device) + 0.5) / count
        loss = loss * (levels[:, None] - (values > samples).float()).abs()
    return loss.mean(dim=2).sum(dim=1)


class Agent(ABC, Generic[B]):
    """Network and optimiser; what a batch's values should become is a kind's own.

    An update's batch is shared out to threads, one operator thread each, and their gradients are added in a fixed
    order: as fast as two OpenMP threads on an idle machine, and not several times slower on a busy one, since nothing
    waits at every operator.
    """

    def __init__(
        self,
        n_actions: int,
        network: NetworkSettings,
        settings: AgentSettings,
        threads: int = 1,
        device: torch.device = CPU,
    ) -> None:
        self._settings, self.device = settings, device
        self.online = LearningNetwork(n_actions, settings.quantiles, settings.dueling, network).to(device)
        self._rounded = rounded(self.online, self._settings.bf16)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1))
        self._optimiser = self._new_optimiser()
        self.updates, self.rate = 0, 0.0  # so many so far, and the learning rate of the last one
        self.losses: NDArray[np.float32] = np.zeros(0, np.float32)  # [B] of the last update's batch
        self.average: Callable[[list[Tensor]], None] | None = None  # of gradients over processes, in place

    def _new_optimiser(self) -> torch.optim.Optimizer:
        own, parameters = self._settings, self.online.parameters()
        rate, eps, norm = own.learning_rate, own.adam_epsilon, own.max_grad_norm
        return ClippedAdam(parameters, self._rounded.parameters(), rate, eps, norm)

    @abstractmethod
    def _goal(self, part: B, quantiles: Tensor) -> Tensor:
        """What those of the chosen actions should become, [B, M] f32, by what they are, quantiles [B, A, N].

        Called without gradients.
        """

    def _weighed(self, losses: Tensor, part: B) -> Tensor:
        """Losses [B] as they count in an update."""
        return losses

    def values(self, stacks: Frames) -> NDArray[np.float32]:
        """Action values [B, A] for stacks [B, 21, 21, 64]."""
        with torch.no_grad():
            return self._rounded(torch.from_numpy(stacks)).mean(dim=2).numpy()  # type: ignore[no-any-return]

    def act(self, stacks: Frames) -> NDArray[np.int64]:
        """Greedy actions [B] for stacks [B, 21, 21, 64]; lowest id on a tie."""
        return self.values(stacks).argmax(axis=1)  # type: ignore[no-any-return]

    def learn(self, batch: B, rate: float) -> dict[str, float]:
        """One update at that learning rate; what it saw, by metric name."""
        return self.finish(self.begin(batch), rate)

    def begin(self, batch: B) -> Gradients:
        """Start on a batch's gradients, in threads of their own; the nets may act, but not change, until `finish`."""
        return [self._pool.submit(self._gradient, part, len(batch.action)) for part in split(batch, self._threads)]

    def finish(self, gradients: Gradients, rate: float) -> dict[str, float]:
        """The update that was begun, at that learning rate; what it saw, by metric name.

        Raises RuntimeError where learning has diverged.
        """
        assert isinstance(self._optimiser, ClippedAdam)
        told = [part.result() for part in gradients]
        parts: list[Sequence[Tensor]] = [part for part, *_ in told]
        if self.average:
            parts = [self._averaged(parts)]
        self._set_rate(rate)
        norm = self._optimiser.advance(parts, self._pool, self._threads)
        self.updates += 1
        self.losses = torch.cat([losses for _, losses, _, _ in told]).numpy()
        return self._seen(sum(part[2] for part in told), sum(part[3] for part in told), norm)

    def _seen(self, loss: float, mean: float, norm: float) -> dict[str, float]:
        """What the last update saw, by metric name; raises RuntimeError where it has diverged."""
        for name, value in (("loss", loss), ("norm of the gradient", norm)):
            if not math.isfinite(value):
                raise RuntimeError(
                    f"training: the {name} of update {self.updates:,} is {value}, must be finite; the last "
                    "checkpoint is whole; lower teacher.agent.learning_rate, and begin in another root=... where that "
                    "is too late"
                )
        return {"train/loss": loss, "train/q_mean": mean, "train/grad_norm": norm}

    def _averaged(self, parts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """The sum of gradients' parts, in float32, averaged over processes."""
        assert self.average
        sums = [torch.stack([part.float() for part in each]).sum(dim=0) for each in zip(*parts, strict=True)]
        self.average(sums)
        return sums

    def _set_rate(self, rate: float) -> None:
        self.rate = rate * min(1.0, (self.updates + 1) / WARMUP_UPDATES)
        for group in self._optimiser.param_groups:
            if isinstance(group["lr"], Tensor):  # in place: a recorded update reads it there
                group["lr"].fill_(self.rate)
            else:
                group["lr"] = self.rate

    def _gradient(self, part: B, size: int) -> tuple[tuple[Tensor, ...], Tensor, float, float]:
        """(gradients, losses [B], loss, mean value) that part of a batch of that size adds to the whole."""
        quantiles = self._rounded(torch.from_numpy(part.obs))
        with torch.no_grad():
            goal = self._goal(part, quantiles)
        chosen = chosen_of(quantiles, torch.from_numpy(part.action))
        losses = quantile_loss(chosen, goal)
        loss = self._weighed(losses, part).sum() / size
        gradients = torch.autograd.grad(loss, list(self._rounded.parameters()))
        return gradients, losses.detach(), loss.item(), chosen.mean(dim=1).sum().item() / size

    @torch.no_grad()
    def policy(self) -> dict[str, Tensor]:
        """Parameters of a network of mean values: the last layer is linear, so its quantiles are averaged there."""
        return {name: value.cpu() for name, value in self.online.plain().items()}

    def begin_as(self, plain: Mapping[str, Tensor]) -> None:
        """Go on from a policy's parameters, as `policy` gives them; the optimiser has seen nothing yet."""
        nets, own = ("online", "target"), self.online.spread(plain)
        given = {f"{net}.{name}": value.float() for net in nets for name, value in own.items()}
        state = self.state()
        self.load(state | {name: value for name, value in given.items() if name in state})

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on, as named tensors."""
        named = {f"online.{k}": v for k, v in self.online.state_dict().items()}
        named |= optimiser_tensors(self._optimiser) | {"updates": torch.tensor(self.updates)}
        return {name: value.cpu() for name, value in named.items()}

    def load(self, named: dict[str, Tensor]) -> None:
        """Go on from `state`."""
        self.online.load_state_dict(_below(named, "online"))
        copy_parameters(self.online, self._rounded)
        load_optimiser(self._optimiser, named)
        self.updates = int(named["updates"])


class DoubleDqn(Agent[Transitions]):
    """Double DQN: a second network, copied from the first now and then, values what the first picks."""

    def __init__(
        self,
        n_actions: int,
        network: NetworkSettings,
        settings: AgentSettings,
        threads: int = 1,
        device: torch.device = CPU,
    ) -> None:
        super().__init__(n_actions, network, settings, threads, device)
        self.target = rounded(self.online, self._settings.bf16)

    def finish(self, gradients: Gradients, rate: float) -> dict[str, float]:
        metrics = super().finish(gradients, rate)
        self._renew()
        return metrics

    def _renew(self) -> None:
        if self.updates % self._settings.target_updates == 0:
            copy_parameters(self.online, self.target)

    def _goal(self, part: Transitions, quantiles: Tensor) -> Tensor:
        obs, action, returns, discount = map(
            torch.from_numpy, (part.next_obs, part.action, part.returns, part.discount)
        )
        return self._goal_of(obs, action, returns, discount, quantiles)

    def _goal_of(self, ahead: Tensor, action: Tensor, returns: Tensor, discount: Tensor, quantiles: Tensor) -> Tensor:
        ahead = ahead.to(self._rounded.conv1.weight.dtype)  # once for both nets
        goal = double_q_target(self._rounded(ahead), self.target(ahead), returns, discount)
        return goal - self._settings.advantage * action_gap(quantiles, action)[:, None]

    def _weighed(self, losses: Tensor, part: Transitions) -> Tensor:
        return losses * torch.from_numpy(part.weight)

    def state(self) -> dict[str, Tensor]:
        return super().state() | {f"target.{k}": v.float().cpu() for k, v in self.target.state_dict().items()}

    def load(self, named: dict[str, Tensor]) -> None:
        super().load(named)
        self.target.load_state_dict(_below(named, "target"))


def split(batch: B, parts: int) -> list[B]:
    """Views of at most `parts` consecutive parts of a record of arrays, as equal as can be, none empty."""
    size = len(batch.action)
    bounds = np.linspace(0, size, min(parts, size) + 1).astype(int)
    cuts = [slice(int(begin), int(end)) for begin, end in pairwise(bounds)]
    return [type(batch)(*(getattr(batch, f.name)[cut] for f in fields(batch))) for cut in cuts]


def _below(named: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix + "."): v for k, v in named.items() if k.startswith(prefix + ".")}

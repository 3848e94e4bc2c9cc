"""Double DQN on a GPU: whole batches, an update as two recorded graphs, gradients beside the acting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl.agent import AgentSettings, DoubleDqn, Gradients, chosen_of, quantile_loss
from rl.device import Recorded
from rl.device_replay import DeviceTransitions
from rl.frames import CELLS, CHANNELS, Frames
from rl.network import NetworkSettings, copy_parameters


class DeviceDqn(DoubleDqn):
    """As `DoubleDqn`, for batches that lie on the device."""

    def __init__(self, n_actions: int, network: NetworkSettings, settings: AgentSettings, device: torch.device) -> None:
        super().__init__(n_actions, network, settings, device=device)
        self._batch = _room(settings.batch, device)
        self._told = torch.zeros(3, device=device)  # loss, mean value, norm of the gradient
        self._losses = torch.zeros(settings.batch, device=device)
        for parameter in self.online.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self._differentiate, self._update = Recorded(self._backward, device), Recorded(self._apply, device)
        self._aside = _stream(device) if device.type == "cuda" else None

    def _new_optimiser(self) -> torch.optim.Optimizer:
        own, on_gpu = self._settings, self.device.type == "cuda"
        rate = torch.tensor(own.learning_rate, device=self.device) if on_gpu else own.learning_rate
        return torch.optim.Adam(self.online.parameters(), lr=rate, eps=own.adam_epsilon, fused=True, capturable=on_gpu)

    def values(self, stacks: Frames | Tensor) -> NDArray[np.float32]:
        with torch.no_grad():
            cells = torch.as_tensor(stacks, device=self.device)
            return self._rounded(cells).mean(dim=2).cpu().numpy()  # type: ignore[no-any-return]

    def begin(self, batch: Any) -> Gradients:
        """Start on a batch's gradients beside everything else that the device does; nothing is handed over."""
        for field in fields(batch):
            getattr(self._batch, field.name).copy_(getattr(batch, field.name))
        with self._beside():
            self._differentiate()
        return []

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """In a stream of its own, after all that was asked of the device so far."""
        if self._aside is None:
            yield
            return
        self._aside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._aside):
            yield

    def finish(self, gradients: Gradients, rate: float) -> dict[str, float]:
        if self._aside is not None:
            torch.cuda.current_stream(self.device).wait_stream(self._aside)
        if self.average:
            self.average([parameter.grad for parameter in self.online.parameters() if parameter.grad is not None])
        self._set_rate(rate)
        self._update()
        self.updates += 1
        self._renew()
        self.losses = self._losses.cpu().numpy()
        return self._seen(*self._told.tolist())

    def _backward(self) -> None:
        batch = self._batch
        quantiles = self._rounded(batch.obs)
        with torch.no_grad():
            goal = self._goal_of(batch.next_obs, batch.action, batch.returns, batch.discount, quantiles)
        chosen = chosen_of(quantiles, batch.action)
        losses = quantile_loss(chosen, goal)
        loss = (losses * batch.weight).mean()
        gradients = torch.autograd.grad(loss, list(self._rounded.parameters()))
        for parameter, gradient in zip(self.online.parameters(), gradients, strict=True):
            assert parameter.grad is not None
            parameter.grad.copy_(gradient)
        self._losses.copy_(losses.detach())
        self._told[0].copy_(loss.detach())
        self._told[1].copy_(chosen.detach().mean())

    def _apply(self) -> None:
        norm = torch.nn.utils.clip_grad_norm_(self.online.parameters(), self._settings.max_grad_norm)
        self._told[2].copy_(norm)
        self._optimiser.step()
        copy_parameters(self.online, self._rounded)


def _room(batch: int, device: torch.device) -> DeviceTransitions:
    """A batch of zeros, which every batch is copied into: recorded graphs read it there."""
    obs, next_obs = (torch.zeros(batch, CELLS, CELLS, CHANNELS, dtype=torch.uint8, device=device) for _ in range(2))
    scalars = (torch.zeros(batch, device=device) for _ in range(3))
    return DeviceTransitions(obs, next_obs, torch.zeros(batch, dtype=torch.int64, device=device), *scalars)


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

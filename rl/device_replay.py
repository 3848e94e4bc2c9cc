"""The replay on a GPU: frames lie on the device, stacks are built there; the rest of a row stays in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl.device import need_device_memory
from rl.frames import BLOCK, CELLS, CHANNELS, STACK, Frames
from rl.replay import Replay, ahead_of, stacked

NO_FRAME = -1  # before an episode's first one


@dataclass(frozen=True, eq=False)
class DeviceTransitions:
    """As `rl.replay.Transitions`, on a device."""

    obs: Tensor  # [B, 21, 21, 64] u8
    next_obs: Tensor  # [B, 21, 21, 64] u8
    action: Tensor  # [B] i64
    returns: Tensor  # [B] f32
    discount: Tensor  # [B] f32
    weight: Tensor  # [B] f32


class DeviceReplay(Replay):
    """Draws the very rows that `Replay` draws; `length` rows of each of E envs on a device."""

    def __init__(
        self, n_envs: int, capacity: int, first: Frames, device: torch.device, prioritised_steps: int = 0
    ) -> None:
        """As `Replay`; raises MemoryError where the device has no room."""
        self._device = device
        super().__init__(n_envs, capacity, first, prioritised_steps)

    def _room(self, n_envs: int) -> None:
        shape = (n_envs * self.length, CELLS * CELLS, BLOCK * BLOCK)
        need_device_memory(self._device, int(np.prod(shape)), "replay", "lower teacher.replay_rows")
        self._frames = torch.zeros(shape, dtype=torch.uint8, device=self._device)

    def _put(self, envs: NDArray[np.int64] | int, at: NDArray[np.int64], cells: Frames) -> None:
        if len(at):
            flat = np.ascontiguousarray(cells).reshape(len(at), CELLS * CELLS, -1)
            self._frames[self._there(envs * self.length + at)] = self._there(flat)

    def _take(self, envs: NDArray[np.int64], at: NDArray[np.int64]) -> Frames:
        taken = self._frames[self._there(envs * self.length + at)].cpu().numpy()
        return taken.reshape(-1, CELLS, CELLS, BLOCK * BLOCK)  # type: ignore[no-any-return]

    def _there(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self._device, non_blocking=True)

    def _transitions(  # type: ignore[override]
        self, envs: NDArray[np.int64], rows: NDArray[np.int64], weight: NDArray[np.float32], n: int, gamma: float
    ) -> DeviceTransitions:
        where, scalars = np.empty((2, len(envs), STACK), np.int64), np.empty((3, len(envs)), np.float32)
        _plan(self._reward, self._flags, envs, rows, n, gamma, where, scalars)
        scalars[2] = weight
        (obs, next_obs), (returns, discount, weights) = self._stacks(where), self._there(scalars)
        return DeviceTransitions(obs, next_obs, self._there(self._actions(envs, rows)), returns, discount, weights)

    def newest(self) -> Tensor:
        """The stacks [E, 21, 21, 64] u8 that the next decisions are taken on."""
        where = np.empty((len(self.head), STACK), np.int64)
        _newest(self._flags, self.head, where)
        return self._stacks(where)

    def _stacks(self, where: NDArray[np.int64]) -> Tensor:
        """Stacks [..., 21, 21, 64] of the frames at rows [..., 4] of the whole ring."""
        index = self._there(where)
        frames = self._frames[index.clamp(min=0)] * (index != NO_FRAME)[..., None, None]
        return frames.movedim(-3, -2).reshape(*where.shape[:-1], CELLS, CELLS, CHANNELS)


@numba.njit(cache=True, nogil=True)
def _plan(reward, flags, envs, rows, n, gamma, where, scalars):  # type: ignore[no-untyped-def]
    """Into where [2, B, 4] the rows of both stacks' frames; returns and discount into the first two of scalars."""
    for b in range(len(envs)):
        e = envs[b]
        scalars[0, b], scalars[1, b], ahead = ahead_of(reward[e], flags[e], rows[b], n, gamma)
        _frames_of(flags, e, rows[b], where[0, b])
        _frames_of(flags, e, ahead, where[1, b])


@numba.njit(cache=True, nogil=True)
def _newest(flags, head, where):  # type: ignore[no-untyped-def]
    for e in range(len(head)):
        _frames_of(flags, e, head[e] - 1, where[e])


@numba.njit(cache=True, nogil=True)
def _frames_of(flags, env, row, out):  # type: ignore[no-untyped-def]
    unseen = stacked(flags[env], row, out)
    for k in range(STACK):
        out[k] = NO_FRAME if k < unseen else out[k] + env * flags.shape[1]

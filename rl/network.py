"""The teacher's network: the DQN trunk with normalisation, read from block layout, and the player that it makes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rl.frames import CHANNELS, Frames, stack_blocks
from rl.settings import need

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class NetworkSettings:
    """Widths of the trunk: kernels 8/4, 4/2, 3/1 (Mnih et al. 2015), then one hidden layer."""

    channels: tuple[int, ...]  # of the three convolutions
    hidden: int  # units before the actions

    def __post_init__(self) -> None:
        three = len(self.channels) == 3 and min(self.channels) >= 1
        need(three, "network.channels", self.channels, "three widths of 1 or more")
        need(self.hidden >= 1, "network.hidden", self.hidden, "1 or more")


class QNetwork(nn.Module):
    """Stacks u8 [B, 21, 21, 64] in block layout -> action values [B, A].

    Layer order: convolution, norm, ReLU (Gallici et al. 2024, who replace the target net by the norm; here both stay).
    """

    def __init__(self, n_actions: int, settings: NetworkSettings) -> None:
        super().__init__()
        one, two, three = settings.channels
        self.conv1 = nn.Conv2d(CHANNELS, one, 2)  # over 4x4 blocks: kernel 8, stride 4 over pixels
        self.conv2 = nn.Conv2d(one, two, 4, 2)
        self.conv3 = nn.Conv2d(two, three, 3)
        self.norm1, self.norm2, self.norm3 = (nn.GroupNorm(1, width) for width in settings.channels)
        self.hidden = nn.Linear(three * 7 * 7, settings.hidden)
        self.norm4 = nn.LayerNorm(settings.hidden)
        self.values = nn.Linear(settings.hidden, n_actions)
        for layer in (self.conv1, self.conv2, self.conv3, self.hidden):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.conv1.weight /= 255  # pixels enter as 0..255
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def sums(self, cells: Tensor) -> Tensor:
        """Hidden units [B, H] before their norm and ReLU."""
        x = cells.permute(0, 3, 1, 2)  # channels-last already: no copy
        x = x.to(self.conv1.weight.dtype)
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x)))
        x = F.relu(self.norm3(self.conv3(x)))
        hidden: Tensor = self.hidden(x.flatten(1))
        return hidden

    def trunk(self, cells: Tensor) -> Tensor:
        """Hidden units [B, H]."""
        hidden: Tensor = self.norm4(self.sums(cells))
        return F.relu(hidden)

    def forward(self, cells: Tensor) -> Tensor:
        return self.values(self.trunk(cells)).float()  # type: ignore[no-any-return]


class LearningNetwork(QNetwork):
    """The network while it learns: stacks as above -> N quantiles of each action's return [B, A, N].

    Dueling (Wang et al. 2016, equation 9), what all actions share is learnt apart: `base` + `values` less their mean
    over actions. Both are linear in the same hidden units, so one layer can say it as well.
    """

    def __init__(self, n_actions: int, quantiles: int, dueling: bool, settings: NetworkSettings) -> None:
        super().__init__(n_actions * quantiles, settings)
        self._quantiles = quantiles
        self.base = nn.Linear(settings.hidden, quantiles) if dueling else None

    def forward(self, cells: Tensor) -> Tensor:
        hidden = self.trunk(cells)
        own: Tensor = self.values(hidden).float().unflatten(1, (-1, self._quantiles))
        return own if self.base is None else duel(own, self.base(hidden).float()[:, None], 1)

    def plain(self) -> dict[str, Tensor]:
        """Parameters of the QNetwork that gives the means of these quantiles."""
        named = self.state_dict()
        for part in ("weight", "bias"):
            own = named[f"values.{part}"].unflatten(0, (-1, self._quantiles))
            base = named.pop(f"base.{part}", None)
            named[f"values.{part}"] = (own if base is None else duel(own, base, 0)).mean(dim=1)
        return named

    def spread(self, plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The other way round: parameters whose quantiles are all the values of that QNetwork."""
        named = dict(plain)
        for part in ("weight", "bias"):
            values = named[f"values.{part}"]
            named[f"values.{part}"] = values.repeat_interleave(self._quantiles, dim=0)
            if self.base is not None:
                named[f"base.{part}"] = values.mean(dim=0, keepdim=True).repeat_interleave(self._quantiles, dim=0)
        return named


def duel(own: Tensor, base: Tensor, actions: int) -> Tensor:
    """`own` less its mean over the dimension of actions, plus what they share."""
    return own - own.mean(dim=actions, keepdim=True) + base


def rounded(network: Network, bf16: bool = True) -> Network:
    """A copy to compute with: rounded once, where autocast would in every pass of every thread.

    That took a sixth of an update. Norms keep float32 scales, as under autocast.
    """
    made = copy.deepcopy(network)
    for layer in made.modules():
        if bf16 and isinstance(layer, nn.Conv2d | nn.Linear):
            layer.to(torch.bfloat16)
    return made


@torch.no_grad()
def copy_parameters(source: nn.Module, into: nn.Module) -> None:
    """Every parameter, rounded to the type it has there."""
    for own, other in zip(source.parameters(), into.parameters(), strict=True):
        other.copy_(own)


@torch.no_grad()
def action_values(network: QNetwork, obs: Frames) -> NDArray[np.float32]:
    """Values [B, A] f32 of picture stacks [B, 4, 84, 84] u8; float32 throughout, as labels need."""
    return network(torch.from_numpy(stack_blocks(obs))).numpy()  # type: ignore[no-any-return]


class TeacherPlayer:
    """Plays a network greedily; lowest action id on a tie."""

    def __init__(self, network: QNetwork) -> None:
        self._network = network
        self.votes: NDArray[np.int32] | None = None  # leads over the worst action, in hundredths of a point
        self.activity: NDArray[np.int32] | None = None  # no chip

    def reset(self) -> None:
        self.votes = None

    def act(self, obs: Frames) -> int:
        values = action_values(self._network, obs[None])[0]
        self.votes = (100 * (values - values.min())).round().astype(np.int32)
        return int(values.argmax())

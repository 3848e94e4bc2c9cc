"""Losses of policy distillation (Rusu et al. 2015): summed over actions, averaged over the batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from rl.settings import SettingsError

Loss = Callable[[Tensor, Tensor], Tensor]


def kl(logits: Tensor, q: Tensor, temperature: float) -> Tensor:
    """KL(softmax(q / temperature) || softmax(logits)); both [B, A]. The student's side carries no temperature."""
    labels = F.softmax(q / temperature, dim=1)
    return F.kl_div(F.log_softmax(logits, dim=1), labels, reduction="sum") / len(q)


def nll(logits: Tensor, q: Tensor) -> Tensor:
    """-ln softmax(logits) of the teacher's best action."""
    return F.cross_entropy(logits, q.argmax(dim=1))


def mse(logits: Tensor, q: Tensor) -> Tensor:
    """Squared distance of the student's and the teacher's values, summed over actions."""
    return (logits - q).square().sum(dim=1).mean()


def entropy(q: Tensor, temperature: float) -> Tensor:
    """Mean entropy (nats) of the labels: how sharp the temperature makes them."""
    log = F.log_softmax(q / temperature, dim=1)
    return -(log.exp() * log).sum(dim=1).mean()


def chosen(name: str, temperature: float) -> Loss:
    """A loss by name."""
    known: dict[str, Loss] = {"kl": lambda logits, q: kl(logits, q, temperature), "nll": nll, "mse": mse}
    if name not in known:
        raise SettingsError(f"distill.loss: found {name!r}, allowed {', '.join(known)}")
    return known[name]


@torch.no_grad()
def agreement(logits: Tensor, q: Tensor) -> Tensor:
    """Share of states in which both choose the same action."""
    return (logits.argmax(dim=1) == q.argmax(dim=1)).float().mean()


@torch.no_grad()
def regret(logits: Tensor, q: Tensor) -> Tensor:
    """Mean value that the teacher thinks is lost by the student's action: near 0 where it matters little which."""
    return (q.max(dim=1).values - q.gather(1, logits.argmax(dim=1, keepdim=True))[:, 0]).mean()

"""Losses of distillation: hand-worked rows, limits, gradients."""

from __future__ import annotations

import math

import pytest
import torch

from distill.loss import agreement, chosen, entropy, kl, mse, nll
from rl.settings import SettingsError

LN = math.log


def test_kl_of_a_hand_worked_row():
    # At temperature 1/2 the labels are softmax([0, 2 ln 2]) = [1/5, 4/5]; the student, untempered, says [1/2, 1/2].
    q, logits = torch.tensor([[0.0, LN(2)]]), torch.zeros(1, 2)
    assert kl(logits, q, 0.5).item() == pytest.approx(0.2 * LN(0.4) + 0.8 * LN(1.6), rel=1e-6)


def test_kl_sums_over_actions_and_averages_over_the_batch():
    q = torch.tensor([[0.0, LN(2), LN(5)], [1.0, 0.0, 0.0]])
    logits = torch.tensor([[0.5, 0.0, -1.0], [0.0, 2.0, 0.0]])
    rows = [kl(logits[i : i + 1], q[i : i + 1], 0.25).item() for i in range(2)]
    labels, log = torch.softmax(q / 0.25, 1), torch.log_softmax(logits, 1)
    by_hand = (labels * (labels.log() - log)).sum(1)
    assert rows == pytest.approx(by_hand.tolist(), rel=1e-5)
    assert kl(logits, q, 0.25).item() == pytest.approx(sum(rows) / 2, rel=1e-6)


def test_nll_is_the_limit_of_kl_at_low_temperature():
    torch.manual_seed(0)
    logits, q = torch.randn(7, 5), torch.randn(7, 5)
    assert kl(logits, q, 1e-4).item() == pytest.approx(nll(logits, q).item(), rel=1e-5)


def test_the_gradient_of_kl_is_the_difference_of_the_distributions():
    torch.manual_seed(1)
    logits, q = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4)
    kl(logits, q, 0.5).backward()
    expected = (torch.softmax(logits, 1) - torch.softmax(q / 0.5, 1)) / 3
    assert torch.allclose(logits.grad, expected.detach(), atol=1e-6)


def test_mse_sums_over_actions_and_averages_over_the_batch():
    logits, q = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert mse(logits, q).item() == (4 + 9 + 1) / 2


def test_entropy_runs_from_sharp_to_uniform():
    q = torch.tensor([[0.0, 1.0, 2.0, 3.0], [5.0, 1.0, 0.0, 0.0]])
    assert entropy(q, 1e-3).item() == pytest.approx(0.0, abs=1e-6)
    assert entropy(q, 1e6).item() == pytest.approx(LN(4), rel=1e-4)
    assert entropy(torch.tensor([[0.0, LN(3)]]), 1.0).item() == pytest.approx(-(0.25 * LN(0.25) + 0.75 * LN(0.75)))


def test_agreement_counts_equal_choices_lowest_index_on_a_tie():
    logits = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0], [0.0, 0.0, 1.0], [3.0, 0.0, 0.0]])
    q = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    assert agreement(logits, q).item() == 0.75


def test_losses_are_chosen_by_name():
    logits, q = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert chosen("kl", 0.5)(logits, q) == kl(logits, q, 0.5)
    assert chosen("nll", 0.5)(logits, q) == nll(logits, q) and chosen("mse", 0.5)(logits, q) == mse(logits, q)


def test_an_unknown_loss_is_refused_with_the_known_ones():
    with pytest.raises(SettingsError, match=r"distill.loss: found 'huber', allowed kl, nll, mse"):
        chosen("huber", 1.0)

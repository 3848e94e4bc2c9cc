"""Double DQN: its target by hand, its learning on a problem that fits on a line, its state."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import safetensors.torch
import torch

from rl.agent import MAX_GAP, WARMUP_UPDATES, DoubleDqn, action_gap, double_q_target, quantile_loss
from rl.network import LearningNetwork, NetworkSettings, QNetwork, TeacherPlayer, action_values
from rl.replay import Transitions
from rl.settings import SettingsError
from tests.training_cases import TINY_AGENT, TINY_NET

ACTIONS = 4
RATE = 1e-3


def agent(seed=1, threads=1, **changes):
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    return DoubleDqn(ACTIONS, TINY_NET, dataclasses.replace(TINY_AGENT, **changes), threads)


def a_batch(seed=0, size=6, discount=0.5):
    rng = np.random.default_rng(seed)
    obs, ahead = rng.integers(0, 256, (2, size, 21, 21, 64), dtype=np.uint8)
    returns, weight = rng.integers(-2, 3, size).astype(np.float32), np.ones(size, np.float32)
    return Transitions(
        obs, ahead, rng.integers(ACTIONS, size=size), returns, np.full(size, discount, np.float32), weight
    )


def weights(net):
    return torch.cat([value.flatten() for value in net.state_dict().values()])


def test_the_online_net_picks_and_the_target_net_values():
    online = torch.tensor([[1.0, 5.0, 2.0], [4.0, 4.0, 0.0], [0.0, -1.0, 9.0]])
    target = torch.tensor([[8.0, -2.0, 16.0], [0.5, 64.0, 64.0], [7.0, 7.0, 3.0]])
    returns, discount = torch.tensor([1.0, -1.0, 0.25]), torch.tensor([0.5, 0.25, 0.0])
    # row 0: 1 + .5 * -2; row 1: the tie goes to action 0; row 2: behind a terminal nothing counts
    goal = double_q_target(online[..., None], target[..., None], returns, discount)
    assert goal.tolist() == [[0.0], [-0.875], [0.25]]


def test_the_mean_of_the_online_quantiles_picks_and_all_of_the_target_s_are_the_goal():
    online = torch.tensor([[[9.0, 0.0], [4.0, 6.0], [5.0, 4.0]]])  # means 4.5, 5, 4.5
    target = torch.tensor([[[7.0, 7.0], [-1.0, 3.0], [8.0, 8.0]]])
    goal = double_q_target(online, target, torch.tensor([2.0]), torch.tensor([0.5]))
    assert goal.tolist() == [[1.5, 3.5]]


def plain_quantile_loss(quantiles, goals):
    """Of one state, pair by pair."""
    total = 0.0
    for i, value in enumerate(quantiles):
        level = (i + 0.5) / len(quantiles)
        for goal in goals:
            error = goal - value
            huber = error * error / 2 if abs(error) < 1 else abs(error) - 0.5
            weight = 1.0 if len(quantiles) == 1 else (1 - level if error < 0 else level)
            total += weight * huber / len(goals)
    return total


@pytest.mark.parametrize(("count", "samples"), [(1, 1), (1, 3), (5, 1), (4, 7)])
def test_the_loss_of_quantiles_is_summed_over_them_and_averaged_over_samples(count, samples):
    rng = np.random.default_rng(count)
    quantiles, goals = rng.normal(0, 2, (6, count)), rng.normal(0, 2, (6, samples))
    losses = quantile_loss(torch.from_numpy(quantiles), torch.from_numpy(goals))
    assert losses.tolist() == pytest.approx([plain_quantile_loss(*pair) for pair in zip(quantiles, goals, strict=True)])


def test_quantiles_settle_where_they_belong():
    values = torch.zeros(1, 4, requires_grad=True)
    samples = torch.arange(1000.0)[None] / 10  # 0 to 100
    optimiser = torch.optim.SGD([values], lr=20.0)
    for _ in range(400):
        optimiser.zero_grad()
        quantile_loss(values, samples).sum().backward()
        optimiser.step()
    assert values[0].tolist() == pytest.approx([12.5, 37.5, 62.5, 87.5], abs=1)


@pytest.mark.parametrize(("quantiles", "dueling"), [(5, False), (5, True), (1, True)])
def test_the_policy_of_a_learner_is_a_plain_network_of_its_mean_values(quantiles, dueling):
    own, batch = agent(quantiles=quantiles, dueling=dueling), a_batch(size=9)
    for seed in range(3):
        own.learn(a_batch(seed), RATE)
    network = QNetwork(ACTIONS, TINY_NET)
    network.load_state_dict(own.policy())
    values = network(torch.from_numpy(batch.obs)).detach().numpy()
    assert np.allclose(values, own.values(batch.obs), atol=1e-5)
    assert values.std() > 0.01


def test_a_dueling_network_learns_what_actions_share_apart():
    torch.manual_seed(0)
    network, hidden = LearningNetwork(ACTIONS, 3, True, TINY_NET), TINY_NET.hidden
    cells = torch.from_numpy(a_batch().obs)
    with torch.no_grad():
        before, x = network(cells), network.trunk(cells)
        apart = network.values.weight.view(ACTIONS, 3, hidden) + torch.randn(3, hidden)  # the same for every action
        network.values.weight.copy_(apart.flatten(0, 1))
        assert torch.allclose(network(cells), before, atol=1e-5)
        network.base.weight += 1
        shared = network(cells) - before  # [6, ACTIONS, 3]
    assert torch.allclose(shared, x.sum(dim=1)[:, None, None].expand_as(shared), atol=1e-4)


def test_the_gap_of_an_action_is_to_the_best_mean_and_bounded():
    quantiles = torch.tensor([[[1.0, 3.0], [2.0, 2.5], [0.0, 2.5]], [[9.0, 9.0], [-9.0, 9.0], [9.0, 8.5]]])
    rows = quantiles[[0, 0, 0, 1, 1, 1]]  # means 2, 2.25, 1.25 and 9, 0, 8.75
    gaps = action_gap(rows, torch.tensor([0, 1, 2, 0, 1, 2]))
    assert gaps.tolist() == [0.25, 0, 1, 0, MAX_GAP, 0.25]


def test_an_advantage_widens_the_gaps_and_leaves_the_best_action_s_value():
    def learnt(advantage):
        own = agent(advantage=advantage)
        for _ in range(600):
            for batch in every:
                own.learn(batch, 0.003)  # at 0.01 features of two seeds in five die
        return own.values(every[0].obs)

    returns = np.full((2, ACTIONS), -1, np.float32)  # of two states' actions
    returns[:, :2] = [[0.5, 0.25], [-0.25, 0.0]]
    obs, weight = a_batch(size=2).obs, np.ones(2, np.float32)
    taken = [np.full(2, action, np.int64) for action in range(ACTIONS)]
    zero = np.zeros(2, np.float32)
    every = [Transitions(obs, obs, a, r, zero, weight) for a, r in zip(taken, returns.T, strict=True)]
    plain, wide = (learnt(advantage)[:, :2] for advantage in (0.0, 0.5))
    assert plain == pytest.approx(returns[:, :2], abs=0.05)
    # a gap g settles where it is what was there and half of itself: twice as wide
    assert wide == pytest.approx(np.array([[0.5, 0.0], [-0.5, 0.0]]), abs=0.05)


@pytest.mark.parametrize(
    ("bf16", "quantiles", "dueling"), [(False, 1, False), (True, 1, False), (True, 3, False), (True, 3, True)]
)
def test_learning_brings_values_to_their_targets(bf16, quantiles, dueling):
    own, batch = agent(bf16=bf16, quantiles=quantiles, dueling=dueling), a_batch(discount=0.0)
    losses = [own.learn(batch, 0.01)["train/loss"] for _ in range(320)]
    assert losses[-1] < losses[0] / 8
    values = own.values(batch.obs)
    assert np.abs(values[np.arange(6), batch.action] - batch.returns).max() < 0.5


def test_bfloat16_changes_the_arithmetic_and_not_the_types():
    plain, rough, batch = agent(), agent(bf16=True), a_batch()
    one, two = plain.learn(batch, RATE), rough.learn(batch, RATE)
    assert one["train/q_mean"] != two["train/q_mean"]
    assert one["train/q_mean"] == pytest.approx(two["train/q_mean"], abs=0.1)
    assert {value.dtype for value in rough.online.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_a_batch_shared_out_to_threads_gives_the_same_update(threads):
    alone, shared = agent(), agent(threads=threads)
    for seed in range(9):
        one, other = alone.learn(a_batch(seed, size=7), RATE), shared.learn(a_batch(seed, size=7), RATE)
        assert one == pytest.approx(other, rel=1e-4)
    assert torch.allclose(weights(alone.online), weights(shared.online), atol=1e-5)


def test_threads_do_not_make_an_update_depend_on_chance():
    one, again = (agent(threads=3, bf16=True) for _ in range(2))
    for seed in range(9):
        assert one.learn(a_batch(seed), RATE) == again.learn(a_batch(seed), RATE)
    assert torch.equal(weights(one.online), weights(again.online))


def test_acting_while_an_update_is_under_way_changes_neither():
    alone, busy = agent(threads=2), agent(threads=2)
    for seed in range(5):
        batch = a_batch(seed)
        chosen = alone.act(batch.obs)
        alone.learn(batch, RATE)
        learning = busy.begin(batch)
        assert busy.act(batch.obs).tolist() == chosen.tolist()
        busy.finish(learning, RATE)
    assert torch.equal(weights(alone.online), weights(busy.online))


def test_the_target_net_is_copied_every_so_many_updates():
    own = agent(target_updates=3)
    copies = []
    for _ in range(7):
        before = weights(own.target)
        own.learn(a_batch(), RATE)
        copies.append(not torch.equal(before, weights(own.target)))
        assert torch.equal(weights(own.target), weights(own.online)) is copies[-1]
    assert copies == [False, False, True, False, False, True, False]


def test_an_update_takes_the_rate_it_is_given():
    still, slow, fast = agent(), agent(), agent()
    before = weights(still.online)
    moved = []
    for own, rate in ((still, 0.0), (slow, 0.25), (fast, 0.5)):
        own.learn(a_batch(), rate)
        moved.append((weights(own.online) - before).double())
    assert not moved[0].any()
    assert moved[1].any()
    assert torch.allclose(2 * moved[1], moved[2], atol=1e-5)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_loaded_agent_goes_on_bit_for_bit(bf16):
    own, other = agent(bf16=bf16), agent(seed=2, bf16=bf16)
    for seed in range(5):
        own.learn(a_batch(seed), RATE)
    saved = safetensors.torch.save({name: value.contiguous() for name, value in own.state().items()})
    assert all(value.numpy().nbytes for value in own.state().values())  # digests are of numpy's bytes
    other.load(safetensors.torch.load(saved))
    assert other.updates == own.updates == 5
    for seed in range(5, 13):  # over a copy of the target net, and past the warm-up of the optimiser
        assert own.learn(a_batch(seed), RATE) == other.learn(a_batch(seed), RATE)
    assert torch.equal(weights(own.online), weights(other.online))
    assert torch.equal(weights(own.target), weights(other.target))


@pytest.mark.parametrize("threads", [1, 2])
def test_an_update_is_adam_s_whatever_the_order_in_memory(threads):
    own = agent(threads=threads)
    plain = [parameter.detach().clone().contiguous() for parameter in own.online.parameters()]
    adam = torch.optim.Adam(plain, eps=TINY_AGENT.adam_epsilon)
    for update in range(1, 6):
        parts = own.begin(a_batch(update))
        for i, mine in enumerate(plain):
            mine.grad = sum(part.result()[0][i].float() for part in parts).contiguous()
        torch.nn.utils.clip_grad_norm_(plain, TINY_AGENT.max_grad_norm)
        own.finish(parts, RATE)
        adam.param_groups[0]["lr"] = RATE * update / WARMUP_UPDATES
        adam.step()
    for mine, parameter in zip(plain, own.online.parameters(), strict=True):
        assert torch.allclose(mine, parameter, atol=1e-7)


def test_a_gradient_without_a_finite_norm_ends_the_training():
    own = agent()
    own.average = lambda sums: sums[0].fill_(math.inf)
    with pytest.raises(RuntimeError, match=r"^training: the norm of the gradient of update 1 is (inf|nan), must"):
        own.learn(a_batch(), RATE)


def test_an_agent_that_has_learnt_nothing_can_be_loaded():
    own, other = agent(), agent(seed=2)
    other.load(own.state())
    assert own.learn(a_batch(), RATE) == other.learn(a_batch(), RATE)


def test_the_same_seed_makes_the_same_agent_and_another_another():
    assert torch.equal(weights(agent().online), weights(agent().online))
    assert not torch.equal(weights(agent().online), weights(agent(seed=2).online))


def test_an_agent_acts_on_its_highest_value():
    own, batch = agent(), a_batch(size=9)
    values = own.online(torch.from_numpy(batch.obs)).mean(dim=2).detach().numpy()
    assert own.act(batch.obs).tolist() == values.argmax(axis=1).tolist()


def test_pixels_and_blocks_give_one_answer():
    torch.manual_seed(3)
    net = QNetwork(ACTIONS, TINY_NET)
    obs = np.random.default_rng(0).integers(0, 256, (3, 4, 84, 84), dtype=np.uint8)
    values = action_values(net, obs)
    assert values.shape == (3, ACTIONS)
    assert values.dtype == np.float32
    player = TeacherPlayer(net)
    player.reset()
    assert [player.act(one) for one in obs] == values.argmax(axis=1).tolist()
    assert player.votes.argmax() == values[2].argmax()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": 1.5}, r"^agent\.gamma: found 1\.5, allowed 0 to 1$"),
        ({"n_steps": 0}, r"^agent\.n_steps: found 0, allowed 1 or more$"),
        ({"batch": 0}, r"^agent\.batch: found 0"),
        ({"quantiles": 0}, r"^agent\.quantiles: found 0, allowed 1 or more$"),
        ({"advantage": 1.0}, r"^agent\.advantage: found 1\.0, allowed 0 to below 1$"),
        ({"learning_rate": 0.0}, r"^agent\.learning_rate: found 0\.0, allowed above 0$"),
        ({"adam_epsilon": -1.0}, r"^agent\.adam_epsilon: found -1\.0"),
        ({"target_updates": 0}, r"^agent\.target_updates: found 0"),
        ({"max_grad_norm": 0.0}, r"^agent\.max_grad_norm: found 0\.0"),
    ],
)
def test_impossible_learners_are_refused(change, message):
    with pytest.raises(SettingsError, match=message):
        dataclasses.replace(TINY_AGENT, **change)


@pytest.mark.parametrize(
    ("channels", "hidden", "message"),
    [
        ((1, 2), 3, r"^network\.channels: found \(1, 2\), allowed three widths of 1 or more$"),
        ((1, 0, 2), 3, r"^network\.channels: found \(1, 0, 2\)"),
        ((1, 2, 3), 0, r"^network\.hidden: found 0, allowed 1 or more$"),
    ],
)
def test_impossible_networks_are_refused(channels, hidden, message):
    with pytest.raises(SettingsError, match=message):
        NetworkSettings(channels, hidden)

"""The health of a student is what a plain count over its neurons says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import conv_net

from distill.export import Folded
from distill.health import firing, health, synapses


@pytest.fixture(scope="module")
def net():
    return conv_net()


def pictures(count, seed):
    return np.random.default_rng(seed).integers(256, size=(count, 2, 13, 15), dtype=np.uint8)


def counted(net, obs):
    """The same by the definition, neuron by neuron."""
    told = {}
    bits = net.transduce(obs)
    for conv, spikes in zip((net.front, *net.layers), (bits, *net.trace(bits)), strict=True):
        neurons = spikes.reshape(len(obs), -1).T.tolist()
        told[f"firing/{conv.name}"] = sum(map(sum, neurons)) / (len(obs) * len(neurons))
        told[f"dead/{conv.name}"] = sum(not any(own) for own in neurons) / len(neurons)
        told[f"always/{conv.name}"] = sum(map(all, neurons)) / len(neurons)
        nonzero = [sum(w != 0 for w in row.ravel().tolist()) for row in conv.weights]
        told[f"synapses/{conv.name}"] = sum(nonzero) / len(nonzero)
        inputs = conv.weights[0].size if conv is net.front else 128  # what a neuron may have; the front is off the chip
        told[f"used/{conv.name}"] = sum(nonzero) / len(nonzero) / inputs
        told[f"zero/{conv.name}"] = 1 - sum(nonzero) / conv.weights.size
    return told


def test_shares_are_those_of_a_plain_count(net):
    obs = pictures(7, 1)
    found = health(net, firing([list(Folded(net).levels(torch.from_numpy(obs)))]))
    expected = counted(net, obs)
    assert list(found) == list(expected)
    assert found == pytest.approx(expected)
    assert any(0 < value < 1 for name, value in found.items() if name.startswith("dead/"))


def test_a_neuron_that_spikes_in_one_batch_alone_is_neither_dead_nor_always_on(net):
    parts, folded = (pictures(5, 2), pictures(4, 3)), Folded(net)
    batches = [list(folded.levels(torch.from_numpy(part))) for part in parts]
    found = health(net, firing(batches))
    assert found == pytest.approx(counted(net, np.concatenate(parts)))
    assert found != pytest.approx(health(net, firing(batches[:1])))


def test_a_layer_without_weights_has_no_synapses(net):
    last = net.layers[-1]
    mute = replace(last, weights=last.weights * 0)
    assert synapses(mute) == 0


def test_no_pictures_are_refused():
    with pytest.raises(ValueError, match="health: found no pictures, must be one or more"):
        firing([])

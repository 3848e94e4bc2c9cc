"""Shared cases: tiny legal students, random core graphs, recorded runs, and plain scalar rules to judge by."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy.cores import FIRST_PIN_CORE, CoreGraph, NeuronTypes, pin_target
from deploy.emulator import pack_words
from deploy.engines import Engine
from deploy.spec import Conv, Head, Shape, StudentSpec, deal_votes

Rng = np.random.Generator
Layer = tuple[int, int, int, int, int]  # features, kernel, stride, padding, groups


def conv(name: str, shape: Shape, layer: Layer, rng: Rng, peak: int = 1, zeros: float = 0.4) -> Conv:
    """A random convolution whose leaks lie where they decide something; weights -peak..peak."""
    features, kernel, stride, padding, groups = layer
    weights = rng.integers(1, peak + 1, (features, shape[0] // groups, kernel, kernel))
    weights = weights * rng.choice((-1, 0, 1), weights.shape, p=((1 - zeros) / 2, zeros, (1 - zeros) / 2))
    spread = max(int(np.sqrt(weights[0].size) * (60 * peak if peak > 1 else 0.5)), 2)
    leak = rng.integers(-spread, spread + 1, features).astype(np.int32)
    order = rng.permutation(shape[0]).astype(np.int32)
    return Conv(name, weights.astype(np.int8), leak, order, groups, stride, padding, shape)


def student(
    layers: Sequence[Layer], front: Layer, picture: Shape, actions: Sequence[int], seed: int, history: int = 1
) -> StudentSpec:
    """A random student with one head for each number of actions."""
    rng = np.random.default_rng(seed)
    convs = [conv("front", picture, front, rng, peak=3)]
    features, *sides = convs[0].out_shape
    shape = (history * features, *sides)
    for index, layer in enumerate(layers):
        convs.append(conv(f"layer{index}", shape, layer, rng))
        shape = convs[-1].out_shape
    starts = np.cumsum([0, *actions])
    heads = [Head(f"Game{i}", tuple(f"A{a}" for a in range(n)), int(starts[i])) for i, n in enumerate(actions)]
    vote = deal_votes(int(np.prod(convs[-1].out_shape)), int(starts[-1]))
    return StudentSpec(convs[0], tuple(convs[1:]), vote, tuple(heads), history)


def conv_net() -> StudentSpec:
    """Every kind of layer, unequal maps, edges, permuted groups, splitters on the tiny chip."""
    layers = [(6, 4, 2, 1, 2), (24, 1, 1, 0, 2), (8, 3, 1, 1, 8), (14, 2, 2, 0, 1)]
    return student(layers, (4, 3, 2, 1, 1), (2, 13, 15), (3,), seed=1)


def two_heads() -> StudentSpec:
    """Two games on one chip, votes that count for none."""
    return student([(10, 2, 1, 0, 1), (13, 1, 1, 0, 1)], (2, 3, 2, 0, 1), (1, 9, 7), (3, 5), seed=2)


def one_layer() -> StudentSpec:
    return student([(7, 3, 2, 1, 1)], (3, 3, 1, 0, 1), (1, 7, 6), (2,), seed=3)


SPECS = {"conv_net": conv_net, "two_heads": two_heads, "one_layer": one_layer}


def pictures(spec: StudentSpec, count: int, seed: int = 0) -> NDArray[np.bool_]:
    """Bits [count, C, H, W] of the first layer, half of them set, one picture blank."""
    bits = np.random.default_rng(seed).random((count, *spec.bits_shape)) < 0.5
    bits[count // 2] = False
    return bits


def atari_student(seed: int = 5, actions: int = 6) -> StudentSpec:
    """The shape that plays: 84x84x4 to a 16x21x21 front, eight layers on the chip."""
    layers = [
        (252, 4, 2, 1, 2),
        (256, 1, 1, 0, 2),
        (256, 2, 2, 0, 8),
        (512, 3, 1, 1, 32),
        (512, 1, 1, 0, 4),
        (512, 2, 2, 0, 16),
        (512, 1, 1, 0, 4),
        (2016, 1, 1, 0, 8),
    ]
    return student(layers, (16, 8, 4, 2, 1), (4, 84, 84), (actions,), seed)


def random_types(
    rng: Rng, kinds: int, axon_types: int, memoryless: bool = False, draws: Rng | None = None
) -> NeuronTypes:
    """Neuron types that use every deterministic rule, small enough that thresholds are met; `draws`: stochastic too."""
    weight = rng.integers(-5, 6, (kinds, axon_types))
    leak = rng.integers(-3, 4, kinds)
    if memoryless:
        return NeuronTypes.of(weight, leak, kappa=rng.integers(0, 2, kinds))
    ranges = {"alpha": (0, 9), "beta": (0, 9), "gamma": (0, 3), "kappa": (0, 2), "epsilon": (0, 2)}
    others = {name: rng.integers(*span, kinds) for name, span in ranges.items()}
    others |= {"reset": rng.integers(-4, 5, kinds), "initial": rng.integers(-6, 7, kinds)}
    if draws is None:
        return NeuronTypes.of(weight, leak, **others)
    # Magnitudes that a draw of 0..255 decides; some types stay deterministic.
    weight, leak = weight * draws.integers(1, 60, weight.shape), leak * draws.integers(1, 90, kinds)
    others |= {"random_weight": draws.integers(0, 1 << axon_types, kinds), "random_leak": draws.integers(0, 2, kinds)}
    return NeuronTypes.of(weight, leak, random_mask=np.maximum(draws.integers(-6, 9, kinds), 0), **others)


def random_graph(
    seed: int, cores: int = 5, axons: int = 67, neurons: int = 71, lines: int = 19, stochastic: bool = False
) -> CoreGraph:
    """Self loops, collisions, delays 1..15, idle neurons, cores with and without memory, pins with two drivers."""
    rng, draws = np.random.default_rng(seed), np.random.default_rng((seed, 1)) if stochastic else None
    kinds, axon_types = 13, int(rng.integers(1, 5))
    half = random_types(rng, kinds, axon_types, memoryless=True)
    other = random_types(rng, kinds, axon_types, draws=draws)
    types = NeuronTypes(**{name: np.concatenate([getattr(half, name), getattr(other, name)]) for name in vars(half)})
    neuron_type = rng.integers(0, kinds + 1, (cores, neurons)).astype(np.uint16)
    with_memory = rng.random(cores) < 0.5
    neuron_type[with_memory] += np.where(neuron_type[with_memory] > 0, kinds, 0).astype(np.uint16)
    synapses = rng.random((cores, neurons, axons)) < 0.2
    target_core = rng.integers(-2, cores, (cores, neurons)).astype(np.int32)
    target_axon = rng.integers(0, axons, (cores, neurons)).astype(np.uint8)
    to_pin = rng.random((cores, neurons)) < 0.2
    core, axon = pin_target(rng.integers(0, 300, (cores, neurons)))
    target_core, target_axon = np.where(to_pin, core, target_core), np.where(to_pin, axon, target_axon)
    delay = np.where(target_core == -1, 0, rng.integers(1, 16, (cores, neurons))).astype(np.uint8)
    counts = rng.integers(0, 4, lines)
    return CoreGraph(
        origin="imported",
        negative_inclusive=bool(rng.integers(2)),
        crossbar=np.ascontiguousarray(pack_words(synapses).transpose(0, 2, 1)),
        crossbar_of=rng.integers(0, cores, cores).astype(np.int32),
        axon_type=rng.choice([*range(axon_types), CoreGraph.UNUSED_AXON], (cores, axons)).astype(np.uint8),
        types=types,
        seed=rng.integers(0, 1 << 32, cores).astype(np.uint32),
        neuron_type=neuron_type,
        target_core=target_core,
        target_axon=target_axon,
        delay=delay,
        input_start=np.cumsum([0, *counts]).astype(np.int32),
        input_core=rng.integers(0, cores, counts.sum()).astype(np.int32),
        input_axon=rng.integers(0, axons, counts.sum()).astype(np.uint8),
        input_delay=rng.integers(0, 16, counts.sum()).astype(np.uint8),
        output_pin=np.arange(300, dtype=np.int32),
        output_answer=rng.integers(-1, 4, 300).astype(np.int16),
    )


def one_neuron(axon_types: NDArray[Any], inputs: int, inclusive: bool = False, **parameters: Any) -> CoreGraph:
    """A core with one neuron on `inputs` lines, one an axon, that drives pin 0; parameters as in NeuronTypes.of."""
    parameters = {"weight": [1], "leak": 0, **parameters}
    weight, leak = np.atleast_2d(parameters.pop("weight")), np.atleast_1d(parameters.pop("leak"))
    return CoreGraph(
        origin="imported",
        negative_inclusive=inclusive,
        crossbar=pack_words(np.ones((1, inputs), bool))[:, :, None].copy(),
        crossbar_of=np.zeros(1, np.int32),
        axon_type=np.asarray(axon_types, np.uint8)[None].copy(),
        types=NeuronTypes.of(weight, leak, **parameters),
        seed=np.zeros(1, np.uint32),
        neuron_type=np.ones((1, 1), np.uint16),
        target_core=np.full((1, 1), FIRST_PIN_CORE, np.int32),
        target_axon=np.zeros((1, 1), np.uint8),
        delay=np.ones((1, 1), np.uint8),
        input_start=np.arange(inputs + 1, dtype=np.int32),
        input_core=np.zeros(inputs, np.int32),
        input_axon=np.arange(inputs, dtype=np.uint8),
        input_delay=np.zeros(inputs, np.uint8),
        output_pin=np.zeros(1, np.int32),
        output_answer=np.zeros(1, np.int16),
    )


def tick_of_one_neuron(
    v: int, total: int, inclusive: bool, p: dict[str, int], rho: Callable[[int], int] | None = None
) -> tuple[int, bool]:
    """(potential, fired) after one tick, in plain integers, straight from the rules of Cassidy et al. 2013.

    `rho`: this tick's draw for a use (`deploy.chance`); needed where p has random_leak or random_mask.
    """

    def sign(value: int) -> int:
        return (value > 0) - (value < 0)

    v += total
    before = sign(v)
    leak, eta = p["leak"], 0
    if rho and p["random_leak"]:
        leak = sign(leak) if abs(leak) >= rho(256) else 0
    if rho and p["random_mask"]:
        eta = rho(257) % 2 ** p["random_mask"]
    v += leak * (before if p["epsilon"] else 1)
    if p["epsilon"] and sign(v) != before:
        v = 0
    alpha, beta = p["alpha"] + eta, p["beta"] + (0 if p["kappa"] else eta)
    if v >= alpha:
        return (p["reset"], v - alpha, v)[p["gamma"]], True
    if v < -beta or (inclusive and v == -beta):
        return (-beta if p["kappa"] else (-p["reset"], v + beta, v)[p["gamma"]]), False
    return v, False


def word_of(seed: int, tick: int, neuron: int, use: int) -> int:
    """The 64 random bits of `deploy.chance.word`, in plain integers."""
    full = (1 << 64) - 1
    bits = ((seed + 1) * 0x9E3779B97F4A7C15 & full) ^ tick << 20 ^ use << 10 ^ neuron
    bits = bits * 0x9E3779B97F4A7C15 & full
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & full
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & full
    return bits ^ bits >> 31


def stream_of(run: int, core: int, seed: int) -> int:
    """The seed of a core's draws: of the run's seed, the core's place and its own seed."""
    return word_of(word_of(run, core, 0, 259), seed, 0, 259)


def equal_runs(plain: Engine, other: Engine, ticks: int, seed: int) -> int:
    """Assert that two engines of one graph do the same in every tick, on lines that mostly stay; spikes in all.

    Mostly, since an engine that follows changes must not lose the ticks without any.
    """
    rng, spikes = np.random.default_rng(seed), 0
    lines = rng.random(plain.graph.n_inputs) < 0.5
    for tick in range(ticks):
        lines = lines ^ (rng.random(plain.graph.n_inputs) < 0.1)
        fired = plain.step(lines)
        assert np.array_equal(fired, other.step(lines)), f"spikes of tick {tick}"
        assert np.array_equal(fired, other.fired), f"spikes of tick {tick}"
        assert np.array_equal(plain.potential, other.potential), f"potentials after tick {tick}"
        assert np.array_equal(plain.pins(), other.pins()), f"pins of tick {tick}"
        assert np.array_equal(plain.spikes_per_core, other.spikes_per_core)
        spikes += int(fired.sum())
    return spikes


DATA = Path(os.environ.get("SPIKECADE_DATA", Path(__file__).parents[1] / "../shared/data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded data at {DATA}; set SPIKECADE_DATA")


def needs_file(name: str) -> pytest.MarkDecorator:
    """Skips where the folder holds no such file: another folder of the same kind has others."""
    return pytest.mark.skipif(not (DATA / name).exists(), reason=f"no {DATA / name}; set SPIKECADE_DATA")


needs_networks = needs_file("eedn_networks.json")


def recordings(pattern: str) -> list[Path]:
    """Files of recorded ground truth; empty where the folder is absent."""
    return sorted(DATA.glob(pattern))


@dataclass(frozen=True, eq=False)
class Recording:
    """A graph with what another program's simulator did with it."""

    graph: CoreGraph
    lines: NDArray[np.bool_]  # [T, I]
    pins: NDArray[np.bool_]  # [T, O]  expected
    arrays: dict[str, NDArray[Any]]  # everything in the file


def read_recording(path: Path) -> Recording:
    """One npz of the recorded ground truth; its README fixes the schema."""
    with np.load(path, allow_pickle=False) as file:
        z = {name: file[name] for name in file.files}
    (_c, a), ticks, pins = z["axon_type"].shape, len(z["out_spikes"]), int(z["num_outputs"])
    address, line = np.unique(z["in_core"].astype(np.int64) * a + z["in_axon"], return_inverse=True)
    lines = np.zeros((ticks, len(address)), bool)
    inside = z["in_tick"] < ticks
    lines[z["in_tick"][inside], line[inside]] = True
    return Recording(_recorded_graph(z, address, pins), lines, z["out_spikes"] == 1, z)


def _recorded_graph(z: dict[str, NDArray[Any]], address: NDArray[np.int64], pins: int) -> CoreGraph:
    (c, a), n = z["axon_type"].shape, z["leak"].shape[1]
    names = ("leak", "pos_threshold", "neg_threshold", "reset_mode", "reset_potential", "initial_potential")
    columns = np.concatenate([z["weights"].astype(int), *(z[name].astype(int)[..., None] for name in names)], axis=2)
    rows, kind = np.unique(columns.reshape(c * n, -1), axis=0, return_inverse=True)
    synapses = np.unpackbits(z["connections"], axis=-1, count=a, bitorder="little").astype(bool)
    pin_core, pin_axon = pin_target(z["dest_axon"])
    to_pin = z["dest_core"] == -2
    return CoreGraph(
        origin="imported",
        negative_inclusive=bool(z["neg_inclusive"]),
        crossbar=np.ascontiguousarray(pack_words(synapses).transpose(0, 2, 1)),
        crossbar_of=np.arange(c, dtype=np.int32),
        axon_type=z["axon_type"],
        types=NeuronTypes.of(
            rows[:, :4],
            rows[:, 4],
            alpha=rows[:, 5],
            beta=-rows[:, 6],
            gamma=rows[:, 7],
            kappa=0,
            reset=rows[:, 8],
            initial=rows[:, 9],
        ),
        seed=np.zeros(c, np.uint32),
        neuron_type=(1 + kind).reshape(c, n).astype(np.uint16),
        target_core=np.where(to_pin, pin_core, z["dest_core"]).astype(np.int32),
        target_axon=np.where(to_pin, pin_axon, np.maximum(z["dest_axon"], 0)).astype(np.uint8),
        delay=np.where(z["dest_core"] == -1, 0, z["delay"]).astype(np.uint8),
        input_start=np.arange(len(address) + 1, dtype=np.int32),
        input_core=(address // a).astype(np.int32),
        input_axon=(address % a).astype(np.uint8),
        input_delay=np.zeros(len(address), np.uint8),
        output_pin=np.arange(pins, dtype=np.int32),
        output_answer=np.full(pins, -1, np.int16),
    )

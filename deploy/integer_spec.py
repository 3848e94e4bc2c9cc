"""An integer student: a network of 8- or 4-bit weights and activations, and the definition of what it computes.

Picture stacks enter as they are, whole numbers 0..255. What leaves is one whole number an action; the action is the
one with the largest (lowest index on a tie). The first and the last layer have 8 bits, weights and inputs, in a 4-bit
network too (McKinstry et al. 2018, arXiv 1809.04191; Esser et al. 2020, arXiv 1902.08153).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.files import FormatError, digest_of, read_arrays, write_arrays
from deploy.integer import BITS, Layer, Norm, layer_violations, normalise, sums
from deploy.spec import SpecError

KIND, VERSION = "spikecade-integers", (1, 0)
FEW = 8  # pictures at a time: more fall out of the cache


@dataclass(frozen=True, eq=False)
class IntegerSpec:
    """A network of integers. Checks itself; equal digests mean equal functions."""

    game: str
    actions: tuple[str, ...]  # meanings, by action id
    bits: int  # of all layers but the first and the last, which have 8
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        problems = list(violations(self))
        if problems:
            raise SpecError(f"integer student: {len(problems)} rules broken\n" + "\n".join(problems))
        for array in _arrays(self).values():
            array.flags.writeable = False

    def __repr__(self) -> str:
        return f"IntegerSpec({self.game}, {self.bits} bits, {len(self.layers)} layers, digest {self.digest[:12]})"

    @property
    def digest(self) -> str:
        """sha256 (hex) of everything that decides what the network computes."""
        return digest_of(_arrays(self), _facts(self))

    @property
    def value_step(self) -> float:
        """Real value of one unit of an answer."""
        norm = self.layers[-2].norm
        assert norm is not None, "violations holds that only the last layer has none"
        return self.layers[-1].step * norm.step

    @property
    def parameter_bytes(self) -> int:
        """Of all that decides what it computes: weights at their own width, everything else as its array has it."""
        packed = sum(layer.weights.size * layer.bits / 8 for layer in self.layers)
        others = sum(array.nbytes for name, array in _arrays(self).items() if not name.endswith("weights"))
        return math.ceil(packed) + others

    @property
    def multiply_adds(self) -> int:
        """Of a decision; norms and requantisation left out, two or three an output."""
        return sum(layer.multiply_adds for layer in self.layers)

    def levels(self, obs: NDArray[np.uint8]) -> Iterator[NDArray[Any]]:
        """Picture stacks [B, C, H, W] u8 -> outputs of every layer [B, h, w, O]: u8, and the last one's sums i32."""
        x: NDArray[Any] = obs.transpose(0, 2, 3, 1)
        for layer in self.layers:
            total = sums(layer, x)
            x = total if layer.norm is None else normalise(layer.norm, total)
            yield x

    def run(self, obs: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Picture stacks [B, C, H, W] u8 -> answers [B, A], in units of `value_step`."""
        parts = [np.zeros((0, len(self.actions)), np.int32)]
        for start in range(0, len(obs), FEW):
            *_, last = self.levels(obs[start : start + FEW])
            parts.append(last.reshape(len(last), -1))
        return np.concatenate(parts)

    def act(self, obs: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Picture stacks [B, C, H, W] u8 -> actions [B]."""
        best: NDArray[np.int64] = self.run(obs).argmax(axis=1)
        return best


def violations(spec: IntegerSpec) -> Iterator[str]:
    """Every rule that a network breaks, as text."""
    if spec.bits not in BITS:
        yield f"bits: {spec.bits}, allowed {', '.join(map(str, BITS))}"
    names = [layer.name for layer in spec.layers]
    if len(names) < 2 or len(set(names)) < len(names):
        yield f"layers: {', '.join(names) or 'none'}; two or more, each name once"
        return
    shape, peak = spec.layers[0].in_shape, 255
    for layer in spec.layers:
        if layer.in_shape != shape:
            yield f"{layer.name}: in_shape {layer.in_shape}, the level before gives {shape}"
        elif layer.weights.ndim == 4 and layer.weights.shape[1] != shape[0]:
            yield f"{layer.name}: weights {layer.weights.shape} do not fit {shape[0]} channels"
        ends = layer in (spec.layers[0], spec.layers[-1])
        if layer.bits != (8 if ends else spec.bits) and layer.bits in BITS:
            yield f"{layer.name}: {layer.bits} bits, must be {8 if ends else spec.bits} in a network of {spec.bits}"
        problems = list(layer_violations(layer, peak))
        yield from problems
        if problems:  # it has no shape to go on with
            return
        last = layer is spec.layers[-1]
        if (layer.norm is None) != last:
            yield f"{layer.name}: {'a' if last else 'no'} norm, must be {'none' if last else 'one'}"
            return
        shape, peak = layer.out_shape, layer.norm.peak if layer.norm else 0
    if shape != (len(spec.actions), 1, 1):
        yield f"actions: {len(spec.actions)}, the last layer gives {shape}"
    wanted = [_peak(layer.bits) for layer in spec.layers[1:]]
    if [layer.norm.peak for layer in spec.layers[:-1] if layer.norm] != wanted:
        yield f"peaks: must be {wanted}, as many bits as the layer that reads them"


def _peak(bits: int) -> int:
    return (1 << bits) - 1


def save_integers(spec: IntegerSpec, path: Path, origin: dict[str, Any] | None = None) -> None:
    """Write a network; `origin` (JSON values: teacher digest, score, versions) rides along and decides nothing."""
    write_arrays(path, KIND, VERSION, _facts(spec) | {"origin": origin or {}}, _arrays(spec))


def load_integers(path: Path) -> tuple[IntegerSpec, dict[str, Any]]:
    """Read (spec, origin); raises FormatError for any file that is not a whole and legal integer student."""
    facts, arrays, _ = read_arrays(path, KIND, VERSION[0])
    try:
        layers = tuple(_layer(name, facts[f"layer {name}"], arrays) for name in facts["names"])
        return IntegerSpec(facts["game"], tuple(facts["actions"]), facts["bits"], layers), facts["origin"]
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as cause:
        raise FormatError(f"{path}: no legal integer student ({cause}); make it again") from cause


NORM_NUMBERS = ("gain_shift", "shift", "guard", "epsilon", "peak", "step")


def _facts(spec: IntegerSpec) -> dict[str, Any]:
    names = [layer.name for layer in spec.layers]
    facts: dict[str, Any] = {"game": spec.game, "actions": list(spec.actions), "bits": spec.bits, "names": names}
    for layer in spec.layers:
        norm = layer.norm and {name: getattr(layer.norm, name) for name in NORM_NUMBERS}
        own = {"stride": layer.stride, "in_shape": list(layer.in_shape), "bits": layer.bits, "step": layer.step}
        facts[f"layer {layer.name}"] = own | {"norm": norm}
    return facts


def _arrays(spec: IntegerSpec) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for layer in spec.layers:
        arrays |= {f"{layer.name}.weights": layer.weights, f"{layer.name}.bias": layer.bias}
        if layer.norm is not None:
            arrays |= {f"{layer.name}.gain": layer.norm.gain, f"{layer.name}.offset": layer.norm.offset}
    return arrays


def _layer(name: str, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Layer:
    norm = None
    if facts["norm"] is not None:
        numbers = {key: facts["norm"][key] for key in NORM_NUMBERS}
        norm = Norm(gain=arrays[f"{name}.gain"], offset=arrays[f"{name}.offset"], **numbers)
    weights, bias = arrays[f"{name}.weights"], arrays[f"{name}.bias"]
    return Layer(name, weights, bias, facts["stride"], tuple(facts["in_shape"]), facts["bits"], facts["step"], norm)

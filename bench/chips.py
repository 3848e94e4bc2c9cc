"""The chip that benchmarks measure: the one that plays Pong, else a random student of the same kind, compiled."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from deploy.chip import chip_named
from deploy.compiled import Compiled
from deploy.compiler import compile_spec
from deploy.players import load_chip
from deploy.spec import Conv, Head, Shape, StudentSpec, deal_votes
from rl.settings import SettingsError

GAME = "Pong"
ACTIONS = ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE")
PLAIN = {"groups": 1, "stride": 1, "padding": 0}
DATA = Path(os.environ.get("SPIKECADE_DATA", Path(__file__).resolve().parents[1] / "../shared/data"))
SLIM = Path(__file__).resolve().parents[1] / "conf" / "student" / "slim.yaml"


def measured_chip(root: str = "runs", layers: Path = SLIM) -> tuple[StudentSpec, Compiled, str]:
    """(student, chip, which one it is in words)."""
    try:
        with redirect_stdout(StringIO()):
            return *load_chip(GAME, root), f"the chip of {GAME}"
    except SettingsError:  # nobody has made one yet
        shape: Any = OmegaConf.to_container(OmegaConf.load(layers))
        spec = random_student(shape)
        return spec, compile_spec(spec, chip_named("ns1e")), f"a random student of {layers.stem}.yaml"


def random_student(shape: Mapping[str, Any], seed: int = 1) -> StudentSpec:
    """Weights at random, leaks such that about half of all neurons fire: no student keeps an engine busier."""
    rng = np.random.default_rng(seed)
    front = {"features": shape["front_features"], "groups": 1, "kernel": 8, "stride": 4, "padding": 2}
    convs = [_conv("front", front, (4, 84, 84), rng)]
    for index, layer in enumerate(shape["layers"]):
        convs.append(_conv(f"layer{index}", layer, convs[-1].out_shape, rng))
    vote = deal_votes(int(np.prod(convs[-1].out_shape)), len(ACTIONS))
    return StudentSpec(convs[0], tuple(convs[1:]), vote, (Head(GAME, ACTIONS, 0),))


def published_students(folder: Path = DATA) -> Iterator[tuple[str, StudentSpec, int]]:
    """(name, a random student of a published shape, cores that IBM reports for it); nothing where the data is absent.

    What precedes the layers on the chip hands its bits on as they are.
    """
    path = folder / "eedn_networks.json"
    if not path.exists():
        return
    for net in json.loads(path.read_text())["networks"]:
        rng = np.random.default_rng(1)
        channels, (height, width) = net["input"]["features"], net["input"]["map"]
        convs = [_conv("front", {"features": channels, "kernel": 1} | PLAIN, (channels, height, width), rng)]
        for index, layer in enumerate(net["layers"]):
            shape = {"padding": layer["pad"], **layer}
            convs.append(
                _conv(f"{index:02}-{layer.get('kind', 'C')}-{layer['features']}", shape, convs[-1].out_shape, rng)
            )
        vote = deal_votes(int(np.prod(convs[-1].out_shape)), len(ACTIONS))
        spec = StudentSpec(convs[0], tuple(convs[1:]), vote, (Head(GAME, ACTIONS, 0),))
        yield net["name"], spec, int(net["reported_cores"])


def _conv(name: str, layer: Mapping[str, int], shape: Shape, rng: np.random.Generator) -> Conv:
    size = (layer["features"], shape[0] // layer["groups"], layer["kernel"], layer["kernel"])
    weights = rng.integers(-1, 2, size).astype(np.int8)
    leak = rng.integers(-1, 3, layer["features"]).astype(np.int32)
    order = rng.permutation(shape[0]).astype(np.int32)
    groups, stride, padding = (layer[key] for key in ("groups", "stride", "padding"))
    return Conv(name, weights, leak, order, groups, stride, padding, shape)

"""Every student that can be named fits the chip that it is meant for, before it is trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from deploy.chip import CHIPS, CompileError
from deploy.compiler import unplaced
from deploy.spec import Head, StudentSpec
from deploy.tiling import naive_cores
from distill.convolve import blind
from distill.export import export
from distill.settings import DistillRun
from distill.student import Student, StudentSettings
from rl.command import CONF, settings

# Answers that are asked of it, chip, cores that it may take.
PRESETS = {
    "slim": (6, "ns1e", 1024),
    "slim-history": (6, "ns1e", 2048),
    "middle": (6, "ns1e", 1365),
    "short": (6, "ns1e", 1400),
    "one-axon": (6, "ns1e", 1365),
    "half": (18, "ns1e", 2048),
    "shallow": (18, "ns1e", 2048),
    "full": (18, "ns1e", 4096),
    "two": (18, "ns1e", 4096),
    "many-chip": (88, "ns1e", 4096),
    "many": (88, "ns16e", 65_536),
}


def shape(name: str) -> StudentSettings:
    with initialize_config_dir(str(CONF), version_base=None):
        tree = OmegaConf.to_container(compose("distill", [f"student={name}"]), resolve=True)
    return settings(DistillRun, tree).student  # type: ignore[arg-type]


def untrained(name: str, actions: int) -> StudentSpec:
    torch.manual_seed(1)
    made = Student(shape(name), (Head("Game", tuple(map(str, range(actions))), 0),))
    with torch.no_grad():
        for level in made.normalised:  # thresholds of both signs, so that little is constant
            level.mean.copy_(torch.randn_like(level.mean))
    return export(made.eval())


def test_every_preset_is_here():
    assert {path.stem for path in (CONF / "student").glob("*.yaml")} == set(PRESETS)


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in ("many", "many-chip", "full", "two")])
def test_a_preset_fits_by_the_plain_rule_with_room_to_copy_its_input(name):
    actions, chip, cores = PRESETS[name]
    naive = sum(naive_cores(untrained(name, actions), CHIPS[chip]))
    assert naive * 1.1 < cores if shape(name).history == 1 else naive < cores


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_compiles_onto_its_chip(name):
    actions, chip, cores = PRESETS[name]
    reduce = not name.startswith("many")  # minutes, where it is not needed to fit
    used, there = unplaced(untrained(name, actions), CHIPS[chip], reduce=reduce)[1].total["cores"]
    assert used <= cores <= there


@pytest.mark.slow
def test_weights_of_one_sign_an_input_take_half_the_cores():
    free, shared = (unplaced(untrained(name, 6), CHIPS["ns1e"], reduce=True)[1] for name in ("middle", "one-axon"))
    assert shared.total["layer cores"][0] < 0.6 * free.total["layer cores"][0]
    assert shared.total["cores"][0] < 0.6 * free.total["cores"][0]


def test_a_chip_too_small_names_the_layer_to_shrink_and_the_count_over():
    spec = untrained("slim", 6)
    small = replace(CHIPS["ns1e"], name="small", width=20, height=30)
    message = (
        r"^2 limits broken\n01-P4-128\(2\): takes \d+ of 891 cores with .* 291 more than small has; shrink it first"
    )
    with pytest.raises(CompileError, match=message):
        unplaced(spec, small)


@pytest.mark.parametrize("name", PRESETS)
def test_every_tap_of_a_preset_reads_so_that_its_gradient_is_a_product_of_bfloat16(name):
    made = Student(shape(name), (Head("Game", tuple(map(str, range(PRESETS[name][0]))), 0),))
    for own, before in zip(made.chip_layers, made.maps(), strict=False):
        by_rows = own.shape.patches
        assert by_rows or not any(blind(side, own.own.kernel, own.own.stride, own.own.padding) for side in before)

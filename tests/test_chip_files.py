"""A compiled student as a file: whole or refused, with the file and the field named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import SPECS, pictures

from deploy.chip import CHIPS
from deploy.compiled import KIND, VERSION, Compiled, load_compiled, save_compiled
from deploy.compiler import compile_spec
from deploy.cores import graph_arrays
from deploy.files import FormatError, read_arrays, write_arrays
from deploy.runner import ChipRunner
from deploy.usage import usage_text

Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return compile_spec(SPECS["conv_net"](), CHIPS["tiny"], seed=4)


def test_what_is_read_is_what_was_written(compiled: Compiled, tmp_path: Path) -> None:
    path = tmp_path / "net.chip"
    save_compiled(compiled, path, {"teacher": "abc"})
    read, origin = load_compiled(path)
    assert origin == {"teacher": "abc"}
    assert read.digest == compiled.digest
    assert read.usage == compiled.usage
    assert read.heads == compiled.heads
    for name, array in graph_arrays(compiled.graph).items():
        assert np.array_equal(graph_arrays(read.graph)[name], array), name
    bits = pictures(SPECS["conv_net"](), 3)
    assert np.array_equal(ChipRunner(read).answers(bits), ChipRunner(compiled).answers(bits))


def test_equal_students_make_equal_files(compiled: Compiled, tmp_path: Path) -> None:
    again = compile_spec(SPECS["conv_net"](), CHIPS["tiny"], seed=4)
    save_compiled(compiled, tmp_path / "a.chip")
    save_compiled(again, tmp_path / "b.chip")
    assert (tmp_path / "a.chip").read_bytes() == (tmp_path / "b.chip").read_bytes()


def test_equal_crossbars_are_stored_once(compiled: Compiled) -> None:
    crossbar = compiled.graph.crossbar
    assert len({prototype.tobytes() for prototype in crossbar}) == len(crossbar) < len(compiled.graph.crossbar_of)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(compiled: Compiled, tmp_path: Path, share: float) -> None:
    path = tmp_path / "net.chip"
    save_compiled(compiled, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(FormatError, match=r"net\.chip: not a readable file"):
        load_compiled(path)


def rewrite(compiled: Compiled, path: Path, change: Callable[[dict[str, Any], Arrays], None]) -> None:
    """Write a file whose digest is right and whose contents are not."""
    save_compiled(compiled, path)
    facts, arrays, _ = read_arrays(path, KIND, VERSION[0])
    change(facts, arrays)
    write_arrays(path, KIND, VERSION, facts, arrays)


def set_first(name: str, value: int) -> Callable[[dict[str, Any], Arrays], None]:
    def change(_: dict[str, Any], arrays: Arrays) -> None:
        arrays[name].flat[0] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts, arrays: arrays.pop("delay"), r"field 'delay' is missing"),
        (lambda facts, arrays: arrays.pop("type_leak"), r"field 'type_leak' is missing"),
        (lambda facts, arrays: facts.pop("layer_levels"), r"field 'layer_levels' is missing"),
        (lambda facts, arrays: facts.update(layer_levels=[]), r"layer_levels: 0 levels for 4 layers"),
        (lambda facts, arrays: facts["usage"].update(chip="ns7"), r"chip: found 'ns7', allowed ns16e, "),
        (set_first("crossbar_of", 9999), r"crossbar_of: values \d+..9999, allowed 0..\d+"),
        (set_first("place", -1), r"place: values -1..\d+, allowed 0"),
        (set_first("probe_core", -2), r"probe_core: values -2..\d+, allowed -1"),
        (set_first("probe_neuron", 44), r"probe_neuron: values 0..44, allowed 0..43"),
        (set_first("delay", 15), r"\d+ limits broken\ncore 0, neuron 0: delay 15, allowed 1..9"),
        (set_first("output_answer", 3), r"1 limits broken\noutput_answer: 4 answers, the heads have 3"),
        (set_first("type_gamma", 3), r"types.gamma: values 0..3, allowed 0..2"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(
    compiled: Compiled, tmp_path: Path, change: Callable[[dict[str, Any], Arrays], None], message: str
) -> None:
    rewrite(compiled, tmp_path / "net.chip", change)
    with pytest.raises(FormatError, match=rf"net\.chip: no legal compiled student \({message}"):
        load_compiled(tmp_path / "net.chip")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    write_arrays(tmp_path / "other.npz", "spikecade-student", (1, 0), {}, {})
    with pytest.raises(FormatError, match=r"other\.npz: field kind is 'spikecade-student', must be 'spikecade-chip'"):
        load_compiled(tmp_path / "other.npz")


def test_the_library_needs_neither_torch_nor_a_game() -> None:
    blocked = ("torch", "hydra", "omegaconf", "ale_py", "rl", "distill")
    modules = "compiler compiled emulator engine runner verification usage place"
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked!r})); " + "; ".join(
        f"import deploy.{name}" for name in modules.split()
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_a_table_read_from_a_file_says_what_it_said_when_made(tmp_path: Path) -> None:
    made = compile_spec(SPECS["conv_net"](), CHIPS["tiny"], reduce=True)
    save_compiled(made, tmp_path / "chip.npz")
    assert usage_text(load_compiled(tmp_path / "chip.npz")[0].usage) == usage_text(made.usage)

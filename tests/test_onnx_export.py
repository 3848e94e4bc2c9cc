"""An integer student as ONNX: the same action in ONNX Runtime, values equal to the last digits of a float32."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from distill_cases import record, stacks, teacher
from integer_cases import integers, pictures
from run_cases import small_integers

from deploy.integer_spec import IntegerSpec, save_integers
from deploy.onnx_export import compare, even, main, to_onnx
from rl.files import read_json


@pytest.fixture
def onnx():
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    return pytest.importorskip("onnx", reason="the extra onnx is not installed")


def cases() -> list[tuple[IntegerSpec, np.ndarray]]:
    tiny = [(spec, pictures(spec, 40, seed)) for seed in range(3) for spec in (integers(8, seed), integers(4, seed))]
    return [*tiny, *((small_integers(bits), stacks(24, bits)) for bits in (8, 4))]


def test_onnx_runtime_takes_the_same_action_everywhere(onnx):
    chosen = set()
    for case, (spec, obs) in enumerate(cases()):
        found = compare(spec, to_onnx(spec).SerializeToString(), obs)
        assert found["same_action"] == found["decisions"] == len(obs)
        assert found["largest_difference"] <= 1e-6 * max(found["value_range"], 1) and found["largest_lead_lost"] == 0
        chosen |= {(case, action) for action in spec.act(obs).tolist()}
    assert len(chosen) > len(cases()), "one action alone proves little"


def test_norms_in_single_precision_stay_close(onnx):
    spec, obs = integers(8), pictures(integers(8), 60)
    wide, narrow = (compare(spec, to_onnx(spec, norms).SerializeToString(), obs) for norms in ("float64", "float32"))
    assert wide["largest_difference"] <= narrow["largest_difference"] < 0.1 * narrow["value_range"]


def test_weights_have_their_own_width_and_activations_are_quantised(onnx):
    model = to_onnx(integers(4))
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds["one.weights.whole"] == kinds["three.weights.whole"] == onnx.TensorProto.INT8
    assert kinds["two.weights.whole"] == onnx.TensorProto.INT4
    assert kinds["two.bias.whole"] == onnx.TensorProto.INT32
    operations = [node.op_type for node in model.graph.node]
    assert operations.count("QuantizeLinear") == 2 and operations.count("Conv") == 3
    assert {entry.key: entry.value for entry in model.metadata_props}["spec"] == integers(4).digest


@pytest.mark.parametrize(("step", "power"), [(1.0, 1.0), (0.3, 0.25), (0.8, 1.0), (5.9, 8.0), (1e-4, 2.0**-13)])
def test_steps_become_the_nearest_power_of_two(step, power):
    assert even(step) == power


def test_the_command_writes_the_graph_and_what_it_found(onnx, tmp_path, capsys):
    data = record(teacher("Pong", tmp_path), tmp_path)
    save_integers(small_integers(8), tmp_path / "int8.npz", {"score": 1})
    arguments = [str(tmp_path / "int8.npz"), str(tmp_path / "int8.onnx"), "--rollouts", str(data), "--decisions", "20"]
    with pytest.raises(SystemExit, match=r"^0$"):
        main(arguments)
    report = read_json(tmp_path / "int8.json")
    assert report["compared"]["same_action"] == report["compared"]["decisions"] == 20
    assert report["bytes"] == (tmp_path / "int8.onnx").stat().st_size and report["spec"] == small_integers(8).digest
    assert "same action in 20 of 20 decisions" in capsys.readouterr().out


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the command says as it fails."""
    with pytest.raises(SystemExit, match=r"^1$"):
        main([str(argument) for argument in arguments])
    return capsys.readouterr().err


def test_what_cannot_be_exported_is_refused(onnx, tmp_path, capsys):
    file = tmp_path / "int4.npz"
    save_integers(small_integers(4, "Breakout"), file)
    out = tmp_path / "a.onnx"
    assert said(capsys, file, out, "--decisions", 0) == "error: --decisions: found 0, allowed 1 or more\n"
    assert "error: OUT: found" in said(capsys, file, tmp_path / "a.npz")
    data = record(teacher("Pong", tmp_path), tmp_path)
    assert said(capsys, file, out, "--rollouts", data) == "error: --rollouts: a dataset of Pong, must be of Breakout\n"


def test_without_the_extra_the_message_says_how_to_get_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    text = said(capsys, tmp_path / "int8.npz", tmp_path / "a.onnx")
    assert text.startswith("error: onnx: ") and "pip install -e '.[onnx]' -c constraints.txt" in text

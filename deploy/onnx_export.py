"""`python -m deploy.onnx_export INT8_FILE OUT.onnx`: an integer student as ONNX with quantise-dequantise pairs (QDQ).

The graph says the same in floating point: weights, biases and activations are dequantised integers, norms are ONNX's
own, every activation is quantised again. Runtimes may compute it as they like, so answers can differ from the integers
in their last digits: with `--rollouts` ONNX Runtime plays recorded pictures beside the integers and the differences are
told. Needs the extra `onnx`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.integer import Layer, Norm
from deploy.integer_spec import IntegerSpec, load_integers
from rl.command import run
from rl.files import write_json, write_whole
from rl.manifest import versions
from rl.rollouts import Rollouts
from rl.settings import SettingsError, need

OPSET, IR_VERSION = 21, 10  # the first with 4-bit integers
BATCH = 100
NORMS = {"float64": "DOUBLE", "float32": "FLOAT"}  # the wider one is as good as exact, the other one is faster


def need_extra() -> None:
    """Raise SettingsError where the extra is not installed."""
    try:
        import onnx  # noqa: F401  only whether it is there
        import onnxruntime  # noqa: F401
    except ImportError as cause:
        raise SettingsError(
            f"onnx: {cause}; install the extra by pip install -e '.[onnx]' -c constraints.txt"
        ) from cause


class Graph:
    """Nodes and constants of a graph that grows from its input to its output."""

    def __init__(self, norms: str) -> None:
        """`norms`: the ONNX type in which norms are computed."""
        self.norms = norms
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def type_of(self, kind: str) -> int:
        """The number of an ONNX type by its name."""
        from onnx import TensorProto

        return int(getattr(TensorProto, kind))

    def constant(self, name: str, values: Any, kind: str) -> str:
        """A constant of an ONNX type by its name ("FLOAT", "INT4")."""
        from onnx import helper

        array, element = np.asarray(values), self.type_of(kind)
        if kind == "INT4":  # two to a byte
            tensor = helper.make_tensor(name, element, array.shape, array.flatten())
        else:
            data = array.astype(helper.tensor_dtype_to_np_dtype(element)).tobytes()
            tensor = helper.make_tensor(name, element, array.shape, data, raw=True)
        self.constants.append(tensor)
        return name

    def node(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """A node whose one output has its name."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def dequantised(self, name: str, values: Any, kind: str, step: float) -> str:
        whole = self.constant(f"{name}.whole", values, kind)
        return self.node("DequantizeLinear", name, whole, self.constant(f"{name}.step", step, "FLOAT"))


def even(step: float) -> float:
    """The power of two nearest to a step.

    A norm does not care in which unit its inputs are, so any step says the same; with powers of two every product and
    every sum below 2**24 is exact in float32.
    """
    return 2.0 ** round(math.log2(step))


def add_layer(graph: Graph, layer: Layer, x: str, scale: float) -> str:
    """One layer over dequantised inputs of that scale; the name of what it gives."""
    name, step = layer.name, even(layer.step)
    weights = graph.dequantised(f"{name}.weights", layer.weights, f"INT{layer.bits}", step)
    bias = graph.dequantised(f"{name}.bias", layer.bias, "INT32", scale * step)
    total = graph.node("Conv", f"{name}.sums", x, weights, bias, strides=[layer.stride] * 2)
    if layer.norm is None:
        return graph.node("Flatten", f"{name}.flat", total)
    return add_norm(graph, name, layer.norm, layer.out_shape, total, scale * step)


def real_norm(norm: Norm, n: int, scale: float) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """(gain [O], offset [O], epsilon) of a norm over n sums of that scale, as real numbers."""
    step, half = even(norm.step), 2.0 ** (norm.shift - 1)
    gain = norm.gain.astype(np.float64) * (step / (math.sqrt(n) * 2.0**norm.gain_shift))
    offset = (norm.offset - half) * (step / 2.0**norm.shift)
    return gain, offset.astype(np.float64), norm.epsilon * (scale / 2.0**norm.guard) ** 2 / n


def add_norm(graph: Graph, name: str, norm: Norm, shape: Sequence[int], total: str, scale: float) -> str:
    """Norm, ReLU, quantisation and its inverse; the norm in the graph's precision."""
    gain, offset, epsilon = real_norm(norm, math.prod(shape), scale)
    kind, step = graph.norms, even(norm.step)

    def fixed(what: str, values: Any) -> str:
        return graph.constant(f"{name}.{what}", values, kind)

    def node(operation: str, what: str, *inputs: str, **attributes: Any) -> str:
        return graph.node(operation, f"{name}.{what}", *inputs, **attributes)

    axes = graph.constant(f"{name}.axes", [1, 2, 3], "INT64")
    sums = node("Cast", "cast", total, to=graph.type_of(kind))
    apart = node("Sub", "apart", sums, node("ReduceMean", "mean", sums, axes))
    variance = node("ReduceMean", "variance", node("Mul", "squares", apart, apart), axes)
    spread = node("Sqrt", "spread", node("Add", "variance_epsilon", variance, fixed("epsilon", epsilon)))
    scaled = node("Mul", "scaled", node("Div", "same", apart, spread), fixed("gain", gain[:, None, None] / step))
    moved = node("Add", "moved", scaled, fixed("offset", offset[:, None, None] / step))
    # Rounded here: close to a half, another precision could round to another whole number later.
    clipped = node("Clip", "clipped", node("Round", "round", moved), fixed("least", 0), fixed("most", norm.peak))
    real = node("Mul", "real", node("Cast", "single", clipped, to=graph.type_of("FLOAT")),
                graph.constant(f"{name}.to_real", step, "FLOAT"))  # fmt: skip
    out_step, origin = graph.constant(f"{name}.out_step", step, "FLOAT"), graph.constant(f"{name}.zero", 0, "UINT8")
    whole = node("QuantizeLinear", "whole", real, out_step, origin)
    return graph.node("DequantizeLinear", name, whole, out_step, origin)


def to_onnx(spec: IntegerSpec, norms: str = "float64") -> Any:
    """A checked model: obs u8 [batch, C, H, W] -> values f32 [batch, A]; norms in float64 or float32."""
    from onnx import TensorProto, checker, helper

    graph = Graph(NORMS[norms])
    pixels = graph.constant("pixels.step", 1.0, "FLOAT")
    x, scale = graph.node("DequantizeLinear", "pixels", "obs", pixels, graph.constant("pixels.zero", 0, "UINT8")), 1.0
    for layer in spec.layers:
        x = add_layer(graph, layer, x, scale)
        scale = even(layer.norm.step) if layer.norm else scale * even(layer.step)
    x = graph.node("Mul", "values", x, graph.constant("values.step", spec.value_step / scale, "FLOAT"))
    inputs = [helper.make_tensor_value_info("obs", TensorProto.UINT8, ["batch", *spec.layers[0].in_shape])]
    outputs = [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["batch", len(spec.actions)])]
    body = helper.make_graph(graph.nodes, f"{spec.game}-int{spec.bits}", inputs, outputs, graph.constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(model, {"game": spec.game, "actions": ",".join(spec.actions), "spec": spec.digest})
    checker.check_model(model, full_check=True)
    return model


def answers(data: bytes, obs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Values [B, A] that ONNX Runtime gives for pictures [B, C, H, W], on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"obs": obs[start : start + BATCH]})[0] for start in range(0, len(obs), BATCH)]
    return np.concatenate(parts)


def compare(spec: IntegerSpec, data: bytes, obs: NDArray[np.uint8]) -> dict[str, Any]:
    """The integers and ONNX Runtime on pictures [B, C, H, W]: actions, and values in units of the game's."""
    ours, theirs = spec.run(obs) * spec.value_step, answers(data, obs)
    chosen, other = ours.argmax(axis=1), theirs.argmax(axis=1)
    rows = np.arange(len(obs))
    differs = chosen != other
    lead = ours[rows, chosen] - ours[rows, other]
    return {
        "decisions": len(obs),
        "same_action": int((~differs).sum()),
        "largest_difference": float(np.abs(ours - theirs).max()),
        "mean_difference": float(np.abs(ours - theirs).mean()),
        "value_range": float(np.ptp(ours)),
        # By how much the integers prefer their own action, where the other program takes another.
        "largest_lead_lost": float(lead.max()),
    }


def command(own: argparse.Namespace) -> int:
    need_extra()
    need(own.decisions >= 1, "--decisions", own.decisions, "1 or more")
    need(own.out.suffix == ".onnx", "OUT", str(own.out), "a name that ends in .onnx")
    spec, origin = load_integers(own.file)
    data = to_onnx(spec, own.norms).SerializeToString()
    write_whole(own.out, data)
    facts = {"what": "onnx", "spec": spec.digest, "origin": origin, "bytes": len(data), "opset": OPSET}
    print(f"{own.out}: {len(data):,} bytes, opset {OPSET}, {spec!r}")
    if own.rollouts is not None:
        rollouts = Rollouts.open(own.rollouts)
        if rollouts.facts.game != spec.game:
            raise SettingsError(f"--rollouts: a dataset of {rollouts.facts.game}, must be of {spec.game}")
        found = compare(spec, data, rollouts.sample(np.random.default_rng(own.seed), own.decisions).obs)
        print(
            f"ONNX Runtime: same action in {found['same_action']:,} of {found['decisions']:,} decisions; values differ "
            f"by {found['largest_difference']:.2e} at most, {found['mean_difference']:.1e} in the mean, of a range of "
            f"{found['value_range']:.2f}; largest lead lost {found['largest_lead_lost']:.1e}"
        )
        facts |= {"compared": found, "rollouts": str(own.rollouts)}
    write_json(own.out.with_suffix(".json"), facts | {"versions": versions()})
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.onnx_export", description=__doc__)
    parser.add_argument("file", type=Path, help="an integer student: int8.npz or int4.npz")
    parser.add_argument("out", type=Path, help="the ONNX file; a report is written beside it")
    parser.add_argument("--rollouts", type=Path, help="dataset folder: compare with ONNX Runtime on its pictures")
    parser.add_argument("--decisions", type=int, default=2000, help="pictures to compare")
    parser.add_argument("--norms", choices=sorted(NORMS), default="float64", help="precision of the norms")
    parser.add_argument("--seed", type=int, default=0)
    own = parser.parse_args(arguments)
    run(lambda: command(own))


if __name__ == "__main__":
    main()

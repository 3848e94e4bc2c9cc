"""What the field looks at in a network of few bits: zeros, clipping, dead outputs, how far the weights have moved."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from deploy.integer_spec import IntegerSpec
from distill.integers import IntegerNet
from rl.checkpoint import PolicyCheckpoint


@torch.no_grad()
def health(net: IntegerNet, teacher: PolicyCheckpoint, spec: IntegerSpec, obs: NDArray[np.uint8]) -> dict[str, float]:
    """By layer: shares of weights that are 0 and at an end, of outputs that are 0, at the top and never anything else
    than 0 on these pictures [B, 4, 84, 84]; the cosine of the weights and the teacher's, 1 where they only were scaled.
    """
    found: dict[str, float] = {}
    for layer, (hidden, _), level in zip(spec.layers, net.pairs(), spec.levels(obs), strict=True):
        name, limit = layer.name, (1 << (layer.bits - 1)) - 1
        whole = hidden.whole_weights().flatten()
        real = teacher.params[f"{name}.weight"].float().flatten()
        own = teacher.params[f"{name}.weight"].shape
        found[f"zeros/{name}"] = float((layer.weights == 0).mean())
        found[f"clipped/{name}"] = float((np.abs(layer.weights) == limit).mean())
        found[f"cosine/{name}"] = float(F.cosine_similarity(whole.reshape(own).flatten(), real, dim=0))
        if layer.norm is not None:
            found[f"silent/{name}"] = float((level == 0).mean())
            found[f"full/{name}"] = float((level == layer.norm.peak).mean())
            found[f"dead/{name}"] = float((level.reshape(-1, level.shape[-1]) == 0).all(axis=0).mean())
    return found

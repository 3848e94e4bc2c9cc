"""Checkpoints: the policy that others read, and the training state that only the trainer reads. Never pickled."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from rl.files import FormatError, digest, plain, write_whole
from rl.games import EnvSettings
from rl.network import NetworkSettings, QNetwork
from rl.settings import SettingsError, build

POLICY, STATE, VERSION = "spikecade-policy", "spikecade-training", (1, 0)


@dataclass(frozen=True, eq=False, repr=False)
class PolicyCheckpoint:
    """A trained policy with all that playing and judging it needs. Parameters are rounded to float16 once, here."""

    game: str
    actions: tuple[str, ...]  # meanings, by action id
    env: EnvSettings  # it was trained under
    network: NetworkSettings
    params: dict[str, Tensor]
    training: dict[str, Any]  # frames, wall_s, score, versions: JSON values that decide nothing

    def __repr__(self) -> str:
        return f"PolicyCheckpoint({self.game}, {len(self.actions)} actions, digest {self.digest[:12]})"

    def build(self) -> QNetwork:
        """The network, in float32 and for inference."""
        network = QNetwork(len(self.actions), self.network)
        network.load_state_dict({name: value.float() for name, value in self.params.items()})
        return network.eval()

    @property
    def digest(self) -> str:
        """sha256 (hex) of everything that decides what the policy does."""
        return digest(plain(self._facts()) + _bytes(self.params))

    def require(self, game: str, actions: tuple[str, ...], where: str) -> None:
        """Raise SettingsError unless this policy plays that game with those actions."""
        if self.game != game:
            raise SettingsError(f"{where}: a teacher of {self.game}, must be of {game}; run make teacher GAME={game}")
        if self.actions != actions:
            raise SettingsError(
                f"{where}: knows actions {', '.join(self.actions)}; {game} has {', '.join(actions)} here; "
                "use the same env.full_actions or train again"
            )

    def _facts(self) -> dict[str, Any]:
        shape = {"game": self.game, "actions": list(self.actions)}
        return shape | {"env": asdict(self.env), "network": {**asdict(self.network)}}


def save_policy(policy: PolicyCheckpoint, path: Path) -> None:
    """Write a policy, float16."""
    facts = policy._facts() | {"training": policy.training}
    write_tensors(path, POLICY, facts, policy.params)


def half(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters as they are stored: what is trained is rounded once, and what is rounded is what is scored."""
    return {name: value.detach().to(torch.float16) for name, value in params.items()}


def load_policy(path: Path) -> PolicyCheckpoint:
    """Read a policy; raises FormatError for any file that is not a whole and legal one."""
    facts, params = read_tensors(path, POLICY)
    try:
        env = build(EnvSettings, facts["env"], "env")
        network = build(NetworkSettings, facts["network"], "network")
        policy = PolicyCheckpoint(facts["game"], tuple(facts["actions"]), env, network, params, facts["training"])
        policy.build()
    except (KeyError, TypeError, ValueError, RuntimeError) as cause:
        raise FormatError(f"{path}: field facts: no legal policy ({cause}); train or fetch it again") from cause
    return policy


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's slots as named tensors."""
    slots = optimiser.state_dict()["state"]
    return {f"optimiser.{i}.{name}": torch.as_tensor(v) for i, own in slots.items() for name, v in own.items()}


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` named; rates and other settings stay the optimiser's own."""
    slots: dict[int, dict[str, Tensor]] = {}
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, index, name = key.split(".", 2)
            slots.setdefault(int(index), {})[name] = _laid_out(value, parameters[int(index)])
    optimiser.load_state_dict(optimiser.state_dict() | {"state": slots})


def _laid_out(value: Tensor, like: Tensor) -> Tensor:
    """A slot, copied, in its parameter's order in memory: fused optimisers take that for granted and do not check."""
    return torch.empty_like(like).copy_(value) if value.shape == like.shape else value.clone()


def write_tensors(path: Path, kind: str, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write tensors and JSON facts as one safetensors file, whole or not at all."""
    named = {name: tensor.contiguous() for name, tensor in tensors.items()}
    header = {"kind": kind, "version": list(VERSION), "facts": facts, "digest": digest(plain(facts) + _bytes(named))}
    write_whole(path, safetensors.torch.save(named, metadata={"header": json.dumps(header)}))


def read_tensors(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read (facts, tensors); raises FormatError naming the file and the field, FileNotFoundError where none is."""
    data = path.read_bytes()
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["header"])
        tensors = safetensors.torch.load(data)
        found_kind, (major, minor), facts, found = (header[key] for key in ("kind", "version", "facts", "digest"))
        contents = digest(plain(facts) + _bytes(tensors))
    except (struct.error, ValueError, KeyError, TypeError, safetensors.SafetensorError, OverflowError) as cause:
        raise FormatError(
            f"{path}: field header: not a readable file of ours ({cause}); make or fetch it again"
        ) from cause
    if found_kind != kind:
        raise FormatError(f"{path}: field kind is {found_kind!r}, must be {kind!r}; name a file of that kind")
    if major != VERSION[0]:
        raise FormatError(
            f"{path}: field version is {major}.{minor}, this program reads {VERSION[0]}.x; use its release"
        )
    if contents != found:
        raise FormatError(f"{path}: field digest does not match the contents; the file was changed, make it again")
    return facts, tensors


def _bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Names, types, shapes and contents of tensors, in the order of their names."""
    parts = []
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        parts.append(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        parts.append(tensor.numpy().tobytes())
    return b"".join(parts)

"""Policy files: whole or refused, digests that notice everything, parameters rounded once."""

from __future__ import annotations

import dataclasses
import json
import struct
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rl import checkpoint
from rl.checkpoint import POLICY, STATE, PolicyCheckpoint, half, load_policy, read_tensors, save_policy, write_tensors
from rl.files import FormatError
from rl.network import NetworkSettings, QNetwork
from rl.settings import SettingsError
from tests.training_cases import NATURE

ACTIONS = ("NOOP", "FIRE", "LEFT")
NET = NetworkSettings((1, 2, 3), 4)


@cache
def a_policy(seed=1):
    torch.manual_seed(seed)
    params = half(QNetwork(len(ACTIONS), NET).state_dict())
    return PolicyCheckpoint("Pong", ACTIONS, NATURE, NET, params, {"frames": 7, "score": {"mean": 1e-05}})


@pytest.fixture
def path(tmp_path):
    save_policy(a_policy(), tmp_path / "policy.safetensors")
    return tmp_path / "policy.safetensors"


def test_a_policy_comes_back_equal(path):
    found, saved = load_policy(path), a_policy()
    for field in dataclasses.fields(saved):
        if field.name != "params":
            assert getattr(found, field.name) == getattr(saved, field.name)
    assert found.digest == saved.digest
    obs = torch.randint(0, 256, (2, 21, 21, 64), dtype=torch.uint8)
    assert torch.equal(found.build()(obs), saved.build()(obs))
    assert not found.build().training


def test_a_policy_is_described_without_its_parameters():
    assert repr(a_policy()) == f"PolicyCheckpoint(Pong, 3 actions, digest {a_policy().digest[:12]})"


def test_parameters_are_rounded_to_float16_once(path):
    weight = torch.tensor([1.0 + 2**-10, 1.0 + 2**-11, 1.0 + 3 * 2**-11])
    assert half({"w": weight})["w"].tolist() == [1.0 + 2**-10, 1.0, 1.0 + 2**-9]  # ties go to even
    again = half({name: value.float() for name, value in a_policy().params.items()})
    assert all(torch.equal(again[name], value) for name, value in a_policy().params.items())
    assert {value.dtype for value in load_policy(path).params.values()} == {torch.float16}


@pytest.mark.parametrize("name", sorted(a_policy().params))
def test_the_digest_notices_every_parameter(name):
    params = dict(a_policy().params)
    params[name] = params[name].clone(memory_format=torch.contiguous_format)
    params[name].view(torch.int16).view(-1)[-1] ^= 1
    assert dataclasses.replace(a_policy(), params=params).digest != a_policy().digest


@pytest.mark.parametrize(
    "change",
    [
        {"game": "Breakout"},
        {"actions": ("NOOP", "LEFT", "FIRE")},
        {"env": dataclasses.replace(NATURE, sticky=0.25)},
        {"network": NetworkSettings((1, 2, 3), 5)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_digest_notices_what_decides_and_nothing_else(change):
    assert dataclasses.replace(a_policy(), **change).digest != a_policy().digest
    assert dataclasses.replace(a_policy(), training={}).digest == a_policy().digest


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_truncated_file_is_refused(path, data):
    whole = path.read_bytes()
    part = path.with_name("part.safetensors")
    part.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(FormatError, match=r"part\.safetensors: (field header: not a readable file of ours|field )"):
        load_policy(part)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_is_refused_or_changes_nothing(path, data):
    whole = bytearray(path.read_bytes())
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    at = data.draw(st.one_of(st.integers(0, header - 1), st.integers(header, len(whole) - 1)))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    flipped = path.with_name("flipped.safetensors")
    flipped.write_bytes(whole)
    try:
        found = load_policy(flipped)
    except FormatError as problem:
        message = str(problem)
    else:  # 1e-05 may become 1E-05, and a minor version another: the contents are the same
        message = f"{flipped}: field of the header"
        assert at < header
        assert (found.digest, found.training) == (a_policy().digest, a_policy().training)
    assert message.startswith(f"{flipped}: field ")


def rewritten(path: Path, change) -> Path:
    """The same file with another header, its digest made anew where the header still has what it is made of."""
    facts, tensors = read_tensors(path, POLICY)
    header = {"kind": POLICY, "version": [1, 0], "facts": facts}
    change(header)
    try:
        header.setdefault("digest", checkpoint.digest(checkpoint.plain(header["facts"]) + checkpoint._bytes(tensors)))
    except (KeyError, ValueError):
        header.setdefault("digest", "")
    path.write_bytes(safetensors.torch.save(tensors, metadata={"header": json.dumps(header)}))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": [2, 0]}, r"field version is 2\.0, this program reads 1\.x; use its release$"),
        ({"version": "1"}, r"field header: not a readable file of ours"),
        ({"version": []}, r"field header: not a readable file of ours"),
        ({"version": None}, r"field header: not a readable file of ours"),
        ({"kind": "else"}, r"field kind is 'else', must be 'spikecade-policy'; name a file of that kind$"),
        ({"digest": "0" * 64}, r"field digest does not match the contents; the file was changed, make it again$"),
        ({"facts": {"game": float("nan")}}, r"field header: not a readable file of ours"),
        ({"facts": {}}, r"field facts: no legal policy \('env'\); train or fetch it again$"),
        ({"facts": []}, r"field facts: no legal policy"),
    ],
)
def test_a_foreign_header_is_refused(path, change, message):
    with pytest.raises(FormatError, match=rf"^{path}: .*{message}"):
        load_policy(rewritten(path, lambda header: header.update(change)))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("env", [], r"env: found \[\], must be a group of keys"),
        ("env", {}, r"env\.full_actions: missing"),
        ("network", {"channels": [1, 2, 3], "hidden": 9}, "size mismatch"),
        ("actions", ["NOOP"], "size mismatch"),
        ("actions", 3, "not iterable"),
    ],
)
def test_a_policy_that_does_not_fit_together_is_refused(path, key, value, message):
    with pytest.raises(FormatError, match=rf"(?s)field facts: no legal policy \(.*{message}"):
        load_policy(rewritten(path, lambda header: header["facts"].update({key: value})))


@pytest.mark.parametrize("contents", [b"", b"\x00" * 7, b"\xff" * 64, b"PK\x03\x04" * 9, b'{"a": 1}'])
def test_a_foreign_file_is_refused(tmp_path, contents):
    path = tmp_path / "foreign"
    path.write_bytes(contents)
    with pytest.raises(FormatError, match=rf"^{path}: field header: not a readable file of ours"):
        load_policy(path)


def test_another_kind_of_our_files_is_refused(path):
    with pytest.raises(FormatError, match="field kind is 'spikecade-policy', must be 'spikecade-training'"):
        read_tensors(path, STATE)


def test_no_file_is_no_format_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_policy(tmp_path / "none")


def test_an_interrupted_write_leaves_the_old_policy(path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        save_policy(a_policy(seed=2), path)
    assert load_policy(path).digest == a_policy().digest
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_tensors(tmp_path / "x", STATE, {"a": float("nan")}, {})
    assert not list(tmp_path.iterdir())


def test_a_policy_is_required_to_be_of_the_game_and_its_actions():
    policy = a_policy()
    policy.require("Pong", ACTIONS, "here")
    with pytest.raises(
        SettingsError, match=r"^here: a teacher of Pong, must be of Qbert; run make teacher GAME=Qbert$"
    ):
        policy.require("Qbert", ACTIONS, "here")
    with pytest.raises(
        SettingsError,
        match=r"^here: knows actions NOOP, FIRE, LEFT; Pong has NOOP here; use the same env\.full_actions",
    ):
        policy.require("Pong", ("NOOP",), "here")

"""Learning on a device, held against learning on the processor: tensors of the processor stand in for a GPU's."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import pytest
import torch

from rl import device as devices
from rl import trainer as trainers
from rl.agent import DoubleDqn
from rl.device import CPU, Recorded, device_named, need_device_memory
from rl.device_agent import DeviceDqn
from rl.device_replay import DeviceReplay, DeviceTransitions
from rl.frames import BlockStacks, blocks
from rl.holding import held
from rl.replay import ROW_BYTES, Replay
from rl.settings import SettingsError
from rl.trainer import Trainer, device_of, env_threads
from tests.training_cases import TINY_AGENT, TINY_NET, Tape, teacher

ELSEWHERE = torch.device("cuda")
ACTIONS = 18


@pytest.fixture
def as_if_elsewhere(monkeypatch):
    """Trainers take the device's way, with the processor as the device."""
    monkeypatch.setattr(trainers, "CPU", ELSEWHERE)


def both(steps, envs=3, capacity=150, **rates):
    tape = Tape(envs, **rates)
    made = Replay(envs, capacity, tape.first), DeviceReplay(envs, capacity, tape.first, CPU)
    stacks = BlockStacks(blocks(tape.first))
    for _ in range(steps):
        actions, step = tape.step()
        for replay in made:
            replay.add(actions, step)
        stacks.push(blocks(step.first), step.ended)
    return *made, stacks


@pytest.mark.parametrize("steps", [17, 41, 130], ids=["part", "nearly full", "wrapped"])
@pytest.mark.parametrize("n", [1, 4])
def test_a_device_draws_what_the_processor_draws(steps, n):
    own, other, _ = both(steps)
    one = own.sample(np.random.default_rng(2), 70, n, 0.75)
    two = other.sample(np.random.default_rng(2), 70, n, 0.75)
    assert own.age == other.age
    for field in dataclasses.fields(DeviceTransitions):
        mine, its = getattr(one, field.name), getattr(two, field.name).numpy()
        assert mine.dtype == its.dtype
        assert np.array_equal(mine, its), field.name


@pytest.mark.parametrize("steps", [0, 2, 60, 131])
def test_the_newest_stacks_are_those_that_are_played_on(steps):
    _, replay, stacks = both(steps, end=0.2)
    assert np.array_equal(replay.newest().numpy(), stacks.now)


def test_rows_go_from_the_processor_to_a_device_and_back():
    own, other, _ = both(90, seed=4)
    begin = np.zeros_like(own.head)
    for source, target in ((own, other), (other, own)):
        rows, first = source.rows(begin), Tape(3, seed=9).first
        for replay in (source, target):
            replay.head[:] = 0
            replay.restore(rows)
            replay.start(first)
        one, two = (replay.rows(begin) for replay in (source, target))
        for field in dataclasses.fields(one):
            assert np.array_equal(getattr(one, field.name), getattr(two, field.name)), field.name
        assert len(one.cells) > 100


@pytest.mark.parametrize(("quantiles", "dueling", "advantage"), [(1, False, 0.0), (3, False, 0.0), (3, True, 0.75)])
def test_a_device_learns_what_the_processor_learns(quantiles, dueling, advantage):
    torch.manual_seed(1)
    settings = dataclasses.replace(TINY_AGENT, quantiles=quantiles, dueling=dueling, advantage=advantage)
    own = DoubleDqn(ACTIONS, TINY_NET, settings)
    other = DeviceDqn(ACTIONS, TINY_NET, settings, CPU)
    other.load(own.state())
    replay, elsewhere, _ = both(60)
    for update in range(9):
        seen = own.learn(replay.sample(np.random.default_rng(update), 6, 3, 0.75), 1e-3)
        learnt = other.learn(elsewhere.sample(np.random.default_rng(update), 6, 3, 0.75), 1e-3)
        assert seen == pytest.approx(learnt, rel=1e-4)
    one, two = own.state(), other.state()
    assert one.keys() == two.keys()
    for name in one:
        assert torch.allclose(one[name].double(), two[name].double(), atol=1e-5), name
    assert other.updates == 9 > TINY_AGENT.target_updates


@pytest.mark.parametrize("kind", [DoubleDqn, functools.partial(DeviceDqn, device=CPU)])
def test_a_loss_that_is_not_finite_ends_the_training(kind):
    agent = kind(ACTIONS, TINY_NET, TINY_AGENT)
    held, elsewhere, _ = both(40)
    replay = elsewhere if isinstance(agent, DeviceDqn) else held
    batch = replay.sample(np.random.default_rng(0), 6, 3, 0.75)
    batch.returns[2] = math.nan
    message = r"^training: the loss of update 1 is nan, must be finite; .* lower teacher\.agent\.learning_rate, and"
    with pytest.raises(RuntimeError, match=message):
        agent.learn(batch, 1e-3)


def test_gradients_under_way_change_nothing_that_acts():
    torch.manual_seed(1)
    agent = DeviceDqn(ACTIONS, TINY_NET, TINY_AGENT, CPU)
    _, replay, _ = both(40)
    before = agent.values(replay.newest())
    learning = agent.begin(replay.sample(np.random.default_rng(0), 6, 3, 0.75))
    assert np.array_equal(agent.values(replay.newest()), before)
    agent.finish(learning, 1e-1)
    assert not np.array_equal(agent.values(replay.newest()), before)


def test_a_trainer_plays_and_learns_on_a_device_and_goes_on_on_the_processor(tmp_path, as_if_elsewhere, monkeypatch):
    run = Trainer(teacher(tmp_path), tmp_path)
    assert isinstance(run._replay, DeviceReplay)
    for _ in range(60):
        run.step()
    assert run._agent.updates > 10
    run.save()
    run.close()
    monkeypatch.undo()
    after = Trainer(teacher(tmp_path), tmp_path)
    assert after.resumed
    assert type(after._replay) is Replay
    assert after._agent.updates == run._agent.updates
    for name, value in after._agent.state().items():
        assert torch.equal(value, run._agent.state()[name]), name
    after.step()
    after.close()


def test_both_play_the_same_until_they_learn(tmp_path, monkeypatch):
    plays = []
    for where in (CPU, ELSEWHERE):
        monkeypatch.setattr(trainers, "CPU", where)
        run = Trainer(teacher(tmp_path, learn_start_frames=2_000, replay_rows=1_000), tmp_path / str(where))
        for _ in range(40):
            run.step()
        plays.append(run._replay.rows(np.zeros(2, np.int64)))
        run.close()
    assert np.array_equal(plays[0].cells, plays[1].cells)
    assert np.array_equal(plays[0].action, plays[1].action)


def test_a_function_is_called_once_a_call_where_nothing_is_recorded():
    calls = []
    recorded = Recorded(lambda: calls.append(len(calls)), CPU)
    for _ in range(7):
        recorded()
    assert calls == list(range(7))


def test_frames_on_a_device_are_not_counted_as_memory(tmp_path, monkeypatch):
    before = held(teacher(tmp_path))["replay"]
    monkeypatch.setattr("rl.holding.CPU", ELSEWHERE)
    assert before - held(teacher(tmp_path))["replay"] == 300 * 7056
    assert before == 300 * ROW_BYTES


def test_threads_follow_the_device(tmp_path, monkeypatch):
    own = teacher(tmp_path, env_threads=0).teacher
    monkeypatch.setattr(trainers, "processors", lambda: 16)
    assert env_threads(own, CPU) == 1
    assert env_threads(own, ELSEWHERE) == 14
    assert env_threads(dataclasses.replace(own, env_threads=5), ELSEWHERE) == 5
    monkeypatch.setattr(trainers, "processors", lambda: 1)
    assert env_threads(own, ELSEWHERE) == 1


def test_a_gpu_is_taken_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_named("auto") == device_named("cuda") == ELSEWHERE
    assert device_named("cpu") == CPU
    pqn = teacher(tmp_path, algo="pqn", device="auto", agent=dataclasses.replace(TINY_AGENT, batch=6)).teacher
    assert device_of(pqn) == CPU
    with pytest.raises(SettingsError, match=r"^teacher\.device: found 'cuda', allowed auto or cpu with algo=pqn$"):
        device_of(dataclasses.replace(pqn, device="cuda"))


def test_a_device_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_named("auto") == CPU
    with pytest.raises(SettingsError, match=r"^teacher\.device: found 'cuda', no GPU that torch can use is here; try"):
        device_named("cuda")
    with pytest.raises(SettingsError, match=r"^teacher\.device: found 'tpu', allowed auto, cpu, cuda$"):
        teacher(tmp_path, device="tpu")
    with pytest.raises(SettingsError, match=r"^teacher\.env_threads: found -1, allowed 0"):
        teacher(tmp_path, env_threads=-1)


def test_a_gpu_without_room_is_refused_with_the_numbers(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3_073_741_824, 0))
    need_device_memory(ELSEWHERE, 2_000_000_000, "replay", "lower teacher.replay_rows")
    need_device_memory(CPU, 10**15, "replay", "lower teacher.replay_rows")
    told = r"^replay: needs 2\.10 GB of the GPU's memory, 2\.00 GB are available; lower teacher\.replay_rows$"
    with pytest.raises(MemoryError, match=told):
        need_device_memory(ELSEWHERE, 2_100_000_000, "replay", "lower teacher.replay_rows")
    assert devices.RESERVE == 1 << 30

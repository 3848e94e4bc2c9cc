"""Recording a teacher: what is on disk can be played again from its seeds, bit for bit."""

from __future__ import annotations

import dataclasses
import signal

import numpy as np
import pytest
import torch

from rl.checkpoint import PolicyCheckpoint, half, save_policy
from rl.collect import command
from rl.command import Stop
from rl.files import read_json, write_json
from rl.frames import stack_blocks
from rl.games import ScalarGame
from rl.network import QNetwork
from rl.recorder import RolloutRun, RolloutSettings, record, teacher_cast
from rl.rollouts import Rollouts
from rl.settings import SettingsError
from rl.shards import CUT, GREEDY, LIFE_LOST
from tests.training_cases import NATURE, TINY_NET

ENV = dataclasses.replace(NATURE, max_frames=200)
OWN = RolloutSettings("teacher", decisions=130, epsilon=0.25, envs=2, groups=2, threads=1, seed=9, shard_rows=64)
ACTIONS = ("NOOP", "FIRE", "RIGHT", "LEFT")


def a_policy(game="Breakout", actions=ACTIONS):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    params = half(QNetwork(len(actions), TINY_NET).state_dict())
    return PolicyCheckpoint(game, actions, ENV, TINY_NET, params, {"score": {"mean": 1.0}})


def a_run(root, policy=None, **changes):
    path = root / "Breakout" / "teacher" / "policy.safetensors"
    save_policy(policy or a_policy(), path)
    return RolloutRun("Breakout", str(root), ENV, dataclasses.replace(OWN, **changes))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    assert command(a_run(root)) == 0
    return Rollouts.open(root / "Breakout" / "rollouts")


def test_a_recording_has_the_decisions_that_were_asked_for_the_last_episodes_cut(recorded):
    assert len(recorded.decisions) == OWN.decisions
    ends, steps = recorded.episodes.end.tolist(), ENV.max_frames // ENV.frames_per_step
    assert ends[-2:] == [CUT, CUT] and CUT not in ends[:-2] and len(ends) == 4
    assert recorded.episodes.length.tolist() == [steps, steps, 65 - steps, 65 - steps]
    assert recorded.manifest.returns.episodes == 2, "a cut episode has no return"
    assert recorded.facts.actions == ACTIONS
    assert recorded.facts.teacher["digest"] == a_policy().digest
    assert recorded.manifest.status == "complete"


def test_a_recording_can_be_played_again_from_its_seeds(recorded):
    table, games = recorded.episodes, {}
    for k in range(len(table)):
        seed, start, length = int(table.seed[k]), int(table.start[k]), int(table.length[k])
        assert seed == OWN.seed + table.env[k]
        game = games.setdefault(seed, ScalarGame("Breakout", ENV, seed))  # its episodes follow each other
        assert np.array_equal(game.reset()[-1], recorded.frames[start])
        for row in range(start, start + length):
            step = game.step(int(recorded.action[row]))
            assert np.array_equal(step.obs[-1], recorded.frames[row + 1])
            assert step.reward == recorded.reward[row]
            assert step.life_lost == bool(recorded.flags[row] & LIFE_LOST)
        assert step.ended == (table.end[k] != CUT)


def test_recorded_values_are_the_policys_own_and_the_greedy_bit_says_which_won(recorded):
    rows = recorded.decisions
    with torch.no_grad():
        values = a_policy().build()(torch.from_numpy(stack_blocks(recorded.stacks(rows)))).numpy()
    assert np.allclose(values, recorded.q[rows], atol=1e-4)
    greedy = (recorded.flags[rows] & GREEDY) > 0
    assert np.array_equal(greedy, recorded.q[rows].argmax(axis=1) == recorded.action[rows])
    assert 0.6 < greedy.mean() < 0.98, "a quarter is random, and a quarter of that is greedy by chance"


def test_the_same_seed_records_the_same_and_another_seed_another(tmp_path, recorded):
    for name, seed in (("same", OWN.seed), ("other", OWN.seed + 50)):
        assert command(a_run(tmp_path / name, seed=seed)) == 0
        found = Rollouts.open(tmp_path / name / "Breakout" / "rollouts")
        assert (found.frames.tobytes() == recorded.frames.tobytes()) is (name == "same")
        assert (found.action.tobytes() == recorded.action.tobytes()) is (name == "same")


def test_a_stopped_recording_goes_on_from_other_seeds(tmp_path, monkeypatch):
    config, handler = a_run(tmp_path, decisions=600, shard_rows=1), signal.getsignal(signal.SIGTERM)
    add = "rl.recording.RolloutWriter.add_episode"
    from rl.recording import RolloutWriter

    whole = RolloutWriter.add_episode

    def then_stop(self, episode):
        whole(self, episode)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(add, then_stop)
        assert command(config) == 143
    before = Rollouts.open(tmp_path / "Breakout" / "rollouts")
    assert before.manifest.status == "recording"
    assert len(before.episodes) >= 1
    spent = tmp_path / "Breakout" / "rollouts" / "spent.json"
    earlier_s = read_json(spent)["wall_s"]
    assert earlier_s > 0
    write_json(spent, {"wall_s": 1000 + earlier_s})
    assert command(config) == 0
    told_s = read_json(spent.with_name("report.json"))["wall_s"]
    assert told_s > 1000 + earlier_s and not spent.exists(), "all sittings' seconds"
    after = Rollouts.open(tmp_path / "Breakout" / "rollouts")
    kept = len(before.frames)
    assert np.array_equal(after.frames[:kept], before.frames)
    assert set(after.episodes.seed[len(before.episodes) :]).isdisjoint(before.episodes.seed)
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_complete_recording_is_left_as_it_is(tmp_path):
    config = a_run(tmp_path, decisions=40)
    assert command(config) == 0
    folder = tmp_path / "Breakout" / "rollouts"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert read_json(folder / "report.json")["settings"]["rollouts"]["decisions"] == 40
    assert command(a_run(tmp_path, decisions=30)) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_policy_of_another_game_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"^rollouts: a teacher of Pong, must be of Breakout; run make teacher"):
        command(a_run(tmp_path, a_policy(game="Pong")))


def test_a_policy_of_another_action_set_is_refused(tmp_path):
    message = (
        r"^rollouts: knows actions NOOP, FIRE, LEFT, RIGHT; Breakout has NOOP, FIRE, RIGHT, LEFT here; use the same"
    )
    with pytest.raises(SettingsError, match=message):
        command(a_run(tmp_path, a_policy(actions=("NOOP", "FIRE", "LEFT", "RIGHT"))))


def test_no_policy_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(SettingsError, match=r"run make teacher GAME=Alien$"):
        command(RolloutRun("Alien", str(tmp_path), ENV, OWN))


def test_a_recording_stopped_before_its_first_episode_can_begin_anew(tmp_path):
    config = a_run(tmp_path, decisions=40)
    stop = Stop()
    stop.restore()
    stop.signal = signal.SIGINT
    with pytest.raises(KeyboardInterrupt):
        record(config, teacher_cast(a_policy()), tmp_path / "data", stop)
    stop.signal = 0
    assert record(config, teacher_cast(a_policy()), tmp_path / "data", stop).decisions == 40


def test_a_recordings_progress_ends_full_and_a_stop_on_a_line_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    looks = iter([False, False])  # at the signal, before two rounds
    config, stop = a_run(tmp_path, decisions=41), Stop()  # no whole number of rounds
    stop.restore()
    with monkeypatch.context() as patch:
        patch.setattr(Stop, "__bool__", lambda self: next(looks, True))
        with pytest.raises(KeyboardInterrupt):
            record(config, teacher_cast(a_policy()), tmp_path / "data", stop)
    assert capsys.readouterr().out.endswith("\n")
    record(config, teacher_cast(a_policy()), tmp_path / "data", stop)
    out = capsys.readouterr().out
    assert "100.0%" in out and out.endswith("left 0:00:00\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decisions": 0}, r"^rollouts\.decisions: found 0, allowed 1 or more$"),
        ({"epsilon": -0.5}, r"^rollouts\.epsilon: found -0\.5, allowed 0 to 1$"),
        ({"envs": 0}, r"^rollouts\.envs: found 0, allowed 1 or more$"),
        ({"groups": 0}, r"^rollouts\.groups: found 0, allowed 1 or more$"),
        ({"threads": 0}, r"^rollouts\.threads: found 0, allowed 1 or more$"),
        ({"shard_rows": 0}, r"^rollouts\.shard_rows: found 0, allowed 1 or more$"),
    ],
)
def test_impossible_recordings_are_refused(change, message):
    with pytest.raises(SettingsError, match=message):
        dataclasses.replace(OWN, **change)


def test_random_play_goes_to_a_folder_of_its_own_with_the_teachers_labels(tmp_path):
    assert command(a_run(tmp_path, player="random", epsilon=0.0)) == 0
    found = Rollouts.open(tmp_path / "Breakout" / "rollouts-random")
    assert found.facts.player == {"name": "random"} and found.facts.teacher["digest"] == a_policy().digest
    assert found.facts.epsilon == 1.0 and set(found.episodes.epsilon) == {1.0}
    assert not (tmp_path / "Breakout" / "rollouts").exists()
    counts = np.bincount(found.action[found.decisions], minlength=4)
    assert counts.min() > 15 and found.q[found.decisions].all()


def test_play_without_a_teacher_has_no_labels_and_says_so(tmp_path, capsys):
    own = dataclasses.replace(OWN, player="random", decisions=20)
    assert command(RolloutRun("Boxing", str(tmp_path), ENV, own)) == 0
    assert "recorded without labels: teacher: neither " in capsys.readouterr().out
    found = Rollouts.open(tmp_path / "Boxing" / "rollouts-random")
    assert not found.facts.labelled and not found.q.any() and not (found.flags & GREEDY).any()


def test_a_player_of_another_command_is_named(tmp_path):
    message = r"^rollouts\.player: found 'chip', allowed teacher, random; python -m deploy\.collect has more$"
    with pytest.raises(SettingsError, match=message):
        command(a_run(tmp_path, player="chip"))

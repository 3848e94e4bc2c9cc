"""Recording students and chips: their own play, the teacher's labels, a manifest that says who played."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from run_cases import ENV, small_student, small_teacher, write_run

from deploy import collect
from deploy.collect import OneByOne, command
from deploy.players import SpecPlayer
from rl.files import digest
from rl.frames import stack_blocks
from rl.network import action_values
from rl.recorder import RolloutRun, RolloutSettings
from rl.rollouts import Rollouts
from rl.settings import SettingsError
from rl.stages import CHIP, STUDENT, TEACHER

OWN = RolloutSettings("chip", decisions=45, epsilon=0.0, envs=3, groups=2, threads=1, seed=5, shard_rows=64)
CAPPED = replace(ENV, max_frames=48)  # 12 decisions an episode


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    write_run(root)
    for player in ("chip", "spec"):
        assert command(RolloutRun("Pong", str(root), CAPPED, replace(OWN, player=player))) == 0
    return root


def dataset(root, player):
    return Rollouts.open(root / "Pong" / f"rollouts-{player}")


def test_a_chip_is_recorded_as_it_plays_with_the_teachers_labels(root):
    found, student = dataset(root, "chip"), SpecPlayer(small_student(), "Pong")
    rows, teacher = found.decisions, small_teacher()
    stacks = found.stacks(rows)
    assert found.action[rows].tolist() == [student.act(stack) for stack in stacks]
    assert np.allclose(action_values(teacher.build(), stacks), found.q[rows], atol=1e-5)
    assert found.facts.teacher["digest"] == teacher.digest
    assert len(rows) == 45 and found.episodes.length.tolist() == [12, 12, 12, 3, 3, 3]


def test_the_manifest_says_which_models_played(root):
    player = dataset(root, "chip").facts.player
    files = {stage: digest((root / "Pong" / stage).read_bytes()) for stage in (CHIP, STUDENT)}
    assert player == {"name": "chip", "models": files}
    assert dataset(root, "spec").facts.player == {"name": "spec", "models": {STUDENT: files[STUDENT]}}


def test_the_spec_plays_what_its_chip_plays(root):
    chip, spec = dataset(root, "chip"), dataset(root, "spec")
    assert np.array_equal(chip.frames, spec.frames) and np.array_equal(chip.action, spec.action)


def test_without_a_teacher_the_play_is_kept_without_labels(tmp_path, monkeypatch):
    monkeypatch.setattr("rl.recorder.find", refused)
    write_run(tmp_path)
    (tmp_path / "Pong" / TEACHER).unlink()
    assert command(RolloutRun("Pong", str(tmp_path), CAPPED, replace(OWN, player="student", decisions=9))) == 0
    found = dataset(tmp_path, "student")
    assert not found.facts.labelled and not found.q.any()


def refused(*_):
    raise SettingsError("teacher: none is here")


class Remembers:
    """Answers with the number of pictures since its last reset."""

    def __init__(self):
        self.seen = 100

    def reset(self):
        self.seen = 0

    def act(self, obs):
        assert obs.shape == (4, 84, 84)
        self.seen += 1
        return self.seen


def test_players_that_remember_are_told_where_their_own_episodes_begin():
    one_by_one = OneByOne(Remembers, 3)
    stacks = stack_blocks(np.zeros((3, 4, 84, 84), np.uint8))
    firsts = [[True] * 3, [False] * 3, [False, True, False], [False] * 3]
    found = [one_by_one(stacks, np.array(first), np.zeros((3, 6), np.float32)).tolist() for first in firsts]
    assert found == [[1, 1, 1], [2, 2, 2], [3, 1, 3], [4, 2, 4]]


def test_a_chip_with_a_history_is_played_one_by_one(root, monkeypatch):
    spec, compiled = collect.load_chip("Pong", str(root))
    later = type("Later", (), {"history": 4, "graph": compiled.graph})
    monkeypatch.setattr(collect, "load_chip", lambda *_: (spec, later))
    made = []
    monkeypatch.setattr(collect, "make_player", lambda *arguments: made.append(arguments[:2]) or Remembers())
    act = collect.act_of(RolloutRun("Pong", str(root), CAPPED, OWN))(2)
    assert isinstance(act, OneByOne) and made == [("chip", "Pong")] * 2


def test_a_player_of_another_command_is_named(root):
    message = (
        r"^rollouts\.player: found 'teacher', allowed chip, spec, student; python -m rl\.collect has teacher, random$"
    )
    with pytest.raises(SettingsError, match=message):
        command(RolloutRun("Pong", str(root), CAPPED, replace(OWN, player="teacher")))

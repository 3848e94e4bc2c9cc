"""Recording: what an episode must be, where shards end, what an interruption leaves, how a recording goes on."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from rollout_cases import FACTS, SMALL, episode, record

from rl import recording
from rl.files import FormatError
from rl.manifest import COMPLETE, RECORDING, Returns, read_manifest, versions
from rl.recording import RecordingError, RolloutWriter
from rl.rollouts import Rollouts

FULL = OSError(28, "No space left on device")


def test_a_shard_ends_with_the_episode_that_fills_it(tmp_path):
    record(tmp_path, [3, 4, 20, 1], shard_rows=9)
    manifest = read_manifest(tmp_path)
    assert [(s.rows, s.decisions, s.episodes) for s in manifest.shards] == [(9, 7, 2), (21, 20, 1), (2, 1, 1)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.json", *(s.name for s in manifest.shards)]
    assert manifest.status == COMPLETE and manifest.bytes == sum(p.stat().st_size for p in tmp_path.glob("*.spk"))


def test_the_manifest_tells_the_returns_of_finished_episodes(tmp_path):
    rewards = [np.array([1, 2], np.float32), np.array([-5], np.float32), np.array([7, 0, 1], np.float32)]
    with RolloutWriter(tmp_path, FACTS) as writer:
        for i, reward in enumerate(rewards):
            writer.add_episode(episode(len(reward), 1, reward=reward, terminated=i != 1))
    assert read_manifest(tmp_path).returns == Returns(2, 5.5, pytest.approx(12.5**0.5), 3.0, 8.0)


def test_without_a_finished_episode_there_are_no_returns(tmp_path):
    with RolloutWriter(tmp_path, FACTS) as writer:
        writer.add_episode(episode(3, 1, terminated=False))
    assert read_manifest(tmp_path).returns is None


def test_facts_come_back_equal(tmp_path):
    record(tmp_path, [3])
    assert read_manifest(tmp_path).facts == FACTS


def test_an_interrupted_recording_goes_on_at_its_last_episode(tmp_path):
    episodes = [episode(steps, seed) for seed, steps in enumerate([5, 6, 2, 8, 3], start=1)]

    def interrupted() -> None:
        with RolloutWriter(tmp_path / "a", FACTS, 9, SMALL) as writer:
            for one in episodes[:3]:
                writer.add_episode(one)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read_manifest(tmp_path / "a").status == RECORDING
    with RolloutWriter(tmp_path / "a", FACTS, 9, SMALL) as writer:
        assert (writer.episodes, writer.decisions, writer.table.length.tolist()) == (3, 13, [5, 6, 2])
        for one in episodes[3:]:
            writer.add_episode(one)
    whole = [one.frames for one in episodes]
    data = Rollouts.open(tmp_path / "a")
    assert np.array_equal(data.frames, np.concatenate(whole)) and data.manifest.status == COMPLETE


def test_what_no_manifest_lists_does_not_exist(tmp_path):
    record(tmp_path / "whole", [5, 6, 2, 9])
    writer = RolloutWriter(tmp_path / "cut", FACTS, 9, SMALL)
    for seed, steps in enumerate([5, 6], start=1):
        writer.add_episode(episode(steps, seed))
    del writer  # killed: nothing pending is written
    (tmp_path / "cut" / "shard-00001.spk").write_bytes(b"half")
    (tmp_path / "cut" / "shard-00001.spk.part").write_bytes(b"ha")
    with RolloutWriter(tmp_path / "cut", FACTS, 9, SMALL) as writer:
        for seed, steps in ((3, 2), (4, 9)):
            writer.add_episode(episode(steps, seed))
    whole, cut = read_manifest(tmp_path / "whole"), read_manifest(tmp_path / "cut")
    assert whole.shards == cut.shards and whole.digest == cut.digest
    assert len(Rollouts.open(tmp_path / "cut").frames) == 26


@pytest.mark.parametrize("failing", ["shard-00001.spk", "manifest.json"])
def test_a_full_disk_stops_with_a_message_and_loses_nothing_before_it(tmp_path, monkeypatch, failing):
    writer = RolloutWriter(tmp_path, FACTS, 9, SMALL)
    writer.add_episode(episode(9, 1))
    honest = os.replace

    def full(source, target):
        if str(target).endswith(failing):
            raise FULL
        honest(source, target)

    monkeypatch.setattr(os, "replace", full)
    message = (
        rf"{failing}: could not be written \(No space left on device\); the 1 episodes before it are safe; make room"
    )
    with pytest.raises(RecordingError, match=message):
        writer.add_episode(episode(10, 2))
    assert not list(tmp_path.glob("*.part")) and len(Rollouts.open(tmp_path).frames) == 10
    monkeypatch.undo()
    writer.close()
    assert len(Rollouts.open(tmp_path).frames) == 21


def test_a_failed_write_is_not_tried_again_on_the_way_out(tmp_path, monkeypatch):
    tries = []

    def full(path, data):
        tries.append(path.name)
        raise FULL

    monkeypatch.setattr(recording, "write_whole", full)
    with pytest.raises(RecordingError, match="the 0 episodes before it"), RolloutWriter(tmp_path, FACTS, 9) as writer:
        writer.add_episode(episode(9, 1))
    assert tries == ["shard-00000.spk"] and not list(tmp_path.iterdir())


def test_another_recording_is_not_mixed_in(tmp_path):
    record(tmp_path, [3])
    with pytest.raises(RecordingError, match=r"field epsilon is 0\.05, this recording has 0\.25; record into another"):
        RolloutWriter(tmp_path, replace(FACTS, epsilon=0.25))


def test_facts_with_tuples_within_can_be_gone_on_with(tmp_path):
    facts = replace(FACTS, env={"img": (84, 84)})
    writer = RolloutWriter(tmp_path, facts, 9, SMALL)
    writer.add_episode(episode(9, 1))
    again = RolloutWriter(tmp_path, facts)
    assert again.episodes == 1 and again.manifest.codec == SMALL


def test_a_complete_dataset_takes_no_more(tmp_path):
    record(tmp_path, [3])
    writer = RolloutWriter(tmp_path, FACTS)
    with pytest.raises(RecordingError, match="already complete; record into another folder"):
        writer.add_episode(episode(3, 2))


def test_a_damaged_recording_is_not_gone_on_with(tmp_path):
    record(tmp_path, [3])
    path = tmp_path / "shard-00000.spk"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match=r"shard-00000.spk: field bytes is \d+, the manifest says \d+"):
        RolloutWriter(tmp_path, FACTS)


def test_another_action_set_is_refused(tmp_path):
    writer = RolloutWriter(tmp_path, FACTS)
    with pytest.raises(ValueError, match=r"^EpisodeRows.q: found 2 actions, the dataset has 3$"):
        writer.add_episode(episode(2, 1, q=np.eye(2, dtype=np.float32), action=np.array([0, 1], np.uint8)))


def test_a_shard_must_have_room():
    with pytest.raises(ValueError, match=r"^RolloutWriter.shard_rows: found 0, must be 1 or more"):
        RolloutWriter(None, FACTS, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"frames": np.zeros((7, 84, 84), np.uint8)},
            r"^EpisodeRows.frames: found uint8 \[7, 84, 84\], must be uint8 \[8,",
        ),
        ({"frames": np.zeros((8, 84, 84))}, r"^EpisodeRows.frames: found float64"),
        ({"q": np.zeros(7, np.float32)}, r"^EpisodeRows.q: found shape \[7\], must be \[L, A\]"),
        ({"q": np.full((7, 3), np.inf, np.float32)}, r"^EpisodeRows.q, reward: found NaN or infinity"),
        ({"action": np.full(7, 3, np.uint8)}, r"^EpisodeRows.action: found 3, allowed 0\.\.2$"),
        ({"reward": np.zeros(7, np.int32)}, r"^EpisodeRows.reward: found int32 \[7\], must be float32"),
        (
            {"greedy": np.ones(7, bool), "q": np.eye(7, 3, -1, np.float32)},
            r"^EpisodeRows.greedy: decision \d is marked",
        ),
        ({"life_lost": np.zeros(6, bool)}, r"^EpisodeRows.life_lost: found bool \[6\]"),
        ({"lives": np.zeros(7, np.uint8)}, r"^EpisodeRows.lives: found uint8 \[7\], must be uint8 \[8\]"),
        ({"terminated": True, "truncated": True}, r"^EpisodeRows.truncated: found with terminated"),
        ({"epsilon": 1.5}, r"^EpisodeRows.epsilon: found 1\.5, allowed 0\.\.1"),
    ],
)
def test_an_episode_names_the_wrong_field(changes, message):
    with pytest.raises(ValueError, match=message):
        episode(7, 1, **changes)


def test_an_episode_without_decisions_is_refused():
    with pytest.raises(ValueError, match=r"^EpisodeRows.q: found shape \[0, 3\]"):
        episode(1, 1, q=np.zeros((0, 3), np.float32))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"game": 3}, TypeError, r"^facts.game: found 3, must be a str$"),
        ({"actions": ()}, ValueError, r"^facts.actions: found \(\), must be names$"),
        ({"epsilon": 1.5}, ValueError, r"^facts.epsilon: found 1\.5, allowed 0\.\.1$"),
        ({"env": {"a": object()}}, TypeError, "not JSON serializable"),
    ],
)
def test_facts_name_the_wrong_field(changes, error, message):
    with pytest.raises(error, match=message):
        replace(FACTS, **changes)


def test_versions_say_what_is_not_installed():
    found = versions(["numpy", "no-such-package"])
    assert found["numpy"] == np.__version__ and found["no-such-package"] == "none" and found["python"][:2] == "3."


def test_reprs_are_short(tmp_path):
    writer = RolloutWriter(tmp_path, FACTS)
    writer.add_episode(episode(3, 1))
    assert repr(writer) == "RolloutWriter(Pong, 3 decisions, 1 episodes)"
    assert repr(episode(3, 1)).startswith("EpisodeRows(frames uint8 [4, 84, 84], action uint8 [3], ")

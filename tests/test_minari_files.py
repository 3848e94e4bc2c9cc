"""To Minari and back: nothing is lost, Minari itself reads it, damage and foreign data are named."""

from __future__ import annotations

import builtins
import json
from dataclasses import replace

import numpy as np
import pytest
from rollout_cases import FACTS, SMALL, episode, record

from rl import minari_files
from rl.files import FormatError
from rl.manifest import read_manifest
from rl.minari_files import export, import_
from rl.recording import RolloutWriter
from rl.rollouts import Rollouts, main
from rl.settings import SettingsError

minari = pytest.importorskip("minari", reason="the extra minari is not installed")
h5py = pytest.importorskip("h5py", reason="the extra minari is not installed")
LENGTHS = [7, 2, 11, 3, 1]


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def exported(tmp_path):
    record(tmp_path / "set", LENGTHS)
    export(tmp_path / "set", tmp_path / "out")
    return tmp_path


def test_a_dataset_comes_back_byte_for_byte(exported):
    assert len(read_manifest(exported / "set").shards) == 3
    manifest = import_(exported / "out", exported / "back")
    assert manifest.digest == read_manifest(exported / "set").digest
    assert files(exported / "back") == files(exported / "set")


def test_every_kind_of_end_an_unfinished_recording_and_unknown_lives_come_back(tmp_path):
    ends = {"terminated": False, "truncated": True}
    facts = replace(FACTS, player={"name": "chip", "models": {"chip/chip.npz": "ab"}}, teacher={"digest": None})
    with RolloutWriter(tmp_path / "set", facts, codec=SMALL) as writer:
        writer.add_episode(episode(5, 1, lives=None, **ends))
        writer.add_episode(episode(4, 3))
        writer.close(complete=False)
        import_dir = tmp_path / "back"
        export(tmp_path / "set", tmp_path / "out")
        import_(tmp_path / "out", import_dir)
        assert files(import_dir) == files(tmp_path / "set")
    assert read_manifest(import_dir).status == "recording"
    assert Rollouts.open(import_dir).episodes.end.tolist() == [2, 0]


def test_minari_reads_what_was_exported(exported):
    data, ours = minari.MinariDataset(exported / "out" / "data"), Rollouts.open(exported / "set")
    assert (data.total_episodes, data.total_steps) == (5, sum(LENGTHS))
    assert data.observation_space.shape == (84, 84) and data.action_space.n == 3
    for i, one in enumerate(data):
        start, length = int(ours.episodes.start[i]), int(ours.episodes.length[i])
        rows, last = slice(start, start + length), start + length + 1
        assert np.array_equal(one.observations, ours.frames[start:last]), "raw, not JPEG"
        assert np.array_equal(one.infos["q"], ours.q[start:last]) and one.infos["q"].dtype == np.float32
        assert np.array_equal(one.actions, ours.action[rows]) and np.array_equal(one.rewards, ours.reward[rows])
        assert one.terminations[-1] == (ours.episodes.end[i] == 1) and not one.terminations[:-1].any()
    assert [facts["seed"] for facts in data.storage.get_episode_metadata(range(5))] == ours.episodes.seed.tolist()


def test_minari_loads_it_by_its_path(tmp_path, monkeypatch):
    record(tmp_path / "set", [3, 4])
    export(tmp_path / "set", tmp_path / "pong" / "teacher-v0")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    assert minari.load_dataset("pong/teacher-v0").total_steps == 7


def test_the_commands_go_there_and_back(tmp_path, capsys):
    record(tmp_path / "set", [3, 4])
    assert main(["export", str(tmp_path / "set"), str(tmp_path / "out")]) == 0
    assert main(["import", str(tmp_path / "out"), str(tmp_path / "back")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(": ")[1] == lines[1].split(": ")[1] and "7 decisions in 2 episodes, digest " in lines[0]


def change(path, name, work):
    with h5py.File(path / "out" / "data" / "main_data.hdf5", "a") as file:
        work(file["episode_1"], name)


def damage(group, name):
    group[name][0] += 1


def lose(group, name):
    del group[name]


@pytest.mark.parametrize("name", ["observations", "actions", "rewards", "infos/q", "infos/flags", "infos/lives"])
def test_a_changed_value_is_found_and_nothing_is_left(exported, name):
    change(exported, name, damage)
    with pytest.raises(FormatError, match=r"data: episode 1: field sha256 differs .* export it again$"):
        import_(exported / "out", exported / "back")
    assert not [path for path in exported.iterdir() if path.name.startswith("back")]


@pytest.mark.parametrize("name", ["observations", "infos/q", "infos"])
def test_a_missing_column_is_found(exported, name, capsys):
    change(exported, name, lose)
    assert main(["import", str(exported / "out"), str(exported / "back")]) == 1
    assert "not readable as an exported dataset (" in capsys.readouterr().err


def test_a_lost_episode_is_found(exported):
    path = exported / "out" / "data" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "total_episodes": 4}))
    with pytest.raises(FormatError, match=r"field total_episodes is 4, the manifest says 5; export it again$"):
        import_(exported / "out", exported / "back")


def test_a_dataset_of_another_maker_is_refused(exported):
    path = exported / "out" / "data" / "metadata.json"
    facts = json.loads(path.read_text())
    del facts["spikecade_manifest"]
    path.write_text(json.dumps(facts))
    with pytest.raises(FormatError, match=r"field spikecade_manifest is missing, so it was not exported .* no labels"):
        import_(exported / "out", exported / "back")


def test_a_folder_that_exists_is_never_written_to(exported):
    for work in (
        lambda: export(exported / "set", exported / "out"),
        lambda: import_(exported / "out", exported / "set"),
    ):
        with pytest.raises(SettingsError, match=r"^.*(out|set): exists, must be a new folder; name another one$"):
            work()


def test_a_damaged_dataset_is_not_exported(tmp_path):
    record(tmp_path / "set", [7, 2, 11])
    (tmp_path / "set" / "shard-00001.spk").unlink()
    with pytest.raises(FormatError, match=r"shard-00001\.spk: not found"):
        export(tmp_path / "set", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_without_minari_the_extra_is_named(tmp_path, monkeypatch):
    whole = builtins.__import__

    def without(name, *rest, **named):
        if name.startswith("minari"):
            raise ImportError("No module named 'minari'")
        return whole(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        SettingsError, match=r"^minari: not installed \(No module .*\); pip install 'spikecade\[minari\]'$"
    ):
        minari_files.export(tmp_path, tmp_path / "out")

"""States of a training run on disk: two whole ones, fallen back to when damaged, the replay in segments."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rl import training_state
from rl.files import FormatError
from rl.replay import Replay
from rl.settings import SettingsError
from rl.training_state import StateStore, read_segment, write_segment
from tests.training_cases import taped_replay

IDENTITY = {"game": "Pong", "network": {"channels": (1, 2, 3)}, "envs": 3}


class Run:
    """A run of three envs that only fills its replay of 50 rows each."""

    def __init__(self, folder):
        self.folder, self.store = folder, StateStore(folder, IDENTITY)
        assert self.store.newest() is None
        self.tape, self.replay = taped_replay(0)

    def save(self, steps, at):
        for _ in range(steps):
            self.replay.add(*self.tape.step())
        self.store.save({"weight": torch.tensor([at, 0.5])}, {"frames": at}, self.replay)

    def names(self):
        return sorted(path.name.split(".")[0] for path in self.folder.iterdir())


def newest(folder, identity=None):
    return StateStore(folder, identity or IDENTITY).newest()


def restored(saved):
    replay = Replay(3, 150, np.zeros((3, 84, 84), np.uint8))
    replay.head[:] = 0
    for rows in saved.replay():
        replay.restore(rows)
    replay.head += 1
    return replay


def assert_same(one, two):
    begin = np.zeros(3, np.int64)
    for name, value in vars(one.rows(begin)).items():
        assert np.array_equal(value, getattr(two.rows(begin), name)), name


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "state")


@pytest.mark.parametrize("steps", [0, 3, 20, 130])
def test_a_state_comes_back_with_its_replay(run, steps):
    for at in range(1, 4):
        run.save(steps, at)
        saved = newest(run.folder)
        assert saved.facts["frames"] == at
        assert saved.tensors["weight"].tolist() == [at, 0.5]
        assert_same(restored(saved), run.replay)


def test_two_states_are_kept_with_the_segments_that_either_reads(run):
    seen = []
    for at in range(1, 7):
        run.save(25, at)  # the ring holds 50 rows: some 2 saves
        names = run.names()
        seen.append(names)
        assert [name for name in names if name.startswith("state")] == [f"state-{i:06}" for i in (at - 1, at) if i]
        for path in sorted(run.folder.glob("state-*")):
            facts, _ = training_state.read_tensors(path, "spikecade-training")
            assert set(facts["segments"]) <= {f"{name}.safetensors" for name in names}
    assert "replay-000001" in seen[1]
    assert "replay-000001" not in seen[-1]
    assert len([name for name in seen[-1] if name.startswith("replay")]) <= 4


@pytest.mark.parametrize("most", [1, 7, 30, 100])
def test_a_save_is_split_into_segments_that_put_together_are_the_whole(run, most, monkeypatch):
    run.save(0, 1)
    for at, steps in enumerate((20, 1, 130, 9), start=2):
        monkeypatch.setattr(training_state, "SEGMENT_ROWS", most)
        run.save(steps, at)
        new = list(run.folder.glob(f"replay-{at:06}*"))
        assert all(len(read_segment(path).action) <= max(3, most) for path in new)  # a row of each env at least
        assert len(new) > 1 or steps <= max(1, most // 3)
        monkeypatch.undo()  # the size is the writer's alone
        assert_same(restored(newest(run.folder)), run.replay)


def test_a_damaged_part_of_a_save_falls_back_too(run, monkeypatch):
    run.save(9, 1)
    monkeypatch.setattr(training_state, "SEGMENT_ROWS", 12)
    run.save(9, 2)
    path = run.folder / "replay-000002-1.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert newest(run.folder).facts["frames"] == 1


@pytest.mark.parametrize("victim", ["state-000003", "replay-000003"])
@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_a_damaged_newest_falls_back_to_the_one_before_and_says_so(run, victim, damage, capsys):
    run.save(9, 1)
    run.save(9, 2)
    before = restored(newest(run.folder))
    run.save(9, 3)
    path = run.folder / f"{victim}.safetensors"
    if damage == "remove":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[-9] ^= 4
        path.write_bytes(data[:-1] if damage == "cut" else data)
    saved = newest(run.folder)
    assert saved.facts["frames"] == 2
    assert_same(restored(saved), before)
    if (victim, damage) != ("state-000003", "remove"):
        assert f"going back to state-000002.safetensors: {path}: field" in capsys.readouterr().out or damage == "remove"


def test_after_falling_back_the_damaged_state_is_written_over(run):
    for at in (1, 2, 3):
        run.save(9, at)
    (run.folder / "state-000003.safetensors").write_bytes(b"")
    store = StateStore(run.folder, IDENTITY)
    saved = store.newest()
    replay = restored(saved)
    replay.head -= 1
    replay.start(run.tape.first)
    store.save(saved.tensors, {"frames": 33}, replay)
    assert newest(run.folder).facts["frames"] == 33
    assert run.names() == [*(f"replay-{i:06}" for i in (1, 2, 3)), "state-000002", "state-000003"]


def test_killed_after_falling_back_no_old_state_meets_a_new_segment(run, monkeypatch):
    for at in (1, 2, 3):
        run.save(9, at)
    path = run.folder / "replay-000003.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    store = StateStore(run.folder, IDENTITY)
    saved = store.newest()
    replay = restored(saved)
    replay.head -= 1
    replay.start(run.tape.first)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training_state, "write_tensors", lambda at, *rest: _only_segments(at, killed, *rest))
    with pytest.raises(KeyboardInterrupt):
        store.save(saved.tensors, {"frames": 33}, replay)
    monkeypatch.undo()
    assert path.exists()
    assert newest(run.folder).facts["frames"] == 2


def _only_segments(path, otherwise, *rest, write=training_state.write_tensors):
    return write(path, *rest) if path.name.startswith("replay") else otherwise()


def test_what_a_kill_left_half_written_goes_with_the_next_save(run):
    run.save(3, 1)
    (run.folder / "replay-000007.safetensors.part").write_bytes(b"half")
    run.save(3, 2)
    assert run.names() == ["replay-000001", "replay-000002", "state-000001", "state-000002"]


def test_no_whole_state_is_one_error_with_every_reason(run):
    run.save(3, 1)
    run.save(3, 2)
    for path in run.folder.glob("state-*"):
        path.write_bytes(b"x")
    with pytest.raises(
        FormatError, match=r"(?s)state-000002.*field.*\n.*state-000001.*\n.*no whole state left; remove"
    ):
        newest(run.folder)


def test_other_settings_are_refused_by_name(run):
    run.save(3, 1)
    message = r"state-000001.safetensors: begun with another game, envs; use the same settings, or another root=\.\.\.$"
    with pytest.raises(SettingsError, match=message):
        newest(run.folder, IDENTITY | {"game": "Qbert", "envs": 4})
    assert newest(run.folder, {**IDENTITY, "network": {"channels": [1, 2, 3]}})


@pytest.mark.parametrize("fails", ["segment", "state", "rename"])
def test_a_full_disk_leaves_the_old_state_whole(run, fails, monkeypatch):
    run.save(9, 1)
    before, replay = run.names(), restored(newest(run.folder))

    def full(path, *_):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        name = {"segment": "write_segment", "state": "write_tensors"}.get(fails)
        if fails == "state":
            write_segment_whole = training_state.write_tensors
            patch.setattr(
                training_state,
                "write_tensors",
                lambda path, *rest: full(path) if path.name.startswith("state") else write_segment_whole(path, *rest),
            )
        else:
            patch.setattr(*((training_state, name, full) if name else ("os.replace", full)))
        with pytest.raises(OSError, match="No space left"):
            run.save(9, 2)
    assert set(run.names()) - set(before) <= {"replay-000002"}
    saved = newest(run.folder)
    assert saved.facts["frames"] == 1
    assert_same(restored(saved), replay)
    run.save(0, 3)  # with room again, the same run goes on
    assert newest(run.folder).facts["frames"] == 3
    assert_same(restored(newest(run.folder)), run.replay)


def test_a_segment_comes_back_equal(tmp_path):
    _, replay = taped_replay(70)
    rows = replay.rows(np.array([3, 60, 0]))
    write_segment(tmp_path / "x", rows)
    for name, value in vars(read_segment(tmp_path / "x")).items():
        assert np.array_equal(value, getattr(rows, name)), name
        assert value.dtype == getattr(rows, name).dtype

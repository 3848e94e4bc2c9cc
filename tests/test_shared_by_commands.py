"""What every command shares: status, signals, one program a folder, where a stage finds its input, metrics."""

from __future__ import annotations

import fcntl
import json
import signal
from dataclasses import dataclass

import pytest

from rl import stages
from rl.board import Board, Ticker
from rl.command import Stop, as_hydra_spells, only_one, run, settings
from rl.files import FormatError
from rl.settings import SettingsError
from rl.stages import CHIP, STUDENT, TEACHER


def failing(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "status"),
    [
        (lambda: 0, 0),
        (lambda: 143, 143),
        (failing(SettingsError("x")), 1),
        (failing(FormatError("x")), 1),
        (failing(OSError(28, "full")), 1),
        (failing(RuntimeError("x")), 1),
        (failing(MemoryError("x")), 1),
        (failing(KeyboardInterrupt()), 130),
    ],
)
def test_a_commands_status_says_how_it_ended(main, status, monkeypatch):
    monkeypatch.delenv("SPIKECADE_TRACE", raising=False)
    with pytest.raises(SystemExit) as end:
        run(main)
    assert end.value.code == status


def test_our_errors_are_one_message_and_others_a_trace(capsys, monkeypatch):
    monkeypatch.delenv("SPIKECADE_TRACE", raising=False)
    with pytest.raises(SystemExit):
        run(failing(SettingsError("a.b: found 3, allowed 4")))
    assert capsys.readouterr().err == "error: a.b: found 3, allowed 4\n"
    with pytest.raises(AssertionError, match="ours"):
        run(failing(AssertionError("ours")))
    monkeypatch.setenv("SPIKECADE_TRACE", "1")
    with pytest.raises(SettingsError, match="where"):
        run(failing(SettingsError("where")))


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("GAME=Pong", "game=Pong"),
        ("GAMES=Pong,Breakout", "games=[Pong,Breakout]"),
        ("game=Pong", "game=Pong"),
        ("root=GAME=1", "root=GAME=1"),
        ("GAME", "GAME"),
    ],
)
def test_games_may_be_named_as_for_make(typed, taken):
    assert as_hydra_spells(typed) == taken


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_answered_and_the_second_ends_at_once(number, capfd):
    before = signal.getsignal(number)
    stop = Stop()
    try:
        assert (bool(stop), stop.status()) == (False, 0)
        signal.raise_signal(number)
        assert (bool(stop), stop.status()) == (True, 128 + number)
        assert "stopping after this step or evaluation; a second signal stops at once" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    finally:
        stop.restore()
    assert signal.getsignal(number) is before


def test_a_signal_is_noted_though_nobody_can_be_told(monkeypatch):
    def gone(fd, text):
        raise OSError("nobody listens")

    monkeypatch.setattr("os.write", gone)
    stop = Stop()
    try:
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
    finally:
        stop.restore()


def test_a_folder_is_held_by_one_and_free_again_afterwards(tmp_path):
    folder = tmp_path / "new" / "run"
    for _ in range(2):
        with only_one(folder):
            message = rf"^{folder}: another program is at work there; wait for it or stop it$"
            with pytest.raises(SettingsError, match=message), only_one(folder):
                pass


def fails(folder, path=None):
    """A run that holds a folder, makes a path or none, and ends by an error."""
    with only_one(folder):
        if path:
            path.mkdir()
        raise SettingsError("refused")


def below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("path", "left"),
    [
        (None, []),
        ("new/run/state", ["new", "new/run", "new/run/lock", "new/run/state"]),
        ("new/other", ["new", "new/other"]),  # another run's
    ],
)
def test_what_fails_leaves_its_folder_only_where_it_wrote(tmp_path, path, left):
    with pytest.raises(SettingsError, match="refused"):
        fails(tmp_path / "new" / "run", path and tmp_path / path)
    assert below(tmp_path) == left


def test_a_lock_that_was_removed_holds_nobody_off_and_is_refused(tmp_path, monkeypatch):
    lock = fcntl.flock

    def removed_meanwhile(file, how):
        (tmp_path / "lock").unlink()
        lock(file, how)

    monkeypatch.setattr("fcntl.flock", removed_meanwhile)
    with pytest.raises(SettingsError, match=r"another program is at work there"), only_one(tmp_path):
        pytest.fail("begun")


@dataclass(frozen=True)
class Named:
    name: str


def test_sections_of_other_commands_are_left_alone():
    assert settings(Named, {"name": "Pong", "teacher": {"a": 1}, "play": 3}) == Named("Pong")
    with pytest.raises(SettingsError, match=r"nmae: unknown key; did you mean name\?\n.*name: missing$"):
        settings(Named, {"nmae": "Pong"})


def test_a_stage_reads_what_was_made_before_what_ships(tmp_path, capsys):
    shipped, own = tmp_path / "models" / "Pong" / "teacher.safetensors", tmp_path / "runs" / "Pong" / TEACHER
    for path in (shipped, own):
        path.parent.mkdir(parents=True)
        path.touch()
        found = stages.find(TEACHER, "Pong", str(tmp_path / "runs"), tmp_path / "models")
        assert found == path
        assert capsys.readouterr().out == f"teacher: {path}\n"


@pytest.mark.parametrize(
    ("stage", "command"),
    [(TEACHER, "make teacher GAME=Pong"), (STUDENT, "make distill GAMES=Pong"), (CHIP, "make compile GAMES=Pong")],
)
def test_a_missing_stage_names_the_command_that_makes_it(tmp_path, stage, command):
    with pytest.raises(SettingsError, match=rf"neither {tmp_path}/Pong/{stage} nor .* exists; run {command}$"):
        stages.find(stage, "Pong", str(tmp_path), tmp_path / "models")


def test_a_missing_dataset_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(SettingsError, match=r"Pong/rollouts holds no dataset; run make rollouts GAME=Pong$"):
        stages.rollouts("Pong", str(tmp_path))
    folder = tmp_path / "Pong" / "rollouts"
    folder.mkdir(parents=True)
    (folder / "manifest.json").touch()
    assert stages.rollouts("Pong", str(tmp_path)) == folder


def metrics(folder):
    return [json.loads(line, parse_constant=pytest.fail) for line in (folder / "metrics.jsonl").open()]


def test_a_metric_that_is_not_yet_known_is_left_out(tmp_path):
    with Board(tmp_path) as board:
        board.write(4, {"a": float("nan"), "b": 0.5, "c": float("inf")})
    assert metrics(tmp_path) == [{"at": 4, "b": 0.5}]


def test_a_resumed_board_drops_what_a_lost_run_left_beyond(tmp_path):
    with Board(tmp_path) as board:
        for at in (4, 8, 12):
            board.write(at, {"a": at})
    with (tmp_path / "metrics.jsonl").open("a") as lines:
        lines.write('{"at": 16, "a"')  # killed while it wrote
    with Board(tmp_path, resume_at=8) as board:
        board.write(10, {"a": 1.0})
    assert [line["at"] for line in metrics(tmp_path)] == [4, 8, 10]


def test_a_ticker_is_silent_between_its_times(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("rl.board.time.monotonic", lambda: now[0])
    ticker = Ticker(200, began_at=100, quiet_s=60.0)
    for step_s, done in ((1.0, 110), (59.0, 120), (2.0, 150)):
        now[0] += step_s
        ticker.show(done, "text")
    ticker.say("a line [that] stays")
    # 50 done in 62 s: another 50 take as long
    assert capsys.readouterr().out == " 55.0%  text  left 0:00:09\n 75.0%  text  left 0:01:02\na line [that] stays\n"

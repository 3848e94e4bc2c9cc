"""Commands end to end on a tiny run: what they write, what they return, and what they say where they cannot work."""

from __future__ import annotations

import errno
import io
import json
import os
import zipfile
from dataclasses import replace

import av
import numpy as np
import pytest
from run_cases import ENV, command_line, files_in, small_chip, small_student, small_teacher, write_run

from deploy import build, play, score, verify
from deploy.arcade.address import WebSettings
from deploy.compiled import load_compiled, save_compiled
from deploy.files import HEADER
from deploy.realtime import RealtimeSettings
from deploy.spec import save_spec
from deploy.verification import Difference
from deploy.video import VideoScreen
from distill import verify as distill_verify
from rl.checkpoint import save_policy
from rl.command import run
from rl.files import write_json
from rl.loop import RandomPlayer
from rl.settings import SettingsError
from rl.stages import CHIP, STUDENT, TEACHER, find

WEB = WebSettings("127.0.0.1", 0, exposed=False, token=None, browser=False)


@pytest.fixture(autouse=True)
def nothing_ships(tmp_path_factory, monkeypatch):
    """Only what a test wrote is found, whatever the checkout ships."""
    monkeypatch.setattr("rl.stages.find.__defaults__", (tmp_path_factory.mktemp("models"),))


@pytest.fixture
def root(tmp_path):
    write_run(tmp_path)
    return tmp_path


def a_build(root, games=("Pong",), board="ns1e", **changes):
    return build.BuildRun(
        games,
        str(root),
        build.ChipSettings(
            **{
                "board": board,
                "seed": 0,
                "host_copies": 1,
                "reduce": (),
                "interval": 33,
                "broken_routers": (),
                "splitters": True,
            }
            | changes
        ),
    )


def a_verify(root, games=("Pong",)):
    return verify.VerifyRun(games, str(root), ENV, verify.VerifySettings(decisions=12, plain_decisions=2, seed=1))


def a_play(root, player="chip", view="none", name="Pong", seconds=0.2, env=ENV, chip=None, **pace):
    realtime = RealtimeSettings(**{"seconds": seconds, "pictures_per_s": 30, "frames_per_picture": 2} | pace)
    return play.PlayRun(name, str(root), env, play.PlaySettings(player, chip, None, view, 1, True, realtime, WEB))


def a_score(root, players=("spec",), name="Pong", video_seconds=0.0, protocol="nature"):
    own = score.ScoreSettings(players, protocol, 1, 5, 1, video_seconds, again=False)
    return score.ScoreRun((name,), str(root), (), None, own)


@pytest.fixture
def short_games(monkeypatch):
    """The nature protocol, with its games cut off after two seconds."""

    def short(name, episodes, seed):
        return score.Protocol(name, replace(ENV, max_frames=120), 0.1, episodes, seed)

    monkeypatch.setattr(score, "protocol", short)


def report(folder):
    return json.loads((folder / "report.json").read_text())


def said(capsys, command, config):
    """What a command that cannot work says: status 1, one message, no traceback."""
    capsys.readouterr()
    with pytest.raises(SystemExit, match=r"^1$"):
        run(lambda: command(config))
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    return err.removeprefix("error: ").rstrip("\n")


# What they write


def test_build_writes_a_chip_that_equals_its_student_and_a_report(root, capsys):
    (root / "Pong" / CHIP).unlink()
    assert build.command(a_build(root)) == 0
    compiled, origin = load_compiled(root / "Pong" / CHIP)
    facts = report(root / "Pong" / "chip")
    assert compiled.spec_digest == facts["spec"] == small_student().digest
    assert compiled.digest == facts["graph"] == small_chip().digest
    assert facts["file_bytes"] == (root / "Pong" / CHIP).stat().st_size
    assert (facts["what"], facts["games"], facts["latency_ticks"]) == ("chip", ["Pong"], compiled.latency_ticks)
    assert facts["usage"]["total"]["cores"] == [compiled.graph.shape[0], 4096]
    chip = {
        "board": "ns1e",
        "seed": 0,
        "host_copies": 1,
        "reduce": [],
        "interval": 33,
        "broken_routers": [],
        "splitters": True,
    }
    assert facts["settings"]["chip"] == chip
    assert "student" in origin
    assert facts["versions"]["numpy"] == np.__version__
    assert "cores" in capsys.readouterr().out


def test_building_twice_gives_the_same_file(root):
    build.command(a_build(root))
    first = (root / "Pong" / CHIP).read_bytes()
    build.command(a_build(root))
    assert (root / "Pong" / CHIP).read_bytes() == first


def test_verify_agrees_on_an_unharmed_chip_and_says_on_how_much(root, capsys):
    assert verify.command(a_verify(root)) == 0
    facts = json.loads((root / "Pong" / "chip" / "verify.json").read_text())
    assert (facts["decisions"], facts["plain_decisions"], facts["games"]) == (12, 2, ["Pong"])
    assert (facts["spec"], facts["graph"]) == (small_student().digest, small_chip().digest)
    assert facts["neurons"] == (small_chip().probe_core >= 0).sum()
    ((game, energy),) = facts["energy"].items()
    assert energy["measured"] and energy["total_a_w"] > energy["whole"]["static_w"] > 0, game
    assert "Pong: spec = cores on 12 decisions" in capsys.readouterr().out


def test_verify_compares_on_the_plain_emulator_as_many_as_it_says_batch_after_batch(root, capsys, monkeypatch):
    held = []

    class Counted(verify.Emulator):
        def hold(self, picture, ticks):
            held.append(ticks)
            super().hold(picture, ticks)

    monkeypatch.setattr(verify, "Emulator", Counted)
    monkeypatch.setattr(verify, "BATCH", 4)
    config = a_verify(root)
    assert verify.command(replace(config, verify=replace(config.verify, plain_decisions=10))) == 0
    assert len(held) == 10
    assert json.loads((root / "Pong/chip/verify.json").read_text())["plain_decisions"] == 10
    assert "(10 decisions on the plain emulator too)" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [verify.VerifySettings, distill_verify.VerifySettings])
def test_both_halves_of_verify_refuse_to_compare_nothing_or_more_than_there_is(kind):
    with pytest.raises(SettingsError, match=r"^verify\.decisions: found 0, allowed 1 or more$"):
        kind(decisions=0, plain_decisions=1, seed=1)
    for found in (0, 13):
        wanted = rf"^verify\.plain_decisions: found {found}, allowed 1 to 12, verify\.decisions$"
        with pytest.raises(SettingsError, match=wanted):
            kind(decisions=12, plain_decisions=found, seed=1)


def rewired(chip, core, neuron):
    """The chip with one synapse of a neuron given the other sign: its two axons change places."""
    graph = chip.graph
    crossbar, own = graph.crossbar.copy(), graph.crossbar_of[core]
    word = crossbar[own, 0, neuron]
    pairs = [(int(word) >> shift) & 3 for shift in range(0, 64, 2)]
    shift = 2 * next(i for i, pair in enumerate(pairs) if pair in (1, 2))
    crossbar[own, 0, neuron] = word ^ np.uint64(3 << shift)
    return replace(chip, graph=replace(graph, crossbar=crossbar))


class LateVerifier:
    """Finds nothing in its first batch, and the second picture of the next one."""

    def __init__(self, *_):
        self._batches = 0

    def first_difference(self, *_):
        self._batches += 1
        return None if self._batches == 1 else Difference("votes", 1, 0, 0, 0, 3, 4, 9, -1, -1)


def test_verify_counts_pictures_over_all_batches(root, monkeypatch):
    monkeypatch.setattr(verify, "Verifier", LateVerifier)
    monkeypatch.setattr(verify, "BATCH", 5)
    obs, begins = np.zeros((12, 4, 84, 84), np.uint8), np.ones(12, bool)
    found = verify.differences(a_verify(root), small_student(), small_chip(), obs, begins)
    assert [different.picture for different in found] == [6, 11]


def test_verify_finds_a_flipped_synapse_and_names_layer_place_and_neuron(root, capsys):
    chip = small_chip()
    tiles = np.flatnonzero(chip.level == chip.layer_levels[1])
    core = next(core for core in tiles if core in chip.probe_core)
    before = verify.command(a_verify(root))
    found = ""
    for neuron in range(40):  # until the pictures that are played meet it
        if not (chip.graph.crossbar[chip.graph.crossbar_of[core], 0, neuron]):
            continue
        save_compiled(rewired(chip, core, neuron), root / "Pong" / CHIP)
        capsys.readouterr()
        if verify.command(a_verify(root)) == 1:
            found = capsys.readouterr().out
            break
    assert before == 0
    assert not (root / "Pong/chip/verify.json").exists(), "what fails leaves no success of earlier"
    assert "not equal: layer1, picture" in found
    assert f"core {core}, neuron {neuron})" in found
    assert "the spec says" in found
    assert "channel" in found


def test_verify_plays_the_pictures_it_compares_where_there_is_no_dataset(root, capsys):
    config = a_verify(root)
    first, begins = verify.recorded(config, "Pong", small_student())
    assert first.shape == (12, 4, 84, 84)
    assert begins.tolist() == [True, *[False] * 11]
    assert "no dataset" in capsys.readouterr().out
    assert np.array_equal(first, verify.recorded(config, "Pong", small_student())[0])
    other = replace(config, verify=replace(config.verify, seed=2))
    assert not np.array_equal(first, verify.recorded(other, "Pong", small_student())[0])


@pytest.mark.parametrize("player", ["chip", "spec", "student", "int8", "int4", "teacher", "random"])
def test_play_writes_a_report_of_every_player(player, root, capsys):
    assert play.command(a_play(root, player)) == 0
    (folder,) = (root / "Pong" / "play").iterdir()
    assert folder.name.startswith(f"{player}-")
    assert files_in(folder) == {"report.json", "replay.npz"}
    facts = report(folder)
    assert (facts["what"], facts["game"], facts["player"], facts["title"]) == (
        "play",
        "Pong",
        player,
        f"Pong | {player}",
    )
    assert (facts["pictures"], facts["decisions"]) == (6, 3)
    assert facts["settings"]["play"]["realtime"]["frames_per_picture"] == 2
    # Once more than decisions: the first one loads the kernels.
    assert facts.get("ticks") == (4 * small_chip().latency_ticks if player == "chip" else None)
    assert f"Pong | {player}: 6 pictures" in capsys.readouterr().out


@pytest.mark.parametrize("view", ["none", "video"])
def test_a_human_without_keys_is_refused_before_anything_is_written(view, root, capsys):
    before = files_in(root)
    message = said(capsys, play.command, a_play(root, "human", view))
    assert message.startswith(f"player human: found view {view}, which has no keys here; allowed a window, the page, ")
    assert files_in(root) == before


def test_play_with_a_video_has_every_picture_in_it(root):
    assert play.command(a_play(root, view="video", seconds=1.0)) == 0
    (folder,) = (root / "Pong" / "play").iterdir()
    facts = report(folder)
    assert files_in(folder) == {"report.json", "replay.npz", "play.mp4"}
    assert (facts["video_pictures"], facts["video_dropped"], facts["pictures"]) == (30, 0, 30)
    with av.open(facts["video"]) as container:
        assert sum(1 for _ in container.decode(video=0)) == 30


def test_play_can_decide_on_every_picture(root):
    play.command(a_play(root, env=replace(ENV, frames_per_step=2)))
    (folder,) = (root / "Pong" / "play").iterdir()
    assert report(folder)["decisions"] == report(folder)["pictures"] == 6


def test_score_puts_players_side_by_side_and_films_them(root, short_games, capsys):
    assert score.command(a_score(root, ("teacher", "spec"), video_seconds=0.2)) == 0
    folder = root / "Pong" / "score" / "nature"
    facts = report(folder)
    assert set(facts["scores"]) == {"teacher", "spec"}
    assert facts["protocol"]["env"]["max_frames"] == 120
    assert facts["protocol"]["episodes"] == 1
    for player, own in facts["scores"].items():
        assert own["player"] == player
        assert len(own["returns"]) == 1
        assert own["low"] <= own["mean"] <= own["high"]
        with av.open(str(folder / f"{player}.mp4")) as container:
            assert sum(1 for _ in container.decode(video=0)) == 6
    assert (root / "Pong" / "teacher" / "metrics.jsonl").exists()
    assert "| teacher |" in capsys.readouterr().out


def test_a_film_that_is_interrupted_leaves_none_and_the_same_command_makes_it(root, short_games, monkeypatch):
    clip, show = root / "Pong/score/nature/random.mp4", VideoScreen.show

    def interrupted(screen, picture):
        if picture.pictures == 4:
            raise KeyboardInterrupt
        show(screen, picture)

    score.command(a_score(root, ("random",), video_seconds=0.1))
    old = a_score(root, ("random",), video_seconds=0.4)
    with monkeypatch.context() as broken:
        broken.setattr(VideoScreen, "show", interrupted)
        with pytest.raises(KeyboardInterrupt):
            score.command(replace(old, score=replace(old.score, again=True)))
    assert not list(clip.parent.glob("*.mp4*")), "nor is one left of what was scored before"
    score.command(old)
    with av.open(str(clip)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 12


# What they say


@pytest.mark.parametrize(
    ("command", "config"),
    [
        (build.command, lambda root: a_build(root, ("Pnog",))),
        (verify.command, lambda root: a_verify(root, ("Pnog",))),
        (play.command, lambda root: a_play(root, name="Pnog")),
        (score.command, lambda root: a_score(root, name="Pnog")),
    ],
)
def test_an_unknown_game_is_named_with_the_nearest_and_leaves_nothing(command, config, root, capsys):
    before = files_in(root)
    assert said(capsys, command, config(root)).startswith("game: found 'Pnog', no such game among the ")
    assert files_in(root) == before


def test_students_of_several_games_that_ship_are_named_where_there_is_no_such_game(root, tmp_path):
    write_json(tmp_path / "models/Pong-Breakout/several.json", {})
    with pytest.raises(SettingsError, match=r"'Tne', no such game .*; students of .* that ship: Pong-Breakout$"):
        find(STUDENT, "Tne", str(root), tmp_path / "models")


def test_a_root_that_can_hold_nothing_is_said_before_the_game_begins(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(play, "play_realtime", None)
    monkeypatch.setattr(play, "make_player", lambda *own: RandomPlayer(6, 1))
    (tmp_path / "file").write_text("")
    assert "Not a directory" in said(capsys, play.command, a_play(tmp_path / "file", "random"))


def test_scoring_that_is_stopped_says_what_is_kept(root, capsys, monkeypatch):
    def stopped(job):
        raise KeyboardInterrupt

    monkeypatch.setattr(score, "score_game", stopped)
    with pytest.raises(KeyboardInterrupt):
        score.command(a_score(root))
    assert "players that were done are kept, the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "config", "gone", "message"),
    [
        (build.command, a_build, STUDENT, "run make distill GAMES=Pong"),
        (verify.command, a_verify, CHIP, "run make compile GAMES=Pong"),
        (play.command, a_play, CHIP, "run make compile GAMES=Pong"),
        (play.command, lambda root: a_play(root, "teacher"), TEACHER, "run make teacher GAME=Pong"),
        (score.command, lambda root: a_score(root, ("spec", "chip")), CHIP, "run make compile GAMES=Pong"),
        (score.command, lambda root: a_score(root, ("spec", "teacher")), TEACHER, "run make teacher GAME=Pong"),
    ],
)
def test_a_missing_stage_is_said_before_anything_is_done(command, config, gone, message, root, capsys):
    (root / "Pong" / gone).unlink()
    before = files_in(root)
    assert said(capsys, command, config(root)).endswith(message)
    assert files_in(root) == before


def test_the_message_of_a_student_of_several_games_can_be_typed(root, capsys):
    message = said(capsys, build.command, a_build(root, ("Pong", "Breakout")))
    assert message.endswith("run make distill GAMES=Pong,Breakout")


def harmed(path, harm):
    data = bytearray(path.read_bytes())
    if harm == "truncated":
        data = data[: len(data) * 2 // 3]
    elif harm == "empty":
        data = bytearray()
    elif harm == "foreign":
        data = bytearray(b"PK\x03\x04 not ours" * 9)
    else:
        data[int(len(data) * 0.4)] ^= 8
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("harm", ["truncated", "bit-flipped", "foreign", "empty"])
@pytest.mark.parametrize(
    ("stage", "command", "config"),
    [
        (STUDENT, build.command, a_build),
        (CHIP, verify.command, a_verify),
        (STUDENT, verify.command, a_verify),
        (CHIP, play.command, a_play),
        (STUDENT, play.command, a_play),
        (TEACHER, play.command, lambda root: a_play(root, "teacher")),
        (TEACHER, score.command, lambda root: a_score(root, ("teacher",))),
        (CHIP, score.command, lambda root: a_score(root, ("chip",))),
    ],
)
def test_a_harmed_file_is_named_and_nothing_is_written(stage, command, config, harm, root, capsys):
    harmed(root / "Pong" / stage, harm)
    before = files_in(root)
    message = said(capsys, command, config(root))
    assert message.startswith(f"{root / 'Pong' / stage}: ")
    assert files_in(root) == before


@pytest.mark.parametrize("stage", [STUDENT, CHIP, TEACHER])
def test_no_single_flipped_bit_goes_unnoticed_or_ends_in_a_traceback(stage, root, capsys):
    """Either the one error, or a bit that decides nothing (a date in the archive) and the same player as before."""
    path = root / "Pong" / stage
    whole = path.read_bytes()
    player = {STUDENT: "spec", CHIP: "chip", TEACHER: "teacher"}[stage]
    digests, messages = set(), []
    for place in np.random.default_rng(3).integers(8 * len(whole), size=60):
        data = bytearray(whole)
        data[place // 8] ^= 1 << (place % 8)
        path.write_bytes(bytes(data))
        try:
            play.make_player(player, "Pong", small_student().heads[0].actions, str(root), 1, frozenset)
            digests.add(load_compiled(path)[0].digest if stage == CHIP else "")
        except (ValueError, OSError) as error:
            messages.append(str(error))
    assert messages
    assert all(str(path) in message for message in messages)
    assert digests <= {small_chip().digest, ""}


def test_a_file_of_another_kind_is_named(root, capsys):
    (root / "Pong" / CHIP).write_bytes((root / "Pong" / STUDENT).read_bytes())
    assert "field kind is 'spikecade-student', must be 'spikecade-chip'" in said(capsys, play.command, a_play(root))


def test_a_newer_file_is_named_with_what_is_read(root, capsys):
    path = root / "Pong" / CHIP
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(parts[HEADER])
    parts[HEADER] = json.dumps(header | {"version": [9, 0]}).encode()
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    path.write_bytes(whole.getvalue())
    assert "field version is [9, 0], this program reads 1.x" in said(capsys, play.command, a_play(root))


@pytest.mark.parametrize(("command", "config"), [(play.command, a_play), (verify.command, a_verify)])
def test_the_chip_of_another_student_is_refused(command, config, root, capsys):
    save_compiled(small_chip(seed=2), root / "Pong" / CHIP)
    before = files_in(root)
    assert said(capsys, command, config(root)).startswith("chip: compiled from student ")
    assert files_in(root) == before


@pytest.mark.parametrize("player", ["spec", "chip"])
def test_a_wrong_action_set_is_refused(player, root, capsys):
    head = replace(small_student().heads[0], actions=("NOOP", "FIRE", "UP", "DOWN", "UPFIRE", "DOWNFIRE"))
    spec = replace(small_student(), heads=(head,))
    save_spec(spec, root / "Pong" / STUDENT)
    save_compiled(replace(small_chip(), heads=(head,), spec_digest=spec.digest), root / "Pong" / CHIP)
    message = said(capsys, play.command, a_play(root, player))
    assert message.startswith(f"{player} of Pong: knows actions NOOP, FIRE, UP, ")
    assert "not UP, DOWN, UPFIRE, DOWNFIRE; use the game and the action set" in message


def test_a_teacher_of_another_game_is_refused(root, capsys):
    save_policy(small_teacher(game="Breakout"), root / "Pong" / TEACHER)
    assert "a teacher of Breakout, must be of Pong" in said(capsys, play.command, a_play(root, "teacher"))
    assert "a teacher of Breakout, must be of Pong" in said(capsys, score.command, a_score(root, ("teacher",)))


def test_a_window_without_a_display_is_said_and_nothing_is_written(root, capsys, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    before = files_in(root)
    message = said(capsys, play.command, a_play(root, view="window"))
    assert message.startswith("view=window: neither DISPLAY nor WAYLAND_DISPLAY is set")
    assert "VIEW=terminal" in message
    assert files_in(root) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"player": "chips"}, "player: found 'chips', allowed chip, spec, student, int8, int4, teacher, human, random"),
        ({"view": "windw"}, "view: found 'windw'; allowed auto, web, window, terminal, video, none; try VIEW=auto"),
    ],
)
def test_an_unknown_name_is_told_with_those_that_there_are(changes, message, root, capsys):
    before = files_in(root)
    assert said(capsys, play.command, a_play(root, **changes)) == message
    assert files_in(root) == before


def test_pictures_that_do_not_fill_a_step_are_refused_before_anything_opens(root):
    with pytest.raises(ValueError, match=r"^realtime\.frames_per_picture: found 3, allowed divisors of "):
        a_play(root, frames_per_picture=3)


def test_an_unknown_board_is_told_with_those_that_there_are(root, capsys):
    assert "ns1f" in said(capsys, build.command, a_build(root, board="ns1f"))


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("command", "config"), [(build.command, a_build), (verify.command, a_verify), (play.command, a_play)]
)
def test_a_full_disk_is_said_and_leaves_what_was_there(command, config, root, capsys, monkeypatch):
    before, chip = files_in(root), (root / "Pong" / CHIP).read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in said(capsys, command, config(root))
    assert (root / "Pong" / CHIP).read_bytes() == chip
    assert {name for name in files_in(root) - before if (root / name).is_file()} == set()


def test_a_video_that_cannot_be_opened_gives_the_view_back(root, capsys, monkeypatch):
    closed = []

    class View(play.NoScreen):
        def close(self):
            closed.append("view")

    def no_room(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(play, "open_view", lambda *_: View())
    monkeypatch.setattr("deploy.video.VideoScreen", no_room)
    assert "No space left" in said(capsys, play.command, a_play(root, view="terminal"))
    assert closed == ["view"]


def test_a_video_that_breaks_half_way_still_tells_how_the_run_went(root, capsys, monkeypatch):
    from deploy.screens import NoScreen, ScreenError

    class Breaks(NoScreen):
        def close(self):
            raise ScreenError("video: the disk is full")

    monkeypatch.setattr(play, "screens", lambda *_: (Breaks(), None))
    with pytest.raises(SystemExit, match=r"^1$"):
        run(lambda: play.command(a_play(root)))
    told = capsys.readouterr()
    assert "Pong | chip: 6 pictures" in told.out
    assert told.err == "error: video: the disk is full\n"


# As programs


@pytest.mark.slow
def test_the_path_from_student_to_score_as_make_runs_it(root):
    (root / "Pong" / CHIP).unlink()
    steps = {
        "deploy.build": [],
        "deploy.verify": ["verify.decisions=8", "verify.plain_decisions=1"],
        "deploy.play": ["play.view=none", "play.realtime.seconds=1"],
    }
    for module, more in steps.items():
        done = command_line(module, f"root={root}", *more)
        assert (done.returncode, done.stderr) == (0, ""), module
    (folder,) = (root / "Pong" / "play").iterdir()
    assert report(folder)["pictures"] == 30


@pytest.mark.slow
def test_a_score_of_a_random_player_in_a_process_of_its_own(root):
    more = ["score.players=[random]", "score.episodes=1", "score.processes=1", "score.video_seconds=0"]
    done = command_line("deploy.score", f"root={root}", *more)
    assert (done.returncode, done.stderr) == (0, "")
    assert report(root / "Pong" / "score" / "nature")["scores"]["random"]["mean"] < -15


@pytest.mark.slow
def test_programs_end_with_status_1_and_one_message(root):
    (root / "Pong" / STUDENT).write_bytes(b"")
    cases = {
        "deploy.build": ([], "student.npz: "),
        "deploy.play": (["game=Pnog"], "game: found 'Pnog'"),
        "deploy.verify": (["games=[]"], "games: found (), allowed one or more"),
        "deploy.score": (["score.players=[chips]"], "score.players: found 'chips', allowed "),
    }
    for module, (arguments, message) in cases.items():
        done = command_line(module, f"root={root}", *arguments)
        assert done.returncode == 1
        assert message in done.stderr
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1

"""A show: orders take effect between two pictures of a game that goes on, and what was played is told as it was."""

from __future__ import annotations

import dataclasses
import shutil
import threading

import av
import numpy as np
import pytest
from arcade_cases import PERIOD_S, StagedShow, asks, stock, until
from cases import student
from fakes import FakeClock, stack
from run_cases import ACTIONS, ENV, PONG, small_chip, small_student, write_run

from deploy.arcade import cabinet
from deploy.arcade.cabinet import Cabinet, mesh_of
from deploy.arcade.desk import Desk, StoppableClock, Wish
from deploy.arcade.orders import (
    Advance,
    Heal,
    Hold,
    Kill,
    Lose,
    OrderError,
    Pause,
    Record,
    Restart,
    Rewind,
    Seek,
    SetGame,
    SetPlayer,
    SetSpeed,
)
from deploy.arcade.recorder import MOST_CLIPS, MOST_PICTURES, Recorder
from deploy.arcade.reels import open_reel
from deploy.arcade.seat import Seat, Sitter
from deploy.arcade.show import Ledger
from deploy.arcade.wounds import unharmed
from deploy.chip import chip_named
from deploy.compiled import save_compiled
from deploy.compiler import compile_spec
from deploy.players import ChipPlayer, make_player
from deploy.replay import load_replay, save_replay
from deploy.replaying import REPLAY, played_with, record_episode
from deploy.spec import Head, save_spec
from rl.files import digest
from rl.games import ScalarGame
from rl.loop import RandomPlayer
from rl.settings import SettingsError
from rl.stages import CHIP, SHIPPED, STUDENT, TEN, label

ALL = Kill(0, 0, 63, 63)


@pytest.fixture(autouse=True)
def nothing_ships(monkeypatch, tmp_path):
    """Only what a test made is there, whatever the project brings along."""
    monkeypatch.setattr(cabinet, "MODELS", tmp_path / "models")


@pytest.fixture
def players(tmp_path):
    return stock(tmp_path / "runs")


def play(players, tmp_path, pictures, script, player="chip"):
    show = StagedShow(players, tmp_path / "clips", pictures, script, player)
    return show, show.play()


def decided(seen):
    """The snapshot of each decision."""
    return [now for before, now in zip([None, *seen], seen, strict=False)
            if before is None or before.thought is not now.thought]  # fmt: skip


def test_the_chip_of_a_show_plays_as_the_chip_alone_does(players, tmp_path):
    _, seen = play(players, tmp_path, 40, {})
    assert [now.number for now in seen] == list(range(1, 41))
    alone = ChipPlayer(small_student(), small_chip(), "Pong")
    alone.reset()
    for now in decided(seen):
        assert alone.act(now.thought.stack) == now.picture.action
        assert np.array_equal(now.picture.votes, alone.votes)
        assert np.array_equal(now.thought.wave[-1], now.thought.fired.sum(axis=1))
        mesh = now.round.cabinet.mesh
        drawn = now.picture.activity[mesh.cells[:, 1], mesh.cells[:, 0]]
        assert np.array_equal(drawn, now.thought.wave[-1])
    assert [now.thought.number for now in decided(seen)] == list(range(1, 21))


def test_what_the_chip_sees_is_its_transduced_input(players, tmp_path):
    _, seen = play(players, tmp_path, 4, {})
    thought, spec = seen[-1].thought, small_student()
    assert np.array_equal(thought.bits, spec.transduce(thought.stack[None])[0])
    assert np.array_equal(thought.lines, thought.bits.reshape(-1))


def test_players_change_between_two_decisions_of_one_game(players, tmp_path):
    names = ["spec", "student", "int8", "int4", "teacher", "random", "human", "chip"]
    script = {10 * (i + 1): asks(SetPlayer(name)) for i, name in enumerate(names)}
    _, seen = play(players, tmp_path, 90, script)
    told = [now.thought.player for now in seen]
    assert told == [name for name in ["chip", *names] for _ in range(10)]
    assert {now.picture.episode for now in seen} == {1} and seen[-1].round is seen[0].round
    assert [now.thought.number for now in decided(seen)] == list(range(1, 46)), "nobody's turn was lost"
    kinds = {now.thought.player: (now.thought.bits is None, now.thought.wave is None) for now in seen}
    assert kinds == {"chip": (False, False), **dict.fromkeys(("spec", "student"), (False, True)),
                     **dict.fromkeys(("int8", "int4", "teacher", "random", "human"), (True, True))}  # fmt: skip


def test_the_student_decides_what_the_chip_would(players, tmp_path):
    _, chip = play(players, tmp_path, 20, {})
    _, student = play(players, tmp_path, 20, {}, "student")
    assert [now.picture.action for now in chip] == [now.picture.action for now in student]
    assert np.array_equal(chip[-1].picture.votes, student[-1].picture.votes)


def test_a_player_that_is_not_there_is_refused(players, tmp_path):
    show = StagedShow(players, tmp_path, 1, {})
    for order, message in [
        (
            SetPlayer("ghost"),
            r"^order\.player: found 'ghost', allowed chip, spec, student, int8, int4, teacher, human, random$",
        ),
        (SetGame("Doom"), r"^order\.game: found 'Doom', allowed Pong$"),
    ]:
        with pytest.raises(OrderError, match=message):
            show.desk.obey(order, 1)
    with pytest.raises(SettingsError, match=r"^player of Pong: found 'ghost', allowed chip, spec, student"):
        show.desk.state.round.cabinet.sit("ghost", unharmed(0))


def test_dead_cores_fall_silent_and_healed_ones_speak_again(players, tmp_path):
    _, seen = play(players, tmp_path, 30, {10: asks(ALL), 20: asks(Heal())})
    spikes = [int(now.thought.wave.sum()) for now in seen]
    assert min(spikes[:10]) > 0 and max(spikes[10:20]) == 0 and min(spikes[20:]) > 0
    assert seen[4].picture.votes.any() and not seen[14].picture.votes.any() and seen[24].picture.votes.any()


def test_a_damaged_chip_plays_as_the_same_chip_with_that_damage(players, tmp_path):
    show, seen = play(players, tmp_path, 24, {2: lambda own: own.ask(kill_some(own), Lose(0.25))})
    damaged, wounds = decided(seen)[1:], show.desk.state.wounds
    again = show.desk.state.round.cabinet.sit("chip", wounds)
    assert again.label == "damaged chip" and wounds.lost == 0.25 and wounds.dead.any() and not wounds.dead.all()
    again.player.reset()
    for now in damaged:
        again.player.act(now.thought.stack)
        assert np.array_equal(again.witness.wave, now.thought.wave)
    assert not damaged[0].thought.wave[:, wounds.dead].any()


def kill_some(show):
    """An order that kills the left half of the chip."""
    columns = show.desk.state.round.cabinet.mesh.cells[:, 0]
    left, right = columns.min(), columns.max()
    return Kill(int(left), 0, int(left + right) // 2, 63)


def test_wounds_matter_to_the_chip_alone_and_stay_for_its_return(players, tmp_path):
    script = {4: asks(SetPlayer("student"), ALL), 12: asks(SetPlayer("chip"))}
    _, seen = play(players, tmp_path, 20, script)
    assert seen[8].picture.votes.any() and not seen[16].thought.wave.any()


def test_a_game_without_a_chip_has_none_to_break(tmp_path):
    players = stock(tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs" / "Pong")
    show = StagedShow(dataclasses.replace(players, root=str(tmp_path / "runs")), tmp_path, 1, {}, "random")
    cabinet = Cabinet("Breakout", players, frozenset)
    assert (cabinet.players, cabinet.mesh, cabinet.cores) == (("human", "random"), None, 0)
    bare = dataclasses.replace(show.desk.state.round, cabinet=cabinet)
    show.desk.state = dataclasses.replace(show.desk.state, round=bare)
    with pytest.raises(OrderError, match=r"^order: Breakout has no chip to break; play a game with one$"):
        show.desk.obey(ALL, 1)


def several(root, games):
    """A student of these games and its chip in a folder of their name; returns the student."""
    sizes = [len(ACTIONS.get(game, PONG)) for game in games]
    drawn = student([(24, 5, 3, 0, 1), (8 * sum(sizes), 1, 1, 0, 1)], (4, 8, 8, 2, 1), (4, 84, 84), sizes, 1)
    starts = np.cumsum([0, *sizes]).tolist()
    heads = [Head(game, ACTIONS.get(game, PONG), at) for game, at in zip(games, starts, strict=False)]
    made = dataclasses.replace(drawn, heads=tuple(heads))
    save_spec(made, root / label(games) / STUDENT)
    save_compiled(compile_spec(made, chip_named("ns1e")), root / label(games) / CHIP)
    return made


@pytest.mark.parametrize("games", [("Pong", "Breakout"), TEN], ids=label)
def test_a_student_of_several_games_plays_them_on_the_page_and_is_no_game(players, games, tmp_path):
    spec = several(tmp_path / "runs", games)
    assert players.games() == ("Pong",) and players.label("Pong") == "Pong"
    own = dataclasses.replace(players, student=label(games))
    assert own.games() == tuple(sorted(games)) and {own.label(game) for game in games} == {label(games)}
    assert own.label("Asterix") == "Asterix"
    _, seen = play(own, tmp_path, 4, {})
    votes = spec.run(spec.transduce(seen[-1].thought.stack[None]))[0]
    head = spec.head("Pong")
    assert np.array_equal(seen[-1].picture.votes, votes[head.start : head.stop])


def test_a_student_that_is_not_there_or_not_of_the_game_is_refused(players, tmp_path):
    several(tmp_path / "runs", ("Breakout", "Freeway"))
    for name, message in [
        ("Nope", r"^game: found 'Nope', no such game"),
        ("Pong-Freeway", r"^student: neither .*/Pong-Freeway/student/student\.npz .* GAMES=Pong,Freeway$"),
        ("Breakout-Freeway", r"^play\.student: found 'Breakout-Freeway', allowed one of Pong; this one plays"),
    ]:
        with pytest.raises(SettingsError, match=message):
            StagedShow(dataclasses.replace(players, student=name), tmp_path, 1, {})


def test_a_pause_stands_still_and_is_no_work(players, tmp_path, monkeypatch):
    stop, stands = StoppableClock.stop, threading.Event()
    monkeypatch.setattr(StoppableClock, "stop", lambda clock: (stop(clock), stands.set()))
    show = StagedShow(players, tmp_path, 12, {4: asks(Pause(True))})
    playing = threading.Thread(target=show.play)
    playing.start()
    assert stands.wait(60) and show.desk.state.paused
    show.time.t_s += 100.0
    assert len(show.seen) == 4
    show.ask(Pause(False))
    playing.join(60)
    assert len(show.seen) == 12 and show.report.late == 0
    assert show.report.work_max_s == 0.0, "the clock of the loop stands still with the game"


def test_a_step_is_one_decision(players, tmp_path):
    show = StagedShow(players, tmp_path, 9, {2: asks(Pause(True), Advance())})
    playing = threading.Thread(target=show.play)
    playing.start()
    until(lambda: len(show.seen) == 4)
    assert show.desk.state.paused and [now.thought.number for now in show.seen] == [1, 1, 2, 2]
    show.ask(Advance(), Advance())
    until(lambda: len(show.seen) == 8)
    assert show.seen[-1].thought.number == 4
    show.desk.close()
    playing.join(60)
    assert len(show.seen) == 8


def test_a_restart_begins_an_episode_even_in_a_pause(players, tmp_path):
    show = StagedShow(players, tmp_path, 90, {70: asks(Pause(True), Restart())})
    playing = threading.Thread(target=show.play)
    playing.start()
    until(lambda: len(show.seen) == 72)
    frames = [show.seen[n].picture.frame for n in (0, 69, 70)]
    assert np.array_equal(frames[0], frames[2]) and not np.array_equal(frames[1], frames[2])
    assert show.seen[70].picture.pictures == 0 and show.desk.state.paused
    show.desk.close()
    playing.join(60)


@pytest.mark.parametrize("times", [0.5, 2.0, 4.0])
def test_speed_divides_the_period(players, tmp_path, times):
    _, seen = play(players, tmp_path, 12, {4: asks(SetSpeed(times))})
    steps = np.diff([now.at_s for now in seen]).tolist()
    assert steps[:3] == [PERIOD_S] * 3 and set(steps[5:]) == {PERIOD_S / times}
    assert seen[-1].picture.period_s == PERIOD_S / times


def test_keys_of_all_viewers_play_and_leave_with_them(players, tmp_path):
    show = StagedShow(players, tmp_path, 12, {
        2: asks(Hold(("up",))), 6: lambda own: own.desk.obey(Hold(("space",)), 8), 8: lambda own: own.desk.forget(7),
    }, "human")  # fmt: skip
    seen = show.play()
    meant = [now.picture.meaning for now in decided(seen)]
    assert meant == ["NOOP", "RIGHT", "RIGHT", "RIGHTFIRE", "FIRE", "FIRE"], "Pong's paddle goes up with RIGHT"


def test_another_game_begins_at_once_with_the_same_player_and_a_whole_chip(tmp_path):
    players = stock(tmp_path / "runs", ("Pong", "Breakout"))
    assert players.games() == ("Breakout", "Pong")
    show, seen = play(players, tmp_path, 30, {10: asks(ALL), 20: asks(SetGame("Breakout"))})
    names = [now.round.cabinet.name for now in seen]
    assert names == ["Pong"] * 20 + ["Breakout"] * 10
    assert seen[-1].thought.player == "chip" and not show.desk.state.wounds.any and seen[-1].round.number == 2
    assert seen[-1].thought.wave.any() and len(seen[-1].picture.actions) == 4
    assert [now.thought.number for now in decided(seen)] == list(range(1, 16))


def test_a_game_that_lacks_the_player_begins_with_its_first(tmp_path):
    players = stock(tmp_path / "runs", ("Pong", "Breakout"))
    shutil.rmtree(tmp_path / "runs" / "Breakout" / "teacher")
    _, seen = play(players, tmp_path, 8, {4: asks(SetGame("Breakout"))}, "teacher")
    assert [now.thought.player for now in seen] == ["teacher"] * 4 + ["chip"] * 4


def test_what_cannot_be_made_is_told_and_the_game_goes_on(tmp_path):
    players = stock(tmp_path / "runs", ("Pong", "Breakout"))
    (tmp_path / "runs" / "Breakout" / "chip" / "chip.npz").write_bytes(b"no chip")
    (tmp_path / "runs" / "Pong" / "teacher" / "policy.safetensors").write_bytes(b"no policy")
    show, seen = play(players, tmp_path, 12, {4: asks(SetGame("Breakout"))})
    assert "chip.npz" in show.desk.state.notice and {now.round.cabinet.name for now in seen} == {"Pong"}
    show, seen = play(players, tmp_path, 12, {4: asks(SetPlayer("teacher"))})
    assert "policy.safetensors" in show.desk.state.notice and show.desk.state.player == "chip"
    assert {now.thought.player for now in seen} == {"chip"} and len(seen) == 12


def test_a_failure_in_a_thread_ends_the_show_and_is_kept(players, tmp_path):
    def fail(show):
        raise KeyError("broken")

    show = StagedShow(players, tmp_path, 9, {3: fail})
    show.start()
    until(lambda: show.error is not None)
    show.close()
    assert show.desk.closing and isinstance(show.error, KeyError) and len(show.seen) == 3


def test_scores_are_of_whole_episodes_by_one_player_alone():
    ledger = Ledger()
    for labels, score in [({"chip"}, 3.0), ({"chip", "human"}, 9.0), ({"chip"}, 4.0), ({"human"}, -1.0), (set(), 7.0)]:
        ledger.add(frozenset(labels), score)
    assert ledger.all() == (("chip", (3.0, 4.0)), ("human", (-1.0,)))


def test_a_seat_says_who_played_the_last_episode_and_who_had_time_to_think():
    human, other = Sitter("human", "human", RandomPlayer(3, 1)), Sitter("random", "random", RandomPlayer(3, 2))
    seat = Seat(other)
    seat.reset()
    seat.act(stack(1))
    seat.offer(human)
    seat.act(stack(2))
    seat.reset()
    assert seat.finished == {"random", "human"} and seat.decisions == 2 and seat.thought.number == 2
    seat.slowed = True
    seat.act(stack(3))
    seat.slowed = False
    seat.act(stack(4))
    seat.offer(other)
    seat.reset()
    assert seat.finished == {"human, slowed"} and seat.sitter is other
    seat.slowed = True
    seat.act(stack(5))
    seat.reset()
    assert seat.finished == {"random"}, "to others time is nothing"


def test_a_clock_that_is_stopped_stands_still():
    clock = FakeClock(8.0)
    own = StoppableClock(clock.now)
    own.stop()
    clock.t_s = 40.0
    own.go()
    clock.t_s = 41.0
    assert own.now() == 9.0


def lengths(show):
    """Pictures of each clip."""
    found = []
    for clip in sorted(show.recorder.folder.iterdir()):
        with av.open(str(clip)) as film:
            found.append(sum(1 for _ in film.decode(video=0)))
    return found


def test_a_clip_holds_the_pictures_from_its_order_to_its_end(players, tmp_path):
    def wait(show):
        until(lambda: show.recorder.under_way == show.desk.state.recording)

    script = {4: lambda own: (own.ask(Record(True)), wait(own)), 10: lambda own: (own.ask(Record(False)), wait(own))}
    show, _ = play(players, tmp_path, 20, script)
    (clip,) = show.desk.state.clips
    assert clip == tmp_path / "clips" / "clip-1.mp4" and not show.desk.state.recording
    with av.open(str(clip)) as film:
        assert sum(1 for _ in film.decode(video=0)) == 6


def test_a_clip_under_way_is_whole_when_the_show_ends_or_another_game_begins(tmp_path):
    players = stock(tmp_path / "runs", ("Pong", "Breakout"))

    def record(show):
        show.ask(Record(True))
        until(lambda: show.recorder.under_way)

    def change(show):
        show.ask(SetGame("Breakout"))
        assert not show.desk.state.recording

    show, _ = play(players, tmp_path, 20, {4: record, 10: change, 14: record})
    assert lengths(show) == [6, 6]


def test_a_clip_asked_for_between_a_change_of_game_and_its_first_picture_is_of_the_new_game(tmp_path):
    players = stock(tmp_path / "runs", ("Pong", "Breakout"))

    def record(show):
        show.ask(Record(True))
        until(lambda: show.recorder.under_way)

    def change_and_record(show):
        show.ask(SetGame("Breakout"))  # granted, and the loop still in the gate of the round before
        until(lambda: show.desk.state.clips)
        record(show)

    show, _ = play(players, tmp_path, 20, {4: record, 10: change_and_record})
    assert lengths(show) == [6, 10]


def test_a_clip_that_is_asked_for_before_the_last_one_was_seen_to_end_is_another(players, tmp_path):
    desk, wanted = StagedShow(players, tmp_path / "clips", 1, {}).desk, []
    for on in (True, True):  # asked for twice, by two viewers: one clip
        desk.obey(Record(on), 7)
    first = desk.filming(0)
    for on in (False, True):
        desk.obey(Record(on), 7)
    threading.Thread(target=lambda: wanted.append(desk.filming(first)), daemon=True).start()
    until(lambda: wanted)
    assert (first, wanted) == (1, [2])
    desk.obey(Record(False), 7)
    assert desk.filming(2) == 0


def test_two_clips_asked_for_at_once_are_two_files(players, tmp_path):
    def begin(show):
        show.ask(Record(True))
        until(lambda: show.recorder.under_way)

    def again(show):
        show.ask(Record(False), Record(True))
        until(lambda: show.desk.state.clips and show.recorder.under_way)

    show, _ = play(players, tmp_path, 14, {4: begin, 9: again})
    assert [clip.name for clip in sorted(show.recorder.folder.iterdir())] == ["clip-1.mp4", "clip-2.mp4"]


def test_a_clip_and_their_number_are_limited(tmp_path):
    recorder, told = Recorder(tmp_path, 30), []
    recorder.full = lambda: told.append(True)
    recorder.start(0)
    recorder.stop()
    assert not list(tmp_path.iterdir()), "a clip without a picture leaves no file"
    recorder._begun = MOST_CLIPS
    with pytest.raises(RuntimeError, match=r"^clip: found 50, allowed 50 of one show; begin another show$"):
        recorder.start(0)
    recorder._begun, recorder._shown = 0, MOST_PICTURES - 1
    recorder.show(None)
    assert not told, "nothing is under way"


def test_a_clip_that_cannot_be_written_is_told(players, tmp_path):
    (tmp_path / "clips").write_text("a file where the folder should be")

    def record(show):
        show.ask(Record(True))
        until(lambda: show.desk.state.notice)

    show, seen = play(players, tmp_path, 8, {4: record})
    assert show.desk.state.notice.startswith("video ") and not show.desk.state.recording and len(seen) == 8


def test_a_desk_rings_at_every_order(players, tmp_path):
    show, rings = StagedShow(players, tmp_path, 1, {}), []
    desk: Desk = show.desk
    desk.ring = lambda: rings.append(True)
    desk.obey(SetSpeed(2.0), 1)
    desk.obey(Pause(False), 1)
    assert len(rings) == 2


@pytest.fixture
def recorded(players, tmp_path):
    """The same players beside two recorded runs of 40 decisions: one by the chip, one by chance."""
    for name in ("chip", "random"):
        game = ScalarGame("Pong", ENV, 5)
        player = make_player(name, "Pong", game.actions, players.root, 5, frozenset)
        played = played_with("Pong", name, None, ENV, 5, game.actions, {})
        save_replay(record_episode(game, player, played, 40), tmp_path / "runs" / "Pong" / "play" / name / REPLAY)
    return players


def test_a_replay_is_shown_with_the_chips_full_activity_and_goes_round(recorded, tmp_path):
    _, seen = play(recorded, tmp_path, 100, {4: asks(Rewind("chip"))})
    replayed, replay = seen[4:], load_replay(tmp_path / "runs/Pong/play/chip" / REPLAY)
    assert [now.at for now in replayed] == [(n // 2) % 40 for n in range(96)]
    assert [now.picture.action for now in replayed[:80:2]] == replay.action.tolist()
    alone = ChipPlayer(small_student(), small_chip(), "Pong")
    alone.reset()
    for now in replayed[:80:2]:
        alone.act(now.thought.stack)
        assert np.array_equal(now.picture.votes, alone.votes)
        assert np.array_equal(now.thought.wave[-1], now.thought.fired.sum(axis=1)) and now.thought.player == "replay"
    assert replayed[0].scores == replayed[-1].scores == (), "a replay is no new score"
    assert not np.array_equal(replayed[0].picture.frame, replayed[79].picture.frame)
    assert np.array_equal(replayed[0].picture.frame, replayed[80].picture.frame)


@pytest.fixture
def trained_since(recorded, tmp_path, monkeypatch):
    """A student and a chip of Pong that were trained after the run whose models ship and are named by its replay."""
    monkeypatch.setattr("rl.stages.find.__defaults__", (tmp_path / "models",))
    path, runs, ships = tmp_path / "runs/Pong/play/chip" / REPLAY, tmp_path / "runs/Pong", tmp_path / "models/Pong"
    ships.mkdir(parents=True)
    for stage in (STUDENT, CHIP):
        (runs / stage).rename(ships / SHIPPED[stage])
    models = {stage: digest((ships / SHIPPED[stage]).read_bytes()) for stage in (STUDENT, CHIP)}
    replay = load_replay(path)
    save_replay(dataclasses.replace(replay, played=dataclasses.replace(replay.played, models=models)), path)
    save_spec(small_student(2), runs / STUDENT)
    save_compiled(small_chip(2), runs / CHIP)
    return recorded


def test_a_replay_thinks_on_the_models_that_it_names_and_the_player_after_it_on_the_shows(trained_since, tmp_path):
    script = {4: asks(Rewind("chip")), 84: asks(SetPlayer("chip"))}
    show, seen = play(trained_since, tmp_path, 100, script)
    assert show.desk.state.notice == ""
    for shown, seed in ((seen[4:84], 1), (seen[84:], 2)):
        alone = ChipPlayer(small_student(seed), small_chip(seed), "Pong")
        alone.reset()
        for now in decided(shown):
            assert alone.act(now.thought.stack) == now.picture.action
            assert np.array_equal(now.picture.votes, alone.votes)
        assert np.array_equal(shown[0].round.cabinet.mesh.cells, mesh_of(small_chip(seed)).cells)
        assert shown[0].round.cabinet.players == seen[0].round.cabinet.players


@pytest.mark.parametrize("name", ["chip", "spec"])
def test_a_replay_of_a_student_of_several_games_is_shown_with_that_student(players, name, tmp_path):
    spec, root = several(tmp_path / "runs", ("Pong", "Breakout")), tmp_path / "runs"
    game = ScalarGame("Pong", ENV, 5)
    player = make_player(name, "Pong", game.actions, players.root, 5, frozenset, None, "Pong-Breakout")
    played = played_with("Pong", name, "Pong-Breakout", ENV, 5, game.actions, {})
    path = root / "Pong/play/both" / REPLAY
    save_replay(record_episode(game, player, played, 40), path)
    show, seen = play(players, tmp_path, 20, {4: asks(Rewind("both"))})
    assert show.desk.state.notice == "" and seen[-1].thought.player == "replay"
    assert np.array_equal(seen[-1].thought.bits, spec.transduce(seen[-1].thought.stack[None])[0])
    shutil.rmtree(root / "Pong-Breakout")
    with pytest.raises(SettingsError, match=r"^student: neither .*Pong-Breakout.* GAMES=Pong,Breakout$"):
        open_reel(path, Cabinet("Pong", players, frozenset), 2)
    show, seen = play(players, tmp_path, 8, {4: asks(Rewind("both"))})
    assert "GAMES=Pong,Breakout" in show.desk.state.notice and seen[-1].thought.player == "chip"


def test_a_scrubber_leads_to_any_decision_and_a_player_back_to_the_game(recorded, tmp_path):
    script = {2: asks(Rewind("chip")), 10: asks(Seek(30)), 14: asks(Seek(3)), 20: asks(SetPlayer("student"))}
    _, seen = play(recorded, tmp_path, 30, script)
    assert [now.at for now in seen[2:20]] == [0, 0, 1, 1, 2, 2, 3, 3, 30, 30, 31, 31, 3, 3, 4, 4, 5, 5]
    assert np.array_equal(seen[8].picture.frame, seen[14].picture.frame), "the same decision looks the same"
    assert seen[20].thought.player == "student" and seen[20].round.reel is None
    assert seen[20].round.number == seen[2].round.number + 1


def test_a_replay_of_a_player_who_cannot_think_again_shows_its_actions(recorded, tmp_path):
    _, seen = play(recorded, tmp_path, 20, {4: asks(Rewind("random"))})
    assert seen[-1].picture.votes is None and seen[-1].thought.wave is None and seen[-1].at == 7


def test_a_replay_asked_for_right_after_another_game_is_of_the_game_that_was_shown(recorded, tmp_path):
    write_run(tmp_path / "runs", "Breakout")
    show = StagedShow(recorded, tmp_path / "clips", 1, {})
    for order in (SetGame("Breakout"), Rewind("chip")):
        show.desk.obey(order, 1)
    assert show.desk.wish() == Wish("Pong", "chip", show.desk.state.wounds, "chip")


def test_what_a_replay_does_not_allow_is_refused(recorded, tmp_path):
    told = []

    def tries(show):
        for order in (Seek(40), ALL):
            with pytest.raises(OrderError) as refusal:
                show.desk.obey(order, 1)
            told.append(str(refusal.value))

    play(recorded, tmp_path, 8, {2: asks(Rewind("chip")), 4: tries})
    assert told == [
        "order.at: found 40, allowed 0 to 39",
        "order: found a replay, allowed a game that is played now; choose a player first",
    ]
    idle = StagedShow(recorded, tmp_path, 1, {})
    with pytest.raises(OrderError, match=r"^order\.at: found 3, allowed while a replay is shown$"):
        idle.desk.obey(Seek(3), 1)
    with pytest.raises(OrderError, match=r"^order\.name: found 'none', allowed (random, chip|chip, random)$"):
        idle.desk.obey(Rewind("none"), 1)


def test_a_replay_that_parts_says_where_and_the_game_goes_on(recorded, tmp_path):
    path = tmp_path / "runs/Pong/play/chip" / REPLAY
    replay = load_replay(path)
    thought = replay.thought.copy()
    thought[9] ^= 1
    save_replay(dataclasses.replace(replay, thought=thought), path)
    show, seen = play(recorded, tmp_path, 40, {2: asks(Rewind("chip"))})
    assert "diverges at decision 9 of 40" in show.desk.state.notice and len(seen) == 39, "one picture was not to be had"
    assert seen[-1].thought.player == "chip" and seen[-1].round.reel is None
    assert max(now.at for now in seen) == 8


def test_a_replay_of_something_else_is_told(recorded, tmp_path):
    path = tmp_path / "runs/Pong/play/random" / REPLAY
    other = load_replay(path)
    save_replay(dataclasses.replace(other, played=dataclasses.replace(other.played, game="Breakout")), path)
    show, seen = play(recorded, tmp_path, 8, {2: asks(Rewind("random"))})
    assert "of Breakout with NOOP" in show.desk.state.notice and seen[-1].round.reel is None

"""Replays: a run comes out as it was recorded, in any order; where it does not, the decision is named."""

from __future__ import annotations

import dataclasses
import json
from itertools import islice

import av
import numpy as np
import pytest
from cases import student
from run_cases import ENV, PONG, command_line, files_in, small_chip, small_student, write_run

from deploy import rerun
from deploy.chip import chip_named
from deploy.compiled import save_compiled
from deploy.compiler import compile_spec
from deploy.files import FormatError, read_arrays, write_arrays
from deploy.films import film, with_films
from deploy.gather import Game
from deploy.players import ChipPlayer
from deploy.realtime import NoThoughts, RealtimeSettings, turns
from deploy.replay import (
    KIND,
    Record,
    Replay,
    ReplayError,
    differences,
    load_replay,
    picture_sum,
    save_replay,
    thought_sum,
)
from deploy.replaying import (
    RecordedGame,
    Reel,
    check_replay,
    env_of,
    played_with,
    present_differences,
    record_episode,
    thinker_of,
)
from deploy.reports import present_digests
from deploy.rerun import ReplayRun, ReplaySettings
from deploy.spec import Head, save_spec
from deploy.video import VideoScreen
from rl.files import digest
from rl.games import ScalarGame
from rl.loop import RandomPlayer
from rl.settings import SettingsError
from rl.stages import CHIP, MODELS, SHIPPED, STUDENT, TEACHER, find

SHORT = dataclasses.replace(ENV, max_frames=68, sticky=0.25)  # 17 decisions an episode


def a_game(seed=3):
    return ScalarGame("Pong", SHORT, seed)


def a_chip(history=1):
    """A chip player of Pong, small; with a history it remembers the picture before."""
    if history == 1:
        return ChipPlayer(small_student(), small_chip(), "Pong")
    layers = [(24, 4, 3, 0, 1), (40, 3, 1, 0, 2), (8 * len(PONG), 1, 1, 0, 1)]
    drawn = student(layers, (4, 8, 8, 2, 1), (1, 84, 84), (len(PONG),), 1, history)
    spec = dataclasses.replace(drawn, heads=(Head("Pong", PONG, 0),))
    return ChipPlayer(spec, compile_spec(spec, chip_named("ns1e"), interval=33), "Pong")


def recorded(player, decisions=40, seed=3, name="chip") -> Replay:
    """So many decisions, over two ends of episodes, and one step that stays open."""
    record = Record()
    mind = player if hasattr(player, "votes") else NoThoughts()
    game = RecordedGame(a_game(seed), mind, record)
    list(islice(turns(game, player, 2), 2 * decisions + 1))
    made = record.replay(played_with("Pong", name, None, SHORT, seed, PONG, {CHIP: "5" * 64}))
    assert made is not None
    return made


@pytest.fixture(scope="module")
def replay():
    return recorded(a_chip())


def changed(replay, field, at, by=1):
    """The replay with one value of an array moved."""
    array = getattr(replay, field).copy()
    array[at] += by
    return dataclasses.replace(replay, **{field: array})


def play_again(replay, thinker, seed=3):
    return list(check_replay(replay, "r.npz", a_game(seed), thinker))


def test_a_run_comes_out_as_it_was_recorded(replay):
    assert (len(replay), replay.thinks, len(replay.scores)) == (40, True, 2)
    assert play_again(replay, a_chip()) == play_again(replay, None) == list(range(40))


def test_the_same_run_gives_the_same_replay_and_another_seed_another(replay):
    again, other = recorded(a_chip()), recorded(a_chip(), seed=4)
    assert np.array_equal(again.picture, replay.picture) and np.array_equal(again.thought, replay.thought)
    assert again.end == replay.end and np.array_equal(again.action, replay.action)
    assert not np.array_equal(other.picture, replay.picture)


@pytest.mark.parametrize(
    ("field", "at", "what"),
    [
        ("picture", 0, "the picture or the score"),
        ("picture", 17, "the picture or the score"),
        ("thought", 21, "the chip's votes or spikes"),
    ],
)
def test_the_decision_where_runs_part_is_named(replay, field, at, what):
    wanted = rf"^r.npz: diverges at decision {at} of 40: found another result in {what}, allowed is what was recorded"
    with pytest.raises(ReplayError, match=wanted):
        play_again(changed(replay, field, at), a_chip())


def test_another_action_shows_in_the_next_pictures():
    def made(action):
        game = ScalarGame("Pong", ENV, 3)
        return record_episode(game, Always(action), played_with("Pong", "human", None, ENV, 3, PONG, {}), 40)

    up, down = made(2), made(3)
    mixed = dataclasses.replace(up, action=np.where(np.arange(40) < 30, up.action, down.action))
    with pytest.raises(ReplayError, match=r"diverges at decision 3[12] of 40: .* the picture or the score"):
        list(check_replay(mixed, "r.npz", ScalarGame("Pong", ENV, 3), None))


class Always:
    """Plays one action."""

    def __init__(self, action):
        self._action = action

    def reset(self):
        pass

    def act(self, obs):
        return self._action


def test_another_seed_differs_in_its_pictures_and_another_chip_in_its_thoughts(replay):
    with pytest.raises(ReplayError, match=r"diverges at decision \d+ of 40: .* the picture"):
        play_again(replay, None, seed=4)
    stranger = ChipPlayer(small_student(2), small_chip(2), "Pong")
    with pytest.raises(ReplayError, match=r"diverges at decision 0 of 40: .* the chip's votes or spikes"):
        play_again(replay, stranger)


def test_what_the_last_step_led_to_counts(replay):
    with pytest.raises(ReplayError, match=r"diverges at decision 40 of 40: .* the score after the last step"):
        play_again(dataclasses.replace(replay, end=replay.end ^ 1), None)


def test_a_run_without_votes_is_played_again_by_its_actions_alone():
    made = recorded(RandomPlayer(len(PONG), 7), name="random")
    assert (made.thinks, made.thought.shape) == (False, (0,))
    assert len(play_again(made, None)) == 40


def test_a_run_of_no_finished_step_leaves_no_replay(replay):
    record = Record()
    game = RecordedGame(a_game(), NoThoughts(), record)
    next(turns(game, RandomPlayer(6, 1), 2))
    assert record.replay(replay.played) is None
    with pytest.raises(ValueError, match=r"^action: no decisions, must be one or more"):
        dataclasses.replace(replay, action=replay.action[:0])


def test_an_episode_is_recorded_to_its_end_or_to_the_limit(replay):
    whole, begun = (record_episode(a_game(), a_chip(), replay.played, most) for most in (1000, 5))
    assert (len(whole), whole.scores) == (17, replay.scores[:1])
    assert (len(begun), begun.scores) == (5, ())
    assert np.array_equal(begun.picture, replay.picture[:5])


@pytest.mark.parametrize("history", [1, 2])
def test_a_reel_shows_any_decision_as_it_was_played(history):
    replay = recorded(a_chip(history))
    straight = Reel(replay, "r.npz", a_game(), a_chip(history))
    scenes = [straight.at(k) for k in range(len(replay))]
    assert [scene.episode for scene in scenes] == [1] * 17 + [2] * 17 + [3] * 6
    assert [scene.at for scene in scenes if scene.ended] == [16, 33]
    assert tuple(scene.score for scene in scenes if scene.ended) == replay.scores
    assert [scene.action for scene in scenes] == replay.action.tolist()
    for k in (1, 17, 18, 33):
        assert thought_sum(scenes[k].votes, scenes[k].activity) == replay.thought[k]
    jumping = Reel(replay, "r.npz", a_game(), a_chip(history))
    for k in (30, 3, 4, 39, 17, 16, 0):
        scene = jumping.at(k)
        assert scene.frames.shape == (2, 210, 160, 3) and np.array_equal(scene.frames, scenes[k].frames)
        assert np.array_equal(scene.obs, scenes[k].obs) and np.array_equal(scene.votes, scenes[k].votes)
        assert np.array_equal(scene.activity, scenes[k].activity) and scene.score == scenes[k].score


def test_a_reel_says_where_the_run_parts_and_what_it_does_not_hold(replay):
    reel = Reel(changed(replay, "thought", 9), "r.npz", a_game(), a_chip())
    assert reel.at(10).votes is not None
    with pytest.raises(ReplayError, match=r"diverges at decision 9 of 40"):
        reel.at(9)
    with pytest.raises(IndexError, match=r"^r.npz: decision 40, allowed 0..39"):
        reel.at(40)
    assert Reel(replay, "r.npz", a_game(), None).at(2).votes is None


# Files


def test_a_replay_file_is_small_and_comes_back_whole(replay, tmp_path):
    long = recorded(a_chip(), decisions=225)
    for index, one in enumerate((replay, long)):
        path = tmp_path / f"{index}.npz"
        save_replay(one, path)
        back = load_replay(path)
        assert back.played == one.played and (back.end, back.scores) == (one.end, one.scores)
        assert all(np.array_equal(getattr(back, n), getattr(one, n)) for n in ("action", "picture", "thought"))
    assert path.stat().st_size < 3_000, "a quarter of a minute"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": "1"}, r"no legal replay \(seed: found \"1\", must be of type"),
        ({"seed": True}, r"seed: found true"),
        ({"actions": []}, r"actions, models, versions: must hold words, and one action or more"),
        ({"models": {"chip": 3}}, r"actions, models, versions: must hold words"),
        ({"end": 1.5}, r"end: found 1.5, must be a whole number"),
        ({"end": 65_536}, r"end: 65536, allowed 0..65535"),
        ({"actions": ["NOOP"]}, r"action: values 0..2, allowed 0..0"),
        ({"rom": None}, r"rom: found null"),
        ({"game": ...}, r"field 'game' is missing"),
    ],
)
def test_a_file_with_wrong_facts_is_refused(replay, change, message, tmp_path):
    save_replay(replay, tmp_path / "good.npz")
    facts, arrays, _ = read_arrays(tmp_path / "good.npz", KIND, 1)
    facts = {key: value for key, value in (facts | change).items() if value is not ...}
    write_arrays(tmp_path / "bad.npz", KIND, (1, 0), facts, arrays)
    with pytest.raises(FormatError, match=message):
        load_replay(tmp_path / "bad.npz")


def test_arrays_that_do_not_fit_are_refused(replay, tmp_path):
    save_replay(replay, tmp_path / "good.npz")
    facts, arrays, _ = read_arrays(tmp_path / "good.npz", KIND, 1)
    for name in ("picture", "thought"):
        write_arrays(tmp_path / "bad.npz", KIND, (1, 0), facts, arrays | {name: arrays[name][:7]})
        with pytest.raises(FormatError, match=rf"bad.npz: no legal replay \({name}: shape \(7,\), must be \(40,\)\)"):
            load_replay(tmp_path / "bad.npz")


def test_a_damaged_file_is_refused(replay, tmp_path):
    path = tmp_path / "r.npz"
    save_replay(replay, path)
    whole = path.read_bytes()
    for data in (whole[:-40], whole[: len(whole) // 2], b""):
        path.write_bytes(data)
        with pytest.raises(FormatError, match=r"r.npz: not a readable file of ours"):
            load_replay(path)


def test_sums_tell_pictures_scores_and_ends_apart():
    frame = np.zeros((1, 84, 84), np.uint8)
    found = {picture_sum(frame, 0.0, False), picture_sum(frame, 1.0, False), picture_sum(frame, 0.0, True),
             picture_sum(frame + 1, 0.0, False)}  # fmt: skip
    assert len(found) == 4
    votes = np.array([1, 2], np.int32)
    assert thought_sum(votes, None) == thought_sum(votes.copy(), None) != thought_sum(votes[::-1], None)


def test_differences_are_told_in_words(replay):
    same = differences(replay, replay.played.models, replay.played.versions, replay.played.rom)
    assert same == []
    told = differences(replay, {}, replay.played.versions | {"ale-py": "0.1"}, "abc")
    here = replay.played.versions["ale-py"]
    assert told == [f"{CHIP}: recorded with {'5' * 12}, here none", f"ale-py: recorded with {here}, here 0.1",
                    f"ROM: recorded with {replay.played.rom}, here abc"]  # fmt: skip


# The command


@pytest.fixture
def run_root(tmp_path, monkeypatch, tmp_path_factory):
    monkeypatch.setattr("rl.stages.find.__defaults__", (tmp_path_factory.mktemp("models"),))
    write_run(tmp_path)
    return tmp_path


def a_rerun(root, file, view="none", seconds=0.0):
    return ReplayRun("Pong", str(root), ReplaySettings(str(file), view, RealtimeSettings(seconds, 30, 2)))


def test_the_command_plays_a_run_again_and_leaves_a_video_and_a_report(replay, run_root, capsys):
    save_replay(replay, run_root / "r.npz")
    assert rerun.command(a_rerun(run_root, run_root / "r.npz", "video")) == 0
    said = capsys.readouterr().out
    assert "40 of 40 decisions of Pong by chip, as recorded to the bit: pictures, scores, votes and spikes" in said
    assert f"note: {CHIP}: recorded with {'5' * 12}" in said
    (folder,) = (run_root / "Pong" / "replay").iterdir()
    facts = json.loads((folder / "report.json").read_text())
    assert (facts["what"], facts["decisions"], facts["scores"]) == ("replay", 40, list(replay.scores))
    assert (folder / "replay.mp4").stat().st_size > 1000


def test_the_command_plays_as_many_seconds_as_asked_for(replay, run_root, capsys):
    save_replay(replay, run_root / "r.npz")
    assert rerun.command(a_rerun(run_root, run_root / "r.npz", seconds=1.0)) == 0
    assert "15 of 40 decisions of Pong by chip" in capsys.readouterr().out


def test_the_command_says_where_a_replay_no_longer_matches(replay, run_root):
    save_replay(changed(replay, "thought", 11), run_root / "r.npz")
    with pytest.raises(ReplayError, match=r"r.npz: diverges at decision 11 of 40"):
        rerun.command(a_rerun(run_root, run_root / "r.npz"))


def test_a_random_run_is_said_to_be_actions_alone(run_root, capsys):
    save_replay(recorded(RandomPlayer(len(PONG), 7), name="random"), run_root / "r.npz")
    assert rerun.command(a_rerun(run_root, run_root / "r.npz")) == 0
    assert "pictures and scores; why random chose so is not recorded" in capsys.readouterr().out


def test_a_teachers_replay_needs_no_teacher_and_tells_whether_it_is_the_same(replay, run_root):
    there = present_digests("Pong", str(run_root))
    own = dataclasses.replace(replay.played, player="teacher", models={TEACHER: there[TEACHER]})
    made = dataclasses.replace(replay, played=own)
    assert present_differences(made, str(run_root)) == []
    (run_root / "Pong" / TEACHER).unlink()
    assert present_differences(made, str(run_root)) == [f"{TEACHER}: recorded with {there[TEACHER][:12]}, here none"]


def test_a_missing_file_a_strange_view_and_other_actions_are_refused(replay, run_root):
    with pytest.raises(SettingsError, match=r"^replay.file: .*nope.npz does not exist; name one that make play wrote"):
        rerun.command(a_rerun(run_root, run_root / "nope.npz"))
    with pytest.raises(SettingsError, match=r"^game: found 'Pogn', no such game .* did you mean .*Pong"):
        _ = dataclasses.replace(a_rerun(run_root, ""), name="Pogn").path
    with pytest.raises(SettingsError, match=r"^replay.view: found 'film', allowed auto, window, terminal, video, none"):
        a_rerun(run_root, "r.npz", "film")
    other = dataclasses.replace(replay, played=dataclasses.replace(replay.played, actions=(*PONG, "UP")))
    save_replay(other, run_root / "r.npz")
    with pytest.raises(SettingsError, match=r"r.npz: actions NOOP, .*, UP; here NOOP, .*LEFTFIRE$"):
        rerun.command(a_rerun(run_root, run_root / "r.npz"))


@pytest.fixture
def shipped(replay, tmp_path):
    """A replay of what ships, in a folder of runs whose own student and chip are others; with what ships."""
    save_spec(small_student(), tmp_path / "models/Pong/student.npz")
    save_compiled(small_chip(), tmp_path / "models/Pong/chip.npz")
    save_spec(small_student(2), tmp_path / "runs/Pong" / STUDENT)
    save_compiled(small_chip(2), tmp_path / "runs/Pong" / CHIP)
    models = {stage: digest((tmp_path / "models/Pong" / SHIPPED[stage]).read_bytes()) for stage in (STUDENT, CHIP)}
    path = tmp_path / "models/Pong/replay.npz"
    save_replay(dataclasses.replace(replay, played=dataclasses.replace(replay.played, models=models)), path)
    return path


@pytest.mark.parametrize("gone", [[], [CHIP]], ids=["another chip", "another student alone"])
def test_a_replay_is_played_with_the_models_that_it_names_whatever_was_trained_since(
    shipped, gone, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("rl.stages.find.__defaults__", (tmp_path / "models",))
    for stage in gone:
        (tmp_path / "runs/Pong" / stage).unlink()
    assert rerun.command(a_rerun(tmp_path / "runs", shipped)) == 0
    said = capsys.readouterr().out
    assert "40 of 40 decisions of Pong by chip, as recorded to the bit" in said and "note: " not in said
    assert film(shipped, str(tmp_path / "runs"), tmp_path / "clip.mp4").stat().st_size > 1000


def test_a_clip_that_is_interrupted_or_fails_leaves_none_and_is_made_by_the_next_call(
    replay, run_root, tmp_path, monkeypatch
):
    path, clip, show = tmp_path / "r.npz", tmp_path / "clips/Pong.mp4", VideoScreen.show
    save_replay(replay, path)

    def interrupted(screen, picture):
        if picture.pictures == 20:
            raise KeyboardInterrupt
        show(screen, picture)

    with monkeypatch.context() as broken:
        broken.setattr(VideoScreen, "show", interrupted)
        with pytest.raises(KeyboardInterrupt):
            film(path, str(run_root), clip)
    assert not clip.exists()
    assert pictures_of(film(path, str(run_root), clip)) == 80
    clip.unlink()
    save_replay(changed(replay, "thought", 11), path)
    for _ in range(2):
        with pytest.raises(ReplayError, match=r"diverges at decision 11 of 40"):
            film(path, str(run_root), clip)
        assert files_in(clip.parent) == set()


def test_a_replay_that_parts_costs_its_clip_alone(replay, run_root, tmp_path, capsys):
    paths = {name: tmp_path / f"{name}.npz" for name in ("Parts", "Pong")}
    save_replay(changed(replay, "thought", 11), paths["Parts"])
    save_replay(replay, paths["Pong"])
    games = [Game(name, "", {}, replay=path) for name, path in paths.items()]
    parts, whole = with_films(games, str(run_root), tmp_path / "clips")
    assert (parts.clips, whole.clips) == ({}, {"chip": tmp_path / "clips/Pong.mp4"})
    assert "no clip of Parts: " in (said := capsys.readouterr().err) and "diverges at decision 11 of 40" in said


def pictures_of(clip):
    with av.open(str(clip)) as video:
        return sum(1 for _ in video.decode(video=0))


def test_of_the_runs_file_and_the_one_that_ships_the_recorded_one_is_taken_else_the_runs(shipped, tmp_path):
    runs, models = tmp_path / "runs", tmp_path / "models"
    own, ships = runs / "Pong" / CHIP, models / "Pong/chip.npz"
    for path in (own, ships):
        assert find(CHIP, "Pong", str(runs), models, recorded={CHIP: digest(path.read_bytes())}) == path
    for recorded in (None, {}, {CHIP: "5" * 64}, {STUDENT: digest(ships.read_bytes())}):
        assert find(CHIP, "Pong", str(runs), models, recorded=recorded) == own


@pytest.mark.slow
def test_play_leaves_a_replay_and_both_commands_write_below_their_root_alone(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_run(root)
    pace = ["play.player=spec", "play.view=none", "play.realtime.seconds=0.5", "play.seed=9"]
    assert command_line("deploy.play", f"root={root}", *pace, cwd=elsewhere).returncode == 0
    (file,) = root.glob("Pong/play/*/replay.npz")
    assert (load_replay(file).played.player, load_replay(file).played.seed) == ("spec", 9)
    done = command_line("deploy.rerun", f"root={root}", f"replay.file={file}", "replay.view=none", cwd=elsewhere)
    assert (done.returncode, done.stderr) == (0, "")
    assert "decisions of Pong by spec, as recorded to the bit: pictures, scores, votes and spikes" in done.stdout
    assert files_in(elsewhere) == set()


# What ships


# A student of one game leaves replay.npz, one of several a replay for each of its games.
OF_ALL = [str(path.relative_to(MODELS)) for path in sorted(MODELS.glob("*/*replay.npz"))]


def test_every_chip_that_ships_has_a_replay():
    alone = {f"{path.parent.name}/replay.npz" for path in MODELS.glob("*/chip.npz")
             if path.with_name("card.json").exists()}  # fmt: skip
    several = {f"{path.parent.name}/{game}.replay.npz" for path in MODELS.glob("*/several.json")
               for game in json.loads(path.read_text())["games"]}  # fmt: skip
    assert alone and alone | several == set(OF_ALL)


@pytest.mark.parametrize("name", OF_ALL)
def test_the_replay_that_ships_with_a_game_still_matches(name):
    path = MODELS / name
    replay = load_replay(path)
    assert replay.played.player == "chip" and replay.thinks and path.stat().st_size < 20_000
    own = ScalarGame(replay.played.game, env_of(replay), replay.played.seed)
    reel = Reel(replay, name, own, thinker_of(replay, own, "no/such/runs"))
    for at in (min(300, len(replay) - 1), 0, 150):
        reel.at(at)  # the first of them plays all before it, the slow test all there are


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_ALL)
def test_every_thought_of_the_replay_that_ships_still_matches(name):
    replay = load_replay(MODELS / name)
    own = ScalarGame(replay.played.game, env_of(replay), replay.played.seed)
    thinker = thinker_of(replay, own, "no/such/runs")
    assert len(list(check_replay(replay, name, own, thinker))) == len(replay)

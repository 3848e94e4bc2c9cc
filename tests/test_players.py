"""Players by name: made from the files of a run, refused where those do not fit, translated by meaning."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from fakes import PONG, stack
from run_cases import ENV, small_chip, small_student, small_teacher, write_run

from deploy.chip import CompileError, chip_named
from deploy.compiled import save_compiled
from deploy.compiler import compile_spec
from deploy.human import HumanPlayer
from deploy.players import PLAYERS, ChipPlayer, SpecPlayer, Translated, action_ids, load_chip, make_player
from deploy.realtime import thoughts_of
from deploy.screens import MESH
from deploy.spec import SpecError, save_spec
from rl.checkpoint import save_policy
from rl.games import EnvSettings, ScalarGame, action_meanings
from rl.loop import RandomPlayer, moments
from rl.settings import SettingsError
from rl.stages import CHIP, STUDENT, TEACHER

MODELS = ("chip", "spec", "student", "teacher")
ALL_ACTIONS = action_meanings("Pong", EnvSettings(4, 0.0, 30, True, 108_000))


def made(name, root, actions=PONG, game="Pong", seed=1):
    return make_player(name, game, actions, str(root), seed, frozenset)


@pytest.fixture
def run(tmp_path):
    write_run(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def seen():
    """Picture stacks of Pong played at random."""
    game = ScalarGame("Pong", ENV, 3)
    return np.stack([m.obs for m in itertools.islice(moments(game, RandomPlayer(len(PONG), 3)), 120)])


@pytest.mark.parametrize("name", PLAYERS)
def test_every_player_answers_with_an_action_of_the_game(name, run, seen):
    player = made(name, run)
    player.reset()
    assert all(player.act(obs) in range(len(PONG)) for obs in seen[:5])


def test_chip_equals_spec_action_for_action_and_vote_for_vote(seen):
    spec = small_student()
    chip, plain = ChipPlayer(spec, small_chip(), "Pong"), SpecPlayer(spec, "Pong")
    chosen = []
    for obs in seen:
        chosen.append(chip.act(obs))
        assert chosen[-1] == plain.act(obs)
        assert np.array_equal(chip.votes, plain.votes)
    assert len(set(chosen)) > 1, "a player of one action proves little"


def test_the_spec_player_equals_the_batched_spec(seen):
    spec = small_student()
    player = SpecPlayer(spec, "Pong")
    assert [player.act(obs) for obs in seen[:20]] == spec.act(seen[:20], "Pong").tolist()


def test_a_chip_answers_the_same_after_a_reset_as_before(seen):
    player = ChipPlayer(small_student(), small_chip(), "Pong")
    before = [player.act(obs) for obs in seen[:10]]
    player.reset()
    assert player.votes is None
    assert [player.act(obs) for obs in seen[:10]] == before


def test_a_chip_counts_its_ticks(seen):
    player = ChipPlayer(small_student(), small_chip(), "Pong")
    before = player.ticks
    player.act(seen[0])
    assert player.ticks == before + small_chip().latency_ticks


@pytest.mark.parametrize("name", ["chip", "spec", "teacher"])
def test_models_show_one_vote_an_action(name, run):
    player = made(name, run)
    player.reset()
    assert thoughts_of(player).votes is None
    action = player.act(stack(90))
    assert thoughts_of(player).votes.shape == (len(PONG),)
    assert thoughts_of(player).votes[action] == thoughts_of(player).votes.max()


def test_activity_counts_spikes_on_the_cells_in_use_and_nowhere_else(run, seen):
    player = made("chip", run)
    player.act(seen[50])
    activity, place = player.activity, small_chip().place
    assert activity.shape == (MESH, MESH)
    assert (activity >= 0).sum() == len(place)
    assert all(activity[y, x] >= 0 for _, x, y in place)
    assert activity.max() > 0
    assert made("spec", run).activity is None


def test_the_cores_of_a_board_lie_side_by_side():
    board = compile_spec(small_student(), chip_named("ns16e"))
    player = ChipPlayer(small_student(), board, "Pong")
    player.act(stack(90))
    assert player.activity.shape == (256, 256) and (player.activity >= 0).sum() == len(board.place)


def test_who_has_no_thoughts_shows_none(run):
    assert thoughts_of(made("random", run)).votes is None


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_six_actions_plays_the_full_set_by_meaning(name, run, seen):
    own, full = made(name, run), made(name, run, ALL_ACTIONS)
    assert len(ALL_ACTIONS) == 18
    assert isinstance(full, Translated)
    for obs in seen[::12]:
        assert ALL_ACTIONS[full.act(obs)] == PONG[own.act(obs)]
        assert full.votes.shape == (18,)
        assert [full.votes[ALL_ACTIONS.index(meaning)] for meaning in PONG] == own.votes.tolist()
        assert full.votes.sum() == own.votes.sum()  # none for an action that it does not know


def test_a_translated_player_shows_the_activity_and_forgets_the_votes_of_its_model(run):
    full = made("chip", run, ALL_ACTIONS)
    full.act(stack(90))
    assert full.activity.shape == (MESH, MESH)
    full.reset()
    assert full.votes is None


def test_action_ids_go_by_meaning():
    assert action_ids(("LEFT", "NOOP"), ("NOOP", "UP", "LEFT"), "x").tolist() == [2, 0]


def test_a_model_with_an_action_that_the_game_lacks_is_refused(run):
    message = (
        r"chip of Pong: knows actions NOOP, FIRE, .*; the game has NOOP, FIRE, not RIGHT, LEFT, RIGHTFIRE, LEFTFIRE"
    )
    with pytest.raises(SettingsError, match=message):
        made("chip", run, ("NOOP", "FIRE"))


@pytest.mark.parametrize(
    ("name", "stage", "command"),
    [
        ("chip", CHIP, "make compile GAMES=Pong"),
        ("chip", STUDENT, "make distill GAMES=Pong"),
        ("spec", STUDENT, "make distill GAMES=Pong"),
        ("student", STUDENT, "make distill GAMES=Pong"),
        ("teacher", TEACHER, "make teacher GAME=Pong"),
    ],
)
def test_a_missing_stage_names_both_places_and_the_command_that_makes_it(name, stage, command, run, monkeypatch):
    monkeypatch.setattr("rl.stages.find.__defaults__", (run / "models",))
    (run / "Pong" / stage).unlink()
    where = rf"^{stage.split('/')[0]}: neither .*Pong/{stage} nor .*models/Pong/\S+ exists; run {command}$"
    with pytest.raises(SettingsError, match=where):
        made(name, run)


def test_what_ships_is_read_where_there_is_no_run(run, tmp_path_factory, monkeypatch, capsys):
    models = tmp_path_factory.mktemp("models")
    monkeypatch.setattr("rl.stages.find.__defaults__", (models,))
    (models / "Pong").mkdir()
    for stage, name in ((STUDENT, "student.npz"), (CHIP, "chip.npz")):
        (run / "Pong" / stage).rename(models / "Pong" / name)
    made("chip", run)
    assert capsys.readouterr().out == f"student: {models}/Pong/student.npz\nchip: {models}/Pong/chip.npz\n"


def test_the_chip_of_another_student_is_refused(run):
    save_spec(small_student(seed=2), run / "Pong" / STUDENT)
    ours, theirs = small_student(seed=2).digest[:12], small_student().digest[:12]
    with pytest.raises(CompileError, match=f"^chip: compiled from student {theirs}, this student is {ours}; compile"):
        load_chip("Pong", str(run))


@pytest.mark.parametrize("name", ["chip", "spec"])
def test_a_student_of_another_game_is_refused(name, run):
    (run / "Pong").rename(run / "Breakout")
    with pytest.raises(SpecError, match=r"^student spec: no head for Breakout, it plays Pong; distil a student"):
        made(name, run, game="Breakout")


def test_a_teacher_of_another_game_is_refused(run):
    save_policy(small_teacher(game="Breakout"), run / "Pong" / TEACHER)
    with pytest.raises(SettingsError, match="a teacher of Breakout, must be of Pong; run make teacher GAME=Pong"):
        made("teacher", run)


def test_an_unknown_player_is_refused_with_those_that_there_are(run):
    with pytest.raises(SettingsError, match=r"^player: found 'chips', allowed chip, spec, "):
        made("chips", run)


def test_a_human_reads_the_keys_that_are_held(run):
    player = make_player("human", "Pong", PONG, str(run), 1, lambda: frozenset({"right"}))
    assert isinstance(player, HumanPlayer)
    assert PONG[player.act(stack(0))] == "RIGHT"


def test_a_random_player_follows_its_seed():
    played = [[made("random", "", seed=seed).act(stack(0)) for _ in range(1)] for seed in range(9)]
    again = [[made("random", "", seed=seed).act(stack(0)) for _ in range(1)] for seed in range(9)]
    assert played == again
    assert len({one for (one,) in played}) > 1


def test_a_chip_file_that_was_saved_again_plays_the_same(run, seen):
    save_compiled(small_chip(), run / "Pong" / CHIP)
    before, after = ChipPlayer(small_student(), small_chip(), "Pong"), made("chip", run)
    assert [before.act(obs) for obs in seen[:5]] == [after.act(obs) for obs in seen[:5]]

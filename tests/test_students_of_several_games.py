"""One student for several games: each game is played by its own head, and scored in the student's folder."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from cases import student
from run_cases import ACTIONS, ENV, small_teacher

from deploy import play
from deploy.arcade.address import WebSettings
from deploy.chip import chip_named
from deploy.compiled import save_compiled
from deploy.compiler import compile_spec
from deploy.players import ChipPlayer, SpecPlayer, Translated, make_player
from deploy.realtime import RealtimeSettings
from deploy.reports import model_digests, present_digests, report, shipped_scores
from deploy.score import GameRun, ScoreRun, ScoreSettings, command, kept_of_alone, score_game
from deploy.spec import Head, save_spec
from rl.checkpoint import save_policy
from rl.files import digest, read_json, write_json
from rl.scores import Score, protocol
from rl.settings import SettingsError
from rl.stages import CARD, CHIP, SHIPPED, STUDENT, TEACHER

BOTH = "Pong-Breakout"
FULL = (*ACTIONS["Pong"], "UP", "DOWN")


@pytest.fixture(autouse=True)
def nothing_ships(tmp_path_factory, monkeypatch):
    monkeypatch.setattr("rl.stages.find.__defaults__", (tmp_path_factory.mktemp("models"),))


@pytest.fixture(scope="module")
def shared():
    """A student with heads for Pong (6 actions) and Breakout (4)."""
    sizes = [len(ACTIONS[game]) for game in ("Pong", "Breakout")]
    layers = [(24, 5, 3, 0, 1), (40, 3, 1, 0, 2), (8 * sum(sizes), 1, 1, 0, 1)]
    drawn = student(layers, (4, 8, 8, 2, 1), (4, 84, 84), sizes, 1)
    heads = Head("Pong", ACTIONS["Pong"], 0), Head("Breakout", ACTIONS["Breakout"], sizes[0])
    return replace(drawn, heads=heads)


@pytest.fixture
def root(tmp_path, shared):
    save_spec(shared, tmp_path / BOTH / STUDENT)
    save_compiled(compile_spec(shared, chip_named("ns1e")), tmp_path / BOTH / CHIP)
    for game in ("Pong", "Breakout"):
        save_policy(small_teacher(game=game), tmp_path / game / TEACHER)
    return tmp_path


def made(root, name, game, student=BOTH, actions=None):
    return make_player(name, game, actions or ACTIONS[game], str(root), 1, frozenset, None, student)


@pytest.mark.parametrize(("game", "first", "last"), [("Pong", 0, 6), ("Breakout", 6, 10)])
@pytest.mark.parametrize("name", ["chip", "spec", "student"])
def test_each_game_is_played_by_the_votes_of_its_own_head(root, shared, name, game, first, last):
    pictures = np.random.default_rng(3).integers(256, size=(5, 4, 84, 84), dtype=np.uint8)
    player = made(root, name, game)
    for obs in pictures:
        votes = shared.run(shared.transduce(obs[None]))[0, first:last]
        assert player.act(obs) == votes.argmax()
        assert (player.votes == votes).all()
    assert isinstance(player, ChipPlayer if name == "chip" else SpecPlayer)


def test_a_head_of_fewer_actions_than_the_game_is_carried_over_by_meaning(root):
    player = made(root, "spec", "Breakout", actions=FULL)
    assert isinstance(player, Translated)
    assert FULL[player.act(np.zeros((4, 84, 84), np.uint8))] in ACTIONS["Breakout"]


def test_without_its_name_a_game_asks_for_a_student_of_its_own(root):
    with pytest.raises(
        SettingsError, match=r"student: neither .*Pong/student/student.npz .* run make distill GAMES=Pong"
    ):
        made(root, "chip", "Pong", student=None)


def test_a_student_that_is_not_there_names_the_command_that_makes_it(root):
    with pytest.raises(SettingsError, match=r"run make distill GAMES=Pong,Freeway$"):
        made(root, "spec", "Pong", student="Pong-Freeway")


def test_a_game_that_the_student_does_not_play_is_refused(root):
    with pytest.raises(ValueError, match="no head for Freeway, it plays Pong, Breakout"):
        make_player("spec", "Freeway", ("NOOP", "UP", "DOWN"), str(root), 1, frozenset, None, BOTH)


def test_the_teacher_is_the_games_own(root):
    assert made(root, "teacher", "Pong").act(np.zeros((4, 84, 84), np.uint8)) in range(6)
    told = model_digests("Pong", str(root), ("teacher", "chip"), BOTH)
    files = {TEACHER: "Pong", STUDENT: BOTH, CHIP: BOTH}
    assert told == {stage: digest((root / name / stage).read_bytes()) for stage, name in files.items()}
    assert set(present_digests("Pong", str(root))) == {TEACHER}


@pytest.mark.slow
def test_scores_of_a_shared_student_stand_in_its_own_folder(root):
    own = ScoreSettings(("student", "chip"), "nature", 1, 5, 1, 0.0, again=False)
    assert command(ScoreRun(("Pong", "Breakout"), str(root), (), BOTH, own)) == 0
    folder = root / BOTH / "score" / "nature"
    for game in ("Pong", "Breakout"):
        facts = json.loads((folder / game / "report.json").read_text())
        assert facts["game"] == game
        assert facts["scores"]["student"]["returns"] == facts["scores"]["chip"]["returns"]
        assert not (root / game / "score").exists()
    assert json.loads((folder / "aggregate.json").read_text())["runs"] == [str(root)]


def score_alone(root, models):
    """As teacher, chance and a student of its own were scored in Pong."""
    rules = protocol("nature", 1, 5)
    scores = {player: Score("Pong", player, rules, (7.0,)) for player in ("teacher", "random", "student")}
    write_json(root / "Pong/score/nature/report.json", report("Pong", rules, scores, models, 3.0))


def test_what_the_teacher_scored_beside_the_games_own_student_is_not_played_again(root):
    score_alone(root, present_digests("Pong", str(root), BOTH))
    own = ScoreSettings(("teacher",), "nature", 1, 5, 1, 0.0, again=False)
    assert command(ScoreRun(("Pong",), str(root), (), BOTH, own)) == 0
    facts = json.loads((root / BOTH / "score/nature/Pong/report.json").read_text())
    assert facts["scores"]["teacher"]["returns"] == [7.0]


def test_what_is_taken_over_is_written_where_another_player_or_another_teacher_stands(root):
    models = present_digests("Pong", str(root), BOTH)
    score_alone(root, models)
    rules, path = protocol("nature", 1, 5), root / BOTH / "score/nature/Pong/report.json"
    earlier = {player: Score("Pong", player, rules, (3.0,)) for player in ("teacher", "random")}
    job = GameRun("Pong", str(root), ScoreSettings(("teacher",), "nature", 1, 5, 1, 0.0, again=False), BOTH)
    for players, files in ((("random",), models), (("teacher", "random"), models | {TEACHER: "0" * 64})):
        write_json(path, report("Pong", rules, {player: earlier[player] for player in players}, files, 1.0))
        assert score_game(job)["teacher"].returns == (7.0,)
        assert read_json(path)["scores"]["teacher"]["returns"] == [7.0]
    stamp = path.stat().st_mtime_ns
    score_game(job)
    assert path.stat().st_mtime_ns == stamp, "nothing is new"


def test_scores_of_another_teacher_and_of_the_games_own_student_are_not_taken_over(root):
    models = present_digests("Pong", str(root), BOTH)
    score_alone(root, models)
    job = GameRun("Pong", str(root), ScoreSettings(("teacher",), "nature", 1, 5, 1, 0.0, again=False), BOTH)
    assert set(kept_of_alone(job, models)) == {"teacher", "random"}
    assert set(kept_of_alone(job, models | {TEACHER: "0" * 64})) == {"random"}
    assert kept_of_alone(replace(job, student=None), models) == {}


def ship_teacher(folder, root):
    """The teacher as it ships, with a card that tells of five episodes by it and by its integers."""
    rules = protocol("nature", 5, 5)
    folder.mkdir(parents=True)
    (folder / SHIPPED[TEACHER]).write_bytes((root / "Pong" / TEACHER).read_bytes())
    scores = {player: Score("Pong", player, rules, (9.0,) * 5).to_json() for player in ("teacher", "chip")}
    write_json(folder / CARD, {"protocol": asdict(rules), "scores": scores})


def test_what_the_card_of_a_shipped_teacher_tells_is_not_played_again(root, tmp_path):
    ships = tmp_path / "ships"
    ship_teacher(ships / "Pong", root)
    models = present_digests("Pong", str(root), BOTH)
    found = shipped_scores("Pong", protocol("nature", 2, 5), models, ("teacher",), ships)
    assert {player: score.returns for player, score in found.items()} == {"teacher": (9.0,) * 5}
    assert found["teacher"].protocol.episodes == 5
    for rules in (protocol("v5", 2, 5), protocol("nature", 2, 6)):
        assert shipped_scores("Pong", rules, models, ("teacher",), ships) == {}, "other rules"
    for named, digests in (("Pong", models | {TEACHER: "0" * 64}), ("Breakout", models)):
        assert shipped_scores(named, protocol("nature", 2, 5), digests, ("teacher",), ships) == {}


def test_play_takes_the_student_of_several_games(root, capsys):
    pace = RealtimeSettings(seconds=0.1, pictures_per_s=30, frames_per_picture=2)
    web = WebSettings("127.0.0.1", 0, exposed=False, token=None, browser=False)
    settings = play.PlaySettings("chip", None, BOTH, "none", 1, True, pace, web)
    assert play.command(play.PlayRun("Breakout", str(root), ENV, settings)) == 0
    assert f"{BOTH}/chip/chip.npz" in capsys.readouterr().out

"""A student of several games ships as it was scored, measured by its teachers and by equal students of one game."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from cases import student
from run_cases import ACTIONS, small_teacher

from deploy import publish_many
from deploy.build import BuildRun, ChipSettings
from deploy.build import command as build
from deploy.cards import END, START
from deploy.players import make_player
from deploy.publish_many import PublishManyRun, alone_of, command, gain, geometric
from deploy.reports import model_digests
from deploy.spec import Head, load_spec, save_spec
from rl.checkpoint import save_policy
from rl.files import read_json, write_json
from rl.scores import Score, protocol
from rl.settings import SettingsError
from rl.stages import CARD, CHIP, SEVERAL, STUDENT, TEACHER, TEN, label, labelled

GAMES = ("Pong", "Breakout")
MEANS = {"Pong": {"teacher": 19.3, "chip": -0.7}, "Breakout": {"teacher": 101.7, "chip": 51.7}}
RULES = protocol("nature", 1, 5000)


def told(game, players):
    return {name: Score(game, name, RULES, (mean,)).to_json() | {"of_teacher": None} for name, mean in players.items()}


@pytest.fixture
def config(tmp_path, monkeypatch):
    root = tmp_path / "root"
    policies = [small_teacher(game=game) for game in GAMES]
    for policy in policies:
        save_policy(policy, root / policy.game / TEACHER)
    drawn = student([(24, 5, 3, 0, 1), (40, 3, 1, 0, 2), (80, 1, 1, 0, 1)], (4, 8, 8, 2, 1), (4, 84, 84), [6, 4], 1)
    spec = replace(drawn, heads=(Head("Pong", ACTIONS["Pong"], 0), Head("Breakout", ACTIONS["Breakout"], 6)))
    folder = root / "Pong-Breakout"
    save_spec(spec, folder / STUDENT, {"teachers": {policy.game: policy.digest for policy in policies}})
    plain = ChipSettings(board="ns1e", seed=0, host_copies=1, reduce=(), splitters=True, interval=33, broken_routers=())
    assert build(BuildRun(GAMES, str(root), plain)) == 0
    own = {"updates": 7, "wall_s": 60.0, "settings": {"student": {"layers": [1]}}, "origin": {}}
    write_json(folder / "student/report.json", own | {"spec": spec.digest})
    for game in GAMES:
        models = model_digests(game, str(root), ("teacher", "chip"), "Pong-Breakout")
        facts = {"protocol": asdict(RULES), "scores": told(game, MEANS[game]), "models": models, "versions": {}}
        write_json(folder / "score/nature" / game / "report.json", facts)
        alone = tmp_path / "alone" / game
        write_json(alone / "student/report.json", own)
        write_json(alone / "score/nature/report.json", {"scores": told(game, {"student": MEANS[game]["teacher"]})})
    monkeypatch.setattr(publish_many, "MODELS", tmp_path / "models")
    (tmp_path / "README.md").write_text(f"front\n{START}\nold\n{END}\nback\n")
    return PublishManyRun(GAMES, str(root), str(tmp_path / "alone"))


def test_what_ships_is_the_run_with_each_games_shares_and_their_geometric_mean(config, tmp_path, monkeypatch):
    assert command(config) == 0
    ships = tmp_path / "models" / "Pong-Breakout"
    assert (ships / "student.npz").read_bytes() == (config.folder / STUDENT).read_bytes()
    facts, text = read_json(ships / SEVERAL), (ships / "card.md").read_text()
    assert facts["games"]["Pong"]["of_teacher"] == pytest.approx(20 / 40)
    assert facts["games"]["Breakout"]["of_alone"] == pytest.approx(50 / 100)
    assert facts["geometric"] == {"of_teacher": pytest.approx(0.5), "of_alone": pytest.approx(0.5)}
    row = "| [Breakout, Pong](models/Pong-Breakout/card.md) | 0.500 | 0.500 (Breakout) | 0.500 | "
    assert row in (tmp_path / "README.md").read_text()
    assert (
        "| Pong | 19.30 (19.30 .. 19.30) | 19.30 (19.30 .. 19.30) | -0.70 (-0.70 .. -0.70) | 0.500 | 0.500 | - |"
        in text
    )
    monkeypatch.setattr("rl.stages.find.__defaults__", (tmp_path / "models",))
    player = make_player(
        "chip", "Breakout", ACTIONS["Breakout"], str(tmp_path / "x"), 1, frozenset, None, "Pong-Breakout"
    )
    assert player is not None


def test_an_equal_student_of_one_game_has_equal_layers(config, tmp_path):
    write_json(tmp_path / "alone/Pong/student/report.json", {"settings": {"student": {"layers": [2]}}})
    (tmp_path / "alone/Breakout/score/nature/report.json").unlink()
    assert command(config) == 0
    facts = read_json(tmp_path / "models/Pong-Breakout" / SEVERAL)
    assert [own["of_alone"] for own in facts["games"].values()] == [None, None]
    assert facts["geometric"]["of_alone"] is None


def test_the_card_tells_how_many_decisions_were_recorded_where_that_very_dataset_is_there(config, tmp_path):
    own = read_json(config.folder / "student/report.json")
    write_json(config.folder / "student/report.json", own | {"origin": {"datasets": {"Pong": "a", "Breakout": "b"}}})
    for game, digest in (("Pong", "a"), ("Breakout", "c")):
        facts = {"decisions": 60_000, "digest": digest}
        write_json(tmp_path / "root" / game / "rollouts/report.json", facts)
    assert command(config) == 0
    ships = tmp_path / "models/Pong-Breakout"
    found = {game: row["recorded"] for game, row in read_json(ships / SEVERAL)["games"].items()}
    assert found == {"Pong": 60_000, "Breakout": None}
    text = (ships / "card.md").read_text()
    assert "| 0.500 | 0.500 | 60,000 |" in text and "| 0.500 | 0.500 | - |" in text
    assert 'Made by: `make rollouts GAME=Pong ARGS="rollouts.decisions=60000"`, `make distill GAMES=' in text


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"scores": told("Breakout", {"chip": 51.7})}, "no score of teacher"),
        ({"scores": {}}, "no score of teacher and chip"),
        ({"protocol": {"name": "v5"}}, r"rules \{'name': 'v5'\}, elsewhere \{.*'name': 'nature'"),
    ],
)
def test_games_that_are_not_scored_alike_do_not_ship(config, tmp_path, change, found):
    path = config.folder / "score/nature/Breakout/report.json"
    write_json(path, read_json(path) | change)
    with pytest.raises(SettingsError, match=rf"nature/Breakout: found {found}.*; score teacher and chip of all games"):
        command(config)
    assert not (tmp_path / "models").exists()


def test_without_a_run_an_equal_student_of_one_game_is_the_one_that_ships(config, tmp_path):
    for game, layers, more in (("Pong", [1], {"towers": 1}), ("Breakout", [1], {"towers": 2})):
        (tmp_path / "alone" / game / "student/report.json").unlink()
        shown = {"settings": {"student": {"layers": layers} | more}}
        scores = told(game, {"student": MEANS[game]["teacher"]})
        write_json(tmp_path / "models" / game / CARD, {"student": shown, "scores": scores})
    reports = read_json(config.folder / "student/report.json")
    assert alone_of(config, "Breakout", reports) is None, "other layers"
    assert alone_of(config, "Pong", reports)["scores"]["student"]["mean"] == pytest.approx(19.3)
    write_json(tmp_path / "models/Pong" / CARD, {"scores": {}})
    assert alone_of(config, "Pong", reports) is None, "a teacher alone ships"


def test_cards_of_all_students_of_several_games_tell_their_commands_anew(config, tmp_path):
    assert command(config) == 0
    card = tmp_path / "models" / "Pong-Breakout" / SEVERAL
    facts = read_json(card)
    assert facts["commands"][1] == "make compile GAMES=Pong,Breakout"
    assert facts["commands"][2] == 'make score GAMES=Pong,Breakout ARGS="several=Pong-Breakout score.episodes=1"'
    write_json(card, facts | {"commands": ["make nothing"]})
    publish_many.retell(tmp_path / "models")
    assert read_json(card) == facts
    assert f"`{facts['commands'][0]}`, `make compile" in card.with_name("card.md").read_text()


def test_a_card_keeps_how_the_student_of_several_games_was_made_that_this_one_began_as(config, tmp_path):
    path = config.folder / "student" / "report.json"
    settings = [publish_many.composed("distill", "games=[Pong,Breakout]", f"distill.seed={seed}") for seed in (4, 5)]
    write_json(path, read_json(path) | {"settings": settings[0]})
    command(config)
    start = [{"spec": read_json(path)["spec"], "updates": 7}]
    write_json(path, read_json(path) | {"settings": settings[1], "updates": 9, "origin": {"start": start}})
    command(config)
    card = tmp_path / "models" / "Pong-Breakout" / SEVERAL
    told = [f'make distill GAMES=Pong,Breakout ARGS="distill.seed={seed}"' for seed in (4, 5)]
    assert read_json(card)["commands"][:3] == [*told, "make compile GAMES=Pong,Breakout"]
    assert f"- student: 9 updates after 7 as `{start[0]['spec'][:16]}`, 1 min" in card.with_name("card.md").read_text()


def test_reports_of_other_models_are_all_named_and_nothing_ships(config, tmp_path):
    spec, _ = load_spec(config.folder / STUDENT)
    save_spec(spec, config.folder / STUDENT, {"teachers": {"Pong": "0" * 64}})
    wanted = r"(?s)reports of other models; run the stages again\n.*teacher of Pong: 0000.*score of Pong, student/st"
    with pytest.raises(SettingsError, match=wanted + r"udent.npz.*teacher of Breakout: none, "):
        command(config)
    assert not (tmp_path / "models").exists()


def test_what_is_stopped_before_all_is_at_hand_replaces_nothing(config, tmp_path, monkeypatch):
    def stopped(*own):
        raise KeyboardInterrupt

    monkeypatch.setattr(publish_many, "first_episode", stopped)
    with pytest.raises(KeyboardInterrupt):
        command(config)
    assert not (tmp_path / "models").exists()


def test_a_smoke_run_cannot_ship():
    with pytest.raises(SettingsError, match=r"^root: found runs/smoke, a smoke run"):
        command(PublishManyRun(GAMES, "runs/smoke", "runs/alone"))
    with pytest.raises(SettingsError, match=r"^games: found \(\), allowed one or more"):
        PublishManyRun((), "runs", "runs/alone")


def test_the_ten_games_have_a_name_of_their_own():
    assert label(TEN) == "Ten" and label(TEN[:2]) == "BeamRider-Breakout"
    assert all(labelled(label(games)) == games for games in (TEN, TEN[:3], TEN[4:5], TEN[1::-1]))


def test_shares_are_above_random_play_and_what_learned_nothing_divides_nothing():
    assert gain(19.3, "Pong") == pytest.approx(40) and gain(-21.0, "Pong") == 1 and gain(3.0, "Unknown") == 3
    assert geometric([0.25, 1.0]) == pytest.approx(0.5)
    assert geometric([0.5, None]) is None
    assert (CHIP, STUDENT) == ("chip/chip.npz", "student/student.npz")

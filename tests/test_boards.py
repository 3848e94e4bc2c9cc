"""The board of all players: the same tags for each, curves over their own training, settings beside scores."""

from __future__ import annotations

import json

import pytest
from fakes import a_picture
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from run_cases import ROOM
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from test_report import metrics, score_report

from deploy import boards
from deploy.boards import BoardRun, BoardSettings, flat, points, write_board
from deploy.films import clip_pictures
from deploy.gather import gather
from deploy.video import VideoScreen
from rl.command import settings
from rl.files import write_json

EVAL = [{"at": at, "eval/mean_reward": mean, "eval/low": mean - 1, "eval/high": mean + 1} for at, mean in
        ((500, 3.0), (1500, 8.0), (2000, 10.0))]  # fmt: skip


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "runs"
    for game in ("Pong", "Qbert"):
        score_report(root, game)
    metrics(root, "Pong", "teacher", EVAL)
    write_json(root / "Pong/teacher/report.json", {"settings": {"teacher": {"algo": "ddqn", "agent": {"batch": 64}}}})
    screen = VideoScreen(root / "Pong/score/nature/chip.mp4")
    for _ in range(30):
        screen.show(a_picture())
    screen.close()
    return root


def events(folder):
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def scalars(folder, tag):
    return [(e.step, round(e.value, 4)) for e in events(folder).Scalars(tag)]


def test_every_player_has_the_same_tags_and_the_chip_is_a_level(root, tmp_path):
    assert write_board(root / "board", gather(root, tmp_path / "models")) == ["teacher", "int8", "chip"]
    wanted = {f"{game}/{what}" for game in ("Pong", "Qbert") for what in ("score", "low", "high")}
    for player in ("teacher", "int8", "chip"):
        assert set(events(root / "board" / player).Tags()["scalars"]) == wanted
    assert scalars(root / "board/teacher", "Pong/score") == [(25, 3.0), (75, 8.0), (100, 10.0), (101, 20.0)]
    assert scalars(root / "board/teacher", "Pong/low")[:3] == [(25, 2.0), (75, 7.0), (100, 9.0)]
    assert scalars(root / "board/chip", "Pong/score") == [(0, 18.3333), (101, 18.3333)]


def test_the_board_holds_a_layout_figures_clips_and_hyper_parameters(root, tmp_path):
    write_board(root / "board", gather(root, tmp_path / "models"))
    figures, chip = events(root / "board/figures"), events(root / "board/chip")
    layout = layout_pb2.Layout.FromString(figures.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == ["score over training, in per cent",
                                                                "score with its 95 % interval"]  # fmt: skip
    assert [chart.title for chart in layout.category[1].chart] == ["Pong", "Qbert"]
    assert set(figures.Tags()["images"]) == {"Learning curves", "Scores with 95 % intervals", "Games by players"}
    assert chip.Images("Pong/play")[0].encoded_image_string.startswith(b"GIF89a")
    trial = events(root / "board/teacher/Pong")
    assert scalars(root / "board/teacher/Pong", "final/score") == [(0, 20.0)]
    assert any("hparams" in tag for tag in trial.summary_metadata)


def test_what_an_earlier_board_held_is_gone(root, tmp_path):
    games = gather(root, tmp_path / "models")
    write_board(root / "board", games)
    write_board(root / "board", games[1:])
    assert "Pong/score" not in events(root / "board/chip").Tags()["scalars"]
    assert not (root / "board/teacher/Pong").exists()


def test_a_training_under_way_has_no_final_score(root, tmp_path):
    metrics(root, "Breakout", "teacher", EVAL[:2])
    breakout = gather(root, tmp_path / "models")[0]
    assert [at for at, _ in points(breakout, "teacher")] == [33, 100]
    assert list(points(breakout, "chip")) == []


def test_settings_become_one_level():
    found = dict(flat({"a": 1, "b": {"c": 2.5, "d": [1, 2]}, "e": None, "f": True}))
    assert found == {"a": 1, "b.c": 2.5, "b.d": "[1, 2]", "e": "None", "f": True}


def test_clip_pictures_are_half_as_large_and_as_many_as_asked_for(root):
    path = root / "Pong/score/nature/chip.mp4"
    assert len(clip_pictures(path, 0.5, 10)) == 5
    assert clip_pictures(path, 9.0, 30).shape[0] == 30


def test_the_command_leaves_a_report(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(boards, "MODELS", tmp_path / "models")
    assert boards.command(BoardRun(str(root), BoardSettings("nature"))) == 0
    facts = json.loads((root / "board/report.json").read_text())
    assert (facts["games"], facts["players"]) == (["Pong", "Qbert"], ["teacher", "int8", "chip"])
    assert "teacher, int8, chip in Pong, Qbert" in capsys.readouterr().out
    with initialize_config_dir(str(ROOM / "conf"), version_base=None):
        tree = OmegaConf.to_container(compose("board", ["smoke=board"]), resolve=True)
    assert settings(BoardRun, tree) == BoardRun("runs/smoke", BoardSettings("nature"))

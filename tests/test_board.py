"""The board: what TensorBoard reads back, by frames and by wall-clock, of runs that stopped and went on."""

from __future__ import annotations

import io
import itertools
import json
import math
import re
from fnmatch import fnmatch

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from rl.board import BY_WALL, SCORES, Board, Ticker
from rl.charts import TRAINING
from rl.files import FormatError

ALL = {"scalars": 0, "images": 0, "tensors": 0}  # keep every event


@pytest.fixture(autouse=True)
def sittings(monkeypatch):
    """A second passes at every look at the clock: TensorBoard reads files by the second in their names."""
    seconds = itertools.count(1_000_000_000)
    monkeypatch.setattr("time.time", lambda: float(next(seconds)))


def events(folder):
    return EventAccumulator(str(folder), size_guidance=ALL).Reload()


def scalars(folder):
    """{tag: [(x, value)]}; values are float32."""
    read = events(folder)
    return {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def lines(folder):
    return [json.loads(line, parse_constant=pytest.fail) for line in (folder / "metrics.jsonl").open()]


def test_a_score_is_told_by_frames_and_by_seconds_of_work(tmp_path):
    with Board(tmp_path) as board:
        board.write(4000, {"train/loss": 0.5, "rollout/ep_score_mean": math.nan}, 2.75)
        board.write(8000, {"train/loss": 0.25, "rollout/ep_score_mean": 3.0}, 61.5)
        board.write(8000, {"eval/mean_reward": 4.0, "eval/low": 3.5, "eval/high": 7.0}, 90.0)
    assert scalars(tmp_path) == {
        "train/loss": [(4000, 0.5), (8000, 0.25)],
        "rollout/ep_score_mean": [(8000, 3.0)],
        "eval/mean_reward": [(8000, 4.0)],
        "eval/low": [(8000, 3.5)],
        "eval/high": [(8000, 7.0)],
    }
    assert scalars(tmp_path / BY_WALL) == {
        "by_wall_s/rollout/ep_score_mean": [(61, 3.0)],
        "by_wall_s/eval/mean_reward": [(90, 4.0)],
        "by_wall_s/eval/low": [(90, 3.5)],
        "by_wall_s/eval/high": [(90, 7.0)],
    }
    assert lines(tmp_path) == [
        {"at": 4000, "wall_s": 2.75, "train/loss": 0.5},
        {"at": 8000, "wall_s": 61.5, "train/loss": 0.25, "rollout/ep_score_mean": 3.0},
        {"at": 8000, "wall_s": 90.0, "eval/mean_reward": 4.0, "eval/low": 3.5, "eval/high": 7.0},
    ]


def test_without_a_wall_clock_there_is_one_run(tmp_path):
    with Board(tmp_path) as board:
        board.write(4, {"eval/mean_reward": 1.0})
    assert not (tmp_path / BY_WALL).exists()
    assert lines(tmp_path) == [{"at": 4, "eval/mean_reward": 1.0}]


def test_a_resumed_board_drops_what_a_lost_run_left_beyond_in_every_family(tmp_path):
    score = "rollout/ep_score_mean"
    picture = np.zeros((1, 5, 7, 3), np.uint8)
    lost = Board(tmp_path)
    for at, wall_s in ((4, 10.5), (8, 20.25), (12, 30.0), (16, 40.75)):
        lost.write(at, {score: at}, wall_s)
        lost.clip(at, "clip/best", picture, 0.1)
    lost.flush()  # and killed: never closed
    with Board(tmp_path, resume_at=8) as board:
        board.write(10, {score: 100.0}, 25.5)
        board.clip(10, "clip/best", picture, 0.1)
    assert scalars(tmp_path)[score] == [(4, 4), (8, 8), (10, 100)]
    assert scalars(tmp_path / BY_WALL)[f"{BY_WALL}/{score}"] == [(10, 4), (20, 8), (25, 100)]
    assert [e.step for e in events(tmp_path).Images("clip/best")] == [4, 8, 10]
    assert [(line["at"], line["wall_s"]) for line in lines(tmp_path)] == [(4, 10.5), (8, 20.25), (10, 25.5)]


@pytest.mark.parametrize(
    "line", [b'{"at": 8, "a": }', b'{"a": 1.0}', b'{"at": "8"}', b'[{"at": 8}', b'{"at": 8, "\xff": 1}']
)
def test_a_damaged_line_is_named_and_nothing_is_changed(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"at": 4}\n' + line + b'\n{"at": 12}\n')
    before = path.read_bytes()
    with pytest.raises(FormatError, match=rf"^{path}: line 2: found b'.*, must be a JSON object .*; remove that line$"):
        Board(tmp_path, resume_at=8)
    assert path.read_bytes() == before


def test_a_run_that_lost_everything_begins_its_wall_clock_anew(tmp_path):
    with Board(tmp_path) as board:
        board.write(4, {"eval/mean_reward": 1.0}, 0.5)
        board.write(8, {"eval/mean_reward": 2.0}, 3.0)
    with Board(tmp_path, resume_at=0) as board:
        board.write(2, {"eval/mean_reward": 3.0}, 1.5)
    assert scalars(tmp_path / BY_WALL) == {"by_wall_s/eval/mean_reward": [(1, 3.0)]}
    assert scalars(tmp_path) == {"eval/mean_reward": [(2, 3.0)]}


def test_a_run_older_than_the_wall_clock_goes_on_with_one(tmp_path):
    with Board(tmp_path) as board:
        board.write(4, {"eval/mean_reward": 1.0})
    with Board(tmp_path, resume_at=4) as board:
        board.write(8, {"eval/mean_reward": 2.0}, 70.0)
    assert scalars(tmp_path / BY_WALL) == {"by_wall_s/eval/mean_reward": [(70, 2.0)]}
    assert scalars(tmp_path) == {"eval/mean_reward": [(4, 1.0), (8, 2.0)]}


def test_a_clip_moves_and_is_of_the_size_it_says(tmp_path):
    pictures = np.zeros((3, 5, 7, 3), np.uint8)
    for i in range(3):
        pictures[i, i, i + 1] = 40 * i + 80, 0, 250
    with Board(tmp_path) as board:
        board.clip(12, "clip/best", pictures, 0.1)
    (event,) = events(tmp_path).Images("clip/best")
    assert (event.step, event.width, event.height) == (12, 7, 5)
    image = Image.open(io.BytesIO(event.encoded_image_string))
    assert (image.format, image.size, image.n_frames) == ("GIF", (7, 5), 3)
    for i in range(3):
        image.seek(i)
        assert np.array_equal(np.asarray(image.convert("RGB")), pictures[i])


def test_the_layout_is_read_back_as_it_was_given(tmp_path):
    with Board(tmp_path) as board:
        board.charts(TRAINING)
    with Board(tmp_path, resume_at=4) as board:
        board.charts(TRAINING)
    layout = layout_pb2.Layout()
    found = events(tmp_path).Tensors("custom_scalars__config__")
    layout.ParseFromString(found[0].tensor_proto.string_val[0])
    got = {}
    for category in layout.category:
        for chart in category.chart:
            margin = [[s.value, s.lower, s.upper] for s in chart.margin.series]
            kind = ["Margin", *margin] if margin else ["Multiline", list(chart.multiline.tag)]
            got.setdefault(category.title, {})[chart.title] = kind
    assert got == TRAINING


def test_scores_by_wall_clock_have_charts():
    tags = {tag for charts in TRAINING.values() for _, own in charts.values() for tag in own}
    assert {f"{BY_WALL}/{tag}" for tag in SCORES} | set(SCORES) <= tags


# The terminal.


class Clock:
    def __init__(self, monkeypatch):
        self.now_s = 100.0
        monkeypatch.setattr("rl.board.time.monotonic", lambda: self.now_s)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def on_terminal(monkeypatch):
    """Makes a ticker on a terminal of 90 columns."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "90")

    def made(*arguments, **named):
        # Not before: pytest exchanges the stream between a fixture and its test.
        monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
        return Ticker(*arguments, **named)

    return made


def screen(text):
    """What a terminal shows of it, line by line: each line as it was last drawn."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return [line.split("\r\x1b[2K")[-1] for line in plain.split("\n")]


def test_a_bar_shows_share_text_speed_and_time_left(clock, on_terminal, capsys):
    ticker = on_terminal(200, began_at=100, unit="frames")
    clock.now_s += 10
    ticker.show(150, "score 3.0  best 4.5")
    assert fnmatch(screen(capsys.readouterr().out)[0], "━*━  75.0% score 3.0  best 4.5  5 frames/s  left 0:00:10")


def test_what_has_not_moved_yet_has_no_time_left(clock, on_terminal, capsys):
    ticker = on_terminal(100)
    clock.now_s += 60
    ticker.show(0, "0 episodes over")
    assert screen(capsys.readouterr().out)[0].endswith("0 episodes over  left unknown")


def test_a_bar_is_redrawn_at_most_four_times_a_second_in_one_line(clock, on_terminal, capsys):
    ticker = on_terminal(200, unit="frames")
    for _ in range(16):
        clock.now_s += 0.125
        ticker.show(clock.now_s - 100, "text")
    out = capsys.readouterr().out
    assert out.count("\r\x1b[2K") == 8
    assert "\n" not in out


def test_a_long_line_is_cut_to_the_terminal(clock, on_terminal, capsys, monkeypatch):
    for columns in (40, 90):
        monkeypatch.setenv("COLUMNS", str(columns))
        clock.now_s += 1
        on_terminal(200, unit="frames").show(20, "word " * 40)
        (line,) = screen(capsys.readouterr().out)
        assert len(line) <= columns
        assert line.endswith("…")


@pytest.mark.parametrize(("columns", "bar"), [(100, 24), (80, 9), (75, 4), (74, 0), (60, 0)])
def test_the_bar_gives_way_to_the_words(columns, bar, clock, on_terminal, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    ticker = on_terminal(200, began_at=100, unit="frames")
    clock.now_s += 10
    ticker.show(150, "1.23M frames  score -20.1  best -19.2")
    (line,) = screen(capsys.readouterr().out)
    words = " 75.0% 1.23M frames  score -20.1  best -19.2  5 frames/s  left 0:00:10"
    assert line.count("━") + line.count("╸") + line.count("╺") == bar and len(line) <= columns
    assert line.endswith(words if len(words) <= columns else "…")


def test_lines_that_stay_stand_above_the_bar_which_is_back_at_once(clock, on_terminal, capsys):
    with on_terminal(200) as ticker:
        clock.now_s += 1
        ticker.show(20, "before")
        ticker.say("evaluation [3] of 7")
        ticker.show(30, "after")
    print("next")
    shown = screen(capsys.readouterr().out)
    assert shown[0] == "evaluation [3] of 7"
    assert fnmatch(shown[1], "*15.0% after  left 0:00:05")
    assert shown[2:] == ["next", ""]


def test_a_bar_that_is_full_is_shown_and_ends_its_line(clock, on_terminal, capsys):
    ticker = on_terminal(8)
    clock.now_s += 1
    ticker.show(7, "text")
    ticker.show(8, "done")  # at the same moment: too soon for any but the last
    ticker.close()
    print("next")
    shown = screen(capsys.readouterr().out)
    assert fnmatch(shown[0], "*100.0% done  left 0:00:00")
    assert shown[1:] == ["next", ""]


def test_a_terminal_that_cannot_redraw_gets_plain_lines(clock, on_terminal, capsys, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    ticker = on_terminal(200, unit="frames")
    for done in (10, 20, 30):
        clock.now_s += 40
        ticker.show(done, "text")
    assert capsys.readouterr().out.splitlines() == [
        "  5.0%  text  0 frames/s  left 0:12:40",
        " 15.0%  text  0 frames/s  left 0:11:20",
    ]


def test_the_speed_is_that_of_the_last_minutes(clock, capsys):
    ticker = Ticker(10_000, unit="frames")
    done = 0
    for rate in [50] * 2 + [5] * 10:  # fast before it learned
        done += 60 * rate
        clock.now_s += 60
        ticker.show(done, "text")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == " 90.0%  text  5 frames/s  left 0:03:20"

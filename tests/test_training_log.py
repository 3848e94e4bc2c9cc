"""What a training run tells its board: means between lines, evaluations with interval, a clip of each new best."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl.board import BY_WALL, Board
from rl.charts import TRAINING
from rl.checkpoint import load_policy
from rl.command import Stop
from rl.scores import Protocol, Score
from rl.train import Log, progress, report, train
from rl.trainer import Trainer
from tests.training_cases import NATURE, TINY_AGENT, taped_replay, teacher


def lines(folder):
    return [json.loads(line, parse_constant=pytest.fail) for line in (folder / "metrics.jsonl").open()]


def scored(*returns):
    return Score("Breakout", "teacher", Protocol("nature", NATURE, 0.1, len(returns), 3), returns)


def trained(folder, **changes):
    """A tiny run to its end."""
    config, stop = teacher(folder, **changes), Stop()
    stop.restore()
    made = Trainer(config, folder)
    try:
        with Board(folder, made.frames if made.resumed else None) as board:
            assert train(config, made, board, folder, stop)
    finally:
        made.close()
    return made


class FakeTrainer:
    """Counts frames; everything else stands still."""

    score, epsilon, best, wall_s = 2.5, 0.75, None, 7.0
    frames = 100

    class predictions:  # noqa: N801
        means = staticmethod(lambda: {"value/predicted": 3.0})

    def throughput(self):
        return {"time/act_share": 0.25}


class FakeBoard:
    def __init__(self):
        self.told = []

    def write(self, at, metrics, wall_s):
        self.told.append((at, metrics, wall_s))


def test_a_line_holds_the_means_since_the_last_one(monkeypatch):
    now = itertools.count(0.0, 2.0)
    monkeypatch.setattr("rl.train.time.monotonic", lambda: next(now))
    run, board = FakeTrainer(), FakeBoard()
    log = Log(run, board, every_frames=24)
    for loss in (None, 1.0, 4.0, 8.0):  # nothing is learnt in the first step
        run.frames += 8
        log.add({} if loss is None else {"train/loss": loss})
    (at, metrics, wall_s), *others = board.told
    assert (at, wall_s, others) == (124, 7.0, [])
    assert metrics == {
        "train/loss": 2.5,
        "value/predicted": 3.0,
        "rollout/ep_score_mean": 2.5,
        "rollout/exploration_rate": 0.75,
        "time/fps": 12.0,
        "time/wall_s": 7.0,
        "time/act_share": 0.25,
    }
    log.write()
    assert [(at, told["train/loss"]) for at, told, _ in board.told] == [(124, 2.5), (132, 8.0)]
    log.write()
    assert len(board.told) == 2, "nothing new, no line"


@pytest.mark.parametrize(
    ("score", "best", "text"),
    [
        (float("nan"), None, "score -  best -"),
        (-20.96, 0.0, "score -21.0  best 0.0"),
        (3.0, 4.25, "score 3.0  best 4.2"),
    ],
)
def test_what_is_not_known_yet_is_a_dash(score, best, text):
    run = FakeTrainer()
    run.score, run.best, run.frames = score, best, 1_234_000
    assert progress(run) == f"1.23M frames  {text}"


def test_every_tag_of_a_chart_is_told_by_a_run_and_every_one_has_events(tmp_path):
    trained(tmp_path, train_frames=800, eval_frames=400)
    read = [EventAccumulator(str(folder)).Reload() for folder in (tmp_path, tmp_path / BY_WALL)]
    told = {tag for events in read for tag in events.Tags()["scalars"]}
    for charts in TRAINING.values():
        for title, (_, tags) in charts.items():
            for tag in tags:
                assert tag in told or tag == "time/.*_share", title
    assert {tag for tag in told if tag.endswith("_share")} == {
        f"time/{name}_share" for name in ("sample", "act", "env", "learn", "note")
    }
    assert read[0].Tags()["tensors"] == ["custom_scalars__config__"]


def test_a_short_run_has_a_curve(tmp_path):
    trained(tmp_path, train_frames=800)
    at = [line["at"] for line in lines(tmp_path) if "time/fps" in line]
    assert at == list(range(40, 801, 40))
    ages = [line["replay/age_frames"] for line in lines(tmp_path) if "train/loss" in line]
    assert len(ages) > 10
    assert 24 <= min(ages) < max(ages) < 800, "of both envs: the three steps behind a sample, to half of what is held"
    steps = np.array(ages) * 5 * TINY_AGENT.batch / 8  # a step of both envs is 8 frames, a line the mean of 5 batches
    assert np.allclose(steps, steps.round())


def test_an_evaluation_is_told_with_its_interval(tmp_path, monkeypatch):
    score = scored(1.0, 2.0, 6.0)
    monkeypatch.setattr(Trainer, "evaluate", lambda self, episodes, act=None, first=0: score)
    made = trained(tmp_path, train_frames=400)
    line = lines(tmp_path)[-1]
    low, high = score.interval
    assert 1.0 <= low < 3.0 < high <= 6.0
    assert line == {"at": 400, "wall_s": pytest.approx(made.wall_s, abs=5), **line}
    assert {tag: line[tag] for tag in line if tag.startswith("eval/")} == {
        "eval/mean_reward": 3.0,
        "eval/low": low,
        "eval/high": high,
    }


def test_each_new_best_is_filmed_and_no_other_evaluation(tmp_path, monkeypatch):
    scores = iter((2.0, 2.0, 1.0, 5.0))
    monkeypatch.setattr(Trainer, "evaluate", lambda self, episodes, act=None, first=0: scored(next(scores)))
    trained(tmp_path, train_frames=700, eval_frames=200)
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    clips = events.Images("clip/best")
    assert [clip.step for clip in clips] == [200, 704]
    assert all(clip.encoded_image_string.startswith(b"GIF89a") for clip in clips)
    assert {(clip.width, clip.height) for clip in clips} == {(160, 210)}


def test_a_policy_that_beats_the_best_must_do_so_in_other_episodes_too(tmp_path, monkeypatch):
    scores, asked = iter((9.0, 3.0, 8.0, 4.0, 3.0, 7.0, 2.0, 5.0, 6.0)), []

    def evaluate(self, episodes, act=None, first=0):
        asked.append((episodes, first))
        return scored(next(scores))

    monkeypatch.setattr(Trainer, "evaluate", evaluate)
    made = trained(tmp_path, train_frames=1_000, eval_frames=200, eval_episodes=2, confirm_episodes=5)
    told = {line["at"]: (line["eval/mean_reward"], line.get("eval/confirmed")) for line in lines(tmp_path)
            if "eval/mean_reward" in line}  # fmt: skip
    assert told == {200: (9, 3), 400: (8, 4), 600: (3, None), 800: (7, 2), 1000: (5, 6)}
    assert made.best == 6.0
    one, other = [(2, 0)], [(2, 0), (5, 2)]  # (episodes, number of the first one)
    assert asked == other + other + one + other + other


@pytest.mark.parametrize("moment", ["step", "save"])  # after the state that knows of it, or before
def test_a_kill_leaves_no_worse_policy_in_the_place_of_the_best(tmp_path, monkeypatch, moment):
    scores, whole = iter((2.0, 10.0, 3.0, 4.0, 5.0)), getattr(Trainer, moment)
    monkeypatch.setattr(Trainer, "evaluate", lambda self, episodes, act=None, first=0: scored(next(scores)))

    def killed(self):
        if self.frames == 400:
            raise KeyboardInterrupt
        return whole(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, moment, killed)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path, train_frames=800, eval_frames=200)
    assert trained(tmp_path, train_frames=800, eval_frames=200).best == 10.0
    kept = load_policy(tmp_path / "policy.safetensors").training
    assert (kept["frames"], kept["score"]["mean"]) == (400, 10.0)


def test_what_was_kept_by_few_episodes_must_be_worth_it_in_as_many_as_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Trainer, "evaluate", lambda self, episodes, act=None, first=0: scored(9.0, 7.0))
    before = trained(tmp_path, train_frames=400)
    assert before.best == 8.0
    kept, asked = load_policy(tmp_path / "policy.safetensors"), []

    def evaluate(self, episodes, act=None, first=0):
        asked.append((episodes, first, act is not None))
        return scored(*[2.0] * episodes)

    monkeypatch.setattr(Trainer, "evaluate", evaluate)
    again = trained(tmp_path, train_frames=400, eval_episodes=2, confirm_episodes=5)
    assert again.best == 2.0 and asked[0] == (5, 2, True)
    assert "kept for 8.0 by 2 episodes, is 2.0 by 5 others" in capsys.readouterr().out
    now = load_policy(tmp_path / "policy.safetensors")
    assert now.digest == kept.digest and now.training == kept.training | {"score": scored(*[2.0] * 5).to_json()}
    asked.clear()
    trained(tmp_path, train_frames=400, eval_episodes=2, confirm_episodes=5)
    assert (5, 2, True) not in asked, "asked once"


def test_a_report_scores_in_episodes_that_chose_nothing(tmp_path, monkeypatch):
    made = trained(tmp_path, train_frames=400, eval_episodes=2, confirm_episodes=5)
    plain, asked = made.evaluate, []
    monkeypatch.setattr(made, "evaluate", lambda *args: asked.append(args) or plain(*args))
    told = report(teacher(tmp_path, eval_episodes=2, confirm_episodes=5, report_episodes=3), made, tmp_path)
    ((episodes, _, first),) = asked
    assert (episodes, first) == (3, 7) and len(told["score"]["returns"]) == 3


def test_a_budget_that_ends_with_an_evaluation_has_no_second_one(tmp_path):
    trained(tmp_path, train_frames=800, eval_frames=400)
    assert [line["at"] for line in lines(tmp_path) if "eval/mean_reward" in line] == [400, 800]


def test_a_trainer_films_the_policy_as_it_stands(tmp_path):
    made = Trainer(teacher(tmp_path), tmp_path)
    before, spent = made.film(), made.wall_s
    assert spent > 0
    assert before.pictures.shape[1:] == (210, 160, 3)
    assert np.array_equal(made.film().pictures, before.pictures), "seeds of its own, whatever training did meanwhile"
    for _ in range(60):
        made.step()
    assert not np.array_equal(made.film().pictures, before.pictures)
    made.close()


def test_what_was_told_before_a_checkpoint_is_on_disk_with_it(tmp_path, monkeypatch):
    tape = []
    monkeypatch.setattr(Board, "flush", lambda self: tape.append("flush"))
    monkeypatch.setattr(Trainer, "save", lambda self: tape.append("save"))
    trained(tmp_path, train_frames=16, learn_start_frames=64, checkpoint_s=0.0)
    assert tape == ["flush", "save", "flush", "save", "flush", "flush", "save"]  # two steps, an evaluation, the end


def test_the_age_of_a_sample_is_the_mean_of_rows_since(tmp_path):
    _, replay = taped_replay(40, envs=3, capacity=150, end=0.0)
    assert replay.age == 0.0
    replay.sample(np.random.default_rng(2), 16, 3, 0.9)
    _, rows = replay._draw(np.random.default_rng(2), 16, 3)
    assert replay.age == np.mean(40 - rows), "the newest row, 40, awaits its action"
    assert 3 <= replay.age <= 40

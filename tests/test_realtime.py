"""The real-time loop: order on a tape, time by a fake clock, and a report whatever happens."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from fakes import FakeClock, TapedPacedGame, TapedPlayer, TapedScreen
from numpy.typing import NDArray

from deploy.pacer import Pacer
from deploy.realtime import NoThoughts, PlayReport, RealtimeSettings, play_realtime, thoughts_of
from rl.settings import SettingsError

PERIOD_S = 0.03125  # 1/32: exact in binary
FIRST_STEP = ["act on 0", "open 0", "advance 2", "show", "advance 2", "close", "show"]
LAST_STEP = ["act on 1", "open 1", "advance 2", "show", "advance 2", "close", "show"]


class Stage:
    """Everything a run needs, on one tape and one clock."""

    def __init__(self, steps: int = 2, frames_per_step: int = 4, works_s: tuple[float, ...] = ()) -> None:
        self.tape: list[str] = []
        self.clock = FakeClock()
        self.screen = TapedScreen(self.tape)
        self.shown_s: list[float] = []
        works = iter(works_s)

        def work() -> None:
            self.clock.t_s += next(works, 0.0)

        self.game = TapedPacedGame(self.tape, steps, frames_per_step, work)
        self.player = TapedPlayer(self.tape)
        self.told: list[PlayReport] = []

    def run(
        self, pictures: float, frames_per_picture: int = 2, keep_going: Callable[[], bool] = lambda: True
    ) -> PlayReport:
        """Play that many pictures at 32 a second; 0: until stopped."""

        def sleep(seconds: float) -> None:
            self.clock.sleep(seconds)
            self.shown_s.append(self.clock.t_s)

        pacer = Pacer(PERIOD_S, self.clock.now, sleep)
        settings = RealtimeSettings(pictures / 32, 32, frames_per_picture)
        return play_realtime(
            self.game, self.player, self.screen, pacer, settings, keep_going, title="Pong | tape", tell=self.told.append
        )


class ThinkingPlayer(TapedPlayer):
    """Votes for what it plays; all its cores spike once a decision."""

    votes: NDArray[np.int32] | None = None
    activity: NDArray[np.int32] | None = None

    def act(self, obs: NDArray[np.uint8]) -> int:
        action = super().act(obs)
        self.votes = np.eye(6, dtype=np.int32)[action] * 9
        self.activity = np.ones((64, 64), np.int32)
        return action


def test_a_decision_lasts_two_pictures_and_the_player_never_acts_on_the_last_screen_of_an_episode() -> None:
    stage = Stage(steps=2)
    stage.run(pictures=6)
    assert stage.tape == [
        "reset", "player reset", *FIRST_STEP, *LAST_STEP,
        "reset", "player reset", *FIRST_STEP,
    ]  # fmt: skip


def test_two_frames_a_step_decide_on_every_picture() -> None:
    stage = Stage(steps=2, frames_per_step=2)
    report = stage.run(pictures=3)
    assert stage.tape == [
        "reset", "player reset",
        "act on 0", "open 0", "advance 2", "close", "show",
        "act on 1", "open 1", "advance 2", "close", "show",
        "reset", "player reset",
        "act on 0", "open 0", "advance 2", "close", "show",
    ]  # fmt: skip
    assert (report.pictures, report.decisions) == (3, 3)


def test_the_report_counts_pictures_decisions_episodes_and_scores() -> None:
    stage = Stage(steps=3, works_s=(0.0078125,) * 20)
    report = stage.run(pictures=17)
    assert report == PlayReport(
        title="Pong | tape",
        seconds=17 * PERIOD_S,
        pictures=17,
        pictures_per_s=32.0,
        late=0,
        decisions=9,
        episodes=2,
        scores=(4.5, 4.5),
        running_score=3.0,
        period_s=PERIOD_S,
        work_p50_s=0.0078125,
        work_p99_s=0.0078125,
        work_max_s=0.0078125,
    )
    assert stage.told == [report]


def test_the_report_is_json_as_it_stands() -> None:
    report = Stage(steps=1).run(pictures=4)
    again = json.loads(json.dumps(report.to_json()))
    assert again == report.to_json()
    assert (again["scores"], again["pictures"], again["work_p99_s"]) == ([1.5, 1.5], 4, 0.0)


def test_the_report_reads_as_three_lines() -> None:
    report = Stage(steps=3, works_s=(0.0625,)).run(pictures=7)
    assert str(report) == (
        "Pong | tape: 7 pictures in 0.2 s (28.00 a second), 1 late, 4 decisions\n"
        "work per picture: p50 0.00 ms, p99 62.50 ms, max 62.50 ms of 31.2 ms\n"
        "1 episodes finished, mean score 4.5; 0 in the one under way"
    )


def test_a_late_picture_is_counted_and_causes_no_sprint() -> None:
    stage = Stage(works_s=(0.0, 0.09375, 0.0))
    report = stage.run(pictures=4)
    assert report.late == 1
    assert stage.shown_s == [0.03125, 0.15625, 0.1875]  # the late one, over at 0.125, does not sleep
    assert [picture.late for picture in stage.screen.pictures] == [0, 0, 1, 1]
    assert [picture.work_s for picture in stage.screen.pictures] == [0.0, 0.0, 0.09375, 0.0]


def test_what_was_set_up_before_the_run_is_not_late() -> None:
    stage = Stage()
    pacer = Pacer(PERIOD_S, stage.clock.now, stage.clock.sleep)
    stage.clock.t_s += 100.0
    settings = RealtimeSettings(0.0625, 32, 2)
    assert play_realtime(stage.game, stage.player, stage.screen, pacer, settings, lambda: True).late == 0


def test_zero_seconds_play_until_stopped() -> None:
    answers = iter([True] * 40 + [False])
    assert Stage().run(pictures=0, keep_going=lambda: next(answers)).pictures == 40


def test_the_quit_key_ends_the_run_before_another_picture() -> None:
    stage = Stage()
    stage.screen = TapedScreen(stage.tape, [frozenset(), frozenset({"up"}), frozenset({"quit", "up"})])
    assert stage.run(pictures=0).pictures == 2
    assert stage.tape.count("show") == 2


def test_a_run_shorter_than_one_picture_shows_one() -> None:
    stage = Stage()
    assert stage.run(pictures=0.25).pictures == 1


def test_an_exception_still_leaves_a_report() -> None:
    stage = Stage()

    def broken() -> bool:
        if len(stage.screen.pictures) == 3:
            raise RuntimeError("unplugged")
        return True

    with pytest.raises(RuntimeError, match=r"^unplugged$"):
        stage.run(pictures=0, keep_going=broken)
    assert [report.pictures for report in stage.told] == [3]


def test_a_picture_keeps_its_frame_while_the_game_goes_on() -> None:
    stage = Stage()
    stage.run(pictures=3)
    assert [int(picture.frame[0, 0, 0]) for picture in stage.screen.pictures] == [1, 2, 3]


def test_pictures_show_the_score_and_the_episode_that_they_belong_to() -> None:
    stage = Stage(steps=2)
    stage.run(pictures=6)
    seen = [(picture.score, picture.episode, picture.meaning) for picture in stage.screen.pictures]
    assert seen == [
        (0.0, 1, "NOOP"), (1.5, 1, "NOOP"), (1.5, 1, "FIRE"), (3.0, 1, "FIRE"),
        (0.0, 2, "NOOP"), (1.5, 2, "NOOP"),
    ]  # fmt: skip


def test_a_thinking_player_shows_its_votes_and_activity() -> None:
    stage = Stage()
    stage.player = ThinkingPlayer(stage.tape)
    stage.run(pictures=3)
    votes = [picture.votes for picture in stage.screen.pictures]
    assert [None if row is None else row.tolist() for row in votes] == [[9, 0, 0, 0, 0, 0]] * 2 + [[0, 9, 0, 0, 0, 0]]
    assert all(picture.activity is not None and picture.activity.sum() == 4096 for picture in stage.screen.pictures)


def test_a_player_without_thoughts_shows_none() -> None:
    stage = Stage()
    stage.run(pictures=1)
    assert (stage.screen.pictures[0].votes, stage.screen.pictures[0].activity) == (None, None)
    assert isinstance(thoughts_of(stage.player), NoThoughts)


def test_a_step_must_be_a_whole_number_of_pictures() -> None:
    stage = Stage()
    message = r"^realtime\.frames_per_picture: found 3, allowed divisors of frames_per_step \(4\); try 4$"
    with pytest.raises(SettingsError, match=message):
        stage.run(pictures=1, frames_per_picture=3)
    assert stage.tape == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((-1.0, 30, 2), r"^realtime\.seconds: found -1\.0, allowed 0 \(until stopped\) and above$"),
        ((1.0, 0, 2), r"^realtime\.pictures_per_s: found 0, allowed 1 and above; try 30$"),
        ((1.0, 30, 0), r"^realtime\.frames_per_picture: found 0, allowed 1 and above; try 2$"),
    ],
)
def test_settings_outside_their_range_are_refused(values: tuple[float, int, int], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        RealtimeSettings(*values)

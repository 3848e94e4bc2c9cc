"""Real time plays the same game as the plain loop: cutting a step into pictures changes nothing."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import av
import numpy as np
import pytest
from fakes import FakeClock, TapedScreen
from numpy.typing import NDArray

from deploy.pacer import Pacer
from deploy.realtime import RealtimeSettings, play_realtime
from deploy.screens import Both
from deploy.video import VideoScreen
from rl.games import EnvSettings, ScalarGame
from rl.loop import RandomPlayer, moments

STEPS = 240


class SeeingPlayer(RandomPlayer):
    """Plays at random and remembers a digest of all that it saw."""

    def __init__(self, n_actions: int, seed: int) -> None:
        super().__init__(n_actions, seed)
        self.seen = hashlib.sha256()

    def act(self, obs: NDArray[np.uint8]) -> int:
        self.seen.update(obs.tobytes())
        return super().act(obs)


def a_game(frames_per_step: int, seed: int = 3) -> ScalarGame:
    """Breakout with sticky actions, cut off early so that the run crosses an episode's end."""
    return ScalarGame("Breakout", EnvSettings(frames_per_step, 0.25, 30, False, 100 * frames_per_step), seed)


@pytest.mark.parametrize("frames_per_step", [2, 4])
def test_real_time_equals_the_plain_loop(frames_per_step: int) -> None:
    game, plain = a_game(frames_per_step), SeeingPlayer(4, 1)
    rewards = [moment.step.reward for moment in itertools.islice(moments(game, plain), STEPS)]
    clock, live = FakeClock(), SeeingPlayer(4, 1)
    pictures = STEPS * frames_per_step // 2
    report = play_realtime(
        a_game(frames_per_step), live, TapedScreen([]), Pacer(0.03125, clock.now, clock.sleep),
        RealtimeSettings(pictures / 32, 32, 2), lambda: True,
    )  # fmt: skip
    assert (report.pictures, report.decisions, report.episodes) == (pictures, STEPS, 2)
    assert sum(report.scores) + report.running_score == sum(rewards)
    assert live.seen.digest() == plain.seen.digest()


def test_another_seed_plays_another_game() -> None:
    seen = []
    for seed in (3, 4):
        player = SeeingPlayer(4, 1)
        list(itertools.islice(moments(a_game(4, seed), player), 20))
        seen.append(player.seen.digest())
    assert seen[0] != seen[1]


def test_the_video_of_a_game_has_every_picture(tmp_path: Path) -> None:
    clock, tape = FakeClock(), TapedScreen([])
    video = VideoScreen(tmp_path / "play.mp4", pictures_per_s=32, scale=1)
    screen = Both([tape, video])
    play_realtime(
        a_game(4), RandomPlayer(4, 1), screen, Pacer(0.03125, clock.now, clock.sleep),
        RealtimeSettings(1.0, 32, 2), lambda: True,
    )  # fmt: skip
    screen.close()
    with av.open(str(video.path)) as container:
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(images) == len(tape.pictures) == 32
    for image, picture in zip(images, tape.pictures, strict=True):
        assert np.abs(image[:, :160].astype(int) - picture.frame).mean() < 8  # lossy, but this frame and no other

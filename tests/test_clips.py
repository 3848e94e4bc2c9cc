"""Clips: the beginning of the very episode that an evaluation scores, as it looked."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from rl.clips import film
from rl.frames import stack_blocks
from rl.games import ScalarGame
from rl.loop import Strays
from rl.scores import Protocol
from tests.training_cases import NATURE

RULES = Protocol("nature", dataclasses.replace(NATURE, max_frames=240), 0.25, 3, 11)


def act(stacks):
    """Some function of what is seen, for any number of games."""
    return stacks.astype(np.int64).sum(axis=(1, 2, 3)) % 4


def plain(rules):
    """Pictures of one episode, frame by frame; each the brighter of its decision's last two frames."""
    game = ScalarGame("Breakout", rules.env, rules.seed)
    strays, obs, pictures, over = Strays(rules.epsilon, 4, rules.seed), game.reset(), [], False
    while not over:
        game.open(strays.instead(int(act(stack_blocks(obs[None]))[0])))
        screens = []
        for _ in range(rules.env.frames_per_step):
            game.advance(1)
            screens.append(game.screen())
        step = game.close()
        pictures.append(np.where(screens[-1] > screens[-2], screens[-1], screens[-2]))
        obs, over = step.obs, step.ended
    return np.stack(pictures)


def test_a_clip_shows_the_first_episode_of_the_protocol_to_its_end():
    clip = film(act, "Breakout", RULES)
    assert clip.pictures.shape == (60, 210, 160, 3)  # 240 frames
    assert np.array_equal(clip.pictures, plain(RULES))
    assert clip.period_s == 4 / 60


def test_another_seed_shows_another_episode():
    other = film(act, "Breakout", dataclasses.replace(RULES, seed=12))
    assert not np.array_equal(other.pictures, plain(RULES))


@pytest.mark.parametrize(("frames_per_step", "seconds", "pictures"), [(4, 1.0, 15), (2, 0.5, 15), (4, 0.0, 1)])
def test_a_clip_is_as_long_as_asked_in_the_consoles_time(frames_per_step, seconds, pictures):
    rules = dataclasses.replace(RULES, env=dataclasses.replace(RULES.env, frames_per_step=frames_per_step))
    clip = film(act, "Breakout", rules, seconds)
    assert np.array_equal(clip.pictures, np.stack(list(itertools.islice(plain(rules), pictures))))

"""The scalar game is the vector game's twin, bit for bit: pictures, rewards, flags, over many resets."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rl.frames import BlockStacks, blocks, stack_blocks
from rl.games import EnvSettings, ScalarGame, VectorGame

NATURE = EnvSettings(frames_per_step=4, sticky=0.0, noop_max=30, full_actions=False, max_frames=108_000)
STICKY = dataclasses.replace(NATURE, sticky=0.25, noop_max=1, full_actions=True)
FAST = dataclasses.replace(NATURE, frames_per_step=2, sticky=0.25, max_frames=501)
CAPPED = dataclasses.replace(NATURE, max_frames=403, sticky=0.25)  # no multiple of a step

CASES = [
    pytest.param("Pong", NATURE, 1100, marks=pytest.mark.slow, id="Pong-whole"),
    ("Pong", dataclasses.replace(CAPPED, sticky=0.0), 150),
    ("Breakout", NATURE, 300),
    ("Breakout", CAPPED, 250),
    ("SpaceInvaders", STICKY, 400),
    ("MsPacman", FAST, 300),
    ("Freeway", CAPPED, 130),
    ("Adventure", dataclasses.replace(NATURE, sticky=0.5, noop_max=1), 360),  # over with a life left
]


class Twin:
    """A scalar game that begins its next episode by itself, as the vector game does."""

    def __init__(self, game: str, env: EnvSettings, seed: int) -> None:
        self._game = ScalarGame(game, env, seed)
        self.obs = self._game.reset()
        self.lives = self._game.lives

    def step(self, action):
        step = self._game.step(action)
        self.obs = self._game.reset() if step.ended else step.obs
        return step


@pytest.mark.parametrize(("game", "env", "steps"), CASES)
def test_scalar_game_equals_vector_game(game, env, steps):
    seed, n = 11, 2
    games, twins = VectorGame(game, env, n, seed, threads=1), [Twin(game, env, seed + i) for i in range(n)]
    assert [*games.lives] == [twin.lives for twin in twins]
    stacks = BlockStacks(blocks(games.first))
    rng, ended = np.random.default_rng(3), 0
    for t in range(steps):
        actions = rng.integers(len(games.actions), size=n)
        step = games.step(actions)
        stacks.push(blocks(step.first), step.ended)
        for i, twin in enumerate(twins):
            own = twin.step(int(actions[i]))
            found = (step.reward[i], step.life_lost[i], step.terminated[i], step.truncated[i])
            assert found == (own.reward, own.life_lost, own.terminated, own.truncated), f"step {t} of game {i}"
            assert np.array_equal(step.frames[i], own.obs[-1]), f"step {t} of game {i}"
            ended += own.ended
        assert np.array_equal(stacks.now, stack_blocks(np.stack([twin.obs for twin in twins]))), f"step {t}"
    games.close()
    assert ended, "the case shows no episode's end: make it longer"


def test_a_step_in_two_halves_is_the_step():
    whole, halves = ScalarGame("Breakout", CAPPED, 5), ScalarGame("Breakout", CAPPED, 5)
    assert np.array_equal(whole.reset(), halves.reset())
    rng, ended = np.random.default_rng(1), 0
    for _ in range(300):
        action = int(rng.integers(len(whole.actions)))
        one = whole.step(action)
        halves.open(action)
        halves.advance(2)
        halves.advance(2)
        two = halves.close()
        assert np.array_equal(one.obs, two.obs)
        for name in ("reward", "life_lost", "terminated", "truncated"):
            assert getattr(one, name) == getattr(two, name)
        if one.ended:
            ended += 1
            assert np.array_equal(whole.reset(), halves.reset())
    assert ended


def test_frames_beyond_the_step_are_not_run():
    game = ScalarGame("Pong", NATURE, 5)
    game.reset()
    before = game._ale.getEpisodeFrameNumber()
    game.open(0)
    game.advance(3)
    game.advance(3)
    game.close()
    assert game._ale.getEpisodeFrameNumber() - before == 4

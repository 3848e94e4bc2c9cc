"""Games by name and seed: what is refused, what a life, a cap and a seed do."""

from __future__ import annotations

import dataclasses

import ale_py
import numpy as np
import pytest
from ale_py import roms
from ale_py.registration import rom_id_to_name

from rl.games import EnvSettings, ScalarGame, VectorGame, action_meanings, rom_id, rom_path
from rl.settings import SettingsError

ENV = EnvSettings(frames_per_step=4, sticky=0.0, noop_max=30, full_actions=False, max_frames=108_000)


def first_frames(seed, game="Breakout", steps=40, env=ENV):
    games = VectorGame(game, env, 3, seed, 1)
    rng = np.random.default_rng(0)
    seen = [games.first] + [games.step(np.full(3, rng.integers(len(games.actions)))).frames for _ in range(steps)]
    games.close()
    return np.stack(seen)


def test_a_game_of_two_players_alone_is_refused_where_ale_would_end_the_process():
    ids = {name: rom_id_to_name(name) for name in roms.get_all_rom_ids()}
    two = [game for rom, game in ids.items() if ale_py.ALEInterface.isSupportedROM(roms.get_rom_path(rom)) is None]
    assert set(two) == {"Combat", "Joust", "MazeCraze", "Warlords"}
    for game in two:
        with pytest.raises(SettingsError, match=rf"^game: found '{game}', which ALE has as a game of two players"):
            rom_id(game)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Pnog", r"^game: found 'Pnog', no such game among the \d+ of ALE; did you mean .*Pong.*\?$"),
        ("ms_pacman", r"did you mean MsPacman"),
        ("pong", r"did you mean Pong"),
        ("", r"found '', no such game among the \d+ of ALE; see ale_py.roms$"),
    ],
)
def test_an_unknown_game_is_answered_with_the_nearest_names(name, message):
    with pytest.raises(SettingsError, match=message):
        rom_id(name)
    with pytest.raises(SettingsError, match=message):
        VectorGame(name, ENV, 1, 0, 1)
    with pytest.raises(SettingsError, match=message):
        ScalarGame(name, ENV, 0)


def test_names_become_rom_ids():
    assert [rom_id(name) for name in ("Pong", "MsPacman", "SpaceInvaders")] == ["pong", "ms_pacman", "space_invaders"]
    assert rom_path("Pong").exists()


def test_actions_are_the_games_own_or_all_18():
    assert action_meanings("Pong", ENV) == ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE")
    assert action_meanings("Freeway", ENV) == ("NOOP", "UP", "DOWN")
    everything = dataclasses.replace(ENV, full_actions=True)
    assert len(action_meanings("Freeway", everything)) == 18
    games = VectorGame("Freeway", everything, 2, 0, 1)
    assert games.actions == action_meanings("Freeway", everything) == ScalarGame("Freeway", everything, 0).actions
    games.close()


def test_the_same_seed_gives_the_same_games_and_another_gives_others():
    assert np.array_equal(first_frames(7), first_frames(7))
    assert not np.array_equal(first_frames(7), first_frames(1007))


def test_envs_are_seeded_one_apart():
    assert np.array_equal(first_frames(7)[:, 1:], first_frames(8)[:, :2])


@pytest.mark.parametrize("seed", [-1, 2**31 - 2, 2**31, 2**40])
def test_a_seed_that_the_native_envs_cannot_take_is_refused(seed):
    with pytest.raises(SettingsError, match=rf"^seed: found {seed}, allowed 0 to {2**31 - 3}$"):
        VectorGame("Pong", ENV, 3, seed, 1)


def test_the_largest_seed_plays():
    seed = 2**31 - 1
    games, twin = VectorGame("Pong", ENV, 1, seed, 1), ScalarGame("Pong", ENV, seed)
    assert np.array_equal(games.first[0], twin.reset()[-1])
    games.close()
    with pytest.raises(SettingsError, match=rf"^seed: found {2**31}, allowed 0 to {seed}$"):
        ScalarGame("Pong", ENV, 2**31)


def test_no_game_at_all_is_refused():
    with pytest.raises(SettingsError, match=r"^envs: found 0, allowed 1 or more$"):
        VectorGame("Pong", ENV, 0, 1, 1)


class Unreached:
    """Stands for the native workers, which never answer an action that does not exist."""

    def send(self, actions):
        raise LookupError("the action reached the native workers")


@pytest.mark.parametrize("actions", [[0, 6], [-1, 0], [0], [0, 0, 0], [[0, 0]], [0, 2**32]])
def test_an_action_out_of_range_never_reaches_the_native_workers(actions):
    games = VectorGame("Pong", ENV, 2, 0, 1)
    native, games._env = games._env, Unreached()
    with pytest.raises(AssertionError, match=r"^actions"):
        games.send(np.array(actions))
    with pytest.raises(LookupError):
        games.send(np.array([0, 5]))
    native.close()


@pytest.mark.parametrize("action", [-1, 6])
def test_an_action_out_of_range_is_refused_by_the_scalar_game(action):
    game = ScalarGame("Pong", ENV, 0)
    game.reset()
    with pytest.raises(AssertionError, match=f"^action {action} of 6"):
        game.step(action)


def test_a_step_before_the_reset_is_refused():
    with pytest.raises(AssertionError, match=r"^reset first"):
        ScalarGame("Pong", ENV, 0).step(0)


def test_a_lost_life_is_no_end_until_the_last_one():
    games = VectorGame("Breakout", ENV, 2, 4, 1)
    rng = np.random.default_rng(1)
    lost, ended = np.zeros(2, int), np.zeros(2, bool)
    while not ended.all():
        step = games.step(rng.integers(4, size=2))
        assert not (step.life_lost & step.ended).any()
        assert not step.truncated.any()
        assert (games.lives[step.terminated] == 5).all(), "the next episode begins at once"
        lost += step.life_lost & ~ended
        ended |= step.terminated
    games.close()
    assert lost.tolist() == [4, 4]


def test_the_frame_cap_truncates_at_the_frame_it_names():
    capped = dataclasses.replace(ENV, max_frames=42)
    games = VectorGame("Pong", capped, 2, 4, 1)
    flags = [games.step(np.zeros(2, np.int64)) for _ in range(23)]
    games.close()
    ends = [t for t, step in enumerate(flags, start=1) if step.truncated.all()]
    assert ends == [11, 22]  # the 11th step holds frames 41 and 42
    assert not any(step.terminated.any() for step in flags)
    fresh = flags[10]
    assert not np.array_equal(fresh.first, fresh.frames)
    assert np.array_equal(flags[9].first, flags[9].frames)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames_per_step": 1}, "^env.frames_per_step: found 1, allowed 2 or more$"),
        ({"sticky": 1.0}, "^env.sticky: found 1.0, allowed 0 to below 1$"),
        ({"sticky": float("nan")}, "^env.sticky: found nan"),
        ({"noop_max": 0}, "^env.noop_max: found 0, allowed 1 or more$"),
        ({"max_frames": 3}, "^env.max_frames: found 3, allowed at least one step$"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(SettingsError, match=message):
        dataclasses.replace(ENV, **change)


def test_the_colour_screen_is_drawn_between_two_frames():
    game = ScalarGame("Pong", ENV, 0)
    game.reset()
    game.open(game.actions.index("RIGHT"))
    game.advance(2)
    screen = game.screen()
    assert screen.shape == (210, 160, 3)
    assert screen.dtype == np.uint8
    assert screen.any()
    game.close()
    assert ale_py.__version__.startswith("0.12"), "the twin repeats the rules of 0.12"

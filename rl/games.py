"""Games: names, settings, many at once (native vector env) and one at a time (its bit-exact scalar twin).

The twin exists because the vector env can neither be drawn nor stopped between two frames; the rules that it repeats
are those of ale-py's C++ vector env, and a test holds the two equal frame by frame.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import ale_py
import numpy as np
from ale_py import roms
from ale_py.registration import rom_id_to_name
from ale_py.vector_env import AtariVectorEnv
from numpy.typing import NDArray

from rl.frames import SIDE, STACK, Frames, resize
from rl.loop import Step
from rl.settings import SettingsError, need

FRAMES_PER_SECOND = 60  # of the console
SEEDS = 2**31 - 2**16  # the native envs take 31 bits; seeds counted up from below this stay there

# What decides how a picture and its actions come about; frame caps and no-op starts only decide where play begins.
PREPROCESSING = ("frames_per_step", "full_actions")


@dataclass(frozen=True)
class EnvSettings:
    """How a game is run; part of every protocol."""

    frames_per_step: int  # emulator frames a decision
    sticky: float  # probability a frame that the last action is repeated
    noop_max: int  # frames of doing nothing after a reset: uniform below this
    full_actions: bool  # all 18 actions instead of the game's own
    max_frames: int  # cut off after so many frames

    def __post_init__(self) -> None:
        need(self.frames_per_step >= 2, "env.frames_per_step", self.frames_per_step, "2 or more")
        need(0 <= self.sticky < 1, "env.sticky", self.sticky, "0 to below 1")
        need(self.noop_max >= 1, "env.noop_max", self.noop_max, "1 or more")
        need(self.max_frames >= self.frames_per_step, "env.max_frames", self.max_frames, "at least one step")


def rom_id(game: str) -> str:
    """The ROM of a game by its ALE name ("MsPacman" -> "ms_pacman")."""
    ids = {rom_id_to_name(rom): rom for rom in roms.get_all_rom_ids()}
    if game in ids:
        return _supported(ids[game], game)
    lower = {name.lower(): name for name in ids}
    near = difflib.get_close_matches(game.lower().replace("_", ""), lower, n=3, cutoff=0.5)
    advice = "did you mean " + ", ".join(lower[name] for name in near) + "?" if near else "see ale_py.roms"
    raise SettingsError(f"game: found {game!r}, no such game among the {len(ids)} of ALE; {advice}")


def _supported(rom: str, game: str) -> str:
    """A ROM that ALE can load: asked to load another, it would end the process."""
    if ale_py.ALEInterface.isSupportedROM(str(roms.get_rom_path(rom))) is None:
        raise SettingsError(f"game: found {game!r}, which ALE has as a game of two players alone; try another")
    return rom


def rom_path(game: str) -> Path:
    """The ROM file of a game, which the wheel of ale-py brings along."""
    path = roms.get_rom_path(rom_id(game))
    assert path is not None
    return path


def action_meanings(game: str, env: EnvSettings) -> tuple[str, ...]:
    """Meanings of a game's actions by action id ("NOOP", "FIRE", ...)."""
    return tuple(action.name for action in _action_set(_load(game, env, seed=0), env))


def _load(game: str, env: EnvSettings, seed: int) -> ale_py.ALEInterface:
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", env.sticky)
    ale.setInt("random_seed", seed)
    ale.loadROM(rom_path(game))  # last: it takes the settings above as they stand
    return ale


def _action_set(ale: ale_py.ALEInterface, env: EnvSettings) -> list[ale_py.Action]:
    return list(ale.getLegalActionSet() if env.full_actions else ale.getMinimalActionSet())


@dataclass(frozen=True, eq=False)
class VectorStep:
    """One step of B games."""

    frames: Frames  # [B, 84, 84]  newest frame; the last one of an episode where it ended
    first: Frames  # [B, 84, 84]  where an episode ended, the first frame of the next one; elsewhere `frames`
    reward: NDArray[np.float32]  # [B]  raw
    life_lost: NDArray[np.bool_]  # [B]  a life went, the episode goes on
    terminated: NDArray[np.bool_]  # [B]  game over
    truncated: NDArray[np.bool_]  # [B]  frame cap

    @property
    def ended(self) -> NDArray[np.bool_]:
        return self.terminated | self.truncated


class VectorGame:
    """B games in lockstep; `send` returns at once, so that a caller can learn until `recv`."""

    def __init__(self, game: str, env: EnvSettings, n: int, seed: int, threads: int) -> None:
        need(n >= 1, "envs", n, "1 or more")
        need(0 <= seed <= 2**31 - n, "seed", seed, f"0 to {2**31 - n}")
        self._env = AtariVectorEnv(
            rom_id(game),
            n,
            num_threads=threads,
            max_num_frames_per_episode=env.max_frames,
            repeat_action_probability=env.sticky,
            full_action_space=env.full_actions,
            stack_num=1,
            frameskip=env.frames_per_step,
            noop_max=env.noop_max,
            life_loss_info=True,
            reward_clipping=False,
        )
        self._cap = env.max_frames
        self.n = n
        self.actions = action_meanings(game, env)
        frames, info = self._env.reset(seed=np.arange(seed, seed + n, dtype=np.int64))
        self.first: Frames = frames[:, 0]
        self.lives: NDArray[np.int32] = info["lives"]
        self._start: NDArray[np.int32] = info["episode_frame_number"].copy()

    def send(self, actions: NDArray[np.int64]) -> None:
        """Start one step of all games; actions [B]."""
        # The native workers never answer an action that does not exist, so it must not reach them.
        assert actions.shape == (self.n,), f"actions {list(actions.shape)} for {self.n} games"
        assert np.isin(actions, range(len(self.actions))).all(), f"actions {actions} of {len(self.actions)}"
        self._env.send(actions)

    def recv(self) -> VectorStep:
        """Wait for the step and begin a new episode wherever one ended."""
        obs, reward, over, cut, info = self._env.recv()
        frames, before, self.lives = obs[:, 0], self.lives, info["lives"]
        terminated = over & ~((self.lives > 0) & (self.lives < before))  # Adventure is over with a life left
        # At the cap a life lost in the same step would hide the cut: the frame counter decides.
        truncated = ~terminated & (cut | (info["episode_frame_number"] - self._start >= self._cap))
        ended = terminated | truncated
        first = self._begin(ended, frames) if ended.any() else frames
        life_lost = over & ~ended
        return VectorStep(frames, first, reward.astype(np.float32), life_lost, terminated, truncated)

    def step(self, actions: NDArray[np.int64]) -> VectorStep:
        self.send(actions)
        return self.recv()

    def _begin(self, ended: NDArray[np.bool_], frames: Frames) -> Frames:
        obs, info = self._env.reset(options={"reset_mask": ended})
        self._start[ended] = info["episode_frame_number"][ended]
        self.lives = np.where(ended, info["lives"], self.lives)
        return np.where(ended[:, None, None], obs[:, 0], frames)

    def close(self) -> None:
        self._env.close()


class ScalarGame:
    """One game, frame by frame, with its colour screen; otherwise the vector env's twin, bit for bit."""

    def __init__(self, game: str, env: EnvSettings, seed: int) -> None:
        need(0 <= seed < 2**31, "seed", seed, f"0 to {2**31 - 1}")
        self._ale = _load(game, env, seed)
        self._env = env
        self._action_set = _action_set(self._ale, env)
        self._noops = _NoopStream(seed, env.noop_max)
        self.actions = tuple(action.name for action in self._action_set)
        self.frames_per_step = env.frames_per_step
        self._raw = np.zeros((2, *self._ale.getScreenDims()), np.uint8)
        self._stack: Frames = np.zeros((STACK, SIDE, SIDE), np.uint8)
        self._frames = self._done = 0
        self._action, self._reward, self._lives, self._over = 0, 0.0, 0, True

    @property
    def lives(self) -> int:
        return int(self._ale.lives())

    def reset(self) -> Frames:
        """Begin an episode: FIRE where the game has it, then a random number of no-ops. Stack [4, 84, 84]."""
        fire = ale_py.Action.FIRE in self._action_set
        self._ale.reset_game()
        if fire:
            self._ale.act(ale_py.Action.FIRE)
        for _ in range(self._noops.draw() - fire):
            self._ale.act(ale_py.Action.NOOP)
            if self._ale.game_over():
                self._ale.reset_game()
        self._frames, self._over = 0, False
        self._raw[1], self._stack = 0, np.zeros_like(self._stack)
        self._ale.getScreenGrayscale(self._raw[0])
        return self._push()

    def step(self, action: int) -> Step:
        """One decision."""
        self.open(action)
        self.advance(self._env.frames_per_step)
        return self.close()

    def open(self, action: int) -> None:
        """Begin a step of `frames_per_step` frames."""
        assert not self._over, "reset first: the episode is over"
        assert 0 <= action < len(self._action_set), f"action {action} of {len(self._action_set)}"
        self._action, self._reward, self._done, self._lives = action, 0.0, 0, self._ale.lives()

    def advance(self, frames: int) -> None:
        """Run so many emulator frames of the open step, fewer where it or the episode is over."""
        for _ in range(min(frames, self._env.frames_per_step - self._done)):
            if self._over:
                return
            self._reward += self._ale.act(self._action_set[self._action])
            self._done += 1
            self._frames += 1
            self._over = self._ale.game_over() or self._frames >= self._env.max_frames
            left = self._env.frames_per_step - self._done
            if not self._over and left < 2:  # the last two frames are pooled; an episode's end keeps stale ones
                self._ale.getScreenGrayscale(self._raw[left])

    def close(self) -> Step:
        """End the open step."""
        terminated = bool(self._ale.game_over())
        lives = self._ale.lives()
        life_lost = 0 < lives < self._lives and not self._over
        return Step(self._push(), float(self._reward), life_lost, terminated, self._over and not terminated)

    def screen(self) -> Frames:
        """The colour screen [210, 160, 3] as it stands."""
        return self._ale.getScreenRGB()

    def _push(self) -> Frames:
        np.maximum(self._raw[0], self._raw[1], out=self._raw[0])
        self._stack = np.concatenate([self._stack[1:], resize(self._raw[0])[None]])
        return self._stack


class _NoopStream:
    """The no-op counts of one env over its life, as the vector env's C++ library draws them from mt19937."""

    def __init__(self, seed: int, bound: int) -> None:
        self._rng, self._bound = np.random.RandomState(seed), bound

    def draw(self) -> int:
        """Uniform in 0 .. bound - 1: the high half of word x bound, biased low halves refused (Lemire)."""
        floor = (1 << 32) % self._bound
        while True:
            product = int(self._rng.randint(0, 1 << 32, dtype=np.uint32)) * self._bound
            if product & 0xFFFFFFFF >= floor:
                return product >> 32

"""The trainer: envs, memory and learner of a teacher, a step at a time."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl.agent import Agent, AgentSettings, DoubleDqn, Gradients
from rl.checkpoint import PolicyCheckpoint, half, load_policy
from rl.clips import Clip, film
from rl.device import CPU, DEVICES, device_named, processors
from rl.device_agent import DeviceDqn
from rl.device_replay import DeviceReplay
from rl.exploration import Exploration, epsilon_at
from rl.frames import STACK, BlockStacks, Frames, blocks
from rl.games import PREPROCESSING, SEEDS, EnvSettings, VectorGame, VectorStep
from rl.manifest import versions
from rl.network import NetworkSettings
from rl.parallel import ALONE, Team
from rl.pqn import Pqn, PqnSettings, Rollouts
from rl.predictions import Predictions
from rl.replay import Replay
from rl.scores import Protocol, Score, evaluate, rules_of
from rl.settings import SettingsError, need, need_begun_alike
from rl.training_state import Saved, StateStore

ALGOS = ("ddqn", "pqn")
MARKS = "replay."  # in a state: what the replay knows of its rows
SHARES = ("sample", "act", "learn", "env", "note")  # of a step: what the trainer itself does, or waits for


@dataclass(frozen=True)
class TeacherSettings:
    """A training run; see conf/teacher.yaml."""

    algo: str  # ddqn | pqn
    start: str | None  # file of a policy that learning goes on from; None: from nothing
    seed: int
    device: str  # auto | cpu | cuda
    train_frames: int
    envs: int
    env_threads: int  # 0: one beside a learner on the processor, all but two where a GPU learns
    learner_threads: int
    replay_rows: int
    learn_start_frames: int
    updates_per_step: int
    epsilon_final: float
    epsilon_decay_frames: int
    stray_steps: int  # that a random action lasts at the longest
    rate_decay_frames: int
    rate_hold_frames: int
    rate_final: float
    checkpoint_s: float
    eval_frames: int
    eval_episodes: int
    confirm_episodes: int  # 0: the evaluation is enough
    stop_score: float | None
    report_episodes: int
    network: NetworkSettings
    agent: AgentSettings
    pqn: PqnSettings  # of algo=pqn alone

    def __post_init__(self) -> None:
        counts = "train_frames envs learner_threads updates_per_step epsilon_decay_frames rate_decay_frames eval_frames"
        for name in (*counts.split(), "eval_episodes", "report_episodes"):
            need(getattr(self, name) >= 1, f"teacher.{name}", getattr(self, name), "1 or more")
        need(self.algo in ALGOS, "teacher.algo", self.algo, " or ".join(ALGOS))
        need(self.env_threads >= 0, "teacher.env_threads", self.env_threads, "0 (by the device) or more")
        need(self.device in DEVICES, "teacher.device", self.device, ", ".join(DEVICES))
        need(self.confirm_episodes >= 0, "teacher.confirm_episodes", self.confirm_episodes, "0 (none) or more")
        need(self.seed >= 0, "teacher.seed", self.seed, "0 or more")
        need(self.stray_steps >= 1, "teacher.stray_steps", self.stray_steps, "1 or more")
        need(0 <= self.epsilon_final <= 1, "teacher.epsilon_final", self.epsilon_final, "0 to 1")
        need(self.rate_hold_frames >= 0, "teacher.rate_hold_frames", self.rate_hold_frames, "0 or more")
        need(0 <= self.rate_final <= 1, "teacher.rate_final", self.rate_final, "0 to 1")
        if self.algo == "ddqn":
            # A sample reaches over its stack and its n steps; twice that leaves something to choose from.
            least = 2 * self.envs * (self.agent.n_steps + STACK)
            fits = self.replay_rows >= least
            need(fits, "teacher.replay_rows", self.replay_rows, f"{least} or more for so many envs")
        else:
            made, learnt = self.envs * self.pqn.epochs, self.agent.batch * self.updates_per_step
            need(made == learnt, "teacher.agent.batch", self.agent.batch, "envs * epochs / updates_per_step with pqn")


@dataclass(frozen=True)
class TeacherRun:
    """The command's settings."""

    name: str
    root: str
    env: EnvSettings
    teacher: TeacherSettings

    def __post_init__(self) -> None:
        own, step = self.teacher, self.env.frames_per_step
        low, high = 2 * own.envs * (own.agent.n_steps + 1) * step, own.replay_rows // own.envs * own.envs * step
        # Above it the replay would never be full enough; PQN has none.
        fits = own.algo == "pqn" or low <= own.learn_start_frames <= high
        need(fits, "teacher.learn_start_frames", own.learn_start_frames, f"{low} to {high} with this replay")


def device_of(own: TeacherSettings) -> torch.device:
    """Where a run learns; PQN has no form of its own for a GPU. Raises SettingsError for a device that is not there."""
    device = device_named(own.device)
    need(own.algo != "pqn" or own.device != "cuda", "teacher.device", own.device, "auto or cpu with algo=pqn")
    return CPU if own.algo == "pqn" else device


def env_threads(own: TeacherSettings, device: torch.device) -> int:
    """Threads that play. The native workers spin while they wait: beside a learner on the processor one is enough."""
    if own.env_threads:
        return own.env_threads
    return 1 if device == CPU else max(1, processors() - 2)


def _need_start(config: TeacherRun, team: Team) -> None:
    """Each process of a team begins with its part of the frames, which must suffice to sample from."""
    if team.size == 1 or config.teacher.algo == "pqn":  # which begins with its first rollout
        return
    low = team.size * 2 * config.teacher.envs * (config.teacher.agent.n_steps + 1) * config.env.frames_per_step
    start, allowed = config.teacher.learn_start_frames, f"{low} or more for {team.size} processes"
    need(start >= low, "teacher.learn_start_frames", start, allowed)


def rate_at(frames: int, own: TeacherSettings) -> float:
    """Learning rate: flat, over `rate_decay_frames` linear down to a share `rate_final` of it, held to the end."""
    left = min(1.0, max(0, own.train_frames - own.rate_hold_frames - frames) / own.rate_decay_frames)
    return own.agent.learning_rate * (own.rate_final + (1 - own.rate_final) * left)


def load_start(config: TeacherRun, actions: tuple[str, ...]) -> PolicyCheckpoint:
    """The policy that a run begins as. Raises SettingsError unless it sees, does and is shaped as what will learn."""
    own, where = config.teacher, f"teacher.start: {config.teacher.start}"
    path = Path(str(own.start))
    if not path.exists():
        raise SettingsError(f"{where} does not exist; name a policy, models/GAME/teacher.safetensors")
    policy = load_policy(path)
    policy.require(config.name, actions, where)
    apart = [name for name in PREPROCESSING if getattr(policy.env, name) != getattr(config.env, name)]
    if policy.network != own.network:
        apart.append("network")
    if apart:
        raise SettingsError(
            f"{where}: trained with another {', '.join(apart)}; say the same here, or start from nothing"
        )
    return policy


def frames_behind(policy: PolicyCheckpoint) -> int:
    """Frames that a policy has learnt from, with those of the one that it began as."""
    before = policy.training.get("start") or {"frames": 0}
    return int(policy.training["frames"]) + int(before["frames"])


class Trainer:
    """Acts, plays and learns at once: a step's gradients are computed while its actions are chosen and played.

    Bit for bit the same on the same machine from the same settings: both only read the nets, and gradients are added in
    a fixed order. `env_threads` may differ, `learner_threads` (the order of sums) may not; a resumed run is another.
    """

    def __init__(self, config: TeacherRun, folder: Path, team: Team = ALONE) -> None:
        self._config, self._own, self.team = config, config.teacher, team
        _need_start(config, team)
        torch.set_num_threads(1)  # learners are threads of ours
        torch.manual_seed(self._own.seed)
        self._rng = np.random.default_rng([self._own.seed, team.rank] if team.rank else self._own.seed)
        self._store = StateStore(team.folder(folder) / "state", self._identity())
        saved = self._store.newest()
        facts: dict[str, Any] = saved.facts if saved else {"frames": 0, "wall_s": 0.0, "best": None}
        self.start: dict[str, Any] | None = team.share(facts.get("start"))  # the policy that it began as
        if saved:
            need_begun_alike(str(folder), "teacher.start", self.start, self._own.start)
        self.frames: int = team.share(facts["frames"])
        self._wall_s: float = team.share(facts["wall_s"])
        self.best: float | None = team.share(facts["best"])  # the best evaluation, whose policy is kept
        self.judged: int = facts.get("judged", -1)  # frames of the last evaluation
        # Envs cannot be saved: a resumed run begins new episodes, from seeds that no earlier part has used.
        env_seed = self._own.seed + 1000 * (1 + self.frames) + SEEDS // team.size * team.rank
        device = device_of(self._own)
        self._env_threads = env_threads(self._own, device)
        self._games = VectorGame(config.name, config.env, self._own.envs, env_seed % SEEDS, self._env_threads)
        self._replay: Replay | None = None
        self._rollouts: Rollouts | None = None
        self._equip(device)
        self._stacks = BlockStacks(blocks(self._games.first))
        self._exploration = Exploration(self._own.envs, len(self.actions), self._own.stray_steps)
        self._open = np.zeros(self._own.envs)  # running returns
        self._step_frames = self.team.size * self._own.envs * config.env.frames_per_step
        self._returns: deque[float] = deque(maxlen=50)
        self.predictions = Predictions(self._own.envs, self._own.agent.gamma)
        self._shares = dict.fromkeys(SHARES, 0.0)
        self.resumed = saved is not None
        self._all_ready = False
        if saved:
            self._resume(saved)
        elif self._own.start:
            self._begin_as(load_start(config, self.actions))
        if team.size > 1:
            self._agent.average = team.average
            self._agent.load(team.share(self._agent.state()))

    def _identity(self) -> dict[str, Any]:
        """What a run cannot change half-way."""
        own = self._own
        shape = {"algo": own.algo, "envs": own.envs, "replay_rows": own.replay_rows, "network": asdict(own.network)}
        shape |= {"quantiles": own.agent.quantiles, "dueling": own.agent.dueling}
        return {"game": self._config.name, "env": asdict(self._config.env), **shape}

    def _equip(self, device: torch.device) -> None:
        """The learner and what it learns from."""
        own = self._own
        net = len(self._games.actions), own.network, own.agent
        prioritised = own.agent.n_steps if own.agent.prioritised else 0
        self._agent: Agent[Any]
        if own.algo == "pqn":
            self._agent = Pqn(*net, own.learner_threads)
            self._rollouts = Rollouts(own.envs, own.pqn, own.agent.gamma)
        elif device == CPU:
            self._agent = DoubleDqn(*net, own.learner_threads)
            self._replay = Replay(own.envs, own.replay_rows, self._games.first, prioritised)
        else:
            self._agent = DeviceDqn(*net, device)
            self._replay = DeviceReplay(own.envs, own.replay_rows, self._games.first, device, prioritised)

    def _resume(self, saved: Saved) -> None:
        if not self.team.rank:
            self._agent.load(saved.tensors)
        torch.set_rng_state(saved.tensors["torch_rng"])
        self._rng.bit_generator.state = saved.facts["rng"]
        self._returns.extend(saved.facts["returns"])
        if self._replay:
            self._replay.head[:] = 0
            for rows in saved.replay():
                self._replay.restore(rows)
            self._replay.start(self._games.first)
            marks = {k: saved.tensors[MARKS + k].numpy() for k in self._replay.marks() if MARKS + k in saved.tensors}
            self._replay.remark(marks)

    def _begin_as(self, policy: PolicyCheckpoint) -> None:
        self._agent.begin_as(policy.params)
        self.start = {"policy": policy.digest, "frames": frames_behind(policy)}

    @property
    def actions(self) -> tuple[str, ...]:
        return self._games.actions

    @property
    def wall_s(self) -> float:
        return self._wall_s

    def save(self) -> None:
        """A checkpoint: all that the run needs to go on. The first process of a team keeps the nets for all."""
        tensors = ({} if self.team.rank else self._agent.state()) | {"torch_rng": torch.get_rng_state()}
        marks = self._replay.marks() if self._replay else {}
        tensors |= {MARKS + name: torch.from_numpy(own) for name, own in marks.items()}
        facts = {
            "frames": self.frames,
            "wall_s": self._wall_s,
            "best": self.best,
            "judged": self.judged,
            "start": self.start,
            "rng": self._rng.bit_generator.state,
            "returns": list(self._returns),
        }
        self._store.save(tensors, facts, self._replay)

    def step(self) -> dict[str, float]:
        """One step of every env, learning meanwhile; the metrics of its last update."""
        start = time.monotonic()
        learning = self._begin()
        sampled = time.monotonic()
        stacks = self._stacks.now
        values = self._values(stacks)
        actions = self._exploration.choose(values.argmax(axis=1), self.epsilon, self._rng)
        self._games.send(actions)
        acted = time.monotonic()
        metrics = self._finish(learning)
        learned = time.monotonic()
        step = self._games.recv()  # all updates are done while the envs play
        played = time.monotonic()
        self._note(stacks, values, actions, step)
        end = time.monotonic()
        self.frames += self._step_frames
        self._wall_s += end - start
        spent = (sampled - start, acted - sampled, learned - acted, played - learned, end - played)
        for name, seconds in zip(self._shares, spent, strict=True):
            self._shares[name] += seconds
        return metrics

    def _values(self, stacks: Frames) -> NDArray[np.float32]:
        if isinstance(self._replay, DeviceReplay) and isinstance(self._agent, DeviceDqn):
            return self._agent.values(self._replay.newest())
        return self._agent.values(stacks)

    def _ready(self) -> bool:
        if self._rollouts:
            return self._rollouts.waiting > 0
        assert self._replay
        if not self._all_ready:  # a process that learned before the others would wait for gradients that never come
            held = self.team.size * self._replay.size * self._config.env.frames_per_step
            self._all_ready = not any(self.team.agree(held < self._own.learn_start_frames))
        return self._all_ready

    def _sample(self) -> Any:
        agent = self._own.agent
        if self._rollouts:
            return self._rollouts.sample(agent.batch)
        assert self._replay
        return self._replay.sample(self._rng, agent.batch, agent.n_steps, agent.gamma)

    def _begin(self) -> Gradients | None:
        """Start on this step's first update, which goes on while the nets act and the envs play."""
        return self._agent.begin(self._sample()) if self._ready() else None

    def _finish(self, learning: Gradients | None) -> dict[str, float]:
        """That update, and the others of this step."""
        if learning is None:
            return {}
        rate = rate_at(self.frames, self._own)
        metrics = self._agent.finish(learning, rate)
        self._learnt()
        for _ in range(1, self._own.updates_per_step):
            metrics = self._agent.learn(self._sample(), rate)
            self._learnt()
        if self._replay:
            metrics["replay/age_frames"] = self._replay.age * self._step_frames
        return metrics | {"train/learning_rate": self._agent.rate}

    def _learnt(self) -> None:
        if self._replay:
            self._replay.learnt(self._agent.losses)

    def _note(self, stacks: Frames, values: NDArray[np.float32], actions: NDArray[np.int64], step: VectorStep) -> None:
        if self._rollouts:
            self._rollouts.add(stacks, values.max(axis=1), actions, step, self._rng)
        if self._replay:
            self._replay.add(actions, step)
        if not isinstance(self._replay, DeviceReplay):  # which builds them itself, where they are needed
            self._stacks.push(blocks(step.first), step.ended)
        taken = values[np.arange(len(actions)), actions]
        self.predictions.note(taken, step.reward, step.terminated | step.life_lost, step.truncated)
        self._open += step.reward
        self._returns.extend(self._open[step.ended])
        self._open[step.ended] = 0

    @property
    def epsilon(self) -> float:
        if self.start:  # it knows how to play
            return self._own.epsilon_final
        return epsilon_at(self.frames, self._own.epsilon_final, self._own.epsilon_decay_frames)

    @property
    def score(self) -> float:
        """Mean raw return of the last 50 training episodes."""
        return float(np.mean(self._returns)) if self._returns else float("nan")

    def throughput(self) -> dict[str, float]:
        """Where the time went since the last call."""
        total = sum(self._shares.values()) or 1.0
        shares = {f"time/{name}_share": spent / total for name, spent in self._shares.items()}
        self._shares = dict.fromkeys(self._shares, 0.0)
        return shares

    def evaluate(self, episodes: int, act: Any = None, first: int = 0) -> Score:
        """Score the policy as it stands (or another) on seeds that training never uses, from number `first` on."""
        start, rules = time.monotonic(), self._rules(episodes, first)
        score = evaluate(act or self._agent.act, self._config.name, rules, self._env_threads, "teacher")
        self._wall_s += time.monotonic() - start
        return score

    def _rules(self, episodes: int, first: int = 0) -> Protocol:
        seed = (1_000_003 * self._own.seed + first) % SEEDS
        return rules_of(self._config.env, self._own.epsilon_final, episodes, seed)

    def film(self) -> Clip:
        """How the policy as it stands begins an evaluation."""
        start = time.monotonic()
        clip = film(self._agent.act, self._config.name, self._rules(1))
        self._wall_s += time.monotonic() - start
        return clip

    def policy(self, score: Score) -> PolicyCheckpoint:
        training = {"frames": self.frames, "wall_s": self._wall_s, "score": score.to_json(), "versions": versions()}
        training |= {"start": self.start} if self.start else {}
        params = half(self._agent.policy())
        own = self._own
        return PolicyCheckpoint(self._config.name, self.actions, self._config.env, own.network, params, training)

    def close(self) -> None:
        self._games.close()

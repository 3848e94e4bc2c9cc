"""make finetune: the distilled student learns on in the game itself; what comes out is kept only where it is better.

Policy gradient through the surrogate. The best of many evaluations is then played against the student it began as, on
seeds that chose neither; it takes that one's place only where it scores more.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from deploy.spec import StudentSpec, load_spec, save_spec
from distill.actor import Actor, Played, Seen, policy_gradient
from distill.beginning import Beginning, before, beginning, set_aside
from distill.export import export
from distill.judge import folded_act, share_of
from distill.latent import save_latent
from distill.learner import Goal, Learner, imitation
from distill.packing import packed
from distill.sources import spread
from distill.statistics import measure
from distill.student import Student
from distill.unfold import be_sure
from rl.board import Board, Ticker
from rl.checkpoint import load_optimiser, load_policy, optimiser_tensors, read_tensors, write_tensors
from rl.command import Stop, launch, only_one, run, settings
from rl.files import read_json, write_json
from rl.frames import Frames
from rl.games import SEEDS, EnvSettings
from rl.manifest import versions
from rl.scores import Score, evaluate, rules_of
from rl.settings import SettingsError, need
from rl.stages import TEACHER, find
from rl.statistics import geometric_mean

STATE = "spikecade-finetuning"
MEASURED, MEASURED_ROWS = 16, 128  # rollouts, and rows of each, by which is measured where a student plays
CHOOSING, PROVING = 3_000_017, 4_000_037  # first seeds of the evaluations that choose, and of the one that decides


@dataclass(frozen=True)
class FinetuneSettings:
    """See conf/finetune.yaml."""

    seed: int
    updates: int
    envs: int
    rollout_steps: int
    batch: int
    learning_rate: float
    bias_rate: float
    gamma: float
    trace: float
    entropy: float
    anchor: float
    temperature: float
    play_temperature: float
    still_levels: int
    hysteresis: float
    surrogate_width: float
    threads: int
    bf16: bool
    log_updates: int
    checkpoint_s: float
    eval_updates: int
    eval_episodes: int
    report_episodes: int
    epsilon: float

    def __post_init__(self) -> None:
        counts = "updates envs rollout_steps batch threads log_updates eval_updates eval_episodes report_episodes"
        for name in counts.split():
            need(getattr(self, name) >= 1, f"finetune.{name}", getattr(self, name), "1 or more")
        for name in ("gamma", "trace", "epsilon"):
            need(0 <= getattr(self, name) <= 1, f"finetune.{name}", getattr(self, name), "0 to 1")
        for name in ("seed", "entropy", "anchor", "still_levels", "bias_rate"):
            need(getattr(self, name) >= 0, f"finetune.{name}", getattr(self, name), "0 or more")
        for name in ("learning_rate", "temperature", "play_temperature"):
            need(getattr(self, name) > 0, f"finetune.{name}", getattr(self, name), "above 0")
        rows = self.envs * self.rollout_steps
        need(rows % self.batch == 0, "finetune.batch", self.batch, f"a divisor of envs * rollout_steps ({rows})")


@dataclass(frozen=True)
class FinetuneRun:
    """The command's settings."""

    name: str
    root: str
    env: EnvSettings
    finetune: FinetuneSettings

    @property
    def folder(self) -> Path:
        return Path(self.root) / self.name / "finetuned"

    @property
    def distilled(self) -> Path:
        return Path(self.root) / self.name / "student"


class Finetuner:
    """A student that plays, its optimiser, and the lessons that its play gives."""

    def __init__(self, config: FinetuneRun) -> None:
        own = self._own = config.finetune
        torch.set_num_threads(1)  # two of OpenMP spin at every operator; the threads that share a batch are ours
        self.config = config
        self.teacher = load_policy(find(TEACHER, config.name, config.root))
        self.begun = beginning(config.name, config.root, config.folder)
        student = self.begun.student
        levels = len(self.begun.shape.layers)  # and the front: at least the votes go on learning
        need(own.still_levels <= levels, "finetune.still_levels", own.still_levels, f"0 to {levels}")
        student.still = own.still_levels
        for level in student.normalised:
            level.frozen = True  # games in lockstep are all in the same night: a batch's statistics are not the game's
        student.log_scale.requires_grad_(False)  # else what is learnt could be to play at random: a chip does not
        self.head = next(i for i, head in enumerate(student.heads) if head.game == config.name)
        student.tune(own.hysteresis, own.surrogate_width, own.bias_rate)
        self.learner = Learner(student, own.learning_rate, own.threads, own.bf16)
        self._parts: list[Played] = []
        self.unit = 0.0  # of temperatures: the spread of the teacher's values where the student plays
        self.update, self.wall_s = 0, 0.0
        self._open()
        self.best: float | None = None

    def _open(self) -> None:
        """Games and draws that no earlier part of the run has had."""
        own = self._own
        self._actor = Actor(self.teacher, self.config.env, own.envs, (own.seed + 100_003 * self.update) % SEEDS)
        self._rng = np.random.default_rng([own.seed, self.update])

    def begin(self) -> None:
        """Before the first update: what is to be known of where it plays, and what integers alone do not tell."""
        student = self.student.eval()
        if self.begun.unfolded:  # to play as it does it must be as sure as it is
            self._be_sure(self._rollout())
        seen = list[Played]()
        with Ticker(MEASURED) as ticker:
            for done in range(1, MEASURED + 1):
                seen.append(self._rollout().cut(0, MEASURED_ROWS))
                ticker.show(done, "rollouts, to see where it plays")
        self.unit = spread(torch.cat([lesson.q for lesson in seen]).numpy())
        if self.begun.unfolded:
            self._be_sure(seen[-1])
            measure(student, (lesson.cells for lesson in seen))
        student.train()

    def _be_sure(self, seen: Played) -> None:
        unit = self.unit or spread(seen.q.numpy())
        be_sure(self.student, [replace(seen, unit=unit)], imitation("kl", self._own.temperature))

    @property
    def student(self) -> Student:
        return self.learner.student

    def step(self) -> dict[str, float]:
        """One update on some of the newest rollout; a new one is played where that is used up."""
        start, own = time.monotonic(), self._own
        if not self._parts:
            self._parts = self._play()
        lesson = self._parts.pop()
        loss = policy_gradient(own.entropy, own.anchor, own.temperature, own.play_temperature)
        goal = Goal(loss, own.learning_rate * (1 - self.update / own.updates), self.update)
        told = self.learner.finish(self.learner.begin([lesson], goal), goal)
        self.update += 1
        self.wall_s += time.monotonic() - start
        return told

    def _play(self) -> list[Played]:
        own = self._own
        played = replace(self._rollout(), unit=self.unit)
        order = torch.from_numpy(self._rng.permutation(len(played.q)))
        return [played.rows(rows) for rows in torch.split(order, own.batch)]

    def _rollout(self) -> Played:
        own = self._own
        return self._actor.rollout(self._seen, own.rollout_steps, own.gamma, own.trace)

    def _seen(self, stacks: Frames) -> Seen:
        student = self.student
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self._own.bf16):
            *levels, last = student.levels(torch.from_numpy(stacks), None)
            logits = student.logits(student.count(last.permute(0, 3, 1, 2)), self.head)
        still = packed(levels[student.still - 1]) if student.still else None
        return logits / self._own.play_temperature, still

    def folded(self) -> StudentSpec:
        """The student as integers: the very function that learns."""
        spec = export(self.student.eval())
        self.student.train()
        return spec

    def own_score(self) -> dict[str, float]:
        """Means of its newest play: points of a thousand decisions and, once an episode has ended, returns."""
        game, actor = self.config.name, self._actor
        told = {f"online/{game}_points": 1000 * float(np.mean(actor.points))} if actor.points else {}
        return told | ({f"online/{game}": float(np.mean(actor.returns))} if actor.returns else {})

    def save(self, path: Path) -> None:
        tensors = {f"student.{k}": v for k, v in self.student.state_dict().items()}
        tensors |= optimiser_tensors(self.learner.optimiser)
        facts: dict[str, Any] = {"update": self.update, "wall_s": self.wall_s, "best": self.best, "unit": self.unit}
        facts |= {"begun": self.begun.spec.digest}
        write_tensors(path, STATE, facts, tensors)

    def resume(self, path: Path) -> None:
        """Go on from a saved state; the games begin new episodes."""
        facts, tensors = read_tensors(path, STATE)
        if facts["begun"] != self.begun.spec.digest:
            raise SettingsError(f"{path}: begun from another student; remove {path.parent} to begin anew")
        self.student.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("student.")})
        load_optimiser(self.learner.optimiser, tensors)
        self.update, self.wall_s, self.best = facts["update"], facts["wall_s"], facts["best"]
        self.unit = facts.get("unit", 0.0)  # not noted once
        self._actor.close()
        self._open()

    def close(self) -> None:
        self._actor.close()


def score(config: FinetuneRun, spec: StudentSpec, episodes: int, seed: int) -> Score:
    """A folded student in the game."""
    own = config.finetune
    rules = rules_of(config.env, own.epsilon, episodes, seed)
    return evaluate(folded_act(spec, config.name), config.name, rules, 1, "student")


def finetune(config: FinetuneRun, tuner: Finetuner, board: Board, stop: Stop) -> bool:
    """Run to the end of the budget or to a signal; True when the job is done."""
    own, folder = config.finetune, config.folder
    if tuner.best is None:
        tuner.best = score(config, tuner.begun.spec, own.eval_episodes, CHOOSING).mean
        print(f"update 0: score {tuner.best:.2f}, what is to be passed")
    ticker, saved_s = Ticker(own.updates, tuner.update, unit="updates"), time.monotonic()
    while tuner.update < own.updates and not stop:
        told = tuner.step()
        if tuner.update % own.log_updates == 0:
            told |= tuner.own_score()
            board.write(tuner.update, told | tuner.learner.health(), tuner.wall_s)
            ticker.show(tuner.update, "  ".join(f"{k.split('/')[-1]} {v:.4f}" for k, v in told.items()))
        judged = tuner.update % own.eval_updates == 0 or tuner.update == own.updates
        if judged:
            ticker.say(_keep_best(config, tuner, board))
        if judged or time.monotonic() - saved_s >= own.checkpoint_s:
            tuner.save(folder / "state.safetensors")
            saved_s = time.monotonic()
    tuner.save(folder / "state.safetensors")
    return tuner.update >= own.updates


def _keep_best(config: FinetuneRun, tuner: Finetuner, board: Board) -> str:
    spec = tuner.folded()
    if spec.digest == tuner.begun.spec.digest:
        return f"update {tuner.update}: no weight and no threshold has moved yet; it plays as it began"
    found = score(config, spec, config.finetune.eval_episodes, CHOOSING)
    assert tuner.best is not None
    board.write(tuner.update, {"eval/mean_reward": found.mean, f"eval/{config.name}": found.mean}, tuner.wall_s)
    if found.mean > tuner.best:
        tuner.best = found.mean
        save_latent(tuner.student, tuner.begun.shape, spec.digest, config.folder / "latent.safetensors")
        own = {"finetuned_from": tuner.begun.spec.digest, "finetuned": {"update": tuner.update, "wall_s": tuner.wall_s}}
        more = {"env": asdict(config.env), "versions": versions()}
        save_spec(spec, config.folder / "student.npz", {**tuner.begun.made, **own, **more})
    return f"update {tuner.update}: score {found.mean:.2f} (best {tuner.best:.2f})"


def report(config: FinetuneRun, tuner: Finetuner) -> dict[str, Any]:
    """The better of the best and what it began as is the student; what a finished run has told stays."""
    path = config.folder / "report.json"
    known = read_json(path) if path.exists() else {}
    done = (known.get("begun"), known.get("updates")) == (tuner.begun.spec.digest, tuner.update)
    facts = known if done else compared(config, tuner)
    if facts["taken"]:
        promote(config, tuner.begun, facts)
    write_json(path, facts)
    return facts


def compared(config: FinetuneRun, tuner: Finetuner) -> dict[str, Any]:
    """Play the best against what it began as, on seeds that chose neither."""
    own, path = config.finetune, config.folder / "student.npz"
    was = score(config, tuner.begun.spec, own.report_episodes, PROVING)
    now = score(config, load_spec(path)[0], own.report_episodes, PROVING) if path.exists() else None
    return {
        "what": "finetuned",
        "game": config.name,
        "begun": tuner.begun.spec.digest,
        "before": was.to_json(),
        "after": now.to_json() if now else None,
        "share": share_of(now, tuner.teacher) if now else None,
        "taken": now is not None and now.mean > was.mean,
        "updates": tuner.update,
        "wall_s": tuner.wall_s,
        "settings": asdict(config),
        "versions": versions(),
    }


def promote(config: FinetuneRun, begun: Beginning, facts: dict[str, Any]) -> None:
    """The finetuned student becomes the game's; the one it began as stays beside it."""
    set_aside(begun, before(config.folder))
    config.distilled.mkdir(parents=True, exist_ok=True)
    spec, origin = load_spec(config.folder / "student.npz")
    own: dict[str, Any] = {
        "spec": spec.digest,
        "origin": origin,
        "finetuned": {k: facts[k] for k in ("begun", "updates", "wall_s", "settings")},
    }
    own |= {
        "scores": {config.name: facts["after"]},
        "shares": {config.name: facts["share"]},
        "share_geometric": geometric_mean([facts["share"]]),
    }
    # Hidden weights first: a spec without them can be distilled on from nothing.
    (config.distilled / "latent.safetensors").write_bytes((config.folder / "latent.safetensors").read_bytes())
    save_spec(spec, config.distilled / "student.npz", origin)
    if begun.told:
        write_json(config.distilled / "report.json", {**begun.told, **own})


def go_on(tuner: Finetuner, folder: Path) -> None:
    """From the state that was saved, or from what it begins as."""
    state = folder / "state.safetensors"
    if state.exists():
        tuner.resume(state)
        print(f"{folder}: going on at update {tuner.update:,}")
    if not tuner.unit:
        tuner.begin()


def command(config: FinetuneRun, text: str) -> int:
    folder = config.folder
    with only_one(folder):
        tuner = Finetuner(config)
        with closing(tuner):
            go_on(tuner, folder)
            stop = Stop()  # there is nothing to keep before
            with Board(folder, tuner.update) as board:
                board.text("config", f"```\n{text}\n```")
                done = finetune(config, tuner, board, stop)
        if not done:
            print(f"{folder}: stopped at update {tuner.update:,}; the same command goes on")
            return stop.status()
        stop.restore()
        facts = report(config, tuner)
        told = "nothing passed it" if facts["after"] is None else f"{facts['after']['mean']:.2f} after"
        verdict = "taken; run make compile" if facts["taken"] else "not taken: the distilled student stays"
        print(f"{config.name}: {facts['before']['mean']:.2f} before, {told}; {verdict}")
    return 0


@hydra.main(version_base=None, config_path="../conf", config_name="finetune")
def main(tree: DictConfig) -> None:
    """Finetune, or go on."""
    text = OmegaConf.to_yaml(tree, resolve=True)
    run(lambda: command(settings(FinetuneRun, OmegaConf.to_container(tree, resolve=True)), text))  # type: ignore[arg-type]


if __name__ == "__main__":
    launch(main)

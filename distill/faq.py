"""make integers: a pretrained teacher -> its 8- or 4-bit integers, by fine-tuning after quantisation.

FAQ (McKinstry et al. 2018, arXiv 1809.04191): begin at the pretrained weights, calibrate every range, and combat the
noise that rounding brings to the gradient by training longer, with a small rate that is annealed and with larger
batches, the more so the fewer the bits. The labels are the teacher's own values; the same command goes on.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from deploy.integer import BITS
from deploy.integer_spec import IntegerSpec, load_integers, save_integers
from distill.integer_health import health
from distill.integers import IntegerNet
from distill.loss import agreement, kl, regret
from distill.sources import Recorded
from rl.board import Board, Ticker
from rl.checkpoint import PolicyCheckpoint, load_optimiser, load_policy, optimiser_tensors, read_tensors, write_tensors
from rl.command import Stop, launch, only_one, run, settings
from rl.files import read_json, write_json
from rl.frames import pixels
from rl.games import SEEDS, EnvSettings, action_meanings
from rl.manifest import read_manifest, versions
from rl.recorder import PREPROCESSING
from rl.scores import Score, evaluate, rules_of
from rl.settings import SettingsError, need
from rl.stages import TEACHER, find, rollouts

STATE = "spikecade-fine-tuning"
STEPS = ("calibrated", "learned")
OTHERS_RATE = 0.1  # of the learning rate, for biases and norms: their units are the teacher's, not those of a range


@dataclass(frozen=True)
class IntegerSettings:
    """A fine-tuning; see conf/integers.yaml."""

    bits: int
    steps: str  # calibrated: step sizes stay as calibration set them. learned: LSQ
    seed: int
    epochs: int  # as many decisions as the dataset has, drawn at random, count as one
    batch: int
    learning_rate: float  # Adam, on hidden weights in about -1..1; falls to 0 along a cosine
    step_rate: float  # of the learning rate, on the logarithms of step sizes that are learned
    temperature: float  # of both sides
    calibrate_rows: int
    held_out: float
    exam_rows: int  # held-out decisions that each judgement looks at
    torch_threads: int
    log_updates: int
    checkpoint_s: float
    eval_epochs: int
    eval_episodes: int
    report_episodes: int
    epsilon: float  # of evaluations

    def __post_init__(self) -> None:
        need(self.bits in BITS, "integers.bits", self.bits, ", ".join(map(str, BITS)))
        need(self.steps in STEPS, "integers.steps", self.steps, ", ".join(STEPS))
        for name in ("learning_rate", "temperature"):
            need(getattr(self, name) > 0, f"integers.{name}", getattr(self, name), "above 0")
        need(self.seed >= 0, "integers.seed", self.seed, "0 or more")
        need(self.step_rate >= 0, "integers.step_rate", self.step_rate, "0 or more")
        need(self.epochs >= 0, "integers.epochs", self.epochs, "0 (calibration alone) or more")
        counts = "batch calibrate_rows exam_rows torch_threads log_updates eval_epochs eval_episodes report_episodes"
        for name in counts.split():
            need(getattr(self, name) >= 1, f"integers.{name}", getattr(self, name), "1 or more")
        need(0 <= self.epsilon <= 1, "integers.epsilon", self.epsilon, "0 to 1")


@dataclass(frozen=True)
class IntegerRun:
    """The command's settings."""

    name: str
    root: str
    env: EnvSettings
    integers: IntegerSettings

    @property
    def folder(self) -> Path:
        return Path(self.root) / self.name / self.label

    @property
    def label(self) -> str:
        """The player's name: int8 or int4."""
        return f"int{self.integers.bits}"

    @property
    def path(self) -> Path:
        return self.folder / f"{self.label}.npz"


def need_same_pictures(folder: Path, teacher: PolicyCheckpoint) -> None:
    """Raise SettingsError unless a dataset's pictures were made as those are that the teacher was trained on."""
    found = read_manifest(folder).facts.env
    wanted = {**PREPROCESSING, "frames_per_step": teacher.env.frames_per_step}
    wrong = [
        f"{key} is {found.get(key)!r}, must be {value!r}" for key, value in wanted.items() if found.get(key) != value
    ]
    if wrong:
        raise SettingsError(f"{folder}: pictures made otherwise: {'; '.join(wrong)}; run make rollouts again")


def rate_at(update: int, updates: int, own: IntegerSettings) -> float:
    """Learning rate: a cosine from its start to zero; no warm-up, the weights are good already."""
    return own.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, update / max(1, updates))))


class Tuner:
    """An integer network, its optimiser and its lessons."""

    def __init__(self, config: IntegerRun) -> None:
        own = self._own = config.integers
        torch.set_num_threads(own.torch_threads)
        torch.manual_seed(own.seed)
        self._config, self._rng = config, np.random.default_rng(own.seed)
        self.teacher = load_policy(find(TEACHER, config.name, config.root))
        self.teacher.require(config.name, action_meanings(config.name, config.env), "integers")
        folder = rollouts(config.name, config.root)
        need_same_pictures(folder, self.teacher)
        self.recorded = Recorded(folder, self.teacher, own.held_out)
        self.net = IntegerNet(self.teacher, own.bits)
        self.net.calibrate(self.recorded.lesson(self._rng, own.calibrate_rows).cells)
        self._optimiser = torch.optim.Adam(self._groups(), lr=own.learning_rate)
        self.update, self.wall_s = 0, 0.0
        self.best: float | None = None  # KL to the teacher, of what is kept

    @property
    def epoch_updates(self) -> int:
        return max(1, self.recorded.size // self._own.batch)

    @property
    def updates(self) -> int:
        return self._own.epochs * self.epoch_updates

    def _groups(self) -> list[dict[str, Any]]:
        hidden = [layer.weight for layer, _ in self.net.pairs()]
        others = [layer.bias for layer, _ in self.net.pairs()]
        others += [own for _, norm in self.net.pairs() if norm for own in (norm.weight, norm.bias)]
        groups: list[dict[str, Any]] = [{"params": hidden, "scale": 1.0}, {"params": others, "scale": OTHERS_RATE}]
        for step in self.net.steps():
            step.requires_grad_(self._own.steps == "learned")
        if self._own.steps == "learned":
            groups.append({"params": self.net.steps(), "scale": self._own.step_rate})
        return groups

    def step(self) -> dict[str, Tensor]:
        """One update; what it saw, still as tensors. Raises ValueError, and changes nothing, where a number is none."""
        start, tau = time.monotonic(), self._own.temperature
        lesson = self.recorded.lesson(self._rng, self._own.batch)
        for group in self._optimiser.param_groups:
            group["lr"] = rate_at(self.update, self.updates, self._own) * group["scale"]
        values = self.net(lesson.cells)
        loss = kl(values / tau, lesson.q / tau, 1.0)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._need_finite(lesson.q, loss)
        self._optimiser.step()
        self.update += 1
        self.wall_s += time.monotonic() - start
        return {"train/loss": loss.detach(), "train/agreement": agreement(values, lesson.q)}

    def _need_finite(self, q: Tensor, loss: Tensor) -> None:
        told = {"the teacher's values": q, "the loss": loss.detach()}
        told |= {
            f"the gradient of {name}": own.grad for name, own in self.net.named_parameters() if own.grad is not None
        }
        wrong = next((name for name, value in told.items() if not torch.isfinite(value).all()), None)
        if wrong:
            raise ValueError(
                f"integers: numbers that are not finite in {wrong} at update {self.update} of {self._config.label}; "
                f"what was saved before is kept in {self._config.folder}; lower integers.learning_rate, or record the "
                "dataset again"
            )

    @torch.no_grad()
    def exam(self, spec: IntegerSpec) -> dict[str, float]:
        """The integers on held-out decisions of the teacher, and their health."""
        own, tau = self._own, self._own.temperature
        lesson = self.recorded.exam(np.random.default_rng(own.seed), own.exam_rows)
        obs = pixels(lesson.cells.numpy())
        values = torch.from_numpy(spec.run(obs) * spec.value_step).float()
        found = {
            "integers/kl": kl(values / tau, lesson.q / tau, 1.0).item(),
            "integers/agreement": agreement(values, lesson.q).item(),
            "integers/regret": regret(values, lesson.q).item(),
        }
        return found | health(self.net, self.teacher, spec, obs[:64])

    def score(self, spec: IntegerSpec, episodes: int) -> Score:
        """The integers in the game."""
        own = self._own
        rules = rules_of(self._config.env, own.epsilon, episodes, 3_000_017 * (own.seed + 1) % SEEDS)
        act = lambda stacks: spec.act(pixels(stacks))  # noqa: E731
        return evaluate(act, self._config.name, rules, own.torch_threads, self._config.label)

    def save(self, path: Path) -> None:
        tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        tensors |= optimiser_tensors(self._optimiser)
        facts = {"update": self.update, "wall_s": self.wall_s, "best": self.best, "identity": self._identity()}
        write_tensors(path, STATE, facts | {"rng": self._rng.bit_generator.state}, tensors)

    def resume(self, path: Path) -> None:
        """Go on from a saved state."""
        facts, tensors = read_tensors(path, STATE)
        begun, asked = facts["identity"], self._identity()
        other = [name for name in asked if begun.get(name, asked[name]) != asked[name]]  # some were not noted once
        if other:
            raise SettingsError(f"{path}: begun with other {', '.join(other)}; use another root=... or remove it")
        self.net.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
        load_optimiser(self._optimiser, tensors)
        self._rng.bit_generator.state = facts["rng"]
        self.update, self.wall_s, self.best = facts["update"], facts["wall_s"], facts["best"]

    def _identity(self) -> dict[str, Any]:
        own = self._own
        return {
            "teacher": self.teacher.digest,
            "dataset": self.recorded.digest,
            "bits": own.bits,
            "steps": own.steps,
            # What the best is measured by: another measure would find it beaten, or never.
            "temperature": own.temperature,
            "held_out": own.held_out,
            "exam_rows": own.exam_rows,
            "seed": own.seed,
        }


def tune(config: IntegerRun, tuner: Tuner, board: Board, stop: Stop) -> bool:
    """Run to the end of the budget or to a signal; True when the job is done."""
    own, state = config.integers, config.folder / "state.safetensors"
    ticker, saved_s = Ticker(max(1, tuner.updates), tuner.update), time.monotonic()
    if tuner.best is None:  # calibration alone: where fine-tuning begins, and what it has to beat
        ticker.say(_keep_best(config, tuner, board))
        tuner.save(state)
    while tuner.update < tuner.updates and not stop:
        metrics = tuner.step()
        if tuner.update % own.log_updates == 0:
            told = {tag: float(value) for tag, value in metrics.items()}
            board.write(tuner.update, told | {"time/wall_s": tuner.wall_s})
            ticker.show(tuner.update, "  ".join(f"{tag.split('/')[-1]} {value:.4f}" for tag, value in told.items()))
        judged = tuner.update % (own.eval_epochs * tuner.epoch_updates) == 0 or tuner.update == tuner.updates
        if judged:
            ticker.say(_keep_best(config, tuner, board))
        if judged or time.monotonic() - saved_s >= own.checkpoint_s:
            tuner.save(state)
            saved_s = time.monotonic()
    ticker.close()
    tuner.save(state)
    return not stop


def _keep_best(config: IntegerRun, tuner: Tuner, board: Board) -> str:
    """Examine and score the integers of now; keep them if they are nearest to the teacher so far, later ones on a tie.

    Nearness is the KL of held-out decisions: as good players as these differ by less than what episodes scatter.
    """
    spec = tuner.net.export()
    exam, score = tuner.exam(spec), tuner.score(spec, config.integers.eval_episodes)
    board.write(tuner.update, exam | {"eval/mean_reward": score.mean})
    board.flush()
    kl_now = exam["integers/kl"]
    if tuner.best is None or kl_now <= tuner.best:
        tuner.best = kl_now
        save_integers(spec, config.path, _origin(config, tuner, exam))
    shown = f"KL {kl_now:.5f} (best {tuner.best:.5f}), agreement {exam['integers/agreement']:.4f}"
    return f"{config.label}, update {tuner.update}: {shown}, score {score.mean:.2f}"


def _origin(config: IntegerRun, tuner: Tuner, exam: dict[str, float]) -> dict[str, Any]:
    return {
        "teacher": tuner.teacher.digest,
        "dataset": tuner.recorded.digest,
        "env": asdict(config.env),
        "update": tuner.update,
        "wall_s": tuner.wall_s,
        "exam": exam,
        "versions": versions(),
    }


def report(config: IntegerRun, tuner: Tuner) -> dict[str, Any]:
    """Score the integers that were kept."""
    spec, origin = load_integers(config.path)
    path = config.folder / "report.json"
    before = read_json(path) if path.exists() else {}
    done = (before.get("spec"), before.get("updates")) == (spec.digest, tuner.update)
    score = tuner.score(spec, config.integers.report_episodes)
    facts = {
        "what": "integers",
        "game": config.name,
        "spec": spec.digest,
        "bits": spec.bits,
        "bytes": spec.parameter_bytes,
        "multiply_adds": spec.multiply_adds,
        "origin": origin,
        "wall_s": tuner.wall_s,
        "updates": tuner.update,
        "score": score.to_json(),
        "settings": before["settings"] if done else asdict(config),  # those that they learned by
        "versions": versions(),
    }
    write_json(path, facts)
    return facts


def command(config: IntegerRun, text: str) -> int:
    folder, state = config.folder, config.folder / "state.safetensors"
    with only_one(folder):
        stop, tuner = Stop(), Tuner(config)
        if state.exists():
            tuner.resume(state)
            print(f"{folder}: going on at update {tuner.update:,} of {tuner.updates:,}")
        with Board(folder, tuner.update) as board:
            board.text("config", f"```\n{text}\n```")
            done = tune(config, tuner, board, stop)
        if not done:
            print(f"{folder}: stopped at update {tuner.update:,}; the same command goes on")
            return stop.status()
        stop.restore()
        facts = report(config, tuner)
        score, size = facts["score"], f"{facts['bytes']:,} bytes, {facts['multiply_adds']:,} multiply-adds"
        print(f"{config.name} {config.label}: {score['mean']:.2f} over {len(score['returns'])} episodes, {size}")
        print(config.path)
    return 0


@hydra.main(version_base=None, config_path="../conf", config_name="integers")
def main(tree: DictConfig) -> None:
    """Fine-tune, or go on fine-tuning."""
    text = OmegaConf.to_yaml(tree, resolve=True)
    run(lambda: command(settings(IntegerRun, OmegaConf.to_container(tree, resolve=True)), text))  # type: ignore[arg-type]


if __name__ == "__main__":
    launch(main)

"""make distill: teachers -> one student of trinary weights and binary activations; the same command goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from deploy.spec import Head, StudentSpec, load_spec, save_spec
from distill.export import Folded, export
from distill.health import firing, health
from distill.latent import save_latent
from distill.loss import agreement, chosen, entropy, kl, regret
from distill.sources import Lesson, Online, Recorded, joined
from distill.student import Student, StudentSettings, recalibrate
from rl.board import Board, Ticker
from rl.checkpoint import (
    PolicyCheckpoint,
    load_optimiser,
    load_policy,
    optimiser_tensors,
    read_tensors,
    write_tensors,
)
from rl.command import Stop, launch, only_one, run, settings
from rl.files import write_json
from rl.frames import Frames, pixels
from rl.games import EnvSettings
from rl.manifest import versions
from rl.scores import REFERENCE, Protocol, Score, evaluate
from rl.settings import SettingsError, need
from rl.stages import STUDENT, TEACHER, find, label, rollouts

STATE = "spikecade-distilling"
MODES = ("offline", "online", "both")


@dataclass(frozen=True)
class DistillSettings:
    """A distillation; see conf/distill.yaml."""

    seed: int
    mode: str  # offline: the dataset. online: the student acts, the teacher labels. both: half and half
    loss: str
    temperature: float  # of the teacher's side, at the end
    temperature_start: float
    cool_updates: int  # from one to the other
    updates: int
    batch: int
    learning_rate: float  # of the hidden weights, falls to 0 along a cosine
    warmup_updates: int
    envs: int
    online_rows: int
    online_start_updates: int
    online_epsilon: float
    held_out: float
    torch_threads: int
    bf16: bool
    log_updates: int
    checkpoint_s: float
    eval_start_updates: int
    eval_updates: int
    eval_episodes: int
    report_episodes: int
    epsilon: float  # of evaluations
    calibrate_batches: int

    def __post_init__(self) -> None:
        need(self.mode in MODES, "distill.mode", self.mode, ", ".join(MODES))
        for name in ("temperature", "temperature_start"):
            need(getattr(self, name) > 0, f"distill.{name}", getattr(self, name), "above 0")
        counts = "cool_updates updates batch envs log_updates eval_updates eval_episodes report_episodes"
        for name in counts.split():
            need(getattr(self, name) >= 1, f"distill.{name}", getattr(self, name), "1 or more")
        for name in ("online_epsilon", "epsilon"):
            need(0 <= getattr(self, name) <= 1, f"distill.{name}", getattr(self, name), "0 to 1")
        need(self.eval_start_updates >= 0, "distill.eval_start_updates", self.eval_start_updates, "0 or more")
        need(self.calibrate_batches >= 1, "distill.calibrate_batches", self.calibrate_batches, "1 or more")


@dataclass(frozen=True)
class DistillRun:
    """The command's settings."""

    games: tuple[str, ...]
    root: str
    env: EnvSettings
    student: StudentSettings
    distill: DistillSettings

    def __post_init__(self) -> None:
        need(len(self.games) >= 1, "games", self.games, "one or more")
        need(len(set(self.games)) == len(self.games), "games", self.games, "each game once")
        least = 2 * len(self.games)  # half recorded, half the student's own, of every game
        need(self.distill.batch >= least, "distill.batch", self.distill.batch, f"{least} or more")

    @property
    def folder(self) -> Path:
        return Path(self.root) / label(self.games) / "student"


def rate_at(update: int, own: DistillSettings) -> float:
    """Learning rate: a linear warm-up, then a cosine to zero."""
    warm = min(1.0, (update + 1) / max(1, own.warmup_updates))
    return own.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, update / own.updates)))


def temperature_at(update: int, own: DistillSettings) -> float:
    """Temperature of the teacher's side: from the first to the last along a geometric row, then flat.

    Soft labels teach what every action is worth; sharp ones, once that is learnt, which of two near ones is better.
    """
    left = max(0.0, 1 - update / own.cool_updates)
    return own.temperature * (own.temperature_start / own.temperature) ** left  # type: ignore[no-any-return]


def heads_of(teachers: list[PolicyCheckpoint]) -> tuple[Head, ...]:
    """One head a game, their answers one behind the other."""
    heads, start = [], 0
    for teacher in teachers:
        heads.append(Head(teacher.game, teacher.actions, start))
        start = heads[-1].stop
    return tuple(heads)


class Distiller:
    """A student, its optimiser and its lessons."""

    def __init__(self, config: DistillRun) -> None:
        own = self._own = config.distill
        torch.set_num_threads(own.torch_threads)
        torch.manual_seed(own.seed)
        self._config, self._rng = config, np.random.default_rng(own.seed)
        self.teachers = [load_policy(find(TEACHER, game, config.root)) for game in config.games]
        self.recorded = [
            Recorded(rollouts(game, config.root), teacher, own.held_out)
            for game, teacher in zip(config.games, self.teachers, strict=True)
        ]
        self.online = [
            Online(teacher, config.env, own.envs, own.online_rows, own.online_epsilon, own.seed + 17 * index)
            for index, teacher in enumerate(self.teachers)
            if own.mode != "offline"
        ]
        self.student = Student(config.student, heads_of(self.teachers))
        self._optimiser = torch.optim.Adam(self.student.groups(), lr=own.learning_rate, fused=True)
        self.update, self.wall_s = 0, 0.0
        self.best: float | None = None

    def step(self) -> dict[str, Any]:
        """One update on lessons of every game; what it saw, still as tensors."""
        start = time.monotonic()
        self._play()
        lessons = [self._lesson(game) for game in range(len(self.recorded))]
        for group in self._optimiser.param_groups:
            group["lr"] = rate_at(self.update, self._own) * group["scale"]
        with torch.autocast("cpu", torch.bfloat16, enabled=self._own.bf16):
            votes = self.student.votes(torch.cat([lesson.cells for lesson in lessons]))
        parts = torch.split(votes, [len(lesson.q) for lesson in lessons])
        logits = [self.student.logits(part, head) for head, part in enumerate(parts)]
        loss_of = chosen(self._own.loss, temperature_at(self.update, self._own))
        losses = [loss_of(own, lesson.q) for own, lesson in zip(logits, lessons, strict=True)]
        loss = torch.stack(losses).mean()
        if not torch.isfinite(loss):
            raise ValueError(f"distill: loss is {loss.item()} at update {self.update}; lower distill.learning_rate")
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        flips = self.student.settle()
        self.update += 1
        self.wall_s += time.monotonic() - start
        same = torch.stack([agreement(own, lesson.q) for own, lesson in zip(logits, lessons, strict=True)]).mean()
        return {"train/loss": loss.detach(), "train/agreement": same, "train/flips": flips}

    def _lesson(self, game: int) -> Lesson:
        size = self._own.batch // len(self.recorded)
        if self._own.mode == "offline" or self.online[game].seen <= 10 * self._own.envs:
            return self.recorded[game].lesson(self._rng, size)
        if self._own.mode == "online":
            return self.online[game].lesson(self._rng, size)
        half = size // 2
        return joined([self.recorded[game].lesson(self._rng, size - half), self.online[game].lesson(self._rng, half)])

    def _play(self) -> None:
        if self._own.mode == "offline" or self.update < self._own.online_start_updates:
            return
        self.student.eval()
        for head, game in enumerate(self.online):
            game.play(lambda stacks, head=head: self._greedy(stacks, head))  # type: ignore[misc]
        self.student.train()

    def _greedy(self, stacks: Frames, head: int) -> NDArray[np.int64]:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self._own.bf16):
            return self.student(torch.from_numpy(stacks), head).argmax(dim=1).numpy()  # type: ignore[no-any-return]

    def folded(self) -> StudentSpec:
        """The student as integers, its statistics taken anew from the lessons."""
        recalibrate(self.student, self._batches())
        spec = export(self.student)
        self.student.train()
        return spec

    def own_scores(self) -> dict[str, float]:
        """Mean of the newest returns of the student's own play, by game, where an episode has ended."""
        pairs = zip(self._config.games, self.online, strict=False)  # offline it does not play
        return {f"online/{game}": float(np.mean(online.returns)) for game, online in pairs if online.returns}

    def _batches(self) -> Iterator[Tensor]:
        for _ in range(self._own.calibrate_batches):
            yield torch.cat([self._lesson(game).cells for game in range(len(self.recorded))])

    @torch.no_grad()
    def exam(self, spec: StudentSpec, size: int = 512) -> dict[str, float]:
        """The folded student on held-out decisions of the teacher: agreement, what folding changed, health."""
        found: dict[str, list[float]] = {}
        folded, levels = Folded(spec), []
        self.student.eval()
        for head, recorded in enumerate(self.recorded):
            lesson = recorded.exam(self._rng, size)
            levels.append(list(folded.levels(torch.from_numpy(pixels(lesson.cells.numpy())))))
            votes = folded.count(levels[-1][-1])
            unfolded = self.student.votes(lesson.cells)
            logits = self.student.logits(votes, head)
            own, tau = self.student.heads[head], self._own.temperature
            row = {
                "distill/kl": kl(logits, lesson.q, tau).item(),
                "distill/agreement": agreement(logits, lesson.q).item(),
                "distill/regret": regret(logits, lesson.q).item(),
                "distill/label_entropy": entropy(lesson.q, tau).item(),
                "distill/folded_disagreement": (votes != unfolded).any(dim=1).float().mean().item(),
                "distill/vote_margin": _margin(votes[:, own.start : own.stop]),
            }
            for tag, value in row.items():
                found.setdefault(tag, []).append(value)
        self.student.train()
        return {tag: float(np.mean(values)) for tag, values in found.items()} | health(spec, firing(levels))

    def score(self, spec: StudentSpec, head: int, episodes: int) -> Score:
        """The folded student in the game, as the chip will play it."""
        own, game = self._own, self.teachers[head].game
        rules = Protocol("nature", self._config.env, own.epsilon, episodes, 2_000_003 * own.seed)
        return evaluate(folded_act(spec, game), game, rules, own.torch_threads, "student")

    def save(self, path: Path) -> None:
        tensors = {f"student.{k}": v for k, v in self.student.state_dict().items()}
        tensors |= optimiser_tensors(self._optimiser)
        tensors["torch_rng"] = torch.get_rng_state()
        facts = {"update": self.update, "wall_s": self.wall_s, "best": self.best, "identity": self._identity()}
        write_tensors(path, STATE, facts | {"rng": self._rng.bit_generator.state}, tensors)

    def resume(self, path: Path) -> None:
        """Go on from a saved state; the online ring fills anew."""
        facts, tensors = read_tensors(path, STATE)
        if facts["identity"] != self._identity():
            raise SettingsError(
                f"{path}: begun with other games, teachers or layers; use another root=... or remove it"
            )
        self.student.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("student.")})
        load_optimiser(self._optimiser, tensors)
        torch.set_rng_state(tensors["torch_rng"])
        self._rng.bit_generator.state = facts["rng"]
        self.update, self.wall_s, self.best = facts["update"], facts["wall_s"], facts["best"]

    def _identity(self) -> dict[str, Any]:
        layers = [list(asdict(layer).values()) for layer in self._config.student.layers]
        shape = {"front": self._config.student.front_features, "layers": layers}
        if self._config.student.history > 1:  # left out at 1, so that runs begun before there was one go on
            shape["history"] = self._config.student.history
        return {"games": list(self._config.games), "teachers": [t.digest for t in self.teachers], **shape}

    def close(self) -> None:
        for online in self.online:
            online.close()


def folded_act(spec: StudentSpec, game: str) -> Any:
    """A spec as a batched policy: stacks [B, 21, 21, 64] -> actions [B], lowest id on a tie."""
    folded, head = Folded(spec), spec.head(game)

    def act(stacks: Frames) -> NDArray[np.int64]:
        votes = folded(torch.from_numpy(pixels(stacks))).numpy()
        return votes[:, head.start : head.stop].argmax(axis=1)  # type: ignore[no-any-return]

    return act


def _margin(votes: Tensor) -> float:
    """Mean lead of the best of a head's answers over its second, in votes."""
    top = votes.topk(2, dim=1).values
    return (top[:, 0] - top[:, 1]).mean().item()


def distil(config: DistillRun, distiller: Distiller, board: Board, stop: Stop) -> bool:
    """Run to the end of the budget or to a signal; True when the job is done."""
    own, folder = config.distill, config.folder
    ticker, saved_s = Ticker(own.updates, distiller.update), time.monotonic()
    while distiller.update < own.updates and not stop:
        metrics = distiller.step()
        if distiller.update % own.log_updates == 0:
            told = {tag: float(value) for tag, value in metrics.items()} | distiller.own_scores()
            board.write(distiller.update, told | distiller.student.health() | {"time/wall_s": distiller.wall_s})
            ticker.show(distiller.update, "  ".join(f"{k.split('/')[-1]} {v:.4f}" for k, v in told.items()))
        due = distiller.update >= own.eval_start_updates and distiller.update % own.eval_updates == 0
        judged = due or distiller.update == own.updates
        if judged:
            ticker.say(_keep_best(config, distiller, board))
        # With every judgement too: a run that goes on must know what it has to beat.
        if judged or time.monotonic() - saved_s >= own.checkpoint_s:
            distiller.save(folder / "state.safetensors")
            saved_s = time.monotonic()
    distiller.save(folder / "state.safetensors")
    return not stop


def _keep_best(config: DistillRun, distiller: Distiller, board: Board) -> str:
    """Fold, examine and score; keep the spec if it is the best so far (over games, against each teacher's range)."""
    spec = distiller.folded()
    exam = distiller.exam(spec)
    scores = [distiller.score(spec, head, config.distill.eval_episodes) for head in range(len(config.games))]
    mean = float(np.mean([score.mean for score in scores]))
    share = float(np.mean([share_of(*pair) for pair in zip(scores, distiller.teachers, strict=True)]))
    means = {f"eval/{score.game}": score.mean for score in scores} | {"eval/mean_reward": mean, "eval/share": share}
    board.write(distiller.update, exam | means)
    board.flush()
    if distiller.best is None or share >= distiller.best:
        distiller.best = share
        save_latent(distiller.student, config.student, spec.digest, config.folder / "latent.safetensors")
        save_spec(spec, config.folder / "student.npz", _origin(config, distiller, exam))
    shown = f"score {mean:.2f}, share of teacher {share:.3f} (best {distiller.best:.3f})"
    return f"update {distiller.update}: {shown}, agreement {exam['distill/agreement']:.4f}"


def share_of(score: Score, teacher: PolicyCheckpoint) -> float:
    """A student's score as a share of its teacher's, both above random play: comparable between games."""
    random = REFERENCE.get(score.game, (0.0, 0.0))[0]
    span = max(float(teacher.training["score"]["mean"]) - random, 1.0)  # a teacher that learned nothing spans nothing
    return (score.mean - random) / span


def _origin(config: DistillRun, distiller: Distiller, exam: dict[str, float]) -> dict[str, Any]:
    return {
        "teachers": {teacher.game: teacher.digest for teacher in distiller.teachers},
        "datasets": {game: data.digest for game, data in zip(config.games, distiller.recorded, strict=True)},
        "env": asdict(config.env),
        "update": distiller.update,
        "wall_s": distiller.wall_s,
        "exam": exam,
        "versions": versions(),
    }


def report(config: DistillRun, distiller: Distiller) -> dict[str, Any]:
    """Score the spec that was kept."""
    spec, origin = load_spec(config.folder / "student.npz")
    scores = [distiller.score(spec, head, config.distill.report_episodes) for head in range(len(config.games))]
    facts = {
        "what": "student",
        "games": list(config.games),
        "spec": spec.digest,
        "origin": origin,
        "wall_s": distiller.wall_s,
        "updates": distiller.update,
        "scores": {score.game: score.to_json() for score in scores},
        "settings": asdict(config),
        "versions": versions(),
    }
    write_json(config.folder / "report.json", facts)
    return facts


def command(config: DistillRun, text: str) -> int:
    folder = config.folder
    with only_one(folder):
        stop = Stop()
        distiller = Distiller(config)
        state = folder / "state.safetensors"
        if state.exists():
            distiller.resume(state)
            print(f"{folder}: going on at update {distiller.update:,}")
        with Board(folder, distiller.update or None) as board:
            board.text("config", f"```\n{text}\n```")
            try:
                done = distil(config, distiller, board, stop)
            finally:
                distiller.close()
        if not done:
            print(f"{folder}: stopped at update {distiller.update:,}; the same command goes on")
            return stop.status()
        stop.restore()
        for game, score in report(config, distiller)["scores"].items():
            print(f"{game} student: {score['mean']:.2f} over {len(score['returns'])} episodes, {folder / STUDENT[8:]}")
    return 0


@hydra.main(version_base=None, config_path="../conf", config_name="distill")
def main(tree: DictConfig) -> None:
    """Distil, or go on distilling."""
    text = OmegaConf.to_yaml(tree, resolve=True)
    run(lambda: command(settings(DistillRun, OmegaConf.to_container(tree, resolve=True)), text))  # type: ignore[arg-type]


if __name__ == "__main__":
    launch(main)

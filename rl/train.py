"""make teacher: train a Double DQN teacher; the same command goes on with a run under way."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import hydra
import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from rl.board import Board, Ticker
from rl.charts import TRAINING
from rl.checkpoint import PolicyCheckpoint, load_policy, save_policy
from rl.command import Stop, launch, only_one, settings
from rl.files import read_json, tidy, write_json
from rl.frames import Frames
from rl.holding import need_room
from rl.manifest import versions
from rl.parallel import team
from rl.scores import Score
from rl.sweep import run_or_sweep
from rl.trainer import TeacherRun, TeacherSettings, Trainer

LOG_FRAMES = 40_000  # between two lines of metrics


def train(config: TeacherRun, trainer: Trainer, board: Board, folder: Path, stop: Stop) -> bool:
    """Run to the end of the budget, to the score that is enough, or to a signal; True when the job is done."""
    own, agree = config.teacher, trainer.team.agree
    board.charts(TRAINING)
    _confirm_kept(trainer, folder, own)
    _keep_start(trainer, folder, own)
    saved_s, next_eval = time.monotonic(), (trainer.frames // own.eval_frames + 1) * own.eval_frames
    halt, enough = agree(stop.signal, _reached(trainer.best, own.stop_score))
    log = Log(trainer, board, max(1, min(LOG_FRAMES, own.train_frames // 20)))
    with Ticker(own.train_frames, trainer.frames, unit="frames") as ticker:
        while trainer.frames < own.train_frames and not halt and not enough:
            log.add(trainer.step())
            ticker.show(trainer.frames, progress(trainer))
            if trainer.frames >= next_eval:
                next_eval += own.eval_frames
                score = _keep_best(trainer, board, folder, own)
                ticker.say(f"{trainer.frames / 1e6:.2f}M frames: evaluation {score:.1f}, best {trainer.best:.1f}")
                enough = _reached(score, own.stop_score)
            # At once where it was judged: a kill must not part the best score from the policy that has it.
            late = trainer.judged == trainer.frames or time.monotonic() - saved_s >= own.checkpoint_s
            halt, enough, due = agree(stop.signal, enough, late)
            if due:
                _save(trainer, board)
                saved_s = time.monotonic()
    log.write()
    stop.signal = stop.signal or halt
    if not stop and not enough and trainer.frames != trainer.judged:  # the last word of the schedule counts too
        _keep_best(trainer, board, folder, own)
    _save(trainer, board)
    return not stop


def follow(config: TeacherRun, trainer: Trainer, stop: Stop) -> int:
    """What the other processes of a team do until the first one ends: its steps and its saves; the exit status."""
    halt, enough = trainer.team.agree(stop.signal, False)
    while trainer.frames < config.teacher.train_frames and not halt and not enough:
        trainer.step()
        halt, enough, due = trainer.team.agree(stop.signal, False, False)
        if due:
            trainer.save()
    trainer.save()
    stop.signal = stop.signal or halt
    return stop.status()


def progress(trainer: Trainer) -> str:
    """How far it is and how well it plays; what is not known yet is a dash."""
    score, best = (_known(value) for value in (trainer.score, trainer.best))
    return f"{trainer.frames / 1e6:.2f}M frames  score {score}  best {best}"


def _known(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"


def _save(trainer: Trainer, board: Board) -> None:
    board.flush()  # first: what a run that goes on from here does not repeat must not be lost
    trainer.save()


class Log:
    """A line of metrics every so many frames: means over the steps since the last one, and how things stand."""

    def __init__(self, trainer: Trainer, board: Board, every_frames: int) -> None:
        self._trainer, self._board, self._every = trainer, board, every_frames
        self._begin()

    def _begin(self) -> None:
        self._frames, self._start_s = self._trainer.frames, time.monotonic()
        self._seen: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, metrics: Mapping[str, float]) -> None:
        """One step's metrics."""
        for tag, value in metrics.items():
            self._seen[tag].append(value)
        if self._trainer.frames - self._frames >= self._every:
            self.write()

    def write(self) -> None:
        """The line, where there is something new to say."""
        run, frames = self._trainer, self._trainer.frames - self._frames
        if not frames:
            return
        means = {tag: fmean(values) for tag, values in self._seen.items()} | run.predictions.means()
        stand = {"rollout/ep_score_mean": run.score, "rollout/exploration_rate": run.epsilon}
        speed = {"time/fps": frames / (time.monotonic() - self._start_s), "time/wall_s": run.wall_s}
        self._board.write(run.frames, means | stand | speed | run.throughput(), run.wall_s)
        self._begin()


def _reached(score: float | None, enough: float | None) -> bool:
    return score is not None and enough is not None and score >= enough


def _keep_best(trainer: Trainer, board: Board, folder: Path, own: TeacherSettings) -> float:
    """Evaluate, and keep what beats the best; the score. The best of many short evaluations is the luckiest: where one
    beats the best, other episodes say what the policy is worth, and those alone are compared."""
    score = trainer.evaluate(own.eval_episodes)
    low, high = score.interval
    tags = {"eval/mean_reward": score.mean, "eval/low": low, "eval/high": high}
    if own.confirm_episodes and _beats(score, trainer):
        score = trainer.evaluate(own.confirm_episodes, first=own.eval_episodes)
        tags["eval/confirmed"] = score.mean
    board.write(trainer.frames, tags, trainer.wall_s)
    trainer.judged = trainer.frames
    if _beats(score, trainer):
        clip = trainer.film()
        board.clip(trainer.frames, "clip/best", clip.pictures, clip.period_s)
        trainer.best = score.mean
        save_policy(trainer.policy(score), folder / "policy.safetensors")
    board.flush()
    return score.mean


def _beats(score: Score, trainer: Trainer) -> bool:
    return trainer.best is None or score.mean > trainer.best


def _confirm_kept(trainer: Trainer, folder: Path, own: TeacherSettings) -> None:
    """What a run kept by fewer episodes than confirm now, by luck then, plays as many before others are held to it."""
    path = folder / "policy.safetensors"
    if trainer.best is None or not path.exists():
        return
    kept = load_policy(path)
    trainer.best = kept.training["score"]["mean"]  # a kill may have come before the state that knows of it
    seen = len(kept.training["score"]["returns"])
    if seen >= own.confirm_episodes:
        return
    print(f"{path}: kept by {seen} episodes, plays {own.confirm_episodes} others first")
    score = trainer.evaluate(own.confirm_episodes, _player(kept), own.eval_episodes)
    print(
        f"{path}: kept for {trainer.best:.1f} by {seen} episodes, is {score.mean:.1f} by {own.confirm_episodes} others"
    )
    _set_best(trainer, kept, score, path)


def _keep_start(trainer: Trainer, folder: Path, own: TeacherSettings) -> None:
    """What a run began as is the first to be beaten, by the episodes that will be compared."""
    if trainer.best is not None or own.start is None or trainer.start is None:
        return
    policy = load_policy(Path(own.start))
    if policy.digest != trainer.start["policy"]:  # another lies there now
        return
    first = own.eval_episodes if own.confirm_episodes else 0
    print(f"{own.start}: plays first, to be beaten")
    score = trainer.evaluate(own.confirm_episodes or own.eval_episodes, _player(policy), first)
    print(f"{own.start}: is {score.mean:.1f} by {len(score.returns)} episodes, the first to be beaten")
    _set_best(trainer, policy, score, folder / "policy.safetensors")


def _set_best(trainer: Trainer, policy: PolicyCheckpoint, score: Score, path: Path) -> None:
    """A policy that is there already is what others are held to, by this score."""
    trainer.best = score.mean
    save_policy(replace(policy, training=policy.training | {"score": score.to_json()}), path)


def _player(policy: PolicyCheckpoint) -> Callable[[Frames], NDArray[np.int64]]:
    network = policy.build()

    def act(stacks: Frames) -> NDArray[np.int64]:
        with torch.no_grad():
            return network(torch.from_numpy(stacks)).argmax(dim=1).numpy()  # type: ignore[no-any-return]

    return act


def report(config: TeacherRun, trainer: Trainer, folder: Path) -> dict[str, Any]:
    """Score the policy that was kept, as it will be used: float16 parameters, float32 arithmetic."""
    if not (folder / "policy.safetensors").exists():
        save_policy(trainer.policy(trainer.evaluate(config.teacher.eval_episodes)), folder / "policy.safetensors")
    policy = load_policy(folder / "policy.safetensors")
    own, path = config.teacher, folder / "report.json"
    before = read_json(path) if path.exists() else {}
    done = before.get("policy") == policy.digest and before.get("frames") == trainer.frames
    if done and len(before["score"]["returns"]) == own.report_episodes:  # nothing new was learnt or is asked
        return before
    first = own.eval_episodes + own.confirm_episodes  # none that chose it
    score = trainer.evaluate(own.report_episodes, _player(policy), first)
    facts = {
        "what": "teacher",
        "game": config.name,
        "policy": policy.digest,
        "policy_frames": policy.training["frames"],
        "frames": trainer.frames,
        "processes": trainer.team.size,
        "wall_s": trainer.wall_s,
        "score": score.to_json(),
        "settings": before["settings"] if done else asdict(config),  # those that it learned by
        "versions": versions(),
    }
    facts |= {"start": trainer.start} if trainer.start else {}
    write_json(path, facts)
    return facts


@hydra.main(version_base=None, config_path="../conf", config_name="teacher")
def main(tree: DictConfig) -> None:
    """Train, or go on training; every job of a sweep below a root of its own."""
    run_or_sweep(tree, begin)


def begin(tree: DictConfig) -> int:
    text = OmegaConf.to_yaml(tree, resolve=True)
    return command(settings(TeacherRun, OmegaConf.to_container(tree, resolve=True)), text)  # type: ignore[arg-type]


def command(config: TeacherRun, text: str) -> int:
    folder = Path(config.root) / config.name / "teacher"
    with team() as us, only_one(us.folder(folder)):
        need_room(config, us.folder(folder))
        tidy(us.folder(folder))
        stop = Stop()
        trainer = Trainer(config, folder, us)
        if us.rank:
            with closing(trainer):
                return follow(config, trainer, stop)
        if trainer.resumed:
            print(f"{folder}: going on at {trainer.frames:,} frames; the envs begin new episodes", flush=True)
        try:
            with closing(trainer), Board(folder, trainer.frames) as board:  # lines may lie beyond the last checkpoint
                board.text("config", f"```\n{text}\n```")
                done = train(config, trainer, board, folder, stop)
        except OSError as fault:  # a full disk, a folder that became read-only
            advice = "the last checkpoint is whole; once that is mended the same command goes on from it"
            raise RuntimeError(f"{folder}: {fault}; {advice}") from fault
        if not done:
            print(f"{folder}: stopped at {trainer.frames:,} frames; the same command goes on")
            return stop.status()
        stop.restore()
        score = report(config, trainer, folder)["score"]
        print(f"{config.name} teacher: {score['mean']:.2f} over {config.teacher.report_episodes} episodes, {folder}")
    return 0


if __name__ == "__main__":
    launch(main, sweeps=True)

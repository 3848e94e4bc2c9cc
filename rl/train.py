"""make teacher: train a Double DQN teacher; the same command goes on with a run under way."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from rl.board import Board, Ticker
from rl.checkpoint import load_policy, save_policy
from rl.command import Stop, launch, only_one, run, settings
from rl.files import write_json
from rl.frames import Frames
from rl.manifest import versions
from rl.trainer import TeacherRun, Trainer

LOG_FRAMES = 40_000  # between two lines of metrics


def train(config: TeacherRun, trainer: Trainer, board: Board, folder: Path, stop: Stop) -> bool:
    """Run to the end of the budget, to the score that is enough, or to a signal; True when the job is done."""
    own = config.teacher
    ticker = Ticker(own.train_frames, trainer.frames)
    saved_s, next_eval = time.monotonic(), (trainer.frames // own.eval_frames + 1) * own.eval_frames
    logged, logged_s = trainer.frames, time.monotonic()
    enough = _reached(trainer.best, own.stop_score)
    while trainer.frames < own.train_frames and not stop and not enough:
        metrics = trainer.step()
        ticker.show(trainer.frames, f"{trainer.frames / 1e6:.2f}M frames  score {trainer.score:.1f}")
        if trainer.frames - logged >= LOG_FRAMES:
            now = time.monotonic()
            speed = {"time/fps": (trainer.frames - logged) / (now - logged_s), "time/wall_s": trainer.wall_s}
            seen = {"rollout/ep_score_mean": trainer.score, "rollout/exploration_rate": trainer.epsilon}
            board.write(trainer.frames, metrics | seen | speed | trainer.throughput())
            logged, logged_s = trainer.frames, now
        if trainer.frames >= next_eval:
            next_eval += own.eval_frames
            score = _keep_best(trainer, board, folder, own.eval_episodes)
            ticker.say(f"{trainer.frames / 1e6:.2f}M frames: evaluation {score:.1f}, best {trainer.best:.1f}")
            enough = _reached(score, own.stop_score)
        if time.monotonic() - saved_s >= own.checkpoint_s:
            trainer.save()
            saved_s = time.monotonic()
    if not stop and not enough:  # the last word of the schedule counts too
        _keep_best(trainer, board, folder, own.eval_episodes)
    trainer.save()
    return not stop


def _reached(score: float | None, enough: float | None) -> bool:
    return score is not None and enough is not None and score >= enough


def _keep_best(trainer: Trainer, board: Board, folder: Path, episodes: int) -> float:
    score = trainer.evaluate(episodes)
    board.write(trainer.frames, {"eval/mean_reward": score.mean})
    board.flush()
    if trainer.best is None or score.mean > trainer.best:
        trainer.best = score.mean
        save_policy(trainer.policy(score), folder / "policy.safetensors")
    return score.mean


def report(config: TeacherRun, trainer: Trainer, folder: Path) -> dict[str, Any]:
    """Score the policy that was kept, as it will be used: float16 parameters, float32 arithmetic."""
    if not (folder / "policy.safetensors").exists():
        save_policy(trainer.policy(trainer.evaluate(config.teacher.eval_episodes)), folder / "policy.safetensors")
    policy = load_policy(folder / "policy.safetensors")
    network = policy.build()

    def act(stacks: Frames) -> NDArray[np.int64]:
        with torch.no_grad():
            return network(torch.from_numpy(stacks)).argmax(dim=1).numpy()  # type: ignore[no-any-return]

    score = trainer.evaluate(config.teacher.report_episodes, act)
    facts = {
        "what": "teacher",
        "game": config.name,
        "policy": policy.digest,
        "policy_frames": policy.training["frames"],
        "frames": trainer.frames,
        "wall_s": trainer.wall_s,
        "score": score.to_json(),
        "settings": asdict(config),
        "versions": versions(),
    }
    write_json(folder / "report.json", facts)
    return facts


@hydra.main(version_base=None, config_path="../conf", config_name="teacher")
def main(tree: DictConfig) -> None:
    """Train, or go on training."""
    text = OmegaConf.to_yaml(tree, resolve=True)
    run(lambda: command(settings(TeacherRun, OmegaConf.to_container(tree, resolve=True)), text))  # type: ignore[arg-type]


def command(config: TeacherRun, text: str) -> int:
    folder = Path(config.root) / config.name / "teacher"
    with only_one(folder):
        stop = Stop()
        trainer = Trainer(config, folder)
        if trainer.resumed:
            print(f"{folder}: going on at {trainer.frames:,} frames; the envs begin new episodes")
        with Board(folder, trainer.frames if trainer.resumed else None) as board:
            board.text("config", f"```\n{text}\n```")
            try:
                done = train(config, trainer, board, folder, stop)
            finally:
                trainer.close()
        if not done:
            print(f"{folder}: stopped at {trainer.frames:,} frames; the same command goes on")
            return stop.status()
        stop.restore()
        score = report(config, trainer, folder)["score"]
        print(f"{config.name} teacher: {score['mean']:.2f} over {config.teacher.report_episodes} episodes, {folder}")
    return 0


if __name__ == "__main__":
    launch(main)

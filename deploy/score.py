"""make score: teacher, student and chip under one named protocol, on the same seeds, side by side."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path

import hydra
import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from deploy.batch import BatchRunner
from deploy.pacer import Pacer
from deploy.players import PLAYERS, action_ids, load_chip, make_player
from deploy.realtime import PlayReport, RealtimeSettings, play_realtime
from deploy.spec import load_spec
from deploy.video import VideoScreen
from rl.board import Board, Ticker
from rl.checkpoint import load_policy
from rl.command import launch, run, settings
from rl.files import digest, write_json
from rl.frames import Frames, pixels
from rl.games import ScalarGame, action_meanings
from rl.loop import Player, RandomPlayer
from rl.manifest import versions
from rl.scores import REFERENCE, Protocol, Score, episode_return, evaluate, protocol
from rl.settings import need
from rl.stages import CHIP, STUDENT, TEACHER, find

BATCHED = ("teacher", "student", "spec", "chip")
SCORED = tuple(name for name in PLAYERS if name != "human")
Act = Callable[[Frames], NDArray[np.int64]]  # stacks [B, 21, 21, 64] -> actions [B]


@dataclass(frozen=True)
class ScoreSettings:
    """What is scored, and under which rules."""

    players: tuple[str, ...]
    protocol: str
    episodes: int
    seed: int
    processes: int
    video_seconds: float  # of each player; 0: none

    def __post_init__(self) -> None:
        need(self.episodes >= 1, "score.episodes", self.episodes, "1 or more")
        need(len(self.players) >= 1, "score.players", self.players, "at least one player")
        for player in self.players:
            need(player in SCORED, "score.players", player, ", ".join(SCORED))
        need(self.processes >= 1, "score.processes", self.processes, "1 or more")
        need(self.video_seconds >= 0, "score.video_seconds", self.video_seconds, "0 (no video) or more")


@dataclass(frozen=True)
class ScoreRun:
    """The command's settings."""

    name: str
    root: str
    score: ScoreSettings


class Worker:
    """A player in a process of its own: made once, plays the episodes that it is handed."""

    player: Player
    actions: tuple[str, ...]
    game: str
    rules: Protocol

    @classmethod
    def begin(cls, name: str, game: str, root: str, rules: Protocol) -> None:
        """Make this process's player."""
        torch.set_num_threads(1)
        cls.actions = action_meanings(game, rules.env)
        with redirect_stdout(StringIO()):  # which files are read has been said once
            cls.player = make_player(name, game, cls.actions, root, rules.seed, frozenset)
        cls.game, cls.rules = game, rules

    @classmethod
    def play(cls, index: int) -> float:
        player = cls.player
        if isinstance(player, RandomPlayer):
            # A stream an episode, so that which process plays it does not matter; another one than its strays have.
            player = RandomPlayer(len(cls.actions), 2**31 + cls.rules.seed + index)
        return episode_return(player, cls.game, cls.rules, index)


def score_one_by_one(player: str, config: ScoreRun, rules: Protocol) -> Score:
    """Any player, through the one interface that also plays in real time; episodes shared out to processes."""
    ticker, returns = Ticker(rules.episodes), list[float]()
    arguments = (player, config.name, config.root, rules)
    context = multiprocessing.get_context("spawn")
    with context.Pool(config.score.processes, Worker.begin, arguments) as pool:
        for done in pool.imap(Worker.play, range(rules.episodes)):
            returns.append(done)
            ticker.show(len(returns), f"{player}: {len(returns)} episodes, mean {np.mean(returns):.2f}")
    return Score(config.name, player, rules, tuple(returns))


def score_at_once(player: str, config: ScoreRun, rules: Protocol) -> Score:
    """A model, all episodes in one batch: equal to one by one, and several times faster."""
    act, known = {"teacher": _teacher, "chip": _chip}.get(player, _student)(config)
    actions = action_meanings(config.name, rules.env)
    ids = action_ids(known, actions, f"{player} of {config.name}")
    ticker = Ticker(rules.episodes)
    return evaluate(lambda stacks: ids[act(stacks)], config.name, rules, 1, player, ticker)


def _teacher(config: ScoreRun) -> tuple[Act, tuple[str, ...]]:
    policy = load_policy(find(TEACHER, config.name, config.root))
    network = policy.build()

    def act(stacks: Frames) -> NDArray[np.int64]:
        with torch.no_grad():
            return network(torch.from_numpy(stacks)).argmax(dim=1).numpy()  # type: ignore[no-any-return]

    return act, policy.actions


def _student(config: ScoreRun) -> tuple[Act, tuple[str, ...]]:
    spec, _ = load_spec(find(STUDENT, config.name, config.root))
    return lambda stacks: spec.act(pixels(stacks), config.name), spec.head(config.name).actions


def _chip(config: ScoreRun) -> tuple[Act, tuple[str, ...]]:
    spec, compiled = load_chip(config.name, config.root)
    head, runner = spec.head(config.name), BatchRunner(compiled)

    def act(stacks: Frames) -> NDArray[np.int64]:
        votes = runner.answers(spec.transduce(pixels(stacks)))
        return np.asarray(votes[:, head.start : head.stop].argmax(axis=1))

    return act, head.actions


def film(player: str, config: ScoreRun, rules: Protocol, path: Path) -> None:
    """A video of a player at the game's own speed, made as fast as it can be."""
    game = ScalarGame(config.name, rules.env, rules.seed)
    actor = make_player(player, config.name, game.actions, config.root, rules.seed, frozenset)
    clock = _Clock()
    own = RealtimeSettings(config.score.video_seconds, 30, rules.env.frames_per_step // 2)
    screen = VideoScreen(path, pictures_per_s=own.pictures_per_s)
    try:
        pacer = Pacer(own.period_s, clock.now, clock.sleep)
        play_realtime(game, actor, screen, pacer, own, lambda: True, title=f"{config.name} | {player}", tell=_quiet)
    finally:
        screen.close()


class _Clock:
    """Time that passes only by sleeping: a recording is never late."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def now(self) -> float:
        return self._now_s

    def sleep(self, seconds: float) -> None:
        self._now_s += seconds
        time.sleep(0.002)  # the encoder keeps up with its queue


def _quiet(report: PlayReport) -> None:
    pass


def model_digests(game: str, root: str, players: tuple[str, ...]) -> dict[str, str]:
    """sha256 of each model file that was scored, so that a card can tell whether it is the one that ships."""
    needed = {"teacher": (TEACHER,), "student": (STUDENT,), "spec": (STUDENT,), "chip": (STUDENT, CHIP)}
    stages = {stage for player in players for stage in needed.get(player, ())}
    with redirect_stdout(StringIO()):
        return {stage: digest(find(stage, game, root).read_bytes()) for stage in sorted(stages)}


def table(scores: list[Score], teacher: Score | None) -> str:
    """Scores as Markdown."""
    lines = ["| player | mean | 95 % interval | median | human-normalised | of teacher |", "|---|---|---|---|---|---|"]
    for score in scores:
        low, high = score.interval
        human = "-" if score.human_normalised is None else f"{score.human_normalised:.2f}"
        share = share_of(score, teacher)
        of = "-" if share is None else f"{share:.3f}"
        median = float(np.median(score.returns))
        lines.append(f"| {score.player} | {score.mean:.2f} | {low:.2f} .. {high:.2f} | {median:.1f} | {human} | {of} |")
    return "\n".join(lines)


def share_of(score: Score, teacher: Score | None) -> float | None:
    """(score - random) / (teacher - random), where random is published and the teacher beats it."""
    if teacher is None or score.game not in REFERENCE:
        return None
    gain = teacher.mean - REFERENCE[score.game][0]
    return (score.mean - REFERENCE[score.game][0]) / gain if gain > 0 else None


def tell(scores: list[Score], root: Path) -> None:
    """The same tags for every player, a folder each, so that TensorBoard lays them over each other."""
    for score in scores:
        low, high = score.interval
        facts = {"score/mean": score.mean, "score/low": low, "score/high": high}
        if score.human_normalised is not None:
            facts["score/human_normalised"] = score.human_normalised
        with Board(root / score.player) as board:
            board.write(0, facts)
            for index, value in enumerate(score.returns):
                board.write(index, {"score/episode_return": value})


def command(config: ScoreRun) -> int:
    own, root = config.score, Path(config.root) / config.name
    torch.set_num_threads(1)
    rules = protocol(own.protocol, own.episodes, own.seed)
    actions = action_meanings(config.name, rules.env)
    for player in own.players:  # what is missing should be said before hours are spent on the others
        make_player(player, config.name, actions, config.root, own.seed, frozenset)
    start, scores = time.monotonic(), []
    for player in own.players:
        scorer = score_at_once if player in BATCHED else score_one_by_one
        scores.append(scorer(player, config, rules))
    teacher = next((score for score in scores if score.player == "teacher"), None)
    folder = root / "score" / own.protocol
    text = table(scores, teacher)
    facts = {
        "what": "score",
        "game": config.name,
        "protocol": asdict(rules),
        "scores": {score.player: score.to_json() | {"of_teacher": share_of(score, teacher)} for score in scores},
        "models": model_digests(config.name, config.root, own.players),
        "wall_s": time.monotonic() - start,
        "settings": asdict(config),
        "versions": versions(),
    }
    write_json(folder / "report.json", facts)
    tell(scores, root)
    for player in own.players if own.video_seconds else ():
        film(player, config, rules, folder / f"{player}.mp4")
    print(f"{config.name}, protocol {rules.name}: {rules.episodes} episodes each, epsilon {rules.epsilon}, {rules.env}")
    print(f"{text}\nreport: {folder / 'report.json'}")
    return 0


@hydra.main(version_base=None, config_path="../conf", config_name="score")
def main(tree: DictConfig) -> None:
    """Score."""
    run(lambda: command(settings(ScoreRun, OmegaConf.to_container(tree, resolve=True))))  # type: ignore[arg-type]


if __name__ == "__main__":
    launch(main)

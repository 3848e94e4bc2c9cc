"""make score: players of one game or many under one named protocol, on the same seeds, side by side."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from functools import partial
from io import StringIO
from pathlib import Path

import hydra
import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from deploy.aggregate import aggregate, aggregate_text, sheet
from deploy.batch import BatchRunner
from deploy.interrupts import interrupts_ignored
from deploy.pacer import Pacer, VirtualClock
from deploy.panels import panels_svg
from deploy.players import PLAYERS, action_ids, load_chip, load_own, make_player
from deploy.realtime import PlayReport, RealtimeSettings, play_realtime
from deploy.reports import (
    FILES,
    OF_SEVERAL,
    joined,
    kept_scores,
    model_digests,
    present_digests,
    report,
    shipped_scores,
    table,
)
from deploy.spec import load_spec
from deploy.video import VideoScreen
from rl.board import Board, Ticker
from rl.checkpoint import load_policy
from rl.command import launch, only_one, run, settings
from rl.files import write_json, write_whole
from rl.frames import Frames, pixels
from rl.games import ScalarGame, action_meanings
from rl.loop import Player, RandomPlayer
from rl.manifest import versions
from rl.scores import Protocol, Score, episode_return, evaluate, in_words, protocol
from rl.settings import SettingsError, need
from rl.stages import INT4, INT8, STUDENT, TEACHER, find, label

BATCHED = ("teacher", "student", "spec", "chip", "int8", "int4")
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
    again: bool  # play everything anew, whatever is kept

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

    games: tuple[str, ...]
    root: str
    runs: tuple[str, ...]  # folders like root, of trainings apart from each other; none: root alone
    several: str | None  # games of a student of several, whose scores stand in its folder; None: each game's own
    score: ScoreSettings

    def __post_init__(self) -> None:
        need(len(self.games) >= 1, "games", self.games, "one or more")
        need(len(set(self.games)) == len(self.games), "games", self.games, "each game once")
        need(len(set(self.runs)) == len(self.runs), "runs", self.runs, "each folder once")

    def jobs(self) -> list[GameRun]:
        """One game of one training each; a player without a model is the same in every training: it plays once."""
        models = tuple(player for player in self.score.players if player in FILES)
        first, *others = self.runs or (self.root,)
        jobs = [GameRun(game, first, self.score, self.several) for game in self.games]
        more = replace(self.score, players=models) if models and others else None
        return [*jobs, *(GameRun(game, root, more, self.several) for root in others if more for game in self.games)]

    @property
    def folder(self) -> Path:
        """Where all games together are told."""
        return Path(self.root) / (self.several or label(self.games)) / "score" / self.score.protocol


@dataclass(frozen=True)
class GameRun:
    """One game of one run."""

    name: str
    root: str
    score: ScoreSettings
    student: str | None = None  # as `ScoreRun.several`

    @property
    def own(self) -> str:
        """The folder of the student that plays it."""
        return self.student or self.name

    @property
    def rules(self) -> Protocol:
        return protocol(self.score.protocol, self.score.episodes, self.score.seed)

    @property
    def folder(self) -> Path:
        folder = Path(self.root) / self.own / "score" / self.score.protocol
        return folder / self.name if self.student else folder

    @property
    def alone(self) -> Path:
        """Where the game is scored with a student of its own."""
        return replace(self, student=None).folder


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


def score_one_by_one(player: str, config: GameRun, rules: Protocol) -> Score:
    """Any player, through the one interface that also plays in real time; episodes shared out to processes."""
    ticker, returns = Ticker(rules.episodes), list[float]()
    arguments = (player, config.name, config.root, rules)
    context = multiprocessing.get_context("spawn")
    with interrupts_ignored():
        pool = context.Pool(config.score.processes, Worker.begin, arguments)
    with pool:
        for done in pool.imap(Worker.play, range(rules.episodes)):
            returns.append(done)
            ticker.show(len(returns), f"{player}: {len(returns)} episodes, mean {np.mean(returns):.2f}")
    return Score(config.name, player, rules, tuple(returns))


def score_at_once(player: str, config: GameRun, rules: Protocol) -> Score:
    """A model, all episodes in one batch: equal to one by one, and several times faster."""
    with redirect_stdout(StringIO()):  # which files are read has been said once
        integers = {"int8": partial(_integers, INT8), "int4": partial(_integers, INT4)}
        models: dict[str, Callable[[GameRun], tuple[Act, tuple[str, ...]]]]
        models = {"teacher": _teacher, "chip": _chip, **integers}
        act, known = models.get(player, _student)(config)
    actions = action_meanings(config.name, rules.env)
    ids = action_ids(known, actions, f"{player} of {config.name}")
    ticker = Ticker(rules.episodes)
    return evaluate(lambda stacks: ids[act(stacks)], config.name, rules, 1, player, ticker)


def _teacher(config: GameRun) -> tuple[Act, tuple[str, ...]]:
    policy = load_policy(find(TEACHER, config.name, config.root))
    network = policy.build()

    def act(stacks: Frames) -> NDArray[np.int64]:
        with torch.no_grad():
            return network(torch.from_numpy(stacks)).argmax(dim=1).numpy()  # type: ignore[no-any-return]

    return act, policy.actions


def _student(config: GameRun) -> tuple[Act, tuple[str, ...]]:
    spec, _ = load_spec(find(STUDENT, config.own, config.root))
    return lambda stacks: spec.act(pixels(stacks), config.name), spec.head(config.name).actions


def _integers(stage: str, config: GameRun) -> tuple[Act, tuple[str, ...]]:
    spec = load_own(stage, config.name, config.root)
    return lambda stacks: spec.act(pixels(stacks)), spec.actions


def _chip(config: GameRun) -> tuple[Act, tuple[str, ...]]:
    spec, compiled = load_chip(config.own, config.root)
    head, runner = spec.head(config.name), BatchRunner(compiled)

    def act(stacks: Frames) -> NDArray[np.int64]:
        votes = runner.answers(spec.transduce(pixels(stacks)))
        return np.asarray(votes[:, head.start : head.stop].argmax(axis=1))

    return act, head.actions


def film(player: str, config: GameRun, rules: Protocol, path: Path) -> None:
    """A video of a player at the game's own speed, made as fast as it can be; one that is interrupted leaves none."""
    game = ScalarGame(config.name, rules.env, rules.seed)
    with redirect_stdout(StringIO()):
        actor = make_player(player, config.name, game.actions, config.root, rules.seed, frozenset, None, config.student)
    clock = VirtualClock()
    own = RealtimeSettings(config.score.video_seconds, 30, rules.env.frames_per_step // 2)
    pacer = Pacer(own.period_s, clock.now, clock.sleep)
    with VideoScreen(path, pictures_per_s=own.pictures_per_s) as screen:
        play_realtime(game, actor, screen, pacer, own, lambda: True, title=f"{config.name} | {player}", tell=_quiet)


def _quiet(report: PlayReport) -> None:
    pass


def tell(score: Score, folder: Path, since: int) -> None:
    """The same tags for every player, a folder each, so that TensorBoard lays them over each other."""
    low, high = score.interval
    facts = {"score/mean": score.mean, "score/low": low, "score/high": high}
    if score.human_normalised is not None:
        facts["score/human_normalised"] = score.human_normalised
    with Board(folder / score.player) as board:
        board.write(0, facts)
        for index, value in enumerate(score.returns[since:], since):
            board.write(index, {"score/episode_return": value})


def need_players(jobs: Sequence[GameRun]) -> None:
    """Make every player of every game once: what is missing should be said before hours are spent on the others.

    Raises SettingsError with all that is missing; FormatError for the first file that is no model.
    """
    problems: list[str] = []
    for job in jobs:
        actions = action_meanings(job.name, job.rules.env)
        for player in job.score.players:
            try:
                make_player(player, job.name, actions, job.root, job.score.seed, frozenset, None, job.student)
            except SettingsError as problem:
                problems.append(str(problem))
    if problems:
        raise SettingsError("\n".join(dict.fromkeys(problems)))


def need_apart(jobs: Sequence[GameRun]) -> None:
    """Raise SettingsError where two runs play one model: its episodes would pass for those of two trainings."""
    seen: dict[tuple[str, str, str], str] = {}
    for job in jobs:
        for file, found in model_digests(job.name, job.root, job.score.players, job.student).items():
            before = seen.setdefault((job.name, file, found), job.root)
            if before != job.root:
                raise SettingsError(
                    f"runs: {before} and {job.root} have the same {file} of {job.name}, must be trained apart; "
                    "name folders with models of their own"
                )


def score_game(job: GameRun) -> dict[str, Score]:
    """Each player's score of one game: what is kept, and what is missing played; on disk after every player."""
    own, path = job.score, job.folder / "report.json"
    with only_one(job.folder):
        models = present_digests(job.name, job.root, job.student)
        here, before_s = kept_scores(path, job.name, job.rules, models)
        kept = kept_of_alone(job, models) | here
        scores = {player: score for player, score in kept.items() if not (own.again and player in own.players)}
        start, before_s = time.monotonic(), before_s if scores else 0.0
        for player in own.players:
            have, video = scores.get(player), job.folder / f"{player}.mp4"
            scores[player] = play_missing(job, player, have)
            if own.video_seconds and scores[player] is not have:
                # Before the report: whoever goes on after an interrupt must not take it for one of this score.
                video.unlink(missing_ok=True)
            if scores[player] is not here.get(player):
                facts = report(job.name, job.rules, scores, models, before_s + time.monotonic() - start)
                write_json(path, facts | {"settings": asdict(job), "versions": versions()})
                board = Path(job.root) / job.own / (job.name if job.student else "")
                tell(scores[player], board, len(here[player].returns) if player in here else 0)
            if own.video_seconds and not video.exists():
                film(player, job, job.rules, video)
    return {player: scores[player] for player in own.players}


def kept_of_alone(job: GameRun, models: Mapping[str, str]) -> dict[str, Score]:
    """What was scored beside the game's own student, of players that a student of several games does not change.

    Of a teacher that ships its card tells it.
    """
    if job.student is None:
        return {}
    others = [player for player in SCORED if not set(FILES.get(player, ())) & set(OF_SEVERAL)]
    own = kept_scores(job.alone / "report.json", job.name, job.rules, models, others)[0]
    return shipped_scores(job.name, job.rules, models, others) | own


def play_missing(job: GameRun, player: str, kept: Score | None) -> Score:
    """A player's score of all episodes that are asked for; what is kept is not played again."""
    rules, have = job.rules, len(kept.returns) if kept else 0
    if kept and have >= rules.episodes:
        print(f"{job.name}: {player} keeps its {have} episodes")
        return kept
    scorer = score_at_once if player in BATCHED else score_one_by_one
    return joined(kept, scorer(player, job, replace(rules, seed=rules.seed + have, episodes=rules.episodes - have)))


def show(job: GameRun, scores: Mapping[str, Score]) -> None:
    rules = job.rules
    told = f"{rules.episodes} episodes each, epsilon {rules.epsilon}, {in_words(asdict(rules.env))}"
    print(f"{job.name}, protocol {rules.name}: {told}")
    print(f"{table(list(scores.values()), scores.get('teacher'))}\nreport: {job.folder / 'report.json'}")


def show_together(config: ScoreRun, jobs: Sequence[GameRun], scores: Sequence[Mapping[str, Score]]) -> None:
    """Aggregates over games and runs: JSON, Markdown and a drawing beside each other, the Markdown also printed."""
    runs: dict[str, dict[str, Mapping[str, Score]]] = {}
    for job, own in zip(jobs, scores, strict=True):
        runs.setdefault(job.root, {})[job.name] = own
    facts = aggregate(list(runs.values()), jobs[0].rules)
    folder = config.folder
    told = {"runs": list(runs), "reports": [str(job.folder / "report.json") for job in jobs]}
    write_json(folder / "aggregate.json", facts | told | {"settings": asdict(config), "versions": versions()})
    write_whole(folder / "aggregate.md", aggregate_text(facts).encode())
    write_whole(folder / "aggregate.svg", panels_svg(sheet(facts)).encode())
    print(f"\n{aggregate_text(facts)}\n{folder}: aggregate.json, aggregate.md, aggregate.svg")


def command(config: ScoreRun) -> int:
    """Score game by game, each on disk as soon as it is over; then all together."""
    torch.set_num_threads(1)
    jobs, scores = config.jobs(), list[Mapping[str, Score]]()
    need_players(jobs)
    if config.runs:
        need_apart(jobs)
    for job in jobs:
        try:
            scores.append(score_game(job))
        except KeyboardInterrupt:
            print("\nstopped; players that were done are kept, the same command goes on", file=sys.stderr)
            raise
        show(job, scores[-1])
    if len(jobs) > 1:
        show_together(config, jobs, scores)
    return 0


@hydra.main(version_base=None, config_path="../conf", config_name="score")
def main(tree: DictConfig) -> None:
    """Score."""
    run(lambda: command(settings(ScoreRun, OmegaConf.to_container(tree, resolve=True))))  # type: ignore[arg-type]


if __name__ == "__main__":
    launch(main)

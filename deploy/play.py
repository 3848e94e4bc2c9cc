"""make play: a game in real time; the chip plays unless another player is asked for."""

from __future__ import annotations

import os
import sys
import time
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from deploy.arcade.address import WebSettings
from deploy.compiled import load_compiled
from deploy.interrupts import Interrupts
from deploy.pacer import Pacer
from deploy.players import make_player
from deploy.realtime import PlayReport, RealtimeSettings, pictures_per_step, play_realtime, thoughts_of
from deploy.replay import Record, save_replay
from deploy.replaying import REPLAY, RecordedGame, played_with
from deploy.reports import model_digests
from deploy.screens import Both, NoScreen, Screen
from deploy.views import need_keys, open_view
from rl.command import launch, run, settings
from rl.files import need_place, write_json
from rl.games import EnvSettings, ScalarGame
from rl.manifest import versions
from rl.stages import CHIP, find


@dataclass(frozen=True)
class PlaySettings:
    """Who plays, how it is seen, and how long."""

    player: str
    chip: str | None  # a file with the core graph, in any format; None: the game's own chip
    student: str | None  # games of a student of several, Pong-Breakout; None: the game's own
    view: str
    seed: int
    save: bool  # a replay too
    realtime: RealtimeSettings
    web: WebSettings


@dataclass(frozen=True)
class PlayRun:
    """The command's settings."""

    name: str
    root: str
    env: EnvSettings
    play: PlaySettings

    def __post_init__(self) -> None:
        # Asked here too: what cannot be played should be said before a window or a file is opened.
        pictures_per_step(self.env.frames_per_step, self.play.realtime.frames_per_picture)


def screens(config: PlayRun, folder: Path) -> tuple[Screen, Any]:
    """The view that was asked for and, unless it is `none`, an mp4 of the run (None without one)."""
    own = config.play
    view = open_view(own.view, f"{config.name} | {own.player}")
    if own.view == "none":
        return view, None
    from deploy.video import VideoScreen

    try:
        video = VideoScreen(folder / "play.mp4", pictures_per_s=own.realtime.pictures_per_s)
    except BaseException:
        view.close()  # the terminal must be given back
        raise
    return Both([view, video]), video


def command(config: PlayRun) -> int:
    own = config.play
    folder = Path(config.root) / config.name / "play" / f"{own.player}-{datetime.now():%Y%m%d-%H%M%S}"
    if own.view == "web":
        return page(config, folder)
    if own.player == "human":
        need_keys(own.view)
    game = ScalarGame(config.name, config.env, own.seed)
    # The player first: what is missing should be said before a window opens.
    keys = _Keys()
    player = make_player(own.player, config.name, game.actions, config.root, own.seed, keys, own.chip, own.student)
    mind, record = thoughts_of(player), Record()
    recorded = RecordedGame(game, mind, record) if own.save else game
    need_place(folder)
    screen, video = screens(config, folder)
    keys.screen = screen
    pacer = Pacer(own.realtime.period_s, time.perf_counter, time.sleep)
    told: list[PlayReport] = []
    try:
        with Interrupts() as signals:
            title = f"{config.name} | {own.player}"
            report = play_realtime(
                recorded, player, screen, pacer, own.realtime, signals.keep_going, title=title, tell=told.append
            )
    finally:
        try:
            screen.close()
        finally:  # also where the video could not be finished
            print(*told, sep="\n")
    if own.save:
        _save(config, folder, record, game.actions, getattr(player, "graph", None))
    _write(config, folder, report, getattr(player, "ticks", None), video)
    return 0


def _save(config: PlayRun, folder: Path, record: Record, actions: tuple[str, ...], graph: str | None) -> None:
    """Leave the replay, unless not even one step was finished or it could not name the `graph` that was played."""
    own = config.play
    if own.chip is not None and graph != _own_graph(config):
        print(f"no replay: {own.chip} holds another graph than the game's own chip, which a replay is played with")
        return
    models = model_digests(config.name, config.root, [own.player], own.student)
    played = played_with(config.name, own.player, own.student, config.env, own.seed, actions, models)
    replay = record.replay(played)
    if replay is not None:
        save_replay(replay, folder / REPLAY)
        print(f"replay: {folder / REPLAY}")


def _own_graph(config: PlayRun) -> str:
    """The digest of the chip's own graph."""
    with redirect_stdout(StringIO()):  # which file it is has been said once
        path = find(CHIP, config.play.student or config.name, config.root)
    return load_compiled(path)[0].digest


def page(config: PlayRun, folder: Path) -> int:
    """The arcade: the game on a page of its own."""
    from deploy.arcade.cabinet import Stock  # the other views need no server
    from deploy.arcade.serve import show_page

    own = config.play
    graphs = {} if own.chip is None else {config.name: own.chip}
    stock = Stock(config.root, config.env, own.seed, own.student, graphs)
    need_place(folder)
    report = show_page(config.name, own.player, stock, own.realtime, own.web, folder)
    _say(str(report))
    _write(config, folder, report, None, None)
    return 0


def _say(text: str) -> None:
    """Print, to whoever still listens: the terminal may have been closed, and the job was done all the same."""
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered goes there too, at exit


class _Keys:
    """The keys of a screen that opens later than the player who reads them."""

    def __init__(self) -> None:
        self.screen: Screen = NoScreen()

    def __call__(self) -> frozenset[str]:
        return self.screen.keys()


def _write(config: PlayRun, folder: Path, report: PlayReport, ticks: int | None, video: Any) -> None:
    facts = {"what": "play", "game": config.name, "player": config.play.player, **report.to_json()}
    facts |= {"settings": asdict(config), "versions": versions()}
    if ticks is not None:
        facts["ticks"] = ticks
    if video is not None:
        facts |= {"video": str(video.path), "video_pictures": video.written, "video_dropped": video.dropped}
    write_json(folder / "report.json", facts)
    _say(f"report: {folder / 'report.json'}" + (f"\nvideo: {video.path}" if video is not None else ""))


@hydra.main(version_base=None, config_path="../conf", config_name="play")
def main(tree: DictConfig) -> None:
    """Play."""
    run(lambda: command(settings(PlayRun, OmegaConf.to_container(tree, resolve=True))))  # type: ignore[arg-type]


if __name__ == "__main__":
    launch(main)

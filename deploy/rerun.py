"""make replay: a recorded run again, decision for decision, with all that its chip did; or where it parts from that."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from deploy.interrupts import Interrupts
from deploy.pacer import Pacer, VirtualClock
from deploy.players import make_player
from deploy.realtime import PlayReport, RealtimeSettings, pictures_per_step, play_realtime
from deploy.replay import Check, Replay, differences, load_replay
from deploy.replaying import REPEATABLE, REPLAY, Again, RecordedGame, env_of, rom_digest
from deploy.reports import model_digests
from deploy.screens import Screen
from deploy.views import open_view
from rl.command import launch, run, settings
from rl.files import write_json
from rl.games import ScalarGame
from rl.loop import Player
from rl.manifest import versions
from rl.settings import SettingsError, need
from rl.stages import MODELS

WATCHED = ("auto", "window", "terminal")  # somebody watches; a video or a mere check is made as fast as it can be
VIEWS = (*WATCHED, "video", "none")


@dataclass(frozen=True)
class ReplaySettings:
    """What is played again, and how it is seen."""

    file: str | None  # None: the one that ships with the game
    view: str
    realtime: RealtimeSettings

    def __post_init__(self) -> None:
        need(self.view in VIEWS, "replay.view", self.view, ", ".join(VIEWS))


@dataclass(frozen=True)
class ReplayRun:
    """The command's settings."""

    name: str
    root: str
    replay: ReplaySettings

    @property
    def path(self) -> Path:
        """The file; raises SettingsError where it is missing."""
        path = Path(self.replay.file) if self.replay.file else MODELS / self.name / REPLAY
        if not path.exists():
            raise SettingsError(
                f"replay.file: {path} does not exist; name one that make play wrote, runs/*/play/*/{REPLAY}"
            )
        return path


def thinker_of(replay: Replay, game: ScalarGame, root: str) -> Player | None:
    """The player of the run where it thinks alike everywhere, else none; raises SettingsError where it is missing."""
    own = replay.played
    if own.player not in REPEATABLE or not replay.thinks:
        return None
    return make_player(own.player, own.game, game.actions, root, own.seed, frozenset, None, own.student)


def present_differences(replay: Replay, root: str) -> list[str]:
    """What is not as it was when the run was recorded, in words."""
    own = replay.played
    players = [own.player] if own.player in REPEATABLE else []
    return differences(replay, model_digests(own.game, root, players, own.student), versions(), rom_digest(own.game))


def again(config: ReplayRun, replay: Replay, open_screen: Callable[[], Screen]) -> PlayReport:
    """Play it again before a screen; raises ReplayError where the runs part."""
    own, asked = replay.played, config.replay.realtime
    game = ScalarGame(own.game, env_of(replay), own.seed)
    if game.actions != own.actions:
        raise SettingsError(f"{config.path}: actions {', '.join(own.actions)}; here {', '.join(game.actions)}")
    thinker = thinker_of(replay, game, config.root)
    for line in present_differences(replay, config.root):
        print(f"note: {line}")
    player = Again(replay, thinker)
    pictures = len(replay) * pictures_per_step(game.frames_per_step, asked.frames_per_picture)
    whole_s = pictures / asked.pictures_per_s
    pace = RealtimeSettings(min(asked.seconds or whole_s, whole_s), asked.pictures_per_s, asked.frames_per_picture)
    recorded = RecordedGame(game, player, Check(replay, str(config.path), thinker is not None))
    title = f"{own.game} | {own.player} | replay"
    screen = open_screen()
    try:
        with Interrupts() as signals:
            return play_realtime(recorded, player, screen, _pacer(config), pace, signals.keep_going, title=title)
    finally:
        screen.close()


def _pacer(config: ReplayRun) -> Pacer:
    period_s = config.replay.realtime.period_s
    if config.replay.view in WATCHED:
        return Pacer(period_s, time.perf_counter, time.sleep)
    clock = VirtualClock()
    return Pacer(period_s, clock.now, clock.sleep)


def command(config: ReplayRun) -> int:
    own = config.replay
    replay = load_replay(config.path)
    folder = Path(config.root) / replay.played.game / "replay" / f"{datetime.now():%Y%m%d-%H%M%S}"
    video = folder / "replay.mp4" if own.view == "video" else None

    def screen() -> Screen:
        if video is None:
            return open_view(own.view, f"{replay.played.game} | replay")
        from deploy.video import VideoScreen  # the other views need no encoder

        return VideoScreen(video, pictures_per_s=own.realtime.pictures_per_s)

    report = again(config, replay, screen)
    # Who made a video as fast as it could be learns nothing from its pace.
    print(_words(replay, report) + (f"\n{report}" if own.view in WATCHED else ""))
    facts: dict[str, Any] = {"what": "replay", "file": str(config.path), **replay.played.to_json(), **report.to_json()}
    facts |= {"recorded": len(replay), "video": None if video is None else str(video), "settings": asdict(config)}
    write_json(folder / "report.json", facts)
    print(f"report: {folder / 'report.json'}" + (f"\nvideo: {video}" if video is not None else ""))
    return 0


def _words(replay: Replay, report: PlayReport) -> str:
    own = replay.played
    found = f"{report.decisions} of {len(replay)} decisions of {own.game} by {own.player}, as recorded to the bit"
    if own.player in REPEATABLE and replay.thinks:
        return f"{found}: pictures, scores, votes and spikes"
    return f"{found}: pictures and scores; why {own.player} chose so is not recorded"


@hydra.main(version_base=None, config_path="../conf", config_name="replay")
def main(tree: DictConfig) -> None:
    """Play it again."""
    run(lambda: command(settings(ReplayRun, OmegaConf.to_container(tree, resolve=True))))  # type: ignore[arg-type]


if __name__ == "__main__":
    launch(main)

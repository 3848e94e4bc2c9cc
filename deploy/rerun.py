"""make replay: a recorded run again, decision for decision, with all that its chip did; or where it parts from that."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from deploy.interrupts import Interrupts
from deploy.pacer import Pacer, VirtualClock
from deploy.realtime import PlayReport, RealtimeSettings
from deploy.replay import Replay, load_replay
from deploy.replaying import REPEATABLE, REPLAY, play_again, present_differences
from deploy.screens import Screen
from deploy.views import open_view
from rl.command import launch, run, settings
from rl.files import write_json
from rl.games import rom_id
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
            if not self.replay.file:
                rom_id(self.name)  # where there is no such game at all, that is the thing to say
            raise SettingsError(
                f"replay.file: {path} does not exist; name one that make play wrote, runs/*/play/*/{REPLAY}"
            )
        return path


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

    def screen() -> closing[Screen]:
        if video is None:
            return closing(open_view(own.view, f"{replay.played.game} | replay"))
        from deploy.video import VideoScreen  # the other views need no encoder

        return closing(VideoScreen(video, pictures_per_s=own.realtime.pictures_per_s))

    for line in present_differences(replay, config.root):
        print(f"note: {line}")
    with Interrupts() as signals:
        report = play_again(
            replay, str(config.path), config.root, screen, _pacer(config), own.realtime, signals.keep_going
        )
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

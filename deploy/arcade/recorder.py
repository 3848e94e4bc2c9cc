"""Clips: the pictures of the loop into an mp4 while viewers ask for one; files open and end beside the loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from deploy.screens import Picture
from deploy.video import VideoScreen

MOST_PICTURES = 3600  # of a clip: two minutes at 30 a second
MOST_CLIPS = 50  # of a show: whoever forgets a page fills no disk


class Recorder:
    """One clip after another; `show` is the loop's, `start` and `stop` are for another thread."""

    def __init__(self, folder: Path, pictures_per_s: int) -> None:
        self.folder, self._rate = folder, pictures_per_s
        self._screen: VideoScreen | None = None
        self._cut: VideoScreen | None = None
        self._shown = self._begun = 0
        self._now = self._of = 0  # number of the round that the loop plays, and of the one that the clip is of
        self.full: Callable[[], None] = lambda: None  # told by the loop that a clip may grow no longer

    def show(self, picture: Picture) -> None:
        """Keep a picture where a clip is under way; never waits."""
        screen = self._screen
        if screen is None or self._of != self._now:
            return
        screen.show(picture)
        self._shown += 1
        if self._shown == MOST_PICTURES:
            self.full()

    @property
    def under_way(self) -> bool:
        """Whether a clip takes pictures now."""
        return self._screen is not None

    def cut(self, number: int) -> None:
        """The loop begins round `number`: its pictures, which may be of another size, are none of an earlier clip."""
        self._now = number
        if self._of < number:
            self._cut, self._screen = self._screen or self._cut, None

    def start(self, number: int) -> None:
        """Open the next clip, of round `number`, which may be about to begin.

        Raises ScreenError where there are enough or the file cannot be written.
        """
        if self._begun == MOST_CLIPS:
            raise RuntimeError(f"clip: found {self._begun}, allowed {MOST_CLIPS} of one show; begin another show")
        self._begun, self._shown, self._of = self._begun + 1, 0, number
        self._screen = VideoScreen(self.folder / f"clip-{self._begun}.mp4", self._rate)

    def stop(self) -> Path | None:
        """End the clip under way and wait for its file; None where none is or it has no picture."""
        screen = self._screen or self._cut
        self._screen = self._cut = None
        if screen is None:
            return None
        screen.close()
        return screen.path if screen.written else None

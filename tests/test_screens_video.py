"""Every picture shown is in the mp4, in order; the file is whole or not there."""

from __future__ import annotations

import threading
from pathlib import Path

import av
import numpy as np
import pytest
from fakes import a_picture
from numpy.typing import NDArray

from deploy.panel import panel_width
from deploy.screens import Picture, ScreenError
from deploy.video import VideoScreen


def grey(picture: Picture) -> NDArray[np.uint8]:
    """A small image as bright as the picture's number."""
    return np.full((32, 48, 3), 10 * picture.pictures, np.uint8)


def decoded(path: Path) -> list[NDArray[np.uint8]]:
    """All images of a video, RGB."""
    with av.open(str(path)) as container:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]


def test_a_video_holds_game_and_panel_of_every_picture(tmp_path: Path) -> None:
    path = tmp_path / "new" / "play.mp4"
    video = VideoScreen(path, pictures_per_s=30)
    dark, bright = (np.full((210, 160, 3), value, np.uint8) for value in (0, 200))
    for i in range(10):
        video.show(a_picture(frame=bright if i >= 5 else dark, pictures=i))
    assert video.keys() == frozenset()
    video.close()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (str(stream.average_rate), stream.frames) == ("30", 10)
        assert container.duration == 333_333  # microseconds
    images = decoded(path)
    assert images[0].shape == (420, 320 + panel_width(420), 3)
    assert [image[:, :320].mean() > 100 for image in images] == [False] * 5 + [True] * 5
    assert images[0][:, 320:].max() > 150  # the panel is drawn
    assert (video.written, video.dropped) == (10, 0)


def test_pictures_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "play.mp4"
    video = VideoScreen(path, draw=grey)
    for i in range(20):
        video.show(a_picture(pictures=i))
    video.close()
    brightness = [image.mean() for image in decoded(path)]
    assert brightness == pytest.approx([10 * i for i in range(20)], abs=4)


def test_the_name_appears_only_with_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "play.mp4"
    path.write_bytes(b"of yesterday")
    video = VideoScreen(path, draw=grey)
    video.show(a_picture(pictures=7))
    assert path.read_bytes() == b"of yesterday"
    video.close()
    video.close()
    assert len(decoded(path)) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["play.mp4"]


def test_a_video_that_is_not_whole_takes_no_name(tmp_path: Path) -> None:
    path = tmp_path / "play.mp4"

    def interrupted(kind: type[BaseException]) -> None:
        with VideoScreen(path, draw=grey) as video:
            video.show(a_picture(pictures=7))
            raise kind("in the middle")

    for kind in (KeyboardInterrupt, OSError):
        with pytest.raises(kind, match=r"^in the middle$"):
            interrupted(kind)
        assert list(tmp_path.iterdir()) == []
    with VideoScreen(path, draw=grey) as video:
        video.show(a_picture(pictures=7))
    video.drop()  # after its end: nothing
    assert [file.name for file in tmp_path.iterdir()] == ["play.mp4"] and len(decoded(path)) == 1


def test_a_killed_run_leaves_a_file_that_plays(tmp_path: Path) -> None:
    path, drawn = tmp_path / "play.mp4", threading.Semaphore(0)

    def draw(picture: Picture) -> NDArray[np.uint8]:
        drawn.release()
        return grey(picture)

    video = VideoScreen(path, draw=draw)
    for i in range(200):
        video.show(a_picture(pictures=i % 20))
        drawn.acquire()
    with av.open(str(tmp_path / "play.mp4.part")) as container:  # as it stands: nobody closed it
        shown = sum(1 for _ in container.decode(video=0))
    video.close()
    assert shown >= 60


def test_a_slow_encoder_drops_and_counts_and_never_holds_up_the_loop(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def draw(picture: Picture) -> NDArray[np.uint8]:
        begun.set()
        go_on.wait()
        return grey(picture)

    video = VideoScreen(tmp_path / "play.mp4", waiting=3, draw=draw)
    video.show(a_picture(pictures=0))
    begun.wait()
    for i in range(1, 8):
        video.show(a_picture(pictures=i))
    go_on.set()
    video.close()
    assert (video.written, video.dropped) == (4, 4)
    assert [round(image.mean() / 10) for image in decoded(video.path)] == [0, 1, 2, 3]


def test_a_run_without_pictures_leaves_no_file(tmp_path: Path) -> None:
    video = VideoScreen(tmp_path / "play.mp4")
    video.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["file/play.mp4", "taken/play.mp4"])
def test_a_video_that_cannot_be_written_is_refused_at_once(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "taken" / "play.mp4.part").mkdir(parents=True)
    message = r"^video .*play\.mp4: .*; allowed a folder with space to write in; try another path$"
    with pytest.raises(ScreenError, match=message):
        VideoScreen(tmp_path / path)


def test_an_encoder_that_fails_is_told_at_the_end_and_leaves_the_old_video(tmp_path: Path) -> None:
    def draw(picture: Picture) -> NDArray[np.uint8]:
        raise OSError("No space left on device")

    path = tmp_path / "play.mp4"
    path.write_bytes(b"of yesterday")
    video = VideoScreen(path, waiting=2, draw=draw)
    for _ in range(5):
        video.show(a_picture())
    with pytest.raises(ScreenError, match=r"play\.mp4: No space left on device; allowed a folder with space"):
        video.close()
    assert path.read_bytes() == b"of yesterday"

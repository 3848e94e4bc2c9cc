"""A video as a screen: every picture into an mp4, encoded beside the loop, which never waits for it."""

from __future__ import annotations

import itertools
import os
import queue
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from deploy.panel import beside
from deploy.screens import Picture, ScreenError

WAITING = 600  # pictures that may wait for the encoder: 20 s at 30 a second, some 80 MB
# Ultrafast leaves the processor to the chip; a fragment every 2 s keeps even a killed run's file playable up to there.
CODEC = {"preset": "ultrafast", "crf": "18", "g": "60"}
CONTAINER = {"movflags": "hybrid_fragmented+frag_keyframe", "flush_packets": "1"}

Draw = Callable[[Picture], NDArray[np.uint8]]


class VideoScreen:
    """Writes an mp4 (H.264, yuv420p) of every picture shown; the file has its name once it is whole.

    Entered as a context it closes at the end, and after an exception leaves no file.
    """

    def __init__(
        self, path: Path, pictures_per_s: int = 30, scale: int = 2, waiting: int = WAITING, draw: Draw | None = None
    ) -> None:
        """Open path + ".part".

        Args:
            pictures_per_s: rate at which the video plays.
            scale: whole factor of the frame's size.
            waiting: pictures that may wait for the encoder before the next is dropped and counted.
            draw: Picture -> RGB image of even size; frame and panel side by side unless given.

        Raises:
            ScreenError: the file cannot be written.
        """
        self.path, self.written, self.dropped = path, 0, 0
        self._part = path.with_name(path.name + ".part")
        self._draw = draw or (lambda picture: beside(picture, scale))
        self._pictures: queue.Queue[Picture | None] = queue.Queue(waiting + 1)  # one place is for the end mark
        self._waiting = waiting
        self._failure: Exception | None = None
        self._open = True
        self._container = self._create()
        self._rate = pictures_per_s
        self._thread = threading.Thread(target=self._work, name="video", daemon=True)
        self._thread.start()

    def show(self, picture: Picture) -> None:
        if self._pictures.qsize() >= self._waiting:
            self.dropped += 1
        else:
            self._pictures.put_nowait(picture)

    def keys(self) -> frozenset[str]:
        return frozenset()

    def close(self) -> None:
        """Encode what still waits and give the file its name.

        Raises:
            ScreenError: the encoder failed; what it wrote until then stays under the temporary name.
        """
        if not self._open:
            return
        self._end()
        if self._failure is not None:
            raise self._broken(self._failure) from self._failure
        if self.written:
            os.replace(self._part, self.path)
        else:
            self._part.unlink()  # a run that showed nothing has no video

    def drop(self) -> None:
        """Close without a file: what is not whole takes no name."""
        if self._open:
            self._end()
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> VideoScreen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.drop()

    def _end(self) -> None:
        self._open = False
        self._pictures.put(None)
        self._thread.join()

    def _create(self) -> OutputContainer:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._part.write_bytes(b"")  # the container opens its file only at the first picture: too late to refuse
            return av.open(str(self._part), "w", format="mp4", options=CONTAINER)
        except (OSError, av.FFmpegError) as failure:
            raise self._broken(failure) from failure

    def _broken(self, failure: Exception) -> ScreenError:
        return ScreenError(f"video {self.path}: {failure}; allowed a folder with space to write in; try another path")

    def _work(self) -> None:
        """The thread: encodes until the end mark; after a failure it only empties the queue."""
        waiting = iter(self._pictures.get, None)
        try:
            with self._container as container:
                self._encode(container, waiting)
        except Exception as failure:  # told to whoever closes: the game goes on without its video
            self._failure = failure
            for _ in waiting:
                pass

    def _encode(self, container: OutputContainer, waiting: Iterator[Picture]) -> None:
        images = (np.ascontiguousarray(self._draw(picture)) for picture in waiting)
        first = next(images, None)
        if first is None:
            return
        stream = self._stream(container, first)
        for self.written, image in enumerate(itertools.chain((first,), images), start=1):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = self.written - 1, Fraction(1, self._rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    def _stream(self, container: OutputContainer, image: NDArray[np.uint8]) -> VideoStream:
        stream = container.add_stream("libx264", rate=self._rate, options=CODEC)
        stream.height, stream.width = image.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # the other cores belong to the chip
        return stream

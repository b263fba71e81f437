"""Where frames come from: video files, cameras, addresses of streams and GStreamer pipelines, all read alike."""

from __future__ import annotations

import glob
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import cv2
import numpy as np

from keras_ehrnet.images import IMAGE_SUFFIXES
from keras_ehrnet.support.errors import StreamError, VideoError
from keras_ehrnet.support.messages import is_whole, warn
from keras_ehrnet.support.terminal import silenced

VIDEO_SUFFIXES = (
    ".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp",
    ".ogv",
)  # fmt: skip
"""Names of video files end like this."""

PATIENCE = 60.0
"""Seconds for which a stream that broke is tried again."""

_ADDRESS = re.compile(r"(rtsps?|rtmps?|https?|udp|tcp|srt|rtp|mms)://", re.IGNORECASE)
# Of these every frame tells its time; so do containers and segments over HTTP. A row of JPEG files does not.
_TELLS_TIME = re.compile(r"(rtsps?|rtmps?|udp|srt|rtp|mms)://|https?://[^?#]*\.(m3u8|ts|flv)(?=$|[?#])", re.IGNORECASE)
_PIPELINE_END = "videoconvert ! video/x-raw, format=BGR ! appsink drop=true max-buffers=1"
_TIMEOUT_MS = 10_000  # For opening a stream, and for its next frame.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0  # Seconds between two tries; each is twice as long as the one before.
_LONGEST_FRAME = 60.0  # Seconds; where a file does not tell its length, a longer one is a damaged time stamp.


class Frame(NamedTuple):
    """A frame of a video.

    Args:
        seconds: float. Its time: the file's; of a stream that tells it (RTSP and others), the stream's since its first
            frame; of cameras and all else that is live, the clock's since then.
        image: uint8 RGB array of shape `(H, W, 3)`.
    """

    seconds: float
    image: np.ndarray


def frames(
    source: str | os.PathLike | int, *, max_frames: int | None = None, patience: float = PATIENCE
) -> Iterator[Frame]:
    """The frames of anything that has some, one after the other.

    Args:
        source: path of a video file; number of a camera; address of a stream (`rtsp://`, `http://` and others); or a
            GStreamer pipeline, which is a text with `" ! "` in it, such as
            `"libcamerasrc ! video/x-raw, width=640, height=480"`.
        max_frames: int or None. Stop after so many frames.
        patience: float. Seconds for which a stream that broke is tried again; 0: not at all.

    Yields:
        `Frame`: time in seconds and RGB array.

    Raises:
        VideoError: if the source cannot be opened.
        StreamError: if a stream broke and did not come back.

    Example:
        >>> import keras_ehrnet as ke
        >>> for seconds, image in ke.frames("clip.mp4", max_frames=2):  # doctest: +SKIP
        ...     print(seconds, image.shape)
        0.0 (360, 640, 3)
        0.04 (360, 640, 3)
    """
    with VideoSource(source, patience=patience) as opened:
        yield from opened.frames(max_frames)


def is_camera(source: object) -> bool:
    """Whether a source is the number of a camera: a number, or its text where no file or folder has that name."""
    if isinstance(source, str):
        return source.isascii() and source.isdigit() and not Path(source).exists()
    return isinstance(source, int) and not isinstance(source, bool)


def is_address(source: object) -> bool:
    """Whether a source is the address of a stream, or of a video. That of a picture is not.

    Example:
        >>> from keras_ehrnet.prediction.sources import is_address
        >>> is_address("rtsp://camera.local/stream"), is_address("https://camera.local/now.jpg"), is_address("clip.mp4")
        (True, False, False)
    """
    if not isinstance(source, str) or _ADDRESS.match(source) is None:
        return False
    return not urlsplit(source).path.lower().endswith(IMAGE_SUFFIXES)


def is_pipeline(source: object) -> bool:
    """Whether a source is a GStreamer pipeline.

    Example:
        >>> from keras_ehrnet.prediction.sources import is_pipeline
        >>> is_pipeline("libcamerasrc ! video/x-raw, width=640"), is_pipeline("Surprise!.mp4")
        (True, False)
    """
    return isinstance(source, str) and " ! " in source and not Path(source).exists()


def is_video(source: object) -> bool:
    """Whether a source is a camera, an address, a pipeline, or named like a video; folders and patterns are not."""
    if is_camera(source) or is_address(source) or is_pipeline(source):
        return True
    if not isinstance(source, (str, os.PathLike)):
        return False
    return _ends_as_video(source) and not (Path(source).is_dir() or is_pattern(source))


def list_videos(folder_or_pattern: str | os.PathLike) -> list[Path]:
    """Video files of a folder or of a pattern, by their names, sorted; none where there are none.

    Args:
        folder_or_pattern: a folder, or a pattern such as `"clips/*.mp4"`.

    Returns:
        List of `Path`.

    Example:
        >>> from keras_ehrnet.prediction.sources import list_videos
        >>> list_videos("no such folder/*.mp4")
        []
    """
    path = Path(folder_or_pattern)
    found = path.iterdir() if path.is_dir() else map(Path, glob.glob(str(path), recursive=True))
    return sorted(file for file in found if is_video(file) and file.is_file() and not file.name.startswith("."))


def names_videos(source: object) -> bool:
    """Whether a source is a pattern of videos, by its end."""
    return isinstance(source, (str, os.PathLike)) and is_pattern(source) and _ends_as_video(source)


def _ends_as_video(source: str | os.PathLike) -> bool:
    return str(source).lower().endswith(VIDEO_SUFFIXES)


def _not_one(path: Path) -> str:
    found = list_videos(path)
    if not found:
        return "There is no such video file."
    count = "1 video" if len(found) == 1 else f"{len(found)} videos"
    return f"Videos are read one at a time, and this names {count}: pass each of prediction.list_videos(...)."


def is_pattern(source: str | os.PathLike) -> bool:
    """Whether this is no file, but a pattern of files."""
    return any(sign in str(source) for sign in "*?[") and not Path(source).exists()


def check_limit(max_frames: int | None) -> None:
    """Raises a `VideoError` if this is no number of frames."""
    if max_frames is not None and not is_whole(max_frames):
        raise VideoError(f"max_frames must be at least 1, and whole. Received: max_frames={max_frames!r}")


class VideoSource:
    """An opened video file, camera, stream or pipeline. To be used in a `with`.

    A stream that breaks is opened again, with pauses that grow; each break is told in a warning.

    Args:
        source: what `frames` takes.
        patience: float. Seconds for which a stream that broke is tried again; 0: not at all.

    Attributes:
        announced: int or None. Frames that the file's header promises; None for what is live.
        frame_rate: float. Frames per second.
        size: tuple (width, height) in pixels.

    Raises:
        VideoError: if it cannot be opened.
    """

    def __init__(self, source: str | os.PathLike | int, *, patience: float = PATIENCE) -> None:
        if not (np.isfinite(patience) and patience >= 0):
            raise VideoError(f"patience is a number of seconds, 0 or more. Received: patience={patience}")
        self._source = source if isinstance(source, (str, int)) else str(source)
        self._patience = patience
        self._path = None if is_camera(source) or is_address(source) or is_pipeline(source) else Path(str(source))
        if self._path is not None and not self._path.is_file():
            raise VideoError(f"{_not_one(self._path)} Received: {source}")
        self._capture = self._opened()
        if not self._capture.isOpened():
            raise VideoError(f"{self._refusal()} Received: {source}")
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        counts = self._path is not None or is_address(source)
        self.announced = count if count > 0 and counts else None
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.frame_rate = rate if np.isfinite(rate) and rate > 0 else 25.0
        self.size = self._size()
        self._seconds = self._longest = 0.0
        self._told: float | None = None  # By the stream, of the frame before.
        self._stopped = threading.Event()

    @property
    def is_live(self) -> bool:
        """Whether frames come when they come: from a camera, or a stream that does not tell its length."""
        return self._path is None and self.announced is None

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *exception: object) -> None:
        self._capture.release()

    def stop(self) -> None:
        """Ends `frames`, which another thread may be waiting for, while a stream is away."""
        self._stopped.set()

    def refuse_overwriting(self, path: Path) -> None:
        """Raises a `VideoError` if this file is the video that is read."""
        if self._path is not None and path.exists() and path.samefile(self._path):
            raise VideoError(f"The result would overwrite the video it is made from. Received: {path}")

    def frames(self, limit: int | None = None) -> Iterator[Frame]:
        """The frames from here on, at most `limit` of them."""
        check_limit(limit)
        count, started = 0, None
        while limit is None or count < limit:
            success, frame = self._capture.read()
            if not success or frame is None:
                if not (self.is_live and is_address(self._source) and self._reconnected(count)):
                    return
                continue
            if self.is_live:
                now = time.perf_counter()
                started = now if started is None else started
                seconds = self._live_stamp(now - started)
            else:
                seconds = self._stamp(first=count == 0)
            self._longest = max(self._longest, seconds - self._seconds)
            self._seconds = seconds
            count += 1
            yield Frame(seconds, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, dst=frame))

    def reached_end(self) -> bool:
        """Whether the file was read to its last second, though with fewer frames than it announces.

        Matroska tells a length in time alone, from which the number of frames is guessed: of frames that last
        unequally long there are fewer.
        """
        if self._path is None or self.announced is None or not is_matroska(self._path):
            return False
        missing = self.announced / self.frame_rate - self._seconds
        return missing <= self._longest + 1.5 / self.frame_rate

    def _opened(self) -> cv2.VideoCapture:
        if is_camera(self._source):
            return cv2.VideoCapture(int(self._source))
        if is_pipeline(self._source):
            pipeline = str(self._source)
            ended = pipeline if re.search(r"!\s*appsink\b", pipeline) else f"{pipeline} ! {_PIPELINE_END}"
            return _started(ended)
        if self._path is not None:
            return cv2.VideoCapture(str(self._path))
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT_MS]
        return cv2.VideoCapture(str(self._source), cv2.CAP_FFMPEG, timeouts)

    def _refusal(self) -> str:
        if is_camera(self._source):
            return "This camera cannot be opened."
        if is_address(self._source):
            return "This stream cannot be opened: nobody answers at that address, or what comes is no video."
        if not is_pipeline(self._source):
            return "This file is not a video that can be read."
        if cv2.CAP_GSTREAMER not in cv2.videoio_registry.getBackends():
            return (
                "Pipelines need an OpenCV with GStreamer, which the one from PyPI is without: Debian and Raspberry Pi "
                "OS have it as python3-opencv."
            )
        return "This pipeline does not start; gst-launch-1.0 says why."

    def _size(self) -> tuple[int, int]:
        width, height = cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT
        return int(self._capture.get(width)), int(self._capture.get(height))

    def _reconnected(self, count: int) -> bool:
        """Opens a stream that broke again; waits between the tries, each time longer."""
        if not self._patience:
            return False
        warn(f"The stream broke after frame {count}; trying to open it again for {self._patience:g} seconds.")
        broke, pause = time.monotonic(), _FIRST_PAUSE
        while (left := self._patience - (time.monotonic() - broke)) > 0:
            if self._stopped.wait(min(pause, left)):
                return False
            pause = min(2 * pause, _LONGEST_PAUSE)
            self._capture.release()
            with silenced():
                self._capture = self._opened()
            if not self._capture.isOpened():
                continue
            if self._size() != self.size:
                old, new = ("x".join(map(str, size)) for size in (self.size, self._size()))
                raise StreamError(f"The stream came back with frames of another size. Received: {new} instead of {old}")
            self._told = None
            warn(f"The stream is back after {time.monotonic() - broke:.1f} seconds.")
            return True
        raise StreamError(
            f"The stream broke after frame {count} and did not come back within {self._patience:g} seconds. "
            f"Received: {self._source}"
        )

    def _position(self) -> float:
        return float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000

    def _live_stamp(self, clock: float) -> float:
        """What the stream says of this frame's time, which goes on by the clock where it breaks; else the clock's.

        Opening a stream takes seconds, whose frames then come at once: by the clock they were one moment.
        """
        if not (isinstance(self._source, str) and _TELLS_TIME.match(self._source)):
            return clock
        told, before = self._position(), self._told
        self._told = told
        following = self._seconds + 1 / self.frame_rate
        if before is None:
            return max(clock, following) if clock else 0.0
        # A stream's first two frames may be told at one time: the first one's is known late.
        step = told - before
        return self._seconds + step if 0 < step <= _LONGEST_FRAME else following

    def _stamp(self, first: bool) -> float:
        """What the file says of this frame's time, as far as that is possible: some have none, or damaged ones."""
        stamp = self._position()
        latest = self.announced / self.frame_rate + 1 if self.announced else self._seconds + _LONGEST_FRAME
        if first:
            return stamp if 0 <= stamp <= latest else 0.0
        return stamp if self._seconds < stamp <= latest else self._seconds + 1 / self.frame_rate


def _started(pipeline: str) -> cv2.VideoCapture:
    """GStreamer's own start has no end where an element is missing: it is waited for in a thread."""
    captures: list[cv2.VideoCapture] = []
    start = threading.Thread(target=lambda: captures.append(cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)), daemon=True)
    start.start()
    start.join(_TIMEOUT_MS / 1000)
    return captures[0] if captures else cv2.VideoCapture()


def is_matroska(path: Path) -> bool:
    """Whether a file is a Matroska or WebM file, whatever its name."""
    with path.open("rb") as file:
        return file.read(4) == b"\x1aE\xdf\xa3"

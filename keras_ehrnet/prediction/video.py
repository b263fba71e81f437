"""Videos and cameras: frames are read, looked at, drawn and written in threads of their own."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np

from keras_ehrnet.poses import Poses, draw
from keras_ehrnet.prediction.pipeline import Settings, estimate
from keras_ehrnet.prediction.sources import PATIENCE, VideoSource, check_limit, is_matroska
from keras_ehrnet.prediction.tracking import Smoother, Tracker
from keras_ehrnet.runtime.network import Network
from keras_ehrnet.support.errors import StreamError, VideoError
from keras_ehrnet.support.files import partial_path, settle
from keras_ehrnet.support.messages import suggests_keywords
from keras_ehrnet.support.terminal import progress_bar, silenced

QUEUE_LENGTH = 8
CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v", ".mov": "mp4v"}


@dataclass(frozen=True)
class VideoReport:
    """What was done with a video.

    Args:
        frames: int. Frames looked at.
        announced: int or None. Frames that the file's header promises; None for cameras and streams.
        persons: int. Persons found, over all frames.
        frame_rate: float. Of the video, in frames per second.
        seconds: float. Time it took.
        frames_per_second: float. Frames looked at per second, once the first was done.
        output: Path or None. The video with people drawn in it.
        poses: Path or None. The people, one line of JSON per frame.
        problem: str or None. Why the video ended before its header says.
    """

    frames: int
    announced: int | None
    persons: int
    frame_rate: float
    seconds: float
    frames_per_second: float
    output: Path | None
    poses: Path | None
    problem: str | None


@suggests_keywords
def process(
    network: Network,
    settings: Settings,
    source: str | Path | int,
    *,
    output: str | Path | None = None,
    poses: str | Path | None = None,
    smooth: bool = False,
    track: bool = False,
    threshold: float = 0.2,
    style: draw.Style | None = None,
    max_frames: int | None = None,
    on_frame: Callable[[int, np.ndarray, Poses], None] | None = None,
    progress: bool = True,
    patience: float = PATIENCE,
    refine: Network | None = None,
) -> VideoReport:
    """People in every frame of a video.

    Args:
        network: `keras_ehrnet.runtime.Network`.
        settings: `keras_ehrnet.prediction.Settings`.
        source: path of a video file, number of a camera, address of a stream or GStreamer pipeline; see
            `keras_ehrnet.prediction.sources.frames`. A stream that breaks is opened again.
        output: path or None. Where to write the video with people drawn in it (`.mp4`, `.avi`, `.mkv`, `.mov`); its
            frame rate is the source's. Of a source whose frames last unequally long, long ones are repeated and the
            shortest left out, so that it runs at the same pace.
        poses: path or None. Where to write the people: a line of JSON per frame, with `frame`, `seconds`, `persons`.
            Seconds are those of the file or stream, or of the clock since a camera's first frame, see `Frame`.
        smooth: bool. Whether to smooth coordinates over time (one-euro filter); tracks too.
        track: bool. Whether to give persons identities.
        threshold: float. Joints with a score below it are not drawn.
        style: `draw.Style`, or None: how people are drawn.
        max_frames: int or None. Stop after so many frames.
        on_frame: callable or None. Called with frame number, RGB frame and `Poses`.
        progress: bool. Whether to show a progress bar.
        refine: `keras_ehrnet.runtime.Network` for one person at a time, or None: places everyone found anew.
        patience: float. Seconds for which a stream that broke is opened again; 0: not at all.

    Returns:
        `VideoReport`. If the video ends early or has broken frames, if a stream breaks and does not come back, or after
        an interruption from the keyboard, what was done is kept and `problem` says so; it is kept, too, where an error
        ends it, unless it would replace an earlier file.

    Raises:
        VideoError: if the video cannot be opened, or the output cannot be written.
    """
    check_limit(max_frames)
    if not np.isfinite(threshold):
        raise VideoError(f"The threshold of drawn joints must be finite. Received: threshold={threshold}")
    with ExitStack() as stack:
        reader = stack.enter_context(VideoSource(source, patience=patience))
        sink = stack.enter_context(_Sink(output, poses, reader, threshold, style))
        tracker = Tracker() if track or smooth else None
        smoother = Smoother(reader.frame_rate) if smooth else None
        bar = stack.enter_context(progress_bar("frames", shown=progress))
        total = min(filter(None, (reader.announced, max_frames)), default=None)
        task = bar.add_task("frames", total=total)
        frames = persons = 0
        broken: str | None = None
        started = first = time.perf_counter()
        # A drain at exit hands the reader thread back even if the network fails.
        ahead = stack.enter_context(_Ahead(reader.frames(max_frames)))
        stack.callback(reader.stop)
        try:
            for seconds, frame in ahead:
                (people,) = estimate(network, [frame], settings, refine=refine)
                people = tracker(people, seconds, frame) if tracker else people
                people = smoother(people, seconds) if smoother else people
                sink.put(frames, seconds, frame, people)
                if on_frame:
                    on_frame(frames, frame, people)
                frames += 1
                persons += len(people)
                # The network is made ready for the first frame: that says nothing about the rate.
                first = first if frames > 1 else time.perf_counter()
                bar.advance(task)
        except KeyboardInterrupt:
            # The usual end of a recording from a camera.
            broken = f"Interrupted after frame {frames}."
        except StreamError as error:
            broken = str(error)
        sink.finish()
        finished = time.perf_counter()
    return VideoReport(
        frames=frames,
        announced=reader.announced,
        persons=persons,
        frame_rate=reader.frame_rate,
        seconds=finished - started,
        frames_per_second=(frames - 1) / (finished - first) if frames > 1 else 0.0,
        output=Path(output) if output else None,
        poses=Path(poses) if poses else None,
        problem=broken or _problem(frames, reader, max_frames),
    )


def _problem(frames: int, reader: VideoSource, max_frames: int | None) -> str | None:
    expected = min(filter(None, (reader.announced, max_frames)), default=None)
    if expected is None or frames >= expected or (max_frames != frames and reader.reached_end()):
        return None
    return (
        f"The video ends early or has broken frames: {frames} of the {reader.announced} that its header promises "
        "were read."
    )


class _Ahead:
    """An iterator whose items are made in a thread, some ahead of their use."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._queue: queue.Queue = queue.Queue(QUEUE_LENGTH)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(items,), daemon=True)

    def __enter__(self) -> Iterator[Any]:
        self._thread.start()
        return self._items()

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        while self._thread.is_alive():
            with suppress(queue.Empty):
                self._queue.get(timeout=0.05)

    def _run(self, items: Iterator[Any]) -> None:
        try:
            for item in items:
                self._queue.put(item)
                if self._stop.is_set():
                    return
        except Exception as error:  # Handed to the thread that waits for the next item.
            self._queue.put(error)
        self._queue.put(None)

    def _items(self) -> Iterator[Any]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item


class _Sink:
    """Writes the drawn video and the lines of JSON in a thread.

    The files get their names when they are closed: with all frames, or, if something else goes wrong and there were
    none before, with those done. What the disk did not take whole is deleted.
    """

    def __init__(
        self,
        output: str | Path | None,
        poses: str | Path | None,
        reader: VideoSource,
        threshold: float,
        style: draw.Style | None,
    ) -> None:
        self._output, self._poses = (Path(path) if path else None for path in (output, poses))
        self._written = 0
        self._partials = {path: partial_path(path) for path in filter(None, (self._output, self._poses))}
        for path in self._partials:
            reader.refuse_overwriting(path)
        self._threshold, self._style, self._rate = threshold, style, reader.frame_rate
        self._drawn = self._place = 0
        self._last: np.ndarray | None = None
        self._lines = _open_lines(self._poses, self._partials[self._poses]) if self._poses else None
        self._video = self._opened_video(self._output, reader) if self._output else None
        self._queue: queue.Queue = queue.Queue(QUEUE_LENGTH)
        self._error: Exception | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _opened_video(self, output: Path, reader: VideoSource) -> cv2.VideoWriter:
        try:
            return _open_video(output, self._partials[output], reader)
        except VideoError:
            if self._lines and self._poses:
                self._lines.close()
                self._partials[self._poses].unlink()
            raise

    def __enter__(self) -> _Sink:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()
        for path, partial in self._partials.items():
            if self._written and not self._error and partial.exists() and not path.exists():
                settle(partial, path)
            partial.unlink(missing_ok=True)

    def put(self, number: int, seconds: float, frame: np.ndarray, people: Poses) -> None:
        self._raise()
        self._queue.put((number, seconds, frame, people))

    def finish(self) -> None:
        """Waits for the last frame, and gives the files their names."""
        self._close()
        self._raise()
        for path, partial in self._partials.items():
            if self._written:
                settle(partial, path)

    def _raise(self) -> None:
        if self._error:
            kept = "; what was there before is intact" if any(path.exists() for path in self._partials) else ""
            raise VideoError(f"The results cannot be written: {self._error}{kept}.") from self._error

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        try:
            if self._lines:
                self._lines.close()
            if self._video and self._output:
                self._video.release()
                _check_video(self._output, self._partials[self._output], self._drawn)
        except (OSError, VideoError) as error:
            self._error = self._error or error

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._error:
                continue
            try:
                self._write(*item)
            except Exception as error:  # Told by the next `put`.
                self._error = error

    def _write(self, number: int, seconds: float, frame: np.ndarray, people: Poses) -> None:
        if self._lines:
            line = {"frame": number, "seconds": round(seconds, 4), **people.to_dict()}
            self._lines.write(json.dumps(line) + "\n")
        self._written += 1
        if self._video:
            drawn = draw.poses(frame, people, threshold=self._threshold, style=self._style)
            self._draw(self._video, cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR, dst=drawn), seconds)

    def _draw(self, video: cv2.VideoWriter, frame: np.ndarray, seconds: float) -> None:
        """Frames follow each other at one rate: the last one stays until this one's time has come."""
        due = round(seconds * self._rate)
        if self._last is None:
            self._place = due
        if due < self._place - 1:
            return
        last = frame if self._last is None else self._last
        for _ in range(due - self._place):
            video.write(last)
        video.write(frame)
        self._drawn += max(due - self._place, 0) + 1
        self._place = max(due, self._place) + 1
        self._last = frame


def _open_video(path: Path, partial: Path, reader: VideoSource) -> cv2.VideoWriter:
    codec = CODECS.get(path.suffix.lower())
    if codec is None:
        raise VideoError(f"Videos are written as one of {', '.join(CODECS)}. Received: {path}")
    if not path.parent.is_dir():
        raise VideoError(f"There is no such folder to write to. Received: {path}")
    writer = cv2.VideoWriter(str(partial), cv2.VideoWriter.fourcc(*codec), reader.frame_rate, reader.size)
    if not writer.isOpened():
        raise VideoError(f"The video cannot be written. Received: {path}")
    return writer


def _check_video(path: Path, partial: Path, frames: int) -> None:
    """OpenCV says nothing of a full disk: whether all was written is seen in the file."""
    with silenced():  # its reader writes to the terminal what it misses
        written = cv2.VideoCapture(str(partial))
        count = written.get(cv2.CAP_PROP_FRAME_COUNT)
        if is_matroska(partial):  # tells its length, whatever became of its frames
            count = sum(1 for _ in iter(written.grab, False))
        written.release()
    if count < frames:
        raise VideoError(f"the disk may be full, or a file not be that large. Received: {path}")


def _open_lines(path: Path, partial: Path) -> TextIO:
    try:
        return partial.open("w")
    except OSError as error:
        raise VideoError(f"The poses cannot be written ({error.strerror}). Received: {path}") from error

"""Frames of files, cameras, addresses and pipelines; streams that break and come back, on a server of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

import keras_ehrnet as ke
from keras_ehrnet.prediction import is_video, list_videos, sources
from keras_ehrnet.support.errors import StreamError, VideoError

WIDTH, HEIGHT = 64, 48
FIRST, SECOND = [40, 60, 80, 100, 120], [140, 160, 180, 200, 220]  # Fewer are not taken for a stream.


def picture(level: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), level, np.uint8)


def write_video(path, levels, codec="MJPG", rate=10.0):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for level in levels:
        writer.write(picture(level))
    writer.release()
    return path


@contextmanager
def camera(*connections: list[int], size_of_later: int = 1):
    """A camera that speaks MJPEG: a list of gray levels for every connection, after which it hangs up."""
    left = list(connections)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if not left:
                self.send_error(503)
                return
            scale = size_of_later if len(left) < len(connections) else 1
            levels = left.pop(0)
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for level in levels:
                data = cv2.imencode(".jpg", np.repeat(picture(level), scale, axis=0))[1].tobytes()
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
                self.wfile.write(data + b"\r\n")
                time.sleep(0.01)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/video"
    finally:
        server.shutdown()
        server.server_close()


def levels(frames) -> list[float]:
    return [float(image.mean()) for _, image in frames]


def test_frames_of_a_file_are_all_there(tmp_path):
    path = write_video(tmp_path / "clip.avi", range(0, 200, 20))
    read = list(ke.frames(path))
    assert [round(seconds, 3) for seconds, _ in read] == [round(0.1 * number, 3) for number in range(10)]
    np.testing.assert_allclose(levels(read), range(0, 200, 20), atol=3)
    assert len(list(ke.frames(str(path), max_frames=4))) == 4


KINDS = {".ts": "mp4v", ".mpg": "PIM1", ".wmv": "WMV2", ".flv": "FLV1", ".3gp": "mp4v", ".mov": "mp4v"}


@pytest.mark.parametrize(("suffix", "codec"), KINDS.items(), ids=KINDS)
def test_kinds_of_files(tmp_path, suffix, codec):
    path = write_video(tmp_path / f"clip{suffix}", [100] * 25, codec, 25.0)
    assert is_video(path)
    read = list(ke.frames(path))
    seconds = [one for one, _ in read]
    # Some of these formats lose a frame at an end.
    assert 23 <= len(read) <= 25
    np.testing.assert_allclose(np.diff(seconds), 0.04, atol=0.002)


def test_a_stream_is_read():
    with camera([50, 100, 150, 200]) as address:
        read = list(ke.frames(address, patience=0))
    np.testing.assert_allclose(levels(read), [50, 100, 150, 200], atol=3)
    seconds = [one for one, _ in read]
    assert seconds[0] == 0 and seconds == sorted(seconds)


def test_a_stream_that_breaks_is_opened_again():
    with camera(FIRST, SECOND) as address, pytest.warns(UserWarning, match="The stream") as told:
        read = list(ke.frames(address, max_frames=10, patience=20))
    np.testing.assert_allclose(levels(read), FIRST + SECOND, atol=3)
    assert read[5].seconds - read[4].seconds >= 0.4  # the pause counts
    messages = [str(warning.message) for warning in told]
    assert messages[0] == "The stream broke after frame 5; trying to open it again for 20 seconds."
    assert messages[1].startswith("The stream is back after")


def test_a_stream_that_stays_away_is_given_up():
    lost = pytest.raises(StreamError, match="did not come back within 1.2 seconds. Received: http://127")
    with camera(FIRST) as address, pytest.warns(UserWarning, match="broke after frame 5"), lost:
        list(ke.frames(address, patience=1.2))


def test_a_stream_that_comes_back_as_another_is_refused():
    refused = pytest.raises(StreamError, match="Received: 64x96 instead of 64x48")
    told = pytest.warns(UserWarning, match="broke after frame 5")
    with camera(FIRST, SECOND, size_of_later=2) as address, told, refused:
        list(ke.frames(address, max_frames=6, patience=20))


def test_what_was_done_of_a_lost_stream_is_kept(tmp_path):
    predictor = ke.PosePredictor.load("efficientpose-rt-people")
    with camera(FIRST) as address, pytest.warns(UserWarning, match="broke after frame 5"):
        report = predictor.video(address, poses=tmp_path / "a.jsonl", patience=0.6, progress=False)
    assert report.frames == 5 and "did not come back" in report.problem
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2, 3, 4]


def test_an_interruption_does_not_wait_for_a_stream_that_is_away(tmp_path):
    predictor = ke.PosePredictor.load("efficientpose-rt-people")

    def interrupt(number, frame, people):
        if number == 4:
            time.sleep(1)  # Until the stream is being opened again.
            raise KeyboardInterrupt

    options = {"poses": tmp_path / "a.jsonl", "on_frame": interrupt, "progress": False}
    started = time.monotonic()
    with camera(FIRST) as address, pytest.warns(UserWarning, match="broke after frame 5"):
        report = predictor.video(address, **options)
    assert report.problem == "Interrupted after frame 4."
    assert time.monotonic() - started < 30  # of the 60 seconds that it is tried


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("http://127.0.0.1:9/nothing", "nobody answers at that address"),
        ("fakesrc ! video/x-raw", "need an OpenCV with GStreamer|does not start"),
        ("absent.flv", "There is no such video file"),
        (9999, "camera cannot be opened"),
    ],
)
def test_sources_that_are_none(source, message):
    with pytest.raises(VideoError, match=message):
        list(ke.frames(source))


def test_numbers_are_checked(tmp_path):
    path = write_video(tmp_path / "clip.avi", [10])
    with pytest.raises(VideoError, match="max_frames must be at least 1, and whole. Received: max_frames=0"):
        list(ke.frames(path, max_frames=0))
    with pytest.raises(VideoError, match="0 or more. Received: patience=-1"):
        list(ke.frames(path, patience=-1))


def test_kinds_of_sources_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "7").write_text("a file")
    assert is_video("rtsp://10.0.0.7:554/live") and is_video("http://camera/video.mjpg")
    assert is_video("libcamerasrc ! video/x-raw, width=640, height=480")
    assert is_video(0) and is_video("0") and is_video("clip.TS") and not is_video("7")
    assert not is_video("photo.jpg") and not is_video("clips/*.mp4") and not is_video("https.jpg")
    assert not is_video("https://camera/now.jpg?size=large")


def test_pipelines_end_where_frames_are_taken(monkeypatch):
    opened = []

    class Capture:
        def __init__(self, *arguments):
            opened.append(arguments)

        def isOpened(self):  # noqa: N802
            return False

    monkeypatch.setattr(sources.cv2, "VideoCapture", Capture)
    for pipeline in ("libcamerasrc ! video/x-raw, width=640", "v4l2src ! videoconvert ! appsink"):
        with pytest.raises(VideoError):
            list(ke.frames(pipeline))
    (first, backend), (second, _) = opened
    assert backend == cv2.CAP_GSTREAMER
    assert first.startswith("libcamerasrc ! video/x-raw, width=640 ! videoconvert") and "appsink" in first
    assert second == "v4l2src ! videoconvert ! appsink"


def test_a_pipeline_that_never_starts_is_given_up(monkeypatch):
    """As OpenCV's does where an element is missing."""

    class Capture:
        def __init__(self, *arguments):
            if arguments:
                time.sleep(5)

        def isOpened(self):  # noqa: N802
            return False

    monkeypatch.setattr(sources.cv2, "VideoCapture", Capture)
    monkeypatch.setattr(sources, "_TIMEOUT_MS", 200)
    started = time.monotonic()
    with pytest.raises(VideoError, match="GStreamer|does not start"):
        list(ke.frames("missing ! video/x-raw"))
    assert time.monotonic() - started < 2


def test_folders_and_patterns_of_videos(tmp_path):
    for name in ("b.avi", "a.avi", "c.mkv"):
        write_video(tmp_path / name, [30, 60])
    (tmp_path / "notes.txt").write_text("none")
    assert [path.name for path in list_videos(tmp_path)] == ["a.avi", "b.avi", "c.mkv"]
    assert [path.name for path in list_videos(tmp_path / "*.avi")] == ["a.avi", "b.avi"]
    predictor = ke.PosePredictor.load("efficientpose-rt-people")
    for place, told in (
        (tmp_path, "names 3 videos"),
        (f"{tmp_path}/a*.avi", "names 1 video:"),
        ("x*.avi", "no such video file"),
    ):
        with pytest.raises(VideoError, match=told):
            predictor.video(place, progress=False)
    for pattern in (f"{tmp_path}/*.avi", tmp_path / "*.AVI"):
        with pytest.raises(ValueError, match=r"Videos and cameras are read by predictor\.video"):
            predictor(pattern)
    command = [sys.executable, "-m", "keras_ehrnet", "predict", str(tmp_path), "-o", str(tmp_path / "out")]
    done = subprocess.run([*command, "--model", "efficientpose-rt-people"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["a.jsonl", "a.mp4", "b.jsonl", "b.mp4", "c.jsonl", "c.mp4"]


@contextmanager
def served(data: bytes, name: str):
    """An address that gives the bytes of a video once, without saying how many there are."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{name}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_stream_that_tells_its_times_is_believed(tmp_path):
    """All of it comes at once: by the clock it would be a moment."""
    path = write_video(tmp_path / "clip.ts", [100] * 25, "mp4v", 10.0)
    with served(path.read_bytes(), "live.ts?key=1") as address, sources.VideoSource(address, patience=0) as source:
        assert source.is_live
        seconds = [one for one, _ in source.frames()]
    assert len(seconds) >= 23
    np.testing.assert_allclose(seconds, 0.1 * np.arange(len(seconds)), atol=0.002)


class Told:
    """A capture of a stream whose frames have these times, in milliseconds; it breaks, and opens again with others."""

    def __init__(self, *connections: list[float]) -> None:
        self.connections = [list(times) for times in connections]

    def open(self, *_):
        self.times, self.time = self.connections.pop(0), 0.0
        return self

    def isOpened(self):  # noqa: N802
        return True

    def release(self):
        pass

    def read(self):
        if not self.times:
            return False, None
        self.time = self.times.pop(0)
        return True, np.zeros((4, 6, 3), np.uint8)

    def get(self, what):
        sizes = {cv2.CAP_PROP_FRAME_WIDTH: 6, cv2.CAP_PROP_FRAME_HEIGHT: 4, cv2.CAP_PROP_FPS: 20}
        return self.time if what == cv2.CAP_PROP_POS_MSEC else sizes.get(what, 0)


def test_times_that_a_stream_tells_go_on(monkeypatch):
    """The first one is known late, some are missing or damaged; after a break they begin anew."""
    told = Told([0, 0, 50, 150, 150, 100, 140, 1e9, 1e9 + 50], [7000, 7050])
    monkeypatch.setattr(sources.cv2, "VideoCapture", told.open)
    with pytest.warns(UserWarning, match="The stream"):
        read = list(ke.frames("rtsp://camera/live", max_frames=11, patience=5))
    seconds = [one for one, _ in read]
    np.testing.assert_allclose(seconds[:9], [0, 0.05, 0.1, 0.2, 0.25, 0.3, 0.34, 0.39, 0.44], atol=1e-6)
    assert 0.5 <= seconds[9] < 2  # by the clock
    assert seconds[10] - seconds[9] == pytest.approx(0.05)

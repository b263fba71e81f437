"""Real streams: H.264 over RTSP from GStreamer's server on this machine, and GStreamer's pipelines."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, need_programs
from rtsp_server import HEIGHT, WIDTH, luma

import keras_ehrnet as ke
from keras_ehrnet.prediction.sources import VideoSource

pytestmark = pytest.mark.programs

PYTHON = Path("/usr/bin/python3")
"""Debian's own: its OpenCV has GStreamer, which the one from PyPI has not."""

PACKAGES = (
    "python3-opencv python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base "
    "gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
)
RATE = 20
FIRST, SECOND = 40, 44
"""How light the first frame of a server is, and of the one after it."""


@pytest.fixture(scope="module", autouse=True)
def gstreamer() -> None:
    """Everything below needs Debian's packages."""
    probe = (
        "import cv2, gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst; Gst.init(None); "
        "assert cv2.CAP_GSTREAMER in cv2.videoio_registry.getBackends(); assert Gst.ElementFactory.find('x264enc')"
    )
    there = PYTHON.exists() and subprocess.run([PYTHON, "-c", probe], capture_output=True, check=False).returncode == 0
    need_programs(there, f"needs Debian's {PACKAGES}; make test-streams")


@contextmanager
def camera(port: int, first: int, after: float = 0) -> Iterator[None]:
    """A camera at a port, killed when it is left; perhaps only after some seconds, which are not waited for."""
    command = ["sh", "-c", 'sleep "$0"; exec "$@"', str(after), PYTHON, ROOT / "tests/rtsp_server.py"]
    with subprocess.Popen([*command, str(port), str(RATE), str(first)], stdout=subprocess.PIPE, text=True) as server:
        try:
            if not after:
                assert server.stdout is not None and server.stdout.readline() == "ready\n"
            yield
        finally:
            server.kill()


@pytest.fixture
def port() -> int:
    """One that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def numbers(frames: list[ke.Frame], first: int) -> list[int]:
    """Which frames of a camera these are, from 0 to 11 again and again; every one must be one of them."""
    grays = np.array([(luma(first, number) - 16) * 255 / 219 for number in range(12)])
    apart = np.abs([[image.mean() - gray for gray in grays] for _, image in frames])
    assert apart.min(axis=1).max() < 3  # of 9 from one to the next
    assert all(image.shape == (HEIGHT, WIDTH, 3) and np.ptp(image) < 6 for _, image in frames)
    return apart.argmin(axis=1).tolist()


def test_frames_of_rtsp_and_their_times(port):
    with camera(port, FIRST):
        started = time.monotonic()
        read = list(ke.frames(f"rtsp://127.0.0.1:{port}/live", max_frames=50))
        took = time.monotonic() - started
    assert numbers(read, FIRST) == [number % 12 for number in range(50)]
    # Many of them come at once, after the stream was opened: their times are the camera's all the same.
    np.testing.assert_allclose([seconds for seconds, _ in read], np.arange(50) / RATE, atol=0.005)
    assert took >= 49 / RATE - 0.5, "nobody sees what was not yet there"


def test_rtsp_that_dies_is_opened_again(port, monkeypatch):
    """The camera is killed; nobody is there for two seconds; then another one is, whose frames are lighter."""
    tries, opened = [], VideoSource._opened

    def watched(source: VideoSource):
        tries.append(time.monotonic())
        return opened(source)

    monkeypatch.setattr(VideoSource, "_opened", watched)
    source = ke.frames(f"rtsp://127.0.0.1:{port}/live", max_frames=90, patience=40)
    with camera(port, FIRST):
        read = [next(source) for _ in range(40)]
    killed = time.monotonic()
    with camera(port, SECOND, after=2), pytest.warns(UserWarning, match="The stream") as told:
        read += source
    broke, back = (str(warning.message) for warning in told)
    count = int(re.fullmatch(r"The stream broke after frame (\d+); trying to open it again for 40 seconds\.", broke)[1])
    away = float(re.fullmatch(r"The stream is back after (\d+\.\d) seconds\.", back)[1])
    assert 2 <= away <= 20
    pauses = np.diff([killed, *tries[1:]])
    assert len(pauses) >= 2
    np.testing.assert_array_less([0.49, 0.99, 1.99, 3.99, 7.99, 7.99][: len(pauses)], pauses)

    # What was under way still came, then the other's frames from its first one on; the clock counts while it was away.
    assert len(read) == 90 and 40 <= count < 80
    assert numbers(read[:count], FIRST) == [number % 12 for number in range(count)]
    assert numbers(read[count:], SECOND) == [number % 12 for number in range(90 - count)]
    steps = np.diff([seconds for seconds, _ in read])
    np.testing.assert_allclose(np.delete(steps, count - 1), 1 / RATE, atol=0.005)
    assert 1 <= steps[count - 1] <= away + 3


def test_people_before_a_camera(port, tmp_path, run_here):
    """The command, whose network is slower than the camera: times are the camera's."""
    with camera(port, FIRST):
        options = ["--max-frames", "30", "-o", tmp_path]
        done = run_here("predict", f"rtsp://127.0.0.1:{port}/live", "--model", "efficientpose-rt-people", *options)
    assert done.returncode == 0, done.stderr
    (video,), (poses,) = tmp_path.glob("*.mp4"), tmp_path.glob("*.jsonl")
    lines = [json.loads(line) for line in poses.read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(30))
    np.testing.assert_allclose([line["seconds"] for line in lines], np.arange(30) / RATE, atol=0.005)
    with VideoSource(video) as drawn:
        assert drawn.frame_rate == RATE and drawn.size == (WIDTH, HEIGHT) and len(list(drawn.frames())) == 30


PIPELINE = """
import json, sys, time
from keras_ehrnet.prediction.sources import VideoSource
from keras_ehrnet.support.errors import VideoError
answers = []
for pipeline in sys.argv[1:]:
    started = time.monotonic()
    try:
        with VideoSource(pipeline) as source:
            read = list(source.frames())
            answers.append({
                "seconds": [seconds for seconds, _ in read],
                "colors": [image.mean(axis=(0, 1)).tolist() for _, image in read],
                "size": source.size, "rate": source.frame_rate, "live": source.is_live,
            })
    except VideoError as error:
        answers.append({"error": str(error)})
    answers[-1]["took"] = time.monotonic() - started
print(json.dumps(answers))
"""


def test_pipelines_of_gstreamer():
    """In Debian's Python, with the OpenCV that has GStreamer: colors, sizes and times are those of the pipeline."""
    orange = "videotestsrc num-buffers=20 is-live=true pattern=solid-color foreground-color=0xffff8000"
    size = "video/x-raw, width=64, height=48, framerate=10/1"
    own_end = "videotestsrc num-buffers=5 ! videoconvert ! video/x-raw, format=BGR, width=32, height=16 ! appsink"
    pipelines = [f"{orange} ! {size}", own_end, "nosuchsrc ! video/x-raw"]
    command = [PYTHON, "-c", PIPELINE, *pipelines]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    live, ended, missing = json.loads(done.stdout)
    np.testing.assert_allclose(live["colors"], [[255, 128, 0]] * len(live["colors"]), atol=4)
    assert live["size"] == [64, 48] and live["rate"] == 10 and live["live"]
    # Of what is live the newest frame counts: one that nobody took in time is left out.
    assert 15 <= len(live["seconds"]) <= 20
    tenths = np.array(live["seconds"]) * 10
    assert np.median(np.abs(tenths - np.round(tenths))) < 0.3 and np.diff(tenths).min() > 0
    assert 1.4 <= live["seconds"][-1] <= 2.5
    assert len(ended["seconds"]) == 5 and ended["size"] == [32, 16]
    assert missing["error"].startswith("This pipeline does not start; gst-launch-1.0 says why. Received: nosuchsrc")
    assert missing["took"] < 15

"""Videos in, videos and JSON lines out; identities and smoothing over time."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction

import cv2
import numpy as np
import pytest

import keras_ehrnet as ke
from keras_ehrnet.prediction.tracking import OneEuroFilter, Smoother, Tracker, similarity
from keras_ehrnet.prediction.video import VideoError


@pytest.fixture(scope="module")
def predictor(reference):
    return ke.PosePredictor.load("efficientpose-rt", weights=reference / "weights/EfficientPoseRT.h5")


@pytest.fixture(scope="module")
def packaged():
    return ke.PosePredictor.load()


@pytest.fixture(scope="module")
def clip(reference):
    return reference / "data/demo/people_clip_ccby.mp4"


def person(shift=(0.0, 0.0), seed=0) -> ke.Poses:
    keypoints = np.random.default_rng(seed).uniform(1, 100, (1, 17, 3))
    keypoints[..., :2] += shift
    return ke.Poses(keypoints, np.ones(1), ke.skeletons.COCO_17)


def together(*people: ke.Poses) -> ke.Poses:
    return ke.Poses(np.concatenate([p.keypoints for p in people]), np.ones(len(people)), ke.skeletons.COCO_17)


def test_frames_points_and_rate_are_kept(predictor, clip, tmp_path):
    seen = []
    report = predictor.video(
        clip,
        output=tmp_path / "out.mp4",
        poses=tmp_path / "out.jsonl",
        smooth=True,
        max_frames=12,
        on_frame=lambda number, frame, people: seen.append((number, frame.shape, len(people))),
        progress=False,
    )
    assert (report.frames, report.persons, report.problem) == (12, 12, None)
    assert seen == [(number, (360, 640, 3), 1) for number in range(12)]
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(12))
    assert set(lines[0]["persons"][0]) == {"score", "keypoints", "id"}
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    original = cv2.VideoCapture(str(clip))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 12
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(original.get(cv2.CAP_PROP_FPS), rel=1e-3)
    assert {path.name for path in tmp_path.iterdir()} == {"out.mp4", "out.jsonl"}


def test_video_that_ends_early_keeps_what_was_done(tmp_path):
    """The index of an AVI lies at its end, so that a cut one still promises all its frames."""
    frames = [np.full((48, 64, 3), 10 * number, np.uint8) for number in range(20)]
    writer = cv2.VideoWriter(str(tmp_path / "whole.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for frame in frames:
        writer.write(frame)
    writer.release()
    data = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: int(0.6 * len(data))])
    command = ["predict", "cut.avi", "-o", "out", "--model", "efficientpose-rt-coco"]
    result = subprocess.run(
        [sys.executable, "-m", "keras_ehrnet", *command], capture_output=True, text=True, cwd=tmp_path
    )
    lines = (tmp_path / "out/cut.jsonl").read_text().splitlines()
    assert 0 < len(lines) < 20
    assert result.returncode == 1
    assert f"broken frames: {len(lines)} of the 20" in result.stderr
    assert (tmp_path / "out/cut.mp4").stat().st_size > 0


def stop_at(frame_to_stop_at, error):
    def on_frame(number, frame, people):
        if number == frame_to_stop_at:
            raise error

    return on_frame


def test_failure_keeps_what_was_done(predictor, clip, tmp_path):
    options = {"output": tmp_path / "a.mp4", "poses": tmp_path / "a.jsonl", "progress": False}
    with pytest.raises(RuntimeError, match="stop"):
        predictor.video(clip, on_frame=stop_at(4, RuntimeError("stop")), **options)
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "a.jsonl"}
    assert cv2.VideoCapture(str(tmp_path / "a.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 5


def test_interruption_is_the_end_of_a_recording(predictor, clip, tmp_path):
    report = predictor.video(clip, poses=tmp_path / "a.jsonl", on_frame=stop_at(4, KeyboardInterrupt()), progress=False)
    assert report.problem == "Interrupted after frame 4."
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 5


def test_source_is_never_overwritten(predictor, clip, tmp_path):
    copy = tmp_path / "clip.mp4"
    copy.write_bytes(clip.read_bytes())
    with pytest.raises(VideoError, match="would overwrite the video"):
        predictor.video(copy, output=tmp_path / "." / "clip.mp4", max_frames=1, progress=False)
    assert copy.read_bytes() == clip.read_bytes()
    assert list(tmp_path.iterdir()) == [copy]


def record(path, milliseconds, codec="mpeg4"):
    """A video whose frames have these times, the number of each as its brightness."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(milliseconds):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * number % 240, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


UNEQUAL = [0, 33, 66, 1066, 2066, 3066, 3099, 3132]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_that_last_unequally_long_keep_their_times(packaged, tmp_path, suffix):
    source, drawn, lines = tmp_path / f"phone{suffix}", tmp_path / "drawn.mp4", tmp_path / "lines.jsonl"
    record(source, UNEQUAL)
    report = packaged.video(source, output=drawn, poses=lines, progress=False)
    assert (report.frames, report.problem) == (8, None)
    seconds = [json.loads(line)["seconds"] for line in lines.read_text().splitlines()]
    assert seconds == [time / 1000 for time in UNEQUAL]
    # The drawn one shows at every moment what the source shows, give or take a frame at its rate.
    capture, brightness = cv2.VideoCapture(str(drawn)), []
    rate = capture.get(cv2.CAP_PROP_FPS)
    while (frame := capture.read())[0]:
        brightness.append(frame[1].mean() / 20)
    assert len(brightness) / rate == pytest.approx(3.132, abs=2.5 / rate)
    for number, time in ((3, 1066), (4, 2066)):
        moment = time / 1000 + 0.5
        assert brightness[round(moment * rate)] == pytest.approx(number, abs=0.4)


def test_a_matroska_that_is_cut_short_is_told(packaged, tmp_path):
    record(tmp_path / "whole.mkv", range(0, 800, 40))
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    report = packaged.video(tmp_path / "cut.mkv", progress=False)
    assert 0 < report.frames < 18 and "ends early" in report.problem
    assert packaged.video(tmp_path / "whole.mkv", progress=False).problem is None


FULL_DISK = """
import resource, sys
import keras_ehrnet as ke
predictor = ke.PosePredictor.load("efficientpose-rt-coco")
source, output, poses, limit = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit),) * 2)
try:
    predictor.video(source, output=output or None, poses=poses or None, progress=False)
except ke.support.errors.VideoError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["out.mp4", "out.avi", "out.mkv", "out.jsonl"])
def test_a_full_disk_replaces_nothing(tmp_path, name):
    record(tmp_path / "source.mp4", range(0, 2000, 40))
    (tmp_path / "out").mkdir()
    output = tmp_path / "out" / name
    output.write_bytes(b"an earlier result")
    outputs = ["", str(output)] if name.endswith(".jsonl") else [str(output), ""]
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "source.mp4"), *outputs, "1500"],
        capture_output=True,
        text=True,
    )
    assert "cannot be written" in result.stdout and "Traceback" not in result.stderr, result.stderr
    assert output.read_bytes() == b"an earlier result"
    assert list(output.parent.iterdir()) == [output]


def test_what_is_not_whole_replaces_nothing(predictor, clip, tmp_path):
    options = {"output": tmp_path / "a.mp4", "poses": tmp_path / "a.jsonl", "progress": False}
    predictor.video(clip, max_frames=3, **options)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RuntimeError, match="stop"):
        predictor.video(clip, on_frame=stop_at(1, RuntimeError("stop")), **options)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


MISTAKES = {
    "absent": ({"source": "absent.mp4"}, "There is no such video file"),
    "text": ({"source": "TEXT"}, "not a video that can be read"),
    "format": ({"output": "out.gif"}, "Videos are written as one of .mp4"),
    "folder": ({"output": "nowhere/out.mp4"}, "no such folder"),
    "lines": ({"poses": "nowhere/out.jsonl"}, "cannot be written"),
    "frames": ({"max_frames": 0}, "max_frames must be at least 1"),
    "half a frame": ({"max_frames": 2.5}, "and whole. Received: max_frames=2.5"),
    "threshold": ({"threshold": float("nan")}, "Received: threshold=nan"),
}


@pytest.mark.parametrize(("options", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_explained(predictor, clip, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.mp4").write_text("not a video")
    source = options.pop("source", clip) if "source" in options else clip
    source = "text.mp4" if source == "TEXT" else source
    with pytest.raises(VideoError, match=message):
        predictor.video(source, progress=False, **{"max_frames": 1, **options})
    assert {path.name for path in tmp_path.iterdir()} == {"text.mp4"}


def test_similarity_falls_with_distance():
    base = person()
    likeness = [float(similarity(base, person((shift, 0)))[0, 0]) for shift in (0, 2, 5, 20, 200)]
    assert likeness[0] == 1
    assert likeness == sorted(likeness, reverse=True)
    assert likeness[-1] < 0.01
    assert similarity(base, ke.Poses.empty(base.skeleton)).shape == (1, 0)


def test_identities_survive_a_change_of_order_and_a_short_absence():
    tracker = Tracker(patience=0.1, rate=25)
    first, second = person(seed=1), person((300, 0), seed=2)
    assert tracker(together(first, second)).ids.tolist() == [1, 2]
    assert tracker(together(second.resized((1, 1), (2, 1)), first)).ids.tolist() == [2, 1]
    assert tracker(first).ids.tolist() == [1]
    assert tracker(together(second, first)).ids.tolist() == [2, 1]
    for _ in range(3):
        tracker(ke.Poses.empty(first.skeleton))
    assert tracker(first).ids.tolist() == [3]


def test_patience_is_told_in_seconds():
    tracker, somebody, nobody = Tracker(), person(), ke.Poses.empty(ke.skeletons.COCO_17)
    assert tracker(somebody, 0.0).ids.tolist() == [1]
    # One frame a second: nobody was missed in between.
    assert tracker(somebody, 1.0).ids.tolist() == [1]
    tracker(nobody, 2.0)
    assert tracker(somebody, 3.0).ids.tolist() == [2]
    # A stream that was away for a minute: nobody knows who came and went.
    assert tracker(somebody, 63.0).ids.tolist() == [3]


@pytest.mark.parametrize(("away", "identity"), [(0, 1), (300, 3)], ids=["covered", "to be seen"])
def test_who_is_covered_is_waited_for(away, identity):
    """The other person, number 2, stands in the way, or at the side."""
    behind, other = person(), person((away, 0), seed=3)
    tracker = Tracker(patience=0.1)
    assert tracker(together(behind, other)).ids.tolist() == [1, 2]
    for _ in range(10):
        tracker(other)
    assert tracker(together(behind, other)).ids.tolist() == [identity, 2]


def test_people_who_cross_keep_their_identities():
    """The farther one is hidden by the nearer one for 0.4 seconds."""
    tracker = Tracker()
    for frame in range(60):
        right, left = person((5 * frame, 0)), person((300 - 5 * frame, 10), seed=1)
        both = not 25 <= frame < 35
        ids = tracker(together(right, left) if both else right).ids.tolist()
        assert ids == ([1, 2] if both else [1]), frame


def dressed(color: tuple[int, int, int]) -> np.ndarray:
    return np.full((100, 100, 3), color, np.uint8)


def test_clothes_tell_people_apart():
    somebody, red, blue = person(), dressed((200, 40, 40)), dressed((40, 60, 180))
    tracker = Tracker()
    assert [tracker(somebody, image=image).ids.tolist() for image in (red, red, blue, blue)] == [[1], [1], [2], [2]]


def test_one_euro_filter_calms_noise_and_follows_motion():
    noise = np.random.default_rng(0).normal(0, 1, 200)
    calm = OneEuroFilter(rate=25)
    assert np.std([float(calm(np.array(value), 100.0)) for value in noise][20:]) < 0.6 * noise.std()
    moving = OneEuroFilter(rate=25)
    lag = [4.0 * frame - float(moving(np.array(4.0 * frame), 100.0)) for frame in range(100)]
    assert max(lag) < 10


def test_smoothing_counts_the_time_that_passed():
    """After a second at rest, a joint is followed at once; after a fiftieth of one, it may be noise."""
    steps = []
    for seconds in (0.02, 1.0):
        smoother = Smoother(25)
        start, moved = (Tracker()(person((shift, 0))) for shift in (0.0, 5.0))
        smoother(start, 0.0)
        steps.append(float((smoother(moved, seconds).keypoints - start.keypoints)[..., 0].mean()))
    assert steps[0] < 0.6 * steps[1]
    assert steps[1] > 4.5


def test_smoothing_needs_identities():
    with pytest.raises(ValueError, match="give them one with Tracker"):
        Smoother(25)(person())

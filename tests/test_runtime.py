"""What runs on a device: NumPy, OpenCV and LiteRT alone give the people that the Keras model gives."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import painted
import pytest

import keras_ehrnet as ke
from keras_ehrnet import decode, runtime
from keras_ehrnet.decode import exported
from keras_ehrnet.decode.assignment import assign, assign_without_scipy
from keras_ehrnet.decode.grouping import match
from keras_ehrnet.decode.peaks import find_peaks
from keras_ehrnet.runtime import __main__ as command
from keras_ehrnet.runtime import litert
from keras_ehrnet.runtime.keras import KerasNetwork
from keras_ehrnet.support.errors import ModelError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def network() -> KerasNetwork:
    return KerasNetwork(painted.network("efficienthrnet"), painted.SKELETON)


@pytest.fixture(scope="module")
def maps_file(network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("files") / "maps.tflite"
    return ke.export.tflite(network.model, path, skeleton=painted.SKELETON, input_dtype="float32")


@pytest.fixture(scope="module")
def peaks_file(network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("files") / "peaks.tflite"
    return ke.export.tflite(network.model, path, decode="peaks", skeleton=painted.SKELETON)


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    cv2.imwrite(str(path), cv2.cvtColor(painted.picture(), cv2.COLOR_RGB2BGR))
    return path


@pytest.fixture(scope="module")
def device(tmp_path_factory) -> Path:
    """The Python of an environment that holds what a device needs, and nothing else."""
    folder = tmp_path_factory.mktemp("device")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    needed = [f"{name}=={version(name)}" for name in ("numpy", "opencv-python-headless", "ai-edge-litert")]
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", *needed]
    result = subprocess.run(install, capture_output=True, text=True)
    if result.returncode:
        assert not os.environ.get("CI"), result.stderr
        pytest.skip(f"pip cannot install a device's packages: {result.stderr.strip().splitlines()[-1]}")
    return python


def on_device(python: Path, *arguments: object) -> subprocess.CompletedProcess:
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    return subprocess.run([python, *map(str, arguments)], capture_output=True, text=True, env=environment)


def test_device_needs_three_packages(device, network, maps_file, peaks_file, photo, tmp_path):
    """Maps and peaks, grouped without SciPy, are the people of the Keras model."""
    expected = ke.PosePredictor(network)(photo)
    assert len(expected) == 2
    for path in (maps_file, peaks_file):
        result = on_device(device, "-m", "keras_ehrnet.runtime", path, photo, "--json", "-o", tmp_path / "out.png")
        assert (result.returncode, result.stderr) == (0, "")
        people = json.loads(result.stdout)["persons"]
        for person, actual in zip(expected, people, strict=True):
            for name in painted.SKELETON.joint_names:
                point = actual["keypoints"][name]
                assert (point["x"], point["y"]) == pytest.approx(person.joint(name)[:2], abs=0.6)
        drawn, original = cv2.imread(str(tmp_path / "out.png")), cv2.imread(str(photo))
        assert drawn.shape == original.shape and (drawn != original).any()


def test_nothing_else_is_imported(device, network, maps_file, photo):
    code = (
        "import sys, keras_ehrnet as ke; predictor = ke.PosePredictor.load(sys.argv[1]); print(predictor(sys.argv[2]));"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'tensorflow', 'keras', 'scipy', 'matplotlib',"
        "'pycocotools', 'rich', 'typer', 'h5py', 'yaml', 'jax', 'torch'}))"
    )
    result = on_device(device, "-c", code, maps_file, photo)
    assert result.stdout.splitlines() == [str(ke.PosePredictor(network)(photo)), "[]"]


def test_missing_interpreter(maps_file, monkeypatch):
    monkeypatch.setattr(litert, "PACKAGES", ("nowhere.interpreter",))
    with pytest.raises(ValueError, match="pip install ai-edge-litert"):
        runtime.load(maps_file)


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_any_installed_interpreter_will_do(maps_file, network, monkeypatch):
    """TensorFlow's own, where there is no other."""
    monkeypatch.setattr(litert, "PACKAGES", ("nowhere.interpreter", "tensorflow.lite.python.interpreter"))
    images = painted.picture()[None]
    expected = network(images)
    for name, maps in runtime.load(maps_file)(images).items():
        assert np.abs(maps - expected[name]).max() < 1e-5


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return path


WRONG_FILES = {
    "cut short": (lambda content: content[: len(content) // 2], "cut short"),
    "end missing": (lambda content: content[:-10], "its end is missing"),
    "of another program": (
        lambda content: content[: content.index(b"PK\x03\x04")],
        r"runtime\.Interpreter.*heatmaps_2",
    ),
    "no model": (lambda content: b"hello", "not a TFLite model"),
    "empty": (lambda content: b"", "not a TFLite model"),
}


@pytest.mark.parametrize(("damage", "message"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_wrong_files_are_explained(maps_file, photo, tmp_path, capsys, damage, message):
    path = _file(tmp_path, damage(maps_file.read_bytes()))
    with pytest.raises(ValueError, match=message):
        ke.PosePredictor.load(path)
    assert command.main([str(path), str(photo)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("Error: ") and captured.err.count("\n") == 1
    assert captured.out == ""


MISTAKES = {
    "no file": (lambda path: runtime.load("nowhere.tflite"), FileNotFoundError, "nowhere.tflite"),
    "threads": (lambda path: runtime.load(path, threads=0), ValueError, "threads=0"),
    "delegate": (lambda path: runtime.load(path, delegates=["libnone.so"]), ValueError, "delegate does not load"),
    "weights": (lambda path: ke.PosePredictor.load(path, weights="w.h5"), ValueError, "holds its weights"),
    "size": (lambda path: ke.PosePredictor.load(path, input_size=(32, 32)), ValueError, r"size \(64, 96\)"),
    "skeleton": (
        lambda path: ke.PosePredictor.load(path, skeleton=ke.skeletons.COCO_17),
        ValueError,
        "has 3 keypoints",
    ),
    "input": (lambda path: runtime.Interpreter(path)(picture=1), ValueError, "The model takes image float32"),
    "scales": (lambda path: ke.PosePredictor.load(path, scales=(1, 0.5)), ValueError, "free input sizes"),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of LiteRT's delegate that did not load
@pytest.mark.parametrize(("act", "error", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_explained(maps_file, act, error, message):
    with pytest.raises(error, match=message):
        act(maps_file)


def test_what_needs_maps_is_refused_where_there_are_none(peaks_file):
    with pytest.raises(ValueError, match="export the model with decode='none'"):
        ke.PosePredictor.load(peaks_file, flip=True)


def test_mirroring_works_with_maps(network, maps_file):
    expected, actual = (
        ke.PosePredictor(source, flip=True)(painted.picture()) for source in (network, runtime.load(maps_file))
    )
    assert np.abs(expected.keypoints - actual.keypoints).max() < 1e-3


def test_the_skeleton_can_be_named_otherwise(maps_file):
    other = ke.Skeleton("other", ("a", "b", "c"), ())
    assert ke.PosePredictor.load(maps_file, skeleton=other)(painted.picture()).skeleton == other


def test_networks_say_what_they_are(maps_file, peaks_file):
    loaded = runtime.load(peaks_file, threads=1)
    assert repr(loaded) == "TFLiteNetwork(painted-efficienthrnet, painted, input 96x64, float32, decode=peaks)"
    assert repr(loaded.raw) == "Interpreter(image uint8[1, 64, 96, 3] -> peaks float32[1, 3, 20, 4])"
    assert loaded.digest() == runtime.load(peaks_file).digest() != runtime.load(maps_file).digest()
    assert not loaded.any_size


def test_models_without_signatures(maps_file):
    """Those of older converters: named by their tensors."""
    from keras_ehrnet.export.litert import flatbuffer

    model = flatbuffer.read(maps_file.read_bytes())
    model.signatureDefs = None
    old = runtime.Interpreter(flatbuffer.write(model))
    ((name, info),) = old.inputs.items()
    assert info.shape == (1, 64, 96, 3)
    image = painted.picture()[None].astype(np.float32)
    new = runtime.load(maps_file)(image)
    results = list(old(**{name: image}).values())
    assert all(any(np.array_equal(maps, result) for result in results) for maps in new.values())


def _exported(network: KerasNetwork, folder: Path, suffix: str) -> ke.PosePredictor:
    """A predictor that runs a network in another form, or as it is."""
    path = folder / f"model{suffix}"
    if suffix == ".tflite":
        return ke.PosePredictor.load(ke.export.tflite(network.model, path, skeleton=painted.SKELETON))
    if suffix == ".onnx":
        return ke.PosePredictor.load(ke.export.onnx(network.model, path, skeleton=painted.SKELETON))
    return ke.PosePredictor(network)


@pytest.mark.parametrize("suffix", [".tflite", ".onnx", ""])
def test_threads_share_a_predictor(network, tmp_path, suffix):
    """Each gets the people of its own image."""
    images = painted.pictures(6)
    expected = [ke.PosePredictor(network)(image).keypoints for image in images]
    predictor = _exported(network, tmp_path, suffix)
    order = [(place + turn) % len(images) for turn in range(8) for place in range(len(images))]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda index: predictor(images[index]).keypoints, order))
    for index, keypoints in zip(order, results, strict=True):
        np.testing.assert_allclose(keypoints[..., :2], expected[index][..., :2], atol=0.6)


def test_threads_share_a_model_without_signatures(maps_file):
    from keras_ehrnet.export.litert import flatbuffer

    model = flatbuffer.read(maps_file.read_bytes())
    model.signatureDefs = None
    interpreter = runtime.Interpreter(flatbuffer.write(model))
    (name,) = interpreter.inputs
    images = [picture[None].astype(np.float32) for picture in painted.pictures(6)]
    alone = [interpreter(**{name: image}) for image in images]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda image: interpreter(**{name: image}), images * 20))
    for index, outputs in enumerate(together):
        assert all(np.array_equal(maps, alone[index % len(images)][key]) for key, maps in outputs.items())


def test_standard_error_survives_opening_in_threads(maps_file, capfd):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: runtime.load(maps_file), range(32)))
    os.write(2, b"still seen")
    assert "still seen" in capfd.readouterr().err


def test_predictors_of_keras_models_are_pickled(network):
    image, predictor = painted.picture(), ke.PosePredictor(network, max_people=1)
    again = pickle.loads(pickle.dumps(predictor))
    assert again.settings == predictor.settings and again.network.digest() == network.digest()
    np.testing.assert_array_equal(again(image).keypoints, predictor(image).keypoints)


@pytest.mark.parametrize("suffix", [".tflite", ".onnx", ""])
def test_videos_share_a_predictor(network, tmp_path, suffix):
    """Several at once, while images are looked at: each line belongs to its own frame."""
    frames = painted.pictures(6)
    height, width = frames[0].shape[:2]
    for place in range(3):
        writer = cv2.VideoWriter(str(tmp_path / f"{place}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (width, height))
        for frame in np.roll(frames, place, axis=0):
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
        writer.release()
    predictor = _exported(network, tmp_path, suffix)

    def lines(place: int, run: str) -> str:
        predictor.video(tmp_path / f"{place}.avi", poses=tmp_path / f"{place}{run}.jsonl", progress=False)
        return (tmp_path / f"{place}{run}.jsonl").read_text()

    alone = [lines(place, "alone") for place in range(3)]
    assert len(set(alone)) == 3
    with ThreadPoolExecutor(4) as threads:
        pictures = [threads.submit(predictor, frame) for frame in frames]
        together = list(threads.map(lambda place: lines(place, "together"), range(3)))
    assert together == alone
    for picture, frame in zip(pictures, frames, strict=True):
        np.testing.assert_array_equal(picture.result().keypoints, predictor(frame).keypoints)


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_predictors_of_exported_files_are_pickled(network, tmp_path, monkeypatch, suffix):
    """Opened again from their file, wherever that happens, with the skeleton they were given."""
    image = painted.picture()
    _exported(network, tmp_path, suffix)
    other = ke.Skeleton("other", ("a", "b", "c"), ((0, 2),))
    monkeypatch.chdir(tmp_path)
    predictor = ke.PosePredictor.load(f"model{suffix}", skeleton=other, max_people=1)
    pickled = pickle.dumps(predictor)
    monkeypatch.chdir("/")
    again = pickle.loads(pickled)
    assert again.network.skeleton == other and again.settings == predictor.settings
    np.testing.assert_array_equal(again(image).keypoints, predictor(image).keypoints)
    assert len(again(image)) == 1 and again.network.digest() == pickle.loads(pickle.dumps(again)).network.digest()


class Diverged:
    """A network whose weights are no numbers any more."""

    def __init__(self, network):
        self._network = network

    def __getattr__(self, name):
        return getattr(self._network, name)

    def __call__(self, images):
        return {name: np.full_like(values, np.nan) for name, values in self._network(images).items()}


def test_nobody_is_no_answer_of_a_broken_network(network, peaks_file):
    for broken in (Diverged(network), Diverged(runtime.load(peaks_file))):
        with pytest.raises(ModelError, match="must be finite|gives NaN or infinity: its file is damaged"):
            ke.PosePredictor(broken)(painted.picture())


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_names_of_files_may_end_in_capitals(network, tmp_path, suffix):
    lower = _exported(network, tmp_path, suffix)
    path = (tmp_path / f"model{suffix}").rename(tmp_path / f"MODEL{suffix.upper()}")
    assert runtime.is_exported(path)
    image = painted.picture()
    np.testing.assert_array_equal(ke.PosePredictor.load(path)(image).keypoints, lower(image).keypoints)


def test_networks_of_bytes_are_pickled_with_them(network, maps_file):
    content = maps_file.read_bytes()
    again = pickle.loads(pickle.dumps(runtime.TFLiteNetwork(content, threads=1)))
    image = painted.picture()
    assert again.digest() == runtime.TFLiteNetwork(content).digest()
    expected = ke.PosePredictor.load(maps_file)(image).keypoints
    np.testing.assert_array_equal(ke.PosePredictor(again)(image).keypoints, expected)


def test_command_prints_people(network, maps_file, photo, tmp_path, capsys):
    assert command.main([str(maps_file), str(photo), "--threads", "1", "-o", str(tmp_path / "out.jpg")]) == 0
    assert capsys.readouterr().out == f"{ke.PosePredictor(network)(photo)}\n"
    assert (tmp_path / "out.jpg").stat().st_size > 0
    before = photo.read_bytes()
    assert command.main([str(maps_file), str(photo), "-o", str(photo)]) == 2
    assert "would overwrite" in capsys.readouterr().err
    assert photo.read_bytes() == before


def test_assignment_is_that_of_scipy():
    """The same pairs, also where several assignments cost the same."""
    generator = np.random.default_rng(0)
    for case in range(300):
        shape = tuple(generator.integers(1, 9, 2))
        whole = generator.integers(0, 3, shape) * 100.0
        costs = (whole, whole - generator.random((shape[0], 1)), generator.random(shape))[case % 3]
        for expected, actual in zip(assign(costs), assign_without_scipy(costs), strict=True):
            assert np.array_equal(expected, actual)
    assert all(len(part) == 0 for part in assign_without_scipy(np.zeros((0, 4))))


def test_grouped_peaks_are_those_of_the_maps(network):
    """Peaks read from an output give the people that `match` finds on the maps."""
    maps = {name: values[0] for name, values in network(painted.picture()[None]).items()}
    heatmaps = decode.average_strides(maps["heatmaps_4"], maps["heatmaps_2"])
    found = find_peaks(heatmaps, threshold=0.1, kernel=3, first_of_equals=True)
    tags = maps["tags_4"][found.rows // 2, found.columns // 2, found.joints][:, None]
    height, width = heatmaps.shape[:2]
    table = np.zeros((3, 5, 4), np.float32)
    for joint in range(3):
        mine = found[found.of(joint)]
        rows = np.column_stack([mine.rows / height, mine.columns / width, mine.scores, tags[found.of(joint)]])
        table[joint, : len(rows)] = rows
    people = exported.grouped_peaks(table, painted.SKELETON, (height, width), max_people=5)
    expected = match(found, tags, painted.SKELETON)[..., :3]
    assert len(people) == 2
    assert np.abs(people.keypoints - expected).max() < 1e-4
    assert len(exported.grouped_peaks(table, painted.SKELETON, (height, width), max_people=1)) == 1


def test_unused_rows_are_nobody():
    poses = np.zeros((4, 14), np.float32)
    poses[0] = [0.25, 0.5, 0.9, *[0] * 3, *[0] * 3, 0.25, 0.5, 0.25, 0.5, 0.3]
    (person,) = exported.several_people(poses, painted.SKELETON, (64, 96))
    assert person.keypoints[0].tolist() == pytest.approx(np.array([[48, 16, 0.9], [0] * 3, [0] * 3]), abs=1e-6)
    assert person.scores.tolist() == pytest.approx([0.3])

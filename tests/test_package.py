"""The package as a whole: it imports at once, its commands explain themselves, its photographs come out right."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import keras_ehrnet as ke
from keras_ehrnet import decode

HEAVY = ("tensorflow", "keras", "jax", "torch", "cv2", "scipy", "matplotlib")


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "keras_ehrnet", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def test_import_loads_nothing_heavy():
    code = f"import sys, keras_ehrnet; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("module", ["skeletons", "poses", "decode", "data", "evaluation"])
def test_layers_below_the_models_need_no_framework(module):
    code = f"import sys, keras_ehrnet.{module}; print([n for n in ('tensorflow', 'keras', 'jax') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


CALLS = {
    "keras_ehrnet.EfficientHRNet": "ke.EfficientHRNet(0)",
    "tflite()": "ke.export.tflite('model.keras', 'model.tflite')",
    "A network of Keras": "ke.PosePredictor.load('h-4')",
    "keras_ehrnet.search": "ke.search('synthetic')",
    "keras_ehrnet.training.train": "ke.train('h-4')",
    "keras_ehrnet.losses": "ke.losses",
}


def test_what_the_smaller_installation_lacks_is_named():
    """In a process from which Keras is hidden."""
    code = ["import sys", "for name in ('keras', 'tensorflow', 'jax'): sys.modules[name] = None"]
    code += ["import keras_ehrnet as ke"]
    for call in CALLS.values():
        code += [f"try: {call}", "except ImportError as error: print(error)"]
    done = subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, check=True)
    missing = "keras, which is not installed: run  pip install 'keras-ehrnet[tensorflow]'"
    assert done.stdout.splitlines() == [f"{name} needs {missing}" for name in CALLS]


MISTAKEN = {
    "predict {photo} -m efficientpose-tr": "Did you mean 'efficientpose-rt'?",
    "predict {photo} -m h-2": "No weights with a license to share",
    "predict {photo} --refine efficientpose-tr": "Did you mean 'efficientpose-rt'?",
    "evaluate coco . {photo} -m h-9": "Did you mean 'h-4'?",
    "convert {photo} out.keras -m h-9": "Did you mean 'h-4'?",
    "summary h-9": "Did you mean 'h-4'?",
}


def test_mistaken_names_are_told_before_keras_is_imported(tmp_path):
    """In a process from which Keras is hidden: whoever mistypes a name need not wait for it."""
    photo = Path(__file__).parents[1] / "docs/pictures/astronaut.jpg"
    code = ["import sys", "for name in ('keras', 'tensorflow', 'jax'): sys.modules[name] = None"]
    code += ["from keras_ehrnet.cli import main"]
    for command in MISTAKEN:
        code += [f"try: main({command.format(photo=photo).split()})", "except SystemExit as end: assert end.code == 2"]
    command = [sys.executable, "-c", "\n".join(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    told = done.stderr.splitlines()
    assert len(told) == len(MISTAKEN)
    for line, message in zip(told, MISTAKEN.values(), strict=True):
        assert line.startswith("Error: ") and message in line


def test_public_names_exist():
    for name in ke.__all__:
        assert getattr(ke, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'EfficientPoze'"):
        _ = ke.EfficientPoze


CALLED = {"search": "keras_ehrnet.search.run.search"}
"""Modules that are called like the function they are named for, which is what type checkers see."""


@pytest.mark.parametrize("package", [ke, ke.models])
def test_type_checkers_see_the_public_names(package):
    tree = ast.parse(Path(package.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {}
    for line in block.body:
        for name in line.names:
            seen[name.asname] = (line.module, name.name)
    places = {f"{module}.{name}": public for public, (module, name) in seen.items()}
    own = {(f"{module}.{name}" if name else module): public for public, (module, name) in package._PUBLIC.items()}
    called = {name: CALLED[name] for name in own.values() if name in CALLED}
    assert places == {place: name for place, name in own.items() if name not in called} | {
        place: name for name, place in called.items()
    }


EVALUATE = ("evaluate", "evaluate coco", "evaluate mpii", "evaluate lspet")
COMMANDS = ("", "predict", "export", "benchmark", "summary", "convert", *EVALUATE)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command):
    result = run(*command.split(), "--help")
    assert result.returncode == 0
    assert "Usage" in result.stdout


def test_summary_as_json():
    result = run("summary", "h-4", "efficientpose-rt", "--json")
    counts = json.loads(result.stdout)
    assert counts["h-4"]["parameters"] == 2_764_706
    assert counts["efficientpose-rt"]["weights"] == 465_608


def test_weights_that_are_free_to_use_are_listed():
    listed = run("summary", "--weights").stdout
    for name in ke.models.list(weights=True):
        entry = ke.weights.entry(name)
        assert all(text in listed for text in (name, entry.license, entry.skeleton, entry.score, entry.recipe))


def test_every_name_is_a_model_for_its_size_and_skeleton():
    names = ke.models.list()
    assert {"h0", "h3", "h-4-lite", "efficientpose-ii-lite", "efficientnet-b-4"} < set(names)
    assert {ke.weights.entry(name).model for name in ke.models.list(weights=True)} < set(names)
    assert ke.models.variant("h3").input_size == ke.models.variant("h3-lite").input_size == (608, 608)
    model = ke.models.variant("h-4-lite").build_for(ke.skeletons.LSP_14)
    assert (model.name, model.output["heatmaps_2"].shape[-1]) == ("h-4-lite", 14)


@pytest.fixture(scope="module")
def photo(reference):
    return reference / "data/coco_samples/images/000000000785.jpg"


def test_predict_writes_picture_and_points(reference, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_EHRNET_HOME", str(reference / "weights"))
    result = run("predict", photo, "--model", "efficientpose-rt", "--output", tmp_path, "--csv")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"Picture: {tmp_path}/000000000785.jpg" in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == {f"000000000785{end}" for end in (".jpg", ".json", ".csv")}
    (person,) = json.loads((tmp_path / "000000000785.json").read_text())["persons"]
    assert set(person["keypoints"]) == set(ke.skeletons.MPII_16.joint_names)
    original, drawn = cv2.imread(str(photo)), cv2.imread(str(tmp_path / "000000000785.jpg"))
    assert original.shape == drawn.shape
    assert (tmp_path / "000000000785.jpg").stat().st_size < 1.5 * photo.stat().st_size
    # COCO's annotation of the skier, in the joints that both skeletons have.
    expected = {"left_hip": (393, 214), "right_knee": (367, 273), "left_ankle": (466, 362), "right_ankle": (396, 341)}
    expected = {"left_shoulder": (399, 108), "right_shoulder": (358, 129), **expected}
    for name, (x, y) in expected.items():
        point = person["keypoints"][name]
        # The skier is 347 pixels tall, and the two data sets place hips differently.
        assert np.hypot(point["x"] - x, point["y"] - y) < 0.12 * 347, name


@pytest.mark.parametrize(("suffix", "kind"), [("jpg", "jpg"), ("JPEG", "jpg"), ("png", "png")])
def test_nobody_found_is_a_sentence_and_a_picture_of_the_same_kind(tmp_path, suffix, kind):
    cv2.imwrite(str(tmp_path / f"room.{suffix}"), np.full((48, 64, 3), 90, np.uint8))
    result = run("predict", tmp_path / f"room.{suffix}", "--output", tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    assert "Nobody was found" in result.stdout and "joint" not in result.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"room.json", f"room.{kind}"}


@pytest.mark.parametrize("variant", ["RT", "I", "RT_LITE"])
@pytest.mark.parametrize("frame", [(600, 600), (480, 640), (640, 480)])
def test_points_are_the_published_ones(reference, variant, frame):
    """The whole way from the published model's input to points relative to the frame."""
    golden = json.loads((reference / "reference/efficientpose_coordinates.json").read_text())
    network = ke.PosePredictor.load(
        f"efficientpose-{variant.lower().replace('_', '-')}", weights=reference / f"weights/EfficientPose{variant}.h5"
    ).network
    image = np.load(reference / f"reference/efficientpose_{variant}.npz")["image"]
    maps = network(image)["heatmaps"][0]
    side = image.shape[1]
    for smooth in (False, True):
        (case,) = (
            entry
            for entry in golden
            if (entry["variant"], entry["image"], entry["smoothed"]) == (variant, 0, smooth)
            and (entry["frame_height"], entry["frame_width"]) == frame
        )
        poses = decode.single_person(maps, skeleton=network.skeleton, smooth=smooth)
        geometry = decode.letterbox_geometry(frame[1], frame[0], side, side)
        relative = np.clip(geometry.to_image(poses.xy[0]) / (frame[1], frame[0]), 0, 1)
        for (name, x, y), point in zip(case["points"], relative, strict=True):
            # Half a heatmap pixel: the published way marks what lies above or left of the frame with -0.5 pixels.
            assert np.abs(point - (x, y)).max() <= 0.5 / side + 1e-6, name


MISTAKES = {
    "no such image": (("predict", "nowhere.jpg"), "There is no such file or folder"),
    "model": (("predict", "PHOTO", "--model", "efficientpose-tr"), "Did you mean 'efficientpose-rt'?"),
    "no weights": (("predict", "PHOTO", "--model", "h-2"), "No weights with a license to share"),
    "scales": (("predict", "PHOTO", "--scales", "big"), "numbers separated by commas"),
    "weights file": (("predict", "PHOTO", "--model", "h-2", "--weights", "PHOTO"), "is not a readable weights file"),
    "annotations": (("evaluate", "coco", ".", "PHOTO", "--model", "efficientpose-rt"), "is not valid JSON"),
    "model to convert": (("convert", "PHOTO", "out.keras", "--model", "h-9"), "Did you mean"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_end_in_one_sentence(reference, photo, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setenv("KERAS_EHRNET_HOME", str(reference / "weights"))
    result = run(*(photo if argument == "PHOTO" else argument for argument in arguments), cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


FLOORS = (
    {"support"},
    {"families", "skeletons", "geometry", "images", "losses"},
    {"poses", "metadata", "data"},
    {"weights"},
    {"models", "decode"},
    {"runtime"},
    {"prediction"},
    {"evaluation", "export"},
    {"training", "benchmark"},
    {"search"},
    {"cli"},
)
"""Rooms of the package, from the ground up: what stands below knows nothing of what stands above."""

PASSED_ON = {("runtime/__main__.py", "prediction")}
"""The command of a runtime alone, which ends in a predictor."""


def test_imports_point_down():
    root = Path(ke.__file__).parent
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    assert floor.keys() == {
        path.stem
        for path in root.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and not path.stem.startswith("__")
    }
    up = set()
    for path in root.rglob("*.py"):
        place = path.relative_to(root)
        own = floor.get(place.parts[0].removesuffix(".py"), len(FLOORS))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras_ehrnet"):
                parts = node.module.split(".")
                rooms = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
                # A name that is no room is one of the package's face, which stands above all.
                up |= {(place.as_posix(), room) for room in rooms if floor.get(room, len(FLOORS)) > own}
    assert up == PASSED_ON

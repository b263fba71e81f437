"""Commands that documentation shows are run as they stand there, on small files of the names that they have there."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import painted
import pytest
import tiny
from test_docs import TEXTS, commands
from test_own_keypoints import JOINTS, LIMBS, write_dogs
from typer.testing import CliRunner

import keras_ehrnet as ke
from keras_ehrnet.cli import app
from keras_ehrnet.data.categories import keypoint_categories
from keras_ehrnet.data.mpii import MPII_FILE_ORDER
from keras_ehrnet.images import read_image, write_image
from keras_ehrnet.skeletons import LSP_14, Skeleton
from keras_ehrnet.weights import registry

PHOTO = Path(__file__).parents[1] / "docs/pictures/astronaut.jpg"
COMMANDS = sorted({shlex.join(words) for text in TEXTS for words in commands(text)})

NOT_RUN = {
    r"^serve": "waits for requests: tests/test_serving.py",
    r"^predict (0|rtsp:|'libcamerasrc)": "needs a camera or a stream: tests/test_sources.py and test_streams.py",
    r"--engine ray": "starts a cluster: tests/test_ray_engine.py",
    r"--check-tftrt": "needs TensorFlow 2.17: tests/tf217",
    r"\bh-2\b": "needs weights that may not be passed on: tests/test_golden_networks.py has their networks",
    r"^benchmark": "measures for minutes: tests/test_benchmark.py",
    r"^export (efficientpose-rt|runs/dogs)": "takes a minute: tests/test_export_*.py and test_own_keypoints.py do it",
    r"^summary$": "builds all networks, which takes a minute: tests/test_package.py builds some",
    r"^search": "searches for minutes: tests/test_search.py and test_search_latency.py",
    r"runs/(coco|efficientpose-a-coco)/": "needs what a search found: tests/test_search.py",
    r"=\.\.\.": "is a form to fill in",
}
"""What is not run, and why."""

SHORTER = {
    r"^train": ("--show",),  # tests/test_own_keypoints.py trains.
    r"^evaluate (mpii|lspet)": ("--limit", "1"),
}
"""What is added so that a command takes seconds."""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder with what the commands name."""
    folder = tmp_path_factory.mktemp("workplace")
    photo = np.ascontiguousarray(read_image(PHOTO)[::2, ::2])
    for name in ("photo.jpg", "group.jpg", "dog.jpg", "photos/1.jpg", "photos/2.jpg", "images/1.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        write_image(folder / name, photo)
    (folder / "clips").mkdir()
    for name, code in (("clip.mp4", "mp4v"), ("clips/1.ts", "mpg2")):
        video = cv2.VideoWriter(str(folder / name), cv2.VideoWriter.fourcc(*code), 10, photo.shape[1::-1])
        for _ in range(3):
            video.write(photo[..., ::-1])
        video.release()
    shutil.copy(registry.entry("efficientpose-rt-coco").exported_path, folder / "rt-int8.tflite")
    people = {"skeleton": painted.SKELETON, "multi_person": True, "any_size": True, "batch": None}
    ke.export.onnx(painted.network("efficientpose"), folder / "people.onnx", "poses", **people)
    write_dogs(folder / "own", 6)
    shutil.move(folder / "own/images", folder / "dogs")
    shutil.move(folder / "own/dogs.json", folder / "dogs.json")
    model = ke.EfficientPoseNAS(tiny.SEARCHED, num_keypoints=5)
    ke.models.save(model, folder / "runs/dogs/model.keras", Skeleton("dog", JOINTS, LIMBS))
    (folder / "mpii_valid.json").write_text(json.dumps([_mpii_person("1.jpg")]))
    with zipfile.ZipFile(folder / "val.zip", "w") as archive:
        archive.write(folder / "photo.jpg", "1.jpg")
    joints = np.column_stack([np.linspace(50, 200, 14), np.linspace(20, 220, 14)]).tolist()
    (folder / "val.json").write_text(json.dumps(_lsp(joints)))
    return folder


def _mpii_person(image: str) -> dict:
    joints = np.column_stack([np.linspace(50, 200, 16), np.linspace(20, 220, 16)]).tolist()
    assert len(MPII_FILE_ORDER) == len(joints)
    labels = {"joints": joints, "joints_vis": [1] * 16, "head_size": 30.0}
    return {"image": image, **labels, "center": [128, 128], "scale": 1.0}


def _lsp(joints: list) -> dict:
    size = dict(zip(("width", "height"), read_image(PHOTO)[::2, ::2].shape[1::-1], strict=True))
    image = {"file_name": "1.jpg", **size, "joints": joints, "labelled": [1] * 14}
    return {"joint_names": LSP_14.joint_names, "images": [image]}


def reason(table: dict, command: str) -> object:
    return next((value for pattern, value in table.items() if re.search(pattern, command)), None)


@pytest.mark.parametrize("command", [command for command in COMMANDS if not reason(NOT_RUN, command)])
def test_commands_shown_do_their_work(request, workplace, tmp_path, monkeypatch, command):
    if re.search(r"--model efficientpose-(i|rt)(?! --weights)|export efficientpose-i|^evaluate (mpii|lspet)", command):
        monkeypatch.setenv("KERAS_EHRNET_HOME", str(request.getfixturevalue("reference") / "weights"))
    shutil.copytree(workplace, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    result = CliRunner().invoke(app, [*shlex.split(command), *(reason(SHORTER, command) or ())])
    assert result.exit_code == 0, (result.output, result.exception)


def test_running_on_small_devices_is_shown_as_it_is(workplace, tmp_path):
    shown = "python -m keras_ehrnet.runtime rt.tflite photo.jpg -o people.png"
    assert [text.name for text in TEXTS if shown in text.read_text()] == ["README.md"]
    shutil.copy(registry.entry("efficientpose-rt-coco").exported_path, tmp_path / "rt.tflite")
    shutil.copy(workplace / "photo.jpg", tmp_path)
    done = subprocess.run([sys.executable, *shlex.split(shown)[1:]], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert read_image(tmp_path / "people.png").shape == read_image(workplace / "photo.jpg").shape


def test_category_shown_is_read():
    page = (PHOTO.parents[1] / "guides/own-keypoints.md").read_text()
    categories = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
    _, skeleton = keypoint_categories(categories, "own-keypoints.md", None)
    assert skeleton.limbs == ((0, 1), (0, 2)) and skeleton.flip_permutation == (0, 2, 1, 4, 3)
    assert replace(skeleton, flip_pairs=None).flip_permutation == skeleton.flip_permutation


def test_each_reason_is_needed():
    for pattern in (*NOT_RUN, *SHORTER):
        assert any(re.search(pattern, command) for command in COMMANDS), pattern

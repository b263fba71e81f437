"""One photograph, one answer: whatever runs a network, its joints lie where the Keras model's lie.

`pytest -s` prints the table. The browser and the JVM are asked where their tools are; `make test-answers` demands them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import need_programs

import keras_ehrnet as ke
from keras_ehrnet.export.common import load
from keras_ehrnet.prediction.pipeline import Settings, estimate
from keras_ehrnet.runtime.keras import KerasNetwork
from keras_ehrnet.runtime.onnx import OnnxNetwork
from keras_ehrnet.weights import registry

ROOT = Path(__file__).parents[1]
PHOTOS = 3
ONE, SEVERAL = "efficientpose-rt-coco", "efficientpose-rt-people"
SEEN = 0.2
"""Score from which on a joint counts as seen: what is fainter lies on flat maps, where the highest place is chance."""

REFINED = "PosePredictor.load()"
"""Two networks: one finds people, the other places each anew."""

LEAST = 0.15
"""Score of people who are compared, of several."""

Keypoints = list[np.ndarray]
"""Of the people in one picture, `(N, K, 3)`; one array per picture."""


class OpenVinoNetwork(OnnxNetwork):
    """An ONNX file that OpenVINO runs."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        openvino = pytest.importorskip("openvino", reason="OpenVINO reads ONNX files: pip install openvino")
        self.compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        results = [self.compiled(image[None]).to_dict() for image in images]
        names = [output.any_name for output in self.compiled.outputs]
        return {
            name: np.concatenate([list(result.values())[index] for result in results])
            for index, name in enumerate(names)
        }


@dataclass(frozen=True)
class Case:
    """A network as files, perhaps one that looks at everyone again, and who is found by Keras (or LiteRT in Python)."""

    tflite: Path
    onnx: Path | None
    settings: Settings
    expected: Keypoints
    refine: Path | None = None


@pytest.fixture(scope="module")
def photos(reference) -> list[np.ndarray]:
    paths = sorted((reference / "data/coco_samples/images").glob("*.jpg"))[:PHOTOS]
    assert len(paths) == PHOTOS
    return [ke.images.read_image(path) for path in paths]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("answers")


def found_in_keras(name: str, photos: list[np.ndarray]) -> tuple[KerasNetwork, Settings, Keypoints]:
    """The Keras model of a name, how it is asked, and who it finds."""
    network = load(name, None, None, None)
    several = name == SEVERAL
    settings = Settings(min_score=LEAST if several else 0, multi_person=several, max_people=20)
    found = [poses.keypoints for poses in estimate(network, photos, settings)]
    assert sum(map(len, found)) >= PHOTOS
    return network, settings, found


@pytest.fixture(scope="module")
def cases(photos, folder, reference) -> dict[str, Case]:
    written = {}
    found_by = {name: found_in_keras(name, photos) for name in (ONE, SEVERAL)}
    for name, kind, precision in (
        (ONE, "none", "float32"),
        (ONE, "poses", "float32"),
        (SEVERAL, "poses", "float32"),
        (ONE, "poses", "int8"),
    ):
        network, settings, found = found_by[name]
        options = {"decode": kind, "skeleton": network.skeleton, "input_size": network.input_size}
        options |= {"multi_person": True} if settings.multi_person else {}
        path = folder / f"{name}-{kind}-{precision}"
        photographs = {}
        if precision == "int8":
            photographs = {"calibration": reference / "data/coco_pose/train", "calibration_images": 400}
        tflite = ke.export.tflite(network.model, path.with_suffix(".tflite"), precision, **options, **photographs)
        onnx = None if photographs else ke.export.onnx(network.model, path.with_suffix(".onnx"), **options)
        inside = Settings(min_score=settings.min_score, max_people=20)
        written[f"{name}, {kind}, {precision}"] = Case(tflite, onnx, inside, found)
    return written | {REFINED: refined_case(photos)}


def refined_case(photos: list[np.ndarray]) -> Case:
    """The pair of files that `PosePredictor.load()` takes; of them there is no Keras model in this precision."""
    several, single = (registry.packaged()[name].exported_path for name in (registry.DEFAULT, registry.DEFAULT_REFINE))
    settings = Settings(min_score=LEAST)
    found = estimate(ke.runtime.load(several), photos, settings, refine=ke.runtime.load(single))
    assert sum(map(len, found)) >= PHOTOS
    return Case(several, None, settings, [poses.keypoints for poses in found], single)


@pytest.fixture(scope="module")
def pictures(photos, folder) -> list[Path]:
    """The photographs as PNG, which every reader decodes alike."""
    paths = [folder / f"{number}.png" for number in range(PHOTOS)]
    for path, photo in zip(paths, photos, strict=True):
        cv2.imwrite(str(path), photo[..., ::-1])
    return paths


def asked(folder: Path, cases: dict[str, Case], pictures: list[Path], command: Sequence[object], answer: str):
    """Who another program finds, by network: it reads `jobs.json`, and writes one answer for each job."""
    runs = [
        (file, case.refine)
        for case in cases.values()
        if "none" not in case.tflite.name
        for file in (case.tflite, case.onnx)
        if file
    ]
    jobs = [
        {"network": str(file), "refine": refine and str(refine), "picture": str(picture)}
        for file, refine in runs
        for picture in pictures
    ]
    (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    answers = iter(json.loads((folder / answer).read_text(encoding="utf-8")))
    return {file: [next(answers) for _ in pictures] for file, _ in runs}


@pytest.fixture(scope="module")
def browser(folder, cases, pictures):
    web, chromium = ROOT / "deploy/web", os.environ.get("CHROMIUM", "/usr/bin/chromium")
    need_programs(
        Path(chromium).exists() and (web / "node_modules").is_dir(),
        "needs chromium, and npm install in deploy/web; make test-answers",
    )
    return asked(folder, cases, pictures, ["node", web / "answers.mjs", folder], "browser.json")


@pytest.fixture(scope="module")
def jvm(folder, cases, pictures):
    packages = "kotlin, junit4, libandroid-json-java and libjna-java"
    need_programs(shutil.which("kotlinc") is not None, f"needs {packages}; make test-answers")
    script = ROOT / "deploy/android/compile.sh"
    compiled = subprocess.run(["bash", script, folder / "classes"], capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr
    litert = pytest.importorskip("ai_edge_litert").__path__[0] + "/libLiteRt.so"
    command = ["java", "-cp", compiled.stdout.strip(), "kerasehrnet.AnswersKt", litert, folder]
    return asked(folder, cases, pictures, command, "jvm.json")


def by_python(open_file: Callable[[Path], ke.runtime.Network], format: str):
    def find(case: Case, photos, request) -> Keypoints:
        refine = case.refine and open_file(case.refine)
        found = estimate(open_file(getattr(case, format)), photos, case.settings, refine=refine)
        return [poses.keypoints for poses in found]

    return find


def by_program(fixture: str, format: str):
    def find(case: Case, photos, request) -> Keypoints:
        found = request.getfixturevalue(fixture)[getattr(case, format)]
        joints = case.expected[0].shape[1]
        people = [np.array(answer, np.float32).reshape(-1, joints, 3) for answer in found]
        return [here[here[..., 2].mean(axis=1) >= case.settings.min_score] for here in people]

    return find


RUNTIMES = {
    "LiteRT": by_python(ke.runtime.load, "tflite"),
    "ONNX Runtime": by_python(OnnxNetwork, "onnx"),
    "OpenVINO": by_python(OpenVinoNetwork, "onnx"),
    "LiteRT.js": by_program("browser", "tflite"),
    "ONNX Runtime Web": by_program("browser", "onnx"),
    "LiteRT on the JVM": by_program("jvm", "tflite"),
}
"""Whoever answers -> the function that asks."""


def marked(*runtimes: str) -> list:
    """Runtimes as parameters of a test; those that are programs of their own are marked."""
    mark = pytest.mark.programs
    elsewhere = {"LiteRT.js", "ONNX Runtime Web", "LiteRT on the JVM"}
    return [pytest.param(runtime, marks=mark) if runtime in elsewhere else runtime for runtime in runtimes]


@pytest.fixture
def distances(cases, photos, request):
    """A function from a runtime and a network to the distances of joints from another's, and their scores there."""

    def of(runtime: str, network: str, other: str = "Keras") -> tuple[np.ndarray, np.ndarray]:
        case = cases[network]
        found = RUNTIMES[runtime](case, photos, request)
        expected = case.expected if other == "Keras" else RUNTIMES[other](case, photos, request)
        apart, scores = [], []
        for here, there, photo in zip(found, expected, photos, strict=True):
            assert len(here) == len(there)
            sides = photo.shape[1::-1]
            inside = (np.clip(keypoints[..., :2], 0, sides) for keypoints in (here, there))
            apart.append(np.linalg.norm(next(inside) - next(inside), axis=-1).ravel())
            scores.append(there[..., 2].ravel())
        apart, scores = np.concatenate(apart), np.concatenate(scores)
        seen = apart[scores >= SEEN]
        print(
            f"\n{network:40} {runtime:17} from {other:6} {len(seen):3} joints seen: {np.median(seen):7.4f} px in the "
            f"median, {seen.max():8.4f} at most; of all {len(apart):3} {apart.max():8.4f}",
            end="",
        )
        return apart, scores

    return of


@pytest.mark.parametrize("runtime", ["LiteRT", "ONNX Runtime", "OpenVINO"])
def test_maps_in_float32(runtime, distances):
    assert distances(runtime, f"{ONE}, none, float32")[0].max() <= 1


@pytest.mark.parametrize("name", [ONE, SEVERAL])
@pytest.mark.parametrize("runtime", marked(*RUNTIMES))
def test_people_in_float32(runtime, name, distances):
    assert distances(runtime, f"{name}, poses, float32")[0].max() <= 1


@pytest.mark.programs
@pytest.mark.parametrize("runtime", ["LiteRT on the JVM", "LiteRT.js"])
def test_people_looked_at_again(runtime, distances):
    apart, scores = distances(runtime, REFINED, "LiteRT")
    assert apart[scores >= SEEN].max() <= 1


@pytest.mark.parametrize("runtime", marked("LiteRT", "LiteRT on the JVM", "LiteRT.js"))
def test_people_in_int8(runtime, distances):
    """Processors round what stays in float otherwise, which 8 bits make more of: one joint of 20 may be further off."""
    apart, scores = distances(runtime, f"{ONE}, poses, int8")
    seen = apart[scores >= SEEN]
    assert np.median(seen) <= 1
    assert np.mean(seen <= 3) >= 0.95


@pytest.mark.programs
def test_people_in_int8_on_the_jvm_are_those_of_litert(distances):
    apart, scores = distances("LiteRT on the JVM", f"{ONE}, poses, int8", "LiteRT")
    assert apart[scores >= SEEN].max() <= 1


@pytest.mark.programs
def test_people_in_int8_in_the_browser_are_those_of_litert(distances):
    """But for what wasm rounds otherwise."""
    apart, scores = distances("LiteRT.js", f"{ONE}, poses, int8", "LiteRT")
    assert np.mean(apart[scores >= SEEN] <= 3) >= 0.95

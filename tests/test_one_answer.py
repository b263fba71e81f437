"""One photograph, one answer: whatever runs a network, its joints lie where the Keras model's lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import keras_ehrnet as ke
from keras_ehrnet.prediction.pipeline import Settings, estimate
from keras_ehrnet.runtime.onnx import OnnxNetwork

WEIGHTS = "efficientpose-rt-coco"
PHOTOS = 3


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


@pytest.fixture(scope="module")
def photos(reference) -> list[np.ndarray]:
    paths = sorted((reference / "data/coco_samples/images").glob("*.jpg"))[:PHOTOS]
    return [ke.images.read_image(path) for path in paths]


@pytest.fixture(scope="module")
def expected(photos):
    predictor = ke.PosePredictor.load("efficientpose-rt", weights=WEIGHTS, min_score=0)
    return predictor.network.model, predictor.network.skeleton, predictor(photos)


@pytest.fixture(scope="module")
def farthest(photos, expected):
    """A function from a network to the largest distance of its joints from the Keras model's, which it prints."""

    def of(network, name: str) -> float:
        found = estimate(network, photos, Settings(min_score=0))
        distances = [
            np.linalg.norm(here.xy - there.xy, axis=-1) for here, there in zip(found, expected[2], strict=True)
        ]
        largest = float(np.max(distances))
        print(f"{name}: {largest:.4f} px at most, {np.median(distances):.4f} px in the median")
        return largest

    return of


@pytest.mark.parametrize("kind", ["none", "poses"])
def test_float32(photos, expected, farthest, tmp_path, kind):
    model, skeleton, _ = expected
    assert len(photos) == PHOTOS
    options = {"skeleton": skeleton, "decode": kind}
    lite = ke.runtime.load(ke.export.tflite(model, tmp_path / "model.tflite", **options))
    path = ke.export.onnx(model, tmp_path / "model.onnx", **options)
    assert farthest(lite, f"LiteRT, {kind}") <= 1
    assert farthest(OnnxNetwork(path), f"ONNX Runtime, {kind}") <= 1
    assert farthest(OpenVinoNetwork(path), f"OpenVINO, {kind}") <= 1

"""Decoders inside ONNX files give what the NumPy decoders give, for any number of images, in standard operators."""

from __future__ import annotations

import cv2
import numpy as np
import painted
import pytest
from decoder_files import OnnxDecoder

import keras_ehrnet as ke
from keras_ehrnet import decode
from keras_ehrnet.decode.exported import grouped_peaks
from keras_ehrnet.decode.peaks import find_peaks
from keras_ehrnet.skeletons import COCO_17

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from keras_ehrnet.export.onnx_file import OPSETS

CASES = [
    ("efficienthrnet", "peaks"),
    ("efficienthrnet", "poses"),
    ("efficientpose", "peaks"),
    ("efficientpose", "poses"),
    ("efficientpose_nas", "peaks"),
    ("efficientpose_nas", "poses"),
]


@pytest.mark.parametrize(("family", "kind"), CASES)
@pytest.mark.parametrize("batch", [1, None])
def test_people_are_those_of_the_keras_model(tmp_path, family, kind, batch):
    model = painted.network(family)
    path = ke.export.onnx(model, tmp_path / "model.onnx", kind, skeleton=painted.SKELETON, max_peaks=6, batch=batch)
    image = cv2.resize(painted.picture(), (180, 180))
    keras_predictor = ke.PosePredictor.load(model, skeleton=painted.SKELETON, protocol="fast")
    predictor = ke.PosePredictor.load(path)
    assert predictor.network.decode == kind
    for expected, actual in zip(keras_predictor([image] * 2), predictor([image] * 2), strict=True):
        assert len(actual) == len(expected) == (2 if family == "efficienthrnet" else 1)
        assert np.abs(actual.keypoints - expected.keypoints).max() < 0.01


def decoded(maps: dict[str, np.ndarray], family: str, kind: str, **options) -> np.ndarray:
    return OnnxDecoder(family, kind, maps, **options)(maps)


def quantized(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Maps of few heights, so that neighbours are equal; saturated in places."""
    return (random.integers(-2, 9, shape) / 8).astype(np.float32)


@pytest.mark.parametrize("opset", [OPSETS[0], 17, OPSETS[-1]])
@pytest.mark.parametrize(
    ("family", "kernel", "subpixel"), [("efficientpose", 5, "none"), ("efficientpose_nas", 3, "quarter")]
)
def test_peaks_among_equals(family, kernel, subpixel, opset):
    heatmaps = quantized(np.random.default_rng(opset), 20, 28, 17)
    table = decoded({"heatmaps": heatmaps}, family, "peaks", opset=opset, max_peaks=12, threshold=0.1)
    expected = find_peaks(heatmaps, 12, 0.1, kernel, True)
    assert len(expected.scores) > 100
    for joint in range(17):
        here = expected.of(joint)
        count = len(expected.scores[here])
        assert table[joint, :count, 2] == pytest.approx(expected.scores[here])
        assert not table[joint, count:].any() and not table[joint, :, 3].any()
        if subpixel == "none":
            assert table[joint, :count, 0] * 20 - 0.5 == pytest.approx(expected.rows[here], abs=1e-5)
            assert table[joint, :count, 1] * 28 - 0.5 == pytest.approx(expected.columns[here], abs=1e-5)


@pytest.mark.parametrize("family", ["efficientpose", "efficientpose_nas"])
def test_one_person_anywhere(family):
    subpixel = {"efficientpose": "none", "efficientpose_nas": "quarter"}[family]
    heatmaps = np.random.default_rng(2).normal(0, 1, (24, 16, 17)).astype(np.float32)
    heatmaps[0, 0, 0] = heatmaps[-1, -1, 1] = heatmaps[0, -1, 2] = heatmaps[-1, 0, 3] = 9  # corners
    (found,) = decoded({"heatmaps": heatmaps}, family, "poses")
    expected = decode.single_person(heatmaps, skeleton=COCO_17, subpixel=subpixel).keypoints[0]
    assert found[:, [1, 0, 2]] * (16, 24, 1) == pytest.approx(expected, abs=1e-4)
    (nothing,) = decoded({"heatmaps": np.zeros((8, 8, 17), np.float32)}, family, "poses")
    assert not nothing.any()


GOLDENS = ("close_tags", "crowd_30", "empty", "one_person", "three_people")


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("name", GOLDENS)
def test_people_of_the_published_maps(reference, name, pooled):
    with np.load(reference / "reference" / f"ae_{name}.npz") as file:
        heatmaps = file["heatmaps"].astype(np.float32).transpose(1, 2, 0)
        tags = file["tags"].astype(np.float32).transpose(1, 2, 0, 3)[::2, ::2, :, 0]
    height, width, joints = heatmaps.shape
    coarse = heatmaps.reshape(height // 2, 2, width // 2, 2, joints).mean(axis=(1, 3))
    strides = (coarse, heatmaps) if pooled else (0 * coarse, 2 * heatmaps)
    maps = dict(zip(("heatmaps_4", "heatmaps_2"), strides, strict=True)) | {"tags_4": tags}
    table = decoded(maps, "efficienthrnet", "peaks", max_peaks=30, threshold=0.1)
    found = grouped_peaks(table, COCO_17, (2 * height, 2 * width), 30)
    expected = decode.associative(decode.average_strides(*strides), tags, protocol="fast", refine=False)
    assert len(found) == len(expected) == {"empty": 0, "one_person": 1, "three_people": 3}.get(name, len(expected))
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=0.02)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_mistakes_are_explained(tmp_path):
    model = painted.network("efficienthrnet")
    for options, message in (
        ({"decode": "people"}, "no such decoder"),
        ({"decode": "peaks", "max_peaks": 0}, "max_peaks is a whole number, at least 1. Received: max_peaks=0"),
        ({"decode": "poses", "max_people": 0}, "max_people is a whole number, at least 1. Received: max_people=0"),
    ):
        with pytest.raises(ValueError, match=message):
            ke.export.onnx(model, tmp_path / "model.onnx", skeleton=painted.SKELETON, **options)
    assert not list(tmp_path.iterdir())

"""Decoders inside ONNX files give what the NumPy decoders give, for any number of images, in standard operators."""

from __future__ import annotations

import re

import cv2
import numpy as np
import painted
import pytest
from decoder_files import OnnxDecoder

import keras_ehrnet as ke
from keras_ehrnet import decode
from keras_ehrnet.decode.exported import best_peaks, grouped_peaks, one_person, several_people
from keras_ehrnet.decode.peaks import SUBPIXEL, find_peaks
from keras_ehrnet.poses import Poses
from keras_ehrnet.runtime.onnx import OnnxNetwork
from keras_ehrnet.skeletons import COCO_17
from keras_ehrnet.support.errors import ImageError

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


SIZES = ((64, 96), (128, 64), (96, 160))
FINDS = [
    ("efficienthrnet", "peaks", {}),
    ("efficienthrnet", "poses", {}),
    ("efficientpose", "peaks", {}),
    ("efficientpose", "poses", {}),
    ("efficientpose", "poses", {"multi_person": True}),
    ("efficientpose_nas", "peaks", {}),
    ("efficientpose_nas", "poses", {}),
]


def people_in(row: np.ndarray, network: OnnxNetwork, size: tuple[int, int]) -> Poses:
    """Of one image of a size, what comes out of a file."""
    if network.decode == "poses":
        return (several_people if network.multi_person else one_person)(row, network.skeleton, size)
    if network.multi_person:
        return grouped_peaks(row, network.skeleton, size, 6)
    return best_peaks(row, network.skeleton, size)


@pytest.mark.parametrize(
    ("family", "kind", "several", "batch"),
    [*((*finds, batch) for finds in FINDS for batch in (1, None)), ("efficienthrnet", "poses", {}, 3)],
)
def test_one_file_decodes_images_of_any_size(family, kind, several, batch, tmp_path):
    """People are those that NumPy finds in the Keras model's maps; the table is that of a file for the one size."""
    model = painted.network(family, (None, None))
    options = {**several, "skeleton": painted.SKELETON, "max_people": 6, "max_peaks": 6, "batch": batch}
    path = ke.export.onnx(model, tmp_path / "any.onnx", kind, input_size=painted.SIZE, any_size=True, **options)
    network = OnnxNetwork(path)
    assert network.any_size and network.metadata.outputs[0].shape[0] == (batch or -1)
    for size in SIZES:
        images = [cv2.resize(image, size[::-1]) for image in painted.pictures(3)]
        tables = network(np.stack(images))[kind]
        assert tables.shape[1:] == network.metadata.outputs[0].shape[1:]
        fixed = ke.export.onnx(model, tmp_path / "fixed.onnx", kind, input_size=size, **options)
        np.testing.assert_allclose(tables, OnnxNetwork(fixed)(np.stack(images))[kind], atol=1e-5)
        numpy_predictor = ke.PosePredictor.load(
            painted.network(family, size), skeleton=painted.SKELETON, protocol="fast", max_people=6, **several
        )
        for image, table in zip(images, tables, strict=True):
            expected, actual = numpy_predictor(image), people_in(table, network, size)
            assert len(actual) == len(expected) > 0
            np.testing.assert_allclose(actual.keypoints, expected.keypoints, atol=0.01)


@pytest.mark.parametrize("kind", ["peaks", "poses"])
def test_pictures_keep_their_shape_in_files_of_any_size(tmp_path, kind):
    """A predictor sizes them as it does for the Keras model, whose answer is then the file's."""
    model = painted.network("efficienthrnet", (None, None))
    options = {"skeleton": painted.SKELETON, "input_size": (64, 64)}
    path = ke.export.onnx(model, tmp_path / "any.onnx", kind, any_size=True, batch=None, **options)
    predictor = ke.PosePredictor.load(path)
    keras_predictor = ke.PosePredictor.load(model, protocol="fast", **options)
    sizes = (96, 64), (50, 120), (96, 64), (200, 130)
    images = [cv2.resize(image, size) for image, size in zip(painted.pictures(4), sizes, strict=True)]
    for expected, actual in zip(keras_predictor(images), predictor(images), strict=True):
        assert len(actual) == len(expected) == 2
        np.testing.assert_allclose(actual.keypoints, expected.keypoints, atol=0.01)
    with pytest.raises(ValueError, match="Several scales are for EfficientHRNet's maps"):
        ke.PosePredictor.load(path, scales=(0.5, 1.0))


@pytest.mark.parametrize(("family", "options"), [("efficienthrnet", {}), ("efficientpose", {"multi_person": True})])
def test_more_is_asked_for_than_a_small_image_has(tmp_path, family, options):
    """An image of 32 pixels has fewer pixels to look at than there could be people; the rows behind them are empty."""
    options = {"max_people": 50, "skeleton": painted.SKELETON, **options}
    path = ke.export.onnx(painted.network(family), tmp_path / "any.onnx", "poses", any_size=True, **options)
    fixed = ke.export.onnx(
        painted.network(family, (32, 32)), tmp_path / "fixed.onnx", "poses", **{**options, "max_people": 4}
    )
    image = cv2.resize(painted.picture(), (32, 32))[None]
    table, expected = OnnxNetwork(path)(image)["poses"], OnnxNetwork(fixed)(image)["poses"]
    assert table.shape[1] == 50 and not table[:, 4:].any() and expected[0, 0, -1] > 0
    np.testing.assert_allclose(table[:, :4], expected, atol=1e-6)


def test_size_of_a_file_of_any_is_chosen_when_it_is_opened(tmp_path):
    model = painted.network("efficientpose", (None, None))
    options = {"skeleton": painted.SKELETON, "max_people": 6}
    path = ke.export.onnx(
        model, tmp_path / "any.onnx", "poses", any_size=True, input_size=(64, 96), multi_person=True, **options
    )
    image = cv2.resize(painted.picture(), (128, 192))
    found = []
    for size in ((64, 96), (160, 128)):
        actual = ke.PosePredictor.load(path, input_size=size)(image)
        expected = ke.PosePredictor.load(model, input_size=size, multi_person=True, **options)(image)
        np.testing.assert_allclose(actual.keypoints, expected.keypoints, atol=0.02)
        found.append(actual)
    assert np.abs(found[0].keypoints - found[1].keypoints).max() > 0.1  # the sizes do differ
    assert ke.PosePredictor.load(path).network.input_size == (64, 96)
    with pytest.raises(ValueError, match=r"any.onnx takes images .* multiples of 16. Received: input_size=\(64, 72\)"):
        ke.PosePredictor.load(path, input_size=(64, 72))


@pytest.mark.parametrize(
    ("family", "options", "multiple"),
    [("efficienthrnet", {}, 32), ("efficientpose", {}, 8), ("efficientpose", {"multi_person": True}, 16)],
)
def test_sides_that_do_not_fit_are_told(tmp_path, family, options, multiple):
    path = ke.export.onnx(
        painted.network(family), tmp_path / "any.onnx", "poses", skeleton=painted.SKELETON, any_size=True, **options
    )
    shape = (1, multiple // 2, 32, 3)
    told = f"multiples of {multiple}. Received: images of shape {shape}"
    with pytest.raises(ImageError, match=re.escape(told)):
        OnnxNetwork(path)(np.zeros(shape, np.uint8))


def test_openvino_reads_files_of_any_size(tmp_path):
    openvino = pytest.importorskip("openvino", reason="OpenVINO reads ONNX files: pip install openvino")
    for family, kind in (("efficienthrnet", "peaks"), ("efficienthrnet", "poses"), ("efficientpose_nas", "poses")):
        path = ke.export.onnx(
            painted.network(family), tmp_path / "any.onnx", kind, skeleton=painted.SKELETON, any_size=True
        )
        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for size in SIZES:
            image = cv2.resize(painted.picture(), size[::-1])[None]
            np.testing.assert_allclose(compiled(image)[0], OnnxNetwork(path)(image)[kind], atol=1e-4)


def decoded(maps: dict[str, np.ndarray], family: str, kind: str, **options) -> np.ndarray:
    return OnnxDecoder(family, kind, maps, **options)(maps)


def quantized(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Maps of few heights, so that neighbours are equal; saturated in places."""
    return (random.integers(-2, 9, shape) / 8).astype(np.float32)


@pytest.mark.parametrize("opset", [OPSETS[0], 17, OPSETS[-1]])
@pytest.mark.parametrize(
    ("family", "kernel", "subpixel"), [("efficientpose", 5, "parabola"), ("efficientpose_nas", 3, "quarter")]
)
def test_peaks_among_equals(family, kernel, subpixel, opset):
    heatmaps = quantized(np.random.default_rng(opset), 20, 28, 17)
    table = decoded({"heatmaps": heatmaps}, family, "peaks", opset=opset, max_peaks=12, threshold=0.1)
    expected = find_peaks(heatmaps, 12, 0.1, kernel, True)
    assert len(expected.scores) > 100
    shift = SUBPIXEL[subpixel](heatmaps, expected.rows, expected.columns, expected.joints)
    xy = np.stack([expected.columns, expected.rows], -1) + 0.5 + shift
    for joint in range(17):
        here = expected.of(joint)
        count = len(expected.scores[here])
        assert table[joint, :count, 2] == pytest.approx(expected.scores[here])
        assert not table[joint, count:].any() and not table[joint, :, 3].any()
        assert table[joint, :count, 1::-1] * (28, 20) == pytest.approx(xy[here], abs=1e-5)


@pytest.mark.parametrize("family", ["efficientpose", "efficientpose_nas"])
def test_one_person_anywhere(family):
    subpixel = {"efficientpose": "parabola", "efficientpose_nas": "quarter"}[family]
    heatmaps = np.random.default_rng(2).normal(0, 1, (24, 16, 17)).astype(np.float32)
    heatmaps[0, 0, 0] = heatmaps[-1, -1, 1] = heatmaps[0, -1, 2] = heatmaps[-1, 0, 3] = 9  # corners
    (found,) = decoded({"heatmaps": heatmaps}, family, "poses")
    expected = decode.single_person(heatmaps, skeleton=COCO_17, subpixel=subpixel).keypoints[0]
    assert found[:, [1, 0, 2]] * (16, 24, 1) == pytest.approx(expected, abs=1e-4)
    (nothing,) = decoded({"heatmaps": np.zeros((8, 8, 17), np.float32)}, family, "poses")
    assert not nothing.any()


GOLDENS = ("close_tags", "crowd_30", "empty", "one_person", "three_people")


@pytest.mark.parametrize("any_size", [False, True])
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("name", GOLDENS)
def test_people_of_the_published_maps(reference, name, pooled, any_size):
    with np.load(reference / "reference" / f"ae_{name}.npz") as file:
        heatmaps = file["heatmaps"].astype(np.float32).transpose(1, 2, 0)
        tags = file["tags"].astype(np.float32).transpose(1, 2, 0, 3)[::2, ::2, :, 0]
    height, width, joints = heatmaps.shape
    coarse = heatmaps.reshape(height // 2, 2, width // 2, 2, joints).mean(axis=(1, 3))
    strides = (coarse, heatmaps) if pooled else (0 * coarse, 2 * heatmaps)
    maps = dict(zip(("heatmaps_4", "heatmaps_2"), strides, strict=True)) | {"tags_4": tags}
    table = decoded(maps, "efficienthrnet", "peaks", max_peaks=30, threshold=0.1, any_size=any_size)
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

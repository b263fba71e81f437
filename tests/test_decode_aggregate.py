"""Aggregation over strides, mirror images and scales, and the geometry of the network's input."""

import json

import numpy as np
import pytest

from keras_ehrnet import decode, skeletons

FLIP = skeletons.COCO_17.flip_permutation


@pytest.mark.parametrize("name", ["single", "flip", "flip_multiscale"])
def test_golden_maps(reference, name):
    with np.load(reference / "reference" / f"aggregate_{name}.npz") as file:
        golden = dict(file)
    runs = [(scale, flipped) for scale in golden["scales"] for flipped in (False, True)[: 1 + int(golden["flip"])]]
    outputs = [
        decode.NetworkOutputs(low[..., :17], low[..., 17:], golden[f"call{number}_high"], float(scale), flipped)
        for number, (scale, flipped) in enumerate(runs)
        for low in [golden[f"call{number}_low"]]
    ]
    size = tuple(golden["base_width_height"].tolist())
    heatmaps, tags = decode.aggregate(outputs, size=size, flip_permutation=FLIP)
    np.testing.assert_allclose(heatmaps, golden["heatmaps"].transpose(1, 2, 0), atol=2e-6)
    np.testing.assert_allclose(tags, golden["tags"].transpose(1, 2, 0, 3), atol=2e-6)


def test_golden_resize(reference):
    content = json.loads((reference / "reference" / "eval_resize.json").read_text())
    assert len(content["rows"]) == 180
    for *arguments, width, height, center, scale_wh in content["rows"]:
        geometry = decode.resize_geometry(*arguments)
        assert (geometry.resized_width, geometry.resized_height) == (width, height)
        assert (list(geometry.center), list(geometry.scale_wh)) == (center, scale_wh)


@pytest.mark.parametrize(
    "geometry",
    [
        decode.resize_geometry(333, 500, 480),
        decode.resize_geometry(640, 427, 416, 1.5, 0.5),
        decode.letterbox_geometry(640, 480, 224, 224),
        decode.letterbox_geometry(97, 300, 192, 256),
    ],
)
def test_coordinates_go_there_and_back(geometry):
    xy = np.random.default_rng(0).uniform(0, 300, (5, 17, 2))
    np.testing.assert_allclose(geometry.to_image(geometry.to_input(xy)), xy, atol=1e-9)
    np.testing.assert_allclose(
        geometry.to_input([geometry.center]), [[geometry.resized_width / 2, geometry.resized_height / 2]]
    )
    assert geometry.warp(np.zeros((50, 60, 3), np.uint8)).shape == (geometry.resized_height, geometry.resized_width, 3)


def test_warp_moves_pixels_to_their_coordinates():
    """A bright spot is found where `to_input` says, to a fraction of a pixel."""
    y, x = np.mgrid[:480, :640] + 0.5
    spot = np.exp(-((x - 200.5) ** 2 + (y - 120.5) ** 2) / 200).astype(np.float32)
    geometry = decode.resize_geometry(640, 480, 384, 0.5, 0.5)
    warped = geometry.warp(spot)
    y, x = np.mgrid[: warped.shape[0], : warped.shape[1]] + 0.5
    center = np.array([(warped * x).sum(), (warped * y).sum()]) / warped.sum()
    np.testing.assert_allclose(center, geometry.to_input([200.5, 120.5]), atol=0.02)


def outputs(scale=1.0, flipped=False, joints=17):
    shape_4, shape_2 = (8, 12, joints), (16, 24, joints)
    return decode.NetworkOutputs(np.ones(shape_4), np.ones(shape_4), np.ones(shape_2), scale, flipped)


def test_mistakes_are_explained():
    with pytest.raises(ValueError, match="nothing to aggregate"):
        decode.aggregate([], size=(48, 32))
    with pytest.raises(ValueError, match="flip_permutation"):
        decode.aggregate([outputs(flipped=True)], size=(48, 32))
    with pytest.raises(ValueError, match=r"one must be 1.*0.5, 2.0"):
        decode.aggregate([outputs(0.5), outputs(2.0)], size=(48, 32))
    with pytest.raises(ValueError, match="must be positive"):
        decode.resize_geometry(0, 480, 512)
    with pytest.raises(ValueError, match="must be positive"):
        decode.letterbox_geometry(640, 480, 224, -1)


@pytest.mark.parametrize("bad", ["heatmaps_4", "tags_4", "heatmaps_2"])
def test_values_that_are_not_finite_are_named(bad):
    broken = outputs()
    getattr(broken, bad)[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match=f"`{bad}` must be finite"):
        decode.aggregate([broken], size=(48, 32))


def test_many_channels():
    """More channels than OpenCV takes at once."""
    heatmaps, tags = decode.aggregate([outputs(joints=133)], size=(48, 32))
    assert heatmaps.shape == (32, 48, 133)
    assert tags.shape == (32, 48, 133, 1)
    np.testing.assert_allclose(heatmaps, 1, rtol=1e-6)

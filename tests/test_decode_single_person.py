"""Single-person decoding against the points that the published EfficientPose code finds in the same maps."""

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from keras_ehrnet import decode, skeletons
from keras_ehrnet.decode.highest import _smoothed

MPII = skeletons.MPII_16
FRAMES = [(600, 600), (640, 480), (480, 640)]  # width, height


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("variant", ["RT", "I", "RT_LITE"])
def test_golden_points(reference, variant, frame, smooth):
    wanted = {
        "variant": variant, "image": 0, "frame_width": frame[0], "frame_height": frame[1], "smoothed": smooth,
    }  # fmt: skip
    entries = json.loads((reference / "reference" / "efficientpose_coordinates.json").read_text())
    (entry,) = (entry for entry in entries if wanted.items() <= entry.items())
    with np.load(reference / "reference" / f"efficientpose_{variant}.npz") as file:
        heatmaps = file["upscaled_confs"][0]
    poses = decode.single_person(heatmaps, skeleton=MPII, smooth=smooth)
    side = heatmaps.shape[0]
    xy = decode.letterbox_geometry(*frame, side, side).to_image(poses.xy[0]) / frame
    # Outside the frame the published code gives the place of a missing point on one side, the border on the other.
    xy = np.where(xy < 0, -0.5 / side, np.minimum(xy, 1))
    assert tuple(name for name, *_ in entry["points"]) == MPII.joint_names
    np.testing.assert_allclose(xy, [point for _, *point in entry["points"]], atol=1e-6)


def test_smoothing_is_the_gaussian_of_one_pixel():
    heatmaps = np.random.default_rng(0).random((30, 41, 16), np.float32)
    expected = np.stack([gaussian_filter(heatmaps[..., joint], 1) for joint in range(16)], -1)
    np.testing.assert_allclose(_smoothed(heatmaps), expected, atol=1e-5)


def test_scores_and_threshold():
    heatmaps = np.full((20, 30, 16), -0.1)
    heatmaps[5, 7, :8] = 0.8
    heatmaps[6, 9, 8:15] = 0.2
    poses = decode.single_person(heatmaps, skeleton=MPII, threshold=0.5, image_size=(30, 20))
    np.testing.assert_allclose(poses.confidence[0], [0.8] * 8 + [0] * 8)
    np.testing.assert_allclose(poses.xy[0, 8], (9.5, 6.5))
    np.testing.assert_allclose(poses.scores, 0.4, rtol=1e-6)
    assert poses.image_size == (30, 20)


@pytest.mark.parametrize(("subpixel", "error"), [("none", 0.5), ("quarter", 0.26), ("parabola", 0.01)])
def test_coarse_maps(subpixel, error):
    rng = np.random.default_rng(0)
    xy = rng.uniform(8, 40, (17, 2))
    y, x = np.mgrid[:64, :48] + 0.5
    heatmaps = np.stack([np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8) for px, py in xy], -1)
    poses = decode.single_person(heatmaps, skeleton=skeletons.COCO_17, subpixel=subpixel)
    assert np.abs(poses.xy[0] - xy).max() <= error


def test_mistakes_are_explained():
    with pytest.raises(ValueError, match=r"K = 16.*Received"):
        decode.single_person(np.zeros((8, 8, 17)), skeleton=MPII)
    with pytest.raises(ValueError, match=r"'quarter'.*Received: 'half'"):
        decode.single_person(np.zeros((8, 8, 16)), skeleton=MPII, subpixel="half")
    with pytest.raises(ValueError, match="`heatmaps` must be finite"):
        decode.single_person(np.full((8, 8, 16), np.nan), skeleton=MPII)

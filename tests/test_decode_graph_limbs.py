"""People told apart by their limbs inside a TensorFlow Lite or ONNX file are those that the NumPy decoder finds."""

from __future__ import annotations

import numpy as np
import pytest
from decoder_files import KINDS
from stick_figures import FIGURE, SIZE, crossing, moved, render

from keras_ehrnet import decode
from keras_ehrnet.decode import graph, paf
from keras_ehrnet.poses import Poses
from keras_ehrnet.skeletons import MPII_16

pytest.importorskip("tensorflow")

HEIGHT, WIDTH = SIZE
PEOPLE = 8
SHAPES = {"heatmaps_fine": (1, HEIGHT, WIDTH, 16), "pafs": (1, HEIGHT, WIDTH, 28)}


@pytest.fixture(scope="module", params=KINDS)
def decoder(request):
    maps = {name: np.zeros(shape[1:]) for name, shape in SHAPES.items()}
    return KINDS[request.param]("efficientpose", "poses", maps, MPII_16, multi_person=True, max_people=PEOPLE)


@pytest.fixture(scope="module", params=KINDS)
def searching_decoder(request):
    maps = {name: np.zeros(shape[1:]) for name, shape in SHAPES.items()}
    options = {"multi_person": True, "max_people": PEOPLE, "threshold": paf.PEAK_THRESHOLD, "search_missing": True}
    return KINDS[request.param]("efficientpose", "poses", maps, MPII_16, **options)


def decoded(decoder, heatmaps, fields):
    rows = decoder({"heatmaps_fine": heatmaps, "pafs": fields})
    assert rows.shape == (PEOPLE, 3 * 16 + 5)
    people = rows[:, -1] > 0
    assert not rows[~people].any()
    keypoints = rows[people, :48].reshape(-1, 16, 3)[..., [1, 0, 2]] * (WIDTH, HEIGHT, 1)
    return Poses(keypoints, rows[people, -1], MPII_16), rows[people]


def assert_same(found, expected):
    assert len(found) == len(expected)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    for person in found.keypoints:
        errors = [np.abs(person - other)[person[:, 2] > 0].max() for other in expected.keypoints]
        nearest = expected.keypoints[int(np.argmin(errors))]
        assert min(errors) < 1e-2
        np.testing.assert_array_equal(person[:, 2] > 0, nearest[:, 2] > 0)


def missing_joints():
    people = [moved(FIGURE, 20, 8), moved(FIGURE, 90, 5), moved(FIGURE, 160, 9)]
    people[0][[4, 12, 9]] = np.nan  # a wrist, an ankle, the pelvis, which no limb reaches
    people[1][[0]] = np.nan
    people[2][[7, 8, 14, 15]] = np.nan
    return people


def jittered(count):
    rng = np.random.default_rng(count)
    return [moved(FIGURE, number * 39 + 1, 8) + rng.uniform(-0.5, 0.5, (16, 2)) for number in range(count)]


@pytest.mark.parametrize(
    "people",
    [*map(jittered, range(7)), crossing(), missing_joints()],
    ids=[*(f"{count} people" for count in range(7)), "crossing", "missing joints"],
)
def test_stick_figures(people, decoder):
    maps = render(people, MPII_16.limbs[:14])
    found, rows = decoded(decoder, *maps)
    assert len(found) == len(people)
    assert_same(found, decode.pafs(*maps, max_people=PEOPLE))
    for person, row in zip(found, rows, strict=True):
        seen = person.keypoints[0][person.keypoints[0][:, 2] > 0]
        box = [seen[:, 1].min() / HEIGHT, seen[:, 0].min() / WIDTH, seen[:, 1].max() / HEIGHT, seen[:, 0].max() / WIDTH]
        np.testing.assert_allclose(row[-5:-1], box, atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_noise(seed, decoder):
    """Weak and false peaks, fields that point anywhere: the same pairs, the same people."""
    heatmaps, fields = noisy(seed)
    found, _ = decoded(decoder, heatmaps, fields)
    assert len(found) > 2
    assert_same(found, decode.pafs(heatmaps, fields, max_people=PEOPLE))


@pytest.mark.parametrize("seed", range(4))
def test_missing_joints_are_searched(seed, searching_decoder):
    heatmaps, fields = noisy(seed)
    # Every joint is somewhere around everyone, too faint for a peak.
    heatmaps += np.random.default_rng(seed).uniform(0.001, 0.04, heatmaps.shape).astype(np.float32)
    found, _ = decoded(searching_decoder, heatmaps, fields)
    without = decode.pafs(heatmaps, fields, max_people=PEOPLE)
    expected = decode.pafs(heatmaps, fields, max_people=PEOPLE, search_missing=True)
    assert (without.confidence == 0).any()
    assert (found.keypoints[..., 2] > 0).all()
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=2e-2)
    np.testing.assert_allclose(found.scores, without.scores, atol=1e-5)


def noisy(seed):
    rng = np.random.default_rng(seed)
    heatmaps, fields = render(jittered(3), MPII_16.limbs[:14])
    heatmaps *= 0.6
    for joint in range(16):
        heatmaps[rng.integers(0, HEIGHT, 3), rng.integers(0, WIDTH, 3), joint] = rng.uniform(0.15, 0.9, 3)
    fields = fields * 0.7 + 0.3 * rng.standard_normal(fields.shape)
    return heatmaps.astype(np.float32), fields.astype(np.float32)


def test_lone_peaks_are_nobody(decoder):
    heatmaps, fields = render([moved(FIGURE, 20, 8)], MPII_16.limbs[:14])
    assert len(decoded(decoder, heatmaps, np.zeros_like(fields))[0]) == 0
    assert len(decoded(decoder, np.zeros_like(heatmaps), fields)[0]) == 0


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="told apart by their limbs"):
        graph.maps_needed("efficienthrnet", multi_person=True)
    with pytest.raises(ValueError, match="decode='poses'"):
        graph.decoder_tflite("efficientpose", "peaks", SHAPES, skeleton=MPII_16, multi_person=True)
    odd = {"heatmaps_fine": (1, 12, 12, 16), "pafs": (1, 12, 12, 27)}
    with pytest.raises(ValueError, match="two channels for each limb"):
        graph.decoder_tflite("efficientpose", "poses", odd, skeleton=MPII_16, multi_person=True)

"""Several people from part affinity fields that are rendered from known people."""

import numpy as np
import pytest
from stick_figures import FIGURE, crossing, moved, render

from keras_ehrnet import decode, skeletons

MPII = skeletons.MPII_16


def assert_same_people(poses, people):
    assert len(poses) == len(people)
    for person in people:
        seen = ~np.isnan(person[:, 0])
        errors = [np.abs(found - person)[seen].max() for found in poses.xy]
        assert min(errors) < 0.5
        np.testing.assert_array_equal(poses.confidence[int(np.argmin(errors))] > 0, seen)


@pytest.mark.parametrize("count", range(1, 7))
def test_people_side_by_side(count):
    rng = np.random.default_rng(count)
    people = [moved(FIGURE, number * 39 + 1, 8) + rng.uniform(-0.5, 0.5, (16, 2)) for number in range(count)]
    assert_same_people(decode.pafs(*render(people, MPII.limbs)), people)


def test_people_who_cross():
    people = crossing()
    left_ankle, right_ankle = MPII.index("left_ankle"), MPII.index("right_ankle")
    assert people[0][left_ankle, 0] > people[1][right_ankle, 0]
    assert_same_people(decode.pafs(*render(people, MPII.limbs)), people)


def test_missing_joints():
    people = [moved(FIGURE, 20, 8), moved(FIGURE, 90, 5), moved(FIGURE, 160, 9)]
    people[0][[4, 12]] = np.nan  # a wrist and an ankle
    people[1][[0]] = np.nan  # the head
    people[2][[7, 8, 14, 15]] = np.nan  # an arm from the elbow, a leg from the knee
    assert_same_people(decode.pafs(*render(people, MPII.limbs)), people)


def test_missing_joints_can_be_searched():
    """A faint wrist near its person, a brighter one far away, an ankle that is nowhere."""
    wrist, ankle = MPII.index("left_wrist"), MPII.index("left_ankle")
    person = moved(FIGURE, 20, 8)
    without = person.copy()
    without[[wrist, ankle]] = np.nan
    heatmaps, fields = render([without], MPII.limbs)
    column, row = person[wrist].astype(int)
    heatmaps[row, column, wrist], heatmaps[row, column + 150, wrist] = 0.04, 0.9
    assert decode.pafs(heatmaps, fields).keypoints[0, wrist].tolist() == [0, 0, 0]
    (found,) = decode.pafs(heatmaps, fields, search_missing=True).keypoints
    np.testing.assert_allclose(found[wrist], [column + 0.5, row + 0.5, 0.04], atol=1e-6)
    assert found[ankle].tolist() == [0, 0, 0]
    # What is likely somebody else's is a guess, too, and scored as one.
    heatmaps[row, column, wrist] = 0.8
    (found,) = decode.pafs(heatmaps, fields, threshold=0.2, search_missing=True).keypoints
    np.testing.assert_allclose(found[wrist], [column + 0.5, row + 0.5, 0.2], atol=1e-6)


def test_fewer_fields_than_limbs():
    """They belong to the first limbs of the skeleton."""
    heatmaps, fields = render([moved(FIGURE, 20, 8)], MPII.limbs[:-1])
    assert_same_people(decode.pafs(heatmaps, fields), [moved(FIGURE, 20, 8)])


def test_own_limbs():
    limbs = ((0, 1), (1, 5), (5, 9))
    poses = decode.pafs(*render([moved(FIGURE, 20, 8)], limbs), limbs=limbs)
    assert {0, 1, 5, 9} <= set((poses.confidence[0] > 0).nonzero()[0].tolist())


def test_joints_without_limbs_go_to_the_person_around_them():
    people = [moved(FIGURE, 20, 8), moved(FIGURE, 100, 8)]
    assert not any(9 in limb for limb in MPII.limbs)  # the pelvis
    assert_same_people(decode.pafs(*render(people, MPII.limbs)), people)
    people[0][9] = np.nan
    assert_same_people(decode.pafs(*render(people, MPII.limbs)), people)


def test_lone_peaks_are_nobody():
    heatmaps, fields = render([moved(FIGURE, 20, 8)], MPII.limbs)
    assert len(decode.pafs(heatmaps, np.zeros_like(fields))) == 0
    assert len(decode.pafs(np.zeros_like(heatmaps), fields)) == 0


def test_more_people_than_the_maximum():
    people = [moved(FIGURE, number * 39 + 1, 8) for number in range(5)]
    heatmaps, fields = render(people, MPII.limbs)
    weights = np.repeat([0.6, 0.9, 0.5, 0.8, 0.7, 0], 40)[:, None]
    poses = decode.pafs(heatmaps * weights, fields, max_people=2)
    assert len(poses) == 2
    assert_same_people(poses, [people[1], people[3]])


def test_mistakes_are_explained():
    with pytest.raises(ValueError, match="one size"):
        decode.pafs(np.zeros((8, 8, 16)), np.zeros((8, 9, 28)))
    with pytest.raises(ValueError, match="two channels per limb"):
        decode.pafs(np.zeros((8, 8, 16)), np.zeros((8, 8, 27)))
    with pytest.raises(ValueError, match="one field per limb"):
        decode.pafs(np.zeros((8, 8, 16)), np.zeros((8, 8, 40)))
    with pytest.raises(ValueError, match="`pafs` must be finite"):
        decode.pafs(np.zeros((8, 8, 16)), np.full((8, 8, 28), np.inf))
    with pytest.raises(ValueError, match="`heatmaps` must be finite"):
        decode.pafs(np.full((8, 8, 16), np.nan), np.zeros((8, 8, 28)))

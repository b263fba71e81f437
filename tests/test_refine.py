"""Two networks: one finds people, the other places each of them anew in a crop."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

import keras_ehrnet as ke
from keras_ehrnet.prediction import pipeline, refining
from keras_ehrnet.skeletons import COCO_17, MPII_16

IMAGE = np.zeros((200, 400, 3), np.uint8)


class Stub:
    """A network for one person that decodes by itself: all joints at given places of its input, with one score."""

    name, family, input_size, any_size, decode = "stub", "efficientpose_nas", (64, 64), False, "poses"
    multi_person, min_score = False, 0.0

    def __init__(self, score: float, low: float = 0.5, high: float = 0.5, skeleton: ke.Skeleton = COCO_17) -> None:
        self.skeleton, self.seen = skeleton, []
        places = np.linspace(low, high, skeleton.num_joints)
        self._joints = np.stack([places, places, np.full_like(places, score)], axis=1).astype(np.float32)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.seen.append(images)
        return {"poses": np.broadcast_to(self._joints, (len(images), 1, *self._joints.shape))}

    def digest(self) -> str:
        return "stub"


def test_the_second_look_counts_if_it_is_sure_enough() -> None:
    """Joints of the first spread over the middle of the image; the second puts all in the middle of its crop."""
    first = Stub(0.4, 0.4, 0.6)
    coarse = ke.PosePredictor(first)(IMAGE)
    better = ke.PosePredictor(first, refine=Stub(0.7))(IMAGE)
    unsure = ke.PosePredictor(first, refine=Stub(0.25))(IMAGE)
    lost = ke.PosePredictor(first, refine=Stub(0.1))(IMAGE)
    middle = (coarse.keypoints[0, 0, :2] + coarse.keypoints[0, -1, :2]) / 2
    np.testing.assert_allclose(better.keypoints[0, :, :2], np.tile(middle, (17, 1)), atol=1e-3)
    assert better.scores[0] == pytest.approx(0.7)
    np.testing.assert_allclose(unsure.keypoints[0, :, :2], np.tile(middle, (17, 1)), atol=1e-3)
    np.testing.assert_array_equal(lost.keypoints, coarse.keypoints)


def test_the_crop_follows_the_joints_until_they_rest() -> None:
    """One network always sees its person right of the middle of its crop, another as large as the crop is made for."""
    drifting, still = Stub(0.7, 0.55, 0.8), Stub(0.7, 0.2, 0.8)
    faint = refining.LEFT_SEEN / 2  # What drifts away from it is not looked for.
    ke.PosePredictor(Stub(faint, 0.4, 0.6), refine=drifting)(IMAGE)
    assert len(drifting.seen) == refining.ROUNDS + 1  # and once in the mirror image
    ke.PosePredictor(Stub(faint, 0.4, 0.6), refine=still)(IMAGE)
    assert len(still.seen) == 2


def test_whoever_cannot_be_somebody_is_looked_at_once() -> None:
    first = Stub(refining.LEFT_SEEN / 2, 0.4, 0.6)
    hopeless, hopeful = (Stub(score, 0.55, 0.8) for score in (0.24, 0.26))
    for second in (hopeless, hopeful):
        assert len(ke.PosePredictor(first, refine=second, min_score=0.5)(IMAGE)) == 0
    at_the_whole_image = 2
    assert len(hopeless.seen) == 1 + at_the_whole_image
    assert len(hopeful.seen) == 2 * (refining.ROUNDS + 1) + 1


def standing_at(x: float, score: float) -> ke.Poses:
    """Somebody whose joints lie within 20 pixels to either side, and 60 up and down."""
    joints = np.random.default_rng(0).uniform((x - 20, 40, score), (x + 20, 160, score), (17, 3))
    return ke.Poses(joints[None], np.array([score]), COCO_17)


def test_of_two_people_taken_for_one_both_are_found() -> None:
    """The second network sees whoever is nearest to the middle of its crop."""
    left, right = standing_at(100, 0.7), standing_at(180, 0.6)
    mixed = np.where((np.arange(17) < 10)[:, None], left.keypoints[0], right.keypoints[0])
    looks = []

    def look(boxes: np.ndarray, mirrored: bool) -> ke.Poses:
        looks.extend([mirrored] * len(boxes))
        return refining.together([left if box[[0, 2]].mean() < 140 else right for box in boxes])

    found = refining.refined(ke.Poses(mixed[None], np.array([0.3]), COCO_17), look, (400, 200), 0.2)
    assert found == refining.together([left, right])
    assert looks == [False] * 4 + [True] * 2
    explained = refining.refined(left, look, (400, 200), 0.2)
    assert explained == left


class Halves(Stub):
    """A network that places joints on the brighter half of its input; left ones a little higher."""

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        poses = super().__call__(images)["poses"].copy()
        left, right = np.split(images.astype(float).mean(axis=(1, 3)), 2, axis=1)
        poses[..., 1] = np.where(left.mean(axis=1) > right.mean(axis=1), 0.25, 0.75)[:, None, None]
        poses[..., 0] = np.where([name.startswith("left") for name in COCO_17.joint_names], 0.4, 0.6)
        return {"poses": poses}


def test_the_mirror_image_shows_the_same_place() -> None:
    """What lies right in the image lies left in its mirror image, and left joints are right ones there."""
    image = np.zeros((200, 400, 3), np.uint8)
    image[:, 205:] = 255
    box = np.array([[150.0, 50.0, 250.0, 150.0]])
    network = Halves(0.8)
    settings = pipeline.Settings()
    upright, mirrored = (pipeline._in_boxes(network, image, box, settings, mirror) for mirror in (False, True))
    np.testing.assert_array_equal(network.seen[0][:, :, ::-1], network.seen[1])
    np.testing.assert_allclose(upright.xy[..., 0], mirrored.xy[..., 0], atol=1e-3)
    sides = list(COCO_17.flip_permutation)
    np.testing.assert_allclose(upright.xy[:, sides, 1], mirrored.xy[..., 1], atol=1e-3)


def test_both_images_together_place_a_joint() -> None:
    """Between two places that are as good as one, nearer to the surer; else at the surer, which is doubted."""
    once = standing_at(100, 0.6)
    twice = once.keypoints.copy()
    twice[0, :, 2] = 0.3
    twice[0, :5, 0] += 1.5
    twice[0, 5:, 0] += 150
    twice[0, 16, 2] = 0.8

    def look(boxes: np.ndarray, mirrored: bool) -> ke.Poses:
        return ke.Poses(twice if mirrored else once.keypoints, np.array([0.5]), COCO_17)

    joints = refining.refined(once, look, (400, 200), 0.1).keypoints[0]
    assert (np.abs(joints[:5, 0] - once.xy[0, :5, 0] - 0.5) < 0.25).all()
    assert (joints[:5, 2] > 0.4).all() and (joints[:5, 2] < 0.45).all()
    np.testing.assert_allclose(joints[5:16, 0], once.xy[0, 5:16, 0], atol=0.01)
    assert joints[16, 0] == pytest.approx(twice[0, 16, 0], abs=0.01)
    np.testing.assert_allclose(joints[5:, 2], refining.DOUBTED * np.array([0.6] * 11 + [0.8]), atol=1e-4)
    alone = refining.refined(once, look, (400, 200), 0.1, mirror=False)
    np.testing.assert_array_equal(alone.keypoints, once.keypoints)


def test_nobody_is_found_twice() -> None:
    joints = np.random.default_rng(0).uniform(10, 90, (17, 3))
    joints[:, 2] = 1
    three = np.stack([joints + np.array(move) for move in ((0, 0, 0), (1, 1, 0), (60, 0, 0))])
    found = refining.distinct(ke.Poses(three, np.array([0.4, 0.6, 0.5]), COCO_17))
    assert found.scores == pytest.approx([0.6, 0.5])
    assert len(refining.distinct(ke.Poses.empty(COCO_17))) == 0


def test_whoever_is_unsure_until_looked_at_again_is_found() -> None:
    first = Stub(0.2, 0.4, 0.6)
    assert len(ke.PosePredictor(first, min_score=0.5)(IMAGE)) == 0
    assert len(ke.PosePredictor(first, refine=Stub(0.7), min_score=0.5)(IMAGE)) == 1


def test_where_nobody_is_found_the_whole_image_may_be_one_person() -> None:
    """A face that fills the picture is no figure to be found; a wall is nobody either way."""
    blind = Stub(0.0)
    assert len(ke.PosePredictor(blind, refine=Stub(0.7, 0.2, 0.8), min_score=0.3)(IMAGE)) == 1
    assert len(ke.PosePredictor(blind, refine=Stub(0.2, 0.2, 0.8), min_score=0.3)(IMAGE)) == 0


def test_a_person_of_one_place_and_nobody_are_not_cut_out() -> None:
    second = Stub(0.9)
    poses = ke.PosePredictor(Stub(0.4), refine=second)(IMAGE)
    assert poses.scores[0] == pytest.approx(0.4) and not second.seen


def test_video(tmp_path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
    for _ in range(3):
        writer.write(np.zeros((64, 64, 3), np.uint8))
    writer.release()
    seen = []
    predictor = ke.PosePredictor(Stub(0.4, 0.2, 0.8), refine=Stub(0.7))
    predictor.video(tmp_path / "clip.avi", progress=False, on_frame=lambda number, frame, poses: seen.append(poses))
    assert [poses.scores[0] for poses in seen] == pytest.approx([0.7] * 3)


def test_networks_that_do_not_go_together() -> None:
    bottom_up = ke.EfficientHRNet(-4, input_shape=(64, 64, 3))
    with pytest.raises(ValueError, match="one person at a time"):
        ke.PosePredictor(Stub(0.5), refine=bottom_up)
    with pytest.raises(ValueError, match="the same joints"):
        ke.PosePredictor(Stub(0.5), refine=Stub(0.5, skeleton=MPII_16))


def test_boxes_leave_nothing_to_look_for() -> None:
    both = ke.PosePredictor(Stub(0.4), refine=Stub(0.7))
    with pytest.raises(ValueError, match="give boxes to a predictor of that one. Received: boxes with refine='stub'"):
        both(IMAGE, boxes=np.array([[0, 0, 50, 100]]))


def test_joints_of_one_side_alone_are_not_mirrored() -> None:
    lopsided = ke.Skeleton("pirate", ("nose", "left_hook", "right_hand"), ())
    found = ke.PosePredictor(Stub(0.4, 0.4, 0.6, lopsided), refine=Stub(0.7, 0.4, 0.6, lopsided))(IMAGE)
    assert found.scores[0] == pytest.approx(0.7)

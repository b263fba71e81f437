"""Warps: joints, images and masks move together."""

from __future__ import annotations

import numpy as np
import pytest

from keras_ehrnet.data import Person, Sample, crowd_mask, joints_box
from keras_ehrnet.data.augment import (
    AUGMENTATIONS,
    Augmentation,
    augmentation,
    color_matrix,
    fitting_warp,
    half_body_region,
    image_region,
    jitter_colors,
    person_region,
    random_warp,
)
from keras_ehrnet.geometry import Geometry, Region, box_region
from keras_ehrnet.skeletons import COCO_17, LSP_14

STRONG = Augmentation(rotation=45, scale=(0.6, 1.6), translation=30, flip=0.5)


def upright_joints() -> np.ndarray:
    rng = np.random.default_rng(0)
    joints = np.concatenate([rng.uniform(20, 80, (17, 2)), np.full((17, 1), 2)], axis=1)
    return joints.astype(np.float32)


def test_image_and_joints_move_together() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        spot = rng.uniform(30, 90, 2)
        ys, xs = np.mgrid[:120, :160] + 0.5
        blob = np.exp(-((xs - spot[0]) ** 2 + (ys - spot[1]) ** 2) / 18)
        image = np.repeat((255 * blob).astype(np.uint8)[..., None], 3, axis=2)
        warp = random_warp(STRONG, image_region((160, 120), True), (128, 96), rng)
        expected = warp.points(spot)
        if not ((expected > 12) & (expected < np.array((128, 96)) - 12)).all():
            continue
        weights = warp.image(image)[..., 0].astype(float)
        ys, xs = np.mgrid[:96, :128] + 0.5
        center = np.array([(xs * weights).sum(), (ys * weights).sum()]) / weights.sum()
        np.testing.assert_allclose(center, expected, atol=0.35)


def test_flip_exchanges_left_and_right_and_is_exact() -> None:
    always = Augmentation(flip=1.0)
    warp = random_warp(always, Region((32, 32), (64, 64)), (64, 64), np.random.default_rng(0))
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    np.testing.assert_array_equal(warp.image(image), image[:, ::-1])
    joints = upright_joints()[None] * (0.5, 0.5, 1)
    mirrored = warp.joints(joints, COCO_17)[0]
    for name in ("left_wrist", "right_ear", "nose"):
        origin = joints[0, COCO_17.flip_permutation[COCO_17.index(name)]]
        np.testing.assert_allclose(mirrored[COCO_17.index(name)], (64 - origin[0], origin[1], 2), rtol=1e-5)


def test_joints_that_leave_the_picture_are_unlabelled() -> None:
    joints = upright_joints()[None]
    warp = fitting_warp(Region((50, 50), (40, 40)), (64, 64))
    warped = warp.joints(joints, COCO_17)[0]
    stays = (np.abs(joints[0, :, :2] - 50) < 20).all(axis=1)
    np.testing.assert_array_equal(warped[:, 2] > 0, stays)
    assert not warped[~stays].any() and stays.any() and not stays.all()


def test_the_paper_ranges_are_kept() -> None:
    paper = AUGMENTATIONS["efficienthrnet"]
    region, rng, flips = image_region((640, 480), paper.short_side), np.random.default_rng(0), []
    assert region.size == (480, 480)
    for _ in range(500):
        warp = random_warp(paper, region, (512, 512), rng)
        flips.append(warp.flipped)
        linear = warp.matrix[:, :2]
        zoom = np.sqrt(abs(np.linalg.det(linear)))
        assert 0.75 <= 512 / 480 / zoom <= 1.5
        upright = np.diag([-1, 1]) @ linear if warp.flipped else linear
        assert abs(np.rad2deg(np.arctan2(upright[1, 0], upright[0, 0]))) <= 30
        assert np.abs(warp.points(np.array(region.center)) - 256).max() <= 40 + 1e-6
    assert 0.4 < np.mean(flips) < 0.6


def test_masks_follow_and_agree_with_the_full_mask() -> None:
    nobody = np.zeros((17, 3))
    polygon = [30.0, 20.0, 80.0, 25.0, 70.0, 70.0, 25.0, 60.0]
    runs = np.zeros((96, 128), np.uint8)
    runs[40:90, 90:120] = 1
    changes = np.flatnonzero(np.diff(np.concatenate([[0], runs.T.reshape(-1), [0]])))
    ends = np.concatenate([[0], changes, [runs.size]]) if changes[-1] != runs.size else np.concatenate([[0], changes])
    crowd = {"size": [96, 128], "counts": np.diff(ends).tolist()}
    persons = (
        Person(nobody, [25, 20, 80, 70], 1.0, segmentation=[polygon]),
        Person(nobody, [90, 40, 120, 90], 1.0, is_crowd=True, segmentation=crowd),
        Person(nobody, [5, 70, 20, 90], 1.0),
    )
    sample = Sample(1, None, (128, 96), persons)
    full = crowd_mask(sample)
    warp = random_warp(STRONG, image_region((128, 96), True), (96, 96), np.random.default_rng(4))
    for stride in (1, 4):
        mask = warp.mask(sample, stride)
        assert mask.shape == (96 // stride, 96 // stride) and mask.dtype == np.uint8
        excluded = warp.image((~full).astype(np.uint8) * 255)[stride // 2 :: stride, stride // 2 :: stride] > 127
        assert np.mean((mask == 0) != excluded) < (0.02 if stride == 1 else 0.06)
        assert 0.02 < excluded.mean() < 0.9
    assert warp.mask(Sample(1, None, (128, 96), ()), 4).all(), "nothing to leave out"


def test_regions_of_persons_and_halves() -> None:
    joints = upright_joints()
    person = Person(joints, [20, 20, 80, 80], 3600.0)
    assert person_region(person, 1.25) == Region((50, 50), (75, 75))
    halves = [half_body_region(person, COCO_17, np.random.default_rng(seed), 1.25) for seed in range(8)]
    lower = [index for index, name in enumerate(COCO_17.joint_names) if name.endswith(("hip", "knee", "ankle"))]
    upper = [index for index in range(17) if index not in lower]
    centers = {tuple(np.round(half.center, 3)) for half in halves}
    boxes = (joints_box(joints[rows]) for rows in (lower, upper))
    assert centers == {tuple(np.round((box[:2].astype(float) + box[2:]) / 2, 3)) for box in boxes}
    joints[8:] = 0
    assert half_body_region(Person(joints, [0, 0, 9, 9], 1.0), COCO_17, np.random.default_rng(0), 1.25) is None


def test_a_person_of_one_joint_has_a_region() -> None:
    joints = np.zeros((14, 3))
    joints[0] = 30, 40, 2
    region = person_region(Person(joints, joints_box(joints), 1.0), 1.25)
    assert region.center == (30, 40) and min(region.size) >= 16
    assert np.isfinite(fitting_warp(region, (64, 64)).joints(joints[None], LSP_14)).all()


def test_colors() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    still = image.copy()
    jitter_colors(still, Augmentation(), np.random.default_rng(0))
    np.testing.assert_array_equal(still, image)
    gray = np.full((1, 1, 3), 90, np.uint8)
    jitter_colors(gray, Augmentation(saturation=0.9, hue=90), np.random.default_rng(0))
    assert np.abs(gray.astype(int) - 90).max() <= 1, "gray has neither saturation nor hue"
    matrix = color_matrix(Augmentation(brightness=0.2), np.random.default_rng(1))
    np.testing.assert_allclose(matrix[:, :3], np.eye(3), atol=1e-12)
    assert 0 < np.abs(matrix[:, 3]).max() <= 51


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Augmentation(flip=1.5), "flip=1.5"),
        (lambda: Augmentation(rotation=-1), "rotation=-1"),
        (lambda: Augmentation(scale=(1.5, 0.5)), "scale="),
        (lambda: augmentation("eficienthrnet"), "Did you mean 'efficienthrnet'"),
    ],
)
def test_bad_arguments(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("box", [(10.5, 20, 90, 60.25), (5, 5, 9, 200), (30, 30, 30, 30), (0, 0, 8, 8)])
def test_people_are_cut_out_alike_in_training_and_prediction(box: tuple[float, ...]) -> None:
    joints = np.zeros((17, 3), np.float32)
    trained = fitting_warp(person_region(Person(joints, box, 1.0), 1.25), (192, 256))
    predicted = Geometry.fitting(box_region(np.array(box)), 192, 256)
    np.testing.assert_allclose(predicted.matrix, trained.matrix, rtol=1e-12)

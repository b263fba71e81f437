"""Poses as values: equal where they are the same people."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from keras_ehrnet import Poses
from keras_ehrnet.skeletons import COCO_17, LSP_14, Skeleton
from keras_ehrnet.support.errors import NobodyError


def poses(**changes: object) -> Poses:
    keypoints = np.arange(2 * 17 * 3, dtype=np.float32).reshape(2, 17, 3)
    return replace(Poses(keypoints, np.array([0.9, 0.8]), COCO_17, image_size=(64, 48)), **changes)


def test_equal_people_are_equal_and_hash_alike() -> None:
    assert poses() == poses() and hash(poses()) == hash(poses())
    assert len({poses(), poses(), poses(image_size=(64, 64))}) == 2
    assert poses(ids=np.array([1, 2])) == poses(ids=np.array([1, 2]))
    assert poses(image=np.zeros((48, 64, 3), np.uint8)) == poses()
    assert Poses.empty(COCO_17) == Poses.empty(COCO_17)


def test_joints_by_name() -> None:
    assert poses().joint("left_eye") == (3, 4, 5)
    assert poses().joint("nose", 1) == poses().joint("nose", -1) == (51, 52, 53)
    for nobody, person in ((Poses.empty(COCO_17), 0), (poses(), 2), (poses(), -3)):
        with pytest.raises(NobodyError, match=f"no such person: {len(nobody)} were found.*person={person}"):
            nobody.joint("nose", person)
    assert issubclass(NobodyError, IndexError)
    with pytest.raises(ValueError, match="Did you mean 'nose'"):
        Poses.empty(COCO_17).joint("nase")


def test_thresholds_are_numbers() -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    for call in (lambda: poses().draw(image, threshold=float("nan")), lambda: poses().boxes(float("nan"))):
        with pytest.raises(ValueError, match="A threshold is a number. Received: threshold=nan"):
            call()


def test_any_difference_counts() -> None:
    moved = poses().keypoints.copy()
    moved[1, 3, 0] += 1
    others = {
        "joint": poses(keypoints=moved),
        "score": poses(scores=np.array([0.9, 0.7])),
        "ids": poses(ids=np.array([1, 2])),
        "size": poses(image_size=None),
        "number": poses()[:1],
        "skeleton": Poses.empty(LSP_14),
    }
    for what, other in others.items():
        assert poses() != other, what
    assert poses(ids=np.array([1, 2])) != poses(ids=np.array([2, 1]))
    assert poses() != "Poses" and Poses.empty(COCO_17) != Poses.empty(LSP_14)


def test_everyone_is_cut_out() -> None:
    stick = Skeleton("stick", ("top", "bottom"), ((0, 1),))
    picture = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    whole, at_the_edge, outside, nobody = (
        [(30, 10), (60, 50)],
        [(90, 60), (99, 79)],
        [(300, 10), (330, 50)],
        [(1, 1)] * 2,
    )
    keypoints = np.dstack([[whole, at_the_edge, outside, nobody], np.array([1, 1, 1, 0]).repeat(2).reshape(4, 2)])
    poses = Poses(keypoints, np.ones(4), stick, image=picture)
    crops = poses.crops(margin=2.0)
    np.testing.assert_array_equal(crops[0], picture[0:70, 15:75])
    np.testing.assert_array_equal(crops[1], picture[50:80, 85:100])
    assert crops[2].shape == crops[3].shape == (0, 0, 3)
    crops[0][:] = 0
    np.testing.assert_array_equal(poses.crops()[0], picture[5:55, 26:64])
    assert picture[10:50, 30:60].any() and not Poses.empty(stick).crops(picture)
    with pytest.raises(ValueError, match="poses.crops.image."):
        replace(poses, image=None).crops()

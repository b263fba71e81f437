"""Poses as values: equal where they are the same people."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from keras_ehrnet import Poses
from keras_ehrnet.skeletons import COCO_17, LSP_14
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

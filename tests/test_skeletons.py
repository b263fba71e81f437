"""Skeletons: left and right by name, the same joints in other spellings, and plain values."""

from __future__ import annotations

import json

import pytest

from keras_ehrnet.skeletons import COCO_17, LSP_14, MPII_16, SKELETONS, Skeleton


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left_eye", "right_eye"),
        ("eye_left", "eye_right"),
        ("L_Eye", "R_Eye"),
        ("eye_l", "eye_r"),
        ("EyeL", "EyeR"),
        ("LEye", "REye"),
        ("leye", "reye"),
        ("LEYE", "REYE"),
        ("lEye", "rEye"),
        ("leftEye", "rightEye"),
        ("LeftEye", "RightEye"),
        ("left-eye", "right-eye"),
        ("Left Eye", "Right Eye"),
        ("lefteye", "righteye"),
        ("eyeleft", "eyeright"),
        ("front_left_paw", "front_right_paw"),
        ("L_F_Paw", "R_F_Paw"),
    ],
)
def test_left_and_right_by_name(left: str, right: str) -> None:
    assert Skeleton("dog", (left, "nose", right), ()).flip_permutation == (2, 1, 0)
    assert Skeleton("dog", (right, left, "nose"), ()).flip_permutation == (1, 0, 2)


@pytest.mark.parametrize("names", [("lip", "tail"), ("L1", "L2"), ("l", "r"), ("L_1", "L_2"), ("upright", "bright")])
def test_names_without_sides(names: tuple[str, ...]) -> None:
    assert Skeleton("dog", names, ()).flip_permutation == (0, 1)


def test_given_pairs_go_before_names() -> None:
    assert Skeleton("dog", ("a", "b", "left_ear"), (), flip_pairs=((0, 1),)).flip_permutation == (1, 0, 2)
    assert Skeleton("dog", ("left_eye", "right_eye"), (), flip_pairs=()).flip_permutation == (0, 1)
    with pytest.raises(ValueError, match=r"flip_pairs of skeleton 'dog' must be pairs of its joints, 0 to 1"):
        Skeleton("dog", ("a", "b"), (), flip_pairs=((0, 2),))
    with pytest.raises(ValueError, match=r"must name each joint once\. Received: \(\(0, 1\), \(1, 2\)\)"):
        Skeleton("dog", ("a", "b", "c"), (), flip_pairs=((0, 1), (1, 2)))
    with pytest.raises(ValueError, match=r"limbs of skeleton 'dog' must be pairs of its joints, 0 to 1"):
        Skeleton("dog", ("a", "b"), ((0, 2),))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sigmas": (0.1,)}, r"sigmas of skeleton 'dog' must be 2 positive numbers.*Received: \(0.1,\)"),
        ({"sigmas": (0.1, 0.0)}, r"one per joint. Received: \(0.1, 0.0\)"),
        ({"grouping_order": (0,)}, r"must name each of its joints, 0 to 1, once. Received: \(0,\)"),
        ({"grouping_order": (0, 0)}, r"Received: \(0, 0\)"),
    ],
)
def test_numbers_of_joints_that_there_are_not(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Skeleton("dog", ("a", "b"), (), **given)


def test_left_without_right_is_told_when_mirroring() -> None:
    skeleton = Skeleton("dog", ("left_ear", "nose"), ())
    assert skeleton.mapping_to(COCO_17)[:4] == (1, None, None, 0)
    with pytest.raises(ValueError, match=r"Joint 'left_ear' of skeleton 'dog' has no counterpart on the right"):
        _ = skeleton.flip_permutation


def test_spelling_does_not_matter() -> None:
    for respelt in (
        [name.replace("_", "-") for name in COCO_17.joint_names],
        [name.replace("_", " ").title() for name in COCO_17.joint_names],
        [name.title().replace("_", "") for name in COCO_17.joint_names],
        [name.replace("left_", "L_").replace("right_", "R_") for name in COCO_17.joint_names],
        [name.replace("_", "") for name in COCO_17.joint_names],
        ["".join(reversed(name.split("_"))) for name in COCO_17.joint_names],
    ):
        own = Skeleton("own", tuple(respelt), ())
        assert own.mapping_to(COCO_17) == tuple(range(17)) and own.same_joints(COCO_17)
        assert own.flip_permutation == COCO_17.flip_permutation
    assert not LSP_14.same_joints(MPII_16)
    assert Skeleton("own", ("Neck",), ()).mapping_to(MPII_16).index(0) == MPII_16.index("upper_neck")


@pytest.mark.parametrize("name", sorted(SKELETONS))
def test_plain_values(name: str) -> None:
    skeleton = SKELETONS[name]
    assert Skeleton.from_dict(json.loads(json.dumps(skeleton.to_dict()))) == skeleton
    paired = Skeleton("dog", ("a", "b"), ((0, 1),), sigmas=(0.1, 0.2), flip_pairs=((0, 1),))
    assert Skeleton.from_dict({**json.loads(json.dumps(paired.to_dict())), "later": 1}) == paired
    with pytest.raises(KeyError, match="limbs"):
        Skeleton.from_dict({"name": "dog", "joint_names": ["a"]})

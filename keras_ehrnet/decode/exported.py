"""People from the outputs of models that decode by themselves, in pixels of the network's input.

Such models give coordinates in [0, 1] of their input, y before x; see `keras_ehrnet.export.tflite` for the layouts.
"""

from __future__ import annotations

import numpy as np

from keras_ehrnet.decode.grouping import best_people, match
from keras_ehrnet.decode.peaks import Peaks
from keras_ehrnet.families import DETECTION_THRESHOLD
from keras_ehrnet.poses import Poses
from keras_ehrnet.skeletons import Skeleton

Size = tuple[int, int]


def one_person(poses: np.ndarray, skeleton: Skeleton, input_size: Size) -> Poses:
    """The person of an output `"poses"` of shape `(1, K, 3)`: y, x, score of every joint."""
    keypoints = _to_pixels(poses, input_size)
    return Poses(keypoints, keypoints[..., 2].mean(axis=1), skeleton)


def several_people(poses: np.ndarray, skeleton: Skeleton, input_size: Size) -> Poses:
    """The people of an output `"poses"` of shape `(N, 3K + 5)`: y, x, score of every joint, box, score of the person.

    Rows of zeros are nobody.
    """
    people = poses[poses[:, -1] > 0]
    joints = people[:, : 3 * skeleton.num_joints].reshape(len(people), skeleton.num_joints, 3)
    return Poses(_to_pixels(joints, input_size), people[:, -1], skeleton)


def best_peaks(peaks: np.ndarray, skeleton: Skeleton, input_size: Size) -> Poses:
    """The person whose joints are the first of an output `"peaks"` of shape `(K, P, 4)`: the best peak of each."""
    return one_person(peaks[None, :, 0, :3], skeleton, input_size)


def grouped_peaks(peaks: np.ndarray, skeleton: Skeleton, input_size: Size, max_people: int) -> Poses:
    """The people of an output `"peaks"` of shape `(K, P, 4)`: y, x, score, tag of the peaks of every joint.

    Without the maps, joints that a person lacks cannot be looked for, as `keras_ehrnet.decode.associative` does.
    """
    joint, rank = np.nonzero(peaks[..., 2] > DETECTION_THRESHOLD)
    found = peaks[joint, rank]
    height, width = input_size
    table = Peaks(joint, found[:, 0] * height, found[:, 1] * width, found[:, 2])
    people = best_people(match(table, found[:, 3:], skeleton, max_people), max_people)
    return Poses(people[..., :3], people[..., 2].mean(axis=1), skeleton)


def _to_pixels(joints: np.ndarray, input_size: Size) -> np.ndarray:
    """y, x, score with coordinates in [0, 1] as x, y, score with coordinates in pixels."""
    height, width = input_size
    return joints[..., [1, 0, 2]] * np.array((width, height, 1), np.float32)

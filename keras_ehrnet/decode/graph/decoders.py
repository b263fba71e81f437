"""Decoders as TensorFlow graphs, for files that give people instead of maps: twins of those in NumPy.

They consist of operations that every LiteRT (TensorFlow Lite) interpreter has, with int32 indices, and with static
shapes where the maps' are known. Inputs are a network's maps for one image, float32 `(1, H, W, K)`. Outputs are
float32, with all coordinates in [0, 1] of the network's input:

- `peaks`, `(1, K, P, 4)`: y, x, score and tag of each joint's P highest peaks, best first. The tag is 0 for families
  without tags. Rows after the last peak are zero.
- `poses` for one person, `(1, 1, K, 3)`: y, x and score of every joint.
- `poses` for several, `(1, N, 3K + 5)`: y, x and score of every joint, then the top, left, bottom and right of the
  joints that were found, then the person's score; best first. Rows after the last person are zero.

A joint that was not found is zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_ehrnet.decode import paf
from keras_ehrnet.families import DETECTION_THRESHOLD
from keras_ehrnet.skeletons import Skeleton

if TYPE_CHECKING:
    import tensorflow as tf


def average_strides(heatmaps_4: tf.Tensor, heatmaps_2: tf.Tensor) -> tf.Tensor:
    """The mean of stride-4 heatmaps, upsampled to stride 2, and stride-2 heatmaps: `decode.average_strides`."""
    import tensorflow as tf

    from keras_ehrnet.decode.graph.sides import sides

    return (tf.image.resize(heatmaps_4, sides(heatmaps_2)[1:3]) + heatmaps_2) * 0.5


def peaks(
    heatmaps: tf.Tensor,
    tags: tf.Tensor | None = None,
    *,
    max_peaks: int = 20,
    threshold: float = DETECTION_THRESHOLD,
    kernel: int = 3,
    subpixel: str = "parabola",
) -> tf.Tensor:
    """The highest peaks of every joint.

    Args:
        heatmaps: float32 tensor of shape `(1, H, W, K)`, H and W even.
        tags: float32 tensor of shape `(1, H / 2, W / 2, K)`, or None.
        max_peaks: int. Number of peaks per joint, P.
        threshold: float, not negative. Peaks at or below it are left out.
        kernel: int, odd. Window of the peaks in pixels. Of equally high neighbours the first is a peak.
        subpixel: str. How to find the place between the pixels: key of `decode.peaks.SUBPIXEL`.

    Returns:
        Float32 tensor of shape `(1, K, P, 4)`: y and x in [0, 1], score and tag.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.decode import graph
        >>> heatmaps = np.zeros((1, 8, 16, 17), np.float32)
        >>> heatmaps[0, 2, 4, 0] = 0.75
        >>> graph.peaks(heatmaps, max_peaks=2)[0, 0].numpy().tolist()
        [[0.3125, 0.28125, 0.75, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    import tensorflow as tf

    from keras_ehrnet.decode.graph import maxima

    heatmaps = tf.convert_to_tensor(heatmaps)
    joint = np.arange(heatmaps.shape[3], dtype=np.int32)[:, None]
    found = maxima.find_peaks(heatmaps, max_peaks, threshold, kernel)
    y, x = maxima.between_pixels(heatmaps, found.rows, found.columns, joint, subpixel)
    tag = tf.zeros_like(y) if tags is None else maxima.at(tags, found.rows // 2, found.columns // 2, joint)
    table = tf.stack([y, x, found.scores, tag], axis=-1)
    return tf.where(found.scores[..., None] > 0, table, 0.0)[None]


def single_person(heatmaps: tf.Tensor, *, subpixel: str = "none") -> tf.Tensor:
    """The one person in a set of heatmaps: every joint where its heatmap is highest, as `decode.single_person`.

    Args:
        heatmaps: float32 tensor of shape `(1, H, W, K)`.
        subpixel: str. How to find the place between the pixels: key of `decode.peaks.SUBPIXEL`.

    Returns:
        Float32 tensor of shape `(1, 1, K, 3)`: y and x in [0, 1] and score.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.decode import graph
        >>> heatmaps = np.zeros((1, 8, 16, 16), np.float32)
        >>> heatmaps[0, 2, 4] = 0.75
        >>> graph.single_person(heatmaps)[0, 0, 0].numpy().tolist()
        [0.3125, 0.28125, 0.75]
    """
    import tensorflow as tf

    from keras_ehrnet.decode.graph import maxima
    from keras_ehrnet.decode.graph.sides import every_pixel, sides

    heatmaps = tf.convert_to_tensor(heatmaps)
    _, _, width, joints = sides(heatmaps)
    joint = np.arange(joints, dtype=np.int32)
    highest = tf.transpose(tf.reduce_max(heatmaps, axis=2)[0])
    rows = tf.argmax(highest, axis=1, output_type=tf.int32)
    across = every_pixel(width)
    columns = tf.argmax(maxima.at(heatmaps, rows[:, None], across, joint[:, None]), axis=1, output_type=tf.int32)
    y, x = maxima.between_pixels(heatmaps, rows, columns, joint, subpixel)
    scores = tf.reduce_max(highest, axis=1)
    return tf.where(scores[:, None] > 0, tf.stack([y, x, scores], axis=-1), 0.0)[None, None]


def associative(
    heatmaps_4: tf.Tensor,
    heatmaps_2: tf.Tensor,
    tags_4: tf.Tensor,
    *,
    skeleton: Skeleton,
    max_people: int = 20,
    threshold: float = DETECTION_THRESHOLD,
    tag_threshold: float = 1.0,
) -> tf.Tensor:
    """People from the maps of EfficientHRNet, as `decode.associative` finds them with protocol `"fast"`.

    Both give the same people, but for ties: which of several equally good assignments, or equally good places for a
    joint without a peak, is taken may differ.

    Args:
        heatmaps_4: float32 tensor of shape `(1, H/4, W/4, K)`.
        heatmaps_2: float32 tensor of shape `(1, H/2, W/2, K)`.
        tags_4: float32 tensor of shape `(1, H/4, W/4, K)`.
        skeleton: `Skeleton`. Its `grouping_order` is the order of the joints.
        max_people: int. At most so many people, N, and peaks per joint.
        threshold: float, not negative. Peaks at or below it are no joints.
        tag_threshold: float. A joint joins a person only if its tag is nearer than this to the person's mean tag.

    Returns:
        Float32 tensor of shape `(1, N, 3K + 5)`: y, x and score of every joint, then the top, left, bottom and right
        of the person, all in [0, 1], and its score: the mean of its K peaks.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet import skeletons
        >>> from keras_ehrnet.decode import graph
        >>> heatmaps_4, heatmaps_2 = np.zeros((1, 16, 24, 17), np.float32), np.zeros((1, 32, 48, 17), np.float32)
        >>> tags_4 = np.zeros_like(heatmaps_4)
        >>> heatmaps_2[0, 20, 10:40:20], tags_4[:, :, 12:] = 1.5, 5.0
        >>> people = graph.associative(heatmaps_4, heatmaps_2, tags_4, skeleton=skeletons.COCO_17, max_people=3)
        >>> people.shape.as_list(), people[0, :, -1].numpy().tolist()
        ([1, 3, 56], [0.75, 0.75, 0.0])
    """
    import tensorflow as tf

    from keras_ehrnet.decode.graph import grouping, maxima

    heatmaps = average_strides(heatmaps_4, tf.convert_to_tensor(heatmaps_2))
    tags = tf.convert_to_tensor(tags_4)
    joint = np.arange(skeleton.num_joints, dtype=np.int32)
    candidates = maxima.find_peaks(heatmaps, max_people, threshold, kernel=3)
    peak_tags = maxima.at(tags, candidates.rows // 2, candidates.columns // 2, joint[:, None])
    order = skeleton.grouping_order or tuple(range(skeleton.num_joints))
    people = grouping.group(candidates, peak_tags, order, tag_threshold)

    found = people.peaks > 0
    missing = ~found & (people.scores > 0)[:, None]
    block = grouping.search_missing(maxima.max_pool(heatmaps, 2, 2), tags, people.tags, missing)
    elsewhere = maxima.first_highest(heatmaps, block, joint)
    rows, columns = (
        tf.where(found, grouping.of_people(table, people.peaks), other)
        for table, other in zip((candidates.rows, candidates.columns), elsewhere, strict=True)
    )
    scores = maxima.at(heatmaps, rows, columns, joint)
    there = (scores > 0) & (people.scores[:, None] > 0)
    y, x = maxima.between_pixels(heatmaps, rows, columns, joint, "parabola")
    return _rows(y, x, scores, there, people.scores)


def pafs(
    heatmaps: tf.Tensor,
    pafs: tf.Tensor,
    *,
    skeleton: Skeleton,
    max_people: int = 20,
    threshold: float = paf.PEAK_THRESHOLD,
    paf_threshold: float = paf.PAF_THRESHOLD,
    min_joints: int = 3,
    search_missing: bool = False,
) -> tf.Tensor:
    """People from heatmaps and part affinity fields, as `decode.pafs` finds them.

    Args:
        heatmaps: float32 tensor of shape `(1, H, W, K)`, H and W even.
        pafs: float32 tensor of shape `(1, H, W, 2L)`, for the first L limbs of the skeleton.
        skeleton: `Skeleton`. What the K joints are.
        max_people: int. At most so many people, N, and peaks per joint.
        threshold: float, not negative. Peaks at or below it are no joints.
        paf_threshold: float. What a field must reach along a limb, both as a mean and at most of the points.
        min_joints: int. People with fewer joints are left out.
        search_missing: bool. Whether joints without a peak are put where their heatmaps are highest around the person.

    Returns:
        Float32 tensor of shape `(1, N, 3K + 5)`, as `associative` gives it.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet import skeletons
        >>> from keras_ehrnet.decode import graph
        >>> heatmaps, fields = np.zeros((1, 24, 32, 16), np.float32), np.zeros((1, 24, 32, 4), np.float32)
        >>> heatmaps[0, 4, 8, 0] = heatmaps[0, 12, 8, 1] = heatmaps[0, 12, 20, 2] = 0.8
        >>> fields[0, :, 8, 1] = fields[0, 12, :, 2] = 1.0  # down to the neck, right to the shoulder
        >>> people = graph.pafs(heatmaps, fields, skeleton=skeletons.MPII_16, max_people=2)
        >>> np.round(people[0, :, -1], 3)
        array([0.15, 0.  ], dtype=float32)
    """
    import tensorflow as tf

    from keras_ehrnet.decode.graph import grouping, limbs, maxima
    from keras_ehrnet.decode.graph.sides import real, sides

    heatmaps, fields = tf.convert_to_tensor(heatmaps), tf.convert_to_tensor(pafs)
    _, height, width, joints = sides(heatmaps)
    height, width = real(height), real(width)
    joint = np.arange(joints, dtype=np.int32)[:, None]
    candidates = maxima.find_peaks(heatmaps, max_people, threshold, paf.NMS_KERNEL)
    y, x = maxima.between_pixels(heatmaps, candidates.rows, candidates.columns, joint, "parabola")
    connected = skeleton.limbs[: fields.shape[3] // 2]
    members = limbs.people(candidates, x * width, y * height, fields, connected, max_people, paf_threshold, min_joints)
    # Joints that no limb reaches came last: who is best may have changed.
    scores, order = tf.math.top_k(tf.reduce_mean(grouping.of_people(candidates.scores, members), axis=1), max_people)
    members = tf.gather(members, order)
    y, x, heights = (grouping.of_people(table, members) for table in (y, x, candidates.scores))
    there = members > 0
    if search_missing:
        rows, columns = limbs.highest_around(heatmaps, y * height, x * width, there)
        guesses = tf.minimum(maxima.at(heatmaps, rows, columns, joint[:, 0]), threshold)
        places = maxima.between_pixels(heatmaps, rows, columns, joint[:, 0], "parabola")
        y, x, heights = (
            tf.where(there, own, guess) for own, guess in zip((y, x, heights), (*places, guesses), strict=True)
        )
        there = (heights > 0) & (scores > 0)[:, None]
    return _rows(y, x, heights, there, scores)


def _rows(y: tf.Tensor, x: tf.Tensor, scores: tf.Tensor, there: tf.Tensor, person_scores: tf.Tensor) -> tf.Tensor:
    """People as the rows of `poses`: joints `(N, K)` that are there, and the score of each person `(N,)`."""
    import tensorflow as tf

    keypoints = tf.where(there[..., None], tf.stack([y, x, scores], axis=-1), 0.0)
    box = [tf.reduce_min(tf.where(there, axis, 1.0), axis=1) for axis in (y, x)]
    box += [tf.reduce_max(tf.where(there, axis, 0.0), axis=1) for axis in (y, x)]
    rest = tf.where(person_scores[:, None] > 0, tf.stack([*box, person_scores], axis=-1), 0.0)
    return tf.concat([tf.reshape(keypoints, (y.shape[0], -1)), rest], axis=1)[None]

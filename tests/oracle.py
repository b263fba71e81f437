"""A network that knows the answer: draws perfect maps from annotations, so that what is lost is lost by decoding."""

from __future__ import annotations

from functools import cache

import numpy as np

from keras_ehrnet import PosePredictor, decode
from keras_ehrnet.data.annotations import Dataset, Sample
from keras_ehrnet.poses import Poses
from keras_ehrnet.skeletons import Skeleton

TAG_STEP = 3.0
SIGMA = 2.0
LIMB_WIDTH = 1.0
# A joint midway between two pixels has two equally high ones. The published non-maximum suppression keeps both, and its
# person falls in two. No network draws such maps: a little noise, as they have, decides.
NOISE = 1e-3


def draw_gaussians(joints: np.ndarray, size: tuple[int, int], stride: float, sigma: float = SIGMA) -> np.ndarray:
    """Heatmaps of shape (H, W, K) with a peak of 1 at every labelled joint; joints (N, K, 3) in input pixels."""
    width, height = size
    columns, rows = np.arange(width) + 0.5, np.arange(height) + 0.5
    maps = np.zeros((height, width, joints.shape[1]), np.float32)
    for _, joint, x, y in _labelled(joints, stride):
        left, top = max(0, int(x - 4 * sigma)), max(0, int(y - 4 * sigma))
        right, bottom = int(x + 4 * sigma) + 1, int(y + 4 * sigma) + 1
        window = np.s_[top:bottom, left:right, joint]
        across = np.exp(-np.square(columns[left:right] - x) / (2 * sigma**2))
        down = np.exp(-np.square(rows[top:bottom] - y) / (2 * sigma**2))
        np.maximum(maps[window], down[:, None] * across, out=maps[window])
    maps += _noise(maps.shape)
    return maps


@cache
def _noise(shape: tuple[int, ...]) -> np.ndarray:
    """The same for all maps of a shape, so drawn once: it takes longer than all else."""
    return NOISE * np.random.default_rng(0).standard_normal(shape, np.float32)


def draw_tags(joints: np.ndarray, size: tuple[int, int], stride: float) -> np.ndarray:
    """Tags of shape (H, W, K): around each joint the number of its person, where several meet that of the nearest."""
    width, height = size
    tags = np.zeros((height, width, joints.shape[1]), np.float32)
    nearest = np.full(tags.shape, np.inf, np.float32)
    columns, rows = np.arange(width) + 0.5, np.arange(height) + 0.5
    for person, joint, x, y in _labelled(joints, stride):
        left, top = max(0, int(x) - 6), max(0, int(y) - 6)
        window = np.s_[top : int(y) + 7, left : int(x) + 7, joint]
        distance = np.hypot(rows[top : int(y) + 7, None] - y, columns[left : int(x) + 7] - x)
        closer = distance < nearest[window]
        tags[window] = np.where(closer, TAG_STEP * person, tags[window])
        nearest[window] = np.where(closer, distance, nearest[window])
    return tags


def draw_pafs(
    joints: np.ndarray, size: tuple[int, int], stride: float, limbs: tuple[tuple[int, int], ...]
) -> np.ndarray:
    """Part affinity fields of shape (H, W, 2L): unit vectors along limbs, averaged where several overlap."""
    width, height = size
    fields, counts = np.zeros((height, width, len(limbs), 2)), np.zeros((height, width, len(limbs), 1))
    y, x = np.mgrid[:height, :width] + 0.5
    for person in joints:
        for limb, (start, end) in enumerate(limbs):
            if min(person[start, 2], person[end, 2]) <= 0:
                continue
            a, b = person[start, :2] / stride, person[end, :2] / stride
            length = max(np.hypot(*(b - a)), 1e-6)
            unit = (b - a) / length
            along = (x - a[0]) * unit[0] + (y - a[1]) * unit[1]
            across = np.abs((x - a[0]) * unit[1] - (y - a[1]) * unit[0])
            inside = (along >= -LIMB_WIDTH) & (along <= length + LIMB_WIDTH) & (across <= LIMB_WIDTH)
            fields[inside, limb] += unit
            counts[inside, limb] += 1
    return (fields / np.maximum(counts, 1)).reshape(height, width, -1).astype(np.float32)


def _labelled(joints: np.ndarray, stride: float):
    for person, joint in zip(*np.nonzero(joints[..., 2] > 0), strict=True):
        x, y = joints[person, joint, :2] / stride
        yield int(person), int(joint), float(x), float(y)


class OracleNetwork:
    """Draws the maps that the annotations of one sample call for, however the predictor places the image."""

    name = "oracle"

    def __init__(self, family: str, skeleton: Skeleton, input_size: tuple[int, int], any_size: bool) -> None:
        self.family, self.skeleton, self.input_size, self.any_size = family, skeleton, input_size, any_size
        self.min_score, self.decode, self.multi_person = 0.0, "none", family == "efficienthrnet"
        self.sample: Sample | None = None
        self.geometries: list[decode.Geometry] = []

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        geometries, self.geometries = self.geometries, []
        drawn = [self._maps(geometry, image) for geometry, image in zip(geometries, images, strict=True)]
        if len(drawn) == 1:
            return {name: maps[None] for name, maps in drawn[0].items()}
        return {name: np.stack([maps[name] for maps in drawn]) for name in drawn[0]}

    def _maps(self, geometry: decode.Geometry, image: np.ndarray) -> dict[str, np.ndarray]:
        joints = np.array([person.joints for person in self.sample.targets])
        joints = joints.reshape(-1, self.skeleton.num_joints, 3).astype(float)
        joints[..., :2] = geometry.to_input(joints[..., :2])
        height, width = image.shape[:2]
        inside = (joints[..., 0] < width) & (joints[..., 1] < height) & (joints[..., :2].min(axis=-1) >= 0)
        joints[~inside] = 0
        return DRAWERS[self.family](joints, (width, height), self.skeleton)


def _draw_bottom_up(joints: np.ndarray, size: tuple[int, int], skeleton: Skeleton) -> dict[str, np.ndarray]:
    quarter, half = ((size[0] // stride, size[1] // stride) for stride in (4, 2))
    return {
        "heatmaps_4": draw_gaussians(joints, quarter, 4),
        "tags_4": draw_tags(joints, quarter, 4),
        "heatmaps_2": draw_gaussians(joints, half, 2),
    }


def _draw_single_person(joints: np.ndarray, size: tuple[int, int], skeleton: Skeleton) -> dict[str, np.ndarray]:
    eighth = size[0] // 8, size[1] // 8
    return {
        "heatmaps": draw_gaussians(joints, size, 1, sigma=4.0),
        "heatmaps_fine": draw_gaussians(joints, eighth, 8, sigma=0.7),
        "pafs": draw_pafs(joints, eighth, 8, skeleton.limbs),
    }


def _draw_top_down(joints: np.ndarray, size: tuple[int, int], skeleton: Skeleton) -> dict[str, np.ndarray]:
    return {"heatmaps": draw_gaussians(joints, (size[0] // 4, size[1] // 4), 4)}


DRAWERS = {
    "efficienthrnet": _draw_bottom_up,
    "efficientpose": _draw_single_person,
    "efficientpose_nas": _draw_top_down,
}


class OraclePredictor(PosePredictor):
    """A predictor that tells its oracle which sample it looks at, and how the image is placed."""

    def __init__(self, dataset: Dataset, family: str, input_size: tuple[int, int], any_size: bool, **settings) -> None:
        super().__init__(OracleNetwork(family, dataset.skeleton, input_size, any_size), **settings)
        self._samples = {sample.read().tobytes(): sample for sample in dataset}

    def __call__(self, image: np.ndarray, boxes: np.ndarray | None = None) -> Poses:
        sample = self._samples[image.tobytes()]
        network = self.network
        if boxes is None:
            network.sample = sample
            return self._watched(lambda: PosePredictor.__call__(self, image))
        people = []
        for person, box in zip(sample.targets, boxes, strict=True):
            network.sample = Sample(sample.image_id, None, sample.image_size, (person,))
            people.append(self._watched(lambda box=box: PosePredictor.__call__(self, image, boxes=box[None])))
        keypoints = np.concatenate([poses.keypoints for poses in people])
        return Poses(keypoints, np.concatenate([poses.scores for poses in people]), network.skeleton)

    def _watched(self, predict) -> Poses:
        original = decode.Geometry.warp

        def watched(geometry: decode.Geometry, image: np.ndarray) -> np.ndarray:
            self.network.geometries.append(geometry)
            return original(geometry, image)

        decode.Geometry.warp = watched
        try:
            return predict()
        finally:
            decode.Geometry.warp = original

"""Associative embedding: joints become people by the tags that the network gives them.

Two protocols share one code path. `"paper"` takes full-resolution maps and reproduces the published evaluation;
`"fast"` takes the network's own maps and finds the place between the pixels, for video and devices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import lcm

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from keras_ehrnet.decode.assignment import assign
from keras_ehrnet.decode.peaks import SUBPIXEL, Bands, Peaks, checked_maps, find_peaks, reduce_blocks
from keras_ehrnet.families import DETECTION_THRESHOLD
from keras_ehrnet.poses import Poses
from keras_ehrnet.skeletons import COCO_17, Skeleton


@dataclass(frozen=True)
class Protocol:
    """What differs between the protocols.

    Args:
        stride: int. Pixels of the network's input per pixel of the heatmaps.
        nms_kernel: int. Window of the non-maximum suppression, in pixels of the heatmaps.
        subpixel: str. How to find the place between the pixels: a key of `peaks.SUBPIXEL`.
        first_of_equals: bool. Whether of equally high neighbours only the first is a peak.
    """

    stride: int
    nms_kernel: int
    subpixel: str
    first_of_equals: bool


PROTOCOLS = {
    "paper": Protocol(stride=1, nms_kernel=5, subpixel="quarter", first_of_equals=False),
    "fast": Protocol(stride=2, nms_kernel=3, subpixel="parabola", first_of_equals=True),
}


def associative(
    heatmaps: np.ndarray,
    tags: np.ndarray,
    *,
    skeleton: Skeleton = COCO_17,
    protocol: str = "paper",
    max_people: int = 30,
    threshold: float = DETECTION_THRESHOLD,
    tag_threshold: float = 1.0,
    nms_kernel: int | None = None,
    subpixel: str | None = None,
    refine: bool = True,
    stride: float | None = None,
    image_size: tuple[int, int] | None = None,
) -> Poses:
    """People from heatmaps and tag maps.

    Args:
        heatmaps: float array of shape `(H, W, K)`. Protocol `"paper"`: at full resolution, as `aggregate` returns
            them. Protocol `"fast"`: the network's stride-2 maps (`average_strides` includes the stride-4 ones).
        tags: float array of shape `(H, W, K, T)` or `(H, W, K)`. They may be coarser than the heatmaps by a whole
            number: the network's stride-4 tags beside stride-2 heatmaps.
        skeleton: `Skeleton`. What the K joints are, and in which order they are grouped.
        protocol: str. `"paper"` or `"fast"`.
        max_people: int. At most so many people, and peaks per joint; of more people, those with the best scores.
        threshold: float. Peaks at or below it are no joints.
        tag_threshold: float. A joint joins a person only if its tag is nearer than this to the person's mean tag.
        nms_kernel: int or None. Window of the peaks in pixels of the heatmaps; None: 5 (paper), 3 (fast).
        subpixel: str or None. How joints are placed between the pixels: `"quarter"`, `"parabola"` or `"none"`, pixel
            centers; None: quarter (paper), parabola (fast).
        refine: bool. Whether to look for the joints that a person lacks where its tag and the heatmap agree best.
        stride: float or None. Coordinates are multiplied by it; None: 1 (paper), 2 (fast), which gives pixels of the
            network's input.
        image_size: (width, height) or None. Passed on to the result.

    Returns:
        `Poses`, in the order in which people were found. Coordinates are those of the network's input; a person's score
        is the mean of its K peaks before refinement.

    Raises:
        ValueError: if shapes do not fit, values are not finite, or the protocol is unknown.

    References:
        - [HigherHRNet](https://arxiv.org/abs/1908.10357)
        - [Associative Embedding](https://arxiv.org/abs/1611.05424)

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet import decode
        >>> heatmaps, tags = np.zeros((32, 48, 17)), np.zeros((32, 48, 17))
        >>> heatmaps[10, 20], heatmaps[10, 40], tags[:, 30:] = 0.9, 0.8, 5.0
        >>> people = decode.associative(heatmaps, tags, subpixel="none")
        >>> people, people[1].joint("nose")[:2]
        (Poses(2 persons, coco_17, scores 0.90 0.80), (40.5, 10.5))
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"`protocol` must be one of {', '.join(map(repr, PROTOCOLS))}. Received: {protocol!r}")
    settings = PROTOCOLS[protocol]
    heatmaps, tags = _checked(heatmaps, tags, skeleton)
    kernel = nms_kernel or settings.nms_kernel
    bands = Bands.of(heatmaps, kernel)
    peaks = find_peaks(heatmaps, max_people, threshold, kernel, settings.first_of_equals, bands)
    people = match(peaks, peak_tags(peaks, heatmaps, tags), skeleton, max_people, tag_threshold)
    if len(people) == 0:
        return Poses.empty(skeleton, image_size)
    people = best_people(people, max_people)
    scores = people[..., 2].mean(axis=1)
    subpixel = settings.subpixel if subpixel is None else subpixel
    if subpixel not in SUBPIXEL:
        raise ValueError(f"`subpixel` must be one of {', '.join(map(repr, SUBPIXEL))}. Received: {subpixel!r}")
    placed = place(people, heatmaps, subpixel)
    if refine:
        placed = add_missing(placed, heatmaps, tags, subpixel, bands)
    keypoints = placed[..., :3] * (*[stride or settings.stride] * 2, 1)
    return Poses(keypoints, scores, skeleton, image_size)


def _checked(heatmaps: np.ndarray, tags: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Both maps as float32, tags as `(H, W, K, T)`, or a ValueError."""
    tags = np.asarray(tags)
    heatmaps = checked_maps(heatmaps, "heatmaps", "HWK", skeleton.num_joints)
    tags = checked_maps(tags[..., None] if tags.ndim == 3 else tags, "tags", "HWKT", skeleton.num_joints)
    ratio = _ratio(heatmaps, tags)
    if ratio < 1 or heatmaps.shape[:2] != (tags.shape[0] * ratio, tags.shape[1] * ratio):
        raise ValueError(
            "`heatmaps` must be as large as `tags`, or larger by a whole number. "
            f"Received: heatmaps {heatmaps.shape}, tags {tags.shape}"
        )
    return heatmaps, tags


def _ratio(heatmaps: np.ndarray, tags: np.ndarray) -> int:
    """Pixels of the heatmaps per pixel of the tags."""
    return heatmaps.shape[0] // tags.shape[0]


def peak_tags(peaks: Peaks, heatmaps: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """The tag at every peak. Shape `(P, T)`."""
    ratio = _ratio(heatmaps, tags)
    return tags[peaks.rows // ratio, peaks.columns // ratio, peaks.joints]


def match(
    peaks: Peaks,
    tags: np.ndarray,
    skeleton: Skeleton = COCO_17,
    max_people: int = 30,
    tag_threshold: float = 1.0,
) -> np.ndarray:
    """Groups peaks into people, joint by joint, torso and head first.

    The peaks of a joint are assigned to the people so far at the least total cost, where a pair costs
    round(distance of the tags) * 100 - score. Peaks left over, or too far off, begin new people. The rounding makes
    costs of neighbouring tags equal: then several assignments are optimal, and the solver takes any of them.

    Args:
        peaks: `Peaks`. Sorted by joint.
        tags: float array of shape `(P, T)`. The tag of each peak.
        skeleton: `Skeleton`. Its `grouping_order` is the order of the joints.
        max_people: int. Only the first so many people gather further joints.
        tag_threshold: float. Largest distance, excluded, between a joint's tag and a person's mean tag.

    Returns:
        Array of shape `(N, K, 3 + T)`: column, row, score and tag of every joint; zeros where a joint is missing.
    """
    entries = np.column_stack([peaks.columns, peaks.rows, peaks.scores, tags]).astype(np.float64)
    people = np.zeros((len(peaks), skeleton.num_joints, entries.shape[1]), np.float32)
    totals, sizes = np.zeros((len(peaks), tags.shape[1])), np.zeros((len(peaks), 1))
    count = 0
    for joint in skeleton.grouping_order or range(skeleton.num_joints):
        candidates = entries[peaks.of(joint)]
        known = min(count, max_people)
        owners = _assign(candidates, totals[:known] / sizes[:known], tag_threshold)
        new = np.flatnonzero(owners < 0)
        owners[new] = count + np.arange(len(new))
        count += len(new)
        people[owners, joint] = candidates
        totals[owners] += candidates[:, 3:]
        sizes[owners] += 1
    return people[:count]


def _assign(candidates: np.ndarray, means: np.ndarray, tag_threshold: float) -> np.ndarray:
    """For every candidate the number of the person it joins, or -1."""
    owners = np.full(len(candidates), -1)
    if len(means) and len(candidates):
        difference = candidates[:, None, 3:] - means
        distance = np.sqrt((difference * difference).sum(axis=-1))
        chosen, person = assign(np.rint(distance) * 100 - candidates[:, 2:3])
        near = distance[chosen, person] < tag_threshold
        owners[chosen[near]] = person[near]
    return owners


def best_people(people: np.ndarray, max_people: int) -> np.ndarray:
    """The `max_people` with the best scores, in the order they had."""
    best = np.argsort(-people[..., 2].mean(axis=1), kind="stable")[:max_people]
    return people[np.sort(best)]


def place(people: np.ndarray, heatmaps: np.ndarray, subpixel: str = "quarter") -> np.ndarray:
    """Moves joints from pixel indices to coordinates (pixel centers at +0.5), between the pixels.

    Args:
        people: array of shape `(N, K, 3 + T)`, as `match` returns it.
        heatmaps: float array of shape `(H, W, K)`.
        subpixel: str. `"quarter"`, `"parabola"` or `"none"`.

    Returns:
        Array like `people`.
    """
    placed = people.copy()
    person, joint = np.nonzero(people[..., 2] > 0)
    column, row = people[person, joint, :2].astype(int).T
    placed[person, joint, :2] += 0.5 + SUBPIXEL[subpixel](heatmaps, row, column, joint)
    return placed


def add_missing(
    people: np.ndarray, heatmaps: np.ndarray, tags: np.ndarray, subpixel: str = "quarter", bands: Bands | None = None
) -> np.ndarray:
    """Places a person's missing joints at argmax(heatmap - round(distance to the person's mean tag)).

    Args:
        people: array of shape `(N, K, 3 + T)`, as `place` returns it.
        heatmaps: float array of shape `(H, W, K)`.
        tags: float array of shape `(H', W', K, T)`, H = ratio * H'.
        subpixel: str. As in `place`.
        bands: `Bands` of the heatmaps of any height, if there are any: they shorten the search.

    Returns:
        Array like `people`. A joint is added only where its heatmap is positive; its tag stays 0.
    """
    found = people[..., 2] > 0
    person, joint = np.nonzero(~found)
    if len(person) == 0:
        return people
    means = np.array([tag[has].mean(axis=0) for tag, has in zip(people[..., 3:], found, strict=True)])
    best = _AgreementSearch(heatmaps, tags, bands or Bands(1, heatmaps)).best_pixels(joint, means[person], people)
    row, column = np.divmod(best, heatmaps.shape[1])
    score = heatmaps[row, column, joint]
    xy = np.stack([column, row], axis=-1) + np.float32(0.5) + SUBPIXEL[subpixel](heatmaps, row, column, joint)
    positive = score > 0
    refined = people.copy()
    refined[person[positive], joint[positive], :3] = np.column_stack([xy, score])[positive]
    return refined


def _penalty(tag: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """round(distance between tag and mean). The T channels of both come first."""
    square = np.float32(0)
    for channel, value in zip(tag, mean, strict=True):
        difference = channel - value
        square += difference * difference
    return np.rint(np.sqrt(square))


class _AgreementSearch:
    """Finds the first pixel where heatmap - `_penalty` is largest, without looking at every pixel.

    Branch and bound: the highest heatmap value of a block of pixels and its range of tags bound what any of its pixels
    can reach. Rounding errors cannot break the bound, because every step of the computation is monotonic in floating
    point too. Blocks whose bound is below a value known to be reached are left out; the rest is searched in full.

    Questions are pairs of a joint and a mean tag. Blocks are numbered row by row.
    """

    about = 8  # pixels of the heatmaps to a side of a block, which is made of whole bands and whole pixels of the tags
    few = 0.05  # share of the blocks that may as well be searched
    questions_at_once = 16
    blocks_at_once = 2048

    def __init__(self, heatmaps: np.ndarray, tags: np.ndarray, bands: Bands) -> None:
        self.heatmaps, self.tags, self.ratio = heatmaps, tags, _ratio(heatmaps, tags)
        unit = lcm(bands.height, self.ratio)
        self.side = unit * max(1, round(self.about / unit))
        self.tag_side = self.side // self.ratio
        (highest,) = reduce_blocks(bands.maxima, self.side // bands.height, self.side, np.maximum)
        self.blocks_across = highest.shape[1]
        self.highest, self.corners = _by_joint(highest), _by_joint(heatmaps[:: self.side, :: self.side])
        self.corner_tags = _by_joint(tags[:: self.tag_side, :: self.tag_side])
        window = tuple(min(self.side, length) for length in heatmaps.shape[:2])
        self.windows = sliding_window_view(heatmaps, window, axis=(0, 1))
        self.tag_windows = sliding_window_view(tags, tuple(length // self.ratio for length in window), axis=(0, 1))

    @cached_property
    def tag_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest tags of the blocks: the costly part, so only where heatmaps alone leave too much."""
        low, high = reduce_blocks(self.tags, self.tag_side, self.tag_side, np.minimum, np.maximum)
        return _by_joint(low), _by_joint(high)

    def best_pixels(self, joint: np.ndarray, mean: np.ndarray, people: np.ndarray) -> np.ndarray:
        """The best pixel for every question.

        Args:
            joint: int array of shape `(Q,)`. Which heatmap.
            mean: float array of shape `(Q, T)`.
            people: array of shape `(N, K, 3 + T)`. Joints that were found: places that may be good ones.

        Returns:
            Int array of shape `(Q,)`: row * width + column.
        """
        parts = [slice(start, start + self.questions_at_once) for start in range(0, len(joint), self.questions_at_once)]
        return np.concatenate([self._answers(joint[part], mean[part].T, people[:, joint[part]]) for part in parts])

    def _answers(self, joint: np.ndarray, mean: np.ndarray, found: np.ndarray) -> np.ndarray:
        question, block = np.nonzero(self._promising(joint, mean, found))
        parts = [slice(start, start + self.blocks_at_once) for start in range(0, len(block), self.blocks_at_once)]
        searched = [self._search(block[part], joint[question[part]], mean[:, question[part]]) for part in parts]
        value, index = (np.concatenate(column) for column in zip(*searched, strict=True))
        starts = np.searchsorted(question, np.arange(len(joint)))
        best = np.maximum.reduceat(value, starts)
        return np.minimum.reduceat(np.where(value == best[question], index, self.heatmaps.size), starts)

    def _promising(self, joint: np.ndarray, mean: np.ndarray, found: np.ndarray) -> np.ndarray:
        """Mask of the blocks that may hold the best pixel, shape `(Q, blocks)`."""
        mean = mean[:, :, None]
        reached = (self.corners[joint] - _penalty(self.corner_tags[:, joint], mean)).max(axis=1)
        scores, tags = found[..., 2].T, np.moveaxis(found[..., 3:], (2, 1), (0, 1))
        known = np.where(scores > 0, scores - _penalty(tags, mean), -np.inf).max(axis=1)
        reached = np.maximum(reached, known)
        bound = self.highest[joint]
        if np.mean(bound >= reached[:, None]) > self.few:
            low, high = (tags[:, joint] for tags in self.tag_range)
            bound = bound - _penalty(np.minimum(np.maximum(mean, low), high), mean)
        return bound >= np.minimum(reached, bound.max(axis=1))[:, None]

    def _search(self, block: np.ndarray, joint: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The best value in each block, and the first of its pixels that has it, for pairs of block and question."""
        down, across = np.divmod(block, self.blocks_across)
        # The last blocks may reach beyond the border: there the window is moved back inside.
        rows, columns = self.windows.shape[:2]
        top, left = np.minimum(down * self.side, rows - 1), np.minimum(across * self.side, columns - 1)
        tag = self.tag_windows[top // self.ratio, left // self.ratio, joint]
        penalty = _penalty(np.moveaxis(tag, 1, 0), mean[:, :, None, None])
        value = self.windows[top, left, joint] - penalty.repeat(self.ratio, axis=1).repeat(self.ratio, axis=2)
        value = value.reshape(len(block), -1)
        first = value.argmax(axis=1)
        down, across = np.divmod(first, self.windows.shape[-1])
        return value[np.arange(len(block)), first], (top + down) * self.heatmaps.shape[1] + left + across


def _by_joint(blocks: np.ndarray) -> np.ndarray:
    """`(By, Bx, K, ...)` as a contiguous `(..., K, By * Bx)`."""
    flat = blocks.reshape(-1, *blocks.shape[2:])
    return np.ascontiguousarray(flat.T)

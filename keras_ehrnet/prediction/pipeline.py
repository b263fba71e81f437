"""From images to people: how each family of networks is fed, and its maps decoded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import TypeGuard

import numpy as np

from keras_ehrnet import decode
from keras_ehrnet.decode import NetworkOutputs
from keras_ehrnet.decode.exported import Size, best_peaks, grouped_peaks, one_person, several_people
from keras_ehrnet.families import FAMILIES
from keras_ehrnet.geometry import Affine, Geometry, box_region, letterbox_geometry, resize_geometry
from keras_ehrnet.poses import Poses
from keras_ehrnet.prediction.refining import refined, together
from keras_ehrnet.runtime.network import Fitted, Network
from keras_ehrnet.support.errors import ModelError
from keras_ehrnet.support.messages import is_whole


@dataclass(frozen=True)
class Settings:
    """How to look for people.

    Args:
        protocol: str. For EfficientHRNet: `"paper"` groups at full resolution as the papers evaluate, `"fast"` straight
            from the network's maps. Exported models that decode by themselves are always fast.
        flip: bool. Whether to average with the mirrored image.
        scales: tuple of float. For EfficientHRNet: image scales to average over; needs the paper's protocol.
        multi_person: bool. For EfficientPose: find several people through the part affinity fields.
        smooth: bool. For EfficientPose: blur the heatmaps before looking for their highest place.
        max_people: int. At most so many people per image.
        min_score: float or None. People with a lower score are left out; None: what was measured for the network's
            weights, see `Network.min_score`.

    Raises:
        ValueError: if settings contradict each other.
    """

    protocol: str = "paper"
    flip: bool = False
    scales: Sequence[float] = (1.0,)
    multi_person: bool = False
    smooth: bool = False
    max_people: int = 30
    min_score: float | None = None

    def __post_init__(self) -> None:
        scales = tuple(self.scales) if isinstance(self.scales, Iterable) else (self.scales,)
        object.__setattr__(self, "scales", scales)
        if self.protocol not in ("paper", "fast"):
            raise ValueError(f"The protocol is 'paper' or 'fast'. Received: protocol={self.protocol!r}")
        if not all(_is_number(scale) and scale > 0 for scale in scales) or (scales != (1,) and 1 not in scales):
            raise ValueError(f"Scales are positive numbers, and one of them is 1. Received: scales={self.scales}")
        if self.protocol == "fast" and scales != (1.0,):
            raise ValueError(f"Several scales need protocol='paper'. Received: protocol='fast', scales={self.scales}")
        if not is_whole(self.max_people):
            raise ValueError(f"max_people is a whole number, 1 or more. Received: max_people={self.max_people!r}")
        if self.min_score is not None and not _is_number(self.min_score):
            raise ValueError(
                f"min_score is a finite number, or None for the network's own. Received: min_score={self.min_score!r}"
            )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_settings(network: Network, settings: Settings) -> None:
    """ValueError for settings that a network cannot follow, rather than a result without them."""
    if settings.scales != (1.0,) and not (_is_grouped(network) and network.any_size):
        raise ValueError(
            "Several scales are for EfficientHRNet's maps with free input sizes. "
            f"Received: scales={settings.scales} for {network.name!r}, input "
            f"{'free' if network.any_size else network.input_size}, decode={network.decode!r}"
        )
    for name, wanted in (("multi_person", settings.multi_person), ("smooth", settings.smooth)):
        if wanted and network.family != "efficientpose":
            raise ValueError(f"{name!r} is for EfficientPose. Received: {name}=True for {network.name!r}")
    _check_maps_needed(network, settings)
    if settings.multi_person and settings.flip:
        raise ValueError("Mirroring is not defined for part affinity fields. Received: flip and multi_person")
    if settings.flip and not _knows_sides(network):
        raise ValueError(
            "Mirroring needs to know left from right: pass skeleton=Skeleton(...) with joints named left_... and "
            f"right_.... Received: flip=True for {network.name!r}, of which nothing says what its keypoints are"
        )


def check_refining(network: Network, refine: Network | None) -> None:
    """ValueError for a second network that cannot place the people of the first."""
    if refine is None:
        return
    if refine.multi_person:
        raise ValueError(f"refine takes a network for one person at a time. Received: refine={refine.name!r}")
    if refine.skeleton.joint_names != network.skeleton.joint_names:
        raise ValueError(
            f"Both networks must have the same joints. Received: {network.name!r} with {network.skeleton.name!r} and "
            f"refine={refine.name!r} with {refine.skeleton.name!r}"
        )


def _check_maps_needed(network: Network, settings: Settings) -> None:
    """Exported models that decode by themselves give no maps, which some settings work on."""
    by_limbs = settings.multi_person and not network.multi_person
    wanted = {"flip": settings.flip, "multi_person": by_limbs, "smooth": settings.smooth}
    needing = [name for name, needed in wanted.items() if needed]
    if network.decode != "none" and needing:
        raise ValueError(
            f"{needing[0]!r} works on maps: export the model with decode='none' for it. "
            f"Received: {needing[0]}=True for {network.name!r} with decode={network.decode!r}"
        )


def _knows_sides(network: Network) -> bool:
    # Joints that are as many as COCO's may be a dog's: their names are a guess, and so would be their sides.
    return getattr(network, "names_joints", True) and network.skeleton.knows_sides


def estimate(
    network: Network,
    images: Sequence[np.ndarray],
    settings: Settings,
    boxes: Sequence[np.ndarray] | None = None,
    refine: Network | None = None,
) -> list[Poses]:
    """People in images.

    Args:
        network: `Network`.
        images: sequence of uint8 RGB arrays of shape `(H, W, 3)`, of any sizes.
        settings: `Settings`.
        refine: `Network` for one person each, or None. It looks again at everyone whom the first network found, cut
            out by the box around their joints, see `prediction.refining`. Not with boxes.
        boxes: sequence of float arrays of shape `(N, 4)`, or None. For networks that take one person each: the left,
            top, right and bottom of the persons in each image. None: the whole image is one person.

    Returns:
        List of `Poses`, one per image, in its pixels: the best people first, or, with boxes, in their order.

    Raises:
        ValueError: if the settings or boxes do not fit the network.
    """
    if boxes is not None:
        if network.multi_person:
            raise ValueError(
                f"Boxes are for networks that take one person each; {network.name!r} finds people by itself. "
                "Received: boxes"
            )
        if refine is not None:
            raise ValueError(
                "Boxes say where people are, so that nobody is found for a second network to look at: give boxes to a "
                f"predictor of that one. Received: boxes with refine={refine.name!r}"
            )
        if len(boxes) != len(images):
            raise ValueError(f"Boxes are given per image. Received: {len(boxes)} for {len(images)} images")
        people = [_in_boxes(network, image, here, settings) for image, here in zip(images, boxes, strict=True)]
    else:
        estimator = _bottom_up if _is_grouped(network) else _whole
        least = network.min_score if settings.min_score is None else settings.min_score
        people = estimator(network, images, settings)
        if refine is not None:
            people = [
                _refined(poses, image, refine, settings, least) for poses, image in zip(people, images, strict=True)
            ]
        people = [_best(poses, settings.max_people, least) for poses in people]
    return [_inside(poses, image) for poses, image in zip(people, images, strict=True)]


def _refined(poses: Poses, image: np.ndarray, network: Network, settings: Settings, least: float) -> Poses:
    """Everyone placed anew by a network for one person each."""
    crops = replace(settings, flip=False)

    def look(boxes: np.ndarray, mirrored: bool) -> Poses:
        return _in_boxes(network, image, boxes, crops, mirrored)

    found = _best(poses, settings.max_people, 0.0)
    return refined(found, look, image.shape[1::-1], least, mirror=_knows_sides(network))


def _best(poses: Poses, max_people: int, min_score: float) -> Poses:
    """The best people, best first."""
    order = np.argsort(-poses.scores, kind="stable")[:max_people]
    return poses[order[poses.scores[order] >= min_score]]


def _inside(poses: Poses, image: np.ndarray) -> Poses:
    """No joint outside the image: networks see padding too, and sometimes find joints there."""
    height, width = image.shape[:2]
    keypoints = poses.keypoints.copy()
    keypoints[..., :2] = np.clip(keypoints[..., :2], 0, (width, height))
    return replace(poses, keypoints=keypoints, image_size=(width, height))


def _is_grouped(network: Network) -> bool:
    """Whether people are put together here, from maps with tags."""
    return network.family == "efficienthrnet" and network.decode == "none"


def _bottom_up(network: Network, images: Sequence[np.ndarray], settings: Settings) -> list[Poses]:
    return [_grouped(network, image, settings) for image in images]


def _grouped(network: Network, image: np.ndarray, settings: Settings) -> Poses:
    """EfficientHRNet on one image: at every scale, as it is and mirrored; then associative embedding."""
    geometries = {scale: _fitted(network, image, scale, min(settings.scales)) for scale in settings.scales}
    outputs = []
    for scale, geometry in geometries.items():
        warped = geometry.warp(image)
        batch = np.stack([warped, warped[:, ::-1]]) if settings.flip else warped[None]
        maps = network(batch)
        for index in range(len(batch)):
            named = {name: maps[name][index] for name in ("heatmaps_4", "tags_4", "heatmaps_2")}
            outputs.append(NetworkOutputs(**named, scale=scale, flipped=bool(index)))
    geometry = geometries[1.0 if 1.0 in geometries else settings.scales[0]]
    size = geometry.resized_width, geometry.resized_height
    if settings.protocol == "fast":
        # Half resolution for the heatmaps; everything else follows from their size.
        size = size[0] // 2, size[1] // 2
    heatmaps, tags = _maps_to_group(outputs, size, network, settings)
    poses = decode.associative(
        heatmaps, tags, skeleton=network.skeleton, protocol=settings.protocol, max_people=settings.max_people
    )
    return _to_image(poses, geometry)


def _maps_to_group(
    outputs: list[NetworkOutputs], size: tuple[int, int], network: Network, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    if settings.protocol == "fast" and not settings.flip:
        (only,) = outputs
        return decode.average_strides(only.heatmaps_4, only.heatmaps_2), only.tags_4
    permutation = network.skeleton.flip_permutation if settings.flip else None
    return decode.aggregate(outputs, size=size, flip_permutation=permutation)


def _fitted(network: Network, image: np.ndarray, scale: float = 1.0, min_scale: float = 1.0) -> Geometry:
    """How a whole image is sized: for EfficientHRNet of any size as its paper does, else to fit into the input."""
    if network.family != "efficienthrnet" or not network.any_size:
        return whole_geometry(network, image)
    height, width = image.shape[:2]
    return resize_geometry(width, height, min(network.input_size), scale, min_scale)


def _whole(network: Network, images: Sequence[np.ndarray], settings: Settings) -> list[Poses]:
    """Networks for one person, and those that find people by themselves: the whole image."""
    return _placed(network, images, [_fitted(network, image) for image in images], settings)


def _in_boxes(
    network: Network, image: np.ndarray, boxes: np.ndarray, settings: Settings, mirrored: bool = False
) -> Poses:
    """Networks for one person, each person cut out by its box, as they are or as the mirror image shows them."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    if not np.isfinite(boxes).all() or (boxes[:, 2:] <= boxes[:, :2]).any():
        raise ValueError(
            f"A box is left, top, right, bottom, with right > left, bottom > top. Received: {boxes.tolist()}"
        )
    if not len(boxes):
        return Poses.empty(network.skeleton)
    geometries = [box_geometry(network, box) for box in boxes]
    crops = replace(settings, multi_person=False)
    return together(_placed(network, [image] * len(boxes), geometries, crops, mirrored))


def heatmap(network: Network, image: np.ndarray) -> np.ndarray:
    """The highest of all heatmaps at every pixel of an image; see `PosePredictor.heatmap`."""
    if network.decode != "none":
        raise ValueError(
            "Heatmaps are shown of networks that give them: the package's own, models of Keras, files exported with "
            f"decode='none'. Received: {network.name!r} with decode={network.decode!r}"
        )
    height, width = image.shape[:2]
    geometry = _fitted(network, image)
    maps = network(geometry.warp(image)[None])
    strides = FAMILIES[network.family].strides
    finest = min((name for name in maps if name.startswith("heatmaps")), key=lambda name: strides[name])
    to_image = geometry.inverse * [[strides[finest]] * 2 + [1]]
    return Affine(to_image, (width, height)).image(maps[finest][0].max(axis=-1).astype(np.float32))


def whole_geometry(network: Fitted, image: np.ndarray) -> Geometry:
    """How an image is fitted into an input of fixed size."""
    height, width = network.input_size
    return letterbox_geometry(image.shape[1], image.shape[0], width, height)


def box_geometry(network: Fitted, box: np.ndarray) -> Geometry:
    """How a person is cut out for a network: its box, a little larger, about its middle."""
    height, width = network.input_size
    return Geometry.fitting(box_region(box), width, height)


def _placed(
    network: Network,
    images: Sequence[np.ndarray],
    geometries: Sequence[Geometry],
    settings: Settings,
    mirrored: bool = False,
) -> list[Poses]:
    people: dict[int, Poses] = {}
    sizes = [(geometry.resized_height, geometry.resized_width) for geometry in geometries]
    for size in dict.fromkeys(sizes):
        alike = [index for index, own in enumerate(sizes) if own == size]
        batch = np.stack([geometries[index].warp(images[index]) for index in alike])
        if mirrored:
            batch = batch[:, :, ::-1]
        maps = network(batch)
        if settings.flip:
            maps = _averaged(maps, network(batch[:, :, ::-1]), network)
        for place, index in enumerate(alike):
            poses = _decoded(network, {name: values[place] for name, values in maps.items()}, size, settings)
            if mirrored:
                poses = _upright(poses, size)
            people[index] = _to_image(poses, geometries[index])
    return [people[index] for index in range(len(images))]


def _upright(poses: Poses, size: Size) -> Poses:
    """People of a mirrored input of a size (height, width), in pixels of the input as it is."""
    keypoints = poses.keypoints[:, list(poses.skeleton.flip_permutation)]
    keypoints[..., 0] = size[1] - keypoints[..., 0]
    return replace(poses, keypoints=keypoints)


def _averaged(maps: dict[str, np.ndarray], flipped: dict[str, np.ndarray], network: Network) -> dict[str, np.ndarray]:
    upright = flipped["heatmaps"][:, :, ::-1, list(network.skeleton.flip_permutation)]
    if network.family == "efficientpose_nas":
        # Strided maps of a mirrored image lie one pixel off; the paper moves them before averaging.
        upright = np.concatenate([upright[:, :, :1], upright[:, :, :-1]], axis=2)
    return {**maps, "heatmaps": (maps["heatmaps"] + upright) / 2}


def _decoded(network: Network, maps: dict[str, np.ndarray], size: Size, settings: Settings) -> Poses:
    """People in one network input of a size (height, width), in its pixels."""
    # Decoders of maps look at their values themselves.
    if network.decode != "none" and not all(np.isfinite(values).all() for values in maps.values()):
        raise ModelError(
            "The network gives NaN or infinity: its file is damaged, or its training went astray. "
            f"Received: {network.name!r}"
        )
    return _DECODERS[network.family, network.decode](network, maps, size, settings)


def _from_maps(network: Network, maps: dict[str, np.ndarray], _: Size, settings: Settings) -> Poses:
    """One person where the heatmaps are highest or, of EfficientPose, several by their limbs."""
    skeleton, family = network.skeleton, FAMILIES[network.family]
    if not settings.multi_person:
        heatmaps, stride = maps["heatmaps"], family.strides["heatmaps"]
        poses = decode.single_person(heatmaps, skeleton=skeleton, smooth=settings.smooth, subpixel=family.subpixel)
        return poses.resized((stride, stride))
    if "pafs" not in maps:
        raise ValueError(f"Several people need part affinity fields, which {network.name!r} does not give.")
    poses = decode.pafs(
        maps["heatmaps_fine"], maps["pafs"], skeleton=skeleton, max_people=settings.max_people, search_missing=True
    )
    stride = family.strides["pafs"]
    return poses.resized((stride, stride))


def _from_peaks(network: Network, maps: dict[str, np.ndarray], size: Size, settings: Settings) -> Poses:
    return best_peaks(maps["peaks"], network.skeleton, size)


def _from_grouped_peaks(network: Network, maps: dict[str, np.ndarray], size: Size, settings: Settings) -> Poses:
    return grouped_peaks(maps["peaks"], network.skeleton, size, settings.max_people)


def _from_poses(network: Network, maps: dict[str, np.ndarray], size: Size, settings: Settings) -> Poses:
    decoded = several_people if network.multi_person else one_person
    return decoded(maps["poses"], network.skeleton, size)


_DECODERS: dict[tuple[str, str], Callable[[Network, dict[str, np.ndarray], Size, Settings], Poses]] = {
    ("efficientpose", "none"): _from_maps,
    ("efficientpose", "peaks"): _from_peaks,
    ("efficientpose", "poses"): _from_poses,
    ("efficientpose_nas", "none"): _from_maps,
    ("efficientpose_nas", "peaks"): _from_peaks,
    ("efficientpose_nas", "poses"): _from_poses,
    ("efficienthrnet", "peaks"): _from_grouped_peaks,
    ("efficienthrnet", "poses"): _from_poses,
}
"""By family and by how much is decoded inside the network. EfficientHRNet's maps need more: see `_grouped`."""


def _to_image(poses: Poses, geometry: Geometry) -> Poses:
    factor = 1 / geometry.factor
    return poses.resized((factor, factor), tuple(geometry.inverse[:, 2]))

"""Decoders of a family as functions of its maps: what is written into files, TensorFlow Lite's and ONNX's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_ehrnet.decode.graph.decoders import associative, average_strides, pafs, peaks, single_person
from keras_ehrnet.families import DETECTION_THRESHOLD, FAMILIES
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.messages import suggestion
from keras_ehrnet.support.terminal import silenced

if TYPE_CHECKING:
    import tensorflow as tf


def maps_needed(family: str, multi_person: bool = False) -> tuple[str, ...]:
    """The maps that a decoder reads.

    Args:
        family: str. Key of `keras_ehrnet.families.FAMILIES`.
        multi_person: bool. Whether several people are told apart by their limbs, in families that take one otherwise.

    Raises:
        ValueError: for a family without such maps.

    Example:
        >>> from keras_ehrnet.decode import graph
        >>> graph.maps_needed("efficientpose", multi_person=True)
        ('heatmaps_fine', 'pafs')
    """
    if multi_person and not FAMILIES[family].by_limbs:
        raise ValueError(
            "Several people are told apart by their limbs in EfficientPose; EfficientHRNet finds several anyway, "
            f"EfficientPose-A/B/C one. Received: multi_person=True for {family!r}"
        )
    return FAMILIES[family].by_limbs if multi_person else FAMILIES[family].decoded


def decoder_function(
    family: str,
    decode: str,
    map_shapes: Mapping[str, tuple[int | None, ...]],
    *,
    skeleton: Skeleton,
    multi_person: bool = False,
    max_people: int = 20,
    max_peaks: int = 20,
    threshold: float = DETECTION_THRESHOLD,
    search_missing: bool = False,
) -> Any:
    """A decoder as a TensorFlow function: a network's maps in, people out.

    Args:
        family: str. Key of `keras_ehrnet.families.FAMILIES`.
        decode: str. `"peaks"` or `"poses"`: also the name of the output.
        map_shapes: mapping of str to tuple of int. Shapes `(1, H, W, K)` of the network's outputs by name; those that
            the decoder does not need are ignored. H and W are None for maps of images of any size that
            `keras_ehrnet.families.side_multiple` divides.
        skeleton: `Skeleton`. What the K joints are.
        multi_person: bool. Whether EfficientPose's people are told apart by their limbs; for `decode="poses"`.
        max_people: int. At most so many people; for `decode="poses"` of several.
        max_peaks: int. At most so many peaks per joint; for `decode="peaks"`.
        threshold: float, not negative. Peaks at or below it are left out.
        search_missing: bool. With `multi_person`: see `pafs`. Tags always lead to joints without a peak.

    Returns:
        `tf.types.experimental.ConcreteFunction` that takes the maps by the names of `maps_needed`, and gives a dict
        with the one output.

    Raises:
        ValueError: if there is no such family or decoder, or a shape does not fit.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet import skeletons
        >>> from keras_ehrnet.decode import graph
        >>> shapes = {"heatmaps": (1, 64, 48, 17)}
        >>> function = graph.decoder_function("efficientpose_nas", "poses", shapes, skeleton=skeletons.COCO_17)
        >>> function(heatmaps=np.zeros((1, 64, 48, 17), np.float32))["poses"].shape.as_list()
        [1, 1, 17, 3]
    """
    import tensorflow as tf

    decodable = [name for name, entry in FAMILIES.items() if entry.decoded]
    if family not in decodable:
        raise ValueError(f"There is no such family of networks. {suggestion(family, decodable)} Received: {family!r}")
    if decode not in _DECODERS:
        raise ValueError(f"There is no such decoder. {suggestion(decode, _DECODERS)} Received: decode={decode!r}")
    if min(max_people, max_peaks) < 1 or threshold < 0:
        raise ValueError(
            "At least one person and peak, and a threshold that is not negative. "
            f"Received: max_people={max_people}, max_peaks={max_peaks}, threshold={threshold}"
        )
    if multi_person and decode != "poses":
        raise ValueError(f"multi_person is for decode='poses'. Received: multi_person=True with decode={decode!r}")
    names = maps_needed(family, multi_person)
    shapes = _checked_shapes(family, names, map_shapes, skeleton)
    options = _Options(family, skeleton, max_people, max_peaks, threshold, search_missing)
    signature = {name: tf.TensorSpec(shape, tf.float32, name) for name, shape in shapes.items()}
    function = tf.function(lambda **maps: {decode: _DECODERS[decode](maps, options)}, autograph=False)
    return function.get_concrete_function(**signature)


def decoder_tflite(
    family: str, decode: str, map_shapes: Mapping[str, tuple[int, ...]], *, skeleton: Skeleton, **settings: Any
) -> bytes:
    """A decoder as a TensorFlow Lite file: a network's maps in, people out.

    Args:
        family, decode, map_shapes, skeleton: as of `decoder_function`.
        settings: its other arguments.

    Returns:
        bytes of the file. Signature `"serving_default"`; its inputs have the names of `maps_needed`.

    Raises:
        ValueError: as of `decoder_function`.

    Example:
        >>> from keras_ehrnet import skeletons
        >>> from keras_ehrnet.decode import graph
        >>> shapes = {"heatmaps": (1, 64, 48, 17)}
        >>> file = graph.decoder_tflite(
        ...     "efficientpose_nas", "poses", shapes, skeleton=skeletons.COCO_17
        ... )  # doctest: +SKIP
    """
    import tensorflow as tf

    module = tf.Module()
    module.decode = decoder_function(family, decode, map_shapes, skeleton=skeleton, **settings)
    with silenced(), tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, module.decode)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        return converter.convert()


@dataclass(frozen=True)
class _Options:
    family: str
    skeleton: Skeleton
    max_people: int
    max_peaks: int
    threshold: float
    search_missing: bool


def _checked_shapes(
    family: str, names: tuple[str, ...], map_shapes: Mapping[str, tuple[int | None, ...]], skeleton: Skeleton
) -> dict[str, tuple[int | None, ...]]:
    shapes = {name: tuple(map_shapes[name]) for name in names if name in map_shapes}
    fits = len(shapes) == len(names) and all(
        len(shape) == 4 and shape[0] == 1 and _channels_fit(name, shape[3], skeleton) for name, shape in shapes.items()
    )
    if not fits or not _sizes_fit({name: shape[1:3] for name, shape in shapes.items()}):
        raise ValueError(
            f"The decoder of {family!r} needs {', '.join(names)} of shapes (1, H, W, {skeleton.num_joints}), H and W "
            "even or, of all, None, pafs with two channels for each limb, as the network gives them. "
            f"Received: {dict(map_shapes)}"
        )
    return shapes


def _channels_fit(name: str, channels: int | None, skeleton: Skeleton) -> bool:
    if name == "pafs":
        return channels in range(2, 2 * len(skeleton.limbs) + 1, 2)
    return channels == skeleton.num_joints


def _sizes_fit(sizes: Mapping[str, tuple[int | None, ...]]) -> bool:
    """Whether maps are of one image: of unknown size, or all as large as their strides make them."""
    sides = [side for size in sizes.values() for side in size]
    known = [side for side in sides if side is not None]
    if len(known) < len(sides):
        return not known
    if "tags_4" not in sizes:
        return len(set(sizes.values())) == 1 and all(side % 2 == 0 for side in known)
    fine = tuple(side * 2 for side in sizes["tags_4"] if side is not None)
    return sizes["heatmaps_4"] == sizes["tags_4"] and sizes["heatmaps_2"] == fine


def _peaks(maps: Mapping[str, tf.Tensor], options: _Options) -> tf.Tensor:
    family = FAMILIES[options.family]
    settings = {"max_peaks": options.max_peaks, "threshold": options.threshold}
    settings |= {"kernel": family.window, "subpixel": family.subpixel}
    if "tags_4" in maps:
        return peaks(average_strides(maps["heatmaps_4"], maps["heatmaps_2"]), maps["tags_4"], **settings)
    return peaks(maps["heatmaps"], **settings)


def _poses(maps: Mapping[str, tf.Tensor], options: _Options) -> tf.Tensor:
    if "tags_4" in maps:
        return associative(
            **maps,
            skeleton=options.skeleton,
            max_people=options.max_people,
            threshold=options.threshold,
        )
    if "pafs" in maps:
        return pafs(
            maps["heatmaps_fine"],
            maps["pafs"],
            skeleton=options.skeleton,
            max_people=options.max_people,
            threshold=options.threshold,
            search_missing=options.search_missing,
        )
    return single_person(maps["heatmaps"], subpixel=FAMILIES[options.family].subpixel)


_DECODERS: dict[str, Callable[[Mapping[str, tf.Tensor], _Options], tf.Tensor]] = {"peaks": _peaks, "poses": _poses}

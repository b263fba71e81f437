"""The published systems, and how to tell which one a network belongs to."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Family:
    """One of the published systems.

    Args:
        title: str. Its name in print.
        paper: str. Where it was published.
        top_down: bool. Whether it takes images of one person.
        counts: str. What the paper's parameters and FLOPs count, in one sentence.
        multiple: int. What the sides of its input are multiples of.
        strides: mapping of the name of a map that it gives to pixels of the input per cell.
        decoded: tuple of str. The maps that people are decoded from; empty for a classifier.
        by_limbs: tuple of str. The maps that tell several people apart by their limbs, for families that take one
            person otherwise; empty where there are none.
        window: int. Of a peak, in cells of the finest map that is decoded.
        subpixel: str. How a joint's place is found between the cells of that map: key of `decode.peaks.SUBPIXEL`.

    Example:
        >>> from keras_ehrnet.families import FAMILIES
        >>> FAMILIES["efficientpose"].strides["pafs"], FAMILIES["efficientpose"].by_limbs
        (8, ('heatmaps_fine', 'pafs'))
    """

    title: str
    paper: str
    top_down: bool
    counts: str
    multiple: int
    strides: Mapping[str, int] = field(default_factory=dict)
    decoded: tuple[str, ...] = ()
    by_limbs: tuple[str, ...] = ()
    window: int = 3
    subpixel: str = "none"


FAMILIES: dict[str, Family] = {
    "efficienthrnet": Family(
        "EfficientHRNet",
        "arXiv 2007.08090",
        False,
        "The paper counts the backbone's parameters twice, and multiply-adds with the transposed convolution at its "
        "output resolution.",
        multiple=32,
        strides={"heatmaps_4": 4, "tags_4": 4, "heatmaps_2": 2},
        decoded=("heatmaps_4", "heatmaps_2", "tags_4"),
        subpixel="parabola",
    ),
    "efficientpose": Family(
        "EfficientPose",
        "arXiv 2004.12186",
        True,
        "The paper counts all weights, batch-norm statistics included, of the network without its intermediate "
        "outputs, and two operations per multiply-add.",
        multiple=8,
        strides={"heatmaps_coarse": 8, "heatmaps_fine": 8, "heatmaps": 1, "pafs": 8},
        decoded=("heatmaps",),
        by_limbs=("heatmaps_fine", "pafs"),
        window=5,
        subpixel="parabola",
    ),
    "efficientpose_nas": Family(
        "EfficientPose-A/B/C",
        "doi 10.1007/s41095-021-0214-z",
        True,
        "The paper counts multiply-adds with transposed convolutions at their output resolution.",
        multiple=16,
        strides={"heatmaps": 4},
        decoded=("heatmaps",),
        subpixel="quarter",
    ),
    "efficientnet": Family("EfficientNet", "arXiv 2007.08090", True, "The paper counts trainable parameters.", 32),
}

MAPS: dict[str, str] = {
    "heatmaps": "(batch, y, x, joint): where the joints are",
    "heatmaps_2": "(batch, y, x, joint): where the joints are, at half the input's size",
    "heatmaps_4": "(batch, y, x, joint): where the joints are, at a quarter of the input's size",
    "heatmaps_coarse": "(batch, y, x, joint): where the joints are, at an eighth of the input's size, first estimate",
    "heatmaps_fine": "(batch, y, x, joint): where the joints are, at an eighth of the input's size",
    "pafs": "(batch, y, x, 2 limb + axis): x and y of the direction of limbs, at an eighth of the input's size",
    "tags_4": "(batch, y, x, joint): near values belong to the same person, at a quarter of the input's size",
}
"""How to read the maps that networks give, in words."""

DETECTION_THRESHOLD = 0.1
"""Peaks at or below it are no joints of anyone, where people are told apart by tags."""


def side_multiple(family: str, multi_person: bool = False) -> int:
    """What the sides of images are multiples of, where a network takes them of any size.

    Args:
        family: str. Key of `FAMILIES`.
        multi_person: bool. Whether several people are told apart behind the network, which takes even sides of maps.

    Returns:
        int. Pixels.

    Example:
        >>> from keras_ehrnet.families import side_multiple
        >>> side_multiple("efficientpose"), side_multiple("efficientpose", multi_person=True)
        (8, 16)
    """
    entry = FAMILIES[family]
    return math.lcm(entry.multiple, *(2 * entry.strides[name] for name in entry.by_limbs if multi_person))


# Names of outputs that only one family has, asked in this order.
_FAMILY_BY_OUTPUT = {"heatmaps_4": "efficienthrnet", "heatmaps_fine": "efficientpose", "heatmaps": "efficientpose_nas"}


def family_of(output_names: object) -> str:
    """Which family a network belongs to, told by the names of its outputs; a classifier has none.

    Example:
        >>> from keras_ehrnet.families import family_of
        >>> family_of({"heatmaps_4", "tags_4", "heatmaps_2"})
        'efficienthrnet'
    """
    names = set(output_names) if isinstance(output_names, (Mapping, list, tuple, set)) else set()
    return next((family for output, family in _FAMILY_BY_OUTPUT.items() if output in names), "efficientnet")


PartName = Literal["backbone", "neck", "heads"]
"""Parts of a network: the first two, its trunk, see; the last gives maps or classes."""

_BACKBONE = re.compile(r"(stem|block\d|top_)")
_HEADS = re.compile(r"(heatmaps|tags|pafs|upscaling|predictions)")


def part_of(layer_name: str) -> PartName:
    """Which part of a network of any family a layer belongs to, told by its name.

    Example:
        >>> from keras_ehrnet.families import part_of
        >>> part_of("block3a_dwconv"), part_of("stage2_module0_branch0_block0_conv1"), part_of("heatmaps_4")
        ('backbone', 'neck', 'heads')
    """
    return "backbone" if _BACKBONE.match(layer_name) else "heads" if _HEADS.match(layer_name) else "neck"

"""The published systems, and how to tell which one a network belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """One of the published systems.

    Args:
        title: str. Its name in print.
        paper: str. Where it was published.
        top_down: bool. Whether it takes images of one person.
        counts: str. What the paper's parameters and FLOPs count, in one sentence.
    """

    title: str
    paper: str
    top_down: bool
    counts: str


FAMILIES: dict[str, Family] = {
    "efficienthrnet": Family(
        "EfficientHRNet",
        "arXiv 2007.08090",
        False,
        "The paper counts the backbone's parameters twice, and multiply-adds with the transposed convolution at its "
        "output resolution.",
    ),
    "efficientpose": Family(
        "EfficientPose",
        "arXiv 2004.12186",
        True,
        "The paper counts all weights, batch-norm statistics included, of the network without its intermediate "
        "outputs, and two operations per multiply-add.",
    ),
    "efficientpose_nas": Family(
        "EfficientPose-A/B/C",
        "doi 10.1007/s41095-021-0214-z",
        True,
        "The paper counts multiply-adds with transposed convolutions at their output resolution.",
    ),
    "efficientnet": Family("EfficientNet", "arXiv 2007.08090", True, "The paper counts trainable parameters."),
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

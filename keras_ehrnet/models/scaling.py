"""Compound scaling: every size of every network follows from a few coefficients, tabulated here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from keras_ehrnet.support.messages import suggestion

Key = TypeVar("Key")
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class BackboneScaling:
    """EfficientNet's coefficients.

    Args:
        width: float. Multiplies the channels of every stage.
        depth: float. Multiplies the blocks of every stage.
        resolution: int. Side of the square input image, in pixels.
    """

    width: float
    depth: float
    resolution: int

    def channels(self, channels: int) -> int:
        """Scaled width: a multiple of 8, never less than 90 % of the exact value."""
        exact = channels * self.width
        rounded = max(8, int(exact + 4) // 8 * 8)
        return rounded if rounded >= 0.9 * exact else rounded + 8

    def repeats(self, repeats: int) -> int:
        """Scaled number of blocks, rounded up."""
        return math.ceil(repeats * self.depth)


@dataclass(frozen=True)
class Stage:
    """One stage of inverted residual blocks.

    Args:
        expansion: int. Width inside the block over the width that enters it.
        channels: int. Width that leaves the stage.
        repeats: int. Number of blocks.
        strides: int. Stride of the first block.
        kernel: int. Side of the depthwise kernel.
    """

    expansion: int
    channels: int
    repeats: int
    strides: int
    kernel: int


EFFICIENTNET_STEM = 32
EFFICIENTNET_TOP = 1280
EFFICIENTNET_STAGES: tuple[Stage, ...] = (
    Stage(1, 16, 1, 1, 3),
    Stage(6, 24, 2, 2, 3),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2, 3),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
    Stage(6, 320, 1, 1, 3),
)

# Downward: the three-decimal values of the EfficientHRNet paper. Upward: EfficientNet's own B1..B7.
EFFICIENTNET_SCALING: dict[int, BackboneScaling] = {
    -4: BackboneScaling(0.684, 0.483, 128),
    -3: BackboneScaling(0.751, 0.578, 145),
    -2: BackboneScaling(0.826, 0.694, 170),
    -1: BackboneScaling(0.909, 0.833, 195),
    0: BackboneScaling(1.0, 1.0, 224),
    1: BackboneScaling(1.0, 1.1, 240),
    2: BackboneScaling(1.1, 1.2, 260),
    3: BackboneScaling(1.2, 1.4, 300),
    4: BackboneScaling(1.4, 1.8, 380),
    5: BackboneScaling(1.6, 2.2, 456),
    7: BackboneScaling(2.0, 3.1, 600),
}


@dataclass(frozen=True)
class HighResolutionScaling:
    """EfficientHRNet's sizes for one phi.

    Args:
        phi: int. The compound coefficient.
        resolution: int. Short side of the input image, in pixels.
        branch_widths: tuple of 4 ints. Channels of the branches at strides 4, 8, 16 and 32.
        modules: tuple of 3 ints. High-resolution modules in stages 2, 3 and 4.
    """

    phi: int
    resolution: int
    branch_widths: tuple[int, int, int, int]
    modules: tuple[int, int, int]


BRANCH_WIDTH_FACTOR = 1.2455
"""The factor that gives the paper's Table 1; equation (5) as printed (1.25) does not."""

# Stage 3 shrinks by one module per step down and grows by one per step up; the paper's Table 1 ends at (1, 1, 2).
EFFICIENTHRNET_MODULES: dict[int, tuple[int, int, int]] = {
    -4: (1, 1, 2),
    -3: (1, 1, 3),
    -2: (1, 2, 3),
    -1: (1, 3, 3),
    0: (1, 4, 3),
    1: (1, 5, 3),
    2: (1, 6, 3),
    3: (1, 7, 3),
}


def efficienthrnet_scaling(phi: int) -> HighResolutionScaling:
    """Sizes of EfficientHRNet for a compound coefficient (section 3 and Table 1 of arXiv 2007.08090).

    The paper tabulates phi = 0..-4. The same formulas go up: 32 pixels of input and one module in stage 3 per step,
    branch widths by the same factor, with EfficientNet B1..B3 as the backbone.

    Args:
        phi: int. From -4 to 3.

    Returns:
        `HighResolutionScaling`.

    Raises:
        ValueError: if phi is outside that range; the message names the nearest valid value.

    Example:
        >>> from keras_ehrnet.models.scaling import efficienthrnet_scaling
        >>> efficienthrnet_scaling(-2).branch_widths
        (21, 42, 83, 166)
    """
    modules = lookup(EFFICIENTHRNET_MODULES, phi, "phi of EfficientHRNet")
    a, b, c, d = (math.ceil(channels * BRANCH_WIDTH_FACTOR**phi) for channels in (32, 64, 128, 256))
    return HighResolutionScaling(phi, 512 + 32 * phi, (a, b, c, d), modules)


def lookup(table: Mapping[Key, Entry], key: Key, what: str) -> Entry:
    """The entry of a table of sizes, or a `ValueError` that names the nearest valid key."""
    # NumPy's whole numbers are as good as Python's; others, such as -2.0, would end up in names.
    valid = hasattr(key, "__index__") or isinstance(key, str)
    if isinstance(key, bool) or not valid or key not in table:
        raise ValueError(f"Unknown {what}. {suggestion(key, table)} Received: {key!r}")
    return table[key]

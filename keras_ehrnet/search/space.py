"""What a search chooses from: a small record of widths, depths, kernels and expansions, and the networks in it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from pydantic.dataclasses import dataclass

from keras_ehrnet.models.searched import STRIDE, Block, SearchedBackbone
from keras_ehrnet.support.messages import is_whole
from keras_ehrnet.training.values import CHECKED, Count

Architecture = tuple[int, ...]
"""A network of a space: of every decision the number of the option that is taken, from 0."""


class Decision(NamedTuple):
    """One choice that a search makes.

    Args:
        name: str, such as `"stage2.block1.kernel"`.
        options: tuple. What there is to choose from; of a block that may be left out, True (kept) and False.
    """

    name: str
    options: tuple[int, ...] | tuple[bool, ...]


class Slot(NamedTuple):
    """Where a block may be, and which decisions it depends on, by their numbers.

    Args:
        name: str, such as `"stage2.block1"`.
        stride: int.
        width_in: int, or None behind the stem, whose width is fixed.
        width_out: int.
        kernel: int.
        expansion: int.
        kept: int, or None for the first block of a stage, which is always there.
    """

    name: str
    stride: int
    width_in: int | None
    width_out: int
    kernel: int
    expansion: int
    kept: int | None


@dataclass(frozen=True, config=CHECKED)
class Space:
    """Backbones of the family of EfficientPose-A/B/C: a stem, then stages of inverted residual blocks.

    Of every stage a width is chosen, of every block a kernel and an expansion; all blocks but a stage's first, which
    may have a stride, may be left out.

    Args:
        stem: int. Channels after the stem.
        widths: tuple of tuple of int. What a stage's channels may be.
        depths: tuple of int. Most blocks of a stage.
        strides: tuple of int. Stride of a stage's first block.
        kernels: tuple of int. Odd sides of depthwise kernels.
        expansions: tuple of int. Channels inside a block for each that enters it, at least 2.

    Raises:
        ValueError: for values that cannot be, or do not go together.

    Example:
        >>> from keras_ehrnet.search.space import Space
        >>> space = Space(stem=8, widths=((8, 16), (16, 24), (32,)), depths=(1, 2, 1), strides=(2, 2, 2))
        >>> len(space.decisions), space.size
        (12, 10368)
        >>> space.derive((0,) * 12).blocks
        ((3, 3, 8, 2), (3, 3, 16, 2), (3, 3, 16, 1), (3, 3, 32, 2))
    """

    stem: Count = 16
    widths: tuple[tuple[Count, ...], ...] = ((16, 24), (24, 32), (48, 64), (80, 96))
    depths: tuple[Count, ...] = (4, 6, 8, 8)
    strides: tuple[Count, ...] = (2, 2, 2, 1)
    kernels: tuple[Count, ...] = (3, 5, 7)
    expansions: tuple[Count, ...] = (3, 6)

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.depths) == len(self.strides) > 0:
            raise ValueError(
                "space.widths, depths and strides have a value for every stage. Received: "
                f"{len(self.widths)}, {len(self.depths)} and {len(self.strides)} values"
            )
        lists = {"kernels": self.kernels, "expansions": self.expansions}
        lists |= {f"widths[{stage}]": widths for stage, widths in enumerate(self.widths)}
        for name, options in lists.items():
            if not options or list(options) != sorted(set(options)):
                raise ValueError(f"space.{name} must be one number or more, rising. Received: {list(options)}")
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError(f"space.kernels must be odd. Received: {list(self.kernels)}")
        if self.expansions[0] < 2:
            raise ValueError(f"space.expansions must be at least 2. Received: {list(self.expansions)}")
        if any(stride > 2 for stride in self.strides) or 2 * int(np.prod(self.strides)) != STRIDE:
            raise ValueError(
                f"space.strides are 1 or 2, and make images {STRIDE // 2} times smaller, the stem having halved them. "
                f"Received: {list(self.strides)}"
            )
        before = {self.stem}
        for stage, (widths, stride) in enumerate(zip(self.widths, self.strides, strict=True)):
            if stride == 1 and before & set(widths):
                raise ValueError(
                    f"space.widths[{stage}] of a stage of stride 1 must be others than those before it, or a shortcut "
                    f"would come and go with the width. Received: {sorted(before & set(widths))} in both"
                )
            before = set(widths)

    @cached_property
    def _plan(self) -> tuple[tuple[Decision, ...], tuple[Slot, ...]]:
        decisions: list[Decision] = []
        slots: list[Slot] = []

        def decide(name: str, options: Sequence[Any]) -> int:
            decisions.append(Decision(name, tuple(options)))
            return len(decisions) - 1

        before = None
        for stage, (widths, depth, stride) in enumerate(zip(self.widths, self.depths, self.strides, strict=True)):
            width = decide(f"stage{stage}.width", widths)
            for block in range(depth):
                name = f"stage{stage}.block{block}"
                kept = decide(f"{name}.kept", (True, False)) if block else None
                kernel = decide(f"{name}.kernel", self.kernels)
                expansion = decide(f"{name}.expansion", self.expansions)
                slots.append(
                    Slot(name, 1 if block else stride, width if block else before, width, kernel, expansion, kept)
                )
            before = width
        return tuple(decisions), tuple(slots)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """All choices, in the order of an `Architecture`."""
        return self._plan[0]

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Where blocks may be, in their order."""
        return self._plan[1]

    @property
    def size(self) -> int:
        """How many combinations of options there are."""
        size = 1
        for decision in self.decisions:
            size *= len(decision.options)
        return size

    @property
    def largest(self) -> Architecture:
        """The network that all others are parts of: every block is there, and as wide as it may be."""
        return tuple(0 if _is_kept(one) else len(one.options) - 1 for one in self.decisions)

    def value(self, architecture: Architecture, decision: int) -> int | bool:
        """What an architecture takes for a decision."""
        return self.decisions[decision].options[architecture[decision]]

    def width_in(self, architecture: Architecture, slot: Slot) -> int:
        """Channels that enter a block."""
        return self.stem if slot.width_in is None else int(self.value(architecture, slot.width_in))

    def sample(self, generator: np.random.Generator, lean: float | None = None) -> Architecture:
        """A network at random.

        Args:
            generator: `numpy.random.Generator`.
            lean: float from 0 to 1, or None. From 0, where everything is small and left out that may be, to 1, where
                nothing is: random networks differ little in cost, those of different leans differ as the space does.
                None: every option of a decision is as likely.

        Example:
            >>> import numpy as np
            >>> from keras_ehrnet.search.space import Space
            >>> space = Space()
            >>> len(space.sample(np.random.default_rng(0))) == len(space.decisions)
            True
        """
        if lean is None:
            return tuple(int(generator.integers(len(decision.options))) for decision in self.decisions)
        return tuple(int(generator.binomial(len(one.options) - 1, _likely(one, lean))) for one in self.decisions)

    def check(self, architecture: Sequence[int]) -> Architecture:
        """The architecture as it is.

        Raises:
            ValueError: if it is none of this space.
        """
        counts = [len(decision.options) for decision in self.decisions]
        if len(architecture) != len(counts) or not all(
            is_whole(option, 0) and option < count for option, count in zip(architecture, counts, strict=True)
        ):
            raise ValueError(
                f"An architecture of this space has {len(counts)} numbers, each below its number of options. "
                f"Received: {tuple(architecture)}"
            )
        return tuple(map(int, architecture))

    def derive(
        self,
        architecture: Sequence[int],
        name: str = "searched",
        input_size: tuple[int, int] = (256, 192),
        about: dict[str, Any] | None = None,
    ) -> SearchedBackbone:
        """The network of an architecture, as `EfficientPoseNAS(blocks=...)` takes it.

        Args:
            architecture: sequence of int, see `Architecture`.
            name: str. Name of the model.
            input_size: tuple (height, width) in pixels.
            about: mapping of plain values. Where it is from.

        Raises:
            ValueError: if it is none of this space.
        """
        architecture = self.check(architecture)
        blocks = tuple(self._block(architecture, slot) for slot in self.slots)
        return SearchedBackbone(name, self.stem, blocks, input_size, about or {})

    def _block(self, architecture: Architecture, slot: Slot) -> Block | None:
        if slot.kept is not None and not self.value(architecture, slot.kept):
            return None
        kernel, expansion, width = (
            int(self.value(architecture, number)) for number in (slot.kernel, slot.expansion, slot.width_out)
        )
        return kernel, expansion, width, slot.stride


def _likely(decision: Decision, lean: float) -> float:
    """How likely each step from a decision's first option to its last is: a block is kept first, then left out."""
    return 1 - lean if _is_kept(decision) else lean


def _is_kept(decision: Decision) -> bool:
    return decision.options == (True, False)

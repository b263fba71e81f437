"""What networks of a space cost: a table with every block that there may be, at its shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from keras_ehrnet.models.efficientpose_nas import DECONVOLUTION_WIDTHS, STEM
from keras_ehrnet.models.searched import STRIDE
from keras_ehrnet.search.space import Architecture, Slot, Space


class BlockAt(NamedTuple):
    """An inverted residual block at its shapes; `height` and `width` in cells, of what enters it."""

    height: int
    width: int
    channels_in: int
    channels_out: int
    kernel: int
    expansion: int
    stride: int


def block_macs(block: BlockAt) -> int:
    """Multiply-adds of a block, as `keras_ehrnet.profile` counts them."""
    inside = block.channels_in * block.expansion
    cells = block.height * block.width
    leaving = (block.height // block.stride) * (block.width // block.stride)
    return cells * block.channels_in * inside + leaving * inside * (block.kernel**2 + block.channels_out)


def stem_macs(input_size: tuple[int, int], width: int) -> int:
    """Multiply-adds of the stem."""
    cells = input_size[0] // 2 * (input_size[1] // 2)
    return cells * STEM * (3 * 3 * 3 + 3 * 3 + width)


def head_macs(input_size: tuple[int, int], width: int, num_keypoints: int) -> int:
    """Multiply-adds of the head behind a backbone of so many channels."""
    cells, total = input_size[0] // STRIDE * (input_size[1] // STRIDE), 0
    for channels in DECONVOLUTION_WIDTHS:
        total += cells * 4 * 4 * width * channels
        cells, width = 4 * cells, channels
    return total + cells * width * (3 * 3 + num_keypoints)


@dataclass(frozen=True, eq=False)
class Cost:
    """The cost of every network of a space, and of mixtures of them.

    Args:
        space: `Space`.
        unit: str. `"MACs"` or `"ms"`.
        stem: float. Cost of the stem.
        head: array `(options of the last width,)`.
        blocks: tuple of arrays, one per slot, `(options of the width before it, of width_out, of kernel, of
            expansion)`; the first of them is 1 where that width is fixed, or the same as behind it.

    Example:
        >>> from keras_ehrnet.search.cost import multiply_adds
        >>> from keras_ehrnet.search.space import Space
        >>> space = Space()
        >>> cost = multiply_adds(space, (256, 192), 17)
        >>> cost.of((0,) * len(space.decisions)) > cost.of(cost.cheapest)
        True
    """

    space: Space
    unit: str
    stem: float
    head: np.ndarray
    blocks: tuple[np.ndarray, ...]

    def of(self, architecture: Architecture) -> float:
        """The cost of one network."""
        total = self.stem + self.head[architecture[self.space.slots[-1].width_out]]
        for slot, costs in zip(self.space.slots, self.blocks, strict=True):
            if slot.kept is None or self.space.value(architecture, slot.kept):
                before = _width_before(slot)
                entering = 0 if before is None else architecture[before]
                options = (architecture[number] for number in (slot.width_out, slot.kernel, slot.expansion))
                total += costs[(entering, *options)]
        return float(total)

    def expected(self, gates: Sequence[Any], einsum: Callable[..., Any] = np.einsum) -> Any:
        """The mean cost of networks whose options are drawn independently.

        Args:
            gates: vectors, one per decision: how likely its options are.
            einsum: callable. NumPy's, or that of `keras.ops` for tensors, through which gradients go.

        Returns:
            float, or a scalar tensor.
        """
        total = self.stem + einsum("i,i->", self.head.astype(np.float32), gates[self.space.slots[-1].width_out])
        for slot, costs in zip(self.space.slots, self.blocks, strict=True):
            vectors = [gates[number] for number in (slot.width_out, slot.kernel, slot.expansion)]
            before = _width_before(slot)
            entering = np.ones(1, np.float32) if before is None else gates[before]
            term = einsum("abke,a,b,k,e->", costs.astype(np.float32), entering, *vectors)
            total = total + (term if slot.kept is None else term * gates[slot.kept][0])
        return total

    @cached_property
    def cheapest(self) -> Architecture:
        """The network that costs least: all blocks left out that may be, the widths that go best together."""
        # A block depends on two widths; the best way to every width of a stage goes on from one of the stage before.
        # Later blocks of a stage are left out: whatever they choose costs nothing.
        ways: list[tuple[float, dict[int, int]]] = [(self.stem, {})]
        slots, decisions = self.space.slots, self.space.decisions
        for slot, costs in zip(slots, self.blocks, strict=True):
            if slot.kept is not None:
                ways = [(cost, {**taken, slot.kept: 1}) for cost, taken in ways]
                continue
            ways = [
                min(
                    (
                        (cost + costs[a, b, k, e], {**taken, slot.width_out: b, slot.kernel: k, slot.expansion: e})
                        for a, (cost, taken) in enumerate(ways)
                        for k, e in np.ndindex(costs.shape[2:])
                    ),
                    key=itemgetter(0),
                )
                for b in range(costs.shape[1])
            ]
        last = [(cost + head, taken) for (cost, taken), head in zip(ways, self.head, strict=True)]
        taken = min(last, key=itemgetter(0))[1]
        return tuple(taken.get(number, 0) for number in range(len(decisions)))

    def sample(
        self, generator: np.random.Generator, least: float = 0.0, most: float = np.inf, tries: int = 20_000
    ) -> Architecture:
        """A network at random among those that cost so much.

        Args:
            generator: `numpy.random.Generator`.
            least: float. The least that it may cost.
            most: float. The most, likewise.
            tries: int. Networks to draw, of which the first that fits is taken.

        Raises:
            ValueError: if none of them fits.
        """
        for _ in range(tries):
            architecture = self.space.sample(generator)
            if least <= self.of(architecture) <= most:
                return architecture
        raise ValueError(
            f"None of {tries} random networks of this space costs so much; the cheapest costs "
            f"{self.text(self.of(self.cheapest))}. Received: from {self.text(least)} to {self.text(most)}"
        )

    def check_limit(self, limit: float | None) -> None:
        """ValueError where no network of the space is within a limit; it says what the cheapest one costs."""
        least = self.of(self.cheapest)
        if limit is not None and least > limit:
            raise ValueError(
                f"No network of this space is within the limit: the cheapest costs {self.text(least)}. Raise "
                f"search.limit, or give the space smaller widths. Received: search.limit={limit:g} {self.unit}"
            )

    def text(self, cost: float) -> str:
        """A cost for people, such as `"12.3M MACs"` or `"4.56 ms"`."""
        return f"{cost / 1e6:.1f}M MACs" if self.unit == "MACs" else f"{cost:.2f} {self.unit}"


def make_cost(
    space: Space,
    input_size: tuple[int, int],
    unit: str,
    stem: float,
    head: Callable[[int], float],
    block: Callable[[BlockAt], float],
) -> Cost:
    """A `Cost` from functions that tell what a head behind so many channels, and what a block costs."""
    height, width = input_size[0] // 2, input_size[1] // 2
    tables = []
    for slot in space.slots:
        tables.append(np.array([block(at) for at in _candidates(space, slot, height, width)], np.float64))
        tables[-1] = tables[-1].reshape(_options(space, slot))
        height, width = height // slot.stride, width // slot.stride
    heads = np.array([head(channels) for channels in space.widths[-1]], np.float64)
    return Cost(space, unit, float(stem), heads, tuple(tables))


def candidates(space: Space, input_size: tuple[int, int]) -> list[BlockAt]:
    """Every block that a network of the space may have, at its shapes, each once."""
    seen: dict[BlockAt, None] = {}

    def note(block: BlockAt) -> float:
        seen[block] = None
        return 0.0

    make_cost(space, input_size, "", 0.0, lambda channels: 0.0, note)
    return list(seen)


def multiply_adds(space: Space, input_size: tuple[int, int], num_keypoints: int) -> Cost:
    """What networks of a space cost in multiply-adds, exactly as `keras_ehrnet.profile` counts them.

    Args:
        space: `Space`.
        input_size: tuple (height, width) in pixels.
        num_keypoints: int.
    """
    stem = stem_macs(input_size, space.stem)
    return make_cost(
        space, input_size, "MACs", stem, lambda width: head_macs(input_size, width, num_keypoints), block_macs
    )


def _width_before(slot: Slot) -> int | None:
    """The decision on the channels that enter a block, where it is another one than that on those that leave."""
    return None if slot.width_in == slot.width_out else slot.width_in


def _options(space: Space, slot: Slot) -> tuple[int, int, int, int]:
    before = _width_before(slot)
    entering = 1 if before is None else len(space.decisions[before].options)
    return entering, len(space.decisions[slot.width_out].options), len(space.kernels), len(space.expansions)


def _candidates(space: Space, slot: Slot, height: int, width: int) -> list[BlockAt]:
    leaving = space.decisions[slot.width_out].options
    if slot.width_in == slot.width_out:
        widths = [(channels, channels) for channels in leaving]
    else:
        entering = (space.stem,) if slot.width_in is None else space.decisions[slot.width_in].options
        widths = list(product(entering, leaving))
    return [
        BlockAt(height, width, a, b, kernel, expansion, slot.stride)
        for (a, b), kernel, expansion in product(widths, space.kernels, space.expansions)
    ]

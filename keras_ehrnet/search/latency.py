"""Tables of milliseconds: what every block of a space took on a device."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_ehrnet.search.cost import BlockAt, Cost, make_cost
from keras_ehrnet.search.space import Space
from keras_ehrnet.support.errors import LatencyError, reading
from keras_ehrnet.support.files import write_file

FORMAT = "keras-ehrnet latency"
VERSION = 1


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of blocks, and of what a network has besides them.

    Args:
        input_size: tuple (height, width) in pixels that networks take.
        num_keypoints: int.
        stem: int. Channels after the stem.
        precision: str. `"float32"` or `"int8"`.
        blocks: mapping of `BlockAt` to milliseconds.
        rest: mapping of the channels that leave the last block to milliseconds of stem and head.
        about: mapping of plain values: machine, versions, threads.
        check: sequence of (predicted, measured) milliseconds of whole networks.

    Example:
        >>> from keras_ehrnet.search.latency import LatencyTable
        >>> LatencyTable((64, 64), 17, 8, "int8", {}, {}, check=[(1.0, 1.1), (2.0, 2.0), (3.0, 3.3)]).told()
        'Of 3 networks, predicted and measured milliseconds: correlation 0.995, mean error 6.1 %.'
    """

    input_size: tuple[int, int]
    num_keypoints: int
    stem: int
    precision: str
    blocks: Mapping[BlockAt, float]
    rest: Mapping[int, float]
    about: Mapping[str, Any] = field(default_factory=dict)
    check: Sequence[tuple[float, float]] = ()

    def cost(self, space: Space, input_size: tuple[int, int], num_keypoints: int) -> Cost:
        """What networks of a space cost in milliseconds.

        Raises:
            LatencyError: if the table was measured for other shapes.
        """
        own = (tuple(self.input_size), self.num_keypoints, self.stem)
        if own != (tuple(input_size), num_keypoints, space.stem):
            raise LatencyError(
                f"The table was measured for input_size={list(own[0])}, {own[1]} keypoints and a stem of {own[2]} "
                "channels: measure again with keras-ehrnet search measure. Received: a recipe of "
                f"input_size={list(input_size)}, {num_keypoints} keypoints and a stem of {space.stem} channels"
            )

        def block_ms(block: BlockAt) -> float:
            if block not in self.blocks:
                raise LatencyError(
                    "The table was measured for another space: measure again with keras-ehrnet search measure. "
                    f"Received: a recipe with {block}, which the table lacks"
                )
            return self.blocks[block]

        def rest_ms(width: int) -> float:
            if width not in self.rest:
                raise LatencyError(
                    "The table was measured for another space: measure again with keras-ehrnet search measure. "
                    f"Received: a recipe with {width} channels before the head, which the table lacks"
                )
            return self.rest[width]

        return make_cost(space, input_size, "ms", 0.0, rest_ms, block_ms)

    @property
    def correlation(self) -> float:
        """Of predicted with measured milliseconds; not a number without a check."""
        return float(np.corrcoef(np.array(self.check).T)[0, 1]) if len(self.check) > 1 else float("nan")

    @property
    def mean_error(self) -> float:
        """Mean difference of predicted from measured milliseconds, as a part of these."""
        if not self.check:
            return float("nan")
        predicted, measured = np.array(self.check).T
        return float(np.mean(np.abs(predicted - measured) / measured))

    def told(self) -> str:
        """How good its predictions are, for people."""
        if len(self.check) < 2:
            return "Predictions were not compared with whole networks."
        return (
            f"Of {len(self.check)} networks, predicted and measured milliseconds: correlation {self.correlation:.3f}, "
            f"mean error {100 * self.mean_error:.1f} %."
        )

    def write(self, path: str | os.PathLike) -> Path:
        """Writes the table as JSON, whole or not at all.

        Raises:
            OSError: if it cannot be written.
        """
        content = {
            "format": FORMAT,
            "version": VERSION,
            "about": dict(self.about),
            "input_size": list(self.input_size),
            "num_keypoints": self.num_keypoints,
            "stem": self.stem,
            "precision": self.precision,
            "rest": [[width, ms] for width, ms in self.rest.items()],
            "columns": [*BlockAt._fields, "ms"],
            "blocks": [[*block, ms] for block, ms in self.blocks.items()],
            "check": [list(pair) for pair in self.check],
        }
        lines = [f"{json.dumps(key)}: {_value(value)}" for key, value in content.items()]
        write_file(Path(path), "{\n  " + ",\n  ".join(lines) + "\n}\n")
        return Path(path)


def _value(value: Any) -> str:
    """JSON, a row of a table per line."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "[\n    " + ",\n    ".join(map(json.dumps, value)) + "\n  ]"
    return json.dumps(value)


def read_latency(path: str | os.PathLike) -> LatencyTable:
    """A table that `keras-ehrnet search measure` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        LatencyError: if it is damaged, or of another version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no such table of latencies: write one with keras-ehrnet search measure. Received: {path}"
        )
    with reading(LatencyError, path, "The table"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise LatencyError(f"This is no table of latencies. Received: {path}")
        if content.get("version") != VERSION:
            raise LatencyError(
                f"The table must be of version {VERSION}: another release of keras-ehrnet wrote this one; measure "
                f"again. Received: version {content.get('version')!r} in {path}"
            )
        blocks = {BlockAt(*map(int, row[:-1])): float(row[-1]) for row in content["blocks"]}
        rest = {int(width): float(ms) for width, ms in content["rest"]}
        if any(not ms >= 0 or ms == float("inf") for ms in (*blocks.values(), *rest.values())):
            raise LatencyError(f"Milliseconds are numbers from 0. Received: others in {path}")
        height, width = map(int, content["input_size"])
        check = [(float(predicted), float(measured)) for predicted, measured in content["check"]]
        return LatencyTable(
            (height, width),
            int(content["num_keypoints"]),
            int(content["stem"]),
            str(content["precision"]),
            blocks,
            rest,
            dict(content["about"]),
            check,
        )

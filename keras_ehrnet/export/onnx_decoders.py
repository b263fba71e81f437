"""Decoders as ONNX operators, for files that give people instead of maps: twins of those in NumPy.

Peaks and the one person are found channels first, for any number of images, and without loops. Several people are told
apart in loops, those of `keras_ehrnet.decode.graph`, one image after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from keras_ehrnet.export.onnx_graph import Graph, Side, Value
from keras_ehrnet.families import FAMILIES
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.messages import missing_package

_NOTHING = -1e9
"""Below every height: what lies beyond the border of a map."""


@dataclass(frozen=True)
class Decoder:
    """Peaks, or the one person, inside a file.

    Args:
        family: str. Key of `keras_ehrnet.families.FAMILIES`.
        decode: str. `"peaks"` or `"poses"`: also the name of the output.
        max_peaks: int. At most so many peaks per joint; for `"peaks"`.
        threshold: float, not negative. Peaks at or below it are left out.
    """

    family: str
    decode: str
    max_peaks: int = 20
    threshold: float = 0.0

    def __call__(self, graph: Graph, maps: Mapping[str, Value]) -> tuple[str, tuple[int, ...]]:
        """Appends the decoder to a graph of which these are the network's maps.

        Returns:
            Name of the decoded tensor, and its shape without the number of images.
        """
        graph.scope = self.decode
        heatmaps = _heatmaps(graph, maps)
        subpixel = FAMILIES[self.family].subpixel
        if self.decode == "poses":
            index = graph.add("ArgMax", [heatmaps.flat], axis=2)
            table = _table(graph, heatmaps, index, heatmaps.values_at(graph, index), subpixel)
            return graph.add("Transpose", [table], perm=[0, 2, 1, 3]), (1, heatmaps.joints, 3)
        highest = _peaks(graph, heatmaps, FAMILIES[self.family].window, self.threshold)
        scores, index, count = _best(graph, heatmaps, highest, self.max_peaks)
        tag = graph.add("Sub", [scores, scores])  # none is 0
        if "tags_4" in maps:
            tag = _half_as_fine(graph, heatmaps, index, _Maps.of(graph, maps["tags_4"]))
        return _table(graph, heatmaps, index, scores, subpixel, tag), (heatmaps.joints, count, 4)


@dataclass(frozen=True)
class PeopleDecoder:
    """Several people inside a file, told apart as in a TensorFlow Lite file.

    Args:
        family: str. Key of `keras_ehrnet.families.FAMILIES`.
        skeleton: `Skeleton`. What the joints are.
        batch: int, or None for any number of images.
        opset: int. Version of ONNX's operators.
        settings: mapping. `max_people`, `threshold` and `multi_person`, as of `decode.graph.decoder_function`.
        decode: str. Name of the output.
    """

    family: str
    skeleton: Skeleton
    batch: int | None
    opset: int
    settings: Mapping[str, Any]
    decode: str = "poses"

    def __call__(self, graph: Graph, maps: Mapping[str, Value]) -> tuple[str, tuple[int, ...]]:
        """As of `Decoder`.

        Raises:
            MissingPackageError: where TensorFlow is not installed.
        """
        from keras_ehrnet.decode import graph as twins

        try:
            from keras_ehrnet.export.onnx_functions import Translation, for_each_image
            from keras_ehrnet.export.onnx_operations import EMITTERS
        except ModuleNotFoundError as error:
            raise missing_package(error, "Telling several people apart inside an ONNX file") from error
        shapes = {name: (1, *value.shape[1:]) for name, value in maps.items()}
        decoder = twins.decoder_function(self.family, self.decode, shapes, skeleton=self.skeleton, **self.settings)
        (output,) = decoder.graph.structured_outputs.values()
        graph.scope = self.decode
        arguments = [
            graph.add("Transpose", [graph.padded(maps[tensor.op.name])], perm=[0, 2, 3, 1])
            for tensor in decoder.graph.inputs
        ]
        shape = tuple(output.shape.as_list()[1:])
        translation = Translation(graph, self.opset, EMITTERS)
        return for_each_image(translation, decoder.graph, arguments, shape, self.batch), shape


@dataclass(frozen=True)
class _Maps:
    """Maps `(B, K, H, W)`, and the same `(B, K, H * W)`."""

    name: str
    flat: str
    joints: int
    height: Side
    width: Side
    pixels: int | None  # H * W, where it is known

    @classmethod
    def of(cls, graph: Graph, value: Value) -> _Maps:
        _, height, width, joints = value.shape
        assert joints is not None
        name = graph.padded(value)
        pixels = None if height is None or width is None else height * width
        flat = graph.add("Reshape", [name, graph.integers([0, joints, pixels or -1])])
        height, width = height or graph.side(name, 2), width or graph.side(name, 3)
        return cls(name, flat, joints, height, width, pixels)

    def values_at(self, graph: Graph, index: str) -> str:
        """Heights at pixels row * W + column, `(B, K, P)`."""
        return graph.add("GatherElements", [self.flat, index], axis=2)


def _heatmaps(graph: Graph, maps: Mapping[str, Value]) -> _Maps:
    """The heatmaps to look at: of EfficientHRNet the mean of both strides, as `decode.average_strides`."""
    if "heatmaps_4" not in maps:
        return _Maps.of(graph, maps["heatmaps"])
    coarse, fine = maps["heatmaps_4"], maps["heatmaps_2"]
    factors = graph.constant(np.array([1, 1, 2, 2], np.float32), "factors")
    resized = graph.add("Resize", [graph.padded(coarse), "", factors], mode="linear")
    total = graph.add("Add", [resized, graph.padded(fine)])
    return _Maps.of(graph, Value(graph.add("Mul", [total, _number(graph, 0.5)]), fine.shape))


def _peaks(graph: Graph, maps: _Maps, kernel: int, threshold: float) -> str:
    """Heights of local maxima, 0 elsewhere, `(B, K, H * W)`; of equally high neighbours the first is one."""
    reach = kernel // 2
    around = graph.add("MaxPool", [maps.name], kernel_shape=[kernel, kernel], pads=[reach] * 4)
    above = _shifted_maximum(graph, maps, [reach, kernel], [0, 0, reach, reach, 0, 0, 0, reach])
    before = _shifted_maximum(graph, maps, [1, reach], [0, 0, 0, reach, 0, 0, 0, 0])
    earlier = graph.add("Max", [above, before, _number(graph, threshold)])
    first = graph.add("Greater", [maps.name, earlier])
    highest = graph.add("GreaterOrEqual", [maps.name, around])
    peak = graph.add("And", [first, highest])
    heights = graph.add("Where", [peak, maps.name, _number(graph, 0)])
    return graph.add("Reshape", [heights, graph.integers([0, maps.joints, maps.pixels or -1])])


def _best(graph: Graph, maps: _Maps, heights: str, most: int) -> tuple[str, str, int]:
    """Heights and pixels of the best places, `(B, K, P)`, and P: `most`, or as many pixels as there are known to be."""
    count = most if maps.pixels is None else min(most, maps.pixels)
    if maps.pixels is None:
        # There may be less: zeros behind the last pixel are enough, and no peaks.
        heights = graph.add("Pad", [heights, graph.integers([0, 0, 0, 0, 0, count])])
    scores, index = graph.add_several("TopK", [heights, graph.integers([count])], 2, axis=2)
    if maps.pixels is None:
        index = graph.add("Min", [index, _last(graph, graph.side(maps.flat, 2))])
    return scores, index, count


def _shifted_maximum(graph: Graph, maps: _Maps, kernel: list[int], pads: list[int]) -> str:
    """The highest of a window that ends before its pixel."""
    padded = graph.add("Pad", [maps.name, graph.integers(pads), _number(graph, _NOTHING)])
    pooled = graph.add("MaxPool", [padded], kernel_shape=kernel)
    start, end, axes = (graph.integers(values) for values in ([0, 0], [maps.height, maps.width], [2, 3]))
    return graph.add("Slice", [pooled, start, end, axes])


def _row_and_column(graph: Graph, maps: _Maps, index: str) -> tuple[str, str]:
    width = graph.integers(maps.width)
    row = graph.add("Div", [index, width])
    return row, graph.add("Sub", [index, graph.add("Mul", [row, width])])


def _half_as_fine(graph: Graph, maps: _Maps, index: str, tags: _Maps) -> str:
    """Values at pixels of `maps`, of maps half as large."""
    two = graph.integers(2)
    row, column = (graph.add("Div", [place, two]) for place in _row_and_column(graph, maps, index))
    start = graph.add("Mul", [row, graph.integers(tags.width)])
    return tags.values_at(graph, graph.add("Add", [start, column]))


def _table(graph: Graph, maps: _Maps, index: str, scores: str, subpixel: str, *more: str) -> str:
    """y, x in [0, 1], score and whatever more, `(B, K, P, 3 or more)`; zeros where the score is none."""
    row, column = _row_and_column(graph, maps, index)
    y = _between_pixels(graph, maps, index, scores, row, maps.height, maps.width, subpixel)
    x = _between_pixels(graph, maps, index, scores, column, maps.width, 1, subpixel)
    last = graph.integers([-1])
    columns = [graph.add("Unsqueeze", [name, last]) for name in (y, x, scores, *more)]
    found = graph.add("Greater", [columns[2], _number(graph, 0)])
    table = graph.add("Concat", columns, axis=3)
    return graph.add("Where", [found, table, _number(graph, 0)])


def _between_pixels(
    graph: Graph, maps: _Maps, index: str, center: str, place: str, side: Side, step: Side, subpixel: str
) -> str:
    """One coordinate of pixels in [0, 1] of the map, moved between the pixels; `step` leads to the next pixel."""
    coordinate = graph.add("Add", [graph.add("Cast", [place], to=TensorProto.FLOAT), _number(graph, 0.5)])
    # Beyond the border lies what lies at it.
    last = _last(graph, side)
    back = graph.add("Min", [place, graph.integers(1)])
    forth = graph.add("Min", [graph.add("Sub", [last, place]), graph.integers(1)])
    stride = graph.integers(step)
    before = graph.add("Sub", [index, graph.add("Mul", [back, stride])])
    after = graph.add("Add", [index, graph.add("Mul", [forth, stride])])
    heights = maps.values_at(graph, before), center, maps.values_at(graph, after)
    coordinate = graph.add("Add", [coordinate, _SUBPIXEL[subpixel](graph, *heights)])
    return graph.add("Mul", [coordinate, _share(graph, side)])


def _last(graph: Graph, side: Side) -> str:
    return graph.integers(side - 1) if isinstance(side, int) else graph.add("Sub", [side, graph.integers(1)])


def _share(graph: Graph, side: Side) -> str:
    """What a pixel is of a side."""
    if isinstance(side, int):
        return _number(graph, 1 / side)
    return graph.add("Reciprocal", [graph.add("Cast", [side], to=TensorProto.FLOAT)])


def _quarter(graph: Graph, before: str, center: str, after: str) -> str:
    rises = graph.add("Greater", [after, before])
    return graph.add("Where", [rises, _number(graph, 0.25), _number(graph, -0.25)])


def _parabola(graph: Graph, before: str, center: str, after: str) -> str:
    least = _number(graph, 1e-3)
    before, center, after = (
        graph.add("Log", [graph.add("Max", [height, least])]) for height in (before, center, after)
    )
    rise = graph.add("Sub", [after, before])
    bend = graph.add("Sub", [graph.add("Add", [center, center]), graph.add("Add", [before, after])])
    flat = _number(graph, 1e-6)
    twice = graph.add("Mul", [graph.add("Max", [bend, flat]), _number(graph, 2)])
    bent = graph.add("Greater", [bend, flat])
    moved = graph.add("Where", [bent, graph.add("Div", [rise, twice]), _number(graph, 0)])
    return graph.add("Clip", [moved, _number(graph, -0.5), _number(graph, 0.5)])


_SUBPIXEL: dict[str, Callable[[Graph, str, str, str], str]] = {"quarter": _quarter, "parabola": _parabola}
"""Ways from a pixel and its neighbours to a place between them, by name: those that families take."""


def _number(graph: Graph, value: float) -> str:
    return graph.constant(np.array(value, np.float32), "number")


def _integers(graph: Graph, values: int | list[int]) -> str:
    return graph.constant(np.array(values, np.int64), "integers")

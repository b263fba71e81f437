"""What values the tensors of a TensorFlow Lite file take, and the ranges that are best cut into 256 steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import cv2
import numpy as np

from keras_ehrnet.export.litert import flatbuffer

SAMPLE_SIZE = 1 << 17
"""Values kept of every tensor. Extremes are of all values."""

LEAST_KEPT = (0.8, 0.05)
"""Parts of a range that are kept at least, of which `quantize` tries each: rare large values are what peaks of heatmaps
are made of, but finer steps for all others may be worth more. Which it is differs from network to network."""

_SHARES = np.array([1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05])
_STEPS = 255
_NOTHING = 1e-6  # what is shown where nothing is

Range = tuple[float, float]
"""Least and greatest value that is kept."""


@dataclass(frozen=True)
class Values:
    """What a tensor holds.

    Args:
        low: float array of shape `(C,)`. Least value of each channel, at most 0.
        high: float array of shape `(C,)`. Greatest value of each channel, at least 0.
        magnitude: float array of shape `(C,)`. Greatest absolute value of each channel in an image, on average: more
            images do not make it greater.
        sample: float array of shape `(N, C)`. Some of the values, the more of a place, the more the outputs show there.
        is_read_by_swish: bool. Whether it is read as x sigmoid(x) only.
    """

    low: np.ndarray
    high: np.ndarray
    magnitude: np.ndarray
    sample: np.ndarray
    is_read_by_swish: bool = False

    def divided(self, divisor: np.ndarray) -> Values:
        """The values with each channel divided by a positive number."""
        bounds = {"low": self.low / divisor, "high": self.high / divisor, "magnitude": self.magnitude / divisor}
        return replace(self, **bounds, sample=self.sample / divisor.astype("float32"))


def measure(
    content: bytes, images: Sequence[np.ndarray], done: Callable[[int], None] | None = None
) -> dict[int, Values]:
    """Runs a float network on images and looks at all of its tensors.

    What is read of a heatmap is its peaks, and most of an image is far from them: a place comes into the samples as
    often as outputs are high there, and what fits these best fits what is read.

    Args:
        content: bytes of a `.tflite` file in float32 with one input.
        images: sequence of arrays of the input's shape.
        done: callable or None. Called with the number of images done.

    Returns:
        dict from the numbers of the input and of all operations' results to their `Values`.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # Delegates would keep what is between their operations to themselves.
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=plain,
        experimental_preserve_all_tensors=True,
        num_threads=2,
    )
    interpreter.allocate_tensors()
    (image_input,) = interpreter.get_input_details()
    main = flatbuffer.read(content).subgraphs[0]
    results = [int(op.outputs[0]) for op in main.operators]
    rng = np.random.default_rng(0)
    seen: dict[int, list[Values]] = {index: [] for index in (image_input["index"], *results)}
    for count, image in enumerate(images, start=1):
        interpreter.set_tensor(image_input["index"], image.astype(image_input["dtype"]))
        interpreter.invoke()
        shown = _shown([interpreter.get_tensor(int(index)) for index in main.outputs], image.shape[1:3])
        weights = cache(partial(_weights, shown))  # Many tensors are of the same size.
        for index, parts in seen.items():
            parts.append(_look(interpreter.get_tensor(index), weights, SAMPLE_SIZE // len(images), rng))
        if done:
            done(count)
    return {index: _together(parts) for index, parts in seen.items()}


def _shown(outputs: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """How much outputs show at each place of an image: the sum of their greatest channels, each 1 at most."""
    greatest = [np.abs(values).max(axis=(0, -1)) for values in outputs]
    return sum(
        (cv2.resize(values / max(values.max(), _NOTHING), shape[::-1]) for values in greatest),
        start=np.full(shape, _NOTHING, np.float32),
    )


def _weights(shown: np.ndarray, count: int, height: int, width: int) -> np.ndarray:
    """How likely each place of maps of this size comes into the sample."""
    weights = np.tile(cv2.resize(shown, (width, height), interpolation=cv2.INTER_AREA).ravel(), count)
    return weights / weights.sum(dtype=np.float64)


def _look(
    values: np.ndarray, weights: Callable[[int, int, int], np.ndarray], size: int, rng: np.random.Generator
) -> Values:
    pixels = values.reshape(-1, values.shape[-1]).astype("float32")
    rows = max(1, size // pixels.shape[1])
    sample = pixels
    if rows < len(pixels):
        sample = pixels[rng.choice(len(pixels), rows, p=weights(*values.shape[:3]))]
    low, high = np.minimum(pixels.min(axis=0), 0), np.maximum(pixels.max(axis=0), 0)
    return Values(low, high, np.maximum(high, -low), sample)


def _together(parts: Iterable[Values]) -> Values:
    lows, highs, magnitudes, samples = zip(*((p.low, p.high, p.magnitude, p.sample) for p in parts), strict=True)
    return Values(np.min(lows, axis=0), np.max(highs, axis=0), np.mean(magnitudes, axis=0), np.concatenate(samples))


def best(values: Values, least_kept: float = 0.0) -> Range:
    """The range around 0 whose 256 steps change least what is read.

    Rare large values are cut off where finer steps for all others gain more. Of what swish reads, all that is far
    below 0 gives almost 0: cutting it off costs nothing.

    Args:
        values: `Values` of a tensor.
        least_kept: float. No more is cut off than leaves this part of the greatest and of the least value.

    Returns:
        tuple (least, greatest value that is kept).

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.export.litert.ranges import Values, best
        >>> sample = np.linspace(-90, 10, 1000)[:, None]
        >>> low, high = sample.min(axis=0), sample.max(axis=0)
        >>> best(Values(low, high, -low, sample))
        (-90.0, 10.0)
        >>> low, high = best(Values(low, high, -low, sample, is_read_by_swish=True))
        >>> -20 < low < -4, high
        (True, 10.0)
    """
    low, high = float(values.low.min()), float(values.high.max())
    if low == high:
        return low, high
    read = _swish if values.is_read_by_swish else np.asarray
    expected = read(values.sample)

    def error(low: float, high: float) -> float:
        if high - low < 1e-9:
            return np.inf
        kept = rounded(values.sample, (low, high))
        return float(np.square(read(kept) - expected).mean())

    shares = _SHARES[least_kept <= _SHARES]
    lows, highs = low * shares, high * shares
    # The one bound hardly depends on the other: in turn rather than in all combinations.
    for _ in range(2):
        low = float(min(lows, key=lambda value: error(value, high)))
        high = float(min(highs, key=lambda value: error(low, value)))
    return low, high


def rounded(values: np.ndarray, kept: Range) -> np.ndarray:
    """Values as the 256 steps of a range hold them.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.export.litert.ranges import rounded
        >>> rounded(np.array([-9.0, -0.3, 0.8, 300.0]), (-1.0, 254.0))
        array([ -1.,   0.,   1., 254.])
    """
    low, high = kept
    if low == high:
        return values
    step = (high - low) / _STEPS
    zero = np.round(-low / step)
    return (np.clip(np.round(values / step) + zero, 0, _STEPS) - zero) * step


def _swish(values: np.ndarray) -> np.ndarray:
    return values / (1 + np.exp(-np.clip(values, -60, 60)))


def chosen(content: bytes, measured: Mapping[int, Values], least_kept: float = 0.0) -> dict[int, Range]:
    """The best range of every tensor of a network, see `best`; its input keeps the full one."""
    inputs = {int(index) for index in flatbuffer.read(content).subgraphs[0].inputs}
    return {
        index: (float(values.low.min()), float(values.high.max())) if index in inputs else best(values, least_kept)
        for index, values in measured.items()
    }


def write(content: bytes, ranges: Mapping[int, Range]) -> bytes:
    """The file with ranges of tensors in it, as TensorFlow's quantizer reads them.

    Args:
        content: bytes of a `.tflite` file in float32.
        ranges: mapping from numbers of tensors to their ranges.

    Returns:
        bytes of a `.tflite` file.
    """
    model = flatbuffer.read(content)
    for index, kept in ranges.items():
        model.subgraphs[0].tensors[index].quantization = _statistics(*kept)
    return flatbuffer.write(model)


def _statistics(low: float, high: float) -> Any:
    statistics = flatbuffer.schema().QuantizationParametersT()
    statistics.min, statistics.max = [low], [high]
    return statistics

"""From a network of fixed size to a TensorFlow Lite file, at the precision that a device wants."""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keras_ehrnet.export.litert import bias, equalize, flatbuffer, ranges
from keras_ehrnet.export.litert.graph import gates, kinds, last_convolutions
from keras_ehrnet.runtime import Interpreter
from keras_ehrnet.support.messages import suggestion
from keras_ehrnet.support.terminal import silenced

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclass(frozen=True)
class Precision:
    """How numbers are kept in a file.

    Args:
        description: str. For people who choose.
        needs_calibration: bool. Whether ranges of activations must be measured on images.
    """

    description: str
    needs_calibration: bool


COMPARED_IMAGES = 16
"""Of calibration images, on which files that were quantized otherwise are compared."""

PRECISIONS: dict[str, Precision] = {
    "float32": Precision("as trained: the reference", False),
    "float16": Precision("half the size; computes in float32 on CPUs, in float16 on GPUs", False),
    "dynamic": Precision("a quarter of the size: 8-bit weights, activations quantized as they come", False),
    "int8": Precision(
        "a quarter to half of the size, fastest: 8-bit weights and activations, but for an uneven beginning, gates and "
        "the last convolutions",
        True,
    ),
    "int16x8": Precision("a quarter of the size: 8-bit weights, 16-bit activations; accurate, slow on CPUs", True),
}


def convert(
    static_model: keras.Model,
    precision: str = "float32",
    *,
    calibration: Iterable[np.ndarray] | None = None,
    input_dtype: str = "uint8",
    progress: Callable[[int], None] | None = None,
) -> bytes:
    """A TensorFlow Lite file of a network: an image in, float32 maps out, by the names of the model's outputs.

    Args:
        static_model: `keras.Model` of `keras_ehrnet.export.litert.rules.static_model`.
        precision: str. Key of `PRECISIONS`.
        calibration: iterable of uint8 RGB arrays of shape `(1, height, width, 3)`, or None. Images such as the network
            will see, fitted into its input; 100 to 200 are plenty. Needed where `PRECISIONS` says so.
        input_dtype: str. What the file takes, pixels in [0, 255]: `"uint8"` or `"float32"`.
        progress: callable or None. Called with the number of calibration images done.

    Returns:
        bytes, the content of a `.tflite` file.

    Raises:
        ValueError: for an unknown precision, without the images that it needs or with images of another shape, or
            where Keras does not run on TensorFlow.

    Example:
        >>> import keras_ehrnet as ke
        >>> from keras_ehrnet.export.litert import quantize, rules
        >>> static = rules.static_model(ke.EfficientPoseNAS("A"), (256, 192))
        >>> content = quantize.convert(static, "float16")  # doctest: +SKIP
    """
    check_precision(precision, calibration)
    is_calibrated = PRECISIONS[precision].needs_calibration
    images = _checked(calibration or (), tuple(static_model.inputs[0].shape)) if is_calibrated else []
    with silenced(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        _saved_model(static_model, folder, "float32" if precision == "int8" else input_dtype)
        if not is_calibrated:
            return _converted(folder, precision)
        return _calibrated(_converted(folder, "float32"), precision, images, input_dtype, progress)


def check_precision(precision: str, calibration: object) -> None:
    """ValueError for a precision that there is not, or that needs images where there are none."""
    if precision not in PRECISIONS:
        raise ValueError(f"Unknown precision. {suggestion(precision, PRECISIONS)} Received: {precision!r}")
    if PRECISIONS[precision].needs_calibration and calibration is None:
        raise ValueError(
            f"Precision {precision!r} is calibrated on images such as the network will see: pass some with "
            "calibration=.... Received: calibration=None"
        )


def _saved_model(model: keras.Model, folder: str, input_dtype: str) -> None:
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "TensorFlow Lite files are made with Keras on TensorFlow: set KERAS_BACKEND=tensorflow. "
            f"Received: backend {keras.backend.backend()!r}"
        )

    signature = tf.TensorSpec(model.inputs[0].shape, tf.as_dtype(input_dtype), name="image")

    @tf.function(input_signature=[signature], autograph=False)
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return model(tf.cast(image, tf.float32), training=False)

    # What the converter reads and no more: Keras's ExportArchive would write every layer too, and trace all gradients,
    # which takes twice the time. Both signatures are as it names them, and so is what the file calls its outputs.
    module = tf.Module()
    module.weights, module.serve = [variable.value for variable in model.variables], serve
    signatures = dict.fromkeys(("serve", "serving_default"), serve.get_concrete_function())
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, folder, signatures=signatures, options=options)


def _converted(folder: str, precision: str) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def _calibrated(
    content: bytes,
    precision: str,
    images: Sequence[np.ndarray],
    input_dtype: str,
    progress: Callable[[int], None] | None,
) -> bytes:
    """A float32 file in integers: channels made even, ranges chosen and biases corrected by what images show."""
    import tensorflow as tf
    from tensorflow.lite.python import convert as converters
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    measured = ranges.measure(content, images, progress)
    even, measured = equalize.equalized(content, measured)
    pixels = tf.as_dtype(input_dtype)
    if precision == "int8":
        in_float = equalize.uneven_beginning(even, measured) | gates(even) | last_convolutions(even)

        def in_bytes(least_kept: float) -> bytes:
            kept = ranges.chosen(even, measured, least_kept)
            prepared = ranges.write(bias.corrected(even, measured, kept, in_float), kept)
            return bytes(converters.mlir_quantize(prepared, input_data_type=pixels, denylisted_nodes=in_float or None))

        return _nearest(content, [in_bytes(least_kept) for least_kept in ranges.LEAST_KEPT], images)
    feed = ([image.astype(pixels.as_numpy_dtype)] for image in images)
    # What has no 16-bit form, such as reading uint8, stays in float.
    kinds = {"allow_float": True, "activations_type": tf.int16, "bias_type": tf.int64}
    prepared = bias.corrected(even, measured)
    return bytes(Calibrator(prepared).calibrate_and_quantize(lambda: feed, pixels, tf.float32, **kinds))


def _nearest(content: bytes, quantized: Sequence[bytes], images: Sequence[np.ndarray]) -> bytes:
    """Of quantized files the one whose outputs are nearest to those of the float one, on some of the images.

    Squares count by how large a value is: what is read of a heatmap is its peaks, and most of it is far from them.
    """
    some = images[:: -(-len(images) // COMPARED_IMAGES)]
    expected = _outputs(content, some)

    def distance(candidate: bytes) -> float:
        found = _outputs(candidate, some)
        return sum(_apart(found[name], values) for name, values in expected.items())

    return min(quantized, key=distance)


def _apart(values: np.ndarray, expected: np.ndarray) -> float:
    size = np.abs(expected)
    return float((size * np.square(values - expected)).mean() / max((size**3).mean(), 1e-12))


def _outputs(content: bytes, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of a file by name, of all images."""
    network = Interpreter(content, verify=False)
    (taken,) = network.inputs.values()
    seen = [network(**{taken.name: image.astype(taken.dtype)}) for image in images]
    return {name: np.stack([maps[name] for maps in seen]) for name in network.outputs}


def _checked(images: Iterable[np.ndarray], shape: tuple[int, ...]) -> list[np.ndarray]:
    images = list(images)
    if not images:
        raise ValueError("Calibration needs at least one image. Received: none")
    for image in images:
        if image.shape != shape or image.dtype != np.uint8:
            raise ValueError(
                f"Calibration images are uint8 RGB of shape {shape}. Received: {image.dtype} of shape {image.shape}"
            )
    return images


def operations(content: bytes) -> Counter[str]:
    """How often each operation occurs in a TensorFlow Lite file.

    Args:
        content: bytes of a `.tflite` file.

    Returns:
        `Counter` from the operations' names to their numbers.
    """
    model = flatbuffer.read(content)
    names = kinds(model)
    return Counter(names[operator.opcodeIndex] for graph in model.subgraphs for operator in graph.operators)

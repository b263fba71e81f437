"""TF-TRT: SavedModels whose networks run as TensorRT engines, for TensorFlow up to 2.17."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_ehrnet.export.saved_model_folder import is_saved_model, replace_saved_model, saved_model
from keras_ehrnet.export.tensorrt.check import MINIMUM_SEGMENT_SIZE, Report, check
from keras_ehrnet.families import FAMILIES
from keras_ehrnet.metadata import SAVED_MODEL_FILE, Metadata, read
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.files import write_file
from keras_ehrnet.support.messages import suggestion, suggests_keywords
from keras_ehrnet.support.terminal import quiet_tensorflow
from keras_ehrnet.weights.formats import WeightsSource

if TYPE_CHECKING:
    import keras

__all__ = ["PRECISIONS", "Precision", "Report", "check", "converter_arguments", "tftrt"]

WORKSPACE_BYTES = 1 << 30
"""Memory that TensorRT may try out kernels with."""

_SIGNATURE = "serving_default"
_FIRST_WITHOUT = (2, 18)


@dataclass(frozen=True)
class Precision:
    """What an engine computes with.

    Args:
        tftrt: str. TF-TRT's name for it.
        description: str. For people to read.
        needs_calibration: bool. Whether images must show the range of values.
    """

    tftrt: str
    description: str
    needs_calibration: bool = False


PRECISIONS: dict[str, Precision] = {
    "float32": Precision("FP32", "single precision"),
    "float16": Precision("FP16", "half precision where TensorRT finds it faster"),
    "int8": Precision("INT8", "integers, calibrated with images", needs_calibration=True),
}
"""Precisions by their names in this package."""


@suggests_keywords
def tftrt(
    source: str | Path | keras.Model,
    path: str | Path,
    precision: str = "float32",
    *,
    weights: WeightsSource | None = None,
    skeleton: Skeleton | None = None,
    input_size: tuple[int, int] | None = None,
    batch: int = 1,
    license: str | None = None,
    calibration: Any = None,
    calibration_images: int = 200,
    max_workspace_bytes: int = WORKSPACE_BYTES,
    minimum_segment_size: int = MINIMUM_SEGMENT_SIZE,
) -> Path:
    """Writes a SavedModel whose network is a TensorRT engine, built for the GPU of this machine.

    It is used like the SavedModel that it is made from. TF-TRT is part of TensorFlow up to 2.17, and does its work only
    where TensorRT and an NVIDIA GPU are; `check` foretells its result anywhere.

    Args:
        source: folder of a SavedModel of this package, or what `keras_ehrnet.export.saved_model` takes, which then
            makes one first.
        path: str or Path of the folder to write. A SavedModel that is there is replaced, anything else is not.
        precision: str. `"float32"`, `"float16"` or `"int8"`; or, as TF-TRT spells them, `"FP32"`, `"FP16"`, `"INT8"`.
        weights, skeleton, input_size, batch, license: as of `keras_ehrnet.export.saved_model`, where the source is no
            SavedModel yet.
        calibration: folder or pattern of images, a `keras_ehrnet.data.Dataset`, or an iterable of paths or RGB arrays,
            such as the model will see; for INT8. They are fitted into the input as prediction does it.
        calibration_images: int. At most so many of them, spread evenly.
        max_workspace_bytes: int. Memory that TensorRT may use while it builds and runs.
        minimum_segment_size: int. Smaller parts of the graph stay with TensorFlow.

    Returns:
        Path of the folder.

    Raises:
        ValueError: for options that contradict each other, a SavedModel without a fixed input shape, or where
            TensorFlow has no TF-TRT; the message says what to install.
        OSError: if the folder cannot be written; what was there before is then intact.

    Example:
        >>> from keras_ehrnet.export.tensorrt.convert import tftrt
        >>> tftrt("efficientpose-rt", "efficientpose-rt-fp16", "float16")  # doctest: +SKIP
        PosixPath('efficientpose-rt-fp16')
    """
    name = _precision_name(precision)
    if PRECISIONS[name].needs_calibration != (calibration is not None):
        raise ValueError(
            "Calibration images are for INT8, which needs them. "
            f"Received: precision={precision!r} {'without' if calibration is None else 'with'} calibration"
        )
    converter_class = _converter_class()
    target = Path(path)
    options = {"weights": weights, "skeleton": skeleton, "input_size": input_size, "batch": batch, "license": license}
    with _as_saved_model(source, options) as folder:
        shape, metadata = _input_shape(folder), _metadata(folder)
        converter = _made(converter_class, converter_arguments(folder, name, max_workspace_bytes, minimum_segment_size))
        images = None if calibration is None else _images(calibration, calibration_images, metadata, shape)
        _convert(converter, images, shape)
        metadata = replace(metadata, precision=name, calibration_images=0 if images is None else len(images) * shape[0])

        def write(partial: Path) -> None:
            converter.save(output_saved_model_dir=str(partial), save_gpu_specific_engines=True)
            write_file(partial / SAVED_MODEL_FILE, metadata.to_json())

        with quiet_tensorflow():
            replace_saved_model(target, write)
    return target


def _precision_name(precision: str) -> str:
    names = {valid: name for name, entry in PRECISIONS.items() for valid in (entry.tftrt, name)}
    if precision not in names:
        raise ValueError(f"Unknown precision. {suggestion(precision, names)} Received: precision={precision!r}")
    return names[precision]


def converter_arguments(
    folder: Path,
    precision: str,
    max_workspace_bytes: int = WORKSPACE_BYTES,
    minimum_segment_size: int = MINIMUM_SEGMENT_SIZE,
) -> dict[str, object]:
    """Keyword arguments of `TrtGraphConverterV2`, as TensorFlow 2.17 names them."""
    return {
        "input_saved_model_dir": str(folder),
        "input_saved_model_signature_key": _SIGNATURE,
        "precision_mode": PRECISIONS[precision].tftrt,
        "max_workspace_size_bytes": max_workspace_bytes,
        "minimum_segment_size": minimum_segment_size,
        "maximum_cached_engines": 1,
        "use_calibration": PRECISIONS[precision].needs_calibration,
    }


def _converter_class() -> type:
    import tensorflow as tf

    # Later versions still have the module, but nothing behind it.
    if tuple(int(part) for part in tf.__version__.split(".")[:2]) >= _FIRST_WITHOUT:
        raise _unavailable(f"TensorFlow {tf.__version__}")
    from tensorflow.python.compiler.tensorrt import trt_convert

    if not tf.config.list_physical_devices("GPU"):
        raise _unavailable(f"TensorFlow {tf.__version__}, which finds no GPU")
    return trt_convert.TrtGraphConverterV2


def _unavailable(received: str) -> ValueError:
    return ValueError(
        "TF-TRT is part of TensorFlow up to 2.17 and needs TensorRT and an NVIDIA GPU: run this in NVIDIA's TensorFlow "
        "container (nvcr.io/nvidia/tensorflow, on a Jetson its -igpu tags or l4t-tensorflow), or beside 'pip install "
        "tensorflow[and-cuda]==2.17.1' with TensorRT 8.6; or export ONNX and run TensorRT's 'trtexec --onnx=FILE', "
        f"which needs no TensorFlow. Received: {received}"
    )


def _made(converter_class: type, arguments: dict[str, object]) -> Any:
    import tensorflow as tf

    try:
        return converter_class(**arguments)
    except RuntimeError as error:  # built without TensorRT, or its libraries are missing or of another version
        raise _unavailable(f"TensorFlow {tf.__version__}, which says: {error}") from error


@contextlib.contextmanager
def _as_saved_model(source: Any, options: dict[str, Any]) -> Iterator[Path]:
    """The folder of a SavedModel: the given one, or one that is made for the time being."""
    if isinstance(source, (str, Path)) and is_saved_model(Path(source)):
        given = [name for name, value in options.items() if value != (1 if name == "batch" else None)]
        if given:
            raise ValueError(f"A SavedModel is converted as it is. Received: {', '.join(sorted(given))}")
        yield Path(source)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield saved_model(source, Path(folder, "model"), **options)


def _input_shape(folder: Path) -> tuple[int, ...]:
    """Shape of the images that a SavedModel takes."""
    import tensorflow as tf

    signature = tf.saved_model.load(str(folder)).signatures[_SIGNATURE]
    specs = signature.structured_input_signature[1]
    shape = tuple(specs["image"].shape) if "image" in specs else ()
    if not shape or None in shape:
        raise ValueError(
            "An engine is built for one shape: export the SavedModel with keras_ehrnet.export.saved_model and a fixed "
            f"batch. Received: {str(folder)!r} with inputs {specs}"
        )
    return shape


@dataclass
class _Fitted:
    """What is known of the network in a SavedModel's folder."""

    input_size: tuple[int, int]
    multi_person: bool


def _images(source: Any, count: int, metadata: Metadata, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Calibration images in batches of the signature's shape; the last images fill up what is left of a batch."""
    from keras_ehrnet.export.litert.calibration import Calibration

    network = _Fitted(metadata.input_size, not FAMILIES[metadata.family].top_down)
    images = np.concatenate(list(Calibration.of(source, network, count)))
    places = np.arange(-len(images) // shape[0] * -shape[0]).clip(max=len(images) - 1)
    return list(images[places].reshape(-1, *shape))


def _convert(converter: Any, images: list[np.ndarray] | None, shape: tuple[int, ...]) -> None:
    """Converts, calibrates, and builds the engine, so that nothing is left to do on the first image."""
    if images is None:
        converter.convert()
    else:
        converter.convert(calibration_input_fn=_feed(images))
    converter.build(input_fn=_feed([np.zeros(shape, np.uint8)] if images is None else images[:1]))


def _feed(images: list[np.ndarray]) -> Callable[[], Iterator[dict[str, np.ndarray]]]:
    """A function as TF-TRT wants it, which gives the arguments of one call after the other."""
    return lambda: ({"image": batch} for batch in images)


def _metadata(folder: Path) -> Metadata:
    about = read(folder)
    if about is None:
        raise ValueError(
            "TF-TRT starts from a SavedModel that keras_ehrnet.export.saved_model wrote, or from a Keras model. "
            f"Received: {str(folder)!r} without {SAVED_MODEL_FILE}"
        )
    return about

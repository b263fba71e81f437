"""A network from any source."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_ehrnet.models.searched import is_blocks_file
from keras_ehrnet.models.variants import VARIANTS, variant
from keras_ehrnet.runtime.litert import TFLiteNetwork
from keras_ehrnet.runtime.network import Network
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.errors import ModelError, reason
from keras_ehrnet.support.messages import suggestion
from keras_ehrnet.weights import registry

if TYPE_CHECKING:
    import keras

_EXPORTED = (".tflite", ".onnx")


def load(
    source: str | Path | keras.Model,
    threads: int | None = None,
    delegates: Sequence[Any] = (),
    *,
    weights: object = None,
    skeleton: Skeleton | None = None,
    input_size: tuple[int, int] | None = None,
) -> Network:
    """A network from a model of the papers by name, from a file, or from a model in hand.

    Args:
        source: `keras.Model`, the path of a `.keras`, `.tflite` or `.onnx` file, a name such as `"h-2"` or
            `"efficientpose-rt"`, or the `.json` file of blocks that a search found. Exported files, and weights that
            come with the package (`weights.packaged()`), need neither Keras nor TensorFlow.
        threads: int, or None for the runtime's choice. Of exported files.
        delegates: sequence of paths of delegate libraries (GPU, NPU), or of loaded delegates. Of `.tflite` files.
        weights: what `keras_ehrnet.weights.load` takes; None: for a name, the published weights if there are any.
        skeleton: `Skeleton`, or None for the one that fits.
        input_size: tuple (height, width), or None for the usual one.

    Returns:
        `Network`; `keras_ehrnet.PosePredictor(network)` finds people with it.

    Raises:
        FileNotFoundError: if there is no such exported file.
        ValueError: if there is no such model or file, no weights for it, or nothing installed that runs it.

    Example:
        >>> from keras_ehrnet import PosePredictor, runtime
        >>> network = runtime.load("model.tflite", threads=2)  # doctest: +SKIP
        >>> PosePredictor(network)("photo.jpg")  # doctest: +SKIP
        Poses(1 person, mpii_16, image 640x425, scores 0.45)
    """
    packaged = _packaged(source, weights, input_size)
    if packaged is not None or is_exported(source):
        return _exported(Path(packaged or source), weights, skeleton, input_size, threads, delegates)
    if threads is not None or delegates:
        raise ValueError(
            f"Threads and delegates are of exported files. Received: threads={threads}, delegates={delegates!r} for "
            f"{source}"
        )
    import keras

    from keras_ehrnet.runtime.keras import KerasNetwork

    if isinstance(source, keras.Model):
        model = source
    elif str(source) in VARIANTS or is_blocks_file(source):
        model = _named(str(source), weights)
        weights = None
    else:
        model = _read(Path(source))
    if weights is not None:
        from keras_ehrnet import weights as weights_module

        weights_module.load(model, weights)
    return KerasNetwork(model, skeleton, input_size)


def _packaged(source: object, weights: object, input_size: tuple[int, int] | None) -> Path | None:
    """The exported file of weights that come with the package, unless what is asked for needs the Keras model."""
    entry = registry.packaged().get(source) if isinstance(source, str) else None
    return entry.exported_path if entry is not None and weights is None and input_size is None else None


def runs_without_keras(source: object, weights: object = None, input_size: tuple[int, int] | None = None) -> bool:
    """Whether `load` of these arguments needs neither Keras nor TensorFlow."""
    return is_exported(source) or _packaged(source, weights, input_size) is not None


def is_exported(source: object) -> bool:
    """Whether a source is named like an exported file, which needs no Keras."""
    return isinstance(source, (str, os.PathLike)) and Path(source).suffix.lower() in _EXPORTED


def _exported(
    path: Path,
    weights: object,
    skeleton: Skeleton | None,
    input_size: tuple[int, int] | None,
    threads: int | None,
    delegates: Sequence[Any],
) -> Network:
    """An exported file brings everything along; what does not agree with it is a mistake."""
    if weights is not None:
        raise ValueError(f"An exported file holds its weights. Received: weights={weights!r} for {path}")
    if path.suffix.lower() == ".tflite":
        network: Network = TFLiteNetwork(path, threads, delegates)
    elif delegates:
        raise ValueError(f"Delegates are LiteRT's, of .tflite files. Received: delegates={delegates!r} for {path}")
    else:
        from keras_ehrnet.runtime.onnx import OnnxNetwork

        network = OnnxNetwork(path, threads)
    if input_size is not None and tuple(input_size) != tuple(network.input_size):
        raise ValueError(f"{path} takes images of size {network.input_size}. Received: input_size={input_size}")
    if skeleton is not None and skeleton.num_joints != network.skeleton.num_joints:
        raise ValueError(
            f"{path} has {network.skeleton.num_joints} keypoints. "
            f"Received: skeleton {skeleton.name!r} with {skeleton.num_joints}"
        )
    network.skeleton = skeleton or network.skeleton
    return network


def _named(name: str, weights: object) -> keras.Model:
    from keras_ehrnet.weights import REGISTRY

    if weights is None and name not in REGISTRY:
        raise ValueError(
            f"No weights with a license to share are published for {name!r}. Pass your own copy as weights=..., or "
            f"choose a model that has them: {', '.join(sorted(REGISTRY))}."
        )
    return variant(name).build(weights=name if weights is None else weights)


def _read(path: Path) -> keras.Model:
    import keras

    if not path.is_file():
        raise ValueError(
            f"There is no model or file of that name. {suggestion(str(path), VARIANTS)} Received: {str(path)!r}"
        )
    if path.suffix != ".keras":
        raise ValueError(
            "A model file ends in .keras (in small letters), .tflite or .onnx; weights alone need the name of their "
            "model beside them. "
            f"Received: {str(path)!r}"
        )
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except PermissionError:
        raise
    except Exception as error:  # A damaged archive can make Keras stumble anywhere.
        from keras_ehrnet.weights.formats import damaged

        problem = reason(error) if zipfile.is_zipfile(path) else "it is cut short or damaged"
        raise ModelError(damaged(path, problem).replace("weights file", "model file")) from error

"""A network from any source."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_ehrnet import metadata
from keras_ehrnet.families import side_multiple
from keras_ehrnet.models.searched import is_blocks_file
from keras_ehrnet.models.variants import VARIANTS, variant
from keras_ehrnet.runtime.litert import TFLiteNetwork
from keras_ehrnet.runtime.network import Network
from keras_ehrnet.skeletons import SKELETONS, Skeleton
from keras_ehrnet.support.messages import is_size, needing, suggestion, suggests_keywords
from keras_ehrnet.weights import registry
from keras_ehrnet.weights.formats import WeightsSource
from keras_ehrnet.weights.saving import KERAS_SUFFIX, read_keras

if TYPE_CHECKING:
    import keras

    from keras_ehrnet.runtime.keras import KerasNetwork

_EXPORTED = (".tflite", ".onnx")


@suggests_keywords
def load(
    source: str | Path | keras.Model,
    threads: int | None = None,
    delegates: Sequence[Any] = (),
    *,
    weights: WeightsSource | None = None,
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
        skeleton: `Skeleton`, or None for the one that the file or the weights name. Where none does, the number of
            keypoints suggests one, which a warning tells.
        input_size: tuple (height, width), or None for the usual one. Of exported files, only those of any size take
            another than their own.

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
    return load_keras(source, weights, skeleton, input_size)


@needing("A network of Keras")
def load_keras(
    source: str | Path | keras.Model,
    weights: WeightsSource | None = None,
    skeleton: Skeleton | None = None,
    input_size: tuple[int, int] | None = None,
) -> KerasNetwork:
    """A Keras network from all that `load` takes but exported files; arguments as there.

    Raises:
        ValueError: if there is no such model or file, or no weights for it.
    """
    import keras

    from keras_ehrnet import weights as weights_module
    from keras_ehrnet.runtime.keras import KerasNetwork

    model: keras.Model
    is_known = True
    if isinstance(source, keras.Model):
        model, about = source, _About()
    else:
        check_source(source, weights)
        if _is_name(source):
            model, about = _named(str(source), weights, skeleton, input_size)
            weights = str(source) if weights is None else weights
        else:
            model, about = read_keras(Path(source)), _about_file(Path(source)) or _About()
            is_known = about.skeleton is not None
    if weights is not None:
        weights_module.load(model, weights)
        known = _about_weights(weights)
        about = (known and replace(known, input_size=known.input_size or about.input_size)) or about
    any_size = None in model.input_shape[1:3]
    return KerasNetwork(
        model,
        skeleton or about.skeleton,
        input_size or (about.input_size if any_size else None),
        license=about.license,
        min_score=about.min_score,
        names_joints=is_known,
    )


@dataclass(frozen=True)
class _About:
    """What a source says about a model beside its layers."""

    skeleton: Skeleton | None = None
    input_size: tuple[int, int] | None = None
    license: str | None = None
    min_score: float = 0.0


def _about_file(path: Path) -> _About | None:
    """What a `.keras` file says, if it does."""
    about = metadata.read(path)
    return about and _About(about.skeleton, about.input_size, about.license, about.min_score)


def _about_weights(weights: WeightsSource | None) -> _About | None:
    """What is known of weights, if anything is."""
    if isinstance(weights, str) and weights in registry.REGISTRY:
        entry = registry.REGISTRY[weights]
        min_score = entry.min_score if isinstance(entry, registry.PackagedEntry) else 0.0
        return _About(SKELETONS[entry.skeleton], license=entry.license, min_score=min_score)
    if isinstance(weights, (str, os.PathLike)) and Path(weights).suffix.lower() == KERAS_SUFFIX:
        return _about_file(Path(weights))
    return None


def _packaged(source: object, weights: WeightsSource | None, input_size: tuple[int, int] | None) -> Path | None:
    """The exported file of weights that come with the package, unless what is asked for needs the Keras model."""
    entry = registry.packaged().get(source) if isinstance(source, str) else None
    return entry.exported_path if entry is not None and weights is None and input_size is None else None


def runs_without_keras(
    source: object, weights: WeightsSource | None = None, input_size: tuple[int, int] | None = None
) -> bool:
    """Whether `load` of these arguments needs neither Keras nor TensorFlow."""
    return is_exported(source) or _packaged(source, weights, input_size) is not None


def check_source(source: str | Path, weights: WeightsSource | None = None) -> None:
    """Refuses what `load` cannot find by its name, before seconds are spent on importing what would run it.

    Args:
        source: str or path, as of `load`. Exported files are opened at once, which is check enough.
        weights: as of `load`.

    Raises:
        ValueError: if there is no such model or file, or no weights for it.
    """
    if is_exported(source):
        return
    path = Path(source)
    if _is_name(source):
        if weights is None and str(source) not in registry.REGISTRY:
            raise ValueError(
                f"No weights with a license to share are published for {str(source)!r}. Pass your own copy as "
                f"weights=..., or choose a model that has them: {', '.join(sorted(registry.REGISTRY))}."
            )
    elif not path.is_file():
        raise ValueError(
            f"There is no model or file of that name. {suggestion(str(path), VARIANTS)} Received: {str(path)!r}"
        )
    elif path.suffix.lower() != KERAS_SUFFIX:
        raise ValueError(
            "A model file ends in .keras, .tflite or .onnx; weights alone need the name of their "
            "model beside them. "
            f"Received: {str(path)!r}"
        )


def _is_name(source: str | Path) -> bool:
    """Whether a source says how to build a model, and is no file of one."""
    return str(source) in (*VARIANTS, *registry.REGISTRY) or is_blocks_file(source)


def is_exported(source: object) -> bool:
    """Whether a source is named like an exported file, which needs no Keras."""
    return isinstance(source, (str, os.PathLike)) and Path(source).suffix.lower() in _EXPORTED


def _exported(
    path: Path,
    weights: WeightsSource | None,
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
    if input_size is not None:
        network.input_size = _size_of_file(path, network, input_size)
    if skeleton is not None and skeleton.num_joints != network.skeleton.num_joints:
        raise ValueError(
            f"{path} has {network.skeleton.num_joints} keypoints. "
            f"Received: skeleton {skeleton.name!r} with {skeleton.num_joints}"
        )
    network.skeleton = skeleton or network.skeleton
    return network


def _size_of_file(path: Path, network: Network, input_size: tuple[int, int]) -> tuple[int, int]:
    """The size that images are fitted into: of a file of any size, whatever its strides divide."""
    size = _size(input_size)
    if not network.any_size and size != network.input_size:
        raise ValueError(f"{path} takes images of size {network.input_size}. Received: input_size={size}")
    multiple = side_multiple(network.family, network.multi_person)
    if network.any_size and not is_size(size, multiple):
        raise ValueError(
            f"{path} takes images whose height and width are multiples of {multiple}. Received: input_size={size}"
        )
    return size


def _named(
    name: str, weights: WeightsSource | None, skeleton: Skeleton | None, input_size: tuple[int, int] | None
) -> tuple[keras.Model, _About]:
    """A model of the papers, or one with registered weights, made for these weights, which are still to be loaded."""
    entry = registry.REGISTRY.get(name)
    model = variant(name if entry is None else entry.model)
    about = _about_weights(name if weights is None else weights) or _About(model.skeleton)
    measured = entry.input_size if isinstance(entry, registry.PackagedEntry) else None
    own_size = measured or model.input_size
    size = own_size if input_size is None else _size(input_size)
    # Networks that take any size stay so: it is the image that says how they are used.
    fixed = {} if model.family == "efficienthrnet" or size == model.input_size else {"input_shape": (*size, 3)}
    return model.build_for(skeleton or about.skeleton, **fixed), replace(about, input_size=size)


def _size(input_size: tuple[int, int]) -> tuple[int, int]:
    if not is_size(input_size):
        raise ValueError(f"input_size is (height, width) in pixels. Received: {input_size!r}")
    return int(input_size[0]), int(input_size[1])

"""Weights: loading ours and the published ones into our models, fetching and converting them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_ehrnet.support.files import replacing, writing
from keras_ehrnet.support.messages import suggestion, warn
from keras_ehrnet.weights import download, formats, layouts
from keras_ehrnet.weights.download import fetch, home
from keras_ehrnet.weights.formats import WeightsError, WeightsSource
from keras_ehrnet.weights.registry import DEFAULT, DEFAULT_REFINE, REGISTRY, Entry, entry, packaged
from keras_ehrnet.weights.saving import write_keras

if TYPE_CHECKING:
    import keras

    from keras_ehrnet.metadata import Metadata

__all__ = [
    "DEFAULT",
    "DEFAULT_REFINE",
    "REGISTRY",
    "Entry",
    "WeightsError",
    "convert",
    "download",
    "entry",
    "fetch",
    "home",
    "load",
    "packaged",
]


def load(model: keras.Model, source: WeightsSource) -> keras.Model:
    """Loads weights into a model: ours, or the published ones, whatever their format.

    Nothing is assigned unless everything fits.

    Args:
        model: `keras.Model`, from one of this package's builders.
        source: what to load. A name from `weights.REGISTRY` (downloaded if need be); the path of a `.weights.h5` or
            `.keras` file, of an official EfficientPose `.h5`, or of a PyTorch checkpoint of EfficientHRNet,
            EfficientNet or EfficientPose-A/B/C; or a mapping from the published PyTorch tensor names to arrays.

    Returns:
        The same model.

    Raises:
        WeightsError: if the source cannot be read or does not fit; the message names the first tensor that does not.

    Example:
        >>> import numpy as np, keras_ehrnet as ke
        >>> from keras_ehrnet.weights import layouts
        >>> model = ke.EfficientPoseNAS("A")
        >>> state_dict = {"final.2.weight": np.zeros((5, 32, 1, 1))}
        >>> ke.weights.load(model, state_dict)
        Traceback (most recent call last):
        keras_ehrnet.support.errors.WeightsError: ...
    """
    tensors = _read(source)
    assign(model, tensors)
    return model


def convert(model: keras.Model, source: WeightsSource, path: str | Path, metadata: Metadata | None = None) -> Path:
    """Loads published weights into a model and saves it in our formats.

    Args:
        model: `keras.Model`, from one of this package's builders.
        source: what `load` takes.
        path: where to write. `.weights.h5` for the weights alone, `.keras` for the whole model.
        metadata: `Metadata` that a `.keras` file is to tell, such as its skeleton, or None.

    Returns:
        Path of the file, which is written whole or not at all.

    Raises:
        WeightsError: if the source does not fit, the path's suffix is neither, or the file cannot be written.
    """
    path = Path(path)
    suffix = next((suffix for suffix in (".weights.h5", ".keras") if path.name.endswith(suffix)), None)
    if suffix is None:
        raise WeightsError(f"Weights are saved as .weights.h5 or .keras files. Received: {path}")
    load(model, source)
    try:
        if suffix == ".keras":
            return write_keras(model, path, metadata)
        with writing(path), replacing(path) as partial:
            model.save_weights(partial)
    except OSError as error:
        raise WeightsError(str(error)) from error
    return path


def assign(model: keras.Model, tensors: formats.Tensors) -> None:
    """Checks every tensor against the model, then assigns them all."""
    try:
        slots = list(tensors.slots(model))
    except ValueError as error:
        raise WeightsError(f"{tensors.origin} does not fit: {error}") from error
    values = [_fitted(slot, tensors, model) for slot in slots]
    unknown = set(tensors.values) - {slot.tensor for slot in slots}
    left = sorted(name for name in unknown if not layouts.IGNORED.fullmatch(name))
    if left:
        raise WeightsError(
            f"{tensors.origin} does not fit model {model.name!r}: it holds {len(left)} tensors more, the first "
            f"{left[0]!r} of shape {tensors.values[left[0]].shape}."
        )
    missing = [slot.weight for slot, value in zip(slots, values, strict=True) if value is None]
    for slot, value in zip(slots, values, strict=True):
        if value is not None:
            slot.variable.assign(value)
    if missing:
        warn(
            f"{tensors.origin} holds no weights for {len(missing)} optional tensors, which keep their initial values: "
            f"{', '.join(missing)}"
        )


def _fitted(slot: layouts.Slot, tensors: formats.Tensors, model: keras.Model) -> np.ndarray | None:
    tensor = tensors.values.get(slot.tensor)
    expected = tuple(slot.variable.shape)
    if tensor is None and slot.optional:
        return None
    if tensor is None:
        raise WeightsError(
            f"{tensors.origin} does not fit model {model.name!r}: it has no tensor {slot.tensor!r}, "
            f"which {slot.weight} of shape {expected} needs."
        )
    value = slot.value(tensor)
    if value.shape != expected:
        raise WeightsError(
            f"{tensors.origin} does not fit model {model.name!r}: tensor {slot.tensor!r} has shape {tensor.shape}, "
            f"which becomes {value.shape}; {slot.weight} needs {expected}. It may be of another model, or of another "
            "number of keypoints."
        )
    if not np.isfinite(value).all():
        raise WeightsError(f"{tensors.origin}: tensor {slot.tensor!r} holds values that are not finite.")
    return value


def _read(source: WeightsSource) -> formats.Tensors:
    if isinstance(source, Mapping):
        return formats.from_mapping(source)
    if isinstance(source, str) and source in REGISTRY:
        return formats.read(fetch(REGISTRY[source]))
    if not isinstance(source, (str, os.PathLike)):
        raise WeightsError(f"Weights are a name, a file or a mapping. Received: {type(source).__name__}")
    path = Path(source)
    if not path.exists():
        raise WeightsError(
            f"There is no file and there are no registered weights of that name. {suggestion(str(source), REGISTRY)} "
            f"Received: {str(source)!r}"
        )
    return formats.read(path)

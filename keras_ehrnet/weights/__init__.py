"""Weights: loading ours and the published ones into our models, fetching and converting them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from keras_ehrnet.metadata import check_skeleton
from keras_ehrnet.skeletons import SKELETONS, Skeleton
from keras_ehrnet.support.messages import suggestion, warn
from keras_ehrnet.weights import download, formats, layouts
from keras_ehrnet.weights.download import fetch, home
from keras_ehrnet.weights.formats import WeightsError, WeightsSource
from keras_ehrnet.weights.registry import DEFAULT, DEFAULT_REFINE, REGISTRY, Entry, entry, packaged
from keras_ehrnet.weights.saving import write_keras, write_weights
from keras_ehrnet.weights.transfer import Transferred
from keras_ehrnet.weights.transfer import transfer as transfer_weights

if TYPE_CHECKING:
    import keras

    from keras_ehrnet.metadata import Metadata

__all__ = [
    "DEFAULT",
    "DEFAULT_REFINE",
    "REGISTRY",
    "Entry",
    "Transferred",
    "WeightsError",
    "convert",
    "download",
    "entry",
    "fetch",
    "home",
    "load",
    "packaged",
]


@overload
def load(model: keras.Model, source: WeightsSource, *, transfer: Literal["whole"] = "whole") -> keras.Model: ...


@overload
def load(model: keras.Model, source: WeightsSource, *, transfer: Literal["fitting"] | Skeleton) -> Transferred: ...


def load(model: keras.Model, source: WeightsSource, *, transfer: str | Skeleton = "whole") -> keras.Model | Transferred:
    """Loads weights into a model: ours, or the published ones, whatever their format.

    Args:
        model: `keras.Model`, from one of this package's builders.
        source: what to load. A name from `weights.REGISTRY` (downloaded if need be); the path of a `.weights.h5` or
            `.keras` file, of an official EfficientPose `.h5`, or of a PyTorch checkpoint of EfficientHRNet,
            EfficientNet or EfficientPose-A/B/C; or a mapping from the published PyTorch tensor names to arrays.
        transfer: `"whole"`: nothing is assigned unless everything fits. A `Skeleton`, which is to be that of the model:
            the trunk is taken as it is, heads joint by joint and limb by limb, by the joints' names; what has no
            counterpart keeps its values. `"fitting"`: whatever fits by name and shape, such as a backbone.

    Returns:
        The same model; with another `transfer` than `"whole"` what was taken, as `Transferred`.

    Raises:
        WeightsError: if the source cannot be read or does not fit; the message names the first tensor that does not.
        ValueError: if `transfer` is none of these, or the skeleton not that of the model.

    Example:
        >>> import keras_ehrnet as ke
        >>> dog = ke.Skeleton("dog", ("nose", "tail", "left_paw", "right_paw"), limbs=((0, 1), (0, 2), (0, 3)))
        >>> model = ke.EfficientPose("RT", num_keypoints=4, num_limbs=3)
        >>> print(ke.weights.load(model, "efficientpose-rt-coco", transfer=dog))
        266 weights taken whole, heads of nose; 2 left as they were (pafs/kernel, pafs/bias)
        >>> ke.weights.load(model, {"final.2.weight": [0.0]})
        Traceback (most recent call last):
        keras_ehrnet.support.errors.WeightsError: ...
    """
    skeleton = transfer if isinstance(transfer, Skeleton) else None
    if skeleton is not None:
        check_skeleton(model, skeleton)
    elif transfer not in _TRANSFERS:
        raise ValueError(
            f"transfer is a Skeleton, or one of two words. {suggestion(transfer, _TRANSFERS)} Received: {transfer!r}"
        )
    tensors = _read(source)
    if transfer != "whole":
        return transfer_weights(model, tensors, skeleton)
    assign(model, tensors)
    return model


_TRANSFERS = ("whole", "fitting")


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
        write_weights(model, path)
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
        registered = REGISTRY[source]
        return replace(formats.read(fetch(registered)), skeleton=SKELETONS[registered.skeleton])
    if not isinstance(source, (str, os.PathLike)):
        raise WeightsError(f"Weights are a name, a file or a mapping. Received: {type(source).__name__}")
    path = Path(source)
    if not path.exists():
        raise WeightsError(
            f"There is no file and there are no registered weights of that name. {suggestion(str(source), REGISTRY)} "
            f"Received: {str(source)!r}"
        )
    return formats.read(path)

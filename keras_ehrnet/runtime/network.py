"""A `.tflite` file of this package as a network: images in, maps or people out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_ehrnet.runtime import metadata
from keras_ehrnet.runtime.interpreter import Interpreter
from keras_ehrnet.runtime.metadata import Metadata


class TFLiteNetwork:
    """An exported model behind the interface of `keras_ehrnet.networks.Network`.

    Args:
        model: path of the `.tflite` file, or its content as bytes.
        threads: int, or None for as many as there are cores, at most 4.
        delegates: sequence of paths of delegate libraries, or of loaded delegates.

    Attributes:
        metadata: `Metadata` of the file.
        raw: `Interpreter`: the model itself, arrays in and arrays out.
        name: str. Name of the model.
        family: str. Key of `keras_ehrnet.models.families.FAMILIES`.
        skeleton: `Skeleton` of its keypoints.
        input_size: tuple (height, width) in pixels.
        any_size: bool. False: an exported model takes one size.
        decode: str. `"none"`, `"peaks"` or `"poses"`: how much of the way to people is inside the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no intact TFLite model of this package.
    """

    def __init__(
        self, model: str | os.PathLike | bytes, threads: int | None = None, delegates: Sequence[Any] = ()
    ) -> None:
        self._model = model
        self.raw = Interpreter(model, threads, delegates)
        self.metadata = _metadata(model, self.raw)
        self.name = self.metadata.name
        self.family = self.metadata.family
        self.skeleton = self.metadata.skeleton
        self.input_size = self.metadata.input_size
        self.any_size = False
        self.decode = self.metadata.decode

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs for a batch of uint8 RGB images of shape `(B, H, W, 3)`, one after the other."""
        entry = self.metadata.input
        batch = np.asarray(images).astype(entry.dtype, copy=False)
        results = [self.raw(**{entry.name: batch[index : index + 1]}) for index in range(len(batch))]
        return {name: np.concatenate([result[name] for result in results]) for name in results[0]}

    def digest(self) -> str:
        """Checksum of the file."""
        content = self._model if isinstance(self._model, bytes) else Path(self._model).read_bytes()
        return hashlib.sha256(content).hexdigest()

    def __repr__(self) -> str:
        height, width = self.input_size
        precision, decode = self.metadata.precision, self.decode
        return f"TFLiteNetwork({self.name}, {self.skeleton.name}, input {width}x{height}, {precision}, decode={decode})"


def load(path: str | os.PathLike, threads: int | None = None, delegates: Sequence[Any] = ()) -> TFLiteNetwork:
    """A network from a `.tflite` file that `keras_ehrnet.export.tflite` wrote.

    Args:
        path: path of the file.
        threads: int, or None for as many as there are cores, at most 4.
        delegates: sequence of paths of delegate libraries (GPU, NPU), or of loaded delegates.

    Returns:
        `TFLiteNetwork`; `keras_ehrnet.PosePredictor(network)` finds people with it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no intact TFLite model of this package, or no interpreter is installed.

    Example:
        >>> from keras_ehrnet import PosePredictor, runtime
        >>> network = runtime.load("model.tflite", threads=2)  # doctest: +SKIP
        >>> PosePredictor(network)("photo.jpg")  # doctest: +SKIP
        Poses(1 person, mpii_16, image 640x425, scores 0.45)
    """
    return TFLiteNetwork(path, threads, delegates)


def _metadata(model: str | os.PathLike | bytes, interpreter: Interpreter) -> Metadata:
    found = metadata.read(model)
    if found is None:
        received = f"{len(model)} bytes" if isinstance(model, bytes) else model
        raise ValueError(
            "This TFLite model does not say how its outputs become people: keras_ehrnet.export.tflite did not write "
            "it, or its end is missing. keras_ehrnet.runtime.Interpreter(path) gives its outputs as they are. "
            f"Received: {received} with outputs {', '.join(map(str, interpreter.outputs.values()))}"
        )
    return found

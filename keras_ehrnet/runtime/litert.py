"""LiteRT, from whichever package there is: any model as named arrays in and out, ours as networks."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from keras_ehrnet import metadata
from keras_ehrnet.metadata import Metadata
from keras_ehrnet.runtime.apart import ApartEngine
from keras_ehrnet.runtime.engine import Engine, LocalEngine, TensorInfo
from keras_ehrnet.runtime.network import in_batches, need_agreement
from keras_ehrnet.support.errors import ModelError
from keras_ehrnet.support.files import sha256
from keras_ehrnet.support.messages import named

PACKAGES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow.lite.python.interpreter")
"""Modules that have an interpreter, the best first."""


class Interpreter:
    """Any TFLite model, with whatever inputs and outputs it has.

    One interpreter may be called from any number of threads: calls wait for each other. Pickled, it is opened again
    from its file or bytes.

    Args:
        model: path of a `.tflite` file, or its content as bytes.
        threads: int, or None for as many as there are cores, at most 4.
        delegates: sequence of paths of delegate libraries, or of loaded delegates.
        verify: bool. Whether to be safe from damaged models: interpreters do not check all that they read, and a wrong
            byte can end the process. Files of this package have a checksum, which is compared before they are opened;
            others run in a process of their own. False: the file is trusted.

    Attributes:
        about: `Metadata` of the file, or None where it has none or is trusted.

    Raises:
        FileNotFoundError: if there is no such file.
        ModelError: if it is no intact TFLite model.
        ValueError: if no interpreter is installed, or a delegate does not load.

    Example:
        >>> from keras_ehrnet.runtime import Interpreter
        >>> interpreter = Interpreter("model.tflite")  # doctest: +SKIP
        >>> maps = interpreter(image=photo[None])  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | os.PathLike | bytes,
        threads: int | None = None,
        delegates: Sequence[Any] = (),
        *,
        verify: bool = True,
    ) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"An interpreter runs on one thread or more. Received: threads={threads}")
        # Whoever opens it again may be at work in another folder.
        lasting = model if isinstance(model, bytes) else Path(model).absolute()
        self._arguments, self._verify = (lasting, threads, tuple(delegates)), verify
        # An interpreter has one set of input and output arrays. One per thread would save some time (EfficientPose RT,
        # 8 threads on 2 cores, 96 images: 2.8 s rather than 3.9) for as much memory again with each thread.
        self._lock = threading.Lock()
        source = model if isinstance(model, bytes) else _checked_file(model)
        self.about = metadata.verified(source) if verify else None
        is_sealed = self.about is not None and self.about.checksum is not None
        apart = verify and not is_sealed and bool(sys.executable)
        self._engine = _engine(package(), source, threads, delegates, apart)

    @property
    def inputs(self) -> dict[str, TensorInfo]:
        """Inputs by name."""
        return self._engine.inputs

    @property
    def outputs(self) -> dict[str, TensorInfo]:
        """Outputs by name."""
        return self._engine.outputs

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Runs the model.

        Args:
            arrays: array for each input, by name, of its shape and type.

        Returns:
            Outputs by name.

        Raises:
            ValueError: if names, shapes or types are not those of the inputs.
        """
        given = [str(TensorInfo(name, np.shape(array), np.asarray(array).dtype)) for name, array in arrays.items()]
        needed = [str(info) for info in self.inputs.values()]
        if sorted(given) != sorted(needed):
            raise ValueError(f"The model takes {', '.join(needed)}. Received: {', '.join(given) or 'nothing'}")
        with self._lock:
            return self._engine({name: np.asarray(array) for name, array in arrays.items()})

    def __reduce__(self) -> tuple[Callable[..., Interpreter], tuple]:
        return partial(type(self), verify=self._verify), self._arguments

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(map(str, infos.values())) for infos in (self.inputs, self.outputs))
        return f"Interpreter({inputs} -> {outputs})"


class TFLiteNetwork:
    """An exported model behind the interface of `keras_ehrnet.runtime.Network`.

    It may be called from any number of threads, and pickled: see `Interpreter`.

    Args:
        model: path of the `.tflite` file, or its content as bytes.
        threads: int, or None for as many as there are cores, at most 4.
        delegates: sequence of paths of delegate libraries, or of loaded delegates.

    Attributes:
        metadata: `Metadata` of the file.
        raw: `Interpreter`: the model itself, arrays in and arrays out.
        name: str. Name of the model.
        family: str. Key of `keras_ehrnet.families.FAMILIES`.
        skeleton: `Skeleton` of its keypoints.
        input_size: tuple (height, width) in pixels.
        any_size: bool. False: an exported model takes one size.
        decode: str. `"none"`, `"peaks"` or `"poses"`: how much of the way to people is inside the file.
        multi_person: bool. Whether it gives several people, rather than one.
        min_score: float. Score of a person below which there is nobody.

    Raises:
        FileNotFoundError: if there is no such file.
        ModelError: if it is no intact TFLite model of this package.
    """

    def __init__(
        self, model: str | os.PathLike | bytes, threads: int | None = None, delegates: Sequence[Any] = ()
    ) -> None:
        self._model = model if isinstance(model, bytes) else Path(model).absolute()
        self.raw = Interpreter(model, threads, delegates)
        self.metadata = _need_metadata(self.raw, named(model))
        shapes = ({name: info.shape for name, info in infos.items()} for infos in (self.raw.inputs, self.raw.outputs))
        need_agreement(self.metadata, *shapes, source=named(model))
        self.name = self.metadata.name
        self.family = self.metadata.family
        self.skeleton = self.metadata.skeleton
        self.input_size = self.metadata.input_size
        self.any_size = False
        self.decode = self.metadata.decode
        self.multi_person = self.metadata.multi_person
        self.min_score = self.metadata.min_score

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs for a batch of uint8 RGB images of shape `(B, H, W, 3)`, so many at a time as the file takes."""
        entry = self.metadata.input
        batch = np.asarray(images).astype(entry.dtype, copy=False)
        return in_batches(lambda part: self.raw(**{entry.name: part}), batch, self.raw.inputs[entry.name].shape[0])

    def digest(self) -> str:
        """Checksum of the file."""
        return sha256(self._model)

    def __repr__(self) -> str:
        height, width = self.input_size
        precision, decode = self.metadata.precision, self.decode
        return f"TFLiteNetwork({self.name}, {self.skeleton.name}, input {width}x{height}, {precision}, decode={decode})"


def _engine(package: str, model: Path | bytes, threads: int | None, delegates: Sequence[Any], apart: bool) -> Engine:
    if not apart:
        return LocalEngine(package, model, threads, delegates)
    paths = [str(delegate) for delegate in delegates if isinstance(delegate, (str, os.PathLike))]
    if len(paths) < len(delegates):
        raise ValueError(
            "A model without a checksum runs in a process of its own, to which loaded delegates cannot go: name their "
            f"libraries, or trust the file with verify=False. Received: {named(model)}"
        )
    return ApartEngine(package, model, threads, paths)


def _need_metadata(interpreter: Interpreter, source: str) -> Metadata:
    if interpreter.about is None:
        raise ModelError(
            "This TFLite model does not say how its outputs become people: keras_ehrnet.export.tflite did not write "
            "it, or its end is missing. keras_ehrnet.runtime.Interpreter(path) gives its outputs as they are. "
            f"Received: {source} with outputs {', '.join(map(str, interpreter.outputs.values()))}"
        )
    return interpreter.about


def package() -> str:
    """The module to take the interpreter from."""
    for name in PACKAGES:
        try:
            import_module(name)
        except ImportError:
            continue
        return name
    raise ValueError(
        "No LiteRT interpreter is installed, which runs .tflite files: pip install ai-edge-litert. "
        f"Received: none of {', '.join(PACKAGES)}"
    )


def _checked_file(path: str | os.PathLike) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no such file. Received: {path}")
    return path

"""LiteRT, from whichever package there is: any model as named arrays in and out, ours as networks."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from keras_ehrnet import metadata
from keras_ehrnet.metadata import Metadata
from keras_ehrnet.support.errors import ModelError, reason
from keras_ehrnet.support.files import sha256
from keras_ehrnet.support.terminal import silenced

PACKAGES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow.lite.python.interpreter")
"""Modules that have an interpreter, the best first."""

_MOST_THREADS = 4  # more make small networks slower


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model.

    Args:
        name: str. Its name in the signature; of models without one, of the tensor.
        shape: tuple of int.
        dtype: `numpy.dtype`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{list(self.shape)}"


class Interpreter:
    """Any TFLite model, with whatever inputs and outputs it has.

    One interpreter may be called from any number of threads: calls wait for each other. Pickled, it is opened again
    from its file or bytes.

    Args:
        model: path of a `.tflite` file, or its content as bytes.
        threads: int, or None for as many as there are cores, at most 4.
        delegates: sequence of paths of delegate libraries, or of loaded delegates.

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
        self, model: str | os.PathLike | bytes, threads: int | None = None, delegates: Sequence[Any] = ()
    ) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"An interpreter runs on one thread or more. Received: threads={threads}")
        # Whoever opens it again may be at work in another folder.
        lasting = model if isinstance(model, bytes) else Path(model).absolute()
        self._arguments = (lasting, threads, tuple(delegates))
        # An interpreter has one set of input and output arrays. One per thread would save some time (EfficientPose RT,
        # 8 threads on 2 cores, 96 images: 2.8 s rather than 3.9) for as much memory again with each thread.
        self._lock = threading.Lock()
        package = _package()
        source = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(_checked_file(model))}
        loaded = [_delegate(package, delegate) for delegate in delegates]
        try:
            with silenced():
                self._interpreter = package.Interpreter(
                    **source, num_threads=threads or usual_threads(), experimental_delegates=loaded
                )
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            received = f"{len(model)} bytes" if isinstance(model, bytes) else model
            raise ModelError(
                "This is not a TFLite model that the interpreter can run, or it is cut short: export or copy it again "
                f"({reason(error)}). Received: {received}"
            ) from error
        signatures = self._interpreter.get_signature_list()
        self._runner = self._interpreter.get_signature_runner(next(iter(signatures))) if signatures else None

    @cached_property
    def inputs(self) -> dict[str, TensorInfo]:
        """Inputs by name."""
        runner, interpreter = self._runner, self._interpreter
        return _infos(runner.get_input_details() if runner else interpreter.get_input_details())

    @cached_property
    def outputs(self) -> dict[str, TensorInfo]:
        """Outputs by name."""
        runner, interpreter = self._runner, self._interpreter
        return _infos(runner.get_output_details() if runner else interpreter.get_output_details())

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
            return self._runner(**arrays) if self._runner else self._run_tensors(arrays)

    def _run_tensors(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The way of models without signatures."""
        for detail in self._interpreter.get_input_details():
            self._interpreter.set_tensor(detail["index"], arrays[detail["name"]])
        self._interpreter.invoke()
        details = self._interpreter.get_output_details()
        return {detail["name"]: self._interpreter.get_tensor(detail["index"]) for detail in details}

    def __reduce__(self) -> tuple[type[Interpreter], tuple]:
        return type(self), self._arguments

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
        self.metadata = _metadata(model, self.raw)
        self.name = self.metadata.name
        self.family = self.metadata.family
        self.skeleton = self.metadata.skeleton
        self.input_size = self.metadata.input_size
        self.any_size = False
        self.decode = self.metadata.decode
        self.multi_person = self.metadata.multi_person
        self.min_score = self.metadata.min_score

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs for a batch of uint8 RGB images of shape `(B, H, W, 3)`, one after the other."""
        entry = self.metadata.input
        batch = np.asarray(images).astype(entry.dtype, copy=False)
        results = [self.raw(**{entry.name: batch[index : index + 1]}) for index in range(len(batch))]
        return {name: np.concatenate([result[name] for result in results]) for name in results[0]}

    def digest(self) -> str:
        """Checksum of the file."""
        return sha256(self._model)

    def __repr__(self) -> str:
        height, width = self.input_size
        precision, decode = self.metadata.precision, self.decode
        return f"TFLiteNetwork({self.name}, {self.skeleton.name}, input {width}x{height}, {precision}, decode={decode})"


def _metadata(model: str | os.PathLike | bytes, interpreter: Interpreter) -> Metadata:
    found = metadata.read(model)
    if found is None:
        received = f"{len(model)} bytes" if isinstance(model, bytes) else model
        raise ModelError(
            "This TFLite model does not say how its outputs become people: keras_ehrnet.export.tflite did not write "
            "it, or its end is missing. keras_ehrnet.runtime.Interpreter(path) gives its outputs as they are. "
            f"Received: {received} with outputs {', '.join(map(str, interpreter.outputs.values()))}"
        )
    return found


def _package() -> ModuleType:
    for name in PACKAGES:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise ValueError(
        "No LiteRT interpreter is installed, which runs .tflite files: pip install ai-edge-litert. "
        f"Received: none of {', '.join(PACKAGES)}"
    )


def _checked_file(path: str | os.PathLike) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no such file. Received: {path}")
    return path


def usual_threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Engines such as Ray tell the many workers of a machine so how much of it each has.
    share = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, _MOST_THREADS, max(int(share), 1) if share.isdigit() else cores)


def _delegate(package: ModuleType, delegate: Any) -> Any:
    if not isinstance(delegate, (str, os.PathLike)):
        return delegate
    try:
        return package.load_delegate(str(delegate))
    except (ValueError, OSError) as error:
        raise ValueError(f"The delegate does not load ({error}). Received: {delegate}") from error


def _infos(details: Any) -> dict[str, TensorInfo]:
    """Interpreters describe signatures by a dict of details, models without one by a list."""
    named = details.items() if isinstance(details, dict) else [(detail["name"], detail) for detail in details]
    return {
        name: TensorInfo(name, tuple(map(int, detail["shape"])), np.dtype(detail["dtype"])) for name, detail in named
    }

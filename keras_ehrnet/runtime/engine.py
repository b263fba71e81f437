"""A LiteRT interpreter, from whichever package there is, as named arrays in and out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from keras_ehrnet.support.errors import ModelError, reason
from keras_ehrnet.support.messages import named
from keras_ehrnet.support.terminal import silenced

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


class Engine(Protocol):
    """What an `Interpreter` needs of what runs its model. One call at a time.

    Attributes:
        inputs: dict of name to `TensorInfo`.
        outputs: dict of name to `TensorInfo`.
    """

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]

    def __call__(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs for an array for each input; ModelError where the model does not run."""
        ...


class LocalEngine:
    """A model in this process.

    Args:
        package: str. Module that has the interpreter.
        model: path of the file, or its content.
        threads: int, or None for as many as there are cores, at most 4.
        delegates: sequence of paths of delegate libraries, or of loaded delegates.

    Raises:
        ModelError: if the interpreter does not take the model.
        ValueError: if a delegate does not load.
    """

    def __init__(
        self, package: str, model: Path | bytes, threads: int | None = None, delegates: Sequence[Any] = ()
    ) -> None:
        self._source = named(model)
        module = import_module(package)
        source = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
        loaded = [_delegate(module, delegate) for delegate in delegates]
        try:
            with silenced():
                self.interpreter = module.Interpreter(
                    **source, num_threads=threads or usual_threads(), experimental_delegates=loaded
                )
                self.interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise not_runnable(reason(error), self._source) from error
        signatures = self.interpreter.get_signature_list()
        self._runner = self.interpreter.get_signature_runner(next(iter(signatures))) if signatures else None
        described = self._runner or self.interpreter
        self.inputs, self.outputs = _infos(described.get_input_details()), _infos(described.get_output_details())

    def __call__(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name."""
        try:
            return self._runner(**arrays) if self._runner else self._run_tensors(arrays)
        except (ValueError, RuntimeError) as error:
            raise not_runnable(reason(error), self._source) from error

    def _run_tensors(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The way of models without signatures."""
        for detail in self.interpreter.get_input_details():
            self.interpreter.set_tensor(detail["index"], arrays[detail["name"]])
        self.interpreter.invoke()
        details = self.interpreter.get_output_details()
        return {detail["name"]: self.interpreter.get_tensor(detail["index"]) for detail in details}


def not_runnable(problem: str, source: str) -> ModelError:
    """The error to raise where an interpreter cannot do with a model."""
    return ModelError(
        "This is not a TFLite model that the interpreter can run, or it is cut short: export or copy it again "
        f"({problem}). Received: {source}"
    )


def usual_threads() -> int:
    """As many as there are cores for this process, at most 4."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Engines such as Ray tell the many workers of a machine so how much of it each has.
    share = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, _MOST_THREADS, max(int(share), 1) if share.isdigit() else cores)


def _delegate(package: Any, delegate: Any) -> Any:
    if not isinstance(delegate, (str, os.PathLike)):
        return delegate
    try:
        return package.load_delegate(str(delegate))
    except (ValueError, OSError) as error:
        raise ValueError(f"The delegate does not load ({error}). Received: {delegate}") from error


def _infos(details: Any) -> dict[str, TensorInfo]:
    """Interpreters describe signatures by a dict of details, models without one by a list."""
    entries = details.items() if isinstance(details, dict) else [(detail["name"], detail) for detail in details]
    return {
        name: TensorInfo(name, tuple(map(int, detail["shape"])), np.dtype(detail["dtype"])) for name, detail in entries
    }

"""Models of unknown origin run in a process of their own: a damaged one can end the process that it is in.

Interpreters do not check all that they read, and what is wrong may show at any call. As a script this module is that
process: `python -m keras_ehrnet.runtime.apart PACKAGE MODEL THREADS`.
"""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from threading import Timer
from typing import Any, BinaryIO

import numpy as np

from keras_ehrnet.runtime.engine import LocalEngine, TensorInfo, not_runnable
from keras_ehrnet.support.errors import ModelError
from keras_ehrnet.support.limits import check_size
from keras_ehrnet.support.messages import named
from keras_ehrnet.support.processes import as_program

_SECONDS = 120
"""How long opening, or one call, may take."""

Arrays = dict[str, np.ndarray]


class ApartEngine:
    """A model in a process of its own, which ends with this object.

    Args:
        package, model, threads, delegates: as of `LocalEngine`; delegates are paths.

    Raises:
        ModelError: if the interpreter does not take the model, or does not survive it.
    """

    def __init__(
        self, package: str, model: Path | bytes, threads: int | None = None, delegates: Sequence[str] = ()
    ) -> None:
        self._source = named(model)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            path = model if isinstance(model, Path) else Path(folder) / "model.tflite"
            if isinstance(model, bytes):
                path.write_bytes(model)
            self._process = _start(package, str(path.absolute()), str(threads or 0), *delegates)
            weakref.finalize(self, _stop, self._process)
            about, _ = self._answer()
        self.inputs, self.outputs = (
            {name: TensorInfo(name, tuple(shape), np.dtype(dtype)) for name, shape, dtype in about[key]}
            for key in ("inputs", "outputs")
        )

    def __call__(self, arrays: Arrays) -> Arrays:
        """Outputs by name."""
        try:
            _write(self._pipes[0], {}, arrays)
        except OSError as error:
            raise not_runnable("it ended the process that ran it", self._source) from error
        return self._answer()[1]

    @property
    def _pipes(self) -> tuple[BinaryIO, BinaryIO]:
        assert self._process.stdin is not None and self._process.stdout is not None
        return self._process.stdin, self._process.stdout  # type: ignore[return-value]

    def _answer(self) -> tuple[dict[str, Any], Arrays]:
        timer = Timer(_SECONDS, self._process.kill)
        timer.start()
        try:
            head, arrays = _read(self._pipes[1], self._source)
        except (EOFError, OSError, ValueError) as error:
            slow = not timer.is_alive()
            problem = f"it takes more than {_SECONDS} seconds" if slow else "it ends the process that runs it"
            _stop(self._process)
            raise not_runnable(problem, self._source) from error
        finally:
            timer.cancel()
        if "error" in head:
            raise not_runnable(str(head["error"])[:200], self._source)
        return head, arrays


def _start(*arguments: str) -> subprocess.Popen[bytes]:
    command, settings = as_program(__name__, *arguments)
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, env=settings, stdin=pipe, stdout=pipe, stderr=nowhere)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


# A message is the length of its head, the head, which is JSON and lists the arrays, and then their bytes: nothing that
# could be run comes out of a process that a model may have taken over.


def _write(pipe: BinaryIO, head: dict[str, Any], arrays: Arrays) -> None:
    listed = [[name, array.shape, array.dtype.str] for name, array in arrays.items()]
    text = json.dumps({**head, "arrays": listed}).encode()
    pipe.write(struct.pack("<I", len(text)) + text)
    for array in arrays.values():
        pipe.write(np.ascontiguousarray(array).tobytes())
    pipe.flush()


def _read(pipe: BinaryIO, source: object) -> tuple[dict[str, Any], Arrays]:
    (length,) = struct.unpack("<I", _exactly(pipe, 4))
    check_size(length, source, ModelError, "What the model says of itself")
    head = json.loads(_exactly(pipe, length))
    arrays = {}
    for name, shape, kind in head["arrays"]:
        size = math.prod(shape) * np.dtype(kind).itemsize
        check_size(size, source, ModelError, f"The model's tensor {name!r}")
        arrays[name] = np.frombuffer(_exactly(pipe, size), kind).reshape(shape).copy()
    return head, arrays


def _exactly(pipe: BinaryIO, size: int) -> bytes:
    content = pipe.read(size)
    if len(content) < size:
        raise EOFError
    return content


def _serve(package: str, model: str, threads: str, *delegates: str) -> None:
    # Libraries in C++ print where they like: messages go where they do not.
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        engine = LocalEngine(package, Path(model), int(threads) or None, delegates)
        listed = {
            key: [[info.name, info.shape, info.dtype.str] for info in infos.values()]
            for key, infos in (("inputs", engine.inputs), ("outputs", engine.outputs))
        }
    except Exception as error:
        _write(pipe, {"error": _problem(error)}, {})
        return
    _write(pipe, listed, {})
    while True:
        try:
            _, arrays = _read(sys.stdin.buffer, model)
        except EOFError:
            return
        try:
            _write(pipe, {}, engine(arrays))
        except ModelError as error:
            _write(pipe, {"error": _problem(error)}, {})


def _problem(error: Exception) -> str:
    """What the interpreter said."""
    return str(error.__cause__ or error)


if __name__ == "__main__":
    _serve(*sys.argv[1:])

"""States of a training on the disk, from which it goes on."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from keras_ehrnet.support.errors import CheckpointError, reading
from keras_ehrnet.support.files import replace_file, why

_SUFFIX = ".npz"
_POSITION = "epoch"


class Trained(Protocol):
    """What has a state: a compiled `keras.Model`, or several of them seen as one."""

    @property
    def variables(self) -> list[Any]: ...

    @property
    def optimizer(self) -> Any: ...


class Checkpoints:
    """States of a training in a folder, the newest `keep` of them.

    A state is what the next step depends on: all variables of the model, those of its dropouts included, and of the
    optimizer, with moving averages. A new one is written under another name, flushed to the disk and renamed; only
    then older ones are deleted.

    Args:
        folder: where they are.
        keep: int. How many.
    """

    def __init__(self, folder: Path, keep: int = 1) -> None:
        self.folder, self._keep = folder, keep

    def paths(self) -> list[Path]:
        """All checkpoints, oldest first."""
        return sorted(self.folder.glob(f"epoch-*{_SUFFIX}"))

    def save(self, model: Trained, epochs: int) -> Path:
        """Saves the state after so many epochs.

        Raises:
            OSError: saying which checkpoint is the last, if this one cannot be written.
        """
        path = self.folder / f"epoch-{epochs:05d}{_SUFFIX}"
        arrays = {name: keras.ops.convert_to_numpy(variable) for name, variable in _state(model).items()}
        arrays[_POSITION] = np.int64(epochs)
        earlier = [other for other in self.paths() if other != path]
        try:
            replace_file(path, lambda file: np.savez(file, **arrays))
        except OSError as error:
            last = f"The last one, {earlier[-1]}, is intact." if earlier else "There is none before it."
            raise OSError(f"The checkpoint {path} could not be written ({why(error)}). {last}") from error
        for old in earlier[: len(earlier) + 1 - self._keep]:
            with suppress(OSError):
                old.unlink()
        return path

    def epochs(self) -> int:
        """Epochs behind the newest checkpoint; 0 where there is none."""
        paths = self.paths()
        return int(paths[-1].stem.split("-")[1]) if paths else 0

    def restore(self, model: Trained) -> int:
        """Brings the newest state back, where there is one.

        Returns:
            int. Number of epochs behind it.

        Raises:
            CheckpointError: if the file is damaged, or of another model.
        """
        epochs = self.epochs()
        if epochs:
            assign_state(model, self.read(model))
        return epochs

    def read(self, model: Trained) -> dict[str, np.ndarray]:
        """The newest state, of which there must be one, as arrays by name; raises what `restore` does."""
        path = self.paths()[-1]
        state = _state(model)
        with reading(CheckpointError, path, "The checkpoint"):
            shapes = _shapes(path)
            del shapes[_POSITION]
            for name in (*state, *shapes):
                here, there = tuple(state[name].shape) if name in state else None, shapes.get(name)
                if here != there:
                    raise CheckpointError(
                        f"The checkpoint does not fit: {name} has shape {here} in the model. Received: {there} in "
                        f"{path}"
                    )
            with np.load(path) as file:
                return {name: np.asarray(file[name]) for name in shapes}


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of a file's arrays, none of which is read: a few bytes may stand for more than there is memory."""
    shapes = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, kind = read(file)
            if kind.kind in "OSU" or kind.itemsize > 16:
                raise CheckpointError(f"The checkpoint holds something else where numbers are. Received: {path}")
            shapes[name.removesuffix(".npy")] = shape
    return shapes


def empty_state(model: Trained) -> dict[str, np.ndarray]:
    """Arrays like those of a checkpoint, without its values."""
    return {name: np.zeros(variable.shape, variable.dtype) for name, variable in _state(model).items()}


def assign_state(model: Trained, arrays: dict[str, np.ndarray]) -> None:
    """Gives a model and its optimizer the values of a checkpoint."""
    for name, variable in _state(model).items():
        variable.assign(arrays[name])


def _state(model: Trained) -> dict[str, Any]:
    """Variables by number and last name: whole names count the models that a process has made."""
    groups = {"model": model.variables, "optimizer": model.optimizer.variables}
    return {
        f"{group}/{number:05d}/{variable.path.rpartition('/')[2]}": variable
        for group, variables in groups.items()
        for number, variable in enumerate(variables)
    }

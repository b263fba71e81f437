"""Models as files of Keras: written whole, and read with nothing run that they bring along."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from keras_ehrnet.metadata import Metadata, append
from keras_ehrnet.support.errors import KerasEhrnetError, ModelError, is_mistake, reason
from keras_ehrnet.support.files import partial_path, replacing, write_file, writing
from keras_ehrnet.weights.formats import damaged, sealed
from keras_ehrnet.weights.hostile import KERAS_WEIGHTS, check_keras

if TYPE_CHECKING:
    import keras

KERAS_SUFFIX = ".keras"


def write_keras(model: keras.Model, path: Path, metadata: Metadata | None = None) -> Path:
    """Writes a `.keras` file, whole or not at all, with what is to be told beside the model.

    Args:
        model: `keras.Model`.
        path: Path of the file; it ends in `.keras`.
        metadata: `Metadata`, or None for what `model.save` writes.

    Returns:
        The path.

    Raises:
        ValueError: if the path ends in something else.
        OSError: if the file cannot be written; what was there before is intact.
    """
    if path.suffix != KERAS_SUFFIX:
        raise ValueError(f"The name of a Keras model's file ends in .keras. Received: {str(path)!r}")
    with writing(path), replacing(path) as partial:
        model.save(partial)
        if metadata is not None:
            partial.write_bytes(append(partial.read_bytes(), metadata))
    return path


def write_weights(model: keras.Model, path: Path) -> Path:
    """Writes a `.weights.h5` file with the checksum of its values, whole or not at all; raises as `write_keras`.

    HDF5 ends the process where a disk is full. In a `.keras` file Keras makes it in memory, so it is taken from there.
    """
    archive = partial_path(path.with_name(f"{path.name}.keras"))
    try:
        with writing(path):
            model.save(archive)
        with zipfile.ZipFile(archive) as content:
            weights = content.read(KERAS_WEIGHTS)
    finally:
        archive.unlink(missing_ok=True)
    write_file(path, sealed(weights))
    return path


def read_keras(path: Path) -> keras.Model:
    """The model of a `.keras` file: of Keras's own layers, without code of the file's and without other files.

    Args:
        path: Path of the file.

    Returns:
        `keras.Model`, not compiled.

    Raises:
        ModelError: if it is damaged, leads to other files, or would take more memory than one input may.
    """
    import keras

    try:
        check_keras(path)
        if path.suffix == KERAS_SUFFIX:
            return keras.models.load_model(path, compile=False, safe_mode=True)
        with tempfile.TemporaryDirectory() as folder:  # Keras knows no name that ends in capitals.
            copy = shutil.copyfile(path, Path(folder) / f"model{KERAS_SUFFIX}")
            return keras.models.load_model(copy, compile=False, safe_mode=True)
    except (FileNotFoundError, PermissionError):
        raise
    except KerasEhrnetError as error:
        raise ModelError(str(error)) from error
    except Exception as error:  # A damaged archive can make Keras stumble anywhere.
        if is_mistake(error):
            raise
        problem = reason(error) if zipfile.is_zipfile(path) else "it is cut short or damaged"
        raise ModelError(damaged(path, problem).replace("weights file", "model file")) from error

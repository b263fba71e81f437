"""Writing models as files of Keras."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from keras_ehrnet.metadata import Metadata, append
from keras_ehrnet.support.files import replacing, writing

if TYPE_CHECKING:
    import keras


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
    if path.suffix != ".keras":
        raise ValueError(f"The name of a Keras model's file ends in .keras. Received: {str(path)!r}")
    with writing(path), replacing(path) as partial:
        model.save(partial)
        if metadata is not None:
            partial.write_bytes(append(partial.read_bytes(), metadata))
    return path

"""Models as `.keras` files that know their skeleton."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from keras_ehrnet.metadata import Input, Metadata, check_skeleton
from keras_ehrnet.models.variants import usual_input_size
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.messages import suggests_keywords
from keras_ehrnet.weights.saving import write_keras

if TYPE_CHECKING:
    import keras


@suggests_keywords
def save(
    model: keras.Model,
    path: str | Path,
    skeleton: Skeleton | None = None,
    *,
    input_size: tuple[int, int] | None = None,
    license: str | None = None,
    min_score: float = 0.0,
    trained: str | None = None,
) -> Path:
    """Writes a `.keras` file that also says what its keypoints are; `keras.saving.load_model` reads it like any other.

    Args:
        model: `keras.Model`, from one of this package's builders.
        path: str or Path of the file to write; it ends in `.keras`.
        skeleton: `Skeleton` of its keypoints. None, as for a classifier: the file is what `model.save` writes.
        input_size: tuple (height, width) in pixels that a model of any size was made for; None: its paper's.
        license: str, or None. SPDX identifier of the weights' license.
        min_score: float. Score of a person below which there is nobody, as measured for these weights.
        trained: str, or None. Which state of a training it is, such as `"epoch 8, ap 0.41"`.

    Returns:
        Path of the file, which is written whole or not at all.

    Raises:
        ValueError: if the path ends in something else, or the skeleton does not fit the model.
        OSError: if the file cannot be written; what was there before is intact.

    Example:
        >>> import tempfile, keras_ehrnet as ke
        >>> hand = ke.Skeleton("hand", ("wrist", "thumb", "index"), ((0, 1), (0, 2)))
        >>> model = ke.EfficientPoseNAS("A", num_keypoints=3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = ke.models.save(model, f"{folder}/hand.keras", hand)
        ...     ke.PosePredictor.load(path)
        PosePredictor(efficientpose-a, hand, input 192x256)
    """
    about = {"input_size": input_size, "license": license, "min_score": min_score, "trained": trained}
    return write_keras(model, Path(path), None if skeleton is None else describe(model, skeleton, **about))


def describe(
    model: keras.Model,
    skeleton: Skeleton,
    *,
    input_size: tuple[int, int] | None = None,
    license: str | None = None,
    min_score: float = 0.0,
    trained: str | None = None,
) -> Metadata:
    """What the file of a model says of it beside its layers.

    Args:
        model, skeleton, input_size, license, min_score, trained: as of `save`.

    Returns:
        `Metadata`.

    Raises:
        ValueError: if the skeleton does not fit the model.
    """
    maps = check_skeleton(model, skeleton)
    normalizes = any(layer.name == "preprocessing" for layer in model.layers)
    size = input_size or usual_input_size(model)
    source = Input(*size, dtype="float32", name=model.inputs[0].name, normalized_inside=normalizes)
    return Metadata.of_maps(model.name, skeleton, source, maps, license=license, min_score=min_score, trained=trained)

"""Networks as TensorFlow SavedModels: for servers, and what TF-TRT starts from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_ehrnet.metadata import SAVED_MODEL_FILE
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.files import replace_folder, write_file
from keras_ehrnet.support.messages import suggests_keywords
from keras_ehrnet.support.pinned import pinned
from keras_ehrnet.support.terminal import quiet_tensorflow
from keras_ehrnet.weights.formats import WeightsSource

if TYPE_CHECKING:
    import keras


@suggests_keywords
@pinned
def saved_model(
    source: str | Path | keras.Model,
    path: str | Path,
    *,
    weights: WeightsSource | None = None,
    skeleton: Skeleton | None = None,
    input_size: tuple[int, int] | None = None,
    batch: int | None = 1,
    license: str | None = None,
) -> Path:
    """Writes a SavedModel that takes uint8 RGB images and gives named maps.

    Its signature, `"serving_default"`, takes `"image"` of shape `(batch, height, width, 3)`. Normalization is inside,
    and batch normalization is folded into the convolutions. Names, skeleton and license lie in
    `assets.extra/metadata.json`.

    Args:
        source: `keras.Model`, the path of a `.keras` file, or a name such as `"h-2"` or `"efficientpose-rt"`.
        path: str or Path of the folder to write. A SavedModel that is there is replaced, anything else is not.
        weights: what `keras_ehrnet.weights.load` takes; None: for a name, the published weights if there are any.
        skeleton: `Skeleton`, or None for the one that the file or the weights name.
        input_size: tuple (height, width) in pixels, or None for the model's own, or its paper's.
        batch: int, or None for any number of images. TF-TRT builds its engines for a fixed one.
        license: str, or None. SPDX identifier of the weights' license; None: the registered one of published weights.

    Returns:
        Path of the folder.

    Raises:
        ValueError: for a model that cannot be exported, a folder that holds something else, or where Keras does not
            run on TensorFlow.
        OSError: if the folder cannot be written; what was there before is then intact.

    Example:
        >>> import keras_ehrnet as ke
        >>> from keras_ehrnet.export.saved_model_folder import saved_model
        >>> saved_model("efficientpose-rt", "efficientpose-rt")  # doctest: +SKIP
        PosixPath('efficientpose-rt')
    """
    import keras

    from keras_ehrnet.export import common
    from keras_ehrnet.export.rewrite import plain_model

    target = Path(path)
    _check_replaceable(target)
    common.check_batch(batch)
    check_backend()
    network = common.load(source, weights, skeleton, input_size)
    plain = plain_model(network.model, network.input_size)
    metadata = common.describe_maps(network, plain, batch=batch, dtype="uint8", license=license)
    serve, image = serving_function(plain, batch)
    archive = keras.export.ExportArchive()
    archive.track(plain)
    with quiet_tensorflow():
        archive.add_endpoint("serving_default", serve, input_signature=[image])

        def write(folder: Path) -> None:
            archive.write_out(str(folder), verbose=False)
            write_file(folder / SAVED_MODEL_FILE, metadata.to_json())

        replace_saved_model(target, write)
    return target


def check_backend() -> None:
    """ValueError where Keras does not run on TensorFlow."""
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "A SavedModel is written with Keras on TensorFlow: set KERAS_BACKEND=tensorflow. "
            f"Received: the backend {keras.backend.backend()!r}"
        )


def serving_function(model: keras.Model, batch: int | None = 1) -> tuple[Callable[[Any], dict[str, Any]], Any]:
    """What a SavedModel computes, and what it is given.

    Args:
        model: `keras.Model`, as `keras_ehrnet.export.rewrite.plain_model` gives it.
        batch: int, or None for any number of images.

    Returns:
        A function from uint8 images to a dict of maps, and the `tf.TensorSpec` of the images.
    """
    import tensorflow as tf

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        maps = model(tf.cast(image, tf.float32))
        # Named, so that graph tools show the outputs by name.
        return {name: tf.identity(values, name=name) for name, values in maps.items()}

    return serve, tf.TensorSpec((batch, *model.input_shape[1:]), tf.uint8, name="image")


def is_saved_model(path: Path) -> bool:
    """Whether a folder holds a SavedModel."""
    return (path / "saved_model.pb").is_file()


def _check_replaceable(path: Path) -> None:
    empty = path.is_dir() and not any(path.iterdir())
    if path.exists() and not empty and not is_saved_model(path):
        raise ValueError(
            "Only a SavedModel is replaced by another: name a new folder, or remove what is there. "
            f"Received: {str(path)!r}"
        )


def replace_saved_model(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a folder whole or not at all, in the place of a SavedModel or of nothing.

    Args:
        path: Path of the folder.
        write: callable. Takes the path of a new folder beside it, and fills that.

    Raises:
        ValueError: if something else is there.
        OSError: if it cannot be written; what was there before is then intact.
    """
    _check_replaceable(path)
    replace_folder(path, write)

"""What the exports of a Keras network share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from keras_ehrnet import runtime
from keras_ehrnet.metadata import Input, Metadata
from keras_ehrnet.runtime.keras import KerasNetwork
from keras_ehrnet.runtime.loading import load_keras
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.messages import is_whole, suggestion
from keras_ehrnet.weights.formats import WeightsSource

if TYPE_CHECKING:
    import keras


def load(
    source: str | Path | keras.Model,
    weights: WeightsSource | None,
    skeleton: Skeleton | None,
    input_size: tuple[int, int] | None,
) -> KerasNetwork:
    """The network to export; arguments as of `keras_ehrnet.runtime.load`.

    Raises:
        ValueError: if it is no Keras network.
    """
    if runtime.is_exported(source):
        raise ValueError(f"What is exported is a Keras model: a name, a .keras file. Received: {str(source)!r}")
    return load_keras(source, weights, skeleton, input_size)


def check_batch(batch: object) -> None:
    """ValueError unless this is a number of images, or None for any."""
    if batch is not None and not is_whole(batch):
        raise ValueError(f"The batch is a positive whole number, or None for any size. Received: batch={batch!r}")


def describe_maps(
    network: KerasNetwork,
    model: keras.Model,
    *,
    batch: int | None,
    dtype: str,
    license: str | None,
    any_size: bool = False,
) -> Metadata:
    """Metadata of a network whose outputs are its maps.

    Args:
        network: `KerasNetwork`.
        model: `keras.Model` of fixed size that is exported for it.
        batch: int, or None for any number of images, which shapes show as -1.
        dtype: str. Type of the input's pixels.
        license: str, or None. What the weights may be used for; None: what the network says.
        any_size: bool. Whether the file takes images of any size, which shapes show as -1, too.

    Returns:
        `Metadata`.
    """
    sides = {name: (None, None) if any_size else tensor.shape[1:3] for name, tensor in model.output.items()}
    maps = {name: (batch, *sides[name], tensor.shape[3]) for name, tensor in model.output.items()}
    return Metadata.of_maps(
        network.name,
        network.skeleton,
        Input(*network.input_size, dtype=dtype),
        maps,
        license=license or network.license,
        min_score=network.min_score,
    )


def check_input_dtype(input_dtype: str) -> None:
    """ValueError for a type of pixels that exported files do not take."""
    valid = ("uint8", "float32")
    if input_dtype not in valid:
        raise ValueError(
            f"The type of the input. {suggestion(input_dtype, valid)} Received: input_dtype={input_dtype!r}"
        )

"""What the exports of a Keras network share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from keras_ehrnet import runtime
from keras_ehrnet.metadata import Input, Metadata, Output
from keras_ehrnet.runtime.keras import KerasNetwork
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.messages import suggestion

if TYPE_CHECKING:
    import keras

LAYOUTS: dict[str, str] = {
    "heatmaps": "(batch, y, x, joint): where the joints are",
    "heatmaps_2": "(batch, y, x, joint): where the joints are, at half the input's size",
    "heatmaps_4": "(batch, y, x, joint): where the joints are, at a quarter of the input's size",
    "heatmaps_coarse": "(batch, y, x, joint): where the joints are, at an eighth of the input's size, first estimate",
    "heatmaps_fine": "(batch, y, x, joint): where the joints are, at an eighth of the input's size",
    "pafs": "(batch, y, x, 2 limb + axis): x and y of the direction of limbs, at an eighth of the input's size",
    "tags_4": "(batch, y, x, joint): near values belong to the same person, at a quarter of the input's size",
}
"""How to read maps, in words."""


def load(
    source: str | Path | keras.Model, weights: object, skeleton: Skeleton | None, input_size: tuple[int, int] | None
) -> KerasNetwork:
    """The network to export; arguments as of `keras_ehrnet.runtime.load`.

    Raises:
        ValueError: if it is no Keras network.
    """
    network = runtime.load(source, weights=weights, skeleton=skeleton, input_size=input_size)
    if not isinstance(network, KerasNetwork):
        raise ValueError(f"What is exported is a Keras model: a name, a .keras file. Received: {str(source)!r}")
    return network


def registered_license(source: object, weights: object) -> str | None:
    """License of the published weights that a name stands for; None for any other weights."""
    from keras_ehrnet.weights import REGISTRY

    name = source if weights is None else weights
    return REGISTRY[name].license if isinstance(name, str) and name in REGISTRY else None


def check_batch(batch: object) -> None:
    """ValueError unless this is a number of images, or None for any."""
    whole = hasattr(batch, "__index__") and not isinstance(batch, bool)
    if batch is not None and not (whole and batch > 0):
        raise ValueError(f"The batch is a positive whole number, or None for any size. Received: batch={batch!r}")


def describe_maps(
    network: KerasNetwork, model: keras.Model, *, batch: int | None, dtype: str, license: str | None
) -> Metadata:
    """Metadata of a network whose outputs are its maps.

    Args:
        network: `KerasNetwork`.
        model: `keras.Model` of fixed size that is exported for it.
        batch: int, or None for any number of images, which shapes show as -1.
        dtype: str. Type of the input's pixels.
        license: str, or None. What the weights may be used for.

    Returns:
        `Metadata`.
    """
    images = -1 if batch is None else batch
    outputs = [Output(name, (images, *maps.shape[1:]), LAYOUTS.get(name, "")) for name, maps in model.output.items()]
    source = Input(*network.input_size, dtype=dtype)
    return Metadata(network.name, network.family, network.skeleton, source, tuple(outputs), license=license)


def check_input_dtype(input_dtype: str) -> None:
    """ValueError for a type of pixels that exported files do not take."""
    valid = ("uint8", "float32")
    if input_dtype not in valid:
        raise ValueError(
            f"The type of the input. {suggestion(input_dtype, valid)} Received: input_dtype={input_dtype!r}"
        )

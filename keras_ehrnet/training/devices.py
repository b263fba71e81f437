"""Where it runs: precision, and one device or several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    pass


@contextmanager
def precision(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def devices(count: int) -> Iterator[Any]:
    """The scope in which to build a model for several devices of this machine."""
    if count == 1:
        yield nullcontext()
        return
    if keras.backend.backend() == "tensorflow":
        yield _mirrored(count)
        return
    if keras.backend.backend() != "jax":
        raise ValueError(
            f"Several devices need the backend 'tensorflow' or 'jax'. Received: {keras.backend.backend()!r}"
        )
    devices = keras.distribution.list_devices()
    _check_devices(count, devices)
    before = keras.distribution.distribution()
    parallel = keras.distribution.DataParallel(devices=devices[:count], auto_shard_dataset=False)
    keras.distribution.set_distribution(parallel)
    try:
        yield nullcontext()
    finally:
        keras.distribution.set_distribution(before)


def _mirrored(count: int) -> Any:
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    _check_devices(count, devices)
    return tf.distribute.MirroredStrategy([device.name for device in devices[:count]]).scope()


def _check_devices(count: int, devices: Sequence[Any]) -> None:
    if len(devices) < count:
        raise ValueError(f"There are {len(devices)} devices here. Received: training.devices={count}")

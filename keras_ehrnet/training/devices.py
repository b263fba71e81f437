"""Where it runs: precision, one device or several, one host or several."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

_ADDRESS = re.compile(r"[^\s:,]+:\d+|\[[0-9a-fA-F:.]+\]:\d+")


@dataclass(frozen=True)
class Hosts:
    """The machines, or processes, that train one model together.

    Args:
        count: int. How many.
        number: int. Which of them this is, from 0. The first one evaluates, and writes all results.
    """

    count: int = 1
    number: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.number == 0

    def from_first(self, values: Any) -> Any:
        """The first host's values, on every host: arrays or numbers, alone or in dicts or lists, alike on all."""
        if self.count == 1:
            return values
        from jax.experimental import multihost_utils

        return keras.tree.map_structure(np.asarray, multihost_utils.broadcast_one_to_all(values))


def join_hosts(addresses: str, number: int) -> None:
    """Makes this process one of several that train together, before anything is computed: JAX only.

    Args:
        addresses: str. `host:port` of every process, with commas between; the first one's port must be open to all.
        number: int. Which of them this is, from 0.

    Raises:
        ValueError: if the backend is not JAX, or the addresses or the number cannot be.
    """
    listed = addresses.split(",")
    if keras.backend.backend() != "jax":
        raise ValueError(f"Several hosts need the backend 'jax'. Received: {keras.backend.backend()!r}")
    if len(listed) < 2 or not all(map(_ADDRESS.fullmatch, listed)):
        raise ValueError(
            f"Hosts are given as host:port, two or more with commas between and no spaces. Received: {addresses!r}"
        )
    if not 0 <= number < len(listed):
        raise ValueError(f"The number of this host must be from 0 to {len(listed) - 1}. Received: {number}")
    import jax

    # Processors need to be told how to talk to each other; graphics cards know.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    keras.distribution.initialize(addresses, len(listed), number)


def this_host() -> Hosts:
    """Which host this is, of how many."""
    if keras.backend.backend() != "jax":
        return Hosts()
    import jax

    return Hosts(jax.process_count(), jax.process_index())


@contextmanager
def precision(name: str) -> Iterator[None]:
    """The precision in which a model is built."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def devices(count: int) -> Iterator[Any]:
    """The scope in which to build a model for several devices of every host."""
    if count == 1 and this_host().count == 1:
        yield nullcontext()
        return
    if keras.backend.backend() == "tensorflow":
        yield _mirrored(count)
        return
    if keras.backend.backend() != "jax":
        raise ValueError(
            f"Several devices need the backend 'tensorflow' or 'jax'. Received: {keras.backend.backend()!r}"
        )
    # Every host brings its part of each batch: what there is must not be shared out again.
    parallel = keras.distribution.DataParallel(devices=_of_all_hosts(count), auto_shard_dataset=False)
    with distribution(parallel):
        yield nullcontext()


@contextmanager
def distribution(used: keras.distribution.Distribution | None) -> Iterator[None]:
    """The distribution of variables and data over devices; None: all on this host's first one."""
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(used)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def _of_all_hosts(count: int) -> list[str]:
    """The first devices of every host, as Keras names them."""
    import jax

    chosen = []
    for host in range(jax.process_count()):
        own = [device for device in jax.devices() if device.process_index == host]
        _check_devices(count, own)
        chosen += [f"{device.platform}:{device.id}" for device in own[:count]]
    return chosen


def _mirrored(count: int) -> Any:
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    _check_devices(count, devices)
    return tf.distribute.MirroredStrategy([device.name for device in devices[:count]]).scope()


def _check_devices(count: int, devices: Sequence[Any]) -> None:
    if len(devices) < count:
        raise ValueError(f"There are {len(devices)} devices here. Received: training.devices={count}")

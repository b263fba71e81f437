"""Channels last and single precision, whatever Keras was set to."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from keras_ehrnet.support.messages import needing

P = ParamSpec("P")
T = TypeVar("T")

FLOATX = "float32"
"""The type of networks and losses of which nobody asked for another."""


def pinned(function: Callable[P, T]) -> Callable[P, T]:
    """A decorator of what makes layers, trains or exports: `keras.json` may say what it likes.

    Channels come last, and numbers are float32: layers, losses, metrics and optimizers ask Keras when they are made.
    A precision is chosen by a policy, `keras.config.set_dtype_policy`, which is followed.
    """

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        with needing(f"{function.__name__}()"):
            import keras

        channels, floatx = keras.config.image_data_format(), keras.config.floatx()
        policy = keras.config.dtype_policy()
        keras.config.set_image_data_format("channels_last")
        keras.config.set_floatx(FLOATX)
        if policy.name == floatx:  # Nobody chose it: Keras takes it from its file.
            keras.config.set_dtype_policy(FLOATX)
        try:
            return function(*args, **kwargs)
        finally:
            keras.config.set_image_data_format(channels)
            keras.config.set_floatx(floatx)
            keras.config.set_dtype_policy(policy)

    return called

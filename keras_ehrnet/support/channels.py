"""Channels last, whatever Keras was set to."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from keras_ehrnet.support.messages import needing

P = ParamSpec("P")
T = TypeVar("T")


def channels_last(function: Callable[P, T]) -> Callable[P, T]:
    """A decorator of what makes layers: they take channels last, also where `keras.json` says that they come first.

    All networks, losses and exports of this package do; layers ask Keras when they are made.
    """

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        with needing(f"{function.__name__}()"):
            import keras

        before = keras.config.image_data_format()
        keras.config.set_image_data_format("channels_last")
        try:
            return function(*args, **kwargs)
        finally:
            keras.config.set_image_data_format(before)

    return called

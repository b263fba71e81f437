"""Messages for users: what was received, what was expected, what to do."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import wraps
from inspect import signature
from numbers import Integral, Real
from typing import ParamSpec, TypeGuard, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_EXTRAS = {
    **dict.fromkeys(("onnx", "onnxruntime"), "onnx"),
    **dict.fromkeys(("ray", "pyarrow"), "ray"),
    **dict.fromkeys(("fastapi", "uvicorn"), "serve"),
    "pillow_heif": "heic",
    **{name: name for name in ("torch", "jax", "tensorboard")},
}
"""Packages by the extra that installs them; everything else that may be missing is for building, with TensorFlow."""

_OTHERS = ("supervision", "fiftyone", "pandas")
"""Packages that no part of this one needs, but that results may be passed to."""


class MissingPackageError(ImportError):
    """A part of this package needs another one, which is not installed."""


def named(source: str | os.PathLike | bytes) -> str:
    """A file, or the content of one, in words.

    Example:
        >>> from keras_ehrnet.support.messages import named
        >>> named("rt.tflite"), named(b"1234")
        ('rt.tflite', '4 bytes')
    """
    return f"{len(source)} bytes" if isinstance(source, bytes) else str(source)


def missing_package(error: ModuleNotFoundError, what: str) -> ImportError:
    """The error to raise where an import failed: what to install, in one sentence.

    Args:
        error: `ModuleNotFoundError`. What the import raised.
        what: str. What was asked for.

    Returns:
        `MissingPackageError`; the error itself where a module of this package is missing.

    Example:
        >>> from keras_ehrnet.support.messages import missing_package
        >>> print(missing_package(ModuleNotFoundError(name="keras"), "keras_ehrnet.EfficientPose"))
        keras_ehrnet.EfficientPose needs keras, which is not installed: run  pip install 'keras-ehrnet[tensorflow]'
    """
    package = (error.name or "").partition(".")[0]
    if package in ("", "keras_ehrnet"):
        return error
    source = package if package in _OTHERS else f"'keras-ehrnet[{_EXTRAS.get(package, 'tensorflow')}]'"
    return MissingPackageError(f"{what} needs {package}, which is not installed: run  pip install {source}")


@contextmanager
def needing(what: str) -> Iterator[None]:
    """Within it, or within a function that it decorates, an import that fails says what to install.

    Args:
        what: str. What needs the package.

    Raises:
        MissingPackageError: for packages other than this one.

    Example:
        >>> from keras_ehrnet.support.messages import needing
        >>> with needing("This table"):
        ...     raise ModuleNotFoundError(name="pandas")
        Traceback (most recent call last):
        keras_ehrnet.support.messages.MissingPackageError: ...
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing_package(error, what) from error


def warn(message: str) -> None:
    """A `UserWarning` that names the line of the user's which led to it, however deep in this package it is noticed."""
    depth, frame = 1, sys._getframe()
    # contextlib's frames are those of functions of this package that a context manager decorates.
    while frame is not None and frame.f_globals.get("__name__", "").startswith(("keras_ehrnet.", "contextlib")):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=depth)


def suggestion(received: object, valid: Iterable[object]) -> str:
    """A sentence that names the valid value nearest to what was received, and all of them.

    Args:
        received: anything. The value that is not valid.
        valid: iterable of numbers or of strings. The values that are.

    Returns:
        str, such as `"Did you mean -2? Valid: -2, -1, 0."`

    Example:
        >>> from keras_ehrnet.support.messages import suggestion
        >>> suggestion("RT_LIT", ["RT", "RT_LITE"])
        "Did you mean 'RT_LITE'? Valid: 'RT', 'RT_LITE'."
    """
    valid = list(valid)
    listed = f"Valid: {', '.join(repr(value) for value in valid)}."
    near = _nearest(received, valid)
    return listed if near is None else f"Did you mean {near!r}? {listed}"


def cut(value: object, limit: int = 80) -> str:
    """A value as text for an error message, cut to a readable length.

    Example:
        >>> from keras_ehrnet.support.messages import cut
        >>> cut(list(range(100)), limit=16)
        '[0, 1, 2, 3, ...'
    """
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def is_whole(value: object, least: int = 1) -> TypeGuard[int]:
    """Whether this is a whole number, Python's or NumPy's, and not below `least`.

    Example:
        >>> from keras_ehrnet.support.messages import is_whole
        >>> is_whole(3), is_whole(3.0), is_whole(True), is_whole(0)
        (True, False, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def check_threshold(threshold: object) -> None:
    """ValueError for a threshold that is no number: nothing is below or above NaN."""
    if not isinstance(threshold, Real) or math.isnan(threshold):
        raise ValueError(f"A threshold is a number. Received: threshold={threshold!r}")


def is_size(value: object, multiple: int = 1) -> TypeGuard[tuple[int, int]]:
    """Whether this is the size of a picture: two whole numbers of at least 1, multiples of `multiple`.

    Example:
        >>> from keras_ehrnet.support.messages import is_size
        >>> is_size((224, 192)), is_size([224, 192], multiple=32), is_size((200, 192), multiple=32), is_size(224)
        (True, True, False, False)
    """
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return False
    return all(is_whole(side) and side % multiple == 0 for side in value)


def suggests_keywords(function: Callable[P, T]) -> Callable[P, T]:
    """A decorator: whoever mistypes a keyword is told the one that was meant.

    Raises:
        TypeError: from the decorated function, for a keyword that it does not have.

    Example:
        >>> from keras_ehrnet.support.messages import suggests_keywords
        >>> @suggests_keywords
        ... def find(image, *, max_people=30): ...
        >>> find(None, max_poeple=1)
        Traceback (most recent call last):
        TypeError: find() has no such option. Did you mean 'max_people'? Valid: ... Received: max_poeple=1
    """
    parameters = signature(function).parameters.values()
    valid = [one.name for one in parameters if one.name not in ("self", "cls")]

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        for name, value in kwargs.items():
            if name not in valid:
                called = function.__qualname__
                raise TypeError(f"{called}() has no such option. {suggestion(name, valid)} Received: {name}={value!r}")
        return function(*args, **kwargs)

    return checked


def _nearest(received: object, valid: list[object]) -> object | None:
    numbers = [value for value in valid if isinstance(value, (int, float))]
    if isinstance(received, Real) and not isinstance(received, bool) and numbers:
        number = float(received)
        return min(numbers, key=lambda value: abs(value - number))
    by_text = {str(value).lower().replace("-", "_"): value for value in valid}
    text = str(received).lower().replace("-", "_")
    near = get_close_matches(text, by_text, n=1, cutoff=0.5)
    if not near and len(text) == 1 and all(len(name) == 1 for name in by_text):
        near = [min(by_text, key=lambda name: abs(ord(name) - ord(text)))]
    return by_text[near[0]] if near else None

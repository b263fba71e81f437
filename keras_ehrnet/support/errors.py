"""Errors: one class for each kind of input, so that a damaged file is told from a mistake in the program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

_LONGEST = 1200
"""Characters of a message."""


class KerasEhrnetError(ValueError):
    """Something was given to this package that it cannot work with; the message says what, and what it expected."""

    def __init__(self, message: object = "") -> None:
        text = str(message)
        # A damaged file can make a value of pages, which whoever reads the message has no use for.
        super().__init__(text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 3 :]}")


class ImageError(KerasEhrnetError):
    """What was to be read as an image is not one, or not an intact one."""


class VideoError(KerasEhrnetError):
    """A video that cannot be opened or written."""


class StreamError(VideoError):
    """A stream that broke and did not come back."""


class ModelError(KerasEhrnetError):
    """A model file (`.tflite`, `.onnx`, `.keras`) that is damaged, or that no runtime takes."""


class WeightsError(KerasEhrnetError):
    """Weights that cannot be read, or do not fit the model."""


class MetadataError(KerasEhrnetError):
    """The metadata of a file are damaged, or of a later version."""


class AnnotationError(KerasEhrnetError):
    """An annotation file is damaged, or lacks something."""


class RecordError(AnnotationError):
    """TFRecord shards, or their index, are damaged."""


class RecipeError(KerasEhrnetError):
    """A recipe that is no valid YAML, or has values that cannot be."""


class LatencyError(KerasEhrnetError):
    """A table of latencies that is damaged, or was measured for something else."""


class CheckpointError(KerasEhrnetError):
    """The saved state of a training or of an evaluation is damaged, or of another one."""


P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def reading(kind: type[KerasEhrnetError], source: object, what: str = "The file") -> Iterator[None]:
    """Whatever a damaged file makes a reader stumble over comes out as one kind of error.

    Errors of this package, of files that are missing or may not be read, and of packages that are missing come out as
    they are.

    Args:
        kind: subclass of `KerasEhrnetError`.
        source: what is read, for the message.
        what: str. Its kind, likewise.

    Example:
        >>> from keras_ehrnet.support.errors import AnnotationError, reading
        >>> with reading(AnnotationError, "people.json"):
        ...     {}["images"]
        Traceback (most recent call last):
        keras_ehrnet.support.errors.AnnotationError: The file is damaged (KeyError: 'images'). Received: people.json
    """
    try:
        yield
    except KerasEhrnetError as error:
        # A reader that stands on a more general one tells its errors as its own.
        if type(error) is not kind and issubclass(kind, type(error)):
            raise kind(str(error)) from error
        raise
    except (FileNotFoundError, PermissionError, ImportError):
        raise
    except Exception as error:
        told = type(error) is ValueError and "Received: " in str(error)
        raise kind(str(error) if told else f"{what} is damaged ({reason(error)}). Received: {source}") from error


def reads(kind: type[KerasEhrnetError]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """`reading` for a whole function, whose first argument is the source."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            source = args[0] if args else next(iter(kwargs.values()), "nothing")
            with reading(kind, _named(source)):
                return function(*args, **kwargs)

        return guarded

    return decorate


def reason(error: BaseException, limit: int = 200) -> str:
    """An error of another package in one line: its class, and how its message starts."""
    text = " ".join(str(error).split())
    text = text if len(text) <= limit else text[: limit - 3] + "..."
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def _named(source: object) -> str:
    return type(source).__name__ if isinstance(source, (dict, list, bytes)) else str(source)

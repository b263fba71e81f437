"""Errors: one class for each kind of input, so that a damaged file is told from a mistake in the program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

_LONGEST = 1200
"""Characters of a message."""

_PACKAGE = __name__.partition(".")[0]
_DATA = (dict, list, tuple, str, bytes, int, float)
"""What files hold, besides nothing."""


class KerasEhrnetError(ValueError):
    """Something was given to this package that it cannot work with; the message says what, and what it expected."""

    def __init__(self, message: object = "") -> None:
        text = str(message)
        # A damaged file can make a value of pages, which whoever reads the message has no use for.
        super().__init__(text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 3 :]}")


class NobodyError(KerasEhrnetError, IndexError):
    """A person was asked for whom nobody found."""


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

    Errors of this package, of files that are missing or may not be read, of packages that are missing, and mistakes in
    the code of this one come out as they are.

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
        if is_mistake(error):
            raise
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


def is_mistake(error: BaseException) -> bool:
    """Whether an error is one of this package's code, which no file can bring about, however damaged.

    Names that there are not, and attributes that are of no kind of data: that a list has no `get` can be a file's
    doing, where an object was to be; that it has no `gett` cannot. Libraries may stumble in any way.

    Args:
        error: what was raised, with its traceback.

    Returns:
        bool.

    Example:
        >>> from keras_ehrnet.support.errors import is_mistake
        >>> is_mistake(KeyError("images"))
        False
    """
    trace = error.__traceback__
    # Lazy modules raise in a function of their own what was asked of them.
    while trace is not None and trace.tb_next is not None and trace.tb_next.tb_frame.f_code.co_name != "__getattr__":
        trace = trace.tb_next
    if trace is None or trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] != _PACKAGE:
        return False
    if isinstance(error, AttributeError):
        is_data = error.obj is None or isinstance(error.obj, _DATA)
        return not (is_data and any(hasattr(kind, str(error.name)) for kind in _DATA))
    return isinstance(error, NameError)


def reason(error: BaseException, limit: int = 200) -> str:
    """An error of another package in one line: its class, and how its message starts."""
    text = " ".join(str(error).split())
    text = text if len(text) <= limit else text[: limit - 3] + "..."
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def _named(source: object) -> str:
    return type(source).__name__ if isinstance(source, (dict, list, bytes)) else str(source)

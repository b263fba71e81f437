"""How much memory one input may take: what says that it unpacks to more is refused before it does."""

from __future__ import annotations

import os

from keras_ehrnet.support.errors import KerasEhrnetError

VARIABLE = "KERAS_EHRNET_MAX_MEGABYTES"
"""Name of the environment variable that raises the limit."""

_USUAL = 512  # An image of 178 megapixels; the largest network of the papers takes a tenth.


def max_bytes() -> int:
    """What one input may take: 512 MB, or what the environment variable says.

    Raises:
        ValueError: if that is no whole number above 0.
    """
    text = os.environ.get(VARIABLE, str(_USUAL))
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ValueError(f"{VARIABLE} is a whole number of megabytes above 0. Received: {text!r}")
    return int(text) << 20


def check_size(size: int, source: object, kind: type[KerasEhrnetError], what: str = "The file") -> None:
    """Refuses what would take more memory than one input may.

    Args:
        size: int. Bytes that it takes once it is unpacked.
        source: what it is read from, for the message.
        kind: subclass of `KerasEhrnetError` that is raised.
        what: str. Its kind, likewise.

    Example:
        >>> from keras_ehrnet.support.errors import ImageError
        >>> from keras_ehrnet.support.limits import check_size
        >>> check_size(32000 * 32000 * 3, "sky.png", ImageError, "The image")
        Traceback (most recent call last):
        keras_ehrnet.support.errors.ImageError: The image takes 2930 MB of memory, ...
    """
    allowed = max_bytes()
    if size > allowed:
        needed = -(-size >> 20)
        raise kind(
            f"{what} takes {needed} MB of memory, and one input may take {allowed >> 20}: make it smaller, or set the "
            f"environment variable {VARIABLE}={needed}. Received: {source}"
        )

"""HEIF images, such as telephones take (`.heic`): read by the package pillow-heif, which is an extra."""

from __future__ import annotations

import io

import numpy as np

from keras_ehrnet.support.errors import ImageError
from keras_ehrnet.support.limits import check_size
from keras_ehrnet.support.messages import missing_package

SUFFIXES = (".heic", ".heif")

_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
_GENERAL = (b"mif1", b"msf1", b"mif2")
"""Brands of the container, in which other codecs lie as well; the compatible ones tell which."""


def is_heif(start: bytes) -> bool:
    """Whether a file that begins so is a HEIF image of the codec that telephones use, HEVC.

    Example:
        >>> from keras_ehrnet.images.heif import is_heif
        >>> is_heif(bytes.fromhex("0000001c") + b"ftypheic")
        True
    """
    if start[4:8] != b"ftyp":
        return False
    compatible = {start[at : at + 4] for at in range(16, min(int.from_bytes(start[:4], "big"), len(start)), 4)}
    return start[8:12] in _BRANDS or (start[8:12] in _GENERAL and not compatible.isdisjoint(_BRANDS))


def decode(data: bytes, name: str) -> np.ndarray:
    """The picture of a HEIF file, upright: the file itself says how it is turned, and its EXIF entry is to be ignored.

    Args:
        data: bytes of the file.
        name: str. What to call it in errors.

    Returns:
        Uint8 array of shape `(H, W, 1)`, `(H, W)`, `(H, W, 3)` or `(H, W, 4)`.

    Raises:
        ImageError: if pillow-heif is not installed, or the picture would take more memory than one input may.
        ValueError and others, as pillow-heif has them: if the file is damaged.
    """
    try:
        from pillow_heif import open_heif
    except ModuleNotFoundError as error:
        # One picture among others in a folder does not stop the others.
        raise ImageError(f"{missing_package(error, 'A HEIC image')}  or save it as JPEG. Received: {name}") from error
    picture = open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
    width, height = picture.size
    check_size(width * height * len(picture.mode), name, ImageError, "The image")
    return np.asarray(picture)

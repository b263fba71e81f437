"""Reading whatever users have into RGB arrays."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import cv2
import numpy as np

from keras_ehrnet.images import encoded, heif
from keras_ehrnet.images.opencv import quiet_opencv
from keras_ehrnet.images.places import ArchiveMember
from keras_ehrnet.support.errors import ImageError, reading
from keras_ehrnet.support.limits import check_size
from keras_ehrnet.support.messages import warn
from keras_ehrnet.support.terminal import silenced


class PillowImage(Protocol):
    """What is needed of a `PIL.Image.Image`, which this package does without."""

    mode: str

    def convert(self, mode: str) -> Any:
        """The picture with other channels."""

    def getexif(self) -> Any:
        """What a camera noted, by number."""


ImageSource = str | os.PathLike | ArchiveMember | bytes | np.ndarray | PillowImage
"""What `read_image` takes."""

_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}
"""What turns a picture upright, by its EXIF orientation."""


def read_image(source: ImageSource) -> np.ndarray:
    """An image as RGB, whatever it was stored as.

    JPEG, PNG, BMP, WebP, TIFF, GIF, PPM, and all else that OpenCV knows; HEIC with the extra `heic`.
    Gray images become three equal channels, CMYK is converted, transparency is dropped (the colors as stored, which
    is what TensorFlow, OpenCV and Pillow do too), 16 bits lose their lower 8, animations give their first frame, and
    pictures that a camera marked as rotated (EXIF) are turned upright.

    Args:
        source: path of a file, `ArchiveMember`, encoded image as bytes, `PIL.Image.Image`, or an array of shape
            `(H, W)`, `(H, W, 1)`, `(H, W, 3)` or `(H, W, 4)`: uint8, uint16, or float in [0, 255] (not [0, 1], which
            is refused). Arrays are taken as RGB.

    Returns:
        Uint8 array of shape `(H, W, 3)`. A contiguous uint8 RGB array is not copied.

    Raises:
        FileNotFoundError: if there is no such file.
        ImageError: if it cannot be read, is empty, cut short, damaged, or no image at all.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.data import read_image
        >>> read_image(np.full((2, 3), 65535, np.uint16)).tolist()[0][0]
        [255, 255, 255]
        >>> read_image(b"hello")
        Traceback (most recent call last):
        keras_ehrnet.support.errors.ImageError: This is not an image of a known format. Received: 5 bytes
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if is_pillow_image(source):
        return _from_pillow(source)
    data, name = _bytes_of(source)
    if not data:
        raise ImageError(f"The image file is empty. Received: {name}")
    if announced := encoded.size(data):
        check_size(announced[0] * announced[1] * 3, name, ImageError, "The image")
    for signature, (is_whole, what) in _CHECKS.items():
        if data.startswith(signature) and not is_whole(data):
            mended = _with_end(data)
            if mended is None:
                raise ImageError(f"The {what} image is cut short or damaged. Received: {name}")
            warn(f"The image lacks its end marker, but nothing of the picture. Received: {name}")
            data = mended
    with reading(ImageError, name, "The image"):
        if heif.is_heif(data):
            return _from_array(heif.decode(data, name))
        bgr = _decoded(data, cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if encoded.is_webp(data) else 0))
        if bgr is None or (_CUTS_FLOATS and data.startswith(encoded.TIFF)):
            pixels = _decoded(data, cv2.IMREAD_UNCHANGED)
            if pixels is not None and pixels.dtype not in (np.uint8, np.uint16):
                rgb = pixels if pixels.ndim == 2 else pixels[..., 2::-1]
                return _upright(_from_other_numbers(rgb, name), encoded.orientation(data))
    if bgr is None:
        known = encoded.looks_like_image(data[:64])
        problem = "The image is cut short or damaged." if known else "This is not an image of a known format."
        raise ImageError(f"{problem} Received: {name}")
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr)
    return _upright(rgb, encoded.orientation(data)) if encoded.is_webp(data) else rgb


def is_pillow_image(source: object) -> TypeGuard[PillowImage]:
    """Whether something is a `PIL.Image.Image`, told without Pillow."""
    # Asked of the class: of the picture itself, the last one would read its file.
    return all(hasattr(type(source), name) for name in ("mode", "convert", "getexif", "__array_interface__"))


def is_one_image(source: object) -> TypeGuard[ImageSource]:
    """Whether `read_image` takes something as one image, rather than its items as several."""
    single = (str, os.PathLike, ArchiveMember, bytes, bytearray, memoryview, io.IOBase)
    return isinstance(source, single) or (isinstance(source, np.ndarray) and source.ndim < 4) or is_pillow_image(source)


def _bytes_of(source: ImageSource) -> tuple[bytes, str]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source), f"{len(source)} bytes"
    if isinstance(source, (str, os.PathLike)):
        source = Path(source)
    elif not isinstance(source, ArchiveMember):
        raise TypeError(
            "An image is given as a path, a member of an archive, bytes (of an open file, its read()), an array or a "
            f"PIL image. Received: {type(source).__name__}"
        )
    try:
        return source.read_bytes(), str(source)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no such image file. Received: {source}") from None
    except OSError as error:
        raise ImageError(f"The image file cannot be read ({error.strerror}). Received: {source}") from error


def _from_array(array: np.ndarray) -> np.ndarray:
    pixels = array[..., None] if array.ndim == 2 else array
    kind = array.dtype.kind
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size or array.dtype.char not in "BHefd":
        raise ImageError(
            "An image array must have shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) and type uint8, uint16 or float. "
            f"Received: shape {array.shape}, type {array.dtype}"
        )
    pixels = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]
    if array.dtype == np.uint16:
        return (pixels >> 8).astype(np.uint8)
    if kind == "f":
        if not np.isfinite(pixels).all():
            raise ImageError(f"An image array must be finite. Received: NaN or infinity in shape {array.shape}")
        _refuse_normalized(pixels)
        return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels)


def _refuse_normalized(pixels: np.ndarray) -> None:
    """Other libraries keep images in [0, 1] or normalized: here, those would be all but black."""
    lowest, highest = float(pixels.min()), float(pixels.max())
    if pixels.any() and (highest <= 1 or (lowest < -1 and highest < 3)):
        raise ImageError(
            "A float image array has values in [0, 255]: multiply one in [0, 1] by 255, and pass one that was "
            f"normalized as it was before. Received: {pixels.dtype} in [{lowest:.3g}, {highest:.3g}]"
        )


def _from_pillow(source: PillowImage) -> np.ndarray:
    with reading(ImageError, repr(source), "The PIL image"):
        # Pillow itself would cut off what does not fit into 8 bits.
        wide = source.mode.startswith(("I", "F"))
        pixels = np.asarray(source if wide else source.convert("RGB"))
        orientation = source.getexif().get(encoded.ORIENTATION, 1)
    if pixels.dtype.kind == "u":
        pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    usual = pixels.dtype in (np.uint8, np.uint16)
    return _upright(_from_array(pixels) if usual else _from_other_numbers(pixels, repr(source)), orientation)


def _upright(rgb: np.ndarray, orientation: int) -> np.ndarray:
    turn = _UPRIGHT.get(orientation)
    return rgb if turn is None else np.ascontiguousarray(turn(rgb))


def _from_other_numbers(pixels: np.ndarray, name: str) -> np.ndarray:
    """Integers as the shortest that hold them; what an intact file holds may be no colors, but distances."""
    lowest, highest = pixels.min(), pixels.max()
    if pixels.dtype.kind in "iu" and lowest >= 0 and highest <= 65535:
        return _from_array(pixels.astype(np.uint8 if highest <= 255 else np.uint16))
    if pixels.dtype.kind == "f" and lowest >= 0 and highest <= 255:
        return _from_array(pixels)
    raise ImageError(
        "Images have 8 or 16 bits per channel: scale its values to [0, 255] and save it with 8. "
        f"Received: {pixels.dtype} in [{lowest:.6g}, {highest:.6g}] in {name}"
    )


def _decoded(data: bytes, flags: int) -> np.ndarray | None:
    with quiet_opencv():
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)


def _with_end(data: bytes) -> bytes | None:
    """A JPEG that lacks nothing but its end marker, with it; None where more is missing."""
    ends = encoded.jpegs_without_end(data)
    pictures = []
    with suppress(cv2.error), silenced():  # libjpeg writes to the terminal
        pictures = [_decoded(end, cv2.IMREAD_COLOR) for end in ends]
    first = pictures[0] if pictures else None
    same = first is not None and all(other is not None and np.array_equal(first, other) for other in pictures)
    return ends[0] if same else None


_CHECKS: dict[bytes, tuple[Callable[[bytes], bool], str]] = {
    encoded.JPEG: (encoded.jpeg_is_whole, "JPEG"),
    encoded.PNG: (encoded.png_is_whole, "PNG"),
}
_CUTS_FLOATS = cv2.__version__.startswith("4.")  # Where OpenCV 5 gives nothing, OpenCV 4 cuts TIFF's floats to 8 bits.

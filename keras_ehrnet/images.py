"""Image files: reading whatever users have into RGB arrays, and writing pictures without ever leaving half of one."""

from __future__ import annotations

import glob
import io
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import cv2
import numpy as np

from keras_ehrnet.support import encoded, heif
from keras_ehrnet.support.errors import ImageError, reading
from keras_ehrnet.support.files import replacing
from keras_ehrnet.support.limits import check_size
from keras_ehrnet.support.messages import warn
from keras_ehrnet.support.opencv import quiet_opencv
from keras_ehrnet.support.terminal import silenced

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pnm", *heif.SUFFIXES,
)  # fmt: skip
"""Names of image files end like this."""

_WRITERS = {
    ".jpg": (cv2.IMWRITE_JPEG_QUALITY, 95),
    ".jpeg": (cv2.IMWRITE_JPEG_QUALITY, 95),
    ".png": (cv2.IMWRITE_PNG_COMPRESSION, 4),
}


@dataclass(frozen=True)
class ArchiveMember:
    """A file inside a zip archive, read without unpacking the archive. Can be sent to worker processes.

    Args:
        archive: `Path` of the zip file.
        name: str. Name of the member.
    """

    archive: Path
    name: str

    def read_bytes(self) -> bytes:
        """Content of the file.

        Raises:
            FileNotFoundError: if the archive or the member does not exist.
            ImageError: if the archive is damaged.
        """
        with reading(ImageError, self, "The archive"):
            archive = _archive(self.archive)
            if self.name not in archive.NameToInfo:
                raise FileNotFoundError(f"There is no such file in the archive. Received: {self}")
            entry = archive.NameToInfo[self.name]
            check_size(max(entry.file_size, entry.compress_size), self, ImageError, "The file in the archive")
            return archive.read(self.name)

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"


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


def _archive(path: Path) -> zipfile.ZipFile:
    """An archive as it is now, opened once."""
    state = path.stat()
    return _opened(path, (state.st_ino, state.st_size, state.st_mtime_ns), os.getpid())


@lru_cache(maxsize=8)
def _opened(path: Path, state: tuple[int, int, int], process: int) -> zipfile.ZipFile:
    # One handle per process: forked workers that share a file offset would read each other's data.
    del state, process
    return zipfile.ZipFile(path)


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
        known = _looks_like_image(data[:64])
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


def is_image_file(path: str | os.PathLike) -> bool:
    """Whether a file looks like an image: by the end of its name, else by its first bytes.

    A damaged image, or a text named `.jpg`, looks like one: it is `read_image` that tells.
    """
    path = Path(path)
    if not path.is_file():
        return False
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return _looks_like_image(file.read(64))
    except OSError:
        return False


def list_images(folder_or_pattern: str | os.PathLike, recursive: bool = False) -> list[Path]:
    """Image files of a folder or of a pattern, sorted by name. How many others a folder holds is told by a warning.

    Args:
        folder_or_pattern: a folder, of which every file that looks like an image is taken (`is_image_file`; hidden
            files are not), a pattern such as `"photos/*.png"`, of which every file is taken, or one file.
        recursive: bool. Whether to look into the folders inside as well.

    Returns:
        List of `Path`.

    Raises:
        FileNotFoundError: if the folder does not exist, or there is no image in it.
    """
    path = Path(folder_or_pattern)
    if path.is_dir():
        candidates = path.rglob("*") if recursive else path.iterdir()
        files = [file for file in candidates if not file.name.startswith(".") and file.is_file()]
        found = [file for file in files if is_image_file(file)]
        if found:
            _tell_others(sorted(set(files) - set(found)), path)
    elif path.is_file():
        found = [path]
    else:
        found = [Path(file) for file in glob.glob(str(path), recursive=True) if os.path.isfile(file)]
    if not found:
        exists = "There are no images in this folder." if path.is_dir() else "There is no such file or folder."
        raise FileNotFoundError(f"{exists} Received: {folder_or_pattern}")
    return sorted(found)


def _tell_others(others: Sequence[Path], folder: Path) -> None:
    if others:
        listed = ", ".join(str(file.relative_to(folder)) for file in others[:5]) + (", ..." if others[5:] else "")
        files = "1 file is" if len(others) == 1 else f"{len(others)} files are"
        warn(f"{files} no image, and left out: {listed}. Received: {folder}")


def find_images(names: Iterable[str], place: str | os.PathLike) -> dict[str, Path | ArchiveMember]:
    """What to read named images from.

    Args:
        names: names of files, relative to `place`.
        place: a folder or a zip archive.

    Returns:
        dict of name to `Path` or `ArchiveMember`, without the names that do not exist.

    Raises:
        FileNotFoundError: if there is no such folder or archive.
        ImageError: if it is a file, but no zip archive.
    """
    place, names = Path(place), list(names)
    if place.is_dir():
        # Listing each folder once is far quicker than asking for every file of a large data set.
        folders = {folder: _names_in(place / folder) for folder in {os.path.dirname(name) for name in names}}
        return {name: place / name for name in names if os.path.basename(name) in folders[os.path.dirname(name)]}
    if not place.is_file():
        raise FileNotFoundError(f"There is no such folder or archive of images. Received: {place}")
    with reading(ImageError, place, "The archive of images"):
        members = set(_archive(place).namelist())
    return {name: ArchiveMember(place, name) for name in names if name in members}


def write_image(path: str | os.PathLike, rgb: np.ndarray) -> None:
    """Writes a PNG or JPEG file; whoever reads it sees the old file or the whole new one, never a part.

    Args:
        path: where to; the suffix decides the format.
        rgb: uint8 array of shape `(H, W, 3)`.

    Raises:
        ValueError: if the suffix is not one of `.png`, `.jpg`, `.jpeg`, or the array not an RGB image.
        OSError: if the folder cannot be written to (PermissionError, FileNotFoundError ... as the case may be).
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        raise ValueError(f"Pictures are written as one of {', '.join(_WRITERS)}. Received: {path}")
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
        shape = getattr(rgb, "shape", None)
        raise ValueError(
            "A picture must be a uint8 array of shape (H, W, 3). "
            f"Received: {type(rgb).__name__} of shape {shape} and type {getattr(rgb, 'dtype', None)}"
        )
    written, encoded = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), _WRITERS[suffix])
    if not written:
        raise ValueError(f"The picture cannot be encoded as {suffix}. Received: shape {rgb.shape}")
    try:
        with replacing(path) as partial:
            partial.write_bytes(encoded.data)
    except OSError as error:
        # OSError with a number becomes the matching subclass, so that callers can tell a full disk from a locked one.
        raise OSError(error.errno, f"The picture cannot be written ({error.strerror}). Received: {path}") from error


def _names_in(folder: Path) -> set[str]:
    return {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()


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
_SIGNATURES = (*_CHECKS, b"GIF87a", b"GIF89a", b"BM", *encoded.TIFF, b"P4", b"P5", b"P6")


def _looks_like_image(start: bytes) -> bool:
    # Sounds and films are RIFF files, too.
    return start.startswith(_SIGNATURES) or encoded.is_webp(start) or heif.is_heif(start)

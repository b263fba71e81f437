"""Where pictures lie: in folders, behind patterns, in zip archives that stay packed."""

from __future__ import annotations

import glob
import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from keras_ehrnet.images import heif
from keras_ehrnet.images.encoded import looks_like_image
from keras_ehrnet.support.errors import ImageError, reading
from keras_ehrnet.support.limits import check_size
from keras_ehrnet.support.messages import warn

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pnm", *heif.SUFFIXES,
)  # fmt: skip
"""Names of image files end like this."""


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
            return looks_like_image(file.read(64))
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


def _archive(path: Path) -> zipfile.ZipFile:
    """An archive as it is now, opened once."""
    state = path.stat()
    return _opened(path, (state.st_ino, state.st_size, state.st_mtime_ns), os.getpid())


@lru_cache(maxsize=8)
def _opened(path: Path, state: tuple[int, int, int], process: int) -> zipfile.ZipFile:
    # One handle per process: forked workers that share a file offset would read each other's data.
    del state, process
    return zipfile.ZipFile(path)


def _names_in(folder: Path) -> set[str]:
    return {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()

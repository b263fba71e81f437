"""Writing files so that whoever reads one sees the old or the whole new one, never a part; and their checksums."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_LONGEST_NAME = 200
"""Bytes of a name that a partial one repeats: file systems take 255, its mark included."""

_HOST = f"{zlib.crc32(socket.gethostname().encode()) & 0xFFFF:04x}"
_ABANDONED = re.compile(rf"\.part-{_HOST}\.(\d+)\.[0-9a-f]{{4}}-")
_cleared: set[Path] = set()


def write_file(path: Path, content: bytes | str) -> None:
    """Writes a file whole or not at all; what was there before is replaced only by a whole one.

    Raises:
        OSError: naming the file, if it cannot be written; it is then as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    replace_file(path, lambda file: file.write(data))


def replace_file(path: Path, write: Callable[[Any], object]) -> None:
    """`write_file` for whatever writes into an open file; raises the same."""
    with writing(path), replacing(path) as partial, partial.open("wb") as file:
        write(file)


def replace_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a folder whole or not at all; what was there before is replaced only by a whole one.

    Args:
        path: Path of the folder.
        write: callable. Takes the path of a new folder beside it, and fills that.

    Raises:
        OSError: naming the folder, if it cannot be written; it is then as it was.
    """
    partial, previous = partial_path(path), partial_path(path)
    try:
        with writing(path):
            clear_abandoned(path.parent)
            write(partial)
            for file in filter(Path.is_file, partial.rglob("*")):
                _flush(file)
            if path.exists():
                os.rename(path, previous)
            try:
                os.rename(partial, path)
            except BaseException:
                if previous.exists():
                    os.rename(previous, path)
                raise
    finally:
        for folder in (partial, previous):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """For whatever opens its file itself: a path to write to, which takes the place of the file at the end.

    After an error, the file is as it was.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from keras_ehrnet.support.files import replacing
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder, "points.txt")) as partial:
        ...         _ = partial.write_text("1 2")
        ...     Path(folder, "points.txt").read_text()
        '1 2'
    """
    partial = partial_path(path)
    clear_abandoned(path.parent)
    try:
        yield partial
        settle(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink()


def partial_path(path: Path, *, unique: bool = True) -> Path:
    """Where a file lies until it is whole: hidden, in the same folder.

    Args:
        path: Path of the file.
        unique: bool. False for a file that another run goes on with.
    """
    mark = f"-{_HOST}.{os.getpid()}.{uuid.uuid4().hex[:4]}" if unique else ""
    # The end of the name stays: it tells Keras and OpenCV the format.
    name = path.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        end = os.fsencode(name)[-_LONGEST_NAME // 2 :].decode(errors="ignore")
        name = f"{zlib.crc32(os.fsencode(name)):08x}{end}"
    return path.with_name(f".part{mark}-{name}")


def clear_abandoned(folder: Path) -> None:
    """Deletes what killed processes of this machine left half-written in a folder; looks once in a process's life."""
    if folder in _cleared:
        return
    _cleared.add(folder)
    with suppress(OSError):
        for entry in os.scandir(folder):
            known = _ABANDONED.match(entry.name)
            if known and not _is_running(int(known[1])):
                remove = shutil.rmtree if entry.is_dir(follow_symlinks=False) else os.unlink
                with suppress(OSError):
                    remove(entry.path)


def _is_running(process: int) -> bool:
    if os.name != "posix":
        return True  # Asking would end it.
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def settle(partial: Path, path: Path) -> None:
    """Gives a file that is whole its name. It is on the disk before: no crash leaves an empty one by that name."""
    _flush(partial)
    os.replace(partial, path)


def sha256(content: Path | bytes | Iterable[bytes]) -> str:
    """Checksum of a file, of bytes, or of pieces of them, in hexadecimal digits.

    Example:
        >>> from keras_ehrnet.support.files import sha256
        >>> sha256(b"joints") == sha256([b"joi", b"nts"])
        True
    """
    if isinstance(content, Path):
        with content.open("rb") as file:
            return sha256(iter(lambda: file.read(1 << 20), b""))
    digest = hashlib.sha256()
    for piece in [content] if isinstance(content, bytes) else content:
        digest.update(piece)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def why(error: OSError) -> str:
    """What the system says of a file that could not be written, without the path."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return cause.strerror or str(cause)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """For writers of a file or folder: its parent exists inside, and an `OSError` says what could not be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise OSError(f"{path} could not be written ({why(error)}); what was there before is intact.") from error

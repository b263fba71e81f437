"""Fetching registered weights: from a local folder or the network, resumable, verified, and never half-written."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import BinaryIO

from keras_ehrnet.support.files import partial_path, settle, sha256, write_file
from keras_ehrnet.support.limits import check_size
from keras_ehrnet.support.messages import warn
from keras_ehrnet.support.terminal import progress_bar
from keras_ehrnet.weights.formats import HDF5_SIGNATURE, WeightsError
from keras_ehrnet.weights.registry import Entry

try:
    import fcntl
except ImportError:  # Windows has none: there, processes are not kept apart, and checksums tell.
    fcntl = None

HOME_VARIABLE = "KERAS_EHRNET_HOME"


def home() -> Path:
    """The folder that holds downloaded weights: `$KERAS_EHRNET_HOME`, or `~/.cache/keras_ehrnet`."""
    return Path(os.environ.get(HOME_VARIABLE) or Path.home() / ".cache" / "keras_ehrnet")


def fetch(entry: Entry, folder: Path | None = None) -> Path:
    """The local file of registered weights, downloaded unless it is there already.

    A download that breaks off is taken up where it ended when this is called again; several processes wait for one.
    Where no checksum is published, that of the first complete download is recorded beside the file.

    Args:
        entry: `Entry`. The weights.
        folder: Path or None. Where they are or shall be; defaults to `home()`.

    Returns:
        Path of the verified file.

    Raises:
        WeightsError: if the file cannot be had, or is not the published one.
    """
    target = (folder or home()) / entry.file_name
    if target.exists():
        _verify(entry, target, target, f"Delete {target} to download it again.")
        return target
    partial = partial_path(target, unique=False)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(partial) as file:
            if not target.exists():  # Another process may have been quicker.
                _download(entry, file, partial)
                _settle(entry, partial, target)
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise WeightsError(
            f"Could not download {entry.url}: {getattr(error, 'reason', error) or error}. Run again to go on, put the "
            f"file into {target.parent}, or set {HOME_VARIABLE} to a folder that holds it."
        ) from error
    except OSError as error:
        raise WeightsError(
            f"Could not write {partial}: {error.strerror or error}. Set {HOME_VARIABLE} to another folder."
        ) from error
    return target


@contextmanager
def _alone(partial: Path) -> Iterator[BinaryIO]:
    """The unfinished file, at its end, for one process at a time; others wait until it is whole or given up."""
    while True:
        with partial.open("ab") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(file, partial):  # It was finished, or deleted, while this process waited.
                continue
            try:
                yield file
            finally:
                if _is_at(file, partial) and not partial.stat().st_size:
                    partial.unlink()
            return


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _settle(entry: Entry, partial: Path, target: Path) -> None:
    try:
        _verify(entry, partial, target, "The download was deleted; run again.")
    except WeightsError:
        partial.unlink()
        raise
    finally:
        _validator_path(partial).unlink(missing_ok=True)
    settle(partial, target)


def _verify(entry: Entry, path: Path, target: Path, advice: str) -> None:
    """Compares checksums. Where none is published, that of the first copy is recorded, and all later ones must have it.

    Raises:
        WeightsError: if the file is not the published one, or not the one that was first here.
    """
    checksum, recorded = sha256(path), target.with_name(f"{target.name}.sha256")
    with path.open("rb") as file:
        is_hdf5 = file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE
    expected = entry.sha256
    if expected is None and recorded.exists():
        expected = recorded.read_text(encoding="utf-8", errors="replace").split(" ")[0]
        advice = f"{advice} If it is right and {recorded.name} is not, delete that."
    if expected is None and is_hdf5:
        write_file(recorded, f"{checksum}  {target.name}\n")
        warn(
            f"No checksum is published for {entry.file_name}; that of this copy, sha256 {checksum}, is recorded beside "
            "it, and compared from now on."
        )
    elif checksum != expected:  # Also where none is recorded, but what came is no weights file at all.
        raise WeightsError(
            f"{path} is not the published {entry.file_name}: its sha256 is {checksum} ({path.stat().st_size} bytes), "
            f"expected {expected or 'an HDF5 file'} ({entry.size or 'unknown'} bytes). {advice}"
        )


def _download(entry: Entry, file: BinaryIO, partial: Path) -> None:
    have = partial.stat().st_size
    if entry.size is not None and have >= entry.size:
        return
    headers = _range(entry, partial, have)
    try:
        request = urllib.request.Request(entry.url, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            resumed = bool(headers) and response.status == 206
            if resumed and not response.headers.get("Content-Range", f"bytes {have}-").startswith(f"bytes {have}-"):
                received = response.headers["Content-Range"]
                raise WeightsError(f"{entry.url} goes on elsewhere than asked, at byte {have}. Received: {received!r}")
            if not resumed:
                file.truncate(0)
                _remember(entry, partial, response)
            _copy_with_progress(response, file, entry, have if resumed else 0)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # The server has nothing beyond what is here: the checksum decides.


def _range(entry: Entry, partial: Path, have: int) -> dict[str, str]:
    """What to ask for: the rest, as long as it is the rest of the same file; nothing, for all of it."""
    if not have:
        return {}
    if entry.sha256 is not None:  # A rest of another file would be found out.
        return {"Range": f"bytes={have}-"}
    known = _validator_path(partial)
    return {"Range": f"bytes={have}-", "If-Range": known.read_text(encoding="ascii")} if known.exists() else {}


def _validator_path(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.version")


def _remember(entry: Entry, partial: Path, response: HTTPResponse) -> None:
    """Notes which version of the file this is, where no checksum will tell."""
    tag, date = response.headers.get("ETag", ""), response.headers.get("Last-Modified", "")
    version = date if not tag or tag.startswith("W/") else tag
    if entry.sha256 is None and version.isascii() and version:
        write_file(_validator_path(partial), version)


def _copy_with_progress(response: HTTPResponse, file: BinaryIO, entry: Entry, have: int) -> None:
    length = response.headers.get("Content-Length")
    if length is not None and not (length.isascii() and length.isdigit()):
        raise WeightsError(f"{entry.url} does not say how long it is. Received: Content-Length {length!r}")
    total = have + int(length) if length else entry.size
    check_size(total or 0, entry.url, WeightsError, "The download")
    with progress_bar("bytes") as progress:
        task = progress.add_task(entry.file_name, total=total, completed=have)
        while chunk := response.read(1 << 16):
            have += len(chunk)
            check_size(have, entry.url, WeightsError, "The download")
            file.write(chunk)
            progress.advance(task, len(chunk))
    file.flush()
    if total is not None and have < total:
        raise WeightsError(
            f"The download of {entry.url} broke off after {have} of {total} bytes. Run again: it goes on from there."
        )

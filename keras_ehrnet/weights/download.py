"""Fetching registered weights: from a local folder or the network, resumable, verified, and never half-written."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from http.client import HTTPResponse
from pathlib import Path
from typing import BinaryIO

from keras_ehrnet.support.files import partial_path, settle, sha256
from keras_ehrnet.support.messages import warn
from keras_ehrnet.support.terminal import progress_bar
from keras_ehrnet.weights.formats import HDF5_SIGNATURE, WeightsError
from keras_ehrnet.weights.registry import Entry

HOME_VARIABLE = "KERAS_EHRNET_HOME"


def home() -> Path:
    """The folder that holds downloaded weights: `$KERAS_EHRNET_HOME`, or `~/.cache/keras_ehrnet`."""
    return Path(os.environ.get(HOME_VARIABLE) or Path.home() / ".cache" / "keras_ehrnet")


def fetch(entry: Entry, folder: Path | None = None) -> Path:
    """The local file of registered weights, downloaded unless it is there already.

    A download that breaks off is taken up where it ended when this is called again.

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
        _verify(entry, target, f"Delete {target} to download it again.")
        return target
    partial = partial_path(target, unique=False)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(entry, partial)
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise WeightsError(
            f"Could not download {entry.url}: {getattr(error, 'reason', error) or error}. Run again to go on, put the "
            f"file into {target.parent}, or set {HOME_VARIABLE} to a folder that holds it."
        ) from error
    except OSError as error:
        raise WeightsError(
            f"Could not write {partial}: {error.strerror or error}. Set {HOME_VARIABLE} to another folder."
        ) from error
    try:
        _verify(entry, partial, "The download was deleted; run again.")
    except WeightsError:
        partial.unlink()
        raise
    settle(partial, target)
    return target


def _verify(entry: Entry, path: Path, advice: str) -> None:
    checksum = sha256(path)
    with path.open("rb") as file:
        is_hdf5 = file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE
    if entry.sha256 is None and is_hdf5:
        warn(f"No checksum is recorded for {entry.file_name}; this copy has sha256 {checksum}.")
    elif checksum != entry.sha256:  # Also where none is recorded, but what came is no weights file at all.
        raise WeightsError(
            f"{path} is not the published {entry.file_name}: its sha256 is {checksum} ({path.stat().st_size} bytes), "
            f"expected {entry.sha256 or 'an HDF5 file'} ({entry.size or 'unknown'} bytes). {advice}"
        )


def _download(entry: Entry, partial: Path) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    if entry.size is not None and have >= entry.size:
        return
    request = urllib.request.Request(entry.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            resumed = response.status == 206
            with partial.open("ab" if resumed else "wb") as file:
                _copy_with_progress(response, file, entry, have if resumed else 0)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # The server has nothing beyond what is here: the checksum decides.


def _copy_with_progress(response: HTTPResponse, file: BinaryIO, entry: Entry, have: int) -> None:
    length = response.headers.get("Content-Length")
    total = have + int(length) if length else entry.size
    with progress_bar("bytes") as progress:
        task = progress.add_task(entry.file_name, total=total, completed=have)
        while chunk := response.read(1 << 16):
            file.write(chunk)
            progress.advance(task, len(chunk))
            have += len(chunk)
    if total is not None and have < total:
        raise WeightsError(
            f"The download of {entry.url} broke off after {have} of {total} bytes. Run again: it goes on from there."
        )

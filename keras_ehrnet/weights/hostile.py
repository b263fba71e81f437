"""Files of weights before anything is read from them: nothing that lies elsewhere, nothing that unpacks to too much."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from keras_ehrnet.support.errors import WeightsError
from keras_ehrnet.support.limits import check_size

if TYPE_CHECKING:
    import h5py

KERAS_WEIGHTS = "model.weights.h5"
"""The member of a `.keras` archive that holds the weights."""


def check_hdf5(archive: h5py.File, origin: str) -> None:
    """Refuses an HDF5 file whose arrays lie in other files, or would take more memory than one input may.

    Links and external storage make any other file of this computer a weight; a few bytes stand for an array of any
    size.

    Args:
        archive: open `h5py.File`.
        origin: str. What it is, for messages.

    Raises:
        WeightsError: naming what it is that leads elsewhere, or the memory it would take.
    """
    import h5py

    size, todo, seen = 0, [archive["/"]], set()
    while todo:
        group = todo.pop()
        for name in group:
            where = f"{group.name.rstrip('/')}/{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise WeightsError(
                    f"{origin} must hold its weights itself: save it again. Received: {where!r}, a link to elsewhere"
                )
            item = group[name]
            place = h5py.h5o.get_info(item.id).addr
            if place in seen:
                continue
            seen.add(place)
            if isinstance(item, h5py.Group):
                todo.append(item)
            elif isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    where = f"{where!r}, which is stored in another file"
                    raise WeightsError(f"{origin} must hold its weights itself: save it again. Received: {where}")
                size += (item.size or 0) * item.dtype.itemsize
    check_size(size, origin, WeightsError, "The weights file")


def check_zip(path: Path) -> None:
    """Refuses an archive that unpacks to more memory than one input may take; WeightsError."""
    with zipfile.ZipFile(path) as archive:
        sizes = (max(entry.file_size, entry.compress_size) for entry in archive.infolist())
        check_size(sum(sizes), path, WeightsError, "The archive")


def check_keras(path: Path) -> None:
    """Both, of a `.keras` file: Keras itself follows links.

    Raises:
        WeightsError: as of `check_hdf5`.
    """
    import h5py

    check_zip(path)
    with zipfile.ZipFile(path) as archive:
        if KERAS_WEIGHTS in archive.namelist():
            with archive.open(KERAS_WEIGHTS) as file, h5py.File(file, "r") as weights:
                check_hdf5(weights, str(path))

"""HDF5 files of others are read by a process of their own first: a damaged one can lead HDF5 in a circle for ever.

As a script this module is that process: `python -m keras_ehrnet.weights.trial FILE`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from keras_ehrnet.support.errors import WeightsError
from keras_ehrnet.support.processes import as_program
from keras_ehrnet.weights.hostile import check_hdf5

SECONDS = 20
"""How long reading a file may take; the largest network of the papers takes less than one."""


def need_readable(path: Path) -> None:
    """Refuses an HDF5 file that a process does not come back from; what else is wrong with it shows when it is read.

    Raises:
        WeightsError: if reading the file does not end, or ends the process.
    """
    command, environment = as_program(__name__, str(path.absolute()))
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise WeightsError(f"{path} is damaged: reading it did not end within {SECONDS} s. Copy it again.") from error
    if done.returncode < 0:
        raise WeightsError(f"{path} is damaged: it ends the program that reads it. Copy it again.")


def _read_all(path: str) -> None:
    import h5py

    with h5py.File(path, "r") as archive:
        check_hdf5(archive, path)

        def read(_: str, item: Any) -> None:
            dict(item.attrs)
            if isinstance(item, h5py.Dataset):
                item[()]

        dict(archive.attrs)
        archive.visititems(read)


if __name__ == "__main__":
    _read_all(sys.argv[1])

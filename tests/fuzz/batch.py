"""One batch of damaged inputs, in a process that may run out of memory, hang or crash without harm to others."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
import warnings
import zlib
from pathlib import Path

import numpy as np
from readers import READERS, Reader

from keras_ehrnet.support.errors import KerasEhrnetError

MEMORY = 1 << 30
"""Bytes that a process may ask for beyond what it has once it has read the whole files."""


def main(folder: Path, names: list[str], first: int, count: int) -> None:
    """Reads inputs `first` to `first + count` of each of some readers; a line of JSON says what came of each."""
    warnings.simplefilter("ignore")
    for name in names:
        path = folder / name / READERS[name].file
        path.write_bytes(path.with_name(f"whole-{path.name}").read_bytes())
        READERS[name].read(path)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY, resource.RLIM_INFINITY))
    for number in range(first, first + count):
        for name in names:
            reader = READERS[name]
            for part in range(reader.share):
                _say(name, number * reader.share + part, "begun")
                _say(name, number * reader.share + part, *_tried(reader, folder / name, number * reader.share + part))


def damaged(reader: Reader, folder: Path, number: int) -> bytes:
    """Input `number` of a reader: always the same one."""
    whole = (folder / f"whole-{reader.file}").read_bytes()
    return reader.mutate(whole, np.random.default_rng((zlib.crc32(reader.name.encode()), number)))


def _tried(reader: Reader, folder: Path, number: int) -> tuple[str, str, float]:
    path, start = folder / reader.file, time.monotonic()
    path.write_bytes(damaged(reader, folder, number))
    try:
        reader.read(path)
        return "read", "", time.monotonic() - start
    except (KerasEhrnetError, FileNotFoundError) as error:
        outcome, told = "refused", str(error)
        # What a file makes a reader ask for is held back before; this limit is there to find where it is not.
        if _comes_from(error, MemoryError):
            outcome = "memory"
        elif _comes_from(error, NameError):
            return "escaped", traceback.format_exc()[-3000:], time.monotonic() - start
        elif len(told) > 2000 or ("Received" not in told and str(path) not in told and path.name not in told):
            outcome = "untold"
        return outcome, told[:500], time.monotonic() - start
    except BaseException:
        return "escaped", traceback.format_exc()[-3000:], time.monotonic() - start


def _comes_from(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error is not None


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _say(name: str, number: int, outcome: str, told: str = "", seconds: float = 0.0) -> None:
    print(json.dumps([name, number, outcome, told, round(seconds, 3)]), file=_lines, flush=True)


if __name__ == "__main__":
    # Libraries in C++ print where they like: what is said of inputs goes where they do not.
    _lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    main(Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3]), int(sys.argv[4]))

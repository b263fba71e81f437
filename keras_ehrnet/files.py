"""Writing files so that whoever reads one sees the old or the whole new one, never a part."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_file(path: Path, content: bytes | str) -> None:
    """Writes a file whole or not at all; what was there before is replaced only by a whole one.

    Raises:
        OSError: naming the file, if it cannot be written; it is then as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    replace_file(path, lambda file: file.write(data))


def replace_file(path: Path, write: Callable[[Any], object]) -> None:
    """`write_file` for whatever writes into an open file; raises the same."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{path} could not be written ({reason}); what was there before is intact.") from error
    finally:
        with suppress(OSError):
            partial.unlink()

"""What libraries in C++ say of themselves, which no setting silences, kept out of the terminal."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_one_at_a_time = threading.RLock()  # Of two threads inside, the last one out would restore the first one's nowhere.


@contextmanager
def silenced() -> Iterator[None]:
    """Standard error goes nowhere inside, for this whole process.

    Example:
        >>> import os
        >>> from keras_ehrnet.support.terminal import silenced
        >>> with silenced():
        ...     os.write(2, b"not seen") and None
    """
    with _one_at_a_time:
        sys.stderr.flush()
        terminal = os.dup(2)
        try:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)

"""The terminal: mistakes in one line, progress bars, and silence of libraries in C++."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from keras_ehrnet.support.errors import KerasEhrnetError
from keras_ehrnet.support.messages import MissingPackageError, missing_package

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

FAILED = 2
"""Exit code after a mistake of the user."""


def complain(message: str) -> None:
    """Says what is wrong where results do not go."""
    print(message, file=sys.stderr)


def fail(error: object) -> int:
    """Tells a mistake in one line; gives the exit code."""
    complain(f"Error: {' '.join(str(error).split())}")
    return FAILED


def run(command: Callable[[], int | None]) -> int:
    """Runs a command. The one place where mistakes of its user, or in their files, end: in a sentence.

    Args:
        command: callable. Gives an exit code, or None.

    Returns:
        The command's exit code, or 2 after a mistake.

    Example:
        >>> from keras_ehrnet.support.terminal import run
        >>> run(lambda: None)
        0
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: complain(f"Warning: {message}")
            return command() or 0
    except ModuleNotFoundError as error:
        return fail(missing_package(error, "This command"))
    # Settings that contradict each other are plain ValueErrors.
    except (KerasEhrnetError, ValueError, OSError, MissingPackageError) as error:
        return fail(error)


def progress_bar(
    unit: str = "", *, shown: bool = True, console: Console | None = None, transient: bool = False
) -> Progress:
    """A progress bar: how much is done of how much, rate, time left.

    Args:
        unit: str. What the rate counts, such as `"images"`; `"bytes"` are shown as sizes. Empty: no rate.
        shown: bool.
        console: `rich.console.Console`, or None for standard output.
        transient: bool. Whether it disappears at the end.

    Returns:
        `rich.progress.Progress`. What is in its tasks' field `note` stands beside the rate.
    """
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            # A task may count steps of many images.
            speed = (task.speed or 0) * task.fields.get("per_step", 1)
            rate = f"{speed:.{0 if speed >= 100 else 1}f} {unit}/s" if unit and speed else ""
            return Text(", ".join(filter(None, (rate, task.fields.get("note")))))

    figures = (DownloadColumn(), TransferSpeedColumn()) if unit == "bytes" else (MofNCompleteColumn(), Rate())
    columns = (TextColumn("{task.description}"), BarColumn(), *figures, TimeRemainingColumn())
    return Progress(*columns, console=console, transient=transient, disable=not shown)


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Without TensorFlow's remarks on where it writes what, which go to its logger, and in notebooks below the cell."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


_one_at_a_time = threading.RLock()  # Of two threads inside, the last one out would restore the first one's nowhere.


@contextmanager
def silenced() -> Iterator[None]:
    """Standard error, and TensorFlow's logger, go nowhere inside, for this whole process.

    Example:
        >>> import os
        >>> from keras_ehrnet.support.terminal import silenced
        >>> with silenced():
        ...     os.write(2, b"not seen") and None
    """
    with _one_at_a_time, quiet_tensorflow():
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

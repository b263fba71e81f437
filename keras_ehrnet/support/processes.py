"""Modules of this package as programs of their own, for what may end or never end."""

from __future__ import annotations

import os
import sys


def as_program(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The command that runs a module with this interpreter, and the environment in which it finds what we find.

    Example:
        >>> import subprocess
        >>> from keras_ehrnet.support.processes import as_program
        >>> command, environment = as_program("this")
        >>> subprocess.run(command, env=environment, capture_output=True, text=True).stdout.splitlines()[0]
        'The Zen of Python, by Tim Peters'
    """
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return [sys.executable, "-m", module, *arguments], settings

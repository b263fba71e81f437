"""OpenCV without its log: what goes wrong is told in errors of this package."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2

# OpenCV 5 has its log in a module of its own, OpenCV 4 at the top.
_opencv_log: Any = getattr(cv2.utils, "logging", cv2)
_SILENT = 0
_quiet_lock = threading.Lock()
_quiet_state = {"inside": 0, "level": 0}


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Silences OpenCV's log. The level is global: the first thread in lowers it, the last one out restores it."""
    with _quiet_lock:
        if _quiet_state["inside"] == 0:
            _quiet_state["level"] = _opencv_log.setLogLevel(_SILENT)
        _quiet_state["inside"] += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_state["inside"] -= 1
            if _quiet_state["inside"] == 0:
                _opencv_log.setLogLevel(_quiet_state["level"])

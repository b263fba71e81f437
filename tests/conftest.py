"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import importlib.util
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def pytest_collection_finish() -> None:
    """Half a million objects of imported packages stay: looking through them again and again is a sixth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder with golden outputs, official weights and real images; tests that need it skip without."""
    folder = Path(os.environ.get("KERAS_EHRNET_REFERENCE", ROOT / ".." / "shared")).resolve()
    if (folder / "reference").is_dir():
        return folder
    if os.environ.get("CI"):
        pytest.fail(f"Under CI the reference data must be there. Received: KERAS_EHRNET_REFERENCE={folder}")
    pytest.skip(f"no reference data at {folder}: set KERAS_EHRNET_REFERENCE to its folder")


@pytest.fixture(scope="session")
def deterministic_tensor(reference: Path):
    """The function (name, shape) -> array that made the weights of the network goldens."""
    spec = importlib.util.spec_from_file_location("deterministic", reference / "reference/deterministic_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.tensor


@pytest.fixture
def run_here(monkeypatch, capfd) -> Callable[..., subprocess.CompletedProcess]:
    """`keras-ehrnet` without a process of its own, which would take seconds to import Keras."""
    from keras_ehrnet.cli import main

    def run_here(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
        if cwd is not None:
            monkeypatch.chdir(cwd)
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        return subprocess.CompletedProcess(arguments, ended.value.code or 0, *capfd.readouterr())

    return run_here


@pytest.fixture(scope="session")
def golden_input():
    """The normalized image that the network goldens were computed from."""

    def make(height: int, width: int) -> np.ndarray:
        generator = np.random.Generator(np.random.PCG64(7))
        return generator.standard_normal((1, height, width, 3)).astype("float32")

    return make


def need_programs(are_there: bool, what: str) -> None:
    """Skips a test, or fails it where all programs must be there: in the lanes of the Makefile that are for them."""
    if not are_there:
        (pytest.fail if os.environ.get("KERAS_EHRNET_ALL_RUNTIMES") else pytest.skip)(what)


def relative_difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute difference, relative to the standard deviation of what is expected."""
    return float(np.abs(np.asarray(actual) - expected).max() / expected.std())

"""The source distribution: what is in it can be tested as it is."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTED = ("tests", "training", "deploy", "docs/pictures", "keras_ehrnet")
GENERATED = ("build", "__pycache__", "node_modules", "networks")


@pytest.fixture(scope="module")
def names(tmp_path_factory) -> set[str]:
    """Names of all files of a source distribution, without its version."""
    folder = tmp_path_factory.mktemp("sdist")
    command = ["-c", "from setuptools import setup; setup()", "-q", "egg_info", "--egg-base", folder]
    subprocess.run([sys.executable, *command, "sdist", "--dist-dir", folder], cwd=ROOT, check=True, capture_output=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        return {member.name.split("/", 1)[1] for member in content if member.isfile()}


@pytest.mark.parametrize("folder", TESTED)
def test_what_tests_read_is_in_the_source_distribution(names, folder):
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".md", ".yaml", ".json", ".kt", ".sh", ".jpg", ".png", ".tflite", ".h5", ".typed"}
        and not set(path.relative_to(ROOT).parts) & set(GENERATED)
    }
    assert files
    assert not files - names


def test_source_distribution_can_run_its_tests(names):
    assert {"Makefile", ".ci/run", "CONTRIBUTING.md", "CHANGELOG.md", "setup.cfg", "pyproject.toml"} <= names
    assert not [name for name in names if name.endswith(".pyc")]

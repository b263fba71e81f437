"""Files that are written whole or not at all, whatever their name is and whoever was killed on the way."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from keras_ehrnet.support import files

KILLED = """
import os, sys
from pathlib import Path
from keras_ehrnet.support.files import replacing
with replacing(Path(sys.argv[1])) as partial:
    partial.write_text("half")
    os._exit(9)
"""


@pytest.fixture(autouse=True)
def forgetful(monkeypatch):
    monkeypatch.setattr(files, "_cleared", set())


def test_what_a_killed_process_left_is_cleared_by_the_next(tmp_path):
    path = tmp_path / "points.json"
    path.write_text("whole")
    assert subprocess.run([sys.executable, "-c", KILLED, path]).returncode == 9
    (left,) = [other for other in tmp_path.iterdir() if other != path]
    assert (path.read_text(), left.read_text()) == ("whole", "half")
    running = files.partial_path(tmp_path / "other.json")
    running.write_text("in the middle of it")
    files.write_file(path, "new")
    assert {other.name for other in tmp_path.iterdir()} == {"points.json", running.name}
    assert path.read_text() == "new"


@pytest.mark.parametrize("name", ["a" * 250 + ".png", "ü" * 120 + ".json", "short.csv"])
def test_names_as_long_as_a_file_system_takes(tmp_path, name):
    path = tmp_path / name
    files.write_file(path, "1")
    files.replace_folder(tmp_path / ("d" * 250), lambda folder: (folder.mkdir(), files.write_file(folder / name, "2")))
    assert path.read_text() == "1" and (tmp_path / ("d" * 250) / name).read_text() == "2"
    assert len(list(tmp_path.iterdir())) == 2
    assert files.partial_path(path).suffix == path.suffix
    assert len(os.fsencode(files.partial_path(path).name)) <= 255
    assert files.partial_path(path, unique=False) == files.partial_path(path, unique=False)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are POSIX's")
def test_convert_leaves_what_was_there_when_the_disk_is_full(tmp_path, reference):
    import resource

    target = tmp_path / "rt.weights.h5"
    target.write_bytes(b"earlier")
    source = reference / "weights/EfficientPoseRT.h5"
    command = ["-m", "keras_ehrnet", "convert", source, target, "--model", "efficientpose-rt"]
    limit = 200_000
    result = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert result.returncode == 2, result.stderr
    assert "could not be written" in result.stderr and "Traceback" not in result.stderr
    assert target.read_bytes() == b"earlier" and len(list(tmp_path.iterdir())) == 1

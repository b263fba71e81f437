"""One round of `make fuzz`: damaged files for every reader, always the same ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_nothing_but_sentences_comes_out_of_readers(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    fuzz = ROOT / "tests" / "fuzz"
    command = [sys.executable, str(fuzz), "--minutes", "0", "--batch", "2", "--kept", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]

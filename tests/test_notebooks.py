"""Notebooks as they are stored: run, with pictures, without what libraries say to themselves. nbmake runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def test_there_are_notebooks():
    assert {"quick_start", "own_keypoints", "export", "evaluation"} <= {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_opens_in_colab_and_installs_what_it_needs(path):
    address = f"colab.research.google.com/github/keras-ehrnet/keras-ehrnet/blob/main/notebooks/{path.name}"
    assert address in "".join(cells(path, "markdown")[0]["source"])
    assert '"pip", "install"' in "".join(cells(path, "code")[0]["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stored_and_worth_reading(path):
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert any(kind.startswith("image/") for output in outputs for kind in output.get("data", ()))
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    told = ["".join(output.get("text", ())) for output in outputs]
    assert not [text for text in told if "INFO:" in text or "WARNING" in text or "/tmp/" in text]

"""Code that documentation shows does what the package does."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from keras_ehrnet.cli import app
from keras_ehrnet.geometry import letterbox_geometry
from keras_ehrnet.images import read_image

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TEXTS = [ROOT / "README.md", *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "deploy").rglob("*.md"))]
SIZES = ((400, 300, 384, 384), (267, 400, 224, 224), (100, 75, 256, 192), (51, 200, 64, 48))


def picture(width: int, height: int) -> np.ndarray:
    image = read_image(DOCS / "pictures/astronaut.jpg")
    return np.ascontiguousarray(image[np.linspace(0, len(image) - 1, height).astype(int)][:, :width])


@pytest.mark.parametrize(("width", "height", "input_width", "input_height"), SIZES)
def test_python_letterbox_is_the_predictors(width, height, input_width, input_height):
    letterbox = runpy.run_path(str(DOCS / "snippets/letterbox.py"))["letterbox"]
    image = picture(width, height)
    geometry = letterbox_geometry(width, height, input_width, input_height)
    fitted, to_image = letterbox(image, input_width, input_height)
    np.testing.assert_array_equal(fitted, geometry.warp(image))
    np.testing.assert_allclose(to_image(10.25, 3.5), geometry.to_image(np.array([10.25, 3.5])), atol=1e-9)


@pytest.mark.skipif(shutil.which("node") is None, reason="JavaScript needs node")
@pytest.mark.parametrize(("width", "height", "input_width", "input_height"), SIZES)
def test_javascript_letterbox_is_the_predictors(tmp_path, width, height, input_width, input_height):
    image = picture(width, height)
    geometry = letterbox_geometry(width, height, input_width, input_height)
    rgba = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    (tmp_path / "pixels").write_bytes(rgba.tobytes())
    source = json.dumps((ROOT / "deploy/web/pose.js").as_uri())
    (tmp_path / "script.mjs").write_text(
        f"import {{ letterbox }} from {source};"
        "import { readFileSync, writeFileSync } from 'node:fs';"
        f"const data = readFileSync({json.dumps(str(tmp_path / 'pixels'))});"
        f"const image = {{ data, width: {width}, height: {height} }};"
        f"const result = letterbox(image, {input_width}, {input_height});"
        f"writeFileSync({json.dumps(str(tmp_path / 'input'))}, result.input);"
        "console.log(JSON.stringify(result.toImage(10.25, 3.5)));"
    )
    done = subprocess.run(["node", tmp_path / "script.mjs"], capture_output=True, text=True, check=True)
    np.testing.assert_allclose(json.loads(done.stdout), geometry.to_image(np.array([10.25, 3.5])), atol=1e-9)
    fitted = np.frombuffer((tmp_path / "input").read_bytes(), np.uint8).reshape(input_height, input_width, 3)
    difference = np.abs(fitted.astype(int) - geometry.warp(image))
    # Measured: one level of 255 in places, from rounding.
    assert difference.max() <= 1, difference.max()


def test_demo_finds_a_person(tmp_path):
    makefile = (ROOT / "Makefile").read_text()
    photo = re.search(r"^DEMO_PHOTO \?= (.*)$", makefile, re.MULTILINE)
    command = re.search(r"^\t\$\(BIN\)/keras-ehrnet (predict .*) --output demo$", makefile, re.MULTILINE)
    assert photo and command
    words = shlex.split(command[1].replace("$(DEMO_PHOTO)", photo[1]))
    words = [sys.executable, "-m", "keras_ehrnet", *words, "--output", str(tmp_path)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    assert len(json.loads((tmp_path / "astronaut.json").read_text())["persons"]) == 1


def commands(text: Path) -> list[list[str]]:
    """The `keras-ehrnet` commands of a page's shell blocks, in words."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", text.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "keras-ehrnet":
                found.append(words[1:])
    return found


PAGES = [
    *TEXTS,
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "training").rglob("*.md")),
    *sorted((ROOT / "keras_ehrnet").rglob("*.md")),
]


def scripts() -> dict[str, set[str]]:
    """Scripts of the repository that pages show, in blocks or in a line, and the options that they show of each."""
    found: dict[str, set[str]] = {}
    shown = re.compile(r"(?:^|`)python3? ((?:training|deploy|tests)/[^`]+?)(?:`|  +#|\n(?!--))", re.MULTILINE)
    for page in PAGES:
        for command in shown.findall(page.read_text().replace("\\\n", " ")):
            script, *words = command.split()
            found.setdefault(script, set()).update(word for word in words if word.startswith("--"))
    return found


@pytest.mark.parametrize("script", sorted(scripts()))
def test_scripts_shown_know_their_options(script):
    """What a script does is tested, where it takes seconds, by the test of its name."""
    options = {**os.environ, "COLUMNS": "300", "TERM": "dumb"}
    done = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True, env=options)
    assert done.returncode == 0, done.stderr
    assert not {option for option in scripts()[script] if option not in done.stdout}, done.stdout


def test_pages_show_commands():
    assert sum(len(commands(text)) for text in TEXTS) > 20


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: str(text.relative_to(ROOT)))
def test_commands_shown_are_understood(text):
    for words in commands(text):
        command, rest = typer.main.get_command(app), words
        # `search` is a command itself, of which `search measure` is another.
        while rest and rest[0] in getattr(command, "commands", {}):
            name, *rest = rest
            command = command.commands[name]
        command.make_context(" ".join(words), rest)

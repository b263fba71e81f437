"""From nothing to a model that finds people it never saw, with the commands that a user has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_model_learns_synthetic_people_in_minutes(tmp_path):
    run, scores = tmp_path / "run", tmp_path / "scores"
    recipe = ROOT / "keras_ehrnet/recipes/synthetic-smoke.yaml"
    train = [ROOT / "training/train.py", recipe, f"output.folder={run}"]
    subprocess.run([sys.executable, *map(str, train)], check=True)

    unseen = run / "evaluation"
    evaluate = ["coco", unseen / "images", unseen / "person_keypoints.json", "-m", run / "model.keras", "--flip"]
    command = [sys.executable, "-m", "keras_ehrnet", "evaluate", *map(str, evaluate), "-o", str(scores)]
    subprocess.run(command, check=True)

    assert json.loads((scores / "scores.json").read_text())["ap"] >= 0.5

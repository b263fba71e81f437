"""From nothing to a model that finds people it never saw, with the commands that a user has."""

from __future__ import annotations

import json
import subprocess
import sys


def test_a_model_learns_synthetic_people_in_minutes(tmp_path):
    run, scores = tmp_path / "run", tmp_path / "scores"
    program = [sys.executable, "-m", "keras_ehrnet"]
    subprocess.run([*program, "train", "synthetic-smoke", f"output.folder={run}"], check=True)

    unseen = run / "evaluation"
    evaluate = ["coco", unseen / "images", unseen / "person_keypoints.json", "-m", run / "model.keras", "--flip"]
    subprocess.run([*program, "evaluate", *map(str, evaluate), "-o", str(scores)], check=True)

    assert json.loads((scores / "scores.json").read_text())["ap"] >= 0.5

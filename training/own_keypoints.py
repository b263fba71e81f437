"""How much weights of other joints help: a short training of own keypoints, from known weights and from nothing.

The first pictures of a COCO data set, five of whose joints get names that nobody knows, are learned by the recipe
`own-keypoints` from the package's weights, from those of EfficientPose's authors (MPII; downloaded, or in
KERAS_EHRNET_HOME) and from nothing; all are scored on other pictures.

python training/own_keypoints.py coco/annotations.json coco/images --scored-annotations val.json --scored-images val
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from keras_ehrnet.cli.common import load_keras, print_rows
from keras_ehrnet.skeletons import COCO_17

NAMES = {
    "nose": "snout",
    "left_eye": "left_pupil",
    "right_eye": "right_pupil",
    "left_ear": "left_lobe",
    "right_ear": "right_lobe",
}
STARTS = {
    "efficientpose-rt-coco": {},
    "efficientpose-rt": {"weights": "efficientpose-rt"},
    "nothing": {"weights": None, "transfer": "whole"},
}


def main(
    annotations: Annotated[Path, typer.Argument(help="COCO's keypoint JSON to learn from.")],
    images: Annotated[Path, typer.Argument(help="Its images.")],
    scored_annotations: Annotated[Path, typer.Option(help="COCO's keypoint JSON to score on.")],
    scored_images: Annotated[Path, typer.Option(help="Its images.")],
    pictures: Annotated[int, typer.Option(min=2, help="How many pictures to learn from.")] = 100,
    epochs: Annotated[int, typer.Option(min=1)] = 2,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the trainings.")] = Path(
        "runs/own_keypoints"
    ),
) -> None:
    output.mkdir(parents=True, exist_ok=True)
    learned, scored = output / "learned.json", output / "scored.json"
    learned.write_text(json.dumps(renamed(json.loads(annotations.read_text()), pictures)))
    scored.write_text(json.dumps(renamed(json.loads(scored_annotations.read_text()))))
    load_keras()

    from keras_ehrnet import training

    rows = [("from", *(f"AP after epoch {epoch + 1}" for epoch in range(epochs)))]
    for name, start in STARTS.items():
        changes = {"epochs": epochs, "batch_size": batch_size, "output.folder": str(output / name), **start}
        data = {"data.annotations": learned, "data.images": images}
        data |= {"evaluation_annotations": scored, "evaluation_images": scored_images}
        result = training.train("own-keypoints", **changes, **{key: str(path) for key, path in data.items()})
        rows.append((name, *(f"{row['ap']:.3f}" for row in result.history)))
    print_rows(f"{pictures} pictures, five of {COCO_17.num_joints} joints with names of their own", rows)


def renamed(content: dict, pictures: int | None = None) -> dict:
    """A data set with other names of its joints, cut to the first pictures that label somebody."""
    labelled = {entry["image_id"] for entry in content["annotations"] if any(entry["keypoints"][2::3])}
    images = [image for image in content["images"] if pictures is None or image["id"] in labelled][:pictures]
    kept = {image["id"] for image in images}
    (person,) = content["categories"]
    names = [NAMES.get(name, name) for name in person["keypoints"]]
    return {
        "images": images,
        "annotations": [entry for entry in content["annotations"] if entry["image_id"] in kept],
        "categories": [{**person, "keypoints": names, "sigmas": COCO_17.sigmas}],
    }


if __name__ == "__main__":
    typer.run(main)

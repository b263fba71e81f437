"""Cuts the people out of a data set in COCO's format, as a smaller one, from which small networks learn without
decoding whole photographs in every step.

python training/crops.py coco/person_keypoints_train.json coco/train crops/train
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from keras_ehrnet.data import read_coco
from keras_ehrnet.data.annotations import Dataset
from keras_ehrnet.geometry import Geometry, box_region
from keras_ehrnet.images import write_image
from keras_ehrnet.support.files import write_file

MARGIN = 1.6
"""What boxes are enlarged by: room for the crop of a training to be turned and made smaller in."""


def main(
    annotations: Annotated[Path, typer.Argument(help="COCO's keypoint JSON.")],
    images: Annotated[Path, typer.Argument(help="Its images.")],
    output: Annotated[Path, typer.Argument(help="Folder of the new data set: annotations.json and images/.")],
    side: Annotated[int, typer.Option(min=16, help="Pixels of a side of the new images.")] = 112,
    least: Annotated[int, typer.Option(min=1, help="Labelled joints that a person must have.")] = 8,
) -> None:
    (output / "images").mkdir(parents=True, exist_ok=True)
    dataset = read_coco(str(annotations), str(images))
    people = list(_cut_out(dataset, output / "images", side, least))
    sizes = {"width": side, "height": side}
    category = {"id": 1, "name": "person", "keypoints": list(dataset.skeleton.joint_names)}
    content = {
        "images": [{"id": person["id"], "file_name": f"{person['id']}.jpg", **sizes} for person in people],
        "annotations": people,
        "categories": [category],
    }
    write_file(output / "annotations.json", json.dumps(content))
    print(f"{output}: {len(people)} people")


def _cut_out(dataset: Dataset, folder: Path, side: int, least: int) -> Iterator[dict[str, Any]]:
    """Writes an image for each person; their annotations."""
    number = 0
    for sample in dataset:
        chosen = [person for person in sample.persons if np.count_nonzero(person.joints[:, 2]) >= least]
        if not chosen:
            continue
        image = sample.read()
        for person in chosen:
            number += 1
            geometry = Geometry.fitting(box_region(person.box, MARGIN), side, side)
            write_image(folder / f"{number}.jpg", geometry.warp(image))
            joints = person.joints.astype(float)
            joints[:, :2] = np.where(joints[:, 2:] > 0, geometry.to_input(joints[:, :2]), 0)
            corners = geometry.to_input(person.box.reshape(2, 2).astype(float))
            yield {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "keypoints": joints.round(2).ravel().tolist(),
                "num_keypoints": int(np.count_nonzero(joints[:, 2])),
                "bbox": [*corners[0].tolist(), *(corners[1] - corners[0]).tolist()],
                "area": float(person.area) * geometry.factor**2,
                "iscrowd": 0,
            }


if __name__ == "__main__":
    typer.run(main)

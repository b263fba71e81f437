"""A trained model as what comes with the package: float16 weights to build on, and a `.tflite` that finds people.

    python training/own_weights/package.py runs/rt/model.keras efficientpose-rt efficientpose-rt-coco --min-score 0.3
    python training/own_weights/package.py runs/people/model.keras efficientpose-rt efficientpose-rt-people \\
        --several 384 --min-score 0.2

Prints size and checksum of both files, for the registry. The weights are rounded first and then exported, so that both
files are one network.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import h5py
import numpy as np

import keras_ehrnet as ke
from keras_ehrnet.models.variants import VARIANTS
from keras_ehrnet.skeletons import COCO_17
from keras_ehrnet.support.files import sha256
from keras_ehrnet.weights.registry import packaged_folder

MOST_PEOPLE = 30
"""In a file that finds several; as `decode.pafs`."""


def rounded(source: Path, target: Path) -> None:
    """Copies Keras's weights file, kernels in half precision; vectors, such as variances, stay as they are."""
    with h5py.File(source, "r") as there, h5py.File(target, "w") as here:

        def copy(name: str, entry: h5py.Group | h5py.Dataset) -> None:
            if isinstance(entry, h5py.Dataset):
                value = entry[()]
                value = value.astype(np.float16) if value.ndim > 1 else value
                copied = here.create_dataset(name, data=value, track_times=False)
            else:
                copied = here.require_group(name)
            for key, attribute in entry.attrs.items():
                copied.attrs[key] = attribute

        there.visititems(copy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="model.keras of a training")
    parser.add_argument("variant", help="the model of the papers that it is")
    parser.add_argument("name", help="what it is to be called")
    parser.add_argument(
        "--several", type=int, metavar="SIDE", help="the file finds several people, in an input so large"
    )
    parser.add_argument("--min-score", type=float, default=0.0, help="score below which there is nobody")
    options = parser.parse_args()
    folder = packaged_folder()
    folder.mkdir(exist_ok=True)
    weights = folder / f"{options.name}.weights.h5"
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary) / "whole.weights.h5"
        trained = ke.runtime.load(options.model)
        trained.model.save_weights(whole)
        rounded(whole, weights)
    size = (options.several, options.several) if options.several else trained.input_size
    build, extra = VARIANTS[options.variant].build, {"input_shape": (*size, 3)}
    if options.variant.startswith("efficientpose"):
        extra["num_limbs"] = len(COCO_17.limbs)
    model = build(num_keypoints=COCO_17.num_joints, weights=weights, name=options.name, **extra)
    settings = {"skeleton": COCO_17, "license": "Apache-2.0", "min_score": options.min_score}
    if options.several:
        settings |= {"multi_person": True, "max_people": MOST_PEOPLE}
    exported = ke.export.tflite(model, folder / f"{options.name}.tflite", "float16", "poses", **settings)
    for path in (weights, exported):
        print(f"{path.name}: {path.stat().st_size} bytes, sha256 {sha256(path)}")


if __name__ == "__main__":
    main()

"""`python -m keras_ehrnet.runtime MODEL IMAGE`: people in a photograph, with what a device has."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from keras_ehrnet.support.terminal import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Finds people, writes a picture, prints them.

    Args:
        arguments: sequence of str, or None for the command line's.

    Returns:
        Exit code: 0, or 2 after a mistake, which is told in one line.
    """
    options = _parser().parse_args(arguments)
    return run(lambda: _predict(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m keras_ehrnet.runtime", description="Find people in a photograph.")
    parser.add_argument("model", type=Path, help="a .tflite file of keras-ehrnet export")
    parser.add_argument("image", type=Path, help="an image file")
    parser.add_argument("-o", "--output", type=Path, help="picture with the people to write: .png or .jpg")
    parser.add_argument("--json", action="store_true", help="print every joint, as JSON")
    parser.add_argument("--threads", type=int, help="default: as many as there are cores, at most 4")
    parser.add_argument("--threshold", type=float, default=0.2, help="joints below this score are not drawn")
    return parser


def _predict(options: argparse.Namespace) -> None:
    from keras_ehrnet.prediction import PosePredictor
    from keras_ehrnet.runtime import TFLiteNetwork

    poses = PosePredictor(TFLiteNetwork(options.model, threads=options.threads)).one(options.image)
    if options.output:
        if options.output.exists() and options.output.samefile(options.image):
            raise ValueError(f"The picture would overwrite the image. Received: --output {options.output}")
        poses.save(options.output, threshold=options.threshold)
    print(poses.to_json(indent=2) if options.json else poses)


if __name__ == "__main__":
    sys.exit(main())

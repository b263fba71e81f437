"""People in a photograph, a video or a camera, on a small computer without TensorFlow.

python pose.py model.tflite 0 --output camera.mp4     # camera number 0, until Ctrl+C
python pose.py model.tflite clip.mp4 --json clip.jsonl
python pose.py model.tflite photo.jpg --output photo-people.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from keras_ehrnet import PosePredictor, runtime
from keras_ehrnet.prediction import is_video
from keras_ehrnet.support.files import write_file
from keras_ehrnet.support.terminal import run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a .tflite file of keras-ehrnet export")
    parser.add_argument("source", help="image, video, or number of a camera")
    parser.add_argument("--output", type=Path, help="picture or video to write, with people drawn in it")
    parser.add_argument("--json", type=Path, help="where to write the people: a line of JSON per frame")
    parser.add_argument("--threads", type=int, help="default: as many as there are cores, at most 4")
    parser.add_argument("--frames", type=int, help="stop after so many frames")
    options = parser.parse_args()
    return run(lambda: predict(options))


def predict(options: argparse.Namespace) -> int:
    """A photograph, or a video."""
    predictor = PosePredictor(runtime.load(options.model, threads=options.threads))
    return watch(predictor, options) if is_video(options.source) else look(predictor, options)


def look(predictor: PosePredictor, options: argparse.Namespace) -> int:
    """One photograph."""
    poses = predictor(options.source)
    print(poses)
    if options.output:
        if options.output.exists() and options.output.samefile(options.source):
            raise ValueError(f"The picture would overwrite the image. Received: --output {options.output}")
        poses.save(options.output)
    if options.json:
        write_file(options.json, poses.to_json() + "\n")
    return 0


def watch(predictor: PosePredictor, options: argparse.Namespace) -> int:
    """A video or a camera; people are told as they are found."""
    report = predictor.video(
        options.source,
        output=options.output,
        poses=options.json,
        track=True,
        smooth=True,
        max_frames=options.frames,
        progress=False,
        on_frame=lambda number, frame, poses: print(f"frame {number}: {poses}"),
    )
    print(f"{report.frames} frames, {report.persons} persons, {report.frames_per_second:.1f} frames per second")
    if report.problem:
        print(report.problem, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

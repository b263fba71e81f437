"""`keras-ehrnet label`: annotations for pictures nobody has labelled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from keras_ehrnet.cli.common import (
    ModelOrOwnOption,
    MultiPersonOption,
    RefineOption,
    WeightsOption,
    load_keras_for,
    make_console,
)
from keras_ehrnet.support.terminal import FAILED, complain, progress_bar
from keras_ehrnet.weights import registry


def label(
    folder: Annotated[Path, typer.Argument(help="Folder of pictures, with those inside of it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="COCO keypoint JSON to write.")],
    model: ModelOrOwnOption = None,
    weights: WeightsOption = None,
    refine: RefineOption = None,
    multi_person: MultiPersonOption = False,
    sure: Annotated[float, typer.Option("--sure", help="Score from which on a person is a label.")] = 0.35,
    faint: Annotated[float, typer.Option("--faint", help="People above are masked: there may be somebody.")] = 0.15,
    joint: Annotated[float, typer.Option("--joint", help="Joints below this score are unlabelled.")] = 0.3,
) -> None:
    """Label people for a training, as COCO's keypoint JSON: a model as teacher of your own pictures."""
    from keras_ehrnet import prediction
    from keras_ehrnet.images import list_images
    from keras_ehrnet.prediction.labels import Trust, coco_labels
    from keras_ehrnet.support.files import write_file

    trust = Trust(sure, faint, joint)
    if not folder.is_dir():
        raise ValueError(f"Labels are relative to a folder of pictures. Received: {folder}")
    paths = list_images(folder, recursive=True)
    model, refine = registry.or_own(model, refine)
    load_keras_for(model, weights, refine)
    predictor = prediction.PosePredictor.load(
        model, weights=weights, refine=refine, multi_person=multi_person, min_score=faint
    )
    console = make_console()
    failed: list[prediction.FileResult] = []

    def readable():
        for result in bar.track(predictor.files(paths), total=len(paths), description="pictures"):
            if result.poses is None:
                failed.append(result)
            yield result

    with progress_bar("pictures", console=console) as bar:
        labels = coco_labels(readable(), folder, predictor.network.skeleton, trust)
    write_file(output, json.dumps(labels))
    people = sum(not entry["iscrowd"] for entry in labels["annotations"])
    masked = len(labels["annotations"]) - people
    console.print(
        f"{people} people in {len(labels['images'])} pictures are labelled, {masked} masked: {output}", soft_wrap=True
    )
    for result in failed:
        complain(f"Skipped {result.path}: {result.error}")
    if failed:
        raise typer.Exit(1 if labels["images"] else FAILED)

"""`keras-ehrnet evaluate coco | pck | mpii | lspet`: a model's score on a data set."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras_ehrnet.cli.common import (
    FlipOption,
    ModelOption,
    MultiPersonOption,
    ProtocolName,
    ProtocolOption,
    RefineOption,
    ScalesOption,
    WeightsOption,
    load_keras_for,
    make_console,
    numbers,
    print_rows,
)
from keras_ehrnet.support.terminal import complain

if TYPE_CHECKING:
    from keras_ehrnet.evaluation import CocoScores, PckScores
    from keras_ehrnet.prediction import PosePredictor

OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Folder for results; resumes there.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Only so many images.")]
BoxesOption = Annotated[
    bool | None, typer.Option("--boxes/--no-boxes", help="Give the annotated boxes; default: as the model needs.")
]
CategoryOption = Annotated[
    str | None, typer.Option("--category", help="Name or id of the category, where several have keypoints.")
]

evaluate_app = typer.Typer(help="Score a model on a data set.", no_args_is_help=True)


@evaluate_app.command("coco")
def evaluate_coco(
    images: Annotated[Path, typer.Argument(help="Folder of the images.")],
    annotations: Annotated[Path, typer.Argument(help="COCO keypoint JSON.")],
    model: ModelOption,
    weights: WeightsOption = None,
    refine: RefineOption = None,
    output: OutputOption = None,
    protocol: ProtocolOption = None,
    multi_person: MultiPersonOption = False,
    flip: FlipOption = False,
    scales: ScalesOption = "1",
    boxes: BoxesOption = None,
    category: CategoryOption = None,
    limit: LimitOption = None,
    fps: Annotated[float | None, typer.Option("--fps", help="With --watts: the paper's AP x FPS / watt.")] = None,
    watts: Annotated[float | None, typer.Option("--watts", help="Power drawn while running.")] = None,
) -> None:
    """COCO's average precision and recall."""
    from keras_ehrnet import evaluation

    if (fps is None) != (watts is None):
        raise ValueError("--fps and --watts go together.")
    predictor = _evaluated(model, weights, protocol, flip, scales, refine, multi_person)
    with _told_problems() as problems:
        scores = evaluation.coco(
            predictor, images, annotations, boxes=boxes, category=category, output=output, limit=limit
        )
    print_rows(f"{predictor.network.name} on {scores.images} images, {scores.persons} persons", scores.rows())
    _print_notes(scores)
    if fps is not None and watts is not None:
        figure = evaluation.efficiency(100 * scores.ap, fps, watts)
        make_console().print(f"AP x FPS / watt: {figure:.1f}")
    _fail_after(problems)


class ReferenceName(str, Enum):
    """What distances are measured by."""

    box = "box"
    torso = "torso"


@evaluate_app.command("pck")
def evaluate_pck(
    images: Annotated[Path, typer.Argument(help="Folder of the images.")],
    annotations: Annotated[Path, typer.Argument(help="COCO keypoint JSON, of any keypoints.")],
    model: ModelOption,
    weights: WeightsOption = None,
    refine: RefineOption = None,
    output: OutputOption = None,
    threshold: Annotated[str, typer.Option("--threshold", help="Parts of the reference length.")] = "0.05,0.1,0.2",
    reference: Annotated[
        ReferenceName, typer.Option("--reference", help="The longer side of the box, or the torso.")
    ] = ReferenceName.box,
    multi_person: MultiPersonOption = False,
    flip: FlipOption = False,
    boxes: BoxesOption = None,
    category: CategoryOption = None,
    limit: LimitOption = None,
) -> None:
    """PCK of any keypoints: how many of each joint are near enough."""
    from keras_ehrnet import evaluation

    predictor = _evaluated(model, weights, None, flip, "1", refine, multi_person)
    with _told_problems() as problems:
        scores = evaluation.coco_pck(
            predictor,
            images,
            annotations,
            threshold=numbers(threshold, "--threshold"),
            reference=reference.value,
            boxes=boxes,
            category=category,
            output=output,
            limit=limit,
        )
    print_rows(f"{predictor.network.name}, {scores.persons} persons", scores.rows())
    _print_notes(scores)
    _fail_after(problems)


@evaluate_app.command("mpii")
def evaluate_mpii(
    images: Annotated[Path, typer.Argument(help="Folder of the images.")],
    annotations: Annotated[Path, typer.Argument(help="JSON of persons.")],
    model: ModelOption = "efficientpose-rt",
    weights: WeightsOption = None,
    output: OutputOption = None,
    flip: FlipOption = False,
    limit: LimitOption = None,
    skip_missing: Annotated[bool, typer.Option("--skip-missing", help="Leave out persons without image.")] = False,
) -> None:
    """MPII's PCKh@0.5 and PCKh@0.1 per joint."""
    from keras_ehrnet import evaluation

    predictor = _evaluated(model, weights, None, flip, "1")
    with _told_problems() as problems:
        scores = evaluation.mpii(predictor, images, annotations, output=output, limit=limit, skip_missing=skip_missing)
    print_rows(f"{predictor.network.name}, {scores.persons} persons", scores.rows())
    _print_notes(scores)
    _fail_after(problems)


@evaluate_app.command("lspet")
def evaluate_lspet(
    images: Annotated[Path, typer.Argument(help="Zip archive or folder of the images.")],
    annotations: Annotated[Path, typer.Argument(help="JSON of images.")],
    model: ModelOption = "efficientpose-rt",
    weights: WeightsOption = None,
    output: OutputOption = None,
    flip: FlipOption = False,
    limit: LimitOption = None,
) -> None:
    """PCK of Leeds Sports Pose extended, relative to the torso."""
    from keras_ehrnet import evaluation

    predictor = _evaluated(model, weights, None, flip, "1")
    with _told_problems() as problems:
        scores = evaluation.lspet(predictor, images, annotations, output=output, limit=limit)
    title = f"{predictor.network.name}, {scores.persons} persons ({scores.left_out} without torso left out)"
    print_rows(title, scores.rows())
    _print_notes(scores)
    _fail_after(problems)


def _print_notes(scores: CocoScores | PckScores) -> None:
    console = make_console()
    for note in scores.notes:
        console.print(note, soft_wrap=True, markup=False, highlight=False)


@contextmanager
def _told_problems() -> Iterator[list[str]]:
    """Collects the warnings of an evaluation, to be told after its table."""
    problems: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield problems
    problems += [str(warning.message) for warning in caught if warning.category is UserWarning]


def _fail_after(problems: list[str]) -> None:
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(1)


def _evaluated(
    model: str,
    weights: str | None,
    protocol: ProtocolName | None,
    flip: bool,
    scales: str,
    refine: str | None = None,
    multi_person: bool = False,
) -> PosePredictor:
    from keras_ehrnet.prediction import PosePredictor

    load_keras_for(model, weights, refine)
    return PosePredictor.load(
        model,
        weights=weights,
        refine=refine,
        protocol=protocol.value if protocol else "paper",
        flip=flip,
        scales=numbers(scales, "--scales"),
        multi_person=multi_person,
        # Average precision asks for everyone, however unsure, in order.
        min_score=0.0,
    )

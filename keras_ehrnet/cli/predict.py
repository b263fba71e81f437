"""`keras-ehrnet predict`: people in images, folders and videos."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import numpy as np
import typer

from keras_ehrnet.cli.common import (
    FlipOption,
    ModelOrOwnOption,
    MultiPersonOption,
    ProtocolOption,
    RefineOption,
    ScalesOption,
    WeightsOption,
    load_keras_for,
    make_console,
    make_folder,
    numbers,
    size_of,
)
from keras_ehrnet.support.terminal import FAILED, complain, progress_bar, silenced
from keras_ehrnet.weights import registry

if TYPE_CHECKING:
    from rich.console import Console

    from keras_ehrnet.poses import Poses
    from keras_ehrnet.prediction import PosePredictor


class Engine(str, Enum):
    """What finds people."""

    local = "local"
    ray = "ray"


def predict(
    source: Annotated[
        str,
        typer.Argument(
            help="Image, video, folder or pattern of them, number of a camera, address of a stream, pipeline."
        ),
    ],
    model: ModelOrOwnOption = None,
    weights: WeightsOption = None,
    refine: RefineOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("results"),
    protocol: ProtocolOption = None,
    flip: FlipOption = False,
    scales: ScalesOption = "1",
    multi_person: MultiPersonOption = False,
    smooth: Annotated[bool, typer.Option("--smooth", help="Less jitter: blurred maps, filtered video.")] = False,
    track: Annotated[bool, typer.Option("--track", help="Video: give people identities.")] = False,
    threshold: Annotated[float, typer.Option("--threshold", help="Do not draw joints below this score.")] = 0.2,
    boxes: Annotated[bool, typer.Option("--boxes", help="Draw a box around each person, with the score.")] = False,
    names: Annotated[bool, typer.Option("--names", help="Write the joints' names beside them.")] = False,
    line_width: Annotated[
        int | None, typer.Option("--line-width", min=1, help="Of limbs, in pixels; default: as people's size suggests.")
    ] = None,
    show_heatmaps: Annotated[
        bool, typer.Option("--show-heatmaps", help="A second picture: where the network sees joints.")
    ] = False,
    min_score: Annotated[
        float | None, typer.Option("--min-score", help="Leave out people below this score; default: as measured.")
    ] = None,
    max_people: Annotated[int, typer.Option("--max-people", min=1, help="At most so many people per image.")] = 30,
    max_frames: Annotated[
        int | None, typer.Option("--max-frames", min=1, help="Video: stop after so many frames.")
    ] = None,
    patience: Annotated[
        float, typer.Option("--patience", min=0, help="Stream that broke: seconds to try it again.")
    ] = 60.0,
    input_size: Annotated[str | None, typer.Option("--input-size", help="height,width for models of any size.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Write a CSV table beside the JSON.")] = False,
    engine: Annotated[
        Engine, typer.Option("--engine", help="What does the work; ray: many images by many workers, into Parquet.")
    ] = Engine.local,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Ray: how many work at a time.")] = 2,
) -> None:
    """Find people: writes pictures and JSON, prints a table."""
    from keras_ehrnet import prediction
    from keras_ehrnet.poses import draw

    spread = engine is Engine.ray
    paths, videos = ([], []) if spread else _listed(source)
    if spread and (csv or prediction.is_video(source)):
        raise ValueError("--engine ray takes images and writes Parquet: leave out --csv, and name no video.")
    if videos and csv:
        raise ValueError("--csv is for images; a video's points are written as a line of JSON per frame.")
    if show_heatmaps and (videos or spread):
        raise ValueError("--show-heatmaps is for images.")
    size = size_of(input_size)
    for mark in ("", _HEATMAPS) if show_heatmaps else ("",):
        _refuse_overwriting(paths, output, mark)
    make_folder(output)
    model, refine = registry.or_own(model, refine)
    load_keras_for(model, weights, refine, size)
    network, second = prediction.load_networks(model, refine, weights=weights, input_size=size)
    # Any family's video can be filtered over time; only EfficientPose's maps are blurred as well.
    blurs = network.family == "efficientpose" and network.decode == "none"
    predictor = prediction.PosePredictor(
        network,
        refine=second,
        protocol=protocol.value if protocol else "fast" if videos else "paper",
        flip=flip,
        scales=numbers(scales, "--scales"),
        multi_person=multi_person,
        smooth=smooth and (blurs or not videos),
        max_people=max_people,
        min_score=min_score,
    )
    if show_heatmaps and network.decode != "none":
        with silenced():  # Says what to do before any image is looked at, and gets Keras where it takes it.
            predictor.heatmap(np.zeros((1, 1, 3), np.uint8))
    style = draw.Style(boxes=boxes, names=names, line_width=line_width)
    if spread:
        _predict_with_ray(predictor, source, output, workers)
    elif videos:
        options = {"smooth": smooth, "track": track, "threshold": threshold, "style": style, "max_frames": max_frames}
        _predict_videos(predictor, videos, output, {**options, "patience": patience})
    else:
        drawing = {"threshold": threshold, "style": style}
        _predict_images(predictor, paths, output, drawing, csv, show_heatmaps)


def _predict_with_ray(predictor: PosePredictor, source: str, output: Path, workers: int) -> None:
    from keras_ehrnet.prediction.ray_engine import predict_with_ray

    report = predict_with_ray(predictor, source, output, workers=workers)
    earlier = f"; {report.earlier} were done before" if report.earlier else ""
    make_console().print(
        f"{report.images} images, {report.persons} persons{earlier}. Parquet: {output}", soft_wrap=True
    )
    if report.failed:
        complain(f"{report.failed} images could not be read: their rows have an error.")
        raise typer.Exit(FAILED if report.failed == report.images else 1)


def _listed(source: str) -> tuple[list[Path], list[str]]:
    """Images, or else videos."""
    from keras_ehrnet.images import list_images
    from keras_ehrnet.prediction import is_video, list_videos

    if is_video(source):
        return [], [source]
    videos = list_videos(source)
    try:
        paths = [path for path in list_images(source) if path not in videos]
    except FileNotFoundError:
        paths = []
        if not videos:
            raise
    if paths and videos:
        complain(f"Only the images are looked at; name videos by a pattern of their own. Received: {videos[0]}")
    return paths, [] if paths else [str(video) for video in videos]


def _predict_images(
    predictor: PosePredictor,
    paths: Sequence[Path],
    output: Path,
    drawing: dict[str, Any],
    with_csv: bool,
    with_heatmaps: bool,
) -> None:
    from keras_ehrnet.images import write_image
    from keras_ehrnet.poses import draw
    from keras_ehrnet.support.files import write_file

    console = make_console()
    names, pictures, heatmaps = _output_names(paths), _picture_names(paths), _picture_names(paths, _HEATMAPS)
    failed = []
    last = None
    with progress_bar("images", shown=len(paths) > 1, console=console) as bar:
        results = bar.track(predictor.files(paths), total=len(paths), description="images")
        for result, name, picture, heat in zip(results, names, pictures, heatmaps, strict=True):
            if result.poses is None:
                failed.append(result)
                continue
            last = result.poses
            write_file(output / f"{name}.json", result.poses.to_json(indent=2) + "\n")
            if with_csv:
                write_file(output / f"{name}.csv", result.poses.to_csv())
            result.poses.save(output / picture, **drawing)
            if with_heatmaps and result.poses.image is not None:
                image = result.poses.image
                write_image(output / heat, draw.heat(image, predictor.heatmap(image)))
    done = len(paths) - len(failed)
    if len(paths) == 1 and last is not None:
        _print_poses(console, last)
        console.print(f"Picture: {output / pictures[0]}", soft_wrap=True)
        if with_heatmaps:
            console.print(f"Heat:    {output / heatmaps[0]}", soft_wrap=True)
        console.print(f"Points:  {output / f'{names[0]}.json'}", soft_wrap=True)
    else:
        console.print(f"{done} of {len(paths)} images: pictures and JSON are in {output}", soft_wrap=True)
    for result in failed:
        complain(f"Skipped {result.path}: {result.error}")
    if failed:
        raise typer.Exit(1 if done else FAILED)


def _output_names(paths: Sequence[Path]) -> list[str]:
    """One name per image: its own without suffix, numbered where that is another's already."""
    names: dict[str, Path] = {}
    own = {path.stem for path in paths}
    for path in paths:
        numbered = (f"{path.stem}-{number}" for number in itertools.count(2))
        names[path.stem if path.stem not in names else next(n for n in numbered if n not in names and n not in own)] = (
            path
        )
    return list(names)


_HEATMAPS = "-heatmaps"


def _picture_names(paths: Sequence[Path], mark: str = "") -> list[str]:
    """Files of the pictures: a photograph stays a JPEG, of which a PNG would be several times as large."""
    kinds = (".jpg" if path.suffix.lower() in {".jpg", ".jpeg"} else ".png" for path in paths)
    return [name + mark + kind for name, kind in zip(_output_names(paths), kinds, strict=True)]


def _refuse_overwriting(paths: Sequence[Path], output: Path, mark: str) -> None:
    """No result may take the place of an image it is made from."""
    for name in _picture_names(paths, mark):
        target = output / name
        if target.exists() and any(target.samefile(path) for path in paths):
            raise ValueError(f"The picture would overwrite {target}: choose another folder with --output.")


def _predict_videos(predictor: PosePredictor, sources: Sequence[str], output: Path, options: dict[str, Any]) -> None:
    from keras_ehrnet.prediction import VideoError

    problems = failed = 0
    for source, name in zip(sources, _output_names([_named(source) for source in sources]), strict=True):
        try:
            problems += not _predict_video(predictor, source, output / f"{name}.mp4", options)
        except VideoError as error:
            if len(sources) == 1:
                raise
            complain(f"Skipped {source}: {error}")
            failed += 1
    if problems or failed:
        raise typer.Exit(FAILED if failed == len(sources) else 1)


def _named(source: str) -> Path:
    """What the results of a video, a camera or a stream are called."""
    from keras_ehrnet.prediction import is_address, is_camera, is_pipeline

    if is_camera(source):
        return Path(f"camera-{source}")
    if is_pipeline(source):
        return Path("pipeline")
    # Of an address its host, and nothing of what follows, which may hold a password.
    host = str(urlsplit(source).hostname).replace(".", "-").replace(":", "-")
    return Path(f"stream-{host}") if is_address(source) else Path(source)


def _predict_video(predictor: PosePredictor, source: str, picture: Path, options: dict[str, Any]) -> bool:
    """Writes the results of one video; gives whether it was whole."""
    lines = picture.with_suffix(".jsonl")
    report = predictor.video(source, output=picture, poses=lines, **options)
    console = make_console()
    console.print(
        f"{report.frames} frames, {report.persons} persons, {report.frames_per_second:.1f} frames per second "
        f"(video: {report.frame_rate:.4g})"
    )
    console.print(f"Video:  {picture}", soft_wrap=True)
    console.print(f"Points: {lines} (a line of JSON per frame)", soft_wrap=True)
    if report.problem:
        complain(report.problem)
    return report.problem is None


def _print_poses(console: Console, poses: Poses) -> None:
    from rich.table import Table

    if not len(poses):
        console.print("Nobody was found. People below the score that --min-score names are left out.")
        return
    shown = 4
    people = f"{len(poses)} person" + ("" if len(poses) == 1 else "s")
    table = Table(title=people + (f", the best {shown} shown" if len(poses) > shown else ""))
    table.add_column("joint")
    for index in range(min(len(poses), shown)):
        table.add_column(f"person {index + 1} ({poses.scores[index]:.2f})", justify="right")
    for joint, name in enumerate(poses.skeleton.joint_names):
        points = poses.keypoints[:shown, joint]
        table.add_row(name, *(f"{x:.1f}, {y:.1f} ({score:.2f})" if score > 0 else "-" for x, y, score in points))
    console.print(table)

"""The command line: `keras-ehrnet predict | evaluate | summary | convert`."""

from __future__ import annotations

import itertools
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from keras_ehrnet.poses import Poses
    from keras_ehrnet.predictor import PosePredictor

# TensorFlow's start-up messages are not for the people who read this program's output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

app = typer.Typer(
    name="keras-ehrnet",
    help="Human pose estimation: predict, evaluate, convert.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
evaluate_app = typer.Typer(help="Score a model on a data set.", no_args_is_help=True)
app.add_typer(evaluate_app, name="evaluate")

ModelOption = Annotated[str, typer.Option("--model", "-m", help="Model by name, or a .keras file.")]
WeightsOption = Annotated[
    str | None, typer.Option("--weights", "-w", help="Registered name or file; default: the published weights.")
]
FlipOption = Annotated[bool, typer.Option("--flip", help="Average with the mirrored image.")]
ScalesOption = Annotated[str, typer.Option("--scales", help="Image scales to average over, such as 0.5,1,2.")]


class ProtocolName(str, Enum):
    """How EfficientHRNet's maps become people."""

    paper = "paper"
    fast = "fast"


ProtocolOption = Annotated[
    ProtocolName | None,
    typer.Option("--protocol", help="EfficientHRNet: as the papers evaluate, or fast. Default: fast for videos."),
]


@app.command()
def predict(
    source: Annotated[str, typer.Argument(help="Image, folder, pattern, video file, or number of a camera.")],
    model: ModelOption = "efficientpose-rt",
    weights: WeightsOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("results"),
    protocol: ProtocolOption = None,
    flip: FlipOption = False,
    scales: ScalesOption = "1",
    several: Annotated[bool, typer.Option("--several", help="EfficientPose: find several people.")] = False,
    smooth: Annotated[bool, typer.Option("--smooth", help="Less jitter: blurred maps, filtered video.")] = False,
    track: Annotated[bool, typer.Option("--track", help="Video: give people identities.")] = False,
    threshold: Annotated[float, typer.Option("--threshold", help="Do not draw joints below this score.")] = 0.2,
    min_score: Annotated[float, typer.Option("--min-score", help="Leave out people below this score.")] = 0.0,
    max_people: Annotated[int, typer.Option("--max-people", min=1, help="At most so many people per image.")] = 30,
    max_frames: Annotated[
        int | None, typer.Option("--max-frames", min=1, help="Video: stop after so many frames.")
    ] = None,
    input_size: Annotated[str | None, typer.Option("--input-size", help="height,width for models of any size.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Write a CSV table beside the JSON.")] = False,
) -> None:
    """Find people: writes pictures and JSON, prints a table."""
    from keras_ehrnet import networks
    from keras_ehrnet import predictor as predictors
    from keras_ehrnet.data.images import list_images

    is_video = predictors.is_video(source)
    if is_video and csv:
        raise ValueError("--csv is for images; a video's points are written as a line of JSON per frame.")
    paths = [] if is_video else list_images(source)
    size = tuple(int(side) for side in _numbers(input_size, "--input-size")) if input_size else None
    _refuse_overwriting(paths, output)
    _make_folder(output)
    _load_keras()
    network = networks.load(model, weights=weights, input_size=size)
    predictor = predictors.PosePredictor(
        network,
        protocol=protocol.value if protocol else "fast" if is_video else "paper",
        flip=flip,
        scales=_numbers(scales, "--scales"),
        several=several,
        # Any family's video can be filtered over time; only EfficientPose's maps are blurred as well.
        smooth=smooth and (network.family == "efficientpose" or not is_video),
        max_people=max_people,
        min_score=min_score,
    )
    if is_video:
        options = {"smooth": smooth, "track": track, "threshold": threshold, "max_frames": max_frames}
        _predict_video(predictor, source, output, options)
    else:
        _predict_images(predictor, paths, output, threshold, csv)


def _predict_images(
    predictor: PosePredictor, paths: Sequence[Path], output: Path, threshold: float, with_csv: bool
) -> None:
    from rich.progress import track as tracked

    from keras_ehrnet.files import write_file

    console = _console()
    names = _output_names(paths)
    failed = []
    results = tracked(predictor.files(paths), "images", len(paths), console=console, disable=len(paths) == 1)
    last = None
    for result, name in zip(results, names, strict=True):
        if result.poses is None:
            failed.append(result)
            continue
        last = result.poses
        write_file(output / f"{name}.json", result.poses.to_json(indent=2) + "\n")
        if with_csv:
            write_file(output / f"{name}.csv", result.poses.to_csv())
        result.poses.save(output / f"{name}.png", threshold=threshold)
    done = len(paths) - len(failed)
    if len(paths) == 1 and last is not None:
        _print_poses(console, last)
        console.print(f"Picture: {output / f'{names[0]}.png'}", soft_wrap=True)
        console.print(f"Points:  {output / f'{names[0]}.json'}", soft_wrap=True)
    else:
        console.print(f"{done} of {len(paths)} images: pictures and JSON are in {output}", soft_wrap=True)
    for result in failed:
        _complain(f"Skipped {result.path}: {result.error}")
    if failed:
        raise typer.Exit(2 if not done else 1)


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


def _refuse_overwriting(paths: Sequence[Path], output: Path) -> None:
    """No result may take the place of an image it is made from."""
    for name in _output_names(paths):
        target = output / f"{name}.png"
        if target.exists() and any(target.samefile(path) for path in paths):
            raise ValueError(f"The picture would overwrite {target}: choose another folder with --output.")


def _predict_video(predictor: PosePredictor, source: str, output: Path, options: dict[str, Any]) -> None:
    name = f"camera-{source}" if source.isdigit() else Path(source).stem
    picture, lines = output / f"{name}.mp4", output / f"{name}.jsonl"
    report = predictor.video(source, output=picture, poses=lines, **options)
    console = _console()
    console.print(
        f"{report.frames} frames, {report.persons} persons, {report.frames_per_second:.1f} frames per second "
        f"(video: {report.frame_rate:.4g})"
    )
    console.print(f"Video:  {picture}", soft_wrap=True)
    console.print(f"Points: {lines} (a line of JSON per frame)", soft_wrap=True)
    if report.problem:
        _complain(report.problem)
        raise typer.Exit(1)


def _print_poses(console: Console, poses: Poses) -> None:
    from rich.table import Table

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


@evaluate_app.command("coco")
def evaluate_coco(
    images: Annotated[Path, typer.Argument(help="Folder of the images.")],
    annotations: Annotated[Path, typer.Argument(help="COCO keypoint JSON.")],
    model: ModelOption,
    weights: WeightsOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for results; resumes there.")] = None,
    protocol: ProtocolOption = None,
    flip: FlipOption = False,
    scales: ScalesOption = "1",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only so many images.")] = None,
    fps: Annotated[float | None, typer.Option("--fps", help="With --watts: the paper's AP x FPS / watt.")] = None,
    watts: Annotated[float | None, typer.Option("--watts", help="Power drawn while running.")] = None,
) -> None:
    """COCO's average precision and recall."""
    from keras_ehrnet import evaluation

    if (fps is None) != (watts is None):
        raise ValueError("--fps and --watts go together.")
    predictor = _evaluated(model, weights, protocol, flip, scales)
    with _told_problems() as problems:
        scores = evaluation.coco(predictor, images, annotations, output=output, limit=limit)
    _print_rows(f"{predictor.network.name} on {scores.images} images, {scores.persons} persons", scores.rows())
    if fps is not None and watts is not None:
        figure = evaluation.efficiency(100 * scores.ap, fps, watts)
        _console().print(f"AP x FPS / watt: {figure:.1f}")
    _fail_after(problems)


@evaluate_app.command("mpii")
def evaluate_mpii(
    images: Annotated[Path, typer.Argument(help="Folder of the images.")],
    annotations: Annotated[Path, typer.Argument(help="JSON of persons.")],
    model: ModelOption = "efficientpose-rt",
    weights: WeightsOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for results; resumes there.")] = None,
    flip: FlipOption = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only so many images.")] = None,
    skip_missing: Annotated[bool, typer.Option("--skip-missing", help="Leave out persons without image.")] = False,
) -> None:
    """MPII's PCKh@0.5 and PCKh@0.1 per joint."""
    from keras_ehrnet import evaluation

    predictor = _evaluated(model, weights, None, flip, "1")
    with _told_problems() as problems:
        scores = evaluation.mpii(predictor, images, annotations, output=output, limit=limit, skip_missing=skip_missing)
    _print_rows(f"{predictor.network.name}, {scores.persons} persons", scores.rows())
    _fail_after(problems)


@evaluate_app.command("lspet")
def evaluate_lspet(
    annotations: Annotated[Path, typer.Argument(help="JSON of images.")],
    images: Annotated[Path | None, typer.Option(help="Archive or folder; default: the archive beside.")] = None,
    model: ModelOption = "efficientpose-rt",
    weights: WeightsOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for results; resumes there.")] = None,
    flip: FlipOption = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only so many images.")] = None,
) -> None:
    """PCK of Leeds Sports Pose extended, relative to the torso."""
    from keras_ehrnet import evaluation

    predictor = _evaluated(model, weights, None, flip, "1")
    with _told_problems() as problems:
        scores = evaluation.lspet(predictor, annotations, images=images, output=output, limit=limit)
    title = f"{predictor.network.name}, {scores.persons} persons ({scores.left_out} without torso left out)"
    _print_rows(title, scores.rows())
    _fail_after(problems)


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
        _complain(problem)
    if problems:
        raise typer.Exit(1)


def _evaluated(
    model: str, weights: str | None, protocol: ProtocolName | None, flip: bool, scales: str
) -> PosePredictor:
    from keras_ehrnet.predictor import PosePredictor

    _load_keras()
    name = protocol.value if protocol else "paper"
    return PosePredictor.load(model, weights=weights, protocol=name, flip=flip, scales=_numbers(scales, "--scales"))


@app.command()
def summary(
    models: Annotated[list[str] | None, typer.Argument(help="Models by name; default: all of the papers.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Parameters and multiply-adds of every model, beside the papers' figures."""
    from rich.table import Table

    _load_keras()
    from keras_ehrnet.models.families import FAMILIES
    from keras_ehrnet.models.profile import profile
    from keras_ehrnet.models.variants import VARIANTS, variant

    chosen = {name: variant(name) for name in models} if models else VARIANTS
    profiles = {name: profile(entry.build()) for name, entry in chosen.items()}
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps({name: asdict(counts) for name, counts in profiles.items()}, indent=2))
        return
    table = Table(title="Models of the papers")
    for column in ("model", "input", "parameters", "MACs", "as the paper counts", "paper says", "paper's accuracy"):
        table.add_column(column, justify="left" if column in ("model", "paper's accuracy") else "right", no_wrap=True)
    for name, counts in profiles.items():
        entry = chosen[name]
        height, width, _ = counts.input_shape
        table.add_row(
            name,
            f"{height}x{width}",
            f"{counts.parameters:,}",
            f"{counts.macs / 1e9:.2f}G",
            _figures(counts.paper_parameters / 1e6, counts.paper_flops / 1e9 if entry.flops else None),
            _figures(entry.parameters, entry.flops),
            entry.score,
        )
    console = _console(min_width=128)
    console.print(table)
    for family in dict.fromkeys(entry.family for entry in chosen.values()):
        console.print(f"{FAMILIES[family].title} ({FAMILIES[family].paper}): {FAMILIES[family].counts}")


def _figures(parameters: float | None, flops: float | None) -> str:
    return " ".join(f"{value:.2f}{unit}" for value, unit in ((parameters, "M"), (flops, "B")) if value is not None)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="Published weights: a file, or a registered name.")],
    output: Annotated[Path, typer.Argument(help="File to write: .weights.h5 or .keras.")],
    model: ModelOption,
    num_keypoints: Annotated[
        int | None, typer.Option(min=1, help="Keypoints of the model; default: as published.")
    ] = None,
) -> None:
    """Turn published weights into a file of this package."""
    from keras_ehrnet import weights as weights_module
    from keras_ehrnet.models.variants import variant

    _load_keras()
    options = {"num_keypoints": num_keypoints} if num_keypoints is not None else {}
    if options and variant(model).family == "efficientnet":
        raise ValueError(f"A classifier has no keypoints. Received: --num-keypoints {num_keypoints} for {model!r}")
    path = weights_module.convert(variant(model).build(**options), source, output)
    _console().print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)", soft_wrap=True)


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Keeps TensorFlow's start-up messages, which no setting silences, out of the terminal."""
    saved = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise ValueError(f"{option} takes numbers separated by commas, such as 0.5,1,2. Received: {text!r}") from None


def _load_keras() -> None:
    with _quiet_start():
        import keras

        # The first computation looks for accelerators, and says so.
        keras.ops.zeros(1)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"Results cannot be written there ({error.strerror}). Received: {path}") from error


def _print_rows(title: str, rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table

    table = Table(*rows[0], title=title)
    for row in rows[1:]:
        table.add_row(*row)
    _console().print(table)


def _console(min_width: int = 80) -> Console:
    from rich.console import Console

    console = Console()
    # Files and pipes have no width: give a wide table the room it needs.
    return console if console.is_terminal or console.width >= min_width else Console(width=min_width)


def _complain(message: str) -> None:
    print(message, file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command; mistakes of its user end in one sentence and exit code 2."""
    try:
        app(arguments)
    except (ValueError, OSError) as error:
        _complain(f"Error: {error}")
        sys.exit(2)


if __name__ == "__main__":
    main()

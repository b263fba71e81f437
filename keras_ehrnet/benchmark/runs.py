"""Exported models compared on this machine: speed, memory, size, and what each costs in accuracy."""

from __future__ import annotations

import csv
import io
import platform
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_ehrnet import metadata
from keras_ehrnet.benchmark.measure import Measurement, measure_apart
from keras_ehrnet.data._checks import load_json
from keras_ehrnet.export.formats import FORMATS
from keras_ehrnet.runtime.loading import load_keras
from keras_ehrnet.support.files import write_file
from keras_ehrnet.weights.formats import WeightsSource

if TYPE_CHECKING:
    import matplotlib.figure

    from keras_ehrnet.prediction import PosePredictor
    from keras_ehrnet.runtime.keras import KerasNetwork

MEASURED_FORMATS = tuple(name for name, entry in FORMATS.items() if entry.suffix)
"""Formats that are files which a runtime here can load."""

ROUNDS = 3
"""How often each file is timed, in turn with the others."""

_FORMAT_OF_SUFFIX = {FORMATS[name].suffix: name for name in MEASURED_FORMATS}


@dataclass(frozen=True)
class Case:
    """One file to make and to measure: a model in a format, at a precision, with or without decoder inside."""

    model: str
    format: str
    precision: str
    decode: str

    @property
    def file_name(self) -> str:
        """Name of the file to make."""
        return f"{Path(self.model).stem}-{self.precision}-{self.decode}{FORMATS[self.format].suffix}"


@dataclass(frozen=True)
class Result:
    """What was measured of a case: a row of the table, and of the CSV file.

    Args:
        model, format, precision, decode: str. Of the `Case`.
        median_ms: float. Median time of the file itself for one image, in milliseconds.
        p95_ms: float. 95th percentile of it.
        people_ms: float. Median time from an image to people.
        images_per_second: float. 1000 / `median_ms`.
        first_result_ms: float. From the start of loading to the first outputs, in a new process.
        memory_mb: float. Most memory of a process that does nothing else, in 10^6 bytes.
        size_mb: float. Of the file, in 10^6 bytes.
        drift: float or None. How far joints move from the Keras model's, in the median, as a share of the input's side.
        lost: float or None. Share of the Keras model's joints that are lost or elsewhere.
        score: float or None. AP on COCO's data, PCK@0.2 on LSP-extended's; None without data.
        operations: int. Number of operations; 0 where the runtime does not tell.
        delegated: float or None. Share of the operations that a delegate runs.
    """

    model: str
    format: str
    precision: str
    decode: str
    median_ms: float
    p95_ms: float
    people_ms: float
    images_per_second: float
    first_result_ms: float
    memory_mb: float
    size_mb: float
    drift: float | None
    lost: float | None
    score: float | None
    operations: int
    delegated: float | None


def cases(
    models: Sequence[str], formats: Sequence[str], precisions: Sequence[str], decodes: Sequence[str]
) -> list[Case]:
    """All combinations that there are.

    Args:
        models: names of models, or paths of `.keras` files.
        formats: keys of `MEASURED_FORMATS`.
        precisions: of any of the formats.
        decodes: of any of the formats.

    Returns:
        List of `Case`; combinations that a format does not offer are left out.

    Raises:
        ValueError: if none is left, or a name is unknown.

    Example:
        >>> from keras_ehrnet.benchmark.runs import cases
        >>> [case.file_name for case in cases(["h-4"], ["tflite", "onnx"], ["float32", "int8"], ["none"])]
        ['h-4-float32-none.tflite', 'h-4-int8-none.tflite', 'h-4-float32-none.onnx']
    """
    choices = {
        "format": (formats, MEASURED_FORMATS),
        "precision": (precisions, {name for format in MEASURED_FORMATS for name in FORMATS[format].precisions}),
        "decode": (decodes, {name for format in MEASURED_FORMATS for name in FORMATS[format].decodes}),
    }
    for what, (asked, valid) in choices.items():
        unknown = [name for name in asked if name not in valid]
        if unknown:
            raise ValueError(
                f"There is no such {what} to measure. Valid: {', '.join(sorted(valid))}. Received: {unknown[0]!r}"
            )
    chosen = [
        Case(*case)
        for case in product(models, formats, precisions, decodes)
        if case[2] in FORMATS[case[1]].precisions and case[3] in FORMATS[case[1]].decodes
    ]
    if not chosen:
        raise ValueError("None of these formats offers these precisions and decoders: there is nothing to measure.")
    return chosen


@dataclass(frozen=True)
class Data:
    """Annotated images to score models on.

    Args:
        annotations: Path of COCO's keypoint JSON, or of LSP-extended's.
        images: Path of the folder or archive of the images, or None for the archive beside LSP-extended's annotations.
        limit: int or None. Only so many of them.
    """

    annotations: Path
    images: Path | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.images is None and self.is_coco:
            raise ValueError(f"COCO's annotations need the folder of their images. Received: {self.annotations} alone")

    def score(self, predictor: PosePredictor) -> float:
        """AP, or PCK@0.2, in [0, 1]."""
        from keras_ehrnet import evaluation

        if self.images is not None and self.is_coco:
            return evaluation.coco(predictor, self.images, self.annotations, limit=self.limit, progress=False).ap
        scores = evaluation.lspet(predictor, self.images, self.annotations, limit=self.limit, progress=False)
        return float(scores.mean[list(scores.thresholds).index(0.2)])

    @cached_property
    def is_coco(self) -> bool:
        return "categories" in load_json(self.annotations, dict)

    @property
    def figure(self) -> str:
        """What the score is called."""
        return "AP" if self.is_coco else "PCK@0.2"


@dataclass(frozen=True)
class Exported:
    """A file that was made, and what it costs in accuracy; arguments as of `Result`."""

    case: Case
    path: Path
    drift: float | None
    lost: float | None
    score: float | None


def export_all(
    chosen: Sequence[Case],
    folder: Path,
    *,
    weights: WeightsSource | None = None,
    images: Any = None,
    data: Data | None = None,
) -> Iterator[Exported]:
    """Makes the files of the cases and compares them with the Keras models, one after the other.

    Args:
        chosen: sequence of `Case`.
        folder: Path of the folder that receives the files.
        weights: what `keras_ehrnet.weights.load` takes, or None for the published ones.
        images: folder, pattern or arrays: to calibrate integers with and to compare joints on; None: synthetic people.
        data: `Data`, or None for no scores.

    Yields:
        `Exported` of each case.

    Raises:
        ValueError: if a model cannot be exported.
        OSError: if files cannot be written.
    """
    from keras_ehrnet import export
    from keras_ehrnet.export.litert.calibration import Calibration, StaticNetwork, measure_drift
    from keras_ehrnet.prediction import PosePredictor

    pictures = synthetic_people() if images is None else images
    keras_networks: dict[str, KerasNetwork] = {}
    for case in chosen:
        if case.model not in keras_networks:
            keras_networks = {case.model: load_keras(case.model, weights)}
        network = keras_networks[case.model]
        options: dict[str, Any] = {"precision": case.precision, "decode": case.decode}
        if case.precision in FORMATS[case.format].calibrated:
            options["calibration"] = pictures
        with warnings.catch_warnings():
            # What a precision costs is a column of the table.
            warnings.simplefilter("ignore", UserWarning)
            path = export.write(network.model, folder / case.file_name, case.format, **options)
        predictor = PosePredictor.load(path, protocol="fast")
        # At its own size, as exported files take it: so that joints can be compared one by one.
        drift = measure_drift(
            StaticNetwork(network, network.model), predictor.network, Calibration.of(pictures, network, 100)
        )
        score = data.score(predictor) if data else None
        yield Exported(case, path, drift and drift.median, drift and drift.lost, score)


def of_files(paths: Sequence[str], data: Data | None = None) -> Iterator[Exported]:
    """Files that are there already, which needs no Keras.

    Args:
        paths: sequence of str. Paths of `.tflite` and `.onnx` files.
        data: `Data`, or None for no scores.

    Yields:
        `Exported` of each file; there is no Keras model to compare it with.

    Raises:
        FileNotFoundError: if there is no such file.
        MetadataError: if a file is damaged.
        ValueError: if it cannot be run.
    """
    from keras_ehrnet.prediction import PosePredictor

    for path in map(Path, paths):
        predictor = PosePredictor.load(path, protocol="fast")
        told = metadata.read(path)
        precision, decode = (told.precision, told.decode) if told else ("-", "-")
        case = Case(str(path), _FORMAT_OF_SUFFIX[path.suffix.lower()], precision, decode)
        yield Exported(case, path, None, None, data.score(predictor) if data else None)


def measure_all(
    exported: Sequence[Exported],
    image: np.ndarray,
    *,
    repeats: int = 50,
    threads: int | None = None,
    on_file: Callable[[], None] = lambda: None,
) -> list[tuple[Result, Measurement]]:
    """Times files in turn, `ROUNDS` times over: a machine that gets slower does so for all of them.

    Args:
        exported: sequence of `Exported`.
        image: uint8 array of shape `(H, W, 3)`, RGB.
        repeats: int. Runs to time of each file, in each round.
        threads: int, or None for the runtime's choice.
        on_file: callable. Called whenever a file has been timed once.

    Returns:
        List of `Result` and `Measurement` of each file: of the round whose median is the median one.

    Raises:
        ValueError: if a file cannot be run.
    """
    measured: list[list[Measurement]] = [[] for _ in exported]
    for _ in range(ROUNDS):
        for entry, own in zip(exported, measured, strict=True):
            own.append(measure_apart(entry.path, image, repeats=repeats, threads=threads))
            on_file()
    middle = [sorted(own, key=lambda measurement: measurement.median_ms)[ROUNDS // 2] for own in measured]
    return [(_result(entry, own), own) for entry, own in zip(exported, middle, strict=True)]


def synthetic_people() -> list[np.ndarray]:
    """Pictures for those who bring none."""
    from keras_ehrnet.data.synthetic import Scenes

    scenes = Scenes(image_size=(640, 480), people=(1, 3), seed=7)
    return [scenes.render(index)[0] for index in range(16)]


def _result(entry: Exported, measured: Measurement) -> Result:
    return Result(
        **asdict(entry.case),
        median_ms=measured.median_ms,
        p95_ms=measured.p95_ms,
        people_ms=measured.people_ms,
        images_per_second=1e3 / measured.median_ms,
        first_result_ms=measured.first_result_ms,
        memory_mb=measured.memory_mb,
        size_mb=entry.path.stat().st_size / 1e6,
        drift=entry.drift,
        lost=entry.lost,
        score=entry.score,
        operations=sum(measured.operations.values()),
        delegated=measured.delegated,
    )


def device() -> str:
    """Name of this machine's processor, fit for a file name.

    Example:
        >>> from keras_ehrnet.benchmark.runs import device
        >>> " " in device()
        False
    """
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2] for line in lines if line.startswith(("model name", "Model"))), name)
    except OSError:
        pass
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unknown"


def write_csv(results: Sequence[Result], path: Path) -> None:
    """Writes a row for each result, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Result)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(result) for result in results)
    write_file(path, text.getvalue())


def plot(results: Sequence[Result], figure: str = "") -> matplotlib.figure.Figure:
    """Time against accuracy: the score where there is one, else how near joints are to the Keras model's.

    Args:
        results: sequence of `Result`.
        figure: str. What the score is called.

    Returns:
        `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    scored = any(result.score is not None for result in results)
    chart = Figure(figsize=(9, 5.5), layout="constrained")
    axes = chart.add_subplot()
    for model in dict.fromkeys(result.model for result in results):
        own = [result for result in results if result.model == model]
        heights = [_height(result, scored) for result in own]
        axes.scatter([result.people_ms for result in own], heights, label=Path(model).stem)
        for result, height in zip(own, heights, strict=True):
            label = " ".join(part for part in (result.precision, result.format, result.decode) if part != "none")
            axes.annotate(
                label, (result.people_ms, height), xytext=(0, 8), textcoords="offset points", fontsize=7, rotation=30
            )
    axes.margins(x=0.1, y=0.2)  # for the labels
    axes.set_xscale("log")
    for set_formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        set_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("time from image to people, ms")
    axes.set_ylabel(figure or "score" if scored else "joints at the Keras model's place, %")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return chart


def _height(result: Result, scored: bool) -> float:
    value = result.score if scored else None if result.lost is None else 1 - result.lost
    return float("nan") if value is None else 100 * value

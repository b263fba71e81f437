"""What TensorFlow Lite files of the networks cost and lose, beside what this machine's arithmetic can do.

python deploy/benchmark_tflite.py latency h-4 h-2 h0
python deploy/benchmark_tflite.py latency efficientpose-rt --precisions float16 --beside EfficientPoseRT.tflite
python deploy/benchmark_tflite.py accuracy efficientpose-rt --data lspet/val.json --calibration lspet/train.json
python deploy/benchmark_tflite.py parity efficientpose-rt photos/*.jpg

Files are kept in --folder, and not made again where they are there already.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from rich.console import Console
from rich.table import Table

import keras_ehrnet as ke
from keras_ehrnet import PosePredictor, decode, evaluation, skeletons
from keras_ehrnet.data import read_lspet
from keras_ehrnet.export.litert import quantize, rules
from keras_ehrnet.models.variants import variant
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.files import write_file
from keras_ehrnet.weights import REGISTRY

PAUSE = 0.2  # seconds
WARM_UP, TIMED = 2, 3  # calls per turn

console = Console()


@dataclass
class LiteNetwork:
    """A TensorFlow Lite file as a `keras_ehrnet.runtime.Network`."""

    name: str
    content: bytes
    threads: int = 2
    any_size: bool = False
    decode: str = "none"
    min_score: float = 0.0
    skeleton: Skeleton = field(init=False)

    def __post_init__(self) -> None:
        self._run = _interpreter(self.content, self.threads).get_signature_runner()
        details = self._run.get_input_details()["image"]
        heatmaps = self._run.get_output_details()
        self.family = variant(self.name).family
        self.multi_person = self.family == "efficienthrnet"
        self.input_size = tuple(int(side) for side in details["shape"][1:3])
        self._dtype = details["dtype"]
        self.skeleton = skeletons.generic(
            int(heatmaps["heatmaps" if "heatmaps" in heatmaps else "heatmaps_4"]["shape"][-1])
        )

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        maps = [self._run(image=image[None].astype(self._dtype)) for image in images]
        return {name: np.concatenate([each[name] for each in maps]) for name in maps[0]}

    def digest(self) -> str:
        return ""


def _interpreter(content: bytes, threads: int) -> Interpreter:
    interpreter = Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


def model_of(name: str) -> Any:
    """The model with its published weights; where there are none, with statistics that keep values in range."""
    if name in REGISTRY:
        return variant(name).build(weights=name)
    keras.utils.set_random_seed(0)
    model, rng = variant(name).build(), np.random.default_rng(0)
    for weight in model.weights:
        if weight.path.endswith("moving_variance"):
            weight.assign(rng.uniform(0.5, 2, weight.shape))
        elif weight.path.endswith(("moving_mean", "beta", "bias")):
            weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


def images_for(size: tuple[int, int], annotations: Path | None, count: int) -> Iterator[np.ndarray]:
    """Images to calibrate on, fitted into the input; noise where only the time matters."""
    if annotations is None:
        rng = np.random.default_rng(0)
        yield from (rng.integers(0, 256, (1, *size, 3), np.uint8) for _ in range(2))
        return
    dataset = read_lspet(annotations)
    for index in np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int):
        image = dataset[int(index)].read()
        yield decode.letterbox_geometry(image.shape[1], image.shape[0], size[1], size[0]).warp(image)[None]


def file_of(name: str, precision: str, folder: Path, calibration: Path | None = None, count: int = 200) -> bytes:
    """The file of a model at a precision, made where it is not there yet."""
    path = folder / f"{name}-{precision}{'' if calibration is None else '-calibrated'}.tflite"
    if not path.exists():
        size = variant(name).input_size
        static = rules.static_model(model_of(name), size)
        images = images_for(size, calibration, count) if quantize.PRECISIONS[precision].needs_calibration else None
        with console.status(f"converting {name} to {precision}"):
            content = quantize.convert(static, precision, calibration=images)
        write_file(path, content)
    return path.read_bytes()


def medians_ms(calls: dict[str, Callable[[], Any]], repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median time of each call in milliseconds, in turn, so that all see the same machine."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            # Idle threads of the call before, numpy's above all, go on spinning for a while.
            time.sleep(PAUSE)
            for run in range(WARM_UP + TIMED):
                start = clock()
                call()
                if run >= WARM_UP:
                    times[name].append(clock() - start)
    return {name: 1e3 * statistics.median(each) for name, each in times.items()}


def matrix_product(size: int = 2048) -> tuple[Callable[[], Any], float]:
    """A float32 product, and its billions of operations: what the machine's arithmetic can do."""
    matrix = np.random.default_rng(0).random((size, size), np.float32)
    return lambda: matrix @ matrix, 2e-9 * size**3


def latency(options: argparse.Namespace) -> None:
    """Times, operations per second relative to a matrix product, and operations of the files."""
    product, product_gflop = matrix_product()
    contents = {
        (name, precision): file_of(name, precision, options.folder)
        for name in options.models
        for precision in options.precisions
    }
    contents |= {(path.stem, "as is"): path.read_bytes() for path in options.beside}
    interpreters = {key: _interpreter(content, options.threads) for key, content in contents.items()}
    for interpreter in interpreters.values():
        for details in interpreter.get_input_details():
            image = np.random.default_rng(0).integers(0, 256, details["shape"]).astype(details["dtype"])
            interpreter.set_tensor(details["index"], image)
    calls = {" ".join(key): interpreter.invoke for key, interpreter in interpreters.items()}
    clock = time.process_time if options.cpu_time else time.perf_counter
    times = medians_ms({"product": product, **calls}, options.repeats, clock)
    gflops = product_gflop / times["product"] * 1e3
    what = "CPU time" if options.cpu_time else "time"
    table = Table(title=f"Median {what}, {options.threads} threads; numpy multiplies at {gflops:.0f} GFLOP/s")
    for column in ("model", "precision", "ms", "GFLOP/s / numpy's", "faster than the first", "MB", "operations"):
        table.add_column(column, justify="left" if column in ("model", "precision") else "right")
    for (name, precision), content in contents.items():
        milliseconds = times[f"{name} {precision}"]
        first = times[" ".join(next(key for key in contents if key[0] == name))]
        done = "" if precision == "as is" else f"{2 * macs(name) / milliseconds * 1e-6 / gflops:.2f}"
        count = sum(quantize.operations(content).values())
        row = f"{milliseconds:.2f}", done, f"{first / milliseconds:.2f}", f"{len(content) / 1e6:.2f}", str(count)
        table.add_row(name, precision, *row)
    console.print(table)


def macs(name: str) -> int:
    return ke.profile(variant(name).build()).macs


def accuracy(options: argparse.Namespace) -> None:
    """PCK@0.2 on Leeds Sports Pose extended, of the Keras model and of every file."""
    table = Table(title=f"PCK@0.2 on {options.data}")
    for column in ("model", "precision", "PCK", "change"):
        table.add_column(column, justify="right" if column in ("PCK", "change") else "left")
    for name in options.models:
        networks = {"Keras": lambda name=name: PosePredictor.load(name).network} if options.keras else {}
        for precision in options.precisions:
            networks[precision] = lambda name=name, precision=precision: LiteNetwork(
                name, file_of(name, precision, options.folder, options.calibration, options.images)
            )
        first = None
        for title, make in networks.items():
            scores = evaluation.lspet(PosePredictor(make()), None, options.data, limit=options.limit, progress=False)
            mean = float(scores.mean[0])
            first = mean if first is None else first
            console.print(f"{name} {title}: {100 * mean:.2f}")
            table.add_row(name, title, f"{100 * mean:.2f}", f"{100 * (mean - first):+.2f}")
    console.print(table)


def parity(options: argparse.Namespace) -> None:
    """Largest difference of each map between a file and the Keras model, relative to the map's range."""
    table = Table(title="Largest difference from Keras / range of the map")
    for column in ("model", "precision", "map", "difference"):
        table.add_column(column, justify="right" if column == "difference" else "left")
    for name in options.models:
        model, size = model_of(name), variant(name).input_size
        images = [ke.data.read_image(path) for path in options.photos]
        batch = [decode.letterbox_geometry(i.shape[1], i.shape[0], size[1], size[0]).warp(i)[None] for i in images]
        expected = [{key: np.asarray(maps) for key, maps in model(image, training=False).items()} for image in batch]
        for precision in options.precisions:
            run = LiteNetwork(name, file_of(name, precision, options.folder))
            actual = [run(image) for image in batch]
            for key in expected[0]:
                worst = max(
                    np.abs(mine[key] - theirs[key]).max() / np.ptp(theirs[key])
                    for mine, theirs in zip(actual, expected, strict=True)
                )
                table.add_row(name, precision, key, f"{worst:.1e}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--folder", type=Path, default=Path("tflite"), help="where files are kept")
    common.add_argument("--threads", type=int, default=2)

    command = commands.add_parser("latency", parents=[common], help=latency.__doc__)
    command.add_argument("models", nargs="*")
    command.add_argument("--precisions", nargs="+", default=["float32", "int8"], choices=quantize.PRECISIONS)
    command.add_argument("--beside", type=Path, nargs="+", default=[], help="other .tflite files, timed in turn")
    command.add_argument("--repeats", type=int, default=11, help=f"turns, of {TIMED} timed calls each")
    command.add_argument("--cpu-time", action="store_true", help="for busy machines; use it with --threads 1")
    command.set_defaults(run=latency)

    command = commands.add_parser("accuracy", parents=[common], help=accuracy.__doc__)
    command.add_argument("models", nargs="+")
    command.add_argument("--precisions", nargs="+", default=list(quantize.PRECISIONS), choices=quantize.PRECISIONS)
    command.add_argument("--data", type=Path, required=True, help="annotations of LSP extended")
    command.add_argument("--calibration", type=Path, required=True, help="annotations of images to calibrate on")
    command.add_argument("--images", type=int, default=200, help="how many of them")
    command.add_argument("--limit", type=int, help="evaluate so many images only")
    command.add_argument("--keras", action="store_true", help="the Keras model, too")
    command.set_defaults(run=accuracy)

    command = commands.add_parser("parity", parents=[common], help=parity.__doc__)
    command.add_argument("models", nargs=1)
    command.add_argument("photos", nargs="+", type=Path)
    command.add_argument("--precisions", nargs="+", default=["float32"], choices=quantize.PRECISIONS)
    command.set_defaults(run=parity)

    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()

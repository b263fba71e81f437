"""How fast is the input? Images per second of the tf.data pipeline and of the NumPy loader, against what is possible.

    python training/benchmark_pipeline.py FOLDER [--size 512] [--batch 16] [--seconds 4] [--rounds 5]

FOLDER holds `person_keypoints_train.json` and the images in `train/`. The ceiling is bare decoding of JPEG files that
are in memory, plus one warp, in as many threads as there are cores, with neither annotations nor batches. All three
take turns, so that whatever else the machine does slows all of them; told are medians, and medians of the ratios.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from keras_ehrnet.data import read_coco
from keras_ehrnet.data.augment import AUGMENTATIONS, image_region, random_warp
from keras_ehrnet.data.loader import Order, available_cores, numpy_batches
from keras_ehrnet.data.pipeline import tf_batches
from keras_ehrnet.data.targets import Examples

_IN_FLIGHT = 4  # Images the threads of the ceiling may be ahead, each.


def bare(examples: Examples, cores: int) -> Iterator[int]:
    """Decodes and warps, and nothing else; yields the number of images done."""
    rng, size = np.random.default_rng(0), examples.input_size[::-1]
    chosen = [examples.samples[index] for index in rng.permutation(len(examples))[:512]]
    files = [np.frombuffer(Path(sample.source).read_bytes(), np.uint8) for sample in chosen]
    regions = [image_region(sample.image_size, True) for sample in chosen]
    warps = [random_warp(examples.change, region, size, rng) for region in regions]

    def one(index: int) -> np.ndarray:
        return warps[index].image(cv2.imdecode(files[index], cv2.IMREAD_COLOR))

    with ThreadPoolExecutor(cores) as threads:
        pending = []
        for index in itertools.cycle(range(len(files))):
            pending.append(threads.submit(one, index))
            if len(pending) > _IN_FLIGHT * cores:
                pending.pop(0).result()
                yield 1


def counted(batches: Iterator) -> Iterator[int]:
    """Number of images of every batch."""
    for images, _, _ in batches:
        yield len(images)


def rate(source: Iterator[int], seconds: float) -> float:
    """Images per second of a running source."""
    # What was made ahead, while others were measured, does not count.
    done, warm = 0, time.perf_counter() + seconds / 4
    while time.perf_counter() < warm:
        next(source)
    start = time.perf_counter()
    while time.perf_counter() < start + seconds:
        done += next(source)
    return done / (time.perf_counter() - start)


def matrix_product_gflops(side: int = 2048) -> float:
    """Speed of NumPy's float32 matrix product, to compare machines by."""
    matrix = np.random.default_rng(0).random((side, side), np.float32)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return 2 * side**3 / min(times) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with person_keypoints_train.json and train/")
    parser.add_argument("--size", type=int, default=512, help="side of the network's input")
    parser.add_argument("--batch", type=int, default=16, help="images per batch")
    parser.add_argument("--augmentation", choices=list(AUGMENTATIONS), default="efficienthrnet")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each")
    arguments = parser.parse_args()

    cores = available_cores()
    dataset = read_coco(arguments.folder / "person_keypoints_train.json", arguments.folder / "train").with_people()
    examples = Examples(dataset, (arguments.size, arguments.size), arguments.augmentation)
    order = Order(len(examples), arguments.batch)
    cv2.setNumThreads(1)
    sources: dict[str, Callable[[], Iterator[int]]] = {
        "bare decode + warp": lambda: bare(examples, cores),
        "tf.data": lambda: counted(iter(tf_batches(examples, order))),
        "NumPy loader": lambda: counted(numpy_batches(examples, order)),
    }
    rates: dict[str, list[float]] = {name: [] for name in sources}
    for _ in range(arguments.rounds):
        for name, make in sources.items():
            source = make()
            rates[name].append(rate(source, arguments.seconds))
            del source  # Ends its threads or processes, which would work ahead during the next measurement.

    ceiling = np.array(rates["bare decode + warp"])
    table = Table(title=f"Input of {arguments.size}x{arguments.size}, augmentation {arguments.augmentation}")
    for heading in ("", "images/s", "of the ceiling", "of tf.data"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, values in rates.items():
        of_ceiling, of_tf = (np.median(np.array(values) / np.array(other)) for other in (ceiling, rates["tf.data"]))
        table.add_row(name, f"{np.median(values):.0f}", f"{of_ceiling:.0%}", f"{of_tf:.0%}")
    console = Console()
    console.print(table)
    console.print(f"{cores} cores, NumPy {matrix_product_gflops():.0f} GFLOP/s, {dataset!r}")


if __name__ == "__main__":
    main()

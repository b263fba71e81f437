"""How long people take to come out of maps, for both protocols, beside what this machine's arithmetic can do.

python deploy/benchmark_decoding.py
python deploy/benchmark_decoding.py --people 1 5 --repeats 30 --json decoding.json
python deploy/benchmark_decoding.py --model h-2    # from image to people, too
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from keras_ehrnet import PosePredictor, decode, runtime
from keras_ehrnet.models.variants import VARIANTS
from keras_ehrnet.skeletons import COCO_17
from keras_ehrnet.support.files import write_file

JOINTS = 17
INPUT_SIZE = (512, 672)  # height, width of the network's input
TARGETS_MS = {("paper", 1): 10, ("paper", 5): 15, ("paper", 30): 50, ("fast", 5): 3}
TARGET_GFLOPS = 240  # what the targets were set on: 2048 x 2048 float32 products


def random_people(count: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Joints of people scattered over an image, shape `(count, 17, 3)`: x, y and 1 where visible (85 %)."""
    height, width = size
    extent = np.array([0.15 * width, 0.4 * height])
    corner = rng.uniform(8, np.array([width, height]) - extent - 8, (count, 2))
    xy = corner[:, None] + rng.uniform(0, 1, (count, JOINTS, 2)) * extent
    return np.concatenate([xy, rng.uniform(size=(count, JOINTS, 1)) < 0.85], axis=-1)


def render(
    people: np.ndarray, size: tuple[int, int], stride: int, sigma: float, rng: np.random.Generator, channels: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Maps such as a network makes: gaussians over background noise, and tags that number the people.

    Args:
        people: array of shape `(N, 17, 3)`, as `random_people` makes it.
        size: (height, width) of the network's input.
        stride: int. Pixels of the input per pixel of the maps.
        sigma: float. Width of the gaussians in pixels of the maps.
        rng: generator of the noise.
        channels: int. Number of tag channels, T.

    Returns:
        Heatmaps `(H, W, 17)` and tags `(H, W, 17, T)`.
    """
    height, width = (length // stride for length in size)
    heatmaps = rng.random((height, width, JOINTS), np.float32) * np.float32(0.05)
    tags = rng.standard_normal((height, width, JOINTS, channels), np.float32) * np.float32(0.05)
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    for number, person in enumerate(people):
        for joint in np.flatnonzero(person[:, 2]):
            x, y = person[joint, :2] / stride
            near_y, near_x = np.abs(rows - y) < 3 * sigma, np.abs(columns - x) < 3 * sigma
            gaussian = np.exp(-((rows[near_y, None] - y) ** 2 + (columns[near_x] - x) ** 2) / (2 * sigma**2))
            window = (*np.ix_(near_y, near_x), joint)
            mine = 0.9 * gaussian > heatmaps[window]
            heatmaps[window] = np.maximum(heatmaps[window], 0.9 * gaussian)
            noise = 0.05 * rng.standard_normal((*gaussian.shape, channels))
            tags[window] = np.where(mine[..., None], number + noise, tags[window])
    return heatmaps, tags


def maps_of(protocol: str, people: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """What a protocol is given: full-resolution maps with the tags of image and mirror image, or the network's own."""
    if protocol == "paper":
        return render(people, INPUT_SIZE, 1, 4.0, rng)
    heatmaps_2, _ = render(people, INPUT_SIZE, 2, 2.0, rng)
    heatmaps_4, tags_4 = render(people, INPUT_SIZE, 4, 2.0, rng, channels=1)
    return heatmaps_4, tags_4, heatmaps_2


def decode_paper(heatmaps: np.ndarray, tags: np.ndarray) -> decode.Poses:
    return decode.associative(heatmaps, tags, protocol="paper")


def decode_fast(heatmaps_4: np.ndarray, tags_4: np.ndarray, heatmaps_2: np.ndarray) -> decode.Poses:
    return decode.associative(decode.average_strides(heatmaps_4, heatmaps_2), tags_4, protocol="fast")


DECODERS: dict[str, Callable[..., decode.Poses]] = {"paper": decode_paper, "fast": decode_fast}


def median_ms(function: Callable[[], Any], repeats: int) -> float:
    """Median time of a call in milliseconds, after two calls that are not counted."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[2:])


def peak_bytes(function: Callable[[], Any]) -> int:
    """The most memory that a call holds at once, beside what was there before."""
    tracemalloc.start()
    function()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def matrix_gflops(size: int = 2048, repeats: int = 7) -> float:
    """How fast numpy multiplies float32 matrices here, in billions of operations per second."""
    matrix = np.random.default_rng(0).random((size, size), np.float32)
    return 2e-6 * size**3 / median_ms(lambda: matrix @ matrix, repeats)


def benchmark_maps(people: list[int], repeats: int, seed: int = 0) -> list[dict[str, Any]]:
    """Times both protocols. One row per protocol and number of people."""
    rows = []
    for protocol, decoder in DECODERS.items():
        for count in people:
            rng = np.random.default_rng(seed)
            maps = maps_of(protocol, random_people(count, INPUT_SIZE, rng), rng)
            extra = peak_bytes(lambda decoder=decoder, maps=maps: decoder(*maps))
            rows.append(
                {
                    "protocol": protocol,
                    "people": count,
                    "found": len(decoder(*maps)),
                    "median_ms": median_ms(lambda decoder=decoder, maps=maps: decoder(*maps), repeats),
                    "target_ms": TARGETS_MS.get((protocol, count)),
                    "memory_over_maps": 1 + extra / sum(array.nbytes for array in maps),
                }
            )
    return rows


class Staged:
    """A network that does its work and then returns given maps, so that decoding meets a known number of people."""

    family, skeleton, any_size, decode = "efficienthrnet", COCO_17, True, "none"
    multi_person, min_score = True, 0.0

    def __init__(self, name: str, people: int, seed: int = 0) -> None:
        self.network = runtime.load(VARIANTS[name].build())
        self.name, self.input_size = name, self.network.input_size
        self._people, self._seed, self._maps = people, seed, None

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.network(images)
        if self._maps is None:
            rng = np.random.default_rng(self._seed)
            size = images.shape[1:3]
            people = random_people(self._people, size, rng)
            heatmaps_4, tags_4 = render(people, size, 4, 2.0, rng, channels=1)
            heatmaps_2, _ = render(people, size, 2, 2.0, rng, channels=1)
            maps = {"heatmaps_4": heatmaps_4, "tags_4": tags_4[..., 0], "heatmaps_2": heatmaps_2}
            self._maps = {name: values[None] for name, values in maps.items()}
        return self._maps


def benchmark_whole(model: str, people: list[int], repeats: int) -> list[dict[str, Any]]:
    """Times the whole way from a 640x480 image to its people, and the network alone, in turn in one run."""
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    rows = []
    for protocol in DECODERS:
        for count in people:
            predictor = PosePredictor(Staged(model, count), protocol=protocol)
            size = predictor.network.input_size[0]
            geometry = decode.resize_geometry(640, 480, size)
            batch = geometry.warp(image)[None]
            network = predictor.network.network
            whole = median_ms(lambda predictor=predictor: predictor(image), repeats)
            alone = median_ms(lambda network=network, batch=batch: network(batch), repeats)
            rows.append({"protocol": protocol, "people": count, "whole_ms": whole, "network_ms": alone})
    return rows


def whole_table(report: dict[str, Any]) -> Table:
    """The whole way as a table for the terminal."""
    shown = Table("protocol", "people", "image to people ms", "network alone ms", "share of the network")
    shown.title = f"Image to people, {report['model']}, 640x480"
    for row in report["whole"]:
        share = row["network_ms"] / row["whole_ms"]
        times = f"{row['whole_ms']:.1f}", f"{row['network_ms']:.1f}", f"{share:.0%}"
        shown.add_row(row["protocol"], str(row["people"]), *times)
    return shown


def table(report: dict[str, Any]) -> Table:
    """The report as a table for the terminal."""
    height, width = report["input_size"]
    title = f"Decoding, {width}x{height}, numpy at {report['gflops']:.0f} GFLOP/s (targets: {TARGET_GFLOPS})"
    shown = Table(
        "protocol", "people", "found", "median ms", f"ms at {TARGET_GFLOPS}", "target", "memory / maps", title=title
    )
    for row in report["rows"]:
        scaled = row["median_ms"] * report["gflops"] / TARGET_GFLOPS
        target = "" if row["target_ms"] is None else f"<= {row['target_ms']}"
        figures = f"{row['median_ms']:.2f}", f"{scaled:.2f}", target, f"{row['memory_over_maps']:.2f}"
        shown.add_row(row["protocol"], str(row["people"]), str(row["found"]), *figures)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, nargs="+", default=[1, 5, 15, 30], help="numbers of people to time")
    parser.add_argument("--repeats", type=int, default=15, help="calls of which the median is taken")
    parser.add_argument("--model", help="also time the whole way from an image to its people, such as with h-2")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    report = {
        "input_size": INPUT_SIZE,
        "gflops": matrix_gflops(),
        "rows": benchmark_maps(arguments.people, arguments.repeats),
    }
    Console().print(table(report))
    if arguments.model:
        report |= {"model": arguments.model}
        report["whole"] = benchmark_whole(arguments.model, arguments.people, arguments.repeats)
        Console().print(whole_table(report))
    if arguments.json:
        write_file(arguments.json, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

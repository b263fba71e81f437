"""How long does a training step take? H-4 at 384x384, eight images, float32, on two cores.

    python training/benchmark_step.py [--model h-4] [--batch 8] [--cores 2] [--steps 8] [--only tensorflow] ...
    python training/benchmark_step.py --model efficientpose-rt --batch 16 --only stock tensorflow --operations
    python training/benchmark_step.py --model efficientpose-rt --batch 16 --cores 1 --only stock fixed-upscaling

A step is what `keras-ehrnet train` runs: ground truth rendered from joints, forward and backward pass, Adam with the
paper's weight decay. Every way has a process of its own, which also gives its peak memory. Beside them stands NumPy's
product of 2048x2048 matrices on the same cores, taken before and after each, to compare machines by.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

_PEOPLE = 2  # Persons per image: about COCO's mean.
_WARM_UP = 2  # Steps that are not counted: the first compiles, the second fills caches.


@dataclass(frozen=True)
class Way:
    """A way to run the same step.

    Args:
        title: str. What the table calls it.
        backend: str. Backend of Keras.
        jit: bool. Whether XLA compiles it.
        stock: bool. Whether the network's own layers run, rather than those of `training.lean`.
        train_upscaling: bool. The recipe's `model.train_upscaling`, of EfficientPose.
    """

    title: str
    backend: str
    jit: bool
    stock: bool = False
    train_upscaling: bool = True


WAYS = {
    "stock": Way("TensorFlow, stock layers", "tensorflow", False, stock=True),
    "tensorflow": Way("TensorFlow", "tensorflow", False),
    "fixed-upscaling": Way("TensorFlow, upscaling not trained", "tensorflow", False, train_upscaling=False),
    "tensorflow-xla": Way("TensorFlow, XLA", "tensorflow", True),
    "jax": Way("JAX", "jax", True),
}
_OF_ALL_MODELS = [name for name, way in WAYS.items() if way.train_upscaling]


def matrix_product_gflops(side: int = 2048, repeats: int = 5) -> float:
    """Speed of NumPy's float32 matrix product, the median of several."""
    matrix = np.random.default_rng(0).random((side, side), np.float32)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return 2 * side**3 / float(np.median(times)) / 1e9


def measure(
    way: Way, model_name: str, batch_size: int, steps: int, size: int | None, operations: bool
) -> dict[str, Any]:
    """Times steps in this process; `KERAS_BACKEND` must be that of the way."""
    import resource

    before = matrix_product_gflops()
    from keras_ehrnet import training
    from keras_ehrnet.training import recipe as recipes

    content = {
        "model": {
            "name": model_name,
            "input_size": [size, size] if size else None,
            "train_upscaling": way.train_upscaling,
        },
        "data": {"kind": "synthetic"},
        "optimizer": {"name": "adam", "weight_decay": 1e-4},
        "training": {"batch_size": batch_size, "jit": way.jit},
    }
    recipe = recipes.from_dict(content)
    if way.stock:
        from keras_ehrnet.training import model as models

        models.training_clone = lambda network, freeze_statistics: network
    _, model = training.compiled_model(recipe, 1000)
    people = 1 if recipe.top_down else recipe.data.max_people
    images, joints, mask = _batch(recipe.input_size, recipe.skeleton.num_joints, batch_size, people)
    names = list(model.output)
    arguments = images, dict.fromkeys(names, joints), dict.fromkeys(names, mask)
    times, processor, losses = [], [], []
    for _ in range(_WARM_UP + steps):
        start, spent = time.perf_counter(), time.process_time()
        losses.append(float(model.train_on_batch(*arguments, return_dict=True)["loss"]))
        times.append(time.perf_counter() - start)
        processor.append(time.process_time() - spent)
    if not np.isfinite(losses).all():
        raise ValueError(f"The loss of a step is not finite. Received: {losses}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    gflops = float(np.median([before, matrix_product_gflops()]))
    figures = {"first": times[0], "step": float(np.median(times[_WARM_UP:])), "gib": peak, "gflops": gflops}
    figures["cpu"] = float(np.median(processor[_WARM_UP:]))
    if operations:
        figures["operations"] = _operations(lambda: model.train_on_batch(*arguments))
    return figures


def _operations(step: Callable[[], object]) -> dict[str, float]:
    """Seconds of each kind of TensorFlow operation in one step; what XLA compiled is one kind."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        step()
        tf.profiler.experimental.stop()
        (file,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    seconds: Counter[str] = Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                # Operations are called NODE:KIND; what has two colons is a function around others.
                node, _, kind = name.rpartition(":")
                if node and not node.endswith(":") and kind.isidentifier() and not kind.startswith("__"):
                    seconds[kind.removeprefix("_MklNative")] += event.duration_ps / 1e12
                elif name.endswith(_COMPILED):
                    seconds["(loops that XLA made)"] += event.duration_ps / 1e12
    return dict(seconds)


_COMPILED = "ExecuteAsyncOnStream"


def _batch(input_size: tuple[int, int], num_joints: int, size: int, max_people: int) -> tuple[np.ndarray, ...]:
    rng, (height, width) = np.random.default_rng(0), input_size
    joints = np.zeros((size, max_people, num_joints, 3), np.float32)
    shown = joints[:, :_PEOPLE]
    shown[..., :2] = rng.uniform(0, min(input_size), shown[..., :2].shape)
    shown[..., 2] = 2
    images = rng.integers(0, 256, (size, height, width, 3), np.uint8)
    return images, joints, np.ones((size, height // 4, width // 4), np.uint8)


def _in_own_process(name: str) -> dict[str, Any]:
    environment = {**os.environ, "KERAS_BACKEND": WAYS[name].backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--measure", name],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(process.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="h-4", help="a pose model of the papers by name")
    parser.add_argument("--size", type=int, help="side of the input; default: the paper's")
    parser.add_argument("--batch", type=int, default=8, help="images per step")
    parser.add_argument("--steps", type=int, default=8, help="steps to take the median of")
    parser.add_argument("--cores", type=int, default=2, help="processor cores to use")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(WAYS),
        default=_OF_ALL_MODELS,
        help="these ways alone; default: all but fixed-upscaling, which is EfficientPose's and what our recipes do",
    )
    parser.add_argument("--operations", action="store_true", help="seconds of each operation; TensorFlow without XLA")
    parser.add_argument("--measure", choices=list(WAYS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    if arguments.measure:
        measured = arguments.model, arguments.batch, arguments.steps, arguments.size, arguments.operations
        figures = measure(WAYS[arguments.measure], *measured)
        print(json.dumps(figures))
        return
    table = Table(title=f"Training step of {arguments.model}, batch {arguments.batch}, {arguments.cores} cores")
    for heading in ("", "s/step", "CPU s/step", "images/s", "first step, s", "peak GiB", "NumPy GFLOP/s"):
        table.add_column(heading, justify="right" if heading else "left")
    console, operations = Console(), {}
    for name in arguments.only:
        with console.status(WAYS[name].title):
            found = _in_own_process(name)
        operations[WAYS[name].title] = found.get("operations", {})
        table.add_row(
            WAYS[name].title,
            f"{found['step']:.2f}",
            f"{found['cpu']:.2f}",
            f"{arguments.batch / found['step']:.1f}",
            f"{found['first']:.1f}",
            f"{found['gib']:.1f}",
            f"{found['gflops']:.0f}",
        )
    console.print(table)
    if arguments.operations:
        console.print(_operations_table(operations))


def _operations_table(ways: dict[str, dict[str, float]], most: int = 24) -> Table:
    """The operations that take longest in any way, a column each."""
    table = Table("operation, s/step", *ways, title="Operations")
    longest = Counter({kind: max(w.get(kind, 0) for w in ways.values()) for way in ways.values() for kind in way})
    for kind, _ in longest.most_common(most):
        table.add_row(kind, *(f"{way.get(kind, 0):.3f}" for way in ways.values()))
    table.add_row("all", *(f"{sum(way.values()):.2f}" for way in ways.values()))
    return table


if __name__ == "__main__":
    main()

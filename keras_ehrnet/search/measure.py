"""Measures every block of a space with LiteRT, and compares predictions with whole networks."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module, metadata
from typing import Any

import keras
import numpy as np

from keras_ehrnet.export.litert import quantize
from keras_ehrnet.export.litert.rules import static_model
from keras_ehrnet.models import blocks as parts
from keras_ehrnet.models.efficientpose_nas import STYLE, EfficientPoseNAS
from keras_ehrnet.models.searched import SearchedBackbone
from keras_ehrnet.runtime.engine import usual_threads
from keras_ehrnet.runtime.litert import package
from keras_ehrnet.search.cost import BlockAt, Cost, candidates
from keras_ehrnet.search.latency import LatencyTable
from keras_ehrnet.search.recipe import SearchRecipe
from keras_ehrnet.search.space import Architecture
from keras_ehrnet.support.messages import suggestion
from keras_ehrnet.support.terminal import progress_bar, silenced

PRECISIONS = ("float32", "int8")
_ROUNDS, _REPEATS = 7, 15
_LEAST_SECONDS = 0.01
_SMALLEST = BlockAt(1, 1, 8, 8, 3, 3, 1)
"""A block whose time is that of starting anything at all."""
_ANCHORS = 2
"""Whole networks of each last width from which stem and head are known."""


def measure(
    recipe: SearchRecipe,
    *,
    precision: str = "int8",
    threads: int | None = None,
    check: int = 20,
    progress: bool = False,
) -> LatencyTable:
    """Milliseconds of every block that networks of a recipe may have, on this machine.

    What a network takes besides its blocks is what whole networks take more than these.

    Args:
        recipe: `SearchRecipe`, for its space, input and keypoints.
        precision: str. `"float32"` or `"int8"`.
        threads: int, or None for LiteRT's choice.
        check: int. Random networks of the space to measure and compare with predictions, none of them measured before.
        progress: bool. Whether to show a progress bar.

    Returns:
        `LatencyTable`.

    Raises:
        ValueError: for a precision that there is not, or where Keras does not run on TensorFlow.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"Blocks are not measured so. {suggestion(precision, PRECISIONS)} Received: {precision!r}")
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Blocks are converted with Keras on TensorFlow: set KERAS_BACKEND=tensorflow. "
            f"Received: backend {keras.backend.backend()!r}"
        )
    space, joints = recipe.space, recipe.skeleton.num_joints
    generator = np.random.default_rng(recipe.training.seed)
    todo = candidates(space, recipe.input_size)
    anchors = list(_anchors(recipe, generator))
    with progress_bar("", shown=progress, transient=True) as bar:
        task = bar.add_task("measuring", total=len(todo) + len(anchors) + check)

        def timed(make: Callable[..., bytes], *arguments: Any) -> float:
            ms = milliseconds(make(*arguments), threads)
            keras.utils.clear_session(free_memory=False)
            bar.advance(task)
            return ms

        started = milliseconds(_block_file(_SMALLEST, precision), threads)
        blocks = {block: max(timed(_block_file, block, precision) - started, 0.0) for block in todo}
        table = LatencyTable(
            recipe.input_size, joints, space.stem, precision, blocks, dict.fromkeys(space.widths[-1], 0.0)
        )
        cost = table.cost(space, recipe.input_size, joints)
        more: dict[int, list[float]] = {width: [] for width in space.widths[-1]}
        for architecture in anchors:
            whole = timed(_network_file, recipe, architecture, precision)
            more[_last_width(cost, architecture)].append(whole - cost.of(architecture))
        table = replace(table, rest={width: max(float(np.mean(ms)), 0.0) for width, ms in more.items()})
        cost = table.cost(space, recipe.input_size, joints)
        drawn = [space.sample(generator) for _ in range(check)]
        compared = [(cost.of(one), timed(_network_file, recipe, one, precision)) for one in drawn]
    return replace(table, about=_about(threads), check=compared)


def milliseconds(content: bytes, threads: int | None = None) -> float:
    """Milliseconds of a run: the median of the quietest of several rounds, for others only ever make it slower."""
    module = import_module(package())
    with silenced():
        interpreter = module.Interpreter(model_content=content, num_threads=threads or usual_threads())
        interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    once = float(np.median(_seconds(interpreter, 3)))
    repeats = max(_REPEATS, min(int(_LEAST_SECONDS / max(once, 1e-6)), 2000))
    return 1e3 * min(float(np.median(_seconds(interpreter, repeats))) for _ in range(_ROUNDS))


def _seconds(interpreter: Any, repeats: int) -> np.ndarray:
    """Seconds of each of so many runs, nothing copied in or out."""
    times = np.empty(repeats)
    for index in range(repeats):
        started = time.perf_counter()
        interpreter.invoke()
        times[index] = time.perf_counter() - started
    return times


def _anchors(recipe: SearchRecipe, generator: np.random.Generator) -> Iterator[Architecture]:
    """Random networks, as many of every last width."""
    last = recipe.space.slots[-1].width_out
    for option in range(len(recipe.space.widths[-1])):
        for _ in range(_ANCHORS):
            drawn = recipe.space.sample(generator)
            yield (*drawn[:last], option, *drawn[last + 1 :])


def _last_width(cost: Cost, architecture: Architecture) -> int:
    return int(cost.space.value(architecture, cost.space.slots[-1].width_out))


def _block_file(block: BlockAt, precision: str) -> bytes:
    """A file of one block; integers go in and come out where it computes in integers."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    inputs = keras.Input(batch_shape=(1, block.height, block.width, block.channels_in))
    outputs = parts.inverted_residual(
        inputs,
        STYLE,
        filters=block.channels_out,
        kernel=block.kernel,
        expanded=block.channels_in * block.expansion,
        strides=block.stride,
        name="block",
    )
    model = keras.Model(inputs, outputs)
    with silenced(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function = tf.function(lambda x: model(x, training=False))
        frozen = convert_variables_to_constants_v2(
            function.get_concrete_function(tf.TensorSpec(inputs.shape, tf.float32))
        )
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
        if precision == "int8":
            noise = np.random.default_rng(0).standard_normal((4, *inputs.shape)).astype(np.float32)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([one] for one in noise)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        return converter.convert()


def _network_file(recipe: SearchRecipe, architecture: Architecture, precision: str) -> bytes:
    """A whole network, untrained, as it is exported."""
    backbone: SearchedBackbone = recipe.space.derive(architecture, input_size=recipe.input_size)
    network = EfficientPoseNAS(backbone, num_keypoints=recipe.skeleton.num_joints)
    noise = np.random.default_rng(0).integers(0, 256, (4, 1, *recipe.input_size, 3), np.uint8)
    return quantize.convert(static_model(network, recipe.input_size), precision, calibration=list(noise))


def _about(threads: int | None) -> dict[str, str]:
    package = next(name for name in ("ai-edge-litert", "tflite-runtime", "tensorflow") if _version(name))
    return {
        "machine": f"{platform.machine()} {platform.system()}",
        "runtime": f"{package} {_version(package)}",
        "threads": "default" if threads is None else str(threads),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

"""Measures every block of a space with LiteRT, and compares predictions with whole networks."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
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
from keras_ehrnet.search.space import Architecture, Space
from keras_ehrnet.support.messages import suggestion
from keras_ehrnet.support.terminal import progress_bar, silenced

PRECISIONS = ("float32", "int8")
_ROUNDS, _REPEATS = 7, 15
_LEAST_SECONDS = 0.01
_SMALLEST = BlockAt(1, 1, 8, 8, 3, 3, 1)
"""A block whose time is that of starting anything at all."""
_ANCHORS = 4
"""Whole networks of each last width from which stem, head and the scale of blocks are known."""
_TELLING = 0.01
"""Whole networks whose blocks differ by less than this part of their time tell no factor of blocks."""
_FACTORS = (0.5, 2.0)
"""Of blocks inside of networks to blocks by themselves; beyond, it is noise."""


def measure(
    recipe: SearchRecipe,
    *,
    precision: str = "int8",
    threads: int | None = None,
    check: int = 20,
    progress: bool = False,
) -> LatencyTable:
    """Milliseconds of every block that networks of a recipe may have, on this machine.

    A block by itself finds its weights and its image where the processor left them a moment before; inside of a network
    it does not. So a few whole networks, from small to large, are measured too: they tell what blocks take there, as a
    factor of all, and what stem and head do.

    Args:
        recipe: `SearchRecipe`, for its space, input and keypoints.
        precision: str. `"float32"` or `"int8"`.
        threads: int, or None for LiteRT's choice.
        check: int. Networks to measure and compare with predictions, none of them measured before: random ones from
            the smallest of the space to the largest.
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
    leaning = [*_leaning(_ANCHORS * len(space.widths[-1])), *_leaning(check)]
    networks = [space.sample(generator, lean) for lean in leaning]
    anchors = _with_last_widths(space, networks[: len(networks) - check])
    compared = networks[len(anchors) :]
    files = [
        *(partial(_block_file, block, precision) for block in (_SMALLEST, *todo)),
        *(partial(_network_file, recipe, one, precision) for one in (*anchors, *compared)),
    ]
    with progress_bar("", shown=progress, transient=True) as bar:
        task = bar.add_task("measuring", total=len(files) + _ROUNDS)
        contents = []
        for make in files:
            contents.append(make())
            keras.utils.clear_session(free_memory=False)
            bar.advance(task)
        taken = milliseconds(contents, threads, partial(bar.advance, task))
    started, *of_blocks = taken[: len(todo) + 1]
    blocks = {block: max(ms - started, 0.0) for block, ms in zip(todo, of_blocks, strict=True)}
    table = LatencyTable(recipe.input_size, joints, space.stem, precision, blocks, dict.fromkeys(space.widths[-1], 0.0))
    whole = taken[len(todo) + 1 :]
    table = _fitted(table, recipe, anchors, whole[: len(anchors)])
    cost = table.cost(space, recipe.input_size, joints)
    pairs = [(cost.of(one), ms) for one, ms in zip(compared, whole[len(anchors) :], strict=True)]
    return replace(table, about=_about(threads), check=pairs)


def milliseconds(
    contents: Iterable[bytes], threads: int | None = None, after_round: Callable[[], None] = lambda: None
) -> list[float]:
    """Milliseconds of a run of each of several files.

    They take turns for several rounds, so that what else the machine does meets all of them alike; of each, the median
    of its quietest round counts, for others only ever make it slower.

    Args:
        contents: iterable of the bytes of `.tflite` files.
        threads: int, or None for LiteRT's choice.
        after_round: callable, called after each round.
    """
    interpreters = [_interpreter(content, threads) for content in contents]
    rounds = np.empty((_ROUNDS, len(interpreters)))
    for taken in rounds:
        for number, interpreter in enumerate(interpreters):
            once = float(np.median(_seconds(interpreter, 3)))
            taken[number] = np.median(_seconds(interpreter, _repeats(once)))
        after_round()
    return (1e3 * rounds.min(axis=0)).tolist()


def _interpreter(content: bytes, threads: int | None) -> Any:
    with silenced():
        interpreter = import_module(package()).Interpreter(
            model_content=content, num_threads=threads or usual_threads()
        )
        interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    return interpreter


def _repeats(seconds: float) -> int:
    """Runs of a round, of a network that takes so long."""
    return max(_REPEATS, min(int(_LEAST_SECONDS / max(seconds, 1e-6)), 2000))


def _seconds(interpreter: Any, repeats: int) -> np.ndarray:
    """Seconds of each of so many runs, nothing copied in or out."""
    times = np.empty(repeats)
    for index in range(repeats):
        started = time.perf_counter()
        interpreter.invoke()
        times[index] = time.perf_counter() - started
    return times


def _leaning(count: int) -> np.ndarray:
    """So many numbers from 0 to 1, evenly."""
    return (np.arange(count) + 0.5) / max(count, 1)


def _with_last_widths(space: Space, networks: Sequence[Architecture]) -> list[Architecture]:
    """The networks, each last width in turn."""
    last, count = space.slots[-1].width_out, len(space.widths[-1])
    return [(*one[:last], number % count, *one[last + 1 :]) for number, one in enumerate(networks)]


def _fitted(
    table: LatencyTable, recipe: SearchRecipe, networks: Sequence[Architecture], measured: Sequence[float]
) -> LatencyTable:
    """The table with a factor of all blocks, and stem and head, as whole networks show them."""
    cost = table.cost(recipe.space, recipe.input_size, table.num_keypoints)
    widths = np.array([_last_width(cost, one) for one in networks])
    blocks, more = np.array([cost.of(one) for one in networks]), np.array(measured)
    # A hundredth off is as wrong for a small network as for a large one, which may take thirty times as long.
    trust, same = more**-2.0, [widths == width for width in recipe.space.widths[-1]]
    means = [[float(np.average(values[rows], weights=trust[rows])) for values in (blocks, more)] for rows in same]
    x, y = blocks.copy(), more.copy()
    for rows, (mean_blocks, mean_more) in zip(same, means, strict=True):
        x[rows] -= mean_blocks
        y[rows] -= mean_more
    apart = float(np.sum(trust * x**2))
    told = apart > np.sum(trust * (_TELLING * blocks) ** 2)
    factor = float(np.clip(np.sum(trust * x * y) / apart, *_FACTORS)) if told else 1.0
    rest = {
        width: max(mean_more - factor * mean_blocks, 0.0)
        for width, (mean_blocks, mean_more) in zip(recipe.space.widths[-1], means, strict=True)
    }
    return replace(table, blocks={block: factor * ms for block, ms in table.blocks.items()}, rest=rest)


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

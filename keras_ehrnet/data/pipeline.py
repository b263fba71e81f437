"""The input pipeline for TensorFlow: tf.data runs, in parallel threads, what `targets.Examples` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from keras_ehrnet.data.loader import Order, as_training_data, available_cores, check_order
from keras_ehrnet.data.targets import Batch, BatchMaker

if TYPE_CHECKING:
    import tensorflow as tf


def tf_batches(
    examples: BatchMaker,
    order: Order,
    *,
    outputs: Sequence[str] | None = None,
    start: int = 0,
    threads: int | None = None,
    prefetch: int = 2,
) -> tf.data.Dataset:
    """A `tf.data.Dataset` of whole batches, for `model.fit`.

    A batch is made by one call: images are decoded and warped by OpenCV, which leaves Python's lock alone meanwhile,
    straight into the batch. Batches come in order and depend on the step only, however many threads make them. OpenCV
    is set to one thread of its own.

    Args:
        examples: `BatchMaker`, such as `Examples`. What is in a batch.
        order: `Order`. Which samples make which batch. One that repeats has no end: give `fit` `steps_per_epoch`.
        outputs: names of the model's outputs, each of which gets joints and masks; None for the arrays alone.
        start: int. Step to begin with, to resume a training.
        threads: int or None. Batches made at a time; by default one per available core.
        prefetch: int. Batches kept ready.

    Returns:
        `tf.data.Dataset` of images, joints and masks, see `targets.Batch`; the last two as dicts where there are
        `outputs`. A missing or damaged image ends it with an error that names the file.

    Raises:
        ValueError: if `order` is not for these examples.

    Example:
        >>> from keras_ehrnet.data import synthetic
        >>> from keras_ehrnet.data.loader import Order
        >>> from keras_ehrnet.data.pipeline import tf_batches
        >>> from keras_ehrnet.data.targets import Examples
        >>> examples = Examples(synthetic.dataset(4), (128, 128), "efficienthrnet", max_people=5)
        >>> batches = tf_batches(examples, Order(4, batch_size=2), outputs=["heatmaps_4"])
        >>> batches.element_spec[1]["heatmaps_4"].shape
        TensorShape([2, 5, 17, 3])
    """
    import tensorflow as tf

    check_order(examples, order)
    cv2.setNumThreads(1)

    def make(step: np.ndarray) -> Batch:
        return examples.batch(order.numbers(int(step)))

    def load(step: tf.Tensor) -> tuple:
        arrays = tf.numpy_function(make, [step], [tf.uint8, tf.float32, tf.uint8])
        size = order.batch_size if order.repeat else None
        shaped = (
            tf.ensure_shape(array, (size, *shape)) for array, shape in zip(arrays, examples.shapes(), strict=True)
        )
        return as_training_data(Batch(*shaped), outputs)

    last = tf.int64.max if order.repeat else max(order.steps_per_epoch, start)
    steps = tf.data.Dataset.range(start, last)
    batches = steps.map(load, num_parallel_calls=threads or available_cores(), deterministic=True)
    return batches.prefetch(prefetch)

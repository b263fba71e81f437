"""Batches from worker processes, for training where there is no TensorFlow. NumPy and OpenCV only."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from keras_ehrnet.data.targets import Batch, BatchMaker

_SLOTS = 2  # Batches a worker may be ahead, each with a place in shared memory.
_LOOK_AFTER = 1.0  # Seconds without a batch after which to see whether the worker still lives.


@dataclass(frozen=True)
class Order:
    """Which samples make which batch: a stream of shuffled epochs, cut into batches. Nothing is ever left out.

    Every host of several takes its part of every batch, so that together they see what one would with a batch of
    `num_shards * batch_size`. The batch of a step depends on nothing but these numbers: training can resume anywhere.

    Args:
        length: int. Number of samples.
        batch_size: int. Samples per batch and host.
        seed: int.
        shuffle: bool. Whether every epoch has its own order.
        num_shards: int. Number of hosts.
        shard: int. Which of them this is, from 0.
        repeat: bool. Whether the stream goes on after the first epoch. If not, its last batch may be smaller.

    Raises:
        ValueError: if one of the numbers cannot be.

    Example:
        >>> from keras_ehrnet.data.loader import Order
        >>> order = Order(length=3, batch_size=2, shuffle=False)
        >>> order.steps_per_epoch, order.numbers(1).tolist()  # pairs of epoch and sample
        (2, [[0, 2], [1, 0]])
    """

    length: int
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    num_shards: int = 1
    shard: int = 0
    repeat: bool = True

    def __post_init__(self) -> None:
        for name in ("length", "batch_size", "num_shards"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1. Received: {name}={getattr(self, name)!r}")
        if not 0 <= self.shard < self.num_shards:
            raise ValueError(f"shard must be from 0 to {self.num_shards - 1}. Received: shard={self.shard!r}")

    @property
    def steps_per_epoch(self) -> int:
        """Batches after which every sample has been seen."""
        return -(-self.length // (self.batch_size * self.num_shards))

    def numbers(self, step: int) -> np.ndarray:
        """Pairs of epoch and sample of the batch of a step, `(B, 2)`."""
        first = (step * self.num_shards + self.shard) * self.batch_size
        positions = np.arange(first, first + self.batch_size)
        if not self.repeat:
            positions = positions[positions < self.length]
        epochs, places = np.divmod(positions, self.length)
        if self.shuffle:
            permutations = {epoch: _permutation(self.length, self.seed, int(epoch)) for epoch in np.unique(epochs)}
            places = np.array([permutations[e][p] for e, p in zip(epochs, places, strict=True)], np.int64)
        return np.stack([epochs, places], axis=1)


@lru_cache(maxsize=8)
def _permutation(length: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(length)


def as_training_data(batch: Batch, outputs: Sequence[str] | None) -> tuple[Any, Any, Any]:
    """Images, ground truth and masks as `model.fit` takes them: every output of the model gets the same."""
    images, joints, masks = batch
    if outputs is None:
        return images, joints, masks
    return images, dict.fromkeys(outputs, joints), dict.fromkeys(outputs, masks)


def numpy_batches(
    examples: BatchMaker,
    order: Order,
    *,
    outputs: Sequence[str] | None = None,
    start: int = 0,
    workers: int | None = None,
) -> Iterator[tuple[Any, Any, Any]]:
    """The same batches as `pipeline.tf_batches`, as a generator of NumPy arrays that `model.fit` takes.

    Workers are started afresh ("spawn"), so that they do no harm to threads of JAX: a script that uses them needs the
    usual `if __name__ == "__main__":`. They end with the generator.

    Args:
        examples: `BatchMaker`, such as `Examples`. What is in a batch.
        order: `Order`. Which samples make which batch.
        outputs: names of the model's outputs, each of which gets joints and masks; None for the arrays alone.
        start: int. Step to begin with, to resume a training.
        workers: int or None. Number of processes, 0 for none: batches are then made when they are asked for. By
            default one per available core.

    Yields:
        Tuples of images, joints and masks, see `targets.Batch`; the last two as dicts where there are `outputs`.

    Raises:
        ValueError: if `order` is not for these examples.
        FileNotFoundError, ImageError: from a worker, naming the image file.
        RuntimeError: if a worker process ends unexpectedly.
    """
    check_order(examples, order)
    workers = available_cores() if workers is None else workers
    batches = _from_workers(examples, order, start, workers) if workers else _in_process(examples, order, start)
    return (as_training_data(batch, outputs) for batch in batches)


def check_order(examples: BatchMaker, order: Order) -> None:
    """ValueError if the order is for another number of samples."""
    if order.length != len(examples):
        raise ValueError(f"The order must be of {len(examples)} samples, as are the examples. Received: {order!r}")


def available_cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def steps(order: Order, start: int) -> Iterator[int]:
    """Steps from `start` on: without end, or to the end of the epoch where the order does not repeat."""
    step = start
    while order.repeat or step < order.steps_per_epoch:
        yield step
        step += 1


def _in_process(examples: BatchMaker, order: Order, start: int) -> Iterator[Batch]:
    for step in steps(order, start):
        yield examples.batch(order.numbers(step))


def _from_workers(examples: BatchMaker, order: Order, start: int, workers: int) -> Iterator[Batch]:
    context = multiprocessing.get_context("spawn")
    team = [_Worker(context, examples, order, start + number, workers) for number in range(workers)]
    try:
        for step in steps(order, start):
            yield team[(step - start) % workers].next()
    finally:
        for worker in team:
            worker.stop()


class _Worker:
    """A process that makes every n-th batch, in shared memory."""

    def __init__(self, context: Any, examples: BatchMaker, order: Order, start: int, stride: int) -> None:
        self._examples = examples
        sizes = [array.nbytes for array in examples.empty(order.batch_size)]
        memory = [[context.RawArray("B", size) for size in sizes] for _ in range(_SLOTS)]
        self._slots = [_batch_in(buffers, examples, order.batch_size) for buffers in memory]
        self._free, self._ready, self._taken = context.Semaphore(_SLOTS), context.Queue(), 0
        arguments = (examples, order, start, stride, memory, self._free, self._ready)
        self._process = context.Process(target=_work, args=arguments, daemon=True)
        self._process.start()

    def next(self) -> Batch:
        """The next batch, copied: whoever takes it may keep it."""
        result = self._wait()
        if isinstance(result, BaseException):
            raise result
        slot = self._slots[self._taken % _SLOTS]
        batch = Batch(*(array[:result].copy() for array in slot))
        self._taken += 1
        self._free.release()
        return batch

    def _wait(self) -> int | BaseException:
        while True:
            try:
                return self._ready.get(timeout=_LOOK_AFTER)
            except queue.Empty:
                if not self._process.is_alive() and self._ready.empty():
                    code = self._process.exitcode
                    raise RuntimeError(f"A worker process ended unexpectedly. Received: exit code {code}") from None

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()
        self._ready.close()


def _batch_in(buffers: list[Any], examples: BatchMaker, size: int) -> Batch:
    kinds = (np.uint8, np.float32, np.uint8)
    arrays = zip(buffers, kinds, examples.shapes(), strict=True)
    return Batch(*(np.frombuffer(buffer, kind).reshape(size, *shape) for buffer, kind, shape in arrays))


def _work(
    examples: BatchMaker, order: Order, start: int, stride: int, memory: list[list[Any]], free: Any, ready: Any
) -> None:
    cv2.setNumThreads(1)  # The workers are the threads.
    slots = [_batch_in(buffers, examples, order.batch_size) for buffers in memory]
    try:
        for turn, step in enumerate(step for step in steps(order, start) if (step - start) % stride == 0):
            free.acquire()
            numbers = order.numbers(step)
            examples.batch(numbers, out=slots[turn % _SLOTS])
            ready.put(len(numbers))
    except KeyboardInterrupt:
        pass  # The main process is told too, and says so.
    except Exception as error:
        ready.put(error)

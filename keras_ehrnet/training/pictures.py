"""Pictures of a training: a batch with its targets, predictions, and how loss and score went."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from keras import ops

from keras_ehrnet.data.annotations import Sample
from keras_ehrnet.data.classification import LabelledExamples
from keras_ehrnet.data.loader import Order
from keras_ehrnet.data.targets import Batch, Examples
from keras_ehrnet.losses.maps import render_heatmaps
from keras_ehrnet.poses import Poses, draw
from keras_ehrnet.prediction import PosePredictor

_PICTURE_SIDE = 256
_LEAST_SCORE = 0.1  # of people in pictures of predictions: evaluations count far less likely ones, too
_SCORES = ("ap", "pckh@0.5", "pck@0.2", "top1")


def targets_picture(examples: Examples | LabelledExamples, order: Order, count: int) -> np.ndarray:
    """Examples of the first batches: with the people to find, and beside each where its joints' heatmaps are high.

    Of a classifier's, the images alone.
    """
    numbers = np.concatenate([order.numbers(step) for step in range(-(-count // order.batch_size))])[:count]
    batch: Batch = examples.batch(numbers)
    cells = list(batch.images) if isinstance(examples, LabelledExamples) else _with_heat(batch, examples)
    side = min(_PICTURE_SIDE, max(examples.input_size))
    return draw.grid(cells, columns=4, size=(side, side))


def _with_heat(batch: Batch, examples: Examples) -> list[np.ndarray]:
    cells = []
    for image, joints, mask in zip(batch.images, batch.joints, batch.masks, strict=True):
        people = joints[(joints[..., 2] > 0).any(axis=1)]
        found = Poses(people, np.ones(len(people)), examples.dataset.skeleton)
        cells += [draw.poses(image, found), _heat_over(image, joints, mask)]
    return cells


def _heat_over(image: np.ndarray, joints: np.ndarray, mask: np.ndarray, stride: int = 4) -> np.ndarray:
    """An image under its heatmaps in red; what does not count in the loss is dark."""
    height, width = image.shape[0] // stride, image.shape[1] // stride
    maps = ops.convert_to_numpy(render_heatmaps(joints[None], height, width, stride=stride))[0].max(axis=-1)
    grow = partial(_enlarged, size=image.shape[:2])
    faded = image * (0.3 + 0.7 * grow(mask)[..., None])
    return draw.heat(faded, grow(maps))


def _enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows = np.arange(size[0]) * values.shape[0] // size[0]
    columns = np.arange(size[1]) * values.shape[1] // size[1]
    return values[rows][:, columns].astype(np.float32)


def predictions_picture(predictor: PosePredictor, samples: Sequence[Sample], by_box: bool) -> np.ndarray:
    """Images with the likely people that a predictor finds in them, or in the boxes of those who are labelled."""
    cells = []
    for sample in samples:
        image = sample.read()
        boxes = np.array([person.box for person in sample.targets]) if by_box else None
        people = predictor.one(image, boxes)
        cells.append(draw.poses(image, people[people.scores >= _LEAST_SCORE]))
    return draw.grid(cells, columns=4, size=(_PICTURE_SIDE, _PICTURE_SIDE))


def curve_picture(logs: Sequence[Path], title: str) -> bytes | None:
    """Loss and score over the epochs, as PNG.

    Args:
        logs: Paths of the `log.csv` of a training, or of several that went on with each other's weights.
        title: str.

    Returns:
        bytes; None before the first epoch.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    runs = [list(csv.DictReader(log.open(newline="", encoding="utf-8"))) for log in logs if log.exists()]
    rows = [row for run in runs for row in run]
    if not rows:
        return None
    chart = Figure(figsize=(7, 4), layout="constrained")
    loss = chart.add_subplot()
    loss.plot(range(1, len(rows) + 1), [float(row["loss"]) for row in rows], color="tab:blue", linewidth=1)
    loss.set(xlabel="epoch", title=title)
    loss.set_ylabel("loss", color="tab:blue")
    loss.xaxis.set_major_locator(MaxNLocator(integer=True))
    for join in np.cumsum([len(run) for run in runs])[:-1]:
        loss.axvline(join + 0.5, color="gray", linestyle=":")
    # Not every training was scored.
    name = next((name for name in _SCORES if any(name in row for row in rows)), None)
    scored = [(epoch, float(row[name])) for epoch, row in enumerate(rows, start=1) if name and row.get(name)]
    if name and scored:
        score = loss.twinx()
        score.plot(*zip(*scored, strict=True), "o-", color="tab:red", markersize=4)
        score.set_ylabel(name.upper(), color="tab:red")
        score.grid(alpha=0.3)
    picture = io.BytesIO()
    chart.savefig(picture, format="png", dpi=110)
    return picture.getvalue()

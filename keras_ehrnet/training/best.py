"""The best state of a training by its score, and when to stop waiting for a better one."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import keras

from keras_ehrnet.weights.saving import read_keras


class Best:
    """Keeps the model of the best evaluation in a file.

    A score is the first figure of an evaluation, such as `ap`; more is better, and of equal ones the later has learned
    longer: networks that find nobody yet are all at 0.

    Args:
        path: `.keras` file for the best model.
        log: `log.csv` of the training, from which an interrupted one knows its scores.
        done: int. Epochs that are done; later rows of the log do not count.
        patience: int or None. Evaluations without a better score after which waiting is over; None: it never is.
        save: callable of a path. Writes the model as it is.
    """

    def __init__(self, path: Path, log: Path, done: int, patience: int | None, save: Callable[[Path], object]) -> None:
        self.path, self._patience, self._save = path, patience, save
        self.epoch, self.score, self.name = 0, float("-inf"), ""
        self._waited = 0
        if path.exists() and log.exists():
            self._recall(log, done)

    def _recall(self, log: Path, done: int) -> None:
        with log.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self.name = _score_name(rows[0]) if rows else ""
        for row in rows:
            if row.get(self.name) and int(row["epoch"]) < done:
                self._note(int(row["epoch"]), float(row[self.name]))

    def _note(self, epoch: int, score: float) -> bool:
        self._waited = 0 if score > self.score else self._waited + 1
        as_good = score >= self.score
        if as_good:
            self.epoch, self.score = epoch + 1, score
        return as_good

    def consider(self, epoch: int, figures: dict[str, float]) -> None:
        """Saves the model if this evaluation, after the epoch counted from 0, is the best so far."""
        self.name = next(iter(figures))
        if self._note(epoch, figures[self.name]):
            self._save(self.path)

    @property
    def is_over(self) -> bool:
        """Whether enough evaluations went by without a better score."""
        return self._patience is not None and self._waited >= self._patience

    def restore(self, network: keras.Model) -> None:
        """Gives a network the best weights."""
        network.set_weights(read_keras(self.path).get_weights())

    def __str__(self) -> str:
        return f"epoch {self.epoch}, {self.name} {self.score:.4g}"


_NO_SCORES = ("epoch", "learning_rate", "seconds")


def _score_name(row: dict[str, str]) -> str:
    """The first column of a log that is a figure of evaluations: losses and the course of time stand before it."""
    columns = [name for name in row if name not in _NO_SCORES and not name.endswith("loss")]
    return columns[0] if columns else ""

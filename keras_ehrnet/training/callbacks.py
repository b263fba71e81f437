"""What happens besides training: logs, progress, evaluation."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_ehrnet.support.files import write_file
from keras_ehrnet.support.terminal import progress_bar
from keras_ehrnet.training.best import Best
from keras_ehrnet.training.checkpoints import Checkpoints

if TYPE_CHECKING:
    from rich.console import Console


class Table:
    """A CSV file with a row per epoch or step, taken up again after an interruption.

    Args:
        path: the file.
        key: str. Column that counts rows, from 0.
        first: int. The first row to come; rows from there on are of an interrupted run, and dropped.
    """

    def __init__(self, path: Path, key: str, first: int) -> None:
        self._path, self._columns = path, []
        if path.exists():
            self._write([row for row in self._rows() if _is_before(row.get(key), first)])

    def add(self, row: dict[str, Any]) -> None:
        """Adds a row at the end of the file; a new column makes it written anew."""
        if not set(self._columns).issuperset(row):
            return self._write([*self._rows(), row])
        text = io.StringIO()
        csv.DictWriter(text, self._columns).writerow(row)
        try:
            with self._path.open("a", newline="") as file:
                file.write(text.getvalue())
        except OSError as error:
            raise OSError(f"{self._path} could not be written ({error.strerror or error}).") from error

    def _rows(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        with self._path.open(newline="") as file:
            return list(csv.DictReader(file))

    def _write(self, rows: list[dict[str, Any]]) -> None:
        self._columns = list(dict.fromkeys(name for row in rows for name in row if name is not None))
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        write_file(self._path, text.getvalue())


def _is_before(text: str | None, first: int) -> bool:
    # The end of a file may have been cut off in the middle of a number.
    return text is not None and text.isdigit() and int(text) < first


def take_averages(model: keras.Model) -> list[Any]:
    """Gives a model the moving averages of its weights, if its optimizer keeps them; returns the changed variables."""
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not inner.use_ema:
        return []
    model.optimizer.finalize_variable_values(model.trainable_variables)
    for variable in model.trainable_variables:
        # On JAX the average itself was put in: whatever uses up the one would take the other with it.
        variable.assign(_copied(variable))
    return model.trainable_variables


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Within it, a model has the moving averages of its weights, if its optimizer keeps them."""
    kept = [_copied(variable) for variable in model.trainable_variables]
    changed = take_averages(model)
    try:
        yield
    finally:
        for variable, value in zip(changed, kept, strict=False):
            variable.assign(value)


def _copied(variable: Any) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(variable))


class EpochEnd(keras.callbacks.Callback):
    """Evaluates, logs and saves, in this order: epochs that a checkpoint is behind are in the log.

    The learning rate it logs is that of the epoch's first step.

    Args:
        table: `Table`. Gets a row per epoch; None: nothing is written.
        checkpoints: `Checkpoints`, or None.
        evaluate: callable of no arguments that gives figures by name; it sees averaged weights.
        is_due: callable of an epoch. Whether to evaluate after it.
        say: callable of a text. Where to tell of an epoch.
        best: `Best`, or None. Hears of every evaluation.
    """

    def __init__(
        self,
        table: Table | None,
        checkpoints: Checkpoints | None,
        evaluate: Callable[[], dict[str, float]],
        is_due: Callable[[int], bool],
        say: Callable[[str], None],
        best: Best | None = None,
    ) -> None:
        super().__init__()
        self._table, self._checkpoints, self._evaluate, self._best = table, checkpoints, evaluate, best
        self._is_due, self._say = is_due, say
        self.rows: list[dict[str, float]] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._started = time.perf_counter()
        # After the epoch it is that of the next step, which may be another.
        self._rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        row = {"epoch": epoch, **{name: float(value) for name, value in (logs or {}).items()}}
        row["learning_rate"] = self._rate
        row["seconds"] = round(time.perf_counter() - self._started, 3)
        if self._is_due(epoch):
            with averaged_weights(self.model):
                figures = self._evaluate()
                row.update(figures)
                if self._best is not None and figures:
                    self._best.consider(epoch, figures)
        self.rows.append(row)
        if self._table is not None:
            self._table.add(row)
        if self._checkpoints is not None:
            self._checkpoints.save(self.model, epoch + 1)
        told = (f"{name} {value:.4g}" for name, value in row.items() if name != "epoch" and value is not None)
        self._say(f"epoch {epoch + 1}: {', '.join(told)}")


class StepLog(keras.callbacks.Callback):
    """Writes the running mean of the losses of an epoch after every step.

    Args:
        table: `Table`.
        steps_per_epoch: int.
    """

    def __init__(self, table: Table, steps_per_epoch: int) -> None:
        super().__init__()
        self._table, self._steps_per_epoch, self._epoch = table, steps_per_epoch, 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        step = self._epoch * self._steps_per_epoch + batch
        losses = {name: repr(float(value)) for name, value in (logs or {}).items()}
        self._table.add({"step": step, "epoch": self._epoch, **losses})


class StopAtBadLoss(keras.callbacks.Callback):
    """Stops where the loss of an epoch is no number any more, before that state becomes a checkpoint.

    Raises:
        ValueError: saying at which epoch.
    """

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        loss = float((logs or {}).get("loss", 0.0))
        if not np.isfinite(loss):
            raise ValueError(
                f"The loss of epoch {epoch + 1} is not finite: try a lower schedule.rate, or optimizer.clip_norm. "
                f"Received: {loss}"
            )


class StopWhere(keras.callbacks.Callback):
    """Stops after the first epoch at whose end something holds: a time is over, waiting is in vain.

    Args:
        is_over: callable of no arguments. Whether it does; asked at the end of every epoch.
    """

    def __init__(self, is_over: Callable[[], bool]) -> None:
        super().__init__()
        self._is_over = is_over

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self._is_over():
            self.model.stop_training = True


class Progress(keras.callbacks.Callback):
    """A progress bar of the whole training, with images per second, time left and the loss.

    Args:
        console: `rich.console.Console`.
        epochs: int.
        steps_per_epoch: int.
        batch_size: int.
        first: int. Epochs that are done already.
    """

    def __init__(self, console: Console, epochs: int, steps_per_epoch: int, batch_size: int, first: int) -> None:
        super().__init__()
        self._total = epochs
        self._bar = progress_bar("images", shown=console.is_terminal, console=console)
        total, done = epochs * steps_per_epoch, first * steps_per_epoch
        self._task = self._bar.add_task("steps", total=total, completed=done, per_step=batch_size)

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._bar.start()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._bar.update(self._task, description=f"epoch {epoch + 1}/{self._total}")

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._bar.advance(self._task)
        if batch % 10 == 0 and logs:
            self._bar.update(self._task, note=f"loss {float(logs['loss']):.4g}")

    def on_train_end(self, logs: dict | None = None) -> None:
        self.close()

    def close(self) -> None:
        """Takes the bar off the screen; also after an error."""
        self._bar.stop()

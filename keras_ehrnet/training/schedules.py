"""How learning rates and the width of ground-truth gaussians change in the course of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

Tensor = Any
_serializable = keras.saving.register_keras_serializable("keras_ehrnet")


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive. Received: {name}={value!r}")


@_serializable
class StepSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that is multiplied by a factor at certain epochs, after a linear warm-up.

    Args:
        rate: float. Learning rate after the warm-up.
        boundaries: epochs at whose start the rate falls, such as `(200, 260)`.
        steps_per_epoch: int. Optimizer steps of an epoch.
        factor: float. What the rate is multiplied by at each boundary.
        warmup_epochs: float. Length of the warm-up.
        warmup_rate: float. Learning rate of the first step; the rate of the warm-up rises linearly from it.

    Raises:
        ValueError: if rates, steps or the factor are not positive, or boundaries do not rise.

    Example:
        >>> from keras_ehrnet.training.schedules import StepSchedule
        >>> schedule = StepSchedule(1e-3, (200, 260), steps_per_epoch=10)
        >>> [round(float(schedule(step)), 6) for step in (0, 1999, 2000, 2600)]
        [0.001, 0.001, 0.0001, 1e-05]
    """

    def __init__(
        self,
        rate: float,
        boundaries: Sequence[float],
        steps_per_epoch: int,
        factor: float = 0.1,
        warmup_epochs: float = 0.0,
        warmup_rate: float = 1e-4,
    ) -> None:
        _check_positive(rate=rate, steps_per_epoch=steps_per_epoch, factor=factor, warmup_rate=warmup_rate)
        if list(boundaries) != sorted(set(boundaries)):
            raise ValueError(f"boundaries must rise from one to the next. Received: boundaries={boundaries!r}")
        self.rate, self.boundaries, self.steps_per_epoch = float(rate), tuple(boundaries), steps_per_epoch
        self.factor, self.warmup_epochs, self.warmup_rate = float(factor), float(warmup_epochs), float(warmup_rate)

    def __call__(self, step: Tensor) -> Tensor:
        epoch = ops.cast(step, "float32") / self.steps_per_epoch
        rate = ops.convert_to_tensor(self.rate, "float32")
        for boundary in self.boundaries:
            rate = ops.where(epoch >= boundary, rate * self.factor, rate)
        if not self.warmup_epochs:
            return rate
        rising = self.warmup_rate + (self.rate - self.warmup_rate) * epoch / self.warmup_epochs
        return ops.where(epoch < self.warmup_epochs, rising, rate)

    def get_config(self) -> dict[str, Any]:
        return {
            "rate": self.rate,
            "boundaries": self.boundaries,
            "steps_per_epoch": self.steps_per_epoch,
            "factor": self.factor,
            "warmup_epochs": self.warmup_epochs,
            "warmup_rate": self.warmup_rate,
        }


@_serializable
class TriangularSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises and falls linearly, in cycles whose peak decays: EfficientPose's schedule.

    Within a cycle the rate goes from `lambda_max / divisor` to lambda_max and back. From cycle to cycle lambda_max
    falls exponentially, from `rate` in the first to `final_rate` in the last cycle of `epochs`, and stays there. The
    paper's equation (5) is what lambda_max ends at; which number that is depends on the batch and on what the rates
    were tested to bear, so that it is an argument here; the default is a hundredth of the first.

    Args:
        rate: float. lambda_max of the first cycle.
        epochs: float. Length of the training.
        steps_per_epoch: int. Optimizer steps of an epoch.
        final_rate: float or None. lambda_max of the last cycle; `rate / 100` by default.
        cycle_epochs: float. Length of a cycle.
        divisor: float. How far below lambda_max a cycle starts and ends.

    Raises:
        ValueError: if one of the numbers is not positive.

    References:
        Groos et al. 2020, arXiv 2004.12186; Smith 2017, arXiv 1506.01186.

    Example:
        >>> from keras_ehrnet.training.schedules import TriangularSchedule
        >>> schedule = TriangularSchedule(0.3, epochs=6, steps_per_epoch=100)
        >>> [round(float(schedule(step)), 6) for step in (0, 75, 150, 300, 450)]
        [0.0001, 0.15005, 0.3, 1e-06, 0.003]
    """

    def __init__(
        self,
        rate: float,
        epochs: float,
        steps_per_epoch: int,
        final_rate: float | None = None,
        cycle_epochs: float = 3.0,
        divisor: float = 3000.0,
    ) -> None:
        final_rate = rate / 100 if final_rate is None else final_rate
        _check_positive(rate=rate, epochs=epochs, steps_per_epoch=steps_per_epoch, final_rate=final_rate)
        _check_positive(cycle_epochs=cycle_epochs, divisor=divisor)
        self.rate, self.epochs, self.steps_per_epoch = float(rate), float(epochs), steps_per_epoch
        self.final_rate, self.cycle_epochs, self.divisor = float(final_rate), float(cycle_epochs), float(divisor)

    def __call__(self, step: Tensor) -> Tensor:
        position = ops.cast(step, "float32") / (self.steps_per_epoch * self.cycle_epochs)
        cycle = ops.floor(position)
        last_cycle = max(self.epochs / self.cycle_epochs - 1.0, 1.0)
        progress = ops.minimum(cycle / last_cycle, 1.0)
        peak = self.rate * ops.power(self.final_rate / self.rate, progress)
        height = 1.0 - ops.abs(2.0 * (position - cycle) - 1.0)  # 0 at both ends of a cycle, 1 in its middle.
        return peak * (1.0 / self.divisor + (1.0 - 1.0 / self.divisor) * height)

    def get_config(self) -> dict[str, Any]:
        return {
            "rate": self.rate,
            "epochs": self.epochs,
            "steps_per_epoch": self.steps_per_epoch,
            "final_rate": self.final_rate,
            "cycle_epochs": self.cycle_epochs,
            "divisor": self.divisor,
        }


@_serializable
class StepwiseSigma(keras.callbacks.Callback):
    """Lowers the gaussians of the ground truth in steps: wide ones are found easily, narrow ones say exactly where.

    At the start of an epoch, every loss of the compiled model that has a `sigma` gets the factor of that epoch times
    the sigma it was made with. Compiled functions hold sigma as a constant, and are made anew when it changes.
    Resuming at any epoch gives the same sigma.

    Args:
        factors: mapping of epoch to factor, such as `{0: 1.0, 80: 0.7, 140: 0.5}`. Before the first epoch, 1.

    Raises:
        ValueError: if a factor is not in (0, 1]: the windows are made for the first, largest sigma.
    """

    def __init__(self, factors: Mapping[int, float] | Mapping[str, float]) -> None:
        super().__init__()
        # Epochs are texts in a configuration that went through JSON or YAML.
        self.factors = {int(epoch): float(factor) for epoch, factor in sorted(factors.items(), key=_epoch)}
        if not all(0 < factor <= 1 for factor in self.factors.values()):
            raise ValueError(f"Factors of sigma must be in (0, 1]. Received: factors={dict(factors)!r}")

    def factor(self, epoch: int) -> float:
        """What sigma is multiplied by in an epoch, counted from 0."""
        passed = [factor for start, factor in self.factors.items() if start <= epoch]
        return passed[-1] if passed else 1.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        changed = False
        for loss in keras.tree.flatten(self.model.loss):
            if not hasattr(loss, "initial_sigma"):
                continue
            sigma = loss.initial_sigma * self.factor(epoch)
            changed |= sigma != loss.sigma
            loss.sigma = sigma
        if changed:
            self.model.make_train_function(force=True)
            if self.model.test_function is not None:
                self.model.make_test_function(force=True)

    def get_config(self) -> dict[str, Any]:
        return {"factors": {str(epoch): factor for epoch, factor in self.factors.items()}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> StepwiseSigma:
        return cls(**config)


def _epoch(item: tuple[int | str, float]) -> int:
    return int(item[0])

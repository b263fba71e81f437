"""Optimizers and learning rates of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from keras_ehrnet.training import schedules
from keras_ehrnet.training.recipe import OptimizerRecipe, Recipe, ScheduleRecipe


class _PerWeight(keras.optimizers.Optimizer if TYPE_CHECKING else object):
    """What differs from weight to weight: L2 decay and the learning rate.

    Args:
        l2: float. Decay of all weights through their gradients, after clipping, as PyTorch's optimizers have it.
        factors: sequence of float. Of the learning rate, one for every trained weight; empty: 1 for all.
    """

    def __init__(self, *args: Any, l2: float = 0.0, factors: Sequence[float] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.l2, self.factors = l2, tuple(factors)

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        if self.l2:
            gradient = gradient + ops.cast(variable, gradient.dtype) * self.l2
        if self.factors:
            learning_rate = learning_rate * self.factors[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "l2": self.l2, "factors": list(self.factors)}


@keras.saving.register_keras_serializable("keras_ehrnet")
class L2Adam(_PerWeight, keras.optimizers.Adam):
    """Adam with L2 decay, `Adam(weight_decay=...)` of PyTorch, where Keras's own argument decouples it; and rates."""


@keras.saving.register_keras_serializable("keras_ehrnet")
class L2SGD(_PerWeight, keras.optimizers.SGD):
    """SGD with L2 decay, momentum seeing it, `SGD(weight_decay=...)` of PyTorch; and rates."""


_OPTIMIZERS = {
    ("adam", "l2"): (L2Adam, "l2"),
    ("adam", "decoupled"): (keras.optimizers.Adam, "weight_decay"),
    ("sgd", "l2"): (L2SGD, "l2"),
    ("sgd", "decoupled"): (keras.optimizers.SGD, "weight_decay"),
}


def make_optimizer(recipe: Recipe, steps_per_epoch: int, factors: Sequence[float] = ()) -> keras.optimizers.Optimizer:
    """The optimizer of a recipe, with its learning rate's schedule.

    Args:
        recipe: `Recipe`.
        steps_per_epoch: int.
        factors: sequence of float. Of the learning rate, one for every weight in the order of training; empty: none.
    """
    chosen: OptimizerRecipe = recipe.optimizer
    # Where no weight differs the kinds are the same; Keras's own then has two operations less for every weight.
    kind, decay = _OPTIMIZERS[chosen.name, chosen.decay if chosen.weight_decay or factors else "decoupled"]
    options: dict[str, Any] = {"momentum": chosen.momentum} if chosen.name == "sgd" else {}
    if factors:
        options["factors"] = factors
    if chosen.weight_decay:
        options[decay] = chosen.weight_decay
    if chosen.clip_norm is not None:
        options["global_clipnorm"] = chosen.clip_norm
    if chosen.ema is not None:
        options.update(use_ema=True, ema_momentum=chosen.ema)
    return kind(make_schedule(recipe.schedule, recipe.training.epochs, steps_per_epoch), **options)


def make_schedule(
    schedule: ScheduleRecipe, epochs: int, steps_per_epoch: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate of a recipe."""
    if schedule.kind == "triangular":
        return schedules.TriangularSchedule(
            schedule.rate, epochs, steps_per_epoch, schedule.final_rate, schedule.cycle_epochs, schedule.divisor
        )
    return schedules.StepSchedule(
        schedule.rate,
        schedule.boundaries,
        steps_per_epoch,
        schedule.factor,
        schedule.warmup_epochs,
        schedule.warmup_rate,
    )

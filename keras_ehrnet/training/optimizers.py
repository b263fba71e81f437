"""Optimizers and learning rates of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from keras_ehrnet.training import schedules
from keras_ehrnet.training.recipe import OptimizerRecipe, Recipe, ScheduleRecipe


class _L2Decay(keras.optimizers.Optimizer if TYPE_CHECKING else object):
    """Decay of all weights through their gradients, after clipping, as PyTorch's optimizers have it."""

    def __init__(self, *args: Any, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.l2 = l2

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        decayed = gradient + ops.cast(variable, gradient.dtype) * self.l2
        super().update_step(decayed, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "l2": self.l2}


@keras.saving.register_keras_serializable("keras_ehrnet")
class L2Adam(_L2Decay, keras.optimizers.Adam):
    """Adam with L2 decay: `Adam(weight_decay=...)` of PyTorch, where Keras's own argument decouples it."""


@keras.saving.register_keras_serializable("keras_ehrnet")
class L2SGD(_L2Decay, keras.optimizers.SGD):
    """SGD with L2 decay, momentum seeing it: `SGD(weight_decay=...)` of PyTorch."""


_OPTIMIZERS = {
    ("adam", "l2"): (L2Adam, "l2"),
    ("adam", "decoupled"): (keras.optimizers.Adam, "weight_decay"),
    ("sgd", "l2"): (L2SGD, "l2"),
    ("sgd", "decoupled"): (keras.optimizers.SGD, "weight_decay"),
}


def make_optimizer(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer of a recipe, with its learning rate's schedule."""
    chosen: OptimizerRecipe = recipe.optimizer
    # Without decay the kinds are the same; Keras's own then has two operations less for every weight.
    kind, decay = _OPTIMIZERS[chosen.name, chosen.decay if chosen.weight_decay else "decoupled"]
    options: dict[str, Any] = {"momentum": chosen.momentum} if chosen.name == "sgd" else {}
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

"""The two steps of a search: of the weights on one half of the data, of the choices on the other."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ehrnet.models.blocks import Tensor
from keras_ehrnet.search.cost import Cost
from keras_ehrnet.search.supernet import Choices, gates_of


class _Step(keras.Model):
    """Trains a part of the variables that supernet and choices have together; the others stay as they are.

    Inputs are the dict of `image`, `noise` (see `Choices`) and `temperature`.
    """

    def __init__(self, network: keras.Model, choices: Choices, loss: keras.losses.Loss, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network, self.choices, self.task_loss = network, choices, loss

    @property
    def _trained(self) -> list[keras.Variable]:
        raise NotImplementedError

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        return self._trained

    @property
    def trainable_weights(self) -> list[keras.Variable]:
        return self._trained

    @property
    def non_trainable_variables(self) -> list[keras.Variable]:
        trained = {id(variable) for variable in self._trained}
        return [variable for variable in self.variables if id(variable) not in trained]

    @property
    def non_trainable_weights(self) -> list[keras.Variable]:
        return self.non_trainable_variables

    def _heatmaps(self, inputs: dict[str, Tensor], is_hard: bool, training: bool) -> dict[str, Tensor]:
        gates = self.choices(inputs["noise"], inputs["temperature"], is_hard=is_hard)
        maps = self.network({"image": inputs["image"], "gates": gates}, training=training)
        return {**maps, "gates": gates}

    def _task_loss(self, y: dict[str, Tensor], y_pred: dict[str, Tensor], weight: Any) -> Tensor:
        return self.task_loss(y["heatmaps"], y_pred["heatmaps"], weight and weight["heatmaps"])


class WeightsStep(_Step):
    """Trains the weights of one network at a time, drawn as the choices have it."""

    @property
    def _trained(self) -> list[keras.Variable]:
        return self.network.trainable_variables

    def call(self, inputs: dict[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        return self._heatmaps(inputs, True, training)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        return self._task_loss(y, y_pred, sample_weight)


class ChoicesStep(_Step):
    """Trains the choices: `log(loss) + cost_weight * log(expected cost)`.

    With logarithms the weight has no unit: a hundredth more cost is worth `cost_weight` hundredths less loss.
    """

    def __init__(self, *args: Any, cost: Cost, cost_weight: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cost, self._cost_weight = cost, cost_weight

    @property
    def _trained(self) -> list[keras.Variable]:
        return self.choices.trainable_variables

    def call(self, inputs: dict[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        return self._heatmaps(inputs, False, training)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        gates = gates_of(self._cost.space, self.choices.probabilities())
        cost = self._cost.expected(gates, ops.einsum) / self._cost.of(self._cost.cheapest)
        return ops.log(self._task_loss(y, y_pred, sample_weight)) + self._cost_weight * ops.log(cost)


def chosen(cost: Cost, probabilities: np.ndarray, limit: float | None = None) -> tuple[int, ...]:
    """The likeliest network, or the likeliest that is found within a limit.

    Where the likeliest of every decision costs too much, the change that gives up the least likelihood for each part
    of cost that it saves is made, and again, until the network is within the limit.

    Args:
        cost: `Cost`.
        probabilities: array of the shape of gates.
        limit: float, or None. The most that it may cost.

    Raises:
        ValueError: if no network of the space is within the limit.
    """
    cost.check_limit(limit)
    logs = [np.log(np.maximum(row, 1e-12)) for row in gates_of(cost.space, probabilities)]
    taken = [int(np.argmax(row)) for row in logs]
    while limit is not None and cost.of(tuple(taken)) > limit:
        now, changes = cost.of(tuple(taken)), []
        for number, row in enumerate(logs):
            for option in range(len(row)):
                changed = (*taken[:number], option, *taken[number + 1 :])
                saved = now - cost.of(changed)
                if saved > 0:
                    changes.append(((row[taken[number]] - row[option]) / saved, changed))
        if not changes:
            return cost.cheapest
        taken = list(min(changes)[1])
    return tuple(taken)

"""Learning rates and sigma over the epochs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from keras_ehrnet.losses import HeatmapLoss
from keras_ehrnet.training.schedules import StepSchedule, StepwiseSigma, TriangularSchedule

pytestmark = pytest.mark.backend


def rates(schedule, steps) -> np.ndarray:
    return np.array([float(schedule(step)) for step in steps])


def test_steps_of_the_paper() -> None:
    schedule = StepSchedule(1e-3, (200, 260), steps_per_epoch=7)
    steps = [0, 200 * 7 - 1, 200 * 7, 260 * 7 - 1, 260 * 7, 300 * 7]
    np.testing.assert_allclose(rates(schedule, steps), [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5], rtol=1e-6)


def test_warm_up_of_compact_efficientnet() -> None:
    boundaries = range(35, 200, 30)
    schedule = StepSchedule(0.05, boundaries, steps_per_epoch=10, warmup_epochs=5, warmup_rate=1e-4)
    np.testing.assert_allclose(rates(schedule, [0, 25, 50, 349, 350]), [1e-4, 0.02505, 0.05, 0.05, 0.005], rtol=1e-5)


def test_triangles_rise_and_fall_and_decay() -> None:
    schedule = TriangularSchedule(0.3, epochs=30, steps_per_epoch=100, final_rate=0.003)
    first_cycle = rates(schedule, range(0, 301, 50))
    assert first_cycle[0] == pytest.approx(0.3 / 3000) and first_cycle[3] == pytest.approx(0.3)
    np.testing.assert_allclose(np.diff(first_cycle[:4]), np.diff(first_cycle[:4])[0], rtol=1e-4)
    peaks = rates(schedule, range(150, 3000, 300))
    np.testing.assert_allclose(peaks[1:] / peaks[:-1], (0.003 / 0.3) ** (1 / 9), rtol=1e-4)
    assert peaks[-1] == pytest.approx(0.003, rel=1e-4)
    assert float(schedule(3000 + 150)) == pytest.approx(0.003, rel=1e-4), "it does not fall any further"


@pytest.mark.parametrize(
    "schedule",
    [StepSchedule(1e-3, (2, 5), 10, warmup_epochs=1), TriangularSchedule(0.1, 9, 10)],
)
def test_schedules_are_serialisable_and_drive_an_optimizer(schedule) -> None:
    serialized = keras.optimizers.schedules.serialize(schedule)
    copy = keras.optimizers.schedules.deserialize(serialized)
    assert copy.get_config() == schedule.get_config()
    optimizer = keras.optimizers.SGD(copy, momentum=0.9)
    assert float(optimizer.learning_rate) == pytest.approx(float(schedule(0)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepSchedule(0, (1,), 10), "rate=0"),
        (lambda: StepSchedule(1e-3, (5, 2), 10), "boundaries="),
        (lambda: TriangularSchedule(0.1, 9, 0), "steps_per_epoch=0"),
        (lambda: StepwiseSigma({0: 1.5}), "factors="),
    ],
)
def test_bad_arguments(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_sigma_changes_what_is_trained_on() -> None:
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, {"heatmaps": layers.Conv2D(1, 1, kernel_initializer="zeros", name="heatmaps")(inputs)})
    loss = HeatmapLoss(stride=1, sigma=2.0)
    model.compile(keras.optimizers.SGD(0.0), loss={"heatmaps": loss})
    joints = np.array([[[[8, 8, 2]]]], np.float32)
    callback = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(StepwiseSigma({2: 0.5})))
    images = np.zeros((1, 16, 16, 3), np.float32)
    fit = {"x": images, "y": {"heatmaps": joints}, "validation_data": (images, {"heatmaps": joints}), "verbose": 0}
    history = model.fit(**fit, epochs=4, callbacks=[callback]).history
    # Predictions are zero: the loss is the sum of the squared gaussian, which falls with sigma squared.
    for name in ("loss", "val_loss"):
        values = np.array(history[name])
        assert values[0] == values[1] and values[2] == values[3]
        assert values[2] / values[0] == pytest.approx(0.25, rel=0.02), name
    assert (callback.factor(1), callback.factor(2), loss.sigma) == (1.0, 0.5, 1.0)

"""keras_ehrnet: human pose estimation for small devices, on Keras 3.

Public names are imported when they are first used, so that `import keras_ehrnet` costs nothing.
"""

from __future__ import annotations

from keras_ehrnet.support.lazy import public_names

__version__ = "0.1.0"

# Public name -> (module, attribute); None stands for the module itself.
_PUBLIC: dict[str, tuple[str, str | None]] = {
    "EfficientHRNet": ("keras_ehrnet.models.efficienthrnet", "EfficientHRNet"),
    "EfficientNet": ("keras_ehrnet.models.efficientnet", "EfficientNet"),
    "EfficientPose": ("keras_ehrnet.models.efficientpose", "EfficientPose"),
    "EfficientPoseNAS": ("keras_ehrnet.models.efficientpose_nas", "EfficientPoseNAS"),
    "KerasEhrnetError": ("keras_ehrnet.support.errors", "KerasEhrnetError"),
    "PosePredictor": ("keras_ehrnet.prediction", "PosePredictor"),
    "Poses": ("keras_ehrnet.poses", "Poses"),
    "Profile": ("keras_ehrnet.models.profile", "Profile"),
    "Skeleton": ("keras_ehrnet.skeletons", "Skeleton"),
    "profile": ("keras_ehrnet.models.profile", "profile"),
    "data": ("keras_ehrnet.data", None),
    "decode": ("keras_ehrnet.decode", None),
    "draw": ("keras_ehrnet.draw", None),
    "evaluation": ("keras_ehrnet.evaluation", None),
    "export": ("keras_ehrnet.export", None),
    "losses": ("keras_ehrnet.losses", None),
    "models": ("keras_ehrnet.models", None),
    "runtime": ("keras_ehrnet.runtime", None),
    "schedules": ("keras_ehrnet.training.schedules", None),
    "skeletons": ("keras_ehrnet.skeletons", None),
    "recipe": ("keras_ehrnet.training.recipe", None),
    "train": ("keras_ehrnet.training", "train"),
    "training": ("keras_ehrnet.training", None),
    "weights": ("keras_ehrnet.weights", None),
}

__all__ = ["__version__", *_PUBLIC]

__getattr__, _ = public_names(__name__, _PUBLIC)


def __dir__() -> list[str]:
    return sorted(__all__)

"""keras_ehrnet: human pose estimation for small devices, on Keras 3.

Public names are imported when they are first used, so that `import keras_ehrnet` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public name -> (module, attribute); None stands for the module itself.
_PUBLIC: dict[str, tuple[str, str | None]] = {
    "EfficientHRNet": ("keras_ehrnet.models.efficienthrnet", "EfficientHRNet"),
    "EfficientNet": ("keras_ehrnet.models.efficientnet", "EfficientNet"),
    "EfficientPose": ("keras_ehrnet.models.efficientpose", "EfficientPose"),
    "EfficientPoseNAS": ("keras_ehrnet.models.efficientpose_nas", "EfficientPoseNAS"),
    "PosePredictor": ("keras_ehrnet.predictor", "PosePredictor"),
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
    "schedules": ("keras_ehrnet.schedules", None),
    "skeletons": ("keras_ehrnet.skeletons", None),
    "recipe": ("keras_ehrnet.recipe", None),
    "training": ("keras_ehrnet.training", None),
    "weights": ("keras_ehrnet.weights", None),
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module_name, attribute = _PUBLIC[name]
    module = import_module(module_name)
    value = module if attribute is None else getattr(module, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

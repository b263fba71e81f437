"""keras_ehrnet: human pose estimation for small devices, on Keras 3.

Public names are imported when they are first used, so that `import keras_ehrnet` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_ehrnet.support.lazy import public_names
from keras_ehrnet.support.version import __version__ as __version__

if TYPE_CHECKING:
    from keras_ehrnet import data as data
    from keras_ehrnet import decode as decode
    from keras_ehrnet import evaluation as evaluation
    from keras_ehrnet import export as export
    from keras_ehrnet import losses as losses
    from keras_ehrnet import models as models
    from keras_ehrnet import runtime as runtime
    from keras_ehrnet import skeletons as skeletons
    from keras_ehrnet import training as training
    from keras_ehrnet import weights as weights
    from keras_ehrnet.models.efficienthrnet import EfficientHRNet as EfficientHRNet
    from keras_ehrnet.models.efficientnet import EfficientNet as EfficientNet
    from keras_ehrnet.models.efficientpose import EfficientPose as EfficientPose
    from keras_ehrnet.models.efficientpose_nas import EfficientPoseNAS as EfficientPoseNAS
    from keras_ehrnet.models.profile import Profile as Profile
    from keras_ehrnet.models.profile import profile as profile
    from keras_ehrnet.poses import Poses as Poses
    from keras_ehrnet.poses import draw as draw
    from keras_ehrnet.prediction import PosePredictor as PosePredictor
    from keras_ehrnet.prediction import frames as frames
    from keras_ehrnet.search.run import search as search
    from keras_ehrnet.skeletons import Skeleton as Skeleton
    from keras_ehrnet.support.errors import KerasEhrnetError as KerasEhrnetError
    from keras_ehrnet.training import recipe as recipe
    from keras_ehrnet.training import schedules as schedules
    from keras_ehrnet.training import train as train

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
    "draw": ("keras_ehrnet.poses.draw", None),
    "evaluation": ("keras_ehrnet.evaluation", None),
    "export": ("keras_ehrnet.export", None),
    "frames": ("keras_ehrnet.prediction", "frames"),
    "losses": ("keras_ehrnet.losses", None),
    "models": ("keras_ehrnet.models", None),
    "runtime": ("keras_ehrnet.runtime", None),
    "schedules": ("keras_ehrnet.training.schedules", None),
    "search": ("keras_ehrnet.search", None),
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

"""Every model by name: how to build it, and what its paper says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from keras_ehrnet.models.searched import SearchedBackbone, is_blocks_file, read_backbone
from keras_ehrnet.skeletons import COCO_17, MPII_16, Skeleton
from keras_ehrnet.support.messages import suggestion
from keras_ehrnet.weights.registry import REGISTRY

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Variant:
    """One model by name.

    Args:
        family: str. Key of `keras_ehrnet.families.FAMILIES`.
        build: callable. Takes the builder's keyword arguments and returns a `keras.Model`.
        input_size: tuple (height, width) that it is meant for, in pixels.
        parameters: float or None. The paper's figure, in millions; None where the paper does not have the model.
        flops: float or None. The paper's figure, in billions.
        score: str. The paper's accuracy, with its measure.
        skeleton: `Skeleton` of the paper's weights; None where there is no paper, or no skeleton as of a classifier.
    """

    family: str
    build: Callable[..., keras.Model]
    input_size: tuple[int, int]
    parameters: float | None
    flops: float | None
    score: str
    skeleton: Skeleton | None = None

    @property
    def is_published(self) -> bool:
        """Whether a paper has it, rather than its formulas or a search alone."""
        return self.parameters is not None

    def build_for(self, skeleton: Skeleton | None, **options: Any) -> keras.Model:
        """The model with the keypoints of a skeleton, and its limbs where the family has them.

        Args:
            skeleton: `Skeleton`, or None for the paper's.
            options: further keyword arguments of the builder.

        Returns:
            `keras.Model`.

        Example:
            >>> from keras_ehrnet.models.variants import variant
            >>> from keras_ehrnet.skeletons import LSP_14
            >>> variant("efficientpose-a").build_for(LSP_14).output["heatmaps"].shape[-1]
            14
        """
        if skeleton is not None:
            options["num_keypoints"] = skeleton.num_joints
            if self.family == "efficientpose" and skeleton.limbs:
                options["num_limbs"] = len(skeleton.limbs)
        return self.build(**options)


def _efficienthrnet(phi: int, **options: Any) -> keras.Model:
    from keras_ehrnet.models.efficienthrnet import EfficientHRNet

    return EfficientHRNet(phi, **options)


def _efficientpose(variant: str, **options: Any) -> keras.Model:
    from keras_ehrnet.models.efficientpose import EfficientPose

    return EfficientPose(variant, **options)


def _efficientpose_nas(blocks: str | SearchedBackbone, **options: Any) -> keras.Model:
    from keras_ehrnet.models.efficientpose_nas import EfficientPoseNAS

    return EfficientPoseNAS(blocks, **options)


def _efficientnet(phi: int, **options: Any) -> keras.Model:
    from keras_ehrnet.models.efficientnet import EfficientNet

    return EfficientNet(phi, **options)


_EFFICIENTHRNET_PAPER = (
    (0, 23.3, 25.6, 64.8),
    (-1, 16.0, 14.2, 59.2),
    (-2, 10.3, 7.7, 52.9),
    (-3, 6.9, 4.2, 44.8),
    (-4, 3.7, 2.1, 35.7),
)
_EFFICIENTPOSE_PAPER = (
    ("RT", 224, 0.46, 0.87, "82.88 / 23.56"),
    ("I", 256, 0.72, 1.67, "85.18 / 26.49"),
    ("II", 368, 1.73, 7.70, "88.18 / 30.17"),
    ("III", 480, 3.23, 23.35, "89.51 / 30.90"),
    ("IV", 600, 6.56, 72.89, "89.75 / 35.63"),
    ("RT_LITE", 224, 0.40, 0.86, "80.6 / 23.1"),
    ("I_LITE", 256, 0.59, 1.54, "83.7 / 27.7"),
    ("II_LITE", 368, 1.46, 7.25, "87.1 / 30.8"),
)
_EFFICIENTPOSE_NAS_PAPER = (("A", 1.3, 0.5, 66.5), ("B", 3.3, 1.1, 71.1), ("C", 5.0, 1.6, 71.3))
# The paper prints 1.3M for B-4, which is its count with 100 classes.
_EFFICIENTNET_PAPER = ((0, 5.3, 75.0), (-1, 4.5, 73.8), (-2, 3.4, 71.3), (-3, 2.8, 68.5), (-4, 1.3, 65.6))
_EFFICIENTNET_SIDES = {0: 224, -1: 195, -2: 170, -3: 145, -4: 128}


def _all_variants() -> dict[str, Variant]:
    variants: dict[str, Variant] = {}
    for phi, parameters, flops, score in _EFFICIENTHRNET_PAPER:
        build, side = partial(_efficienthrnet, phi), 512 + 32 * phi
        variants[f"h{phi}"] = Variant("efficienthrnet", build, (side, side), parameters, flops, f"AP {score}", COCO_17)
    for phi, lite in [(phi, False) for phi in (1, 2, 3)] + [(phi, True) for phi in range(3, -5, -1)]:
        build, side = partial(_efficienthrnet, phi, lite=lite), 512 + 32 * phi
        variants[f"h{phi}" + "-lite" * lite] = Variant("efficienthrnet", build, (side, side), None, None, "", COCO_17)
    for name, side, parameters, flops, score in _EFFICIENTPOSE_PAPER:
        key, build = f"efficientpose-{name.lower().replace('_', '-')}", partial(_efficientpose, name)
        variants[key] = Variant(
            "efficientpose", build, (side, side), parameters, flops, f"PCKh@50/@10 {score}", MPII_16
        )
    for name, parameters, flops, score in _EFFICIENTPOSE_NAS_PAPER:
        key, build = f"efficientpose-{name.lower()}", partial(_efficientpose_nas, name)
        variants[key] = Variant("efficientpose_nas", build, (256, 192), parameters, flops, f"AP {score}", COCO_17)
    for phi, parameters, score in _EFFICIENTNET_PAPER:
        build, side = partial(_efficientnet, phi), _EFFICIENTNET_SIDES[phi]
        variants[f"efficientnet-b{phi}"] = Variant(
            "efficientnet", build, (side, side), parameters, None, f"top-1 {score}"
        )
    return variants


VARIANTS: dict[str, Variant] = _all_variants()


def names(*, weights: bool = False) -> list[str]:
    """Names of models.

    Args:
        weights: bool. Whether to list only what has weights to share, which `PosePredictor.load(name)` takes as it is;
            the package's own weights have names of their own. What else is known of them: `weights.entry(name)`.

    Returns:
        List of str: what builds a model in recipes and on the command line, `variant(name)` tells more.

    Example:
        >>> import keras_ehrnet as ke
        >>> ke.models.list()[:3], "efficientpose-rt-coco" in ke.models.list(weights=True)
        (['h0', 'h-1', 'h-2'], True)
    """
    return [*(REGISTRY if weights else VARIANTS)]


def variant(name: str) -> Variant:
    """The model of that name: the papers' or, named by the `.json` file of its blocks, what a search found.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for an unknown name; the message names the nearest known one.

    Example:
        >>> from keras_ehrnet.models.variants import variant
        >>> variant("h-2").input_size
        (448, 448)
    """
    if is_blocks_file(name):
        searched = read_backbone(name)
        build = partial(_efficientpose_nas, searched)
        score = str(searched.about.get("score", ""))
        return Variant("efficientpose_nas", build, searched.input_size, None, None, score)
    if name not in VARIANTS:
        raise ValueError(f"Unknown model. {suggestion(name, VARIANTS)} Received: {name!r}")
    return VARIANTS[name]


def usual_input_size(model: keras.Model) -> tuple[int, int]:
    """(height, width) in pixels of a model's own input, or of its paper's where it takes any.

    Raises:
        ValueError: if it takes any size, and no paper tells.
    """
    own = tuple(model.input_shape[1:3])
    if None not in own:
        return own
    if model.name in VARIANTS:
        return VARIANTS[model.name].input_size
    raise ValueError(
        f"Model {model.name!r} takes images of any size: say which with input_size=(height, width). "
        f"Received: input shape {model.input_shape}"
    )

"""EfficientHRNet: multi-person pose, bottom-up. EfficientNet backbone, high-resolution network, heatmaps and tags."""

from __future__ import annotations

import keras
from keras import layers

from keras_ehrnet.families import FAMILIES
from keras_ehrnet.models import blocks, efficientnet
from keras_ehrnet.models.blocks import Style, Tensor
from keras_ehrnet.models.scaling import EFFICIENTNET_SCALING, HighResolutionScaling, efficienthrnet_scaling
from keras_ehrnet.support.messages import suggests_keywords
from keras_ehrnet.support.pinned import pinned
from keras_ehrnet.weights.formats import WeightsSource

# Only the 3x3/2 convolutions of the fusions stride here, and they pad on both sides alike.
STYLE = Style("relu", symmetric_padding=True)


@suggests_keywords
@pinned
def EfficientHRNet(  # noqa: N802
    phi: int = 0,
    *,
    num_keypoints: int = 17,
    input_shape: tuple[int | None, int | None, int] | None = None,
    include_preprocessing: bool = True,
    weights: WeightsSource | None = None,
    lite: bool = False,
    drop_rate: float = 0.2,
    name: str | None = None,
) -> keras.Model:
    """EfficientHRNet H-4..H0, and the same formulas up to H3: people in an image, bottom-up.

    The backbone's maps at strides 4, 8, 16 and 32 enter a high-resolution network, whose finest branch gives
    heatmaps (where the joints are) and tags (which joints belong together: associative embedding).

    Args:
        phi: int. Compound coefficient, from -4 to 3. The paper has 0..-4; above 0 see `efficienthrnet_scaling`.
        num_keypoints: int. K, joints per person.
        input_shape: tuple (height, width, 3), or None. Multiples of 32; sides may be None (any size). The default
            leaves both free; the paper's sizes are 512 + 32 phi.
        include_preprocessing: bool. If True the input is RGB in [0, 255], normalized inside the graph; if False it is
            normalized already (ImageNet mean and deviation).
        weights: str, path or mapping, or None. What `keras_ehrnet.weights.load` takes.
        lite: bool. Backbone without squeeze-excitation and with ReLU6, for integer hardware.
        drop_rate: float. Largest rate of stochastic depth in the backbone.
        name: str or None. Name of the model.

    Returns:
        `keras.Model` whose outputs are a dict: `"heatmaps_4"` and `"tags_4"` of shape `(B, H/4, W/4, K)`,
        `"heatmaps_2"` of shape `(B, H/2, W/2, K)`.

    Raises:
        ValueError: for an unknown phi, or an input shape that does not divide.

    References:
        Neff et al. 2020, arXiv 2007.08090.

    Example:
        >>> import keras_ehrnet as ke
        >>> model = ke.EfficientHRNet(phi=-4, input_shape=(128, 160, 3))
        >>> model.output["heatmaps_2"].shape
        (None, 64, 80, 17)
    """
    scaling = efficienthrnet_scaling(phi)
    blocks.check_count(num_keypoints, "num_keypoints")
    shape = blocks.check_input_shape(input_shape, (None, None, 3), FAMILIES["efficienthrnet"].multiple)
    inputs = blocks.image_input(shape)
    x = blocks.preprocess(inputs, lite=lite) if include_preprocessing else inputs
    stages = efficientnet.backbone(
        x,
        efficientnet.LITE_STYLE if lite else efficientnet.STYLE,
        EFFICIENTNET_SCALING[phi],
        lite=lite,
        drop_rate=drop_rate,
    )
    features = [stages[stage - 1] for stage in efficientnet.FEATURE_STAGES.values()]
    outputs = _head(_high_resolution_network(features, scaling), scaling.branch_widths[0], num_keypoints)
    model = keras.Model(inputs, outputs, name=name or f"h{phi}" + ("-lite" if lite else ""))
    return blocks.finish(model, weights)


def _high_resolution_network(features: list[Tensor], scaling: HighResolutionScaling) -> Tensor:
    """Stages 2, 3 and 4: one branch more each; returns the finest branch."""
    branches = [_transition(features[0], scaling.branch_widths[0], "transition1_branch0")]
    for number, modules in enumerate(scaling.modules, start=2):
        if number > 2:
            branches = [
                _transition(branch, branch.shape[-1], f"transition{number - 1}_branch{index}")
                for index, branch in enumerate(branches)
            ]
        new = number - 1
        branches.append(_transition(features[new], scaling.branch_widths[new], f"transition{new}_branch{new}"))
        for module in range(modules):
            is_last = number == 4 and module == modules - 1
            branches = _module(branches, f"stage{number}_module{module}", num_outputs=1 if is_last else number)
    return branches[0]


def _transition(x: Tensor, width: int, name: str) -> Tensor:
    x = blocks.conv(x, STYLE, width, 3, use_bias=True, name=f"{name}_conv")
    x = blocks.batch_norm(x, STYLE, f"{name}_bn")
    return blocks.activation(x, "relu", f"{name}_relu")


def _module(branches: list[Tensor], name: str, num_outputs: int) -> list[Tensor]:
    """A high-resolution module: residual blocks in every branch, then every branch into every other by sum."""
    for block in range(2):
        branches = [
            _residual_block(branch, f"{name}_branch{index}_block{block}") for index, branch in enumerate(branches)
        ]
    outputs = []
    for target in range(num_outputs):
        paths = [
            _fusion_path(branches, source, target, f"{name}_fuse{target}_from{source}")
            for source in range(len(branches))
        ]
        x = layers.Add(name=f"{name}_fuse{target}_add")(paths)
        outputs.append(blocks.activation(x, "relu", f"{name}_fuse{target}_relu"))
    return outputs


def _residual_block(x: Tensor, name: str) -> Tensor:
    """Two 3x3 convolutions and the input (the paper's text says three; its counts and its code have two)."""
    inputs, width = x, x.shape[-1]
    x = blocks.conv(x, STYLE, width, 3, name=f"{name}_conv1")
    x = blocks.batch_norm(x, STYLE, f"{name}_bn1")
    x = blocks.activation(x, "relu", f"{name}_relu1")
    x = blocks.conv(x, STYLE, width, 3, name=f"{name}_conv2")
    x = blocks.batch_norm(x, STYLE, f"{name}_bn2")
    x = layers.Add(name=f"{name}_add")([x, inputs])
    return blocks.activation(x, "relu", f"{name}_relu2")


def _fusion_path(branches: list[Tensor], source: int, target: int, name: str) -> Tensor:
    """One branch on its way into another: enlarged from coarser ones, strided down from finer ones."""
    x, width = branches[source], branches[target].shape[-1]
    if source == target:
        return x
    if source > target:
        x = blocks.conv(x, STYLE, width, 1, name=f"{name}_conv0")
        x = blocks.batch_norm(x, STYLE, f"{name}_bn0")
        return blocks.upsample_nearest(x, 2 ** (source - target), f"{name}_upsample")
    steps = target - source
    for step in range(steps):
        is_last = step == steps - 1
        x = blocks.conv(x, STYLE, width if is_last else x.shape[-1], 3, strides=2, name=f"{name}_conv{step}")
        x = blocks.batch_norm(x, STYLE, f"{name}_bn{step}")
        if not is_last:
            x = blocks.activation(x, "relu", f"{name}_relu{step}")
    return x


def _head(features: Tensor, width: int, num_keypoints: int) -> dict[str, Tensor]:
    """Heatmaps and tags at stride 4, and from them and the features the heatmaps at stride 2."""
    heatmaps_4 = blocks.map_conv(features, num_keypoints, "heatmaps_4")
    tags_4 = blocks.map_conv(features, num_keypoints, "tags_4")
    x = layers.Concatenate(name="head_concat")([features, heatmaps_4, tags_4])
    x = layers.Conv2DTranspose(width, 4, 2, "same", use_bias=False, name="head_deconv")(x)
    x = blocks.batch_norm(x, STYLE, "head_bn")
    x = blocks.activation(x, "relu", "head_relu")
    for block in range(2):
        x = _residual_block(x, f"head_block{block}")
    return {"heatmaps_4": heatmaps_4, "tags_4": tags_4, "heatmaps_2": blocks.map_conv(x, num_keypoints, "heatmaps_2")}

"""The first three stages of the published EfficientPose RT as a start for EfficientHRNet H0.

python training/own_weights/backbone.py EfficientPoseRT.h5 packs/h0-rt.weights.h5

Both begin as EfficientNet-B0 does: stem, and stages 1 to 3. RT's were trained on ImageNet, then on people (Apache-2.0).
The recipe key `model.transfer=fitting` takes them from the file and leaves the rest of H0 as it is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from parts import run_app

if TYPE_CHECKING:
    import keras

STAGES = 3

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def backbone(source: Path) -> keras.Model:
    """The first layers of H0 with the weights of RT.

    Args:
        source: Path of the published `EfficientPoseRT.h5`, or a registered name.

    Returns:
        `keras.Model` from images to the features at stride 8.

    Raises:
        ValueError: if the file is not the published one.
    """
    import keras

    import keras_ehrnet as ke
    from keras_ehrnet.models import blocks, efficientnet
    from keras_ehrnet.models.scaling import EFFICIENTNET_SCALING

    published = ke.EfficientPose("RT", weights=str(source))
    inputs = blocks.image_input((None, None, 3))
    x, scaling = blocks.preprocess(inputs, lite=False), EFFICIENTNET_SCALING[0]
    stages = efficientnet.backbone(x, efficientnet.STYLE, scaling, num_stages=STAGES)
    first = keras.Model(inputs, stages[-1], name="h0-first-stages")
    for layer in first.layers:
        if not layer.weights:
            continue
        twin = published.get_layer(_twin_name(layer.name))
        values = twin.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):
            # The variance is moved so that both add up to the same with their different epsilons.
            values[3] = values[3] + twin.epsilon - layer.epsilon
        layer.set_weights(values)
    return first


def _twin_name(name: str) -> str:
    """EfficientPose tells its two backbones apart: `stem_conv_high`, `block1a_high_bn`."""
    block, _, part = name.partition("_")
    return f"{name}_high" if block == "stem" else f"{block}_high_{part}"


@app.command()
def main(
    source: Annotated[Path, typer.Argument(help="EfficientPoseRT.h5 as published.")],
    target: Annotated[Path, typer.Argument(help="Where to write, ending in .weights.h5.")],
) -> None:
    """Write the weights that H0 can start from."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    target.parent.mkdir(parents=True, exist_ok=True)
    model = backbone(source)
    model.save_weights(target)
    print(f"{model.count_params():,} weights: {target}")


if __name__ == "__main__":
    run_app(app)

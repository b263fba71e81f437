"""Networks as a predictor sees them: images in, named maps out, whatever runs them."""

from __future__ import annotations

import hashlib
import os
import zipfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from keras_ehrnet import skeletons
from keras_ehrnet.errors import suggestion
from keras_ehrnet.models.families import family_of
from keras_ehrnet.models.variants import VARIANTS
from keras_ehrnet.skeletons import Skeleton

if TYPE_CHECKING:
    import keras


class Network(Protocol):
    """What a predictor needs of a network.

    Attributes:
        name: str. For people to read.
        family: str. Key of `keras_ehrnet.models.families.FAMILIES`; decides how its maps are decoded.
        skeleton: `Skeleton` of its keypoints.
        input_size: tuple (height, width) that it was made for, in pixels.
        any_size: bool. Whether it takes other sizes too.
        decode: str. `"none"`: it gives maps. `"peaks"`, `"poses"`: what an exported model decodes by itself (its
            layouts are those of `keras_ehrnet.export.tflite`). A network that does not tell gives maps.
    """

    name: str
    family: str
    skeleton: Skeleton
    input_size: tuple[int, int]
    any_size: bool

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Maps (or what is decoded from them) for a batch of uint8 RGB images of shape `(B, H, W, 3)`."""

    def digest(self) -> str:
        """Checksum of the weights: tells one checkpoint of a model from another."""


class KerasNetwork:
    """A Keras model behind the interface of `Network`.

    Args:
        model: `keras.Model` with preprocessing in its graph, from one of this package's builders.
        skeleton: `Skeleton`, or None for the one that the number of keypoints suggests.
        input_size: tuple (height, width), or None for the model's own, or its paper's.

    Raises:
        ValueError: if the model gives no heatmaps, or its size is not known.
    """

    def __init__(
        self, model: keras.Model, skeleton: Skeleton | None = None, input_size: tuple[int, int] | None = None
    ) -> None:
        outputs = model.output if isinstance(model.output, dict) else {}
        heatmaps = outputs.get("heatmaps", outputs.get("heatmaps_4"))
        if heatmaps is None:
            raise ValueError(
                "A pose network has an output named 'heatmaps' or 'heatmaps_4'. "
                f"Received: model {model.name!r} with outputs {sorted(outputs) or model.output_names}"
            )
        self.model = model
        self.decode = "none"
        self.name = model.name
        self.family = family_of(outputs)
        self.skeleton = skeleton or skeletons.generic(heatmaps.shape[-1])
        if self.skeleton.num_joints != heatmaps.shape[-1]:
            raise ValueError(
                f"Model {model.name!r} has {heatmaps.shape[-1]} keypoints. "
                f"Received: skeleton {self.skeleton.name!r} with {self.skeleton.num_joints}"
            )
        if not any(layer.name == "preprocessing" for layer in model.layers):
            raise ValueError(
                "A predictor passes RGB in [0, 255], which the model must normalise itself: build it with "
                f"include_preprocessing=True. Received: model {model.name!r}"
            )
        own_size = tuple(model.input_shape[1:3])
        self.any_size = own_size == (None, None)
        self.input_size = _usual_size(model, own_size) if input_size is None else _checked_size(model, input_size)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = self.model.predict_on_batch(images)
        return {name: np.asarray(maps, np.float32) for name, maps in outputs.items()}

    def digest(self) -> str:
        """Checksum of the weights: tells one checkpoint of a model from another."""
        checksum = hashlib.sha256()
        for weight in self.model.get_weights():
            checksum.update(np.ascontiguousarray(weight).tobytes())
        return checksum.hexdigest()


STRIDES = {"efficienthrnet": 32, "efficientpose": 8, "efficientpose_nas": 16}
"""What input sizes must be multiples of."""


def _checked_size(model: keras.Model, input_size: tuple[int, int]) -> tuple[int, int]:
    own, stride = tuple(model.input_shape[1:3]), STRIDES[family_of(model.output)]
    size = tuple(input_size) if isinstance(input_size, (tuple, list)) else ()
    if len(size) != 2 or not all(hasattr(side, "__index__") and side > 0 and side % stride == 0 for side in size):
        raise ValueError(f"input_size is (height, width), multiples of {stride}. Received: {input_size!r}")
    if any(side not in (None, given) for side, given in zip(own, size, strict=True)):
        raise ValueError(f"Model {model.name!r} takes images of size {own}. Received: input_size={size}")
    return size


def _usual_size(model: keras.Model, own_size: tuple[int | None, int | None]) -> tuple[int, int]:
    if None not in own_size:
        return own_size
    if model.name in VARIANTS:
        return VARIANTS[model.name].input_size
    raise ValueError(
        f"Model {model.name!r} takes images of any size: say which with input_size=(height, width). "
        f"Received: input shape {model.input_shape}"
    )


def load(
    source: str | Path | keras.Model,
    *,
    weights: object = None,
    skeleton: Skeleton | None = None,
    input_size: tuple[int, int] | None = None,
) -> Network:
    """A network from a model of the papers by name, from a file, or from a model in hand.

    Args:
        source: `keras.Model`, the path of a `.keras`, `.tflite` or `.onnx` file, or a name such as `"h-2"` or
            `"efficientpose-rt"`. Exported files need neither Keras nor TensorFlow.
        weights: what `keras_ehrnet.weights.load` takes; None: for a name, the published weights if there are any.
        skeleton: `Skeleton`, or None for the one that fits.
        input_size: tuple (height, width), or None for the usual one.

    Returns:
        `Network`.

    Raises:
        ValueError: if there is no such model or file, or no weights for it.
    """
    if is_exported(source):
        return _exported(Path(source), weights, skeleton, input_size)
    import keras

    if isinstance(source, keras.Model):
        model = source
    elif str(source) in VARIANTS:
        model = _named(str(source), weights)
        weights = None
    else:
        model = _read(Path(source))
    if weights is not None:
        from keras_ehrnet import weights as weights_module

        weights_module.load(model, weights)
    return KerasNetwork(model, skeleton, input_size)


_RUNTIMES = {".tflite": ("keras_ehrnet.runtime.network", "load"), ".onnx": ("keras_ehrnet.runtime.onnx", "OnnxNetwork")}


def is_exported(source: object) -> bool:
    """Whether a source is named like an exported file, which needs no Keras."""
    return isinstance(source, (str, os.PathLike)) and Path(source).suffix in _RUNTIMES


def _exported(path: Path, weights: object, skeleton: Skeleton | None, input_size: tuple[int, int] | None) -> Network:
    """An exported file brings everything along; what does not agree with it is a mistake."""
    if weights is not None:
        raise ValueError(f"An exported file holds its weights. Received: weights={weights!r} for {path}")
    module, loader = _RUNTIMES[path.suffix]
    network = getattr(import_module(module), loader)(path)
    if input_size is not None and tuple(input_size) != tuple(network.input_size):
        raise ValueError(f"{path} takes images of size {network.input_size}. Received: input_size={input_size}")
    if skeleton is not None and skeleton.num_joints != network.skeleton.num_joints:
        raise ValueError(
            f"{path} has {network.skeleton.num_joints} keypoints. "
            f"Received: skeleton {skeleton.name!r} with {skeleton.num_joints}"
        )
    network.skeleton = skeleton or network.skeleton
    return network


def _named(name: str, weights: object) -> keras.Model:
    from keras_ehrnet.weights import REGISTRY

    if weights is None and name not in REGISTRY:
        raise ValueError(
            f"No weights with a licence to share are published for {name!r}. Pass your own copy as weights=..., or "
            f"choose a model that has them: {', '.join(sorted(REGISTRY))}."
        )
    return VARIANTS[name].build(weights=name if weights is None else weights)


def _read(path: Path) -> keras.Model:
    import keras

    if not path.is_file():
        raise ValueError(
            f"There is no model or file of that name. {suggestion(str(path), VARIANTS)} Received: {str(path)!r}"
        )
    if path.suffix != ".keras":
        raise ValueError(
            "A model file ends in .keras, .tflite or .onnx; weights alone need the name of their model beside them. "
            f"Received: {str(path)!r}"
        )
    try:
        return keras.models.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile) as error:
        from keras_ehrnet.weights.formats import damaged

        reason = "it is cut short or damaged" if not zipfile.is_zipfile(path) else str(error).strip().splitlines()[0]
        raise ValueError(damaged(path, reason).replace("weights file", "model file")) from error

"""ONNX files behind the interface of `keras_ehrnet.runtime.Network`: NumPy and onnxruntime, no TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from keras_ehrnet.families import side_multiple
from keras_ehrnet.metadata import Metadata, need_seal, onnx_parts
from keras_ehrnet.runtime.network import in_batches, need_agreement
from keras_ehrnet.support.errors import ImageError, ModelError, reading, reason
from keras_ehrnet.support.files import sha256
from keras_ehrnet.support.messages import is_size

# On CPUs its blocked convolutions are some tenths faster, but move EfficientPose's maps by 0.2 % of their deviation.
_INEXACT_OPTIMIZERS = ["NchwcTransformer"]


class OnnxNetwork:
    """An exported `.onnx` file as a network: images in, named maps out.

    It may be called from any number of threads. Pickled, it is opened again from its file.

    Args:
        path: str or Path of a file that `keras_ehrnet.export.onnx` wrote.
        threads: int, or None for as many as onnxruntime finds sensible.

    Attributes:
        session: `onnxruntime.InferenceSession`, for what this class does not offer.
        metadata: `keras_ehrnet.metadata.Metadata` of the file.
        name, family, skeleton, input_size, any_size, decode, multi_person, min_score: as of
            `keras_ehrnet.runtime.Network`.

    Raises:
        FileNotFoundError: if there is no such file.
        ModelError: if it is no ONNX file, or none of this package.
        ValueError: if onnxruntime is not installed.

    Example:
        >>> from keras_ehrnet.runtime.onnx import OnnxNetwork
        >>> network = OnnxNetwork("efficientpose-rt.onnx")  # doctest: +SKIP
        >>> network.skeleton.name  # doctest: +SKIP
        'mpii_16'
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        self.path = Path(path)
        self._threads = threads
        self.metadata = _metadata(self.path)
        self.session = _session(self.path, threads)
        self.name = self.metadata.name
        self.family = self.metadata.family
        self.skeleton = self.metadata.skeleton
        self.input_size = self.metadata.input_size
        self.decode = self.metadata.decode
        self.multi_person = self.metadata.multi_person
        self.min_score = self.metadata.min_score
        image = self.session.get_inputs()[0]
        outputs = {output.name: tuple(output.shape) for output in self.session.get_outputs()}
        # What is of any size has a name there, or nothing.
        self.any_size = not any(isinstance(side, int) for side in image.shape[1:3])
        sides = self.input_size if self.any_size else image.shape[1:3]
        need_agreement(self.metadata, {image.name: (image.shape[0], *sides, *image.shape[3:])}, outputs, self.path)
        self._batch = image.shape[0] if isinstance(image.shape[0], int) else None
        self._outputs = list(outputs)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Maps, or what is decoded from them, for a batch of uint8 RGB images of shape `(B, H, W, 3)`.

        Raises:
            ImageError: for images of a size that the file does not take.
            ModelError: if onnxruntime cannot run it.
        """
        images = np.asarray(images)
        if self.any_size:
            self._check_size(images)
        return in_batches(self._run, images, self._batch)

    def _check_size(self, images: np.ndarray) -> None:
        """Of other sizes, maps of several strides do not fit each other."""
        multiple = side_multiple(self.family, self.multi_person)
        if images.ndim != 4 or not is_size(images.shape[1:3], multiple):
            raise ImageError(
                f"{self.name!r} takes images (batch, height, width, 3) whose height and width are multiples of "
                f"{multiple}. Received: images of shape {images.shape}"
            )

    def _run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        batch = np.ascontiguousarray(images, self.metadata.input.dtype)
        try:
            maps = self.session.run(self._outputs, {self.metadata.input.name: batch})
        except Exception as error:  # onnxruntime's own errors share no class
            raise ModelError(f"The model does not run ({reason(error)}). Received: {self.path}") from error
        return dict(zip(self._outputs, maps, strict=True))

    def digest(self) -> str:
        """Checksum of the file: tells one checkpoint of a model from another."""
        return sha256(self.path)

    def __getstate__(self) -> dict[str, Any]:
        # Whoever opens it again may be at work in another folder.
        return {**self.__dict__, "session": None, "path": self.path.absolute()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.session = _session(self.path, self._threads)

    def __repr__(self) -> str:
        height, width = self.input_size
        return f"OnnxNetwork({self.name}, {self.skeleton.name}, input {width}x{height}, batch {self._batch or 'any'})"


def _session(path: Path, threads: int | None):
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            "Running an ONNX file needs onnxruntime: pip install 'keras-ehrnet[onnx]'. Received: no module "
            "'onnxruntime'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        # Providers as the installed onnxruntime ranks them: GPUs where its build and the machine have them.
        return onnxruntime.InferenceSession(
            str(path),
            options,
            providers=onnxruntime.get_available_providers(),
            disabled_optimizers=_INEXACT_OPTIMIZERS,
        )
    except Exception as error:  # onnxruntime's own errors share no class
        raise ModelError(
            f"{path} is no ONNX file, or a damaged one ({reason(error)}). Received: {str(path)!r}"
        ) from error


def _metadata(path: Path) -> Metadata:
    """What the file says, once it is seen that it is the one that was written."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no such file. Received: {str(path)!r}")
    with reading(ModelError, path, "The ONNX file"):
        model, text = onnx_parts(path.read_bytes())
    if text is None:
        raise ModelError(
            "The ONNX file says nothing about its keypoints: write it with keras_ehrnet.export.onnx, or run it with "
            f"onnxruntime itself. Received: {str(path)!r}"
        )
    about = Metadata.from_json(text, path)
    need_seal([model], text, about, path)
    return about

"""Reading weight files: every format becomes a mapping from tensor names to arrays."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_ehrnet import metadata
from keras_ehrnet.skeletons import MPII_16, Skeleton
from keras_ehrnet.support.errors import WeightsError, is_mistake, reason
from keras_ehrnet.support.files import sha256
from keras_ehrnet.weights import layouts, registry
from keras_ehrnet.weights.hostile import KERAS_WEIGHTS, check_hdf5, check_zip
from keras_ehrnet.weights.trial import need_readable

if TYPE_CHECKING:
    import h5py
    import keras


@dataclass(frozen=True)
class Tensors:
    """What a weight file holds.

    Args:
        values: mapping of tensor name to array.
        slots: callable. Which of them fills which weight of a model.
        origin: str. Where they come from, for messages.
        skeleton: `Skeleton` of the network that they are of, or None where nothing tells.
    """

    values: Mapping[str, np.ndarray]
    slots: Callable[[keras.Model], Iterator[layouts.Slot]]
    origin: str
    skeleton: Skeleton | None = None


WeightsSource = str | os.PathLike[str] | Mapping[str, Any]
"""Weights to load: a registered name, a file, or arrays by the names of published tensors."""

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
ZIP_SIGNATURE = b"PK\x03\x04"
_CHECKSUM = "keras_ehrnet_sha256"
"""Attribute of our own files: checksum of their values."""

_SEAL = b"keras_ehrnet_file_sha256:"
_SEAL_SIZE = len(_SEAL) + 64

PICKLE_SIGNATURE = b"\x80"


def read(path: Path) -> Tensors:
    """Reads a weight file of any known format, told by its content.

    Args:
        path: Path of a `.weights.h5` or `.keras` file of this package, an official EfficientPose `.h5`, or a PyTorch
            checkpoint.

    Returns:
        `Tensors`.

    Raises:
        WeightsError: if the file is none of these, or is damaged; the message tells its checksum.
    """
    if not path.is_file():
        raise WeightsError(f"A weights file is needed. Received: {path}, which is not a file")
    with path.open("rb") as file:
        start = file.read(8)
    try:
        if start == HDF5_SIGNATURE:
            if not (_is_published(path) or _is_sealed(path)):
                need_readable(path)
            return _read_hdf5(path, str(path))
        if start.startswith(ZIP_SIGNATURE):
            return _read_zip(path)
        if start.startswith(PICKLE_SIGNATURE):
            return _read_torch(path)
    except (WeightsError, PermissionError):
        raise
    except Exception as error:  # The libraries that read it stumble over a damaged file wherever it may be.
        if is_mistake(error):
            raise
        raise WeightsError(damaged(path, reason(error))) from error
    raise WeightsError(damaged(path, "it is neither HDF5, nor a .keras archive, nor a PyTorch file"))


def from_mapping(mapping: Mapping[str, Any], origin: str = "the mapping") -> Tensors:
    """Tensors of a published PyTorch state dict, given as name -> array.

    Wrappers (`state_dict`, `model`) are opened and `module.` prefixes removed.
    """
    for wrapper in ("state_dict", "model_state_dict", "model"):
        inner = mapping.get(wrapper)
        if isinstance(inner, Mapping):
            return from_mapping(inner, origin)
    values = {layouts.canonical_torch_name(str(name)): _array(name, value) for name, value in mapping.items()}
    return Tensors(values, layouts.torch_slots, origin)


def _array(name: str, value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        # NumPy has no bfloat16.
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    array = np.asarray(value)
    if array.dtype == object:
        raise WeightsError(
            f"Every entry of a state dict must be an array. Received: {name!r} of {type(value).__name__}"
        )
    return array


def damaged(path: Path, reason: str) -> str:
    """What to say of a file that cannot be read, with its checksum."""
    checksum, size = sha256(path), path.stat().st_size
    known = _published(path)
    expected = ""
    if known is not None and known.sha256 != checksum:
        expected = f"; the published file of that name has sha256 {known.sha256} and {known.size} bytes"
    return f"{path} is not a readable weights file: {reason} (sha256 {checksum}, {size} bytes{expected})"


def _is_published(path: Path) -> bool:
    """Whether a file has the name of a published one; WeightsError if it then is not that one, bit by bit."""
    known = _published(path)
    if known is not None and sha256(path) != known.sha256:
        raise WeightsError(damaged(path, "it is not the published file of that name"))
    return known is not None


def _is_sealed(path: Path) -> bool:
    """Whether a file has a seal behind it; WeightsError if it then is not as it was written."""
    content = path.read_bytes()
    seal = content[-_SEAL_SIZE:]
    if seal.startswith(_SEAL) and seal != _seal(content[:-_SEAL_SIZE]):
        raise WeightsError(f"{path} is damaged: its bytes are not those that were saved. Copy it again.")
    return seal.startswith(_SEAL)


def _seal(content: bytes) -> bytes:
    return _SEAL + sha256(content).encode()


def _published(path: Path) -> registry.Entry | None:
    return next((entry for entry in registry.REGISTRY.values() if entry.file_name == path.name and entry.sha256), None)


def _read_hdf5(file: Any, origin: str) -> Tensors:
    import h5py

    with h5py.File(file, "r") as archive:
        check_hdf5(archive, origin)
        if "model_weights" in archive:
            return Tensors(_legacy_tensors(archive["model_weights"]), layouts.efficientpose_slots, origin, MPII_16)
        if "layer_names" in archive.attrs:
            return Tensors(_legacy_tensors(archive), layouts.efficientpose_slots, origin, MPII_16)
        if "layers" in archive:
            values = _own_tensors(archive["layers"], origin)
            if archive.attrs.get(_CHECKSUM, expected := _digest(values)) != expected:
                raise WeightsError(f"{origin} is damaged: its values are not those that were saved. Copy it again.")
            return Tensors(values, layouts.own_slots, origin)
    raise WeightsError(f"{origin} is an HDF5 file, but holds no weights of Keras")


def _legacy_tensors(group: h5py.Group) -> dict[str, np.ndarray]:
    """Tensors of a file of Keras 2, as `layer/weight`, without the part that names the Lite backbone."""
    values = {}
    for layer in _decoded(group.attrs["layer_names"]):
        for weight in _decoded(group[layer].attrs["weight_names"]):
            name = re.sub(r"^efficientnet-lite\d/model/", "", layer)
            values[f"{name}/{weight.rsplit('/', 1)[-1].removesuffix(':0')}"] = group[layer][weight][()]
    return values


def _decoded(names: Any) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def sealed(content: bytes) -> bytes:
    """A `.weights.h5` file with checksums, of which HDF5 has none: of its values in it, of all its bytes behind it.

    HDF5 does not look behind its end. Programs that write the file again lose what is there.
    """
    import h5py

    file = io.BytesIO(content)
    with h5py.File(file, "a") as archive:
        archive.attrs[_CHECKSUM] = _digest(_own_tensors(archive["layers"], "the model"))
    return file.getvalue() + _seal(file.getvalue())


def _digest(values: Mapping[str, np.ndarray]) -> str:
    """Checksum of values with their names, shapes and types."""

    def pieces() -> Iterator[bytes]:
        for name, value in sorted(values.items()):
            yield f"{name} {value.shape} {value.dtype.str}".encode()
            yield np.ascontiguousarray(value).tobytes()

    return sha256(pieces())


def _own_tensors(group: h5py.Group, origin: str) -> dict[str, np.ndarray]:
    values = {}
    for layer in group.values():
        variables = layer.get("vars", {})
        for index, value in variables.items():
            if "name" not in variables.attrs:
                raise WeightsError(f"{origin} does not name its layers: save it again with a newer Keras")
            values[f"{variables.attrs['name']}/{index}"] = value[()]
    return values


def _read_zip(path: Path) -> Tensors:
    check_zip(path)
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
        if KERAS_WEIGHTS in members:
            with archive.open(KERAS_WEIGHTS) as file:
                tensors = _read_hdf5(file, str(path))
            about = metadata.read(path)
            return replace(tensors, skeleton=about.skeleton) if about else tensors
    if any(member.endswith("data.pkl") for member in members):
        return _read_torch(path)
    raise WeightsError(damaged(path, "it is an archive, but holds neither Keras nor PyTorch weights"))


def _read_torch(path: Path) -> Tensors:
    try:
        import torch
    except ImportError as error:
        raise WeightsError(
            f"Reading the PyTorch file {path} needs torch: run  pip install 'keras-ehrnet[torch]'"
        ) from error
    try:
        # weights_only: tensors and containers, never code that a pickle could smuggle in.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(damaged(path, f"PyTorch refuses it: {reason(error)}")) from error
    if not isinstance(checkpoint, Mapping):
        raise WeightsError(f"{path} holds no state dict. Received: {type(checkpoint).__name__}")
    return from_mapping(checkpoint, str(path))

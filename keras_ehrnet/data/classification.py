"""Labelled images, for classifiers: ImageNet's layout of folders, CIFAR-100, and examples of them for training."""

from __future__ import annotations

import os
import pickle
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_ehrnet.data.augment import Augmentation, augmentation, jitter_colors, random_warp
from keras_ehrnet.data.targets import Batch, Shapes
from keras_ehrnet.geometry import Region
from keras_ehrnet.images import ImageSource, is_image_file, read_image
from keras_ehrnet.support import files
from keras_ehrnet.support.errors import AnnotationError, reads
from keras_ehrnet.support.messages import cut

CIFAR_100_SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
"""Checksum of the published archive `cifar-100-python.tar.gz`."""

_CIFAR_FOLDER, _CIFAR_SIDE = "cifar-100-python", 32


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images of which each belongs to one class.

    Args:
        name: str. Short name, for tables and logs.
        classes: tuple of str. Names of the classes.
        sources: N of what `read_image` takes.
        labels: int array of shape `(N,)`. Numbers of classes.

    Raises:
        ValueError: if there are no images, or labels do not fit.
    """

    name: str
    classes: tuple[str, ...]
    sources: Sequence[ImageSource]
    labels: np.ndarray

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels, np.int64)
        object.__setattr__(self, "labels", labels)
        if not len(self.sources) or labels.shape != (len(self.sources),):
            raise ValueError(f"{self.name}: every image needs a label. Received: {len(self.sources)}, {labels.shape}")
        if labels.min() < 0 or labels.max() >= len(self.classes):
            received = f"{labels.min()} to {labels.max()}"
            raise ValueError(f"{self.name}: labels must be from 0 to {len(self.classes) - 1}. Received: {received}")

    def __len__(self) -> int:
        return len(self.sources)

    def __repr__(self) -> str:
        return f"LabelledImages({self.name}, {len(self)} images, {len(self.classes)} classes)"

    def limited(self, limit: int | None) -> LabelledImages:
        """So many images, spread evenly over all, as they lie class by class; all of them for None."""
        if limit is None or limit >= len(self):
            return self
        chosen = np.arange(limit) * len(self) // limit
        return replace(self, sources=[self.sources[int(index)] for index in chosen], labels=self.labels[chosen])


@reads(AnnotationError)
def read_image_folders(place: str | os.PathLike) -> LabelledImages:
    """Images in ImageNet's layout: a folder with one folder for each class; classes in the order of their names.

    Args:
        place: the folder.

    Returns:
        `LabelledImages`.

    Raises:
        FileNotFoundError: if there is no such folder, or a class has no image.

    Example:
        >>> import numpy as np, tempfile
        >>> from pathlib import Path
        >>> from keras_ehrnet.data import write_image
        >>> from keras_ehrnet.data.classification import read_image_folders
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("cat", "dog"):
        ...         (Path(folder) / name).mkdir()
        ...         write_image(Path(folder) / name / "1.png", np.zeros((8, 8, 3), np.uint8))
        ...     read_image_folders(folder).classes
        ('cat', 'dog')
    """
    place = Path(place)
    if not place.is_dir():
        raise FileNotFoundError(f"There is no such folder of images. Received: {place}")
    folders = sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    files = [
        sorted(file for file in folder.iterdir() if not file.name.startswith(".") and is_image_file(file))
        for folder in folders
    ]
    empty = [folder.name for folder, images in zip(folders, files, strict=True) if not images]
    if empty or not folders:
        problem = f"classes without images: {cut(empty)}" if empty else "no folders"
        raise FileNotFoundError(f"{place} must hold one folder of images for each class. Received: {problem}")
    labels = np.repeat(np.arange(len(folders)), [len(images) for images in files])
    classes = tuple(folder.name for folder in folders)
    return LabelledImages(place.name, classes, [file for images in files for file in images], labels)


@reads(AnnotationError)
def read_cifar100(place: str | os.PathLike, split: str, sha256: str | None = CIFAR_100_SHA256) -> LabelledImages:
    """CIFAR-100 from its published Python version.

    Args:
        place: `cifar-100-python.tar.gz`, or the folder it unpacks to.
        split: str. `"train"` or `"test"`.
        sha256: str or None. What the archive's checksum must be; None: not checked. Unpacked files are not checked.

    Returns:
        `LabelledImages` with the 100 fine classes.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the archive is not the published one, or its content is not as it should be.
    """
    if split not in ("train", "test"):
        raise ValueError(f"The parts of CIFAR-100 are 'train' and 'test'. Received: {split!r}")
    place = Path(place)
    if not place.exists():
        raise FileNotFoundError(f"CIFAR-100 is needed: cifar-100-python.tar.gz, or its folder. Received: {place}")
    if place.is_file() and sha256 is not None:
        _check_sha256(place, sha256)
    content, meta = (_unpickled(place, name) for name in (split, "meta"))
    try:
        pixels = np.asarray(content[b"data"], np.uint8).reshape(-1, 3, _CIFAR_SIDE, _CIFAR_SIDE)
        classes = tuple(name.decode() for name in meta[b"fine_label_names"])
        labels = np.asarray(content[b"fine_labels"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"This is not the Python version of CIFAR-100 ({error!r}). Received: {place}") from error
    images = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    return LabelledImages(f"cifar-100 {split}", classes, list(images), labels)


def _check_sha256(path: Path, expected: str) -> None:
    found = files.sha256(path)
    if found != expected:
        raise ValueError(f"{path} is damaged, or not the published file: sha256 must be {expected}. Received: {found}")


def _unpickled(place: Path, name: str) -> dict[bytes, Any]:
    try:
        if place.is_dir():
            with (place / name).open("rb") as file:
                return _ArraysOnly(file, encoding="bytes").load()
        with tarfile.open(place) as archive:
            member = archive.extractfile(f"{_CIFAR_FOLDER}/{name}")
            if member is None:
                raise KeyError(name)  # A folder of that name.
            return _ArraysOnly(member, encoding="bytes").load()
    except FileNotFoundError:
        raise FileNotFoundError(f"A file of CIFAR-100 is missing. Received: {place / name}") from None
    except (tarfile.TarError, pickle.UnpicklingError, EOFError, KeyError, AttributeError) as error:
        raise ValueError(f"{place} does not hold an intact {name!r} of CIFAR-100. Received: {error}") from error


class _ArraysOnly(pickle.Unpickler):
    """A pickle can name any function to be called when it is read: only what makes arrays is allowed."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.split(".")[0], name) not in {("numpy", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return super().find_class(module, name)


@dataclass(frozen=True, eq=False)
class LabelledExamples:
    """Makes examples of labelled images; for the loaders they are what `targets.Examples` are for poses.

    Args:
        dataset: `LabelledImages`.
        input_size: tuple (height, width) of the network's input.
        augmentation: `Augmentation`, or a name of `AUGMENTATIONS`. What concerns people is not for these.
        crop: float. Part of the short side that the square which is shown has, before augmentation.
        seed: int.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.data.classification import LabelledExamples, LabelledImages
        >>> pictures = LabelledImages("toy", ("a", "b"), np.zeros((2, 20, 30, 3), np.uint8), np.array([0, 1]))
        >>> images, labels, weights = LabelledExamples(pictures, (8, 8)).batch([(0, 1), (0, 0)])
        >>> images.shape, labels.tolist(), weights.tolist()
        ((2, 8, 8, 3), [[1.0], [0.0]], [1, 1])
    """

    dataset: LabelledImages
    input_size: tuple[int, int]
    augmentation: Augmentation | str = "none"
    crop: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.change.half_body or self.change.mosaic:
            raise ValueError(
                f"Classifiers take neither half bodies nor mosaics. Received: augmentation={self.augmentation!r}"
            )

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def change(self) -> Augmentation:
        """How much images are changed at random."""
        return augmentation(self.augmentation)

    def report(self) -> str:
        """What was left out while reading: nothing."""
        return ""

    def shapes(self) -> Shapes:
        """Shapes of one example's image, label and weight."""
        return Shapes((*self.input_size, 3), (1,), ())

    def empty(self, size: int) -> Batch:
        """Arrays for `size` examples, not filled."""
        return self.shapes().arrays(size)

    def batch(self, numbers: Sequence[tuple[int, int]] | np.ndarray, out: Batch | None = None) -> Batch:
        """Makes examples.

        Args:
            numbers: B pairs of epoch and index of the image.
            out: `Batch` of at least that many examples to write to.

        Returns:
            `Batch` of images, labels in place of joints, and weights (all 1) in place of masks.

        Raises:
            FileNotFoundError, ImageError: naming the file that is missing or damaged.
        """
        batch = Batch(*(array[: len(numbers)] for array in (out or self.empty(len(numbers)))))
        for row, (epoch, index) in enumerate(numbers):
            rng = np.random.default_rng((self.seed, int(epoch), int(index)))
            self._warped(int(index), rng, batch.images[row])
            if self.change.changes_colors:
                jitter_colors(batch.images[row], self.change, rng)
            batch.joints[row] = self.dataset.labels[index]
            batch.masks[row] = 1
        return batch

    def _warped(self, index: int, rng: np.random.Generator, out: np.ndarray) -> None:
        image = read_image(self.dataset.sources[index])
        height, width = image.shape[:2]
        side = self.crop * min(height, width)
        region = Region((width / 2, height / 2), (side, side))
        random_warp(self.change, region, (out.shape[1], out.shape[0]), rng).image(image, out)

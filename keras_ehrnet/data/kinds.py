"""Kinds of data sets: what reads each, whose joints it has, and what it is scored by."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from keras_ehrnet.data.annotations import Dataset
from keras_ehrnet.data.classification import LabelledImages, read_cifar100, read_image_folders
from keras_ehrnet.data.coco import read_coco
from keras_ehrnet.data.lspet import read_lspet
from keras_ehrnet.data.mpii import read_mpii
from keras_ehrnet.skeletons import LSP_14, MPII_16, Skeleton

KindName = Literal["coco", "mpii", "lspet", "synthetic", "folders", "cifar100"]


@dataclass(frozen=True)
class Kind:
    """One kind of data set.

    Args:
        metric: what models are scored by on it: COCO's average precision, PCK of heads or torsos, or top-1 accuracy.
        skeleton: `Skeleton` that all data sets of this kind have; None: each has its own.
        reader: reads people from annotations and images; None: they are made, or images have classes instead.
        has_categories: bool. Whether annotations hold several categories, one of which may be chosen.
        shows_others: bool. Whether images show more people than they label.
        finds_images: bool. Whether images are found without being told where.
        labelled_reader: reads classified images from a place and the name of a split; None: images have people.
        crop: float. Classified images: part of the short side of the square that models are scored on.
    """

    metric: Literal["ap", "pckh", "pck", "accuracy"]
    skeleton: Skeleton | None = None
    reader: Callable[..., Dataset] | None = None
    has_categories: bool = False
    shows_others: bool = False
    finds_images: bool = False
    labelled_reader: Callable[[str, str], LabelledImages] | None = None
    crop: float = 1.0

    @property
    def is_classified(self) -> bool:
        """Whether its images have classes, rather than people."""
        return self.labelled_reader is not None

    def read(
        self,
        annotations: str | os.PathLike,
        images: str | os.PathLike | None,
        *,
        category: int | str | None = None,
        skip_missing: bool = False,
    ) -> Dataset:
        """A data set of this kind.

        Args:
            annotations: path of the file.
            images: folder or archive of the images.
            category: name or id of the category to read; only of kinds that have several.
            skip_missing: bool. Whether to leave out images whose file is missing, rather than to stop.

        Raises:
            FileNotFoundError, AnnotationError: as of the kind's reader.
        """
        if self.reader is None:
            raise ValueError("Only annotated people are read so: this kind is made, or has classes.")
        chosen = {"category": category} if self.has_categories else {}
        return self.reader(annotations, images, skip_missing=skip_missing, **chosen)


KINDS: dict[KindName, Kind] = {
    "coco": Kind("ap", reader=read_coco, has_categories=True),
    "mpii": Kind("pckh", MPII_16, read_mpii),
    "lspet": Kind("pck", LSP_14, read_lspet, shows_others=True, finds_images=True),
    "synthetic": Kind("ap"),
    "folders": Kind("accuracy", labelled_reader=lambda place, _: read_image_folders(place), crop=0.875),
    "cifar100": Kind("accuracy", labelled_reader=read_cifar100),
}
"""By name. The crop of folders is the usual one of ImageNet; CIFAR's images are small, and taken whole."""

"""Annotated images: readers for COCO, MPII and Leeds Sports Pose, and reading image files of any kind."""

from keras_ehrnet.data.annotations import Dataset, Person, Sample, joints_box, map_joints
from keras_ehrnet.data.coco import crowd_mask, read_coco
from keras_ehrnet.data.images import (
    ArchiveMember,
    ImageError,
    is_image_file,
    list_images,
    read_image,
    write_image,
)
from keras_ehrnet.data.lspet import read_lspet
from keras_ehrnet.data.mpii import read_mpii

__all__ = [
    "ArchiveMember",
    "Dataset",
    "ImageError",
    "Person",
    "Sample",
    "crowd_mask",
    "is_image_file",
    "joints_box",
    "list_images",
    "map_joints",
    "read_coco",
    "read_image",
    "read_lspet",
    "read_mpii",
    "write_image",
]

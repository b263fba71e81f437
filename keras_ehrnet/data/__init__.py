"""Annotated images: readers of data sets and image files, synthetic people, augmentation, batches for training."""

from keras_ehrnet.data.annotations import Dataset, Person, Sample, joints_box, map_joints
from keras_ehrnet.data.augment import AUGMENTATIONS, Augmentation
from keras_ehrnet.data.coco import read_coco
from keras_ehrnet.data.loader import Order, numpy_batches
from keras_ehrnet.data.lspet import read_lspet
from keras_ehrnet.data.masks import crowd_mask
from keras_ehrnet.data.mpii import read_mpii
from keras_ehrnet.data.pipeline import tf_batches
from keras_ehrnet.data.synthetic import Scenes
from keras_ehrnet.data.targets import Batch, Examples
from keras_ehrnet.data.tfrecord import read_tfrecords, verify_tfrecords, write_tfrecords
from keras_ehrnet.images import ArchiveMember, ImageError, is_image_file, list_images, read_image, write_image

__all__ = [
    "AUGMENTATIONS",
    "ArchiveMember",
    "Augmentation",
    "Batch",
    "Dataset",
    "Examples",
    "ImageError",
    "Order",
    "Person",
    "Sample",
    "Scenes",
    "crowd_mask",
    "is_image_file",
    "joints_box",
    "list_images",
    "map_joints",
    "numpy_batches",
    "read_coco",
    "read_image",
    "read_lspet",
    "read_mpii",
    "read_tfrecords",
    "tf_batches",
    "verify_tfrecords",
    "write_image",
    "write_tfrecords",
]

"""Pictures: where they lie, reading whatever users have into RGB arrays, and writing them whole or not at all."""

from keras_ehrnet.images.places import IMAGE_SUFFIXES, ArchiveMember, find_images, is_image_file, list_images
from keras_ehrnet.images.reading import ImageSource, PillowImage, is_one_image, is_pillow_image, read_image
from keras_ehrnet.images.writing import write_image
from keras_ehrnet.support.errors import ImageError

__all__ = [
    "IMAGE_SUFFIXES",
    "ArchiveMember",
    "ImageError",
    "ImageSource",
    "PillowImage",
    "find_images",
    "is_image_file",
    "is_one_image",
    "is_pillow_image",
    "list_images",
    "read_image",
    "write_image",
]

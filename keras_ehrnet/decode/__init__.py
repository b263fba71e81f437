"""Decoders: from the networks' maps to people. NumPy and OpenCV only; neither TensorFlow nor Keras."""

from keras_ehrnet.decode.averaging import NetworkOutputs, aggregate, average_strides
from keras_ehrnet.decode.grouping import associative
from keras_ehrnet.decode.highest import single_person
from keras_ehrnet.decode.paf import pafs
from keras_ehrnet.geometry import Geometry, letterbox_geometry, resize_geometry
from keras_ehrnet.poses import Poses

__all__ = [
    "Geometry",
    "NetworkOutputs",
    "Poses",
    "aggregate",
    "associative",
    "average_strides",
    "letterbox_geometry",
    "pafs",
    "resize_geometry",
    "single_person",
]

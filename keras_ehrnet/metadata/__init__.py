"""What a model's file says about itself: a JSON text that travels inside it.

In a `.tflite` it is the file `metadata.json` of a zip archive behind the model: interpreters do not look there, and
`unzip -p model.tflite metadata.json` prints it. In a `.keras`, an archive whose `metadata.json` is Keras's own, it is
the file `keras_ehrnet.json`: Keras does not look there. In an `.onnx` it is a property of the model, and in the folder
of a SavedModel the file `assets.extra/metadata.json`. `read` finds it in all of them.
"""

from keras_ehrnet.metadata.files import (
    FILE_NAME,
    KERAS_FILE_NAME,
    ONNX_KEY,
    SAVED_MODEL_FILE,
    append,
    need_seal,
    onnx_parts,
    read,
    sealed,
    verified,
)
from keras_ehrnet.metadata.records import FORMAT, Drift, Input, Metadata, Output, check_skeleton
from keras_ehrnet.support.errors import MetadataError

__all__ = [
    "FILE_NAME",
    "FORMAT",
    "KERAS_FILE_NAME",
    "ONNX_KEY",
    "SAVED_MODEL_FILE",
    "Drift",
    "Input",
    "Metadata",
    "MetadataError",
    "Output",
    "append",
    "check_skeleton",
    "need_seal",
    "onnx_parts",
    "read",
    "sealed",
    "verified",
]

"""Networks for devices: files that hold everything that their readers have to know."""

from keras_ehrnet.export.formats import FORMATS, Format, write
from keras_ehrnet.export.onnx import onnx
from keras_ehrnet.export.saved_model import saved_model
from keras_ehrnet.export.tflite import tflite
from keras_ehrnet.export.tftrt import tftrt
from keras_ehrnet.export.tftrt_check import check as check_tftrt

__all__ = ["FORMATS", "Format", "check_tftrt", "onnx", "saved_model", "tflite", "tftrt", "write"]

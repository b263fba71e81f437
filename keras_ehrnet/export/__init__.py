"""Networks for devices: files that hold everything that their readers have to know."""

from keras_ehrnet.export.formats import FORMATS, Format, write
from keras_ehrnet.export.litert.convert import tflite
from keras_ehrnet.export.onnx_file import onnx
from keras_ehrnet.export.saved_model_folder import saved_model
from keras_ehrnet.export.tensorrt.check import check as check_tftrt
from keras_ehrnet.export.tensorrt.convert import tftrt

__all__ = ["FORMATS", "Format", "check_tftrt", "onnx", "saved_model", "tflite", "tftrt", "write"]

"""What runs networks: exported models by LiteRT or ONNX Runtime, and Keras models; `load` takes any of them.

Exported models need NumPy and OpenCV beside their interpreter; no TensorFlow, no Keras, no SciPy.
`python -m keras_ehrnet.runtime model.tflite photo.jpg` finds people; `keras_ehrnet.PosePredictor.load("model.tflite")`
is the same in Python.
"""

from keras_ehrnet.runtime.litert import Interpreter, TFLiteNetwork
from keras_ehrnet.runtime.loading import check_source, is_exported, load, runs_without_keras
from keras_ehrnet.runtime.network import Network

__all__ = ["Interpreter", "Network", "TFLiteNetwork", "check_source", "is_exported", "load", "runs_without_keras"]

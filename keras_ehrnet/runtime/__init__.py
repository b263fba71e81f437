"""What a device needs: exported models run by LiteRT. NumPy and OpenCV beside it; no TensorFlow, no Keras, no SciPy.

`python -m keras_ehrnet.runtime model.tflite photo.jpg` finds people; `keras_ehrnet.PosePredictor.load("model.tflite")`
is the same in Python.
"""

from keras_ehrnet.runtime.interpreter import Interpreter
from keras_ehrnet.runtime.network import TFLiteNetwork, load

__all__ = ["Interpreter", "TFLiteNetwork", "load"]

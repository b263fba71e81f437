"""Training from recipes: `train`, and its parts for those who put them together themselves."""

from keras_ehrnet.training.devices import join_hosts
from keras_ehrnet.training.examples import make_examples
from keras_ehrnet.training.model import compiled_model
from keras_ehrnet.training.optimizers import L2SGD, L2Adam, make_optimizer, make_schedule
from keras_ehrnet.training.run import Result, train

__all__ = [
    "L2SGD",
    "L2Adam",
    "Result",
    "compiled_model",
    "join_hosts",
    "make_examples",
    "make_optimizer",
    "make_schedule",
    "train",
]
